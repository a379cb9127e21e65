package kafkax

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/segmentio/kafka-go"
)

// messageOverhead is what a message costs besides its bytes, so that empty
// ones are bounded too.
const messageOverhead = 256

// send is one call of WriteMessages.
type send struct {
	ready []kafka.Message // passed the checks; WriterData is the slot of each
	done  chan struct{}   // closed when each of ready has an outcome; nil in async mode

	failures *atomic.Int64 // messages of all calls

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
	left  bool // the call returned before there was an outcome
}

func (sl *slot) place() partitionID { return partitionID{sl.topic, int32(sl.partition)} }

type outcome int

const (
	inFlight outcome = iota
	notSent          // never left: err says why
	settled          // acknowledged, or err
)

func newSend(msgs []kafka.Message, cfg ProducerConfig, failures *atomic.Int64) *send {
	s := &send{
		ready:    make([]kafka.Message, 0, len(msgs)),
		slots:    make([]slot, len(msgs)),
		failures: failures,
	}
	if !cfg.Async {
		s.done = make(chan struct{})
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
			failures.Add(1)
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
	if s.pending == 0 && s.done != nil {
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

func sizeOf(msgs []kafka.Message) int {
	n := 0
	for i := range msgs {
		n += msgs[i].WriterData.(*slot).size + messageOverhead
	}
	return n
}

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
	if err != nil && !sl.left {
		s.failures.Add(1)
	}
	if s.pending--; s.pending == 0 && s.done != nil {
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
			sl.left = true // Whatever comes of it, it has failed for the caller.
			s.failures.Add(1)
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
