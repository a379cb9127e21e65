package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
)

// topicsOf makes the topics of a schedule.
func (s schedule) topicsOf(n names) []kafkaxtest.Option {
	opts := []kafkaxtest.Option{kafkaxtest.Topic(n.dead, 1)}
	for _, topic := range n.of(s.mode.topics) {
		opts = append(opts, kafkaxtest.Topic(topic, s.mode.partitions))
	}
	return opts
}

// join adds a member of this process: a consumer of its topic, or of all of them.
func (m mode) join(sim *kafkaxtest.Sim, n names, r *rand.Rand, peace time.Time, more ...kafkax.ConsumerOption) *kafkaxtest.Member {
	topics := n.of(m.topics)
	loop, opts := m.consume(r, topics, peace), append(m.consumerOptions(n.dead), more...)
	if len(topics) > 1 {
		return sim.JoinTopics(n.group, topics, loop, opts...)
	}
	return sim.JoinLoop(n.group, n.topic, loop, opts...)
}

// loopOfTopics is loopOf for a consumer of several topics.
func (m mode) loopOfTopics(ctx context.Context, member *kafkaxtest.Member, topics []string, h kafkax.Handler) error {
	opts := m.consumeOptions(member)
	handlers, batches := map[string]kafkax.Handler{}, map[string]kafkax.BatchHandler{}
	for _, topic := range topics {
		handlers[topic], batches[topic] = member.Record(h), member.RecordBatch(batch(h))
	}
	switch m.loop {
	case "consume":
		return member.Topics.Consume(ctx, handlers, opts...)
	case "manual":
		return member.Topics.ConsumeWithManualCommit(ctx, handlers, opts...)
	case "batch":
		return member.Topics.ConsumeBatch(ctx, batches, opts...)
	}
	errs := make([]error, len(topics))
	var all sync.WaitGroup
	for i, topic := range topics {
		all.Go(func() { errs[i] = m.pullAll(ctx, member, member.Topics.Consumer(topic), h) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// anyTopic draws nothing where there is one alone.
func (c *course) anyTopic(r *rand.Rand) string {
	if c.mode.topics < 2 {
		return c.topic
	}
	return pick(r, c.of(c.mode.topics)...)
}

// drained says whether all that was sent is committed.
func (c *course) drained() bool {
	for _, topic := range c.of(c.mode.topics) {
		if c.sim.Lag(c.group, topic) > 0 {
			return false
		}
	}
	return true
}
