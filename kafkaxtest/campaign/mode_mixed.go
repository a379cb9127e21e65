package main

import (
	"math/rand/v2"
	"slices"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// tuning is what changes nothing of what is promised.
type tuning struct {
	batch      int  // messages at most
	bytes      int  // max_bytes; 0 is the default
	inTurns    bool // round robin before range
	rangeAlone bool
}

// as is the mode of one of the members, where they are unlike: as in a group whose
// members are restarted one after the other with another configuration. What each
// promises it is held to by itself, see rules; what the group as a whole promises is
// in all of them.
func (m mode) as(which uint64) mode {
	if !m.mixed {
		return m
	}
	r := rand.New(rand.NewPCG(which, 4))
	m.loop = pick(r, "consume", "manual", "batch", "fetch", "read")
	m.ordering = pick(r, kafkax.OrderPartition, kafkax.OrderKey, kafkax.Unordered)
	m.concurrency = pick(r, 1, 4, 16)
	m.deadLetters = r.IntN(2) == 0
	m.committed = m.committed && r.IntN(2) == 0
	m.tuning = tuning{batch: pick(r, 1, batchSize, 100), bytes: pick(r, 0, 4<<10, 1<<20)}
	switch r.IntN(3) {
	case 0:
		m.tuning.inTurns = true
	case 1:
		m.tuning.rangeAlone = true
	}
	m.fit()
	return m
}

// balancers have one in common whatever is drawn: nil is the default.
func (t tuning) balancers() []kafka.GroupBalancer {
	switch {
	case t.inTurns:
		return []kafka.GroupBalancer{kafka.RoundRobinGroupBalancer{}, kafka.RangeGroupBalancer{}}
	case t.rangeAlone:
		return []kafka.GroupBalancer{kafka.RangeGroupBalancer{}}
	}
	return nil
}

func (t tuning) options() []kafkax.ConsumerOption {
	var opts []kafkax.ConsumerOption
	if t.bytes > 0 {
		opts = append(opts, kafkax.WithConsumerMaxBytes(t.bytes))
	}
	if b := t.balancers(); b != nil {
		opts = append(opts, kafkax.WithConsumerGroupConfig(func(cfg *kafka.ConsumerGroupConfig) { cfg.GroupBalancers = b }))
	}
	return opts
}

// rules are those of the mode, and of members that have another.
func (c *course) rules() history.Rules {
	rules := c.mode.rules()
	if !c.mode.mixed {
		return rules
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	rules.Members = map[string]history.MemberRules{}
	for name, m := range c.modes {
		own := m.rules()
		rules.Members[name] = history.MemberRules{
			Ordering: own.Ordering, Isolation: own.Isolation, OnFailure: own.OnFailure, Pulled: own.Pulled,
		}
	}
	return rules
}

// replace has all members leave one after the other, and another join in the place
// of each.
func (c *course) replace(r *rand.Rand) {
	c.mu.Lock()
	var names []string
	for _, m := range c.members {
		names = append(names, m.name)
	}
	c.mu.Unlock()
	c.work.Go(func() {
		for range names {
			m := c.take(r, func(m *member) bool { return slices.Contains(names, m.name) })
			if m == nil {
				return
			}
			m.leave()
			c.join(r)
		}
	})
}
