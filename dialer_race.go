package kafkax

import (
	"context"
	"time"
)

// raceDelay is how long one of several equal brokers may take to answer before
// the next is tried as well: as between the addresses of a host in RFC 8305
// (Happy Eyeballs).
const raceDelay = 250 * time.Millisecond

// race tries candidates in their order until one has succeeded: the next after
// delay, or as soon as one has failed. It returns who won; the context of the
// others then ends, and drop is called with what they bring all the same. When
// all fail, it returns the errors by candidate. It waits for every try to
// return.
func race[C, T any](ctx context.Context, candidates []C, delay time.Duration,
	try func(context.Context, C) (T, error), drop func(T),
) (winner int, won T, errs []error) {
	type outcome struct {
		candidate int
		value     T
		err       error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan outcome)
	timer := time.NewTimer(delay)
	defer timer.Stop()

	winner = -1
	errs = make([]error, len(candidates))
	due := true // for the next, without a look at the clock: nobody may wait for this any more
	for started, ended := 0, 0; ; {
		if due && winner < 0 && started < len(candidates) {
			i := started
			go func() {
				value, err := try(ctx, candidates[i])
				outcomes <- outcome{i, value, err}
			}()
			started++
			due = delay == 0
			timer.Reset(delay)
			continue
		}
		if ended == started {
			return winner, won, errs
		}
		select {
		case <-timer.C:
			due = true
		case o := <-outcomes:
			ended++
			switch {
			case o.err != nil:
				errs[o.candidate] = o.err
				due = true
			case winner >= 0:
				drop(o.value)
			default:
				winner, won = o.candidate, o.value
				cancel()
			}
		}
	}
}
