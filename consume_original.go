package kafkax

import (
	"slices"

	"github.com/segmentio/kafka-go"
)

// originals keeps messages as they came. What a handler is given is its own to
// change: a second attempt, the dead letter and OnError are made from here. The
// memory is used again, so keeping costs a copy and, once it has grown, no
// allocation.
type originals struct {
	bytes   []byte
	headers []kafka.Header
}

// The most bytes and headers that there is room for when nobody needs it.
const (
	maxOriginals       = 1 << 20
	maxOriginalHeaders = 1 << 14

	// maxIdleOriginals is the same of bytes while there is nothing to do at all:
	// there may be as many that idle as handlers in each partition.
	maxIdleOriginals = 4 << 10
)

// reset forgets what was kept, and makes room for as much as msgs need.
func (o *originals) reset(msgs ...kafka.Message) {
	bytes, headers := 0, 0
	for i := range msgs {
		bytes += bodySize(&msgs[i])
		headers += len(msgs[i].Headers)
	}
	clear(o.headers) // or they keep the names of the last ones alive
	o.bytes = emptied(o.bytes, bytes, maxOriginals)
	o.headers = emptied(o.headers, headers, maxOriginalHeaders)
}

// shrink is called when there may be nothing to keep for a while.
func (o *originals) shrink() {
	if cap(o.bytes) > maxIdleOriginals {
		*o = originals{}
	}
}

// emptied is a slice with room for n elements: s itself, unless that is too
// small, or so large that it is better let go.
func emptied[T any](s []T, n, most int) []T {
	if cap(s) < n || cap(s) > max(n, most) {
		return make([]T, 0, n)
	}
	return s[:0]
}

// keep copies a message, for which reset has made room. The copy is good until
// the next reset.
func (o *originals) keep(m *kafka.Message) kafka.Message {
	kept := *m
	kept.Key, kept.Value = o.copy(m.Key), o.copy(m.Value)
	if len(m.Headers) > 0 {
		first := len(o.headers)
		for _, h := range m.Headers {
			o.headers = append(o.headers, kafka.Header{Key: h.Key, Value: o.copy(h.Value)})
		}
		kept.Headers = slices.Clip(o.headers[first:])
	}
	return kept
}

// copy keeps nil (no key, a tombstone) apart from empty.
func (o *originals) copy(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	first := len(o.bytes)
	o.bytes = append(o.bytes, b...)
	return slices.Clip(o.bytes[first:])
}

// cloneMessage copies a message into memory of its own.
func cloneMessage(m *kafka.Message) kafka.Message {
	var own originals
	own.reset(*m)
	return own.keep(m)
}

// bodySize is how many bytes of a message are in slices.
func bodySize(m *kafka.Message) int {
	n := len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += len(m.Headers[i].Value)
	}
	return n
}
