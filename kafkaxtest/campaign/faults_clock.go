package main

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// clocks are those of the machines that send. Nobody can set the one of a
// simulation, nor the monotonic one of a process, by which kafkax measures its
// waits; what a clock that jumps does to others is what it writes: timestamps of
// messages that are hours ahead, hours behind, or the epoch, as of a machine that
// has not been told the time. On real nodes, a member or a node that is stopped
// in its tracks is one whose time has jumped for all others.
type clocks struct{ wrong atomic.Int64 }

// jumpedShare is how many messages come from a machine whose clock is wrong.
const jumpedShare = 0.3

// jump makes some clocks wrong until it is over.
func (c *clocks) jump() (over func()) {
	c.wrong.Add(1)
	return func() { c.wrong.Add(-1) }
}

// stamp is the time of a message; the zero time is that of who sends it.
func (c *clocks) stamp(r *rand.Rand) time.Time {
	if c.wrong.Load() == 0 || r.Float64() >= jumpedShare {
		return time.Time{}
	}
	switch r.IntN(3) {
	case 0:
		return time.Unix(0, 0)
	case 1:
		return time.Now().Add(aheadAtMost * time.Duration(1+r.IntN(10)) / 10)
	}
	return time.Now().Add(-time.Hour * time.Duration(1+r.IntN(100)))
}

// aheadAtMost is less than the hour (message.timestamp.after.max.ms) from which
// on a broker refuses a message, and those that stand in a batch with it.
const aheadAtMost = 55 * time.Minute
