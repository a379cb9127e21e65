package kafkax_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
)

// broker is an in-process cluster with one topic.
type broker struct {
	*kfake.Cluster
	topic string
	addrs []string
	dial  func(ctx context.Context, network, address string) (net.Conn, error) // nil: TCP
}

func startBroker(t testing.TB, partitions int32, opts ...kfake.Opt) *broker {
	t.Helper()
	topic := "events"
	opts = append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.SeedTopics(partitions, topic),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}, opts...)
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &broker{Cluster: c, topic: topic, addrs: c.ListenAddrs()}
}

// startVirtualBroker is startBroker inside a bubble of testing/synctest, where all
// runs on the bubble's clock.
func startVirtualBroker(t testing.TB, partitions int32, opts ...kfake.Opt) *broker {
	t.Helper()
	var network kfake.VirtualNetwork
	b := startBroker(t, partitions, append([]kfake.Opt{kfake.ListenFn(network.Listen), kfake.Ports(9092)}, opts...)...)
	b.dial = network.DialContext
	return b
}

// produce writes records and returns when they are in the log.
func (b *broker) produce(t testing.TB, records ...*kgo.Record) {
	t.Helper()
	opts := []kgo.Opt{kgo.SeedBrokers(b.addrs...), kgo.DefaultProduceTopic(b.topic), kgo.RecordPartitioner(kgo.ManualPartitioner())}
	if b.dial != nil {
		opts = append(opts, kgo.Dialer(b.dial))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(testContext(t), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// numbered makes n records for each partition, with keys k0..k9 and values
// that name partition and place.
func numbered(partitions, n int) []*kgo.Record {
	var records []*kgo.Record
	for i := range n {
		for p := range partitions {
			records = append(records, &kgo.Record{
				Partition: int32(p),
				Key:       fmt.Appendf(nil, "k%d", i%10),
				Value:     fmt.Appendf(nil, "%d/%d", p, i),
			})
		}
	}
	return records
}

// consumer makes one that joins group, or without one reads partition 0, and
// closes it with the test.
func (b *broker) consumer(t testing.TB, group string, opts ...kafkax.ConsumerOption) *kafkax.Consumer {
	t.Helper()
	opts = append([]kafkax.ConsumerOption{
		kafkax.WithConsumerBrokers(b.addrs...),
		kafkax.WithConsumerTopic(b.topic),
		kafkax.WithConsumerGroupID(group),
		kafkax.WithConsumerHeartbeatInterval(100 * time.Millisecond),
		kafkax.WithConsumerMaxWait(100 * time.Millisecond),
		kafkax.WithConsumerRetryMaxAttempts(3),
		kafkax.WithConsumerRetryInitialBackoff(time.Millisecond),
		kafkax.WithConsumerErrorLogger(testLogger(t)),
	}, opts...)
	if b.dial != nil {
		opts = append([]kafkax.ConsumerOption{kafkax.WithConsumerDial(b.dial)}, opts...)
	}
	if group == "" {
		opts = append([]kafkax.ConsumerOption{kafkax.WithConsumerPartition(0)}, opts...)
	}
	c, err := kafkax.NewConsumer(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// committed is the group's offset of a partition; -1 if it has none.
func (b *broker) committed(t testing.TB, group string, partition int) int64 {
	t.Helper()
	transport := &kafka.Transport{Dial: b.dial}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.addrs...), Transport: transport}
	res, err := client.OffsetFetch(testContext(t), &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{b.topic: {partition}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Topics[b.topic]) == 0 {
		return -1 // the group does not exist yet
	}
	return res.Topics[b.topic][0].CommittedOffset
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until ok, and fails the test if it never is.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	eventuallyWithin(t, 20*time.Second, what, ok)
}

func eventuallyWithin(t testing.TB, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// testLogger keeps what is logged after the test's end out of it.
func testLogger(t testing.TB) kafka.Logger {
	var mu sync.Mutex
	over := false
	t.Cleanup(func() { mu.Lock(); defer mu.Unlock(); over = true })
	return kafka.LoggerFunc(func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			t.Logf(format, args...)
		}
	})
}

// journal records what a handler saw, in order.
type journal struct {
	mu   sync.Mutex
	seen []string
	n    map[string]int
}

func newJournal() *journal { return &journal{n: map[string]int{}} }

func (j *journal) add(m kafka.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen = append(j.seen, string(m.Value))
	j.n[string(m.Value)]++
}

func (j *journal) len() int { j.mu.Lock(); defer j.mu.Unlock(); return len(j.seen) }

func (j *journal) duplicates() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var d []string
	for v, n := range j.n {
		if n > 1 {
			d = append(d, v)
		}
	}
	return d
}

// ordered fails if the values of a partition ("p/i") did not come in order.
func (j *journal) ordered(t testing.TB) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	last := map[string]int{}
	for _, v := range j.seen {
		p, s, _ := strings.Cut(v, "/")
		var i int
		if _, err := fmt.Sscan(s, &i); err != nil {
			t.Fatalf("%q is not from numbered", v)
		}
		if prev, ok := last[p]; ok && i <= prev {
			t.Fatalf("partition %s: %d after %d", p, i, prev)
		}
		last[p] = i
	}
}

// run starts a loop and returns how to stop it and get its error.
func run(t testing.TB, loop func(ctx context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- loop(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case err = <-result:
			case <-time.After(40 * time.Second):
				err = fmt.Errorf("the loop did not end")
			}
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}
