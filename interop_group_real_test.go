package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
)

// groupOffsets is a line of Kafka's group tool.
type groupOffsets struct {
	current, end, lag int64
	clientID          string
}

// groupTool runs kafka-consumer-groups.sh. By itself that gives up after 5 s,
// which a busy machine may take, and then it says so and exits with 0.
func groupTool(t *testing.T, c *kafkatest.Cluster, args ...string) string {
	t.Helper()
	return c.Tool(t, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", append([]string{"--timeout", "30000"}, args...)...)
}

// describeGroup returns what the tool says of a topic's partitions.
func describeGroup(t *testing.T, c *kafkatest.Cluster, group, topic string) map[int]groupOffsets {
	t.Helper()
	output := groupTool(t, c, "--describe", "--group", group)
	var columns []string
	described := map[int]groupOffsets{}
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if slices.Contains(fields, "CURRENT-OFFSET") {
			columns = fields
		}
		if len(fields) < 2 || fields[0] != group || fields[1] != topic {
			continue
		}
		column := func(name string) string {
			i := slices.Index(columns, name)
			if i < 0 || i >= len(fields) {
				t.Fatalf("no column %s in\n%s", name, output)
			}
			return fields[i]
		}
		number := func(name string) int64 {
			n, err := strconv.ParseInt(column(name), 10, 64)
			if err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, output)
			}
			return n
		}
		described[int(number("PARTITION"))] = groupOffsets{
			current:  number("CURRENT-OFFSET"),
			end:      number("LOG-END-OFFSET"),
			lag:      number("LAG"),
			clientID: column("CLIENT-ID"),
		}
	}
	if len(described) == 0 {
		t.Fatalf("the tool says nothing of %s:\n%s", topic, output)
	}
	return described
}

