package kafkax

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// activity is what one goroutine of the handling is at. It alone writes it, once
// a message, and a stop reads it.
type activity struct {
	message atomic.Pointer[kafka.Message] // nil: none
	batch   atomic.Pointer[[]span]        // nil: none
	since   atomic.Int64                  // in nanoseconds
}

// span is messages of one partition in a batch.
type span struct {
	topic     string
	partition int
	offset    int64 // of the first
	messages  int
	since     time.Time
}

// begin notes a message, whose place must not change any more.
func (a *activity) begin(m *kafka.Message, since time.Time) {
	a.since.Store(since.UnixNano())
	a.message.Store(m)
}

// beginBatch notes messages, those of a partition in order.
func (a *activity) beginBatch(msgs []kafka.Message, since time.Time) {
	var spans []span
	for i := range msgs {
		m := &msgs[i]
		j := slices.IndexFunc(spans, func(s span) bool { return s.partition == m.Partition && s.topic == m.Topic })
		if j < 0 {
			j, spans = len(spans), append(spans, span{topic: m.Topic, partition: m.Partition, offset: m.Offset})
		}
		spans[j].messages++
	}
	a.since.Store(since.UnixNano())
	a.batch.Store(&spans)
}

// end says that there is nothing to do.
func (a *activity) end() {
	a.message.Store(nil)
	a.batch.Store(nil)
}

// spans is what it is at.
func (a *activity) spans() (spans []span) {
	if m := a.message.Load(); m != nil {
		spans = []span{{topic: m.Topic, partition: m.Partition, offset: m.Offset, messages: 1}}
	} else if batch := a.batch.Load(); batch != nil {
		spans = slices.Clone(*batch)
	}
	for i := range spans {
		spans[i].since = time.Unix(0, a.since.Load())
	}
	return spans
}

// activities are those of one claim. The zero value is ready.
type activities struct {
	mu  sync.Mutex
	all map[*activity]struct{}
}

func (as *activities) add(a *activity) {
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.all == nil {
		as.all = map[*activity]struct{}{}
	}
	as.all[a] = struct{}{}
}

func (as *activities) remove(a *activity) {
	as.mu.Lock()
	defer as.mu.Unlock()
	delete(as.all, a)
}

// running names each message whose handler, wait for a retry or dead letter is
// under way, and since when: "orders[3]@42 since 12.3s".
func (as *activities) running() []string {
	as.mu.Lock()
	var spans []span
	for a := range as.all {
		spans = append(spans, a.spans()...)
	}
	as.mu.Unlock()
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
	})
	names := make([]string, len(spans))
	for i, s := range spans {
		names[i] = at(s.topic, s.partition, s.offset)
		if s.messages > 1 {
			names[i] += fmt.Sprintf(" and %d more", s.messages-1)
		}
		names[i] += fmt.Sprintf(" since %v", max(time.Since(s.since), 0).Round(100*time.Millisecond))
	}
	return names
}
