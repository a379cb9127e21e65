package kafkax

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bi-common/kafkax/internal/budget"
	"github.com/segmentio/kafka-go"
)

// WriteMessages sends messages: each to its own Topic, or to producer.topic if
// that is empty. Partition, Offset and HighWaterMark are ignored, so a consumed
// message can be passed on as it is.
//
// It blocks until every message has an outcome: at most until ctx ends, or a
// second longer than delivery_timeout and batch_timeout together. nil means
// that all were acknowledged as producer.required_acks says, by default by
// every in-sync replica. Messages fail one by one, with the errors that
// [Producer] lists; a record that is too large or that the broker refuses
// fails alone.
//
// In async mode it returns once the messages are buffered. It then blocks only
// for a first look-up of the topic, and while 32 MiB wait to be sent; ctx bounds
// that and not the sending. What fails later goes to the completion callback,
// or to the error logger if there is none.
//
// Keys, values and headers may be reused when it returns, whatever it returns.
func (p *Producer) WriteMessages(ctx context.Context, msgs ...kafka.Message) error {
	if ctx == nil {
		return errNilArgument
	}
	if !p.enter() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil || len(msgs) == 0 {
		p.handovers.Done()
		return err
	}

	// The delivery ends what it was given. This ends what still queues behind.
	overdue := time.NewTimer(p.patience())
	defer overdue.Stop()
	s := newSend(msgs, p.cfg)
	own(s.ready) // It may return before the Writer has read them.
	p.handOver(ctx, s)
	if p.cfg.Async {
		return s.refused()
	}
	select {
	case <-s.done:
		return s.failed(nil)
	case <-ctx.Done():
		return s.failed(ctx.Err())
	case <-overdue.C:
		return s.failed(errDeliveryTimeout)
	case <-p.gone:
		return s.failed(errStopped)
	}
}

// patience is how long a send waits: so much longer than delivery_timeout that
// a batch which is tried all the time still gets its own, better error.
func (p *Producer) patience() time.Duration {
	timeout := p.cfg.DeliveryTimeout
	return max(timeout, timeout+p.cfg.BatchTimeout+time.Second) // The sum may overflow.
}

// enter begins a handover, which handOver ends; it is false once closed.
func (p *Producer) enter() bool {
	if !p.made() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.handovers.Add(1)
	return true
}

// send is one call of WriteMessages.
type send struct {
	ready []kafka.Message // passed the checks; WriterData is the slot of each
	done  chan struct{}   // closed when each of ready has an outcome

	mu      sync.Mutex
	slots   []slot // by index in the call
	pending int
}

// slot is where the outcome of one message goes.
type slot struct {
	send      *send
	topic     string
	partition int // -1 until a balancer chose
	size      int
	data      any // the caller's WriterData

	// Below: send.mu.
	state outcome
	err   error
}

type outcome int

const (
	inFlight outcome = iota
	notSent          // never left: err says why
	settled          // acknowledged, or err
)

func newSend(msgs []kafka.Message, cfg ProducerConfig) *send {
	s := &send{
		ready: make([]kafka.Message, 0, len(msgs)),
		done:  make(chan struct{}),
		slots: make([]slot, len(msgs)),
	}
	for i := range msgs {
		m, sl := &msgs[i], &s.slots[i]
		*sl = slot{
			send:      s,
			topic:     cmp.Or(m.Topic, cfg.Topic),
			partition: -1,
			size:      messageSize(m),
			data:      m.WriterData,
		}
		if err := sl.check(cfg.BatchBytes); err != nil {
			sl.state, sl.err = notSent, err
			continue
		}
		s.ready = append(s.ready, kafka.Message{
			Topic:      sl.topic,
			Key:        m.Key,
			Value:      m.Value,
			Headers:    m.Headers,
			Time:       m.Time,
			WriterData: sl,
		})
	}
	s.pending = len(s.ready)
	if s.pending == 0 {
		close(s.done)
	}
	return s
}

