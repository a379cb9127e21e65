package kafkax

import (
	"math/rand"
	"slices"
	"sync/atomic"
)

// candidates are the addresses of brokers that may be tried when any will do.
type candidates struct {
	configured []string
	answered   atomic.Pointer[string]   // which of them did so last; nil for none yet
	learned    atomic.Pointer[[]string] // of brokers that are not configured; nil for none yet
}

// maxLearned is how many brokers that are not configured stand in for those that
// are.
const maxLearned = 8

// learn takes the addresses of the cluster's brokers as it names them now. They are
// tried after the configured ones, which may all be gone for good.
func (c *candidates) learn(addresses []string) {
	others := slices.DeleteFunc(slices.Clone(addresses), func(a string) bool { return slices.Contains(c.configured, a) })
	shuffle(others)
	others = others[:min(len(others), maxLearned)]
	c.learned.Store(&others)
}

// order is the one that answered last, the configured ones and those that were
// learned, either in random order, so that not all clients come to the same one.
func (c *candidates) order() []string {
	order := slices.Clone(c.configured)
	shuffle(order)
	if learned := c.learned.Load(); learned != nil {
		order = append(order, *learned...)
	}
	if last := c.answered.Load(); last != nil {
		if i := slices.Index(order, *last); i > 0 {
			order[0], order[i] = order[i], order[0]
		}
	}
	return order
}

// shuffle is of math/rand and not of its version 2, which a simulation cannot seed.
func shuffle(addresses []string) {
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
}

// most is how many there may be.
func (c *candidates) most() int { return len(c.configured) + maxLearned }
