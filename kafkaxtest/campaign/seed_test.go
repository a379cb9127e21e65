package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// What a caller sends is of the seed alone, however long each send takes.
func TestSeedDecidesWhatIsSent(t *testing.T) {
	t.Parallel()
	sent := func(t *testing.T, late time.Duration) (messages map[string][]string, values map[string]string) {
		t.Helper()
		s := simulation.schedule(1, time.Minute)
		s.mode = mode{loop: "consume", ordering: kafkax.OrderPartition, concurrency: 1, partitions: 3, members: 1, nodes: 1, handler: handling{poison: 0.5}}
		s.steps = []step{
			{lasts: time.Minute, fault: fault{name: "late", do: func(_ *rand.Rand, c *course) func() {
				return c.sim.Slow(kafkaxtest.Target{Client: "producer"}, late, 0)
			}}},
			{after: time.Minute, fault: fault{name: "none", do: func(*rand.Rand, *course) func() { return nil }}},
		}
		messages, values = map[string][]string{}, map[string]string{}
		kafkaxtest.Run(t, func(sim *kafkaxtest.Sim) {
			c := &course{schedule: s, names: names{"orders", "orders.dead", "billing"}, sim: sim, sum: newSum(simulation.clock), stage: simulation}
			c.run(false)
			for _, e := range sim.Recorded().Events() {
				if e, ok := e.(history.Send); ok {
					messages[e.Caller] = append(messages[e.Caller], e.ID+" "+e.Key)
				}
			}
			for _, m := range sim.Messages("orders") {
				values[identify(m)] = string(m.Value)
			}
		}, kafkaxtest.Identify(identify), kafkaxtest.Topic("orders", s.mode.partitions), kafkaxtest.Topic("orders.dead", 1))
		return messages, values
	}
	messages, values := sent(t, 0)
	later, laterValues := sent(t, 100*time.Millisecond)
	if len(messages) != callers {
		t.Errorf("%d callers", len(messages))
	}
	for caller, msgs := range messages {
		n := min(len(msgs), len(later[caller])) // the slower ones sent fewer
		if n < 5 || !slices.Equal(msgs[:n], later[caller][:n]) {
			t.Errorf("%s sent %v, and when each took longer %v", caller, msgs, later[caller])
		}
	}
	for id, value := range laterValues {
		if was, ok := values[id]; ok && was != value {
			t.Errorf("%q was sent, and when each took longer %q", was, value)
		}
	}
}

// What a handler does with a message does not depend on what it was called with
// before.
func TestSeedDecidesWhatHandlersDo(t *testing.T) {
	t.Parallel()
	draws := func(seed uint64, ids ...string) map[string][]uint64 {
		c, all := &calls{of: map[string]uint64{}}, map[string][]uint64{}
		for _, id := range ids {
			all[id] = append(all[id], c.luck(seed, id).Uint64())
		}
		return all
	}
	first, again := draws(1, "a", "b", "a", "c"), draws(1, "c", "a", "a", "b")
	for id, of := range first {
		if !slices.Equal(of, again[id]) {
			t.Errorf("%s: %v, and in another order %v", id, of, again[id])
		}
	}
	if first["a"][0] == first["a"][1] || first["a"][0] == first["b"][0] || first["a"][0] == draws(2, "a")["a"][0] {
		t.Errorf("another call, another message and another seed change nothing: %v", first)
	}
}
