package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
)

// delivery is the kafka.RoundTripper under a Producer's kafka.Writer. All
// retries are made here, where a try that may have reached the log can be told
// from one that cannot, and the same bytes be sent again; the Writer makes one
// attempt.
//
// A send ends within producer.delivery_timeout, and so does a lookup. The
// context counts as well: the Writer makes one that ends after its WriteTimeout,
// which therefore has to be longer.
type delivery struct {
	requests
	routes *routes
	states *lately[partitionID, *producerState]
	waits  troubles

	retries atomic.Int64 // rounds of a batch after its first
}

func newDelivery(cfg ProducerConfig, d *dialer, log *loggers) *delivery {
	connect := func(topics ...string) transport { return d.transport(topics...) }
	return newDeliveryOver(cfg, connect, d.reason, log)
}

func newDeliveryOver(cfg ProducerConfig, connect func(topics ...string) transport,
	reason func(error) error, log *loggers,
) *delivery {
	life, end := context.WithCancelCause(context.Background())
	return &delivery{
		requests: requests{cfg: cfg, log: log, reason: reason, life: life, end: end},
		routes:   newRoutes(connect),
		states:   newProducerStates(),
	}
}

// close ends every call under way, waits for it, and releases the connections.
// A send whose request was in flight ends with ErrOutcomeUnknown, any other
// with ErrClosed. Safe to call twice.
func (d *delivery) close() {
	d.routes.shut()
	d.end(ErrClosed)
	d.routes.drain()
}

// RoundTrip is safe for concurrent use. What is neither a send nor the lookup
// of a topic is passed on once.
func (d *delivery) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	switch req := req.(type) {
	case *produce.Request:
		if req.TransactionalID == "" {
			return d.produce(ctx, addr, req)
		}
	case *metadata.Request:
		if len(req.TopicNames) == 1 {
			u, err := d.routes.acquire(req.TopicNames[0])
			if err != nil {
				return nil, err
			}
			defer d.routes.release(u)
			return d.lookup(ctx, u.value, addr, req)
		}
	}
	u, err := d.routes.acquire("")
	if err != nil {
		return nil, err
	}
	defer d.routes.release(u)
	ctx, cancel := d.bound(ctx)
	defer cancel()
	return d.once(ctx, u.value, addr, req)
}

// produce delivers the batch of each partition on its own. kafka.Writer sends
// one at a time. Of several, those that failed are named by the error, and the
// others were acknowledged.
func (d *delivery) produce(ctx context.Context, addr net.Addr, req *produce.Request) (kafka.Response, error) {
	ctx, cancel := d.bound(ctx)
	defer cancel()

	res := &produce.Response{Topics: make([]produce.ResponseTopic, len(req.Topics))}
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		refused  []error // the response tells them too
		problems []error // nothing but the error can tell them
	)
	for i := range req.Topics {
		topic := &req.Topics[i]
		answers := make([]produce.ResponsePartition, len(topic.Partitions))
		res.Topics[i] = produce.ResponseTopic{Topic: topic.Topic, Partitions: answers}
		for j := range topic.Partitions {
			deliver := func() {
				answer, throttle, err := d.deliver(ctx, addr, topic.Topic, &topic.Partitions[j], req.Acks)
				mu.Lock()
				defer mu.Unlock()
				answers[j] = answer
				res.ThrottleTimeMs = max(res.ThrottleTimeMs, throttle)
				if err != nil {
					problems = append(problems, err)
				} else if answer.ErrorCode != 0 {
					refused = append(refused, fmt.Errorf("%s[%d]: %w", topic.Topic, answer.Partition, answerError(answer)))
				}
			}
			if len(req.Topics) == 1 && len(topic.Partitions) == 1 {
				deliver()
			} else {
				wg.Go(deliver)
			}
		}
	}
	wg.Wait()

	switch {
	case len(problems) == 1 && len(refused) == 0:
		return nil, problems[0]
	case len(problems) > 0:
		return nil, errors.Join(append(problems, refused...)...)
	case req.Acks == int16(kafka.RequireNone):
		return nil, nil //nolint:nilnil // as from kafka.Transport: there is no answer
	}
	return res, nil
}

