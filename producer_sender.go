package kafkax

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bi-common/kafkax/internal/budget"
	"github.com/segmentio/kafka-go"
)

// asyncBytes bounds what async mode buffers. Java: buffer.memory.
const asyncBytes = 32 << 20

// sender is the way of a call's messages to the Writer.
type sender struct {
	cfg    ProducerConfig
	writer *kafka.Writer
	buffer *budget.Budget // what async mode may hold
	stop   *stopping
}

// write is [Producer.WriteMessages].
func (s *sender) write(ctx context.Context, msgs []kafka.Message) error {
	if !s.stop.enter() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil || len(msgs) == 0 {
		s.stop.leave()
		return err
	}

	// The delivery ends what it was given. This ends what still queues behind.
	overdue := time.NewTimer(s.patience())
	defer overdue.Stop()
	call := newSend(msgs, s.cfg)
	own(call.ready) // It may return before the Writer has read them.
	s.handOver(ctx, call)
	if s.cfg.Async {
		return call.refused()
	}
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
	if s.cfg.Async {
		err := s.buffer.Take(ctx, sizeOf(msgs))
		if errors.Is(err, budget.ErrClosed) {
			err = ErrClosed
		} else if err != nil {
			err = ctx.Err()
		}
		if err != nil {
			settle(msgs, notSent, err)
			return
		}
	}
	// The Writer is asynchronous: an error means that it took none.
	err := s.writer.WriteMessages(ctx, msgs...)
	if err == nil {
		return
	}
	if s.cfg.Async {
		s.buffer.Give(sizeOf(msgs))
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	s.stop.noteLost(msgs[0].Topic, len(msgs))
	settle(msgs, notSent, err)
}
