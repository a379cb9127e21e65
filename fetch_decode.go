package kafkax

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

const (
	// slabBytes is the largest allocation for the keys and values of many
	// messages. A larger one would keep more alive when a handler holds on to a
	// single message. The first of a response is smaller, as it may bring little.
	slabBytes      = 64 << 10
	firstSlabBytes = 1 << 10
)

// decoded is what the records of one response come to.
type decoded struct {
	messages []kafka.Message
	next     int64 // the offset after all of them, past what no handler sees
	bytes    int   // of memory that they take
	passed   int   // the same of records that no handler sees, while they were read
}

// decode copies the records of a response to a fetch at position out of
// kafka-go's pages. The error is of records that cannot be read: what came before
// them is there, and next is the first of them. Expected is how many messages to
// make room for.
func decode(res *fetch.ResponsePartition, topic string, partition int, position int64, isolation IsolationLevel, expected int) (decoded, error) {
	d := decoder{
		decoded:       decoded{next: position, messages: make([]kafka.Message, 0, expected)},
		topic:         topic,
		partition:     partition,
		highWatermark: res.HighWatermark,
		slabSize:      firstSlabBytes,
	}
	if isolation == ReadCommitted {
		d.pending = slices.SortedFunc(slices.Values(res.AbortedTransactions), func(a, b fetch.ResponseTransaction) int {
			return cmp.Compare(a.FirstOffset, b.FirstOffset)
		})
	}
	batches := 0
	var err error
	if stream, ok := res.RecordSet.Records.(*protocol.RecordStream); ok {
		batches = len(stream.Records)
		for _, batch := range stream.Records {
			if err = d.batch(batch); err != nil {
				break
			}
		}
	}
	if err == nil && batches > 0 && d.next == position {
		// Compaction leaves batches whose last records are gone, and batches
		// without any. Their length is not known here, so look past them.
		d.next++
	}
	return d.decoded, err
}

// decoder turns one response into messages.
type decoder struct {
	decoded
	topic         string
	partition     int
	highWatermark int64
	slab          []byte // keys and values, one allocation for many
	slabSize      int

	pending []fetch.ResponseTransaction // aborted, not reached yet, by offset
	aborted map[int64]bool              // producers inside an aborted transaction
}

func (d *decoder) batch(records protocol.RecordReader) error {
	switch b := records.(type) {
	case *protocol.ControlBatch:
		d.hole(b.BaseOffset)
		// A marker ends the producer's transaction, also one that began before
		// this response and of which it brings the marker alone.
		d.begin(b.BaseOffset)
		delete(d.aborted, b.ProducerID)
		return d.each(b.Records, false)
	case *protocol.RecordBatch:
		d.hole(b.BaseOffset)
		d.begin(b.BaseOffset)
		return d.each(b.Records, !b.Attributes.Transactional() || !d.aborted[b.ProducerID])
	default:
		return d.each(records, true)
	}
}

// hole passes over offsets that a following batch shows to be empty.
func (d *decoder) hole(base int64) {
	d.next = max(d.next, base)
}

// begin follows the broker's list: from the first offset of an aborted
// transaction to its marker, all transactional records of that producer are
// void.
func (d *decoder) begin(offset int64) {
	for len(d.pending) > 0 && d.pending[0].FirstOffset <= offset {
		if d.aborted == nil {
			d.aborted = map[int64]bool{}
		}
		d.aborted[d.pending[0].ProducerID] = true
		d.pending = d.pending[1:]
	}
}

func (d *decoder) each(records protocol.RecordReader, deliver bool) error {
	for {
		r, err := records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		// A batch may begin before the offset that was asked for.
		if r.Offset >= d.next {
			if deliver {
				err = d.message(r)
			} else {
				d.passed += messageBytes + lengthOf(r.Key) + lengthOf(r.Value)
			}
			if err == nil {
				d.next = r.Offset + 1
			}
		}
		if r.Key != nil {
			_ = r.Key.Close()
		}
		if r.Value != nil {
			_ = r.Value.Close()
		}
		if err != nil {
			return err
		}
	}
}

func (d *decoder) message(r *protocol.Record) error {
	key, err := d.copy(r.Key)
	if err != nil {
		return err
	}
	value, err := d.copy(r.Value)
	if err != nil {
		return err
	}
	m := kafka.Message{
		Topic:         d.topic,
		Partition:     d.partition,
		Offset:        r.Offset,
		HighWaterMark: d.highWatermark,
		Key:           key,
		Value:         value,
	}
	if r.Time.UnixMilli() > 0 {
		m.Time = r.Time.UTC()
	}
	if len(r.Headers) > 0 {
		m.Headers = make([]kafka.Header, len(r.Headers))
		copy(m.Headers, r.Headers)
	}
	d.messages = append(d.messages, m)
	d.bytes += memorySize(&m)
	return nil
}

func lengthOf(b protocol.Bytes) int {
	if b == nil {
		return 0
	}
	return b.Len()
}

// copy keeps nil (no key, a tombstone) apart from empty.
func (d *decoder) copy(b protocol.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	n := b.Len()
	if d.slab == nil || cap(d.slab)-len(d.slab) < n {
		d.slab = make([]byte, 0, max(n, d.slabSize))
		d.slabSize = min(2*d.slabSize, slabBytes)
	}
	start := len(d.slab)
	d.slab = d.slab[:start+n]
	dst := d.slab[start : start+n : start+n]
	_, err := io.ReadFull(b, dst)
	return dst, err
}