// deliver sends one partition's records until they are acknowledged, refused
// (which the answer says), or given up (an error).
func (d *delivery) deliver(ctx context.Context, addr net.Addr, topic string, p *produce.RequestPartition, acks int16,
) (answer produce.ResponsePartition, throttle int32, err error) {
	b, err := newBatch(topic, p, acks)
	if err != nil {
		return answer, 0, err
	}
	u, err := d.routes.acquire(topic)
	if err != nil {
		return answer, 0, err
	}
	defer d.routes.release(u)

	state := d.states.acquire(partitionID{topic, p.Partition})
	defer state.release()
	r, s := u.value, state.value
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return answer, 0, b.undelivered(ending(ctx, nil))
	}

	renewed := false
	for round := 1; ; round++ {
		answer, throttle, v := d.try(ctx, addr, r, s, b)
		if v.stored {
			s.advance(b.count)
			return answer, throttle, nil
		}
		if !renewed && ctx.Err() == nil && errors.Is(b.last, ErrAuthorization) {
			// The credentials of the connection may have run out.
			r.renew()
			if renewed = true; answer.ErrorCode != 0 {
				b.tries-- // It was no attempt of the batch.
			}
			continue
		}
		if v.change != keepProducer {
			d.restart(s, b, v.change)
			v.retry = !b.inDoubt
		}
		b.inDoubt = b.inDoubt || v.inDoubt

		switch {
		case ctx.Err() != nil:
			return answer, 0, giveUp(s, b, ending(ctx, b.last))
		case !v.retry && !b.inDoubt && answer.ErrorCode != 0:
			return answer, throttle, nil // its sequence was not used up
		case !v.retry:
			return answer, 0, giveUp(s, b, b.last)
		case d.cfg.MaxAttempts > 0 && b.tries >= d.cfg.MaxAttempts:
			return answer, 0, giveUp(s, b, fmt.Errorf("producer.max_attempts used up: %w", b.last))
		}

		wait := deliveryBackoff.draw(round)
		d.waits.tell(b.place(), fmt.Errorf("%s: %w", b.place(), b.last))
		d.log.progress("a batch was not acknowledged, to be retried", attrsOf(b.topic, int(b.partition)).attempt(round, d.cfg.MaxAttempts).next(wait).err(b.last))
		if sleep(ctx, wait) != nil {
			return answer, 0, giveUp(s, b, ending(ctx, b.last))
		}
		d.retries.Add(1)
	}
}

// try makes one request, and ahead of a partition's first the one for its
// producer id, which is no attempt. What went wrong is in b.last.
func (d *delivery) try(ctx context.Context, addr net.Addr, r *route, s *producerState, b *batch,
) (answer produce.ResponsePartition, throttle int32, v verdict) {
	if d.cfg.Idempotent && b.acks == int16(kafka.RequireAll) && !b.stamped {
		err := s.begin(b.topic, func(req kafka.Request) (kafka.Response, error) {
			return d.ask(ctx, r, addr, req)
		})
		if err != nil {
			b.note(ctx, err)
			return answer, 0, verdict{retry: IsRetryable(err)}
		}
		b.stamp(s)
	}

	b.tries++
	out := newOutgoing(b.records)
	res, err := d.once(ctx, r, addr, &rawproduce.Request{
		Acks:    b.acks,
		Timeout: int32(min(d.cfg.silence().Milliseconds()/2, math.MaxInt32)), // that long the leader may wait for its replicas, in silence
		Topics: []rawproduce.RequestTopic{{
			Topic: b.topic,
			Partitions: []rawproduce.RequestPartition{{
				Partition: b.partition,
				RecordSet: protocol.RawRecordSet{Reader: out},
			}},
		}},
	})
	if unsent := out.revoke(); err != nil && unsent {
		b.note(ctx, err)
		return answer, 0, verdict{retry: IsRetryable(err)}
	}
	if b.acks == int16(kafka.RequireNone) {
		b.note(ctx, err)
		return answer, 0, verdict{stored: err == nil, inDoubt: err != nil}
	}
	if err == nil {
		answer, throttle, err = b.answerIn(res)
	}
	if err != nil {
		b.note(ctx, err)
		return answer, 0, verdict{retry: true, inDoubt: true}
	}

	v = judge(kafka.Error(answer.ErrorCode), b.inDoubt)
	if !v.stored {
		b.note(ctx, answerError(answer))
	} else if answer.ErrorCode != 0 {
		// Stored, nobody knows where: make every offset negative that the
		// Writer counts up from here.
		answer.ErrorCode, answer.ErrorMessage, answer.BaseOffset = 0, "", -int64(b.count)
	}
	return answer, throttle, v
}

// restart gives up a sequence that the broker does not know. The batch gets a
// new stamp with its next try, if it may have one.
func (d *delivery) restart(s *producerState, b *batch, change producerChange) {
	d.log.fail("the broker does not know the producer's sequence: an unclean leader election may have lost messages it had acknowledged, "+
		"or retention or deletion took them; going on with a new sequence",
		append(attrsOf(b.topic, int(b.partition)).err(b.last),
			slog.Int64("producer_id", s.id), slog.Int("epoch", int(s.epoch)), slog.Int("sequence", int(s.next))))
	if change == renewProducer {
		s.renew()
	} else {
		s.bump()
	}
	b.stamped = false
}

// giveUp is the end of a batch that was neither acknowledged nor refused.
func giveUp(s *producerState, b *batch, why error) error {
	if b.inDoubt {
		s.inDoubt = true
		if b.stamped {
			s.bump() // nobody knows which sequence the log expects next
		}
	}
	return b.undelivered(why)
}
