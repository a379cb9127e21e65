package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
)

func produceToReal(t *testing.T, c *kafkatest.Cluster, topic string, opts ...kafkax.ProducerOption) *kafkax.Producer {
	t.Helper()
	p, err := kafkax.NewProducer(append([]kafkax.ProducerOption{
		kafkax.WithProducerBrokers(c.Brokers()...),
		kafkax.WithProducerTopic(topic),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// logEnds is how many records a topic holds, as nothing was deleted from it.
func logEnds(t *testing.T, brokers []string, topic string, partitions int) (total int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), produceWait)
	defer cancel()
	transport := new(kafka.Transport)
	defer transport.CloseIdleConnections()
	requests := make([]kafka.OffsetRequest, partitions)
	for i := range requests {
		requests[i] = kafka.LastOffsetOf(i)
	}
	client := kafka.Client{Addr: kafka.TCP(brokers...), Transport: transport}
	res, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: requests}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			t.Fatal(p.Error)
		}
		total += p.LastOffset
	}
	return total
}

func TestRealRoundTripOfEveryCodecAndBalancer(t *testing.T) {
	t.Parallel()
	c := kafkatest.Shared(t)
	const partitions, n = 3, 60
	for i, codec := range []kafkax.Compression{"none", "gzip", "snappy", "lz4", "zstd"} {
		balancer := []kafkax.Balancer{"murmur2", "crc32", "hash", "round_robin", "least_bytes"}[i]
		t.Run(fmt.Sprintf("%s_%s", codec, balancer), func(t *testing.T) {
			t.Parallel()
			topic := c.Topic(t, partitions)
			p := produceToReal(t, c, topic, kafkax.WithProducerCompression(codec), kafkax.WithProducerBalancer(balancer))
			var msgs []kafka.Message
			want := map[string]string{}
			for j := range n {
				key, value := fmt.Sprintf("key-%d", j), strings.Repeat(fmt.Sprintf("value-%d ", j), 50)
				want[key] = value
				msgs = append(msgs, kafka.Message{Key: []byte(key), Value: []byte(value), Headers: []kafka.Header{{Key: "h", Value: []byte(key)}}})
			}
			if err := p.WriteMessages(t.Context(), msgs...); err != nil {
				t.Fatal(err)
			}

			used := map[int32]bool{}
			chosen := kafkax.NewBalancer(balancer)
			for _, r := range stored(t, c.Brokers(), topic, n) {
				used[r.Partition] = true
				key := string(r.Key)
				if want[key] != string(r.Value) || len(r.Headers) != 1 || string(r.Headers[0].Value) != key {
					t.Errorf("%s: got %q %v", key, r.Value, r.Headers)
				}
				delete(want, key)
				if got := int(r.Attrs.CompressionType()); got != i {
					t.Errorf("codec %d, want %d", got, i)
				}
				if i < 3 { // The others do not look at the key.
					if got := chosen.Balance(kafka.Message{Topic: topic, Key: r.Key}, partitionsOf(partitions)...); got != int(r.Partition) {
						t.Errorf("%s is in partition %d, want %d", key, r.Partition, got)
					}
				}
			}
			if len(want) != 0 || len(used) != partitions {
				t.Errorf("%d missing; partitions %v", len(want), used)
			}
		})
	}
}

func TestP2_RealRefusedRecordFailsAlone(t *testing.T) {
	t.Parallel()
	c := kafkatest.Shared(t)
	tests := []struct {
		name   string
		config string
		bad    kafka.Message
		want   kafka.Error
	}{
		{"no_key_in_compacted_topic", "cleanup.policy=compact", kafka.Message{Value: []byte("bad")}, kafka.InvalidRecord},
		{"over_max_message_bytes", "max.message.bytes=2000", kafka.Message{Key: []byte("k"), Value: make([]byte, 3000)}, kafka.MessageSizeTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			topic := c.Topic(t, 1, tt.config)
			p := produceToReal(t, c, topic, kafkax.WithProducerCompression("none"))
			var msgs []kafka.Message
			var want []string
			for i := range 30 {
				key := fmt.Sprintf("key-%02d", i)
				msgs = append(msgs, kafka.Message{Key: []byte(key), Value: make([]byte, 200)})
				if i != 11 {
					want = append(want, key)
				}
			}
			msgs[11] = tt.bad

			err := p.WriteMessages(t.Context(), msgs...)
			if got := failedIndexes(t, err); !slices.Equal(got, []int{11}) || !errors.Is(err, tt.want) {
				t.Errorf("failed %v: %v", got, err)
			}
			var got []string
			for _, r := range stored(t, c.Brokers(), topic, len(want)) {
				got = append(got, string(r.Key))
			}
			if !slices.Equal(got, want) {
				t.Errorf("stored %q, want %q: in order, each once", got, want)
			}
		})
	}
}

// One node of three is killed as kill -9 does while many send with the
// defaults. P1: what was acknowledged is there. P4: no send fails. P9: nothing
// is there twice.
func TestP1P4P9_RealKilledLeader(t *testing.T) {
	t.Parallel()
	c := kafkatest.Start(t, 3)
	const partitions, senders = 6, 24
	topic := c.Topic(t, partitions)
	p := produceToReal(t, c, topic)

	var (
		wg      sync.WaitGroup
		stop    atomic.Bool
		acked   [senders]int
		sent    atomic.Int64
		slowest atomic.Int64
	)
	for s := range senders {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				begin := time.Now()
				if err := p.SendMessage(t.Context(), fmt.Appendf(nil, "%d", n), fmt.Appendf(nil, "%d/%d", s, n)); err != nil {
					t.Errorf("sender %d, message %d: %v", s, n, err)
					return
				}
				acked[s]++
				sent.Add(1)
				if took := int64(time.Since(begin)); took > slowest.Load() {
					slowest.Store(took)
				}
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	moreThan := func(n int64) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); sent.Load() < n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) || t.Failed() {
				t.Fatalf("%d sends, want %d", sent.Load(), n)
			}
		}
	}
	moreThan(1000)
	leader := c.Leader(t, topic, 0)
	c.Kill(t, leader)
	// All senders are soon stuck behind the dead node's partitions, so these
	// come when the others have taken them over.
	moreThan(sent.Load() + 5000)
	stop.Store(true)
	wg.Wait()

	total := 0
	for _, n := range acked {
		total += n
	}
	t.Logf("node %d killed; %d sends, the slowest %s, %d retries", leader, total, time.Duration(slowest.Load()), p.Stats().Retries)
	seen := map[string]int{}
	for _, r := range stored(t, c.Brokers(), topic, total) {
		seen[string(r.Value)]++
	}
	for s, n := range acked {
		for i := range n {
			if v := fmt.Sprintf("%d/%d", s, i); seen[v] != 1 {
				t.Errorf("%s is stored %d times", v, seen[v])
			}
		}
	}
	if got := logEnds(t, c.Brokers(), topic, partitions); got != int64(total) {
		t.Errorf("the log has %d records, %d were acknowledged", got, total)
	}
}
