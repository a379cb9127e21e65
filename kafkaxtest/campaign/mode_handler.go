package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// deafness is longer than a stop waits, and than a rebalance does.
const deafness = 25 * time.Second

// block is a call that is stuck, or deaf. It says whether the call is over with
// that. Nobody blocks when peace has come: what is left is to be handled.
func (h handling) block(ctx context.Context, luck *rand.Rand, peace time.Time) (over bool, err error) {
	left := time.Until(peace)
	switch {
	case left <= 0:
	case h.stuck > 0 && luck.Float64() < h.stuck:
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case <-time.After(left):
		}
	case h.deaf > 0 && luck.Float64() < h.deaf:
		time.Sleep(deafness)
		return true, nil
	}
	return false, nil
}
