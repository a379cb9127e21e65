package kafkaxtest

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

var errNotConsumed = errors.New("the member does not consume this topic")

// SetOffset is [kafkax.Consumer.SetOffset] of a topic that the member consumes, and
// the simulation sees it: what goes back, or is passed over, has been asked for.
func (m *Member) SetOffset(topic string, offset int64) error {
	to := offset
	if offset == kafka.FirstOffset {
		to = 0 // what is not there is passed over by nobody
	}
	return m.seek(topic, to, func(c *kafkax.Consumer) error { return c.SetOffset(offset) })
}

// SetOffsetAt is [kafkax.Consumer.SetOffsetAt]; see [Member.SetOffset].
func (m *Member) SetOffsetAt(ctx context.Context, topic string, t time.Time) error {
	return m.seek(topic, -1, func(c *kafkax.Consumer) error { return c.SetOffsetAt(ctx, t) })
}

// seek records a call for the whole topic: which partitions it concerns is the
// client's to know, and may be decided by its next assignment.
func (m *Member) seek(topic string, offset int64, call func(*kafkax.Consumer) error) error {
	c := m.consumer(topic)
	if c == nil {
		return errNotConsumed
	}
	seek := history.Seek{Member: m.Name, Group: m.Group, TopicPartition: m.sim.log(topic, -1), Offset: offset, Time: time.Now()}
	n := m.sim.record(seek)
	err := call(c)
	seek.Returned = time.Now()
	m.sim.complete(n, seek)
	return err
}

// consumer is nil if the member does not consume the topic.
func (m *Member) consumer(topic string) *kafkax.Consumer {
	if m.Topics != nil {
		return m.Topics.Consumer(topic)
	}
	if m.Consumer.Config().Topic != topic {
		return nil
	}
	return m.Consumer
}
