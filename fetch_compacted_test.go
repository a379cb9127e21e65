package kafkax_test

import (
	"context"
	"hash/crc32"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Compaction leaves batches of which every record is gone. kafka-go's decoder does
// not say where such a batch ends, so each of its offsets is asked for by itself. It
// should cost one fetch.
func TestD11_ABatchThatCompactionEmptiedCostsOneFetch_ExpectedToFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const gone, left = 200, 10
		b := startVirtualBroker(t, 1)
		b.produce(t, numbered(1, gone+left)...)
		asked := make(chan int64, 10*gone)
		empty := emptied(gone)
		b.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
			b.KeepControl()
			fetch := req.(*kmsg.FetchRequest)
			if len(fetch.Topics) != 1 || fetch.Topics[0].Partitions[0].FetchOffset >= gone {
				return nil, nil, false
			}
			asked <- fetch.Topics[0].Partitions[0].FetchOffset
			res := fetch.ResponseKind().(*kmsg.FetchResponse)
			topic, p := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
			topic.Topic = fetch.Topics[0].Topic
			p.HighWatermark, p.LastStableOffset, p.RecordBatches = gone+left, gone+left, empty
			topic.Partitions = append(topic.Partitions, p)
			res.Topics = append(res.Topics, topic)
			return res, nil, true
		})
		c, j := b.consumer(t, "g"), newJournal()
		run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
		})
		eventuallyWithin(t, time.Hour, "what is left to be handled", func() bool { return j.len() == left })
		switch n := len(asked); {
		case n == 0 || <-asked != 0:
			t.Error("the emptied batch was not fetched from its start")
		case n <= 2:
			t.Errorf("%d fetches of the emptied batch: this is no longer expected to fail", n)
		case n != gone:
			t.Errorf("%d fetches of %d offsets", n, gone)
		}
	})
}

// emptied is a batch of n offsets from 0 on, without a record.
func emptied(n int32) []byte {
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: n - 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
	}
	const beforeLength, beforeCRC = 12, 21
	batch.Length = int32(len(batch.AppendTo(nil)) - beforeLength)
	batch.CRC = int32(crc32.Checksum(batch.AppendTo(nil)[beforeCRC:], crc32.MakeTable(crc32.Castagnoli)))
	return batch.AppendTo(nil)
}
