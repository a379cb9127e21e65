package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"net"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
)

func partitionsOf(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// The hashes are those that Kafka's own UtilsTest expects of Utils.murmur2.
func TestMurmur2IsJavas(t *testing.T) {
	t.Parallel()
	tests := []struct {
		key  string
		hash int32
	}{
		{"21", -973932308},
		{"foobar", -790332482},
		{"a-little-bit-long-string", -985981536},
		{"a-little-bit-longer-string", -1486304829},
		{"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
		{"abc", 479470107},
	}
	b := kafkax.NewBalancer(kafkax.BalancerMurmur2)
	for _, tt := range tests {
		for _, n := range []int{1, 2, 3, 6, 7, 12, 100, 1009} {
			want := int(tt.hash&0x7fffffff) % n // Utils.toPositive(hash) % n
			if got := b.Balance(kafka.Message{Key: []byte(tt.key)}, partitionsOf(n)...); got != want {
				t.Errorf("%q of %d: got %d, want %d", tt.key, n, got, want)
			}
		}
	}
}

func TestCRC32IsLibrdkafkas(t *testing.T) {
	t.Parallel()
	b := kafkax.NewBalancer(kafkax.BalancerCRC32)
	// zlib's check value, so that the rest of the test rests on the right CRC.
	if crc32.ChecksumIEEE([]byte("123456789")) != 0xcbf43926 {
		t.Fatal("not zlib's CRC-32")
	}
	for i := range 100 {
		key := fmt.Appendf(nil, "key-%d", i)
		if got, want := b.Balance(kafka.Message{Key: key}, partitionsOf(7)...), int(crc32.ChecksumIEEE(key)%7); got != want {
			t.Errorf("%s: got %d, want %d", key, got, want)
		}
	}
}

func TestHashIsSaramas(t *testing.T) {
	t.Parallel()
	b := kafkax.NewBalancer(kafkax.BalancerHash)
	for i := range 100 {
		key := fmt.Appendf(nil, "key-%d", i)
		h := fnv.New32a()
		_, _ = h.Write(key)
		want := int32(h.Sum32()) % 7
		if want < 0 {
			want = -want
		}
		if got := b.Balance(kafka.Message{Key: key}, partitionsOf(7)...); got != int(want) {
			t.Errorf("%s: got %d, want %d", key, got, want)
		}
	}
}

// franz-go's partitioners are written independently of kafka-go's balancers.
func TestBalancersAgreeWithFranzGo(t *testing.T) {
	t.Parallel()
	fnv32a := func(key []byte) uint32 {
		h := fnv.New32a()
		_, _ = h.Write(key)
		return h.Sum32()
	}
	for balancer, partitioner := range map[kafkax.Balancer]kgo.Partitioner{
		kafkax.BalancerMurmur2: kgo.StickyKeyPartitioner(nil),
		kafkax.BalancerHash:    kgo.StickyKeyPartitioner(kgo.SaramaCompatHasher(fnv32a)),
	} {
		b, other := kafkax.NewBalancer(balancer), partitioner.ForTopic("orders")
		for i := range 1000 {
			key := fmt.Appendf(nil, "key-%d", i)
			for _, n := range []int{1, 6, 7, 32} {
				got, want := b.Balance(kafka.Message{Topic: "orders", Key: key}, partitionsOf(n)...), other.Partition(&kgo.Record{Key: key}, n)
				if got != want {
					t.Fatalf("%s: %s of %d: got %d, want %d", balancer, key, n, got, want)
				}
			}
		}
	}
}

func TestBalancersWithoutAKey(t *testing.T) {
	t.Parallel()
	const n, sends = 4, 400
	tests := []struct {
		balancer kafkax.Balancer
		key      []byte
		spread   bool // else one partition gets all
	}{
		{kafkax.BalancerMurmur2, nil, true},
		{kafkax.BalancerMurmur2, []byte{}, false},
		{kafkax.BalancerCRC32, nil, true},
		{kafkax.BalancerCRC32, []byte{}, true},
		{kafkax.BalancerHash, nil, true},
		{kafkax.BalancerHash, []byte{}, false},
		{kafkax.BalancerRoundRobin, []byte("k"), true},
		{kafkax.BalancerLeastBytes, []byte("k"), true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s_%#v", tt.balancer, tt.key), func(t *testing.T) {
			t.Parallel()
			b := kafkax.NewBalancer(tt.balancer)
			used := map[int]int{}
			for range sends {
				used[b.Balance(kafka.Message{Topic: "orders", Key: tt.key, Value: []byte("v")}, partitionsOf(n)...)]++
			}
			if want := map[bool]int{true: n, false: 1}[tt.spread]; len(used) != want {
				t.Errorf("used %v, want %d partition(s)", used, want)
			}
		})
	}
}

// Two topics written in turn: with one balancer for both, each would get every
// second partition, or lose its counts.
func TestBalancersKeepTopicsApart(t *testing.T) {
	t.Parallel()
	for _, kind := range []kafkax.Balancer{kafkax.BalancerRoundRobin, kafkax.BalancerLeastBytes, kafkax.BalancerHash} {
		b := kafkax.NewBalancer(kind)
		used := map[string]map[int]int{"a": {}, "b": {}}
		for range 120 {
			used["a"][b.Balance(kafka.Message{Topic: "a", Value: []byte("v")}, partitionsOf(4)...)]++
			used["b"][b.Balance(kafka.Message{Topic: "b", Value: []byte("v")}, partitionsOf(6)...)]++
		}
		for topic, n := range map[string]int{"a": 4, "b": 6} {
			for p := range n {
				if got := used[topic][p]; got != 120/n {
					t.Errorf("%s: %s[%d] got %d of 120, want %d", kind, topic, p, got, 120/n)
				}
			}
		}
	}
}

func TestBalancerWithoutPartitionsDoesNotPanic(t *testing.T) {
	t.Parallel()
	for _, kind := range []kafkax.Balancer{"murmur2", "crc32", "hash", "round_robin", "least_bytes"} {
		if got := kafkax.NewBalancer(kind).Balance(kafka.Message{Key: []byte("k")}); got != 0 {
			t.Errorf("%s: got %d", kind, got)
		}
	}
}

// The check must not let through what the Writer then fails the whole call for,
// nor refuse what it would take.
func TestMessageSizeIsTheWriters(t *testing.T) {
	t.Parallel()
	messages := []kafka.Message{
		{},
		{Key: []byte("k"), Value: make([]byte, 1000)},
		{Headers: []kafka.Header{{Key: "a"}}},
		{Headers: []kafka.Header{{Key: string(make([]byte, 63)), Value: make([]byte, 64)}}},
		{Headers: []kafka.Header{{Key: string(make([]byte, 8191)), Value: make([]byte, 8192)}}},
		{Headers: make([]kafka.Header, 64)},
		{Headers: make([]kafka.Header, 200), Value: make([]byte, 70000)},
	}
	for i, m := range messages {
		size := kafkax.MessageSize(m)
		m.Topic = "orders"
		for limit, tooLarge := range map[int]bool{size: false, size - 1: true} {
			w := &kafka.Writer{Addr: kafka.TCP("127.0.0.1:1"), BatchBytes: int64(limit), Transport: noTransport{}}
			var got kafka.MessageTooLargeError
			if err := w.WriteMessages(t.Context(), m); errors.As(err, &got) != tooLarge {
				t.Errorf("message %d of %d bytes with batch_bytes %d: %v", i, size, limit, err)
			}
		}
	}
}

type noTransport struct{}

func (noTransport) RoundTrip(context.Context, net.Addr, kafka.Request) (kafka.Response, error) {
	return nil, errors.New("not in this test")
}
