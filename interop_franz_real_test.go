package kafkax_test

import (
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// franz is franz-go's client.
var franz = peer{write: writeFranz, read: readFranz}

func TestInterop_FranzGo(t *testing.T) {
	t.Parallel()
	testInterop(t, franz, peerMessages())
}

// Franz-go's default for keys is Java's, too.
func TestInterop_KeysLandAsFranzGos(t *testing.T) {
	t.Parallel()
	testPartitions(t, franz, "murmur2", append(partitionKeys(), "\x00\xff\x80", ""))
}

func writeFranz(t *testing.T, c *kafkatest.Cluster, batches ...peerBatch) {
	t.Helper()
	for _, b := range batches {
		opts := []kgo.Opt{
			kgo.SeedBrokers(c.Brokers()...),
			kgo.DefaultProduceTopic(b.Topic),
			kgo.ProducerBatchCompression(map[string]kgo.CompressionCodec{
				"none":   kgo.NoCompression(),
				"gzip":   kgo.GzipCompression(),
				"snappy": kgo.SnappyCompression(),
				"lz4":    kgo.Lz4Compression(),
				"zstd":   kgo.ZstdCompression(),
			}[string(b.Compression)]),
		}
		if b.Transaction != "" {
			opts = append(opts, kgo.TransactionalID(b.Topic))
		}
		writeFranzBatch(t, opts, b)
	}
}

func writeFranzBatch(t *testing.T, opts []kgo.Opt, b peerBatch) {
	t.Helper()
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := testContext(t)

	if b.Transaction != "" {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
	}
	var records []*kgo.Record
	for _, m := range b.Messages {
		r := &kgo.Record{Key: m.Key, Value: m.Value, Timestamp: m.Time}
		for _, h := range m.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		records = append(records, r)
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if b.Transaction != "" {
		if err := client.EndTransaction(ctx, kgo.TransactionEndTry(b.Transaction == committed)); err != nil {
			t.Fatal(err)
		}
	}
}

func readFranz(t *testing.T, c *kafkatest.Cluster, n int, topics ...string) map[string][]kafka.Message {
	t.Helper()
	msgs := map[string][]kafka.Message{}
	for _, topic := range topics {
		for _, r := range stored(t, c.Brokers(), topic, n) {
			m := kafka.Message{Key: r.Key, Value: r.Value, Time: r.Timestamp}
			for _, h := range r.Headers {
				m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
			}
			msgs[topic] = append(msgs[topic], m)
		}
	}
	return msgs
}
