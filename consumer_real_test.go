package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
)

// realBroker is a fresh topic on a real Kafka.
func realBroker(t testing.TB, c *kafkatest.Cluster, partitions int) *broker {
	t.Helper()
	return &broker{topic: c.Topic(t, partitions), addrs: c.Brokers()}
}

// Three members over six partitions, handlers that take their time, members
// that come and go: nothing is handled twice or out of order, no committed
// offset goes back, and none is ahead of what was handled.
func TestD3_Real_RebalancesWithSlowHandlers(t *testing.T) {
	t.Parallel()
	const partitions, each = 6, 500
	b := realBroker(t, kafkatest.Shared(t), partitions)
	b.produce(t, numbered(partitions, each)...)
	group := kafkatest.Name(t)
	j := newJournal()
	member := func(ctx context.Context) error {
		c, err := kafkax.NewConsumer(
			kafkax.WithConsumerBrokers(b.addrs...), kafkax.WithConsumerTopic(b.topic), kafkax.WithConsumerGroupID(group),
			kafkax.WithConsumerHeartbeatInterval(100*time.Millisecond), kafkax.WithConsumerSessionTimeout(10*time.Second),
			kafkax.WithConsumerCommitInterval(50*time.Millisecond),
		)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
			time.Sleep(2 * time.Millisecond) // a slow handler is the point
			j.add(m)
			return nil
		})
	}

	watched := watchCommitted(t, b, group, partitions, j)
	stopFirst := run(t, member)
	for range 4 {
		stopSecond, stopThird := run(t, member), run(t, member)
		before := j.len()
		eventually(t, "progress", func() bool { return j.len() > before+150 || j.len() == partitions*each })
		if err := errors.Join(stopSecond(), stopThird()); err != nil {
			t.Errorf("a member that left: %v", err)
		}
	}
	for n := j.len(); n < partitions*each; n = j.len() { // slow on a busy machine, but never at rest
		eventually(t, fmt.Sprintf("more than %d messages", n), func() bool { return j.len() > n })
	}
	if err := stopFirst(); err != nil {
		t.Errorf("the member that stayed: %v", err)
	}
	rebalanced := watched()
	j.ordered(t)
	if d := j.duplicates(); len(d) > 0 || j.len() != partitions*each {
		t.Errorf("handled %d of %d, twice: %v", j.len(), partitions*each, d)
	}
	for p := range partitions {
		if got := b.committed(t, group, p); got != each {
			t.Errorf("partition %d: committed %d, want %d", p, got, each)
		}
	}
	t.Logf("%d committed offsets seen", rebalanced)
}

// watchCommitted polls the group's offsets until the returned function is
// called, which says how many values it saw.
func watchCommitted(t *testing.T, b *broker, group string, partitions int, j *journal) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	transport := &kafka.Transport{}
	client := &kafka.Client{Addr: kafka.TCP(b.addrs...), Transport: transport}
	all := make([]int, partitions)
	for p := range all {
		all[p] = p
	}
	seen := 0
	var polling sync.WaitGroup
	polling.Go(func() {
		defer transport.CloseIdleConnections()
		last := make([]int64, partitions)
		for ctx.Err() == nil {
			res, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{b.topic: all}})
			if err != nil || res.Error != nil {
				continue
			}
			for _, p := range res.Topics[b.topic] {
				offset := p.CommittedOffset
				if p.Error != nil || offset < 0 {
					continue
				}
				if offset < last[p.Partition] {
					t.Errorf("D2: partition %d went back from %d to %d", p.Partition, last[p.Partition], offset)
				}
				if offset != last[p.Partition] {
					seen++
				}
				last[p.Partition] = offset
				// What was handled is in the journal before it is committed.
				j.mu.Lock()
				if offset > 0 && j.n[fmt.Sprintf("%d/%d", p.Partition, offset-1)] == 0 {
					t.Errorf("D1: partition %d is committed to %d, but %d was not handled", p.Partition, offset, offset-1)
				}
				j.mu.Unlock()
			}
		}
	})
	return func() int {
		cancel()
		polling.Wait()
		return seen
	}
}

func TestD10_Real_ReadCommittedOnEveryPath(t *testing.T) {
	t.Parallel()
	testReadCommitted(t, realBroker(t, kafkatest.Shared(t), 1))
}

func TestD10_Real_LatestIsBeforeAnOpenTransaction(t *testing.T) {
	t.Parallel()
	testLatestReadCommitted(t, realBroker(t, kafkatest.Shared(t), 1))
}

