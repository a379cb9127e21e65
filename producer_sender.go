package kafkax

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bi-common/kafkax/internal/budget"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// asyncBytes bounds what async mode buffers. Java: buffer.memory.
const asyncBytes = 32 << 20

// sender is the way of a call's messages to the Writer.
type sender struct {
	cfg       ProducerConfig
	writer    *kafka.Writer
	topics    kafka.RoundTripper // finds out how many partitions a topic has
	create    bool               // what topics are missing then
	balancer  *chooser
	callbacks *callbacks     // nil without a callback
	buffer    *budget.Budget // what async mode may hold
	stop      *stopping
	waits     *troubles
	failures  *atomic.Int64 // messages of all calls

	// bound ends with ctx, with the delivery timeout, or when a stop is cut off.
	bound func(ctx context.Context) (context.Context, context.CancelFunc)
}

// write is [Producer.WriteMessages].
func (s *sender) write(ctx context.Context, msgs []kafka.Message) error {
	if !s.stop.enter() {
		s.failures.Add(int64(len(msgs)))
		return ErrClosed
	}
	if err := ctx.Err(); err != nil || len(msgs) == 0 {
		s.stop.leave()
		s.failures.Add(int64(len(msgs)))
		return err
	}
	if s.cfg.Async {
		return s.begin(ctx, msgs).refused()
	}

	// The delivery ends what it was given. This ends what still queues behind.
	overdue := time.NewTimer(s.patience())
	defer overdue.Stop()
	call := s.begin(ctx, msgs)
	defer s.waits.remove(ctx, call)
	select {
	case <-call.done:
		return call.failed(nil)
	case <-ctx.Done():
		return call.failed(ctx.Err())
	case <-overdue.C:
		return call.failed(errDeliveryTimeout)
	case <-s.stop.gone:
		return call.failed(errStopped)
	}
}

// begin hands the messages over that can be sent.
func (s *sender) begin(ctx context.Context, msgs []kafka.Message) *send {
	call := newSend(msgs, s.cfg, s.failures)
	own(call.ready) // The call may return before the Writer has read them.
	s.handOver(ctx, call)
	return call
}

// patience is how long a send waits: so much longer than delivery_timeout that
// a batch which is tried all the time still gets its own, better error.
func (s *sender) patience() time.Duration {
	timeout := s.cfg.DeliveryTimeout
	return max(timeout, timeout+s.cfg.BatchTimeout+time.Second) // The sum may overflow.
}

// handOver gives the messages to the Writer, topic by topic, since it takes
// all of a call or nothing: one topic's failure is not the others'.
func (s *sender) handOver(ctx context.Context, call *send) {
	defer s.stop.leave()
	topics := byTopic(call.ready)
	if len(topics) == 1 {
		s.handOverTopic(ctx, topics[0])
		return
	}
	var wg sync.WaitGroup
	for _, msgs := range topics {
		wg.Go(func() { s.handOverTopic(ctx, msgs) })
	}
	wg.Wait()
}

func (s *sender) handOverTopic(ctx context.Context, msgs []kafka.Message) {
	ready, crowded := s.choose(ctx, msgs), [][]kafka.Message(nil)
	if s.callbacks != nil {
		ready, crowded = s.callbacks.apart(ready)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, msgs := range crowded {
		wg.Go(func() {
			bounded, cancel := s.bound(ctx)
			defer cancel()
			if err := s.callbacks.room(bounded, msgs[0].WriterData.(*slot).place()); err != nil {
				s.fail(ctx, msgs, err)
				return
			}
			s.handOverPlaced(ctx, msgs)
		})
	}
	s.handOverPlaced(ctx, ready)
}

// handOverPlaced is for messages of one topic that have a partition.
func (s *sender) handOverPlaced(ctx context.Context, msgs []kafka.Message) {
	if len(msgs) == 0 {
		return
	}
	if err := ctx.Err(); err != nil { // The Writer does not look.
		s.fail(ctx, msgs, err)
		return
	}
	if s.cfg.Async {
		err := s.buffer.Take(ctx, sizeOf(msgs))
		if errors.Is(err, budget.ErrClosed) {
			err = ErrClosed
		} else if err != nil {
			err = ctx.Err()
		}
		if err != nil {
			s.fail(ctx, msgs, err)
			return
		}
	}
	if !s.cfg.Async {
		s.waits.add(ctx, msgs)
	}
	// The Writer is asynchronous: an error means that it took none.
	err := s.writer.WriteMessages(ctx, msgs...)
	if err == nil {
		return
	}
	if s.cfg.Async {
		s.buffer.Give(sizeOf(msgs))
	}
	s.fail(ctx, msgs, err)
}

// choose chooses a partition for each message of one topic, and returns those
// that have one.
func (s *sender) choose(ctx context.Context, msgs []kafka.Message) []kafka.Message {
	n, err := s.partitions(ctx, msgs[0].Topic)
	if err != nil {
		s.fail(ctx, msgs, err)
		return nil
	}
	errs := s.balancer.choose(ctx, msgs, n)
	if errs == nil {
		return msgs
	}
	placed := make([]kafka.Message, 0, len(msgs))
	for i, err := range errs {
		if err != nil {
			s.fail(ctx, msgs[i:i+1], err)
		} else {
			placed = append(placed, msgs[i])
		}
	}
	return placed
}

func (s *sender) partitions(ctx context.Context, topic string) (int, error) {
	res, err := s.topics.RoundTrip(ctx, s.writer.Addr, &metadata.Request{
		TopicNames:             []string{topic},
		AllowAutoTopicCreation: s.create,
	})
	if err != nil {
		return 0, err
	}
	if code := topicCode(res, topic); code != 0 {
		return 0, brokerError(int16(code))
	}
	topics := res.(*metadata.Response).Topics
	at := slices.IndexFunc(topics, func(t metadata.ResponseTopic) bool { return t.Name == topic })
	return len(topics[at].Partitions), nil
}

// fail is the end of messages that were not sent. Those that a context ended
// say so.
func (s *sender) fail(ctx context.Context, msgs []kafka.Message, err error) {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	s.stop.noteLost(msgs[0].Topic, len(msgs))
	settle(msgs, notSent, err)
}
