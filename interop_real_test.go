package kafkax_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
)

// peer is another client. Each has a file here.
type peer struct {
	// write writes batches, in order, each flushed before the next.
	write func(t *testing.T, c *kafkatest.Cluster, batches ...peerBatch)

	// read returns what is committed in topics, each of which holds n messages.
	read func(t *testing.T, c *kafkatest.Cluster, n int, topics ...string) map[string][]kafka.Message
}

type peerBatch struct {
	Topic       string             `json:"topic"`
	Compression kafkax.Compression `json:"compression"`
	Transaction string             `json:"transaction"` // committed, aborted, or empty for none
	Messages    []kafka.Message    `json:"messages"`
}

const (
	committed = "commit"
	aborted   = "abort"
)

// codecs are in the order of Kafka's numbers for them.
var codecs = []kafkax.Compression{"none", "gzip", "snappy", "lz4", "zstd"}

// peerMessages are one of each kind. The large one is there for the peers that
// compress only what gets smaller by it.
func peerMessages() []kafka.Message {
	empty := []byte{}
	msgs := []kafka.Message{
		{Key: []byte("key"), Value: []byte("value")},
		{Key: nil, Value: []byte("null key")},
		{Key: empty, Value: []byte("empty key")},
		{Key: []byte("null value"), Value: nil},
		{Key: []byte("empty value"), Value: empty},
		{Key: nil, Value: nil},
		{Key: empty, Value: empty},
		{Key: []byte("headers"), Value: []byte("v"), Headers: []kafka.Header{
			{Key: "again", Value: []byte("1")},
			{Key: "again", Value: []byte("2")},
			{Key: "größe", Value: []byte("ß")},
			{Key: "empty", Value: empty},
			{Key: "null", Value: nil},
		}},
		{Key: []byte("not UTF-8 \xff\x00"), Value: []byte("\x80\xfe\n\r\t"), Headers: []kafka.Header{
			{Key: "h", Value: []byte("\xc3\x28\x00")},
		}},
		{Key: []byte("large"), Value: bytes.Repeat([]byte("0123456789 "), 3000)},
	}
	for i := range 20 {
		msgs = append(msgs, kafka.Message{Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i)})
	}
	for i := range msgs {
		msgs[i].Time = time.Date(2024, 2, 29, 23, 59, 59, i*int(time.Millisecond), time.UTC)
	}
	return msgs
}

// marked are a few messages of one transaction.
func marked(value string) []kafka.Message {
	var msgs []kafka.Message
	for i := range 3 {
		msgs = append(msgs, kafka.Message{Key: []byte("tx"), Value: fmt.Appendf(nil, "%s %d", value, i)})
	}
	return msgs
}

// testInterop moves msgs between kafkax and a peer, both ways, in each codec.
func testInterop(t *testing.T, p peer, msgs []kafka.Message) {
	cluster := kafkatest.Shared(t)
	t.Run("read_by_kafkax", func(t *testing.T) {
		t.Parallel()
		testReadByKafkax(t, cluster, p, msgs)
	})
	t.Run("written_by_kafkax", func(t *testing.T) {
		t.Parallel()
		testWrittenByKafkax(t, cluster, p, msgs)
	})
}

func testReadByKafkax(t *testing.T, cluster *kafkatest.Cluster, p peer, msgs []kafka.Message) {
	void, good, last := marked("aborted"), marked("committed"), []kafka.Message{{Value: []byte("last")}}
	topics := map[kafkax.Compression]string{}
	var batches []peerBatch
	for _, codec := range codecs {
		topic := cluster.Topic(t, 1)
		topics[codec] = topic
		batches = append(
			batches,
			peerBatch{topic, codec, "", msgs},
			peerBatch{topic, codec, aborted, void},
			peerBatch{topic, codec, committed, good},
			peerBatch{topic, codec, "", last},
		)
	}
	p.write(t, cluster, batches...)

	for i, codec := range codecs {
		t.Run(string(codec), func(t *testing.T) {
			b := &broker{topic: topics[codec], addrs: cluster.Brokers()}
			largest := slices.MaxFunc(stored(t, b.addrs, b.topic, len(msgs)), func(x, y *kgo.Record) int { return len(x.Value) - len(y.Value) })
			if got := int(largest.Attrs.CompressionType()); got != i {
				t.Errorf("the peer wrote with codec %d, want %d: this tests something else", got, i)
			}

			visible := slices.Concat(msgs, good, last)
			got := fetchUntil(t, b.consumer(t, kafkatest.Name(t), kafkax.WithConsumerIsolationLevel(kafkax.ReadCommitted)), "last")
			sameMessages(t, "read_committed", got, visible)

			all := fetchUntil(t, b.consumer(t, "", kafkax.WithConsumerIsolationLevel(kafkax.ReadUncommitted)), "last")
			if extra := len(all) - len(got); extra < len(void) {
				t.Errorf("%d aborted messages were written, want %d: this tests something else", extra, len(void))
			}
			all = slices.DeleteFunc(all, func(m kafka.Message) bool { return strings.HasPrefix(string(m.Value), "aborted") })
			sameMessages(t, "read_uncommitted", all, visible)
		})
	}
}

