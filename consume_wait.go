package kafkax

import (
	"context"
	"time"
)

// fate is what becomes of a message that waits for its next try once its assignment
// ends.
type fate int

const (
	fateLeft  fate = iota // nothing behind it is handled, so it comes again alone
	fateTried             // what is handled behind it comes again too unless it is handled
	fateOpen              // that depends on what is at work
)

// fateOf is of a message behind which nothing is at work.
func fateOf(overtaken bool) fate {
	if overtaken {
		return fateTried
	}
	return fateLeft
}

// nextTry waits for a message's next try, at most until ctx ends, and fails if there
// is none.
type nextTry func(ctx context.Context, d time.Duration) error

// awaitTry waits for a message's next try: for d, or as long as the end of its
// assignment lets it. That cuts a wait short which is under way, and the try is due
// at once. The waits after it are of the usual length, and those that ctx does not
// outlast are in vain. Without a next try it returns the cause.
//
// Judge is asked once the assignment ends, and again when its channel is closed.
func awaitTry(ctx context.Context, claim *claim, d time.Duration, judge func() (fate, <-chan struct{})) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	due := claim.stopping.Err() == nil
	if due {
		select {
		case <-timer.C:
			return nil
		case <-claim.stopping.Done():
		}
	}
	for ctx.Err() == nil {
		fate, again := judge()
		switch {
		case fate == fateLeft:
			return context.Cause(claim.stopping)
		case fate == fateTried && due:
			return nil
		}
		select {
		case <-timer.C:
			due = true
		case <-again:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}
