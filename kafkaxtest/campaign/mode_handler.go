package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// deafness is longer than a stop waits, and than a rebalance does.
const deafness = 25 * time.Second

// extend draws what else is in a mode.
func (m *mode) extend(r *rand.Rand) {
	if r.IntN(4) == 0 {
		m.topics = 2 + r.IntN(2)
	}
	m.seeks = r.IntN(4) == 0
	m.latest = r.IntN(4) == 0
	m.mixed = r.IntN(3) == 0
	switch r.IntN(5) {
	case 0:
		m.handler.stuck, m.handler.timeout = 0.01, pick(r, 3*time.Second, 8*time.Second)
	case 1:
		m.handler.stuck = 0.003
	case 2:
		m.handler.deaf, m.handler.timeout = 0.005, pick(r, 0, 3*time.Second)
	}
	m.fit()
}

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