// A dead letter topic that does not exist, and then does.
func TestD5_Real_DeadLetterTopicAppears(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	b := realBroker(t, cluster, 2)
	b.produce(t, numbered(2, 10)...)
	group, dlq := kafkatest.Name(t), kafkatest.Name(t)
	onError, told := collectErrors()
	c := b.consumer(t, group, kafkax.WithConsumerDLQTopic(dlq), kafkax.WithConsumerCommitInterval(20*time.Millisecond))
	j := newJournal()
	poison := errors.New("poison")
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
			if string(m.Value) == "0/4" {
				return kafkax.Permanent(poison)
			}
			j.add(m)
			return nil
		}, kafkax.WithOnError(onError))
	})
	eventually(t, "the other partition to go on", func() bool { return j.len() >= 4+10 && b.committed(t, group, 1) == 10 })
	eventually(t, "the failed write to be reported", func() bool { return told(nil) > 0 })
	if got := b.committed(t, group, 0); got > 4 {
		t.Errorf("committed %d, past the message that is not dead-lettered", got)
	}
	if err := cluster.CreateTopic(dlq, 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the partition to go on", func() bool { return j.len() == 19 && b.committed(t, group, 0) == 10 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	letters := &broker{topic: dlq, addrs: b.addrs}
	m, err := letters.consumer(t, "").FetchMessage(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{}
	for _, h := range m.Headers {
		headers[h.Key] = string(h.Value)
	}
	if string(m.Value) != "0/4" || headers[kafkax.HeaderOriginalOffset] != "4" || headers[kafkax.HeaderError] != "poison" {
		t.Errorf("dead letter %q with headers %v", m.Value, headers)
	}
}

// A broker of three killed with -9 and started again, while many send and a
// group consumes: no send fails, nothing acknowledged is missed, and nothing is
// in the log twice.
func TestP4_D13_Real_KilledBroker(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, 3)
	const partitions = 3
	b := realBroker(t, cluster, partitions)
	group := kafkatest.Name(t)

	p, err := kafkax.NewProducer(kafkax.WithProducerBrokers(b.addrs...), kafkax.WithProducerTopic(b.topic))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var (
		mu       sync.Mutex
		acked    = map[string]bool{}
		consumed = map[string]map[int64]bool{} // value: where it is in the log
	)
	stopConsumers := func() error { return nil }
	for range 2 {
		c := b.consumer(t, group, kafkax.WithConsumerSessionTimeout(6*time.Second))
		stop, next := run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
				mu.Lock()
				defer mu.Unlock()
				if consumed[string(m.Value)] == nil {
					consumed[string(m.Value)] = map[int64]bool{}
				}
				consumed[string(m.Value)][m.Offset] = true
				return nil
			})
		}), stopConsumers
		stopConsumers = func() error { return errors.Join(stop(), next()) }
	}
	sending, stopSending := context.WithCancel(context.Background())
	defer stopSending()
	var senders sync.WaitGroup
	for s := range 8 {
		senders.Go(func() {
			for i := 0; sending.Err() == nil; i++ {
				value := fmt.Sprintf("%d/%d", s, i)
				if err := p.SendMessage(context.Background(), []byte(strconv.Itoa(s)), []byte(value)); err != nil {
					t.Errorf("P4: a send failed: %v", err)
					return
				}
				mu.Lock()
				acked[value] = true
				mu.Unlock()
				time.Sleep(time.Millisecond) // leaves the machine to the brokers
			}
		})
	}
	count := func(m func() int) int { mu.Lock(); defer mu.Unlock(); return m() }
	sent := func() int { return count(func() int { return len(acked) }) }
	progress := func(what string) {
		before := sent()
		eventuallyWithin(t, time.Minute, what, func() bool { return sent() > before+500 })
	}
	progress("sends before the kill")
	node := cluster.Leader(t, b.topic, 0)
	cluster.Kill(t, node)
	progress("sends with two nodes")
	cluster.Restart(t, node)
	progress("sends with three nodes again")
	stopSending()
	senders.Wait()
	eventuallyWithin(t, time.Minute, "all acknowledged to be consumed", func() bool {
		return count(func() int {
			missing := 0
			for v := range acked {
				if consumed[v] == nil {
					missing++
				}
			}
			return missing
		}) == 0
	})
	if err := stopConsumers(); err != nil {
		t.Errorf("the consumers: %v", err)
	}
	for v, places := range consumed {
		if len(places) > 1 {
			t.Errorf("P9: %s is in the log %d times", v, len(places))
		}
	}
	t.Logf("%d sends acknowledged", len(acked))
}

// A real cluster makes a topic again while a consumer reads it, and again while none
// does: each time all of the new one is handled, once.
func TestD12_Real_TopicMadeAgain(t *testing.T) {
	t.Parallel()
	b := realBroker(t, kafkatest.Shared(t), 1)
	group := kafkatest.Name(t)
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	admin := &kafka.Client{Addr: kafka.TCP(b.addrs...), Transport: transport}
	again := func(n int) {
		t.Helper()
		if res, err := admin.DeleteTopics(testContext(t), &kafka.DeleteTopicsRequest{Topics: []string{b.topic}}); err != nil || res.Errors[b.topic] != nil {
			t.Fatal(err, res)
		}
		eventually(t, "the topic to be made again", func() bool {
			res, err := admin.CreateTopics(testContext(t), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: b.topic, NumPartitions: 1, ReplicationFactor: 1}}})
			return err == nil && res.Errors[b.topic] == nil
		})
		b.produce(t, numbered(1, n)...)
	}
	var handled atomic.Int64
	consume := func() (stop func() error) {
		c := b.consumer(t, group, kafkax.WithConsumerCommitInterval(20*time.Millisecond))
		return run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(context.Context, kafka.Message) error { handled.Add(1); return nil })
		})
	}
	want := func(all, committed int64) {
		t.Helper()
		eventuallyWithin(t, time.Minute, fmt.Sprintf("%d to be handled and %d committed", all, committed), func() bool {
			return handled.Load() >= all && b.committed(t, group, 0) == committed
		})
		if got := handled.Load(); got != all {
			t.Errorf("%d were handled, want %d", got, all)
		}
	}
	b.produce(t, numbered(1, 100)...)
	stop := consume()
	want(100, 100)
	again(300)
	want(400, 300)
	if err := stop(); err != nil {
		t.Error(err)
	}
	again(150)
	stop = consume()
	want(550, 150)
	if err := stop(); err != nil {
		t.Error(err)
	}
}