// check finds what the Writer would fail the whole call for.
func (sl *slot) check(maxBytes int) error {
	if sl.topic == "" {
		return fmt.Errorf("%w: set producer.topic or the message's Topic", ErrNoTopic)
	}
	if rule := topicRule(sl.topic); rule != "" {
		return fmt.Errorf("%w: %.260q %s", kafka.InvalidTopic, sl.topic, rule)
	}
	if sl.size > maxBytes {
		return fmt.Errorf("%w: %d bytes are more than producer.batch_bytes of %d", kafka.MessageSizeTooLarge, sl.size, maxBytes)
	}
	return nil
}

// messageSize is what the Writer takes a message for, which it does not export.
func messageSize(m *kafka.Message) int {
	n := 22 + len(m.Key) + len(m.Value) + varintLen(len(m.Headers))
	for i := range m.Headers {
		h := &m.Headers[i]
		n += varintLen(len(h.Key)) + len(h.Key) + varintLen(len(h.Value)) + len(h.Value)
	}
	return n
}

// varintLen is the length of a zigzag varint that is not negative.
func varintLen(n int) int {
	l := 1
	for u := uint64(n) << 1; u >= 0x80; u >>= 7 {
		l++
	}
	return l
}

// own replaces what messages point to by one copy of it all.
func own(msgs []kafka.Message) {
	bytes, headers := 0, 0
	for i := range msgs {
		m := &msgs[i]
		bytes += len(m.Key) + len(m.Value)
		headers += len(m.Headers)
		for j := range m.Headers {
			bytes += len(m.Headers[j].Value)
		}
	}

	slab := make([]byte, 0, bytes)
	keep := func(b []byte) []byte {
		if b == nil {
			return nil // A tombstone must not become an empty value.
		}
		from := len(slab)
		slab = append(slab, b...)
		return slab[from:len(slab):len(slab)]
	}
	hslab := make([]kafka.Header, 0, headers)
	for i := range msgs {
		m := &msgs[i]
		m.Key, m.Value = keep(m.Key), keep(m.Value)
		if m.Headers == nil {
			continue
		}
		from := len(hslab)
		for _, h := range m.Headers {
			hslab = append(hslab, kafka.Header{Key: h.Key, Value: keep(h.Value)})
		}
		m.Headers = hslab[from:len(hslab):len(hslab)]
	}
}

// handOver gives the messages to the Writer, topic by topic, since it takes
// all of a call or nothing: one topic's failure is not the others'.
func (p *Producer) handOver(ctx context.Context, s *send) {
	defer p.handovers.Done()
	topics := byTopic(s.ready)
	if len(topics) == 1 {
		p.handOverTopic(ctx, topics[0])
		return
	}
	var wg sync.WaitGroup
	for _, msgs := range topics {
		wg.Go(func() { p.handOverTopic(ctx, msgs) })
	}
	wg.Wait()
}

func byTopic(msgs []kafka.Message) [][]kafka.Message {
	if len(msgs) == 0 {
		return nil
	}
	first := msgs[0].Topic
	if !slices.ContainsFunc(msgs, func(m kafka.Message) bool { return m.Topic != first }) {
		return [][]kafka.Message{msgs}
	}
	var topics [][]kafka.Message
	at := make(map[string]int)
	for _, m := range msgs {
		i, ok := at[m.Topic]
		if !ok {
			i = len(topics)
			at[m.Topic] = i
			topics = append(topics, nil)
		}
		topics[i] = append(topics[i], m)
	}
	return topics
}

func (p *Producer) handOverTopic(ctx context.Context, msgs []kafka.Message) {
	if p.cfg.Async {
		err := p.buffer.Take(ctx, sizeOf(msgs))
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
	err := p.writer.WriteMessages(ctx, msgs...)
	if err == nil {
		return
	}
	if p.cfg.Async {
		p.buffer.Give(sizeOf(msgs))
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	p.noteLost(msgs[0].Topic, len(msgs))
	settle(msgs, notSent, err)
}

func sizeOf(msgs []kafka.Message) int {
	n := 0
	for i := range msgs {
		n += msgs[i].WriterData.(*slot).size + messageOverhead
	}
	return n
}
