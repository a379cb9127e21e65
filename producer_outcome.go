package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/segmentio/kafka-go"
)

// settle gives the messages their outcome. They must still carry their slots.
func settle(msgs []kafka.Message, state outcome, err error) {
	for i := range msgs {
		msgs[i].WriterData.(*slot).settle(state, err)
	}
}

func (sl *slot) settle(state outcome, err error) {
	s := sl.send
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.state, sl.err = state, err
	if s.pending--; s.pending == 0 {
		close(s.done)
	}
}

// refused is the result of an async call: what was not buffered.
func (s *send) refused() error {
	return s.errors(func(sl *slot) error {
		if sl.state == notSent {
			return sl.err
		}
		return nil
	})
}

// failed is the result of a call that waited, until each message had its
// outcome or until left, the error that ended the wait.
func (s *send) failed(left error) error {
	return s.errors(func(sl *slot) error {
		if sl.state == inFlight {
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, left)
		}
		return sl.err
	})
}

func (s *send) errors(of func(*slot) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs ProduceErrors
	for i := range s.slots {
		sl := &s.slots[i]
		if err := of(sl); err != nil {
			errs = append(errs, &ProduceError{Index: i, Topic: sl.topic, Partition: sl.partition, Err: err})
		}
	}
	if errs == nil {
		return nil
	}
	return errs
}

// complete is the Writer's Completion: it is called with each batch, and until
// it returns the Writer sends no other to that partition. So what it sends
// itself keeps its place.
func (p *Producer) complete(msgs []kafka.Message, err error) {
	if len(msgs) > 1 && blamesRecord(err) {
		// One record fails the whole batch, and the Writer does not tell
		// which. Halving finds it, or the size that the topic takes.
		half := len(msgs) / 2
		for _, part := range [][]kafka.Message{msgs[:half], msgs[half:]} {
			p.complete(part, p.produce(part))
		}
		return
	}

	slots := make([]*slot, len(msgs))
	size := 0
	for i := range msgs {
		sl := msgs[i].WriterData.(*slot)
		slots[i] = sl
		size += sl.size + messageOverhead
		msgs[i].WriterData = sl.data
		msgs[i].Partition = sl.partition
	}
	if err != nil {
		err = withSentinel(unnamed(err))
		p.noteLost(placeOf(msgs), len(msgs))
	}
	p.notify(msgs, err)
	for _, sl := range slots {
		sl.settle(settled, err)
	}
	if p.cfg.Async {
		p.buffer.Give(size)
	}
}

// unnamed drops kafka-go's name for its own method from an error's text.
func unnamed(err error) error {
	const method = "kafka.(*Client).Produce: "
	if inner := errors.Unwrap(err); inner != nil && err.Error() == method+inner.Error() {
		return inner
	}
	return err
}

// produce sends a part of a batch as the Writer sent the whole.
func (p *Producer) produce(msgs []kafka.Message) error {
	records := make([]kafka.Record, len(msgs))
	for i := range msgs {
		m := &msgs[i]
		records[i] = kafka.Record{Time: m.Time, Key: kafka.NewBytes(m.Key), Value: kafka.NewBytes(m.Value), Headers: m.Headers}
	}
	client := kafka.Client{Addr: p.writer.Addr, Transport: p.writer.Transport, Timeout: p.writer.WriteTimeout}
	res, err := client.Produce(context.Background(), &kafka.ProduceRequest{
		Topic:        msgs[0].Topic,
		Partition:    msgs[0].WriterData.(*slot).partition,
		RequiredAcks: p.writer.RequiredAcks,
		Compression:  p.writer.Compression,
		Records:      kafka.NewRecordReader(records...),
	})
	if err != nil || res == nil {
		return err
	}
	for i := range msgs {
		msgs[i].Offset = res.BaseOffset + int64(i)
	}
	return res.Error
}

// notify hands a batch's outcome to the caller's callback. A failure that
// nobody waits for and no callback takes is logged.
func (p *Producer) notify(msgs []kafka.Message, err error) {
	if p.completion == nil {
		if err != nil && p.cfg.Async {
			p.log.fail("messages were not acknowledged", append(attrsOf(msgs[0].Topic, msgs[0].Partition), slog.Int("messages", len(msgs))).err(err))
		}
		return
	}
	defer func() {
		if v := recover(); v != nil {
			p.log.fail("the completion callback panicked", attrsOf(msgs[0].Topic, msgs[0].Partition).err(&PanicError{Value: v, Stack: debug.Stack()}))
		}
	}()
	p.completion(msgs, err)
}

// placeOf names where a batch went.
func placeOf(msgs []kafka.Message) string {
	return fmt.Sprintf("%s[%d]", msgs[0].Topic, msgs[0].Partition)
}
