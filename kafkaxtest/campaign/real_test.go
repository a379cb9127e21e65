package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// One short schedule on real nodes, with all that is done to processes: enough
// to see that it can be.
func TestCampaign_Real(t *testing.T) { //nolint:paralleltest // the wall clock is its own
	n := &nodes{cluster: kafkatest.Start(t, nodeCount)}
	const seed = 24 // three members, each a process of its own, that seek; dead letters; handlers that are stuck
	s := onNodes.schedule(seed, 0)
	s.length = 30 * time.Second // for so long members seek, and handlers are stuck
	for _, f := range nodeFaults {
		s.steps = append(s.steps, step{after: time.Second, lasts: time.Second, fault: fault{name: f.name, do: func(r *rand.Rand, c *course) (over func()) {
			c.sim.WaitFor(time.Minute, "an occasion, when the node before is back", func() bool {
				over = f.do(r, c)
				return over != nil
			})
			return over
		}}})
	}
	sum := newSum(onNodes.clock)
	t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { n.perform(t, s, sum, false) })
	for _, f := range nodeFaults {
		if sum.Faults[f.name] != 1 {
			t.Errorf("%s: done %d times", f.name, sum.Faults[f.name])
		}
	}
	t.Log(sum)
}