// Three handlers stand still, each in its partition, while messages go on
// coming: the tool and Lag count the same.
func TestInterop_LagIsTheGroupTools(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	const partitions, first, more = 3, 50, 5
	stopAt := []int64{10, 20, 30}
	b := realBroker(t, cluster, partitions)
	b.produce(t, numbered(partitions, first)...)
	group := kafkatest.Name(t)
	c := b.consumer(
		t, group,
		kafkax.WithConsumerClientID("interop-lag"),
		kafkax.WithConsumerIsolationLevel(kafkax.ReadCommitted),
		kafkax.WithConsumerConcurrency(partitions),
		kafkax.WithConsumerCommitInterval(20*time.Millisecond),
		kafkax.WithConsumerReadLagInterval(100*time.Millisecond),
	)
	goOn := make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
			if m.Offset == stopAt[m.Partition] {
				<-goOn
			}
			return nil
		})
	})
	t.Cleanup(release) // before the consumer is closed

	committedIs := func(want ...int64) func() bool {
		return func() bool {
			for p := range partitions {
				if b.committed(t, group, p) != want[p] {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "the handlers to stand still", committedIs(stopAt...))
	b.produce(t, numbered(partitions, more)...)
	const behind = partitions*(first+more) - 10 - 20 - 30
	eventually(t, fmt.Sprintf("a lag of %d", behind), func() bool { return c.Lag() == behind })

	sum := int64(0)
	described := describeGroup(t, cluster, group, b.topic)
	for p := range partitions {
		got := described[p]
		sum += got.lag
		want := groupOffsets{stopAt[p], first + more, first + more - stopAt[p], "interop-lag"}
		if got != want {
			t.Errorf("the tool says of partition %d: %+v, want %+v", p, got, want)
		}
	}
	if lag := c.Lag(); lag != sum {
		t.Errorf("Lag is %d, the tool's %d", lag, sum)
	}

	// An aborted transaction at the end of the log holds nothing to handle,
	// but offsets to pass.
	release()
	franz.write(t, cluster, peerBatch{Topic: b.topic, Compression: "none", Transaction: aborted, Messages: marked("aborted")})
	const end = partitions*(first+more) + 3 + 1 // the last is the marker
	eventually(t, "the transaction's marker", func() bool { return logEnds(t, b.addrs, b.topic, partitions) == end })
	eventually(t, "all to be handled and committed", func() bool {
		sum := int64(0)
		for p := range partitions {
			sum += b.committed(t, group, p)
		}
		return sum == end && c.Lag() == 0
	})
	for p, got := range describeGroup(t, cluster, group, b.topic) {
		if got.lag != 0 {
			t.Errorf("all is handled, and the tool says of partition %d: %+v", p, got)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// The tool sees what kafkax committed, and moves it back and forward while the
// group is stopped: kafkax goes on from there.
func TestInterop_ResetByTheGroupTool(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	const partitions, each, handled = 2, 20, 10
	b := realBroker(t, cluster, partitions)
	b.produce(t, numbered(partitions, handled)...)
	group := kafkatest.Name(t)

	consume := func(want int) *journal {
		t.Helper()
		c, j := b.consumer(t, group), newJournal()
		stop := run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
		})
		eventually(t, fmt.Sprintf("%d messages", want), func() bool { return j.len() >= want })
		if err := errors.Join(stop(), c.Close()); err != nil {
			t.Error(err)
		}
		return j
	}
	consume(partitions * handled)
	b.produce(t, offsetBy(handled, numbered(partitions, each-handled))...)

	// It prints GROUP TOPIC PARTITION ... NEW-OFFSET.
	for partition, shift := range []int{-4, +3} {
		output := groupTool(
			t, cluster, "--reset-offsets", "--group", group, "--topic", fmt.Sprintf("%s:%d", b.topic, partition),
			"--shift-by", strconv.Itoa(shift), "--execute",
		)
		want := handled + shift
		if got := b.committed(t, group, partition); got != int64(want) {
			t.Fatalf("partition %d: committed %d after the reset, want %d: the tool did not see the commit of %d\n%s", partition, got, want, handled, output)
		}
	}

	var want []string
	for i := handled - 4; i < each; i++ {
		want = append(want, fmt.Sprintf("0/%d", i))
	}
	for i := handled + 3; i < each; i++ {
		want = append(want, fmt.Sprintf("1/%d", i))
	}
	j := consume(len(want))
	j.ordered(t)
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(j.seen)); !slices.Equal(got, want) {
		t.Errorf("after the reset it handled\n\t%q, want\n\t%q", got, want)
	}
	for p := range partitions {
		if got := b.committed(t, group, p); got != each {
			t.Errorf("partition %d: committed %d, want %d", p, got, each)
		}
	}
}

// offsetBy renumbers records of numbered, to follow others.
func offsetBy(n int, records []*kgo.Record) []*kgo.Record {
	for _, r := range records {
		p, i, _ := strings.Cut(string(r.Value), "/")
		place, _ := strconv.Atoi(i) // numbered wrote it
		r.Value = fmt.Appendf(nil, "%s/%d", p, place+n)
	}
	return records
}

// A service moves from kafka-go to kafkax, and back, one instance at a time:
// the two share the partitions, and take over from each other.
func TestInterop_GroupWithKafkaGo(t *testing.T) {
	t.Parallel()
	const partitions = 4
	b := realBroker(t, kafkatest.Shared(t), partitions)
	group := kafkatest.Name(t)
	byKafkax, byKafkaGo := newJournal(), newJournal()
	kafkaxMember := func(ctx context.Context) error {
		c := b.consumer(t, group)
		err := c.Consume(ctx, func(_ context.Context, m kafka.Message) error { byKafkax.add(m); return nil })
		return errors.Join(err, c.Close())
	}
	kafkaGoMember := func(ctx context.Context) error { return readWithKafkaGo(ctx, b, group, byKafkaGo) }

	var produced []string
	next := 0
	// round produces to every partition, waits until each message was handled,
	// and returns how many partitions each member had.
	round := func() (ours, theirs int) {
		t.Helper()
		const each = 5
		records := offsetBy(next, numbered(partitions, each))
		next += each
		b.produce(t, records...)
		for _, r := range records {
			produced = append(produced, string(r.Value))
		}
		eventually(t, "all of a round to be handled", func() bool { return len(missing(produced, byKafkax, byKafkaGo)) == 0 })
		for p := range partitions {
			last := fmt.Sprintf("%d/%d", p, next-1)
			ours += min(byKafkax.count(last), 1)
			theirs += min(byKafkaGo.count(last), 1)
		}
		return ours, theirs
	}
	// until repeats rounds, as a rebalance may take its time.
	until := func(what string, wantOurs, wantTheirs int) {
		t.Helper()
		eventuallyWithin(t, time.Minute, what, func() bool {
			ours, theirs := round()
			return ours == wantOurs && theirs == wantTheirs
		})
	}

	stopKafkaGo := run(t, kafkaGoMember)
	until("kafka-go to have all", 0, partitions)
	stopKafkax := run(t, kafkaxMember)
	until("an equal share, as kafka-go assigned it", partitions/2, partitions/2)
	if err := stopKafkaGo(); err != nil {
		t.Errorf("kafka-go: %v", err)
	}
	until("kafkax to take over", partitions, 0)
	stopKafkaGo = run(t, kafkaGoMember)
	until("an equal share, as kafkax assigned it", partitions/2, partitions/2)
	if err := stopKafkax(); err != nil {
		t.Errorf("kafkax: %v", err)
	}
	until("kafka-go to take over", 0, partitions)
	if err := stopKafkaGo(); err != nil {
		t.Errorf("kafka-go: %v", err)
	}

	if d := byKafkax.duplicates(); len(d) > 0 {
		t.Errorf("kafkax handled twice: %q", d)
	}
	for p := range partitions {
		if got := b.committed(t, group, p); got != int64(next) {
			t.Errorf("partition %d: committed %d, want %d", p, got, next)
		}
	}
}

func (j *journal) count(value string) int { j.mu.Lock(); defer j.mu.Unlock(); return j.n[value] }

// missing are the values that none of the journals has.
func missing(values []string, journals ...*journal) []string {
	var none []string
	for _, v := range values {
		if !slices.ContainsFunc(journals, func(j *journal) bool { return j.count(v) > 0 }) {
			none = append(none, v)
		}
	}
	return none
}

// readWithKafkaGo is the loop of kafka-go's own documentation. What is wrong
// for a moment, as while a fresh cluster makes the topic for offsets, comes to
// its caller.
func readWithKafkaGo(ctx context.Context, b *broker, group string, j *journal) error {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers:           b.addrs,
		GroupID:           group,
		Topic:             b.topic,
		StartOffset:       kafka.FirstOffset,
		HeartbeatInterval: 100 * time.Millisecond,
		JoinGroupBackoff:  100 * time.Millisecond,
		MaxWait:           100 * time.Millisecond,
	})
	for {
		m, err := r.FetchMessage(ctx)
		if err == nil {
			j.add(m)
			err = r.CommitMessages(context.WithoutCancel(ctx), m)
		}
		if ctx.Err() != nil {
			return r.Close()
		}
		if err != nil && !kafkax.IsRetryable(err) {
			return errors.Join(err, r.Close())
		}
	}
}
