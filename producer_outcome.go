package kafkax

import (
	"context"
	"errors"
	"fmt"

	"github.com/bi-common/kafkax/internal/budget"
	"github.com/segmentio/kafka-go"
)

// outcomes gives each message of the Writer's batches its outcome: to the call
// that waits for it, and to the caller's callback.
type outcomes struct {
	async     bool
	foreign   bool       // the Writer's Transport is the caller's
	callbacks *callbacks // nil without a callback
	buffer    *budget.Budget
	stop      *stopping
	log       *loggers
	writer    *kafka.Writer // whose batches these are
}

// complete is the Writer's Completion: it is called with each batch, and until
// it returns the Writer sends no other to that partition. So what it sends
// itself keeps its place.
func (o *outcomes) complete(msgs []kafka.Message, err error) {
	if len(msgs) > 1 && blamesRecord(err) {
		// One record fails the whole batch, and the Writer does not tell
		// which. Halving finds it, or the size that the topic takes.
		half := len(msgs) / 2
		for _, part := range [][]kafka.Message{msgs[:half:half], msgs[half:]} {
			o.complete(part, o.produce(part))
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
		if o.foreign && isGuess(err) {
			err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		o.stop.noteLost(placeOf(msgs).String(), len(msgs))
	}
	if o.async {
		o.buffer.Give(size) // What waits for the callback has a bound of its own.
	}
	o.notify(msgs, err, size)
	for _, sl := range slots {
		sl.settle(settled, err)
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
func (o *outcomes) produce(msgs []kafka.Message) error {
	records := make([]kafka.Record, len(msgs))
	for i := range msgs {
		m := &msgs[i]
		records[i] = kafka.Record{Time: m.Time, Key: kafka.NewBytes(m.Key), Value: kafka.NewBytes(m.Value), Headers: m.Headers}
	}
	client := kafka.Client{Addr: o.writer.Addr, Transport: o.writer.Transport, Timeout: o.writer.WriteTimeout}
	res, err := client.Produce(context.Background(), &kafka.ProduceRequest{
		Topic:        msgs[0].Topic,
		Partition:    msgs[0].WriterData.(*slot).partition,
		RequiredAcks: o.writer.RequiredAcks,
		Compression:  o.writer.Compression,
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
func (o *outcomes) notify(msgs []kafka.Message, err error, size int) {
	switch {
	case o.callbacks == nil:
		if err != nil && o.async {
			logFailure(o.log, msgs, err)
		}
	case o.async:
		o.callbacks.tell(placeOf(msgs), msgs, err, size)
	default:
		o.callbacks.tellAndWait(placeOf(msgs), msgs, err, size)
	}
}

// completePlain is the Completion of the Writer that the caller may use. As
// with kafka-go's own, its partition waits for the callback.
func (o *outcomes) completePlain(msgs []kafka.Message, err error) {
	if o.callbacks == nil {
		o.notify(msgs, err, 0)
		return
	}
	size := 0
	for i := range msgs {
		size += messageSize(&msgs[i]) + messageOverhead
	}
	told, _ := o.callbacks.tell(placeOf(msgs), msgs, err, size)
	select {
	case <-told:
	case <-o.stop.gone:
	}
}

// placeOf is where a batch went.
func placeOf(msgs []kafka.Message) partitionID {
	return partitionID{msgs[0].Topic, int32(msgs[0].Partition)}
}
