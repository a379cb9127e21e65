package kafkax

import (
	"context"
	"math"
	"math/rand"
	"sync"
	"time"
)

// How long the package waits between tries of its own. All go on until they
// succeed, are refused, or are told to stop; MaxAttempts says nothing here.
var (
	// brokerBackoff is of requests to a broker. A new leader is elected within
	// seconds, so there is no point in longer waits.
	brokerBackoff = RetryConfig{InitialBackoff: 100 * time.Millisecond, MaxBackoff: 2 * time.Second, Multiplier: 2, Jitter: 0.2}

	// deliveryBackoff is of produce requests: retry.backoff.ms and
	// retry.backoff.max.ms of the Java client.
	deliveryBackoff = RetryConfig{InitialBackoff: 100 * time.Millisecond, MaxBackoff: time.Second, Multiplier: 2, Jitter: 0.2}

	// deadLetterBackoff is of dead letters that were not written.
	deadLetterBackoff = RetryConfig{InitialBackoff: 100 * time.Millisecond, MaxBackoff: 10 * time.Second, Multiplier: 2, Jitter: 0.2}
)

// backoff is the wait after the attempt-th failure, counted from 1. It grows
// from InitialBackoff by Multiplier up to MaxBackoff; then Jitter takes a random
// share off, so that what failed together does not come back together.
//
// With the defaults (100ms, at most 10s, times 2, jitter 0.2) the first wait is
// 80ms to 100ms, the second 160ms to 200ms, the seventh 5.12s to 6.4s, and from
// the eighth on it is 8s to 10s.
//
// Random returns numbers in [0, 1). Any configuration gives a wait in
// [0, MaxBackoff]; a Multiplier below 1 counts as 1.
func (r RetryConfig) backoff(attempt int, random func() float64) time.Duration {
	if r.InitialBackoff <= 0 || r.MaxBackoff <= 0 {
		return 0
	}
	multiplier, jitter := 1.0, 0.0
	if r.Multiplier > 1 { // false for NaN
		multiplier = r.Multiplier
	}
	if r.Jitter > 0 {
		jitter = min(r.Jitter, 1)
	}

	// A float64 cannot hold the longest Duration, so converting one near it back
	// would overflow; nobody waits for half of it (146 years) either.
	limit := float64(min(r.MaxBackoff, math.MaxInt64/2))
	wait := min(float64(r.InitialBackoff)*math.Pow(multiplier, float64(max(attempt, 1)-1)), limit)
	wait = wait*(1-jitter) + random()*wait*jitter
	return min(time.Duration(wait), r.MaxBackoff)
}

// run calls f with the number of the attempt, counted from 1, and whether it is
// the last, until f wants no other or MaxAttempts are used up (0: they never
// are). It waits in between, after it has told waits for how long. When a wait
// fails, it returns why.
func (r RetryConfig) run(wait func(time.Duration) error, f func(attempt int, last bool) (again bool), waits func(attempt int, wait time.Duration)) error {
	for attempt := 1; ; attempt++ {
		last := r.MaxAttempts > 0 && attempt >= r.MaxAttempts
		if !f(attempt, last) || last {
			return nil
		}
		backoff := r.draw(attempt)
		waits(attempt, backoff)
		if err := wait(backoff); err != nil {
			return err
		}
	}
}

// draw is the backoff after the attempt-th failure, by chance as far as Jitter says.
// It is chance of math/rand and not of its version 2, as that cannot be seeded, and
// a simulation has to come to the same again.
func (r RetryConfig) draw(attempt int) time.Duration { return r.backoff(attempt, rand.Float64) }

// wait sleeps for the backoff after the attempt-th failure. When ctx ends, it
// returns the cause at once.
func (r RetryConfig) wait(ctx context.Context, attempt int) error {
	return sleep(ctx, r.draw(attempt))
}

// endAfter is ctx, which ends grace after signal too, with cause. Release ends it,
// and waits for what watches the signal.
func endAfter(ctx context.Context, signal <-chan struct{}, grace time.Duration, cause error) (_ context.Context, release func()) {
	ctx, end := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-signal:
			if sleep(ctx, grace) == nil {
				end(cause)
			}
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		end(nil)
		watch.Wait()
	}
}

// sleep is how the package waits: for d, or until ctx ends, whose cause it then
// returns.
func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