// fetchUntil returns the messages up to the one with that value.
func fetchUntil(t *testing.T, c *kafkax.Consumer, last string) []kafka.Message {
	t.Helper()
	ctx := testContext(t)
	var msgs []kafka.Message
	for {
		m, err := c.FetchMessage(ctx)
		if err != nil {
			t.Fatalf("after %d messages: %v", len(msgs), err)
		}
		msgs = append(msgs, m)
		if string(m.Value) == last {
			return msgs
		}
	}
}

func testWrittenByKafkax(t *testing.T, cluster *kafkatest.Cluster, p peer, msgs []kafka.Message) {
	topics := map[kafkax.Compression]string{}
	for _, codec := range codecs {
		topics[codec] = cluster.Topic(t, 1)
		w := produceToReal(t, cluster, topics[codec], kafkax.WithProducerCompression(codec))
		if err := w.WriteMessages(testContext(t), msgs...); err != nil {
			t.Fatalf("%s: %v", codec, err)
		}
	}
	got := p.read(t, cluster, len(msgs), slices.Collect(maps.Values(topics))...)
	for codec, topic := range topics {
		sameMessages(t, string(codec), got[topic], msgs)
	}
}

// sameMessages compares in order. A wanted message without a time may have any
// of the last minutes.
func sameMessages(t *testing.T, what string, got, want []kafka.Message) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d messages, want %d", what, len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if w.Time.IsZero() && time.Since(g.Time).Abs() < 10*time.Minute {
			w.Time = g.Time
		}
		if g, w := describe(g), describe(w); g != w {
			t.Errorf("%s: message %d is\n\t%s, want\n\t%s", what, i, g, w)
		}
	}
}

// describe is equal for two messages if all is that a producer sets.
func describe(m kafka.Message) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s: key %s, value %s", m.Time.UTC().Format(time.RFC3339Nano), bytesOrNull(m.Key), bytesOrNull(m.Value))
	for _, h := range m.Headers {
		fmt.Fprintf(&s, ", header %q=%s", h.Key, bytesOrNull(h.Value))
	}
	return s.String()
}

func bytesOrNull(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) > 100:
		return fmt.Sprintf("%d bytes with CRC %08x", len(b), crc32.ChecksumIEEE(b))
	}
	return fmt.Sprintf("%q", b)
}

// testPartitions writes the same keys with a peer and with kafkax, which must
// choose the same partition for each.
func testPartitions(t *testing.T, p peer, balancer kafkax.Balancer, keys []string) {
	cluster := kafkatest.Shared(t)
	const partitions = 7
	byPeer, byKafkax := cluster.Topic(t, partitions), cluster.Topic(t, partitions)
	var msgs []kafka.Message
	for _, key := range keys {
		msgs = append(msgs, kafka.Message{Key: []byte(key), Value: []byte("v")})
	}
	p.write(t, cluster, peerBatch{Topic: byPeer, Compression: "none", Messages: msgs})
	w := produceToReal(t, cluster, byKafkax, kafkax.WithProducerBalancer(balancer))
	if err := w.WriteMessages(testContext(t), msgs...); err != nil {
		t.Fatal(err)
	}

	want, got := partitionOf(t, cluster, byPeer, len(keys)), partitionOf(t, cluster, byKafkax, len(keys))
	used := map[int32]bool{}
	for _, key := range keys {
		used[want[key]] = true
		if got[key] != want[key] {
			t.Errorf("key %.40q is in partition %d, the peer's in %d", key, got[key], want[key])
		}
	}
	if len(want) != len(keys) || len(used) != partitions {
		t.Errorf("the peer wrote %d of %d keys to %d of %d partitions", len(want), len(keys), len(used), partitions)
	}
}

// partitionKeys are valid in every peer's input.
func partitionKeys() []string {
	keys := []string{"a", "ключ", "鍵", "21", strings.Repeat("long ", 200)}
	for i := range 200 {
		keys = append(keys, fmt.Sprintf("key-%d", i))
	}
	return keys
}

func partitionOf(t *testing.T, cluster *kafkatest.Cluster, topic string, n int) map[string]int32 {
	t.Helper()
	byKey := map[string]int32{}
	for _, r := range stored(t, cluster.Brokers(), topic, n) {
		byKey[string(r.Key)] = r.Partition
	}
	return byKey
}
