package kafkax_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/bi-common/kafkax"
)

// freezer makes a broker fall silent: connections stay open and answer nothing.
type freezer struct {
	mu     sync.Mutex
	frozen chan struct{} // closed by thaw; nil while not frozen
}

func (f *freezer) freeze() { f.mu.Lock(); defer f.mu.Unlock(); f.frozen = make(chan struct{}) }

func (f *freezer) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen != nil {
		close(f.frozen)
		f.frozen = nil
	}
}

func (f *freezer) wait() {
	f.mu.Lock()
	frozen := f.frozen
	f.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

func (f *freezer) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return freezingListener{l, f}, err
}

type freezingListener struct {
	net.Listener
	*freezer
}

func (l freezingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return freezingConn{c, l.freezer}, err
}

type freezingConn struct {
	net.Conn
	*freezer
}

func (c freezingConn) Write(b []byte) (int, error) { c.wait(); return c.Conn.Write(b) }

// collectErrors returns an option's function and what it was told.
func collectErrors() (func(context.Context, kafka.Message, error), func(target error) int) {
	var mu sync.Mutex
	var errs []error
	return func(_ context.Context, _ kafka.Message, err error) {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}, func(target error) int {
			mu.Lock()
			defer mu.Unlock()
			n := 0
			for _, err := range errs {
				if target == nil || errors.Is(err, target) {
					n++
				}
			}
			return n
		}
}

func TestD10_ReadCommittedOnEveryPath(t *testing.T) {
	t.Parallel()
	testReadCommitted(t, startBroker(t, 1))
}

func testReadCommitted(t *testing.T, b *broker) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.DefaultProduceTopic(b.topic), kgo.TransactionalID("tx-"+b.topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := testContext(t)
	for i := range 6 {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for k := range 3 {
			kind := "good"
			if i%2 == 1 {
				kind = "aborted"
			}
			if err := cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprintf("%s/%d", kind, i*3+k))).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(i%2 == 0)); err != nil {
			t.Fatal(err)
		}
	}
	b.produce(t, &kgo.Record{Value: []byte("last/18")})

	paths := map[string]func(t *testing.T, c *kafkax.Consumer) []string{
		"consume": func(t *testing.T, c *kafkax.Consumer) []string {
			j := newJournal()
			stop := run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
			})
			eventually(t, "the last", func() bool { j.mu.Lock(); defer j.mu.Unlock(); return slices.Contains(j.seen, "last/18") })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			return j.seen
		},
		"batch": func(t *testing.T, c *kafkax.Consumer) []string {
			j := newJournal()
			stop := run(t, func(ctx context.Context) error {
				return c.ConsumeBatch(ctx, func(_ context.Context, ms []kafka.Message) error {
					for _, m := range ms {
						j.add(m)
					}
					return nil
				}, kafkax.WithBatchTimeout(10*time.Millisecond))
			})
			eventually(t, "the last", func() bool { j.mu.Lock(); defer j.mu.Unlock(); return slices.Contains(j.seen, "last/18") })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			return j.seen
		},
		"fetch": func(t *testing.T, c *kafkax.Consumer) []string {
			var seen []string
			for !slices.Contains(seen, "last/18") {
				m, err := c.FetchMessage(testContext(t))
				if err != nil {
					t.Fatal(err)
				}
				seen = append(seen, string(m.Value))
			}
			return seen
		},
	}
	for name, path := range paths {
		for _, level := range []kafkax.IsolationLevel{kafkax.ReadCommitted, kafkax.ReadUncommitted} {
			for _, group := range []string{b.topic + name + string(level), ""} {
				t.Run(fmt.Sprintf("%s/%s/group=%t", name, level, group != ""), func(t *testing.T) {
					t.Parallel()
					seen := path(t, b.consumer(t, group, kafkax.WithConsumerIsolationLevel(level)))
					aborted := 0
					for _, v := range seen {
						switch {
						case strings.HasPrefix(v, "aborted/"):
							aborted++
						case !strings.HasPrefix(v, "good/") && !strings.HasPrefix(v, "last/"):
							t.Errorf("delivered %q, which nobody sent", v)
						}
					}
					want := 19
					if level == kafkax.ReadCommitted {
						want = 10
					}
					if len(seen) != want || (level == kafkax.ReadCommitted && aborted != 0) {
						t.Errorf("delivered %d records, %d of them aborted; want %d: %v", len(seen), aborted, want, seen)
					}
				})
			}
		}
	}
}

// "latest" is the end of what is committed: a transaction that is open at the
// start and commits later is read.
func TestD10_LatestIsBeforeAnOpenTransaction(t *testing.T) {
	t.Parallel()
	testLatestReadCommitted(t, startBroker(t, 1))
}

func testLatestReadCommitted(t *testing.T, b *broker) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.DefaultProduceTopic(b.topic), kgo.TransactionalID("open-"+b.topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := testContext(t)
	b.produce(t, &kgo.Record{Value: []byte("before")})
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(ctx, kgo.StringRecord("open")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	c := b.consumer(t, b.topic+"-latest", kafkax.WithConsumerIsolationLevel(kafkax.ReadCommitted), kafkax.WithConsumerStartOffset(kafkax.StartLatest))
	got := make(chan kafka.Message, 1)
	go func() {
		if m, err := c.FetchMessage(ctx); err == nil {
			got <- m
		}
	}()
	eventually(t, "the start to be committed", func() bool { return b.committed(t, b.topic+"-latest", 0) == 1 })
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if m := received(t, "the record of the transaction", got); string(m.Value) != "open" {
		t.Errorf("got %q, want the record of the transaction that was open", m.Value)
	}
}

// commitAs is another client's commit. An epoch of -1 is none.
func (b *broker) commitAs(t *testing.T, group string, offset int64, epoch int32, metadata string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.MaxVersions(kversion.V3_0_0()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	of, at := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	at.Offset, at.LeaderEpoch, at.Metadata = offset, epoch, &metadata
	of.Topic, of.Partitions = b.topic, append(of.Partitions, at)
	req.Topics = append(req.Topics, of)
	if res, err := req.RequestWith(testContext(t), client); err != nil || res.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(err, res)
	}
}

// noteOf is what kafkax writes beside what it commits of a topic.
func (b *broker) noteOf(topic string) string {
	id := b.TopicInfo(topic).TopicID
	return "kafkax topic-id=" + base64.RawURLEncoding.EncodeToString(id[:])
}

func TestD11_OutOfRangeFollowsOffsetReset(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		committed int64 // the log has 40 to 100
		epoch     int32 // beside it, with hasEpoch
		hasEpoch  bool
		lost      bool // the leader, since; there is one more record of the next
		noted     bool // beside it, the topic's id
		reset     kafkax.OffsetReset
		first     string // value of the first message, once one more was produced
	}{
		{name: "below_earliest", committed: 5, reset: kafkax.ResetEarliest, first: "0/40"},
		{name: "below_latest", committed: 5, reset: kafkax.ResetLatest, first: "new"},
		{name: "below_error", committed: 5, reset: kafkax.ResetError},
		{name: "above_earliest", committed: 5000, reset: kafkax.ResetEarliest, first: "0/40"},
		{name: "above_earliest_by_epoch", committed: 5000, hasEpoch: true, lost: true, reset: kafkax.ResetEarliest, first: "new"},
		{name: "above_earliest_by_the_same_epoch", committed: 5000, hasEpoch: true, reset: kafkax.ResetEarliest, first: "0/40"},
		{name: "above_earliest_by_later_epoch", committed: 5000, hasEpoch: true, epoch: 7, reset: kafkax.ResetEarliest, first: "0/40"},
		{name: "above_earliest_by_topic", committed: 5000, noted: true, reset: kafkax.ResetEarliest, first: "new"},
		{name: "below_earliest_by_topic", committed: 5, hasEpoch: true, noted: true, reset: kafkax.ResetEarliest, first: "0/40"},
		{name: "above_error_by_topic", committed: 5000, noted: true, reset: kafkax.ResetError},
		{name: "above_latest", committed: 5000, reset: kafkax.ResetLatest, first: "new"},
		{name: "above_error", committed: 5000, reset: kafkax.ResetError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 100)...)
			if err := b.DeleteRecords(b.topic, 0, 40); err != nil {
				t.Fatal(err)
			}
			epoch, note := int32(-1), ""
			if tt.hasEpoch {
				epoch = tt.epoch
			}
			if tt.noted {
				note = b.noteOf(b.topic)
			}
			b.commitAs(t, "g", tt.committed, epoch, note)
			if tt.lost {
				if err := b.MoveTopicPartition(b.topic, 0, 0); err != nil {
					t.Fatal(err)
				}
				b.produce(t, &kgo.Record{Value: []byte("new")}) // kfake knows an epoch's end by what comes after it
			}
			onError, told := collectErrors()
			c := b.consumer(t, "g", kafkax.WithConsumerOffsetReset(tt.reset), kafkax.WithConsumerCommitInterval(10*time.Millisecond))
			j := newJournal()
			consume := func(ctx context.Context) error {
				return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil }, kafkax.WithOnError(onError))
			}
			if tt.reset == kafkax.ResetError {
				if err := consume(testContext(t)); !errors.Is(err, kafkax.ErrOffsetOutOfRange) {
					t.Fatalf("loop ended with %v, want ErrOffsetOutOfRange", err)
				}
				if got := b.committed(t, "g", 0); got != tt.committed {
					t.Errorf("committed %d, want it untouched at %d", got, tt.committed)
				}
				return
			}
			stop := run(t, consume)
			eventually(t, "the reset to be reported", func() bool { return told(kafkax.ErrOffsetOutOfRange) > 0 })
			eventually(t, "the new position to be committed", func() bool {
				got := b.committed(t, "g", 0)
				return got >= 40 && got <= 101
			})
			b.produce(t, &kgo.Record{Value: []byte("new")})
			want := int64(101)
			if tt.lost {
				want++
			}
			eventually(t, "the new records", func() bool { j.mu.Lock(); defer j.mu.Unlock(); return j.n["new"] == int(want-100) })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if j.seen[0] != tt.first {
				t.Errorf("first message %q, want %q", j.seen[0], tt.first)
			}
			if c.Stats().Errors == 0 {
				t.Error("the reset was not counted")
			}
			if got := b.committed(t, "g", 0); got != want {
				t.Errorf("committed %d, want %d", got, want)
			}
		})
	}
}

func TestD12_MissingTopicIsWaitedForAndNotCreated(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.AllowAutoTopicCreation())
	joins := b.countJoins()
	onError, told := collectErrors()
	c := b.consumer(t, "g", kafkax.WithConsumerTopic("later"), kafkax.WithConsumerPartitionWatchInterval(50*time.Millisecond))
	j := newJournal()
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil }, kafkax.WithOnError(onError))
	})
	eventually(t, "the missing topic to be reported", func() bool { return told(kafka.UnknownTopicOrPartition) > 0 })
	if b.TopicInfo("later") != nil {
		t.Fatal("the consumer created the topic")
	}
	if n := joins.Load(); n != 0 {
		t.Fatalf("%d joins for a topic that does not exist", n)
	}
	if err := b.CreateTopic("later", 2, nil); err != nil {
		t.Fatal(err)
	}
	later := *b
	later.topic = "later"
	later.produce(t, numbered(2, 10)...)
	eventually(t, "the topic to be consumed", func() bool { return j.len() == 20 })

	// New partitions are noticed too, and read from their start.
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(b.addrs...), Transport: transport}
	if _, err := client.CreatePartitions(testContext(t), &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: "later", Count: 4}},
	}); err != nil {
		t.Fatal(err)
	}
	later.produce(t, &kgo.Record{Partition: 3, Value: []byte("3/0")})
	eventually(t, "the new partition to be consumed", func() bool { return j.len() == 21 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := joins.Load(); n > 4 {
		t.Errorf("%d joins, want one for each change", n)
	}
	if d := j.duplicates(); d != nil {
		t.Errorf("handled twice: %v", d)
	}
}

// A coordinator that has moved refuses the leave of a stop without naming a
// member.
func TestD4_LeaveIsRefused(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 10)...)
	var refused atomic.Int64
	b.ControlKey(int16(kmsg.LeaveGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		res := req.ResponseKind().(*kmsg.LeaveGroupResponse)
		res.ErrorCode = int16(kafka.NotCoordinatorForGroup)
		refused.Add(1)
		return res, nil, true // once
	})
	c := b.consumer(t, "g")
	j := newJournal()
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
	})
	eventually(t, "all", func() bool { return j.len() == 10 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if refused.Load() == 0 {
		t.Error("no leave was refused")
	}
	eventually(t, "the member to be gone all the same", func() bool {
		info := b.GroupInfo("g")
		return info == nil || len(info.Members) == 0
	})
}

func TestD13_SilentBrokerIsVisibleAndSurvived(t *testing.T) {
	t.Parallel()
	f := new(freezer)
	b := startBroker(t, 2, kfake.ListenFn(f.listen))
	t.Cleanup(f.thaw)
	b.produce(t, numbered(2, 10)...)
	onError, told := collectErrors()
	c := b.consumer(t, "g", kafkax.WithConsumerDialTimeout(500*time.Millisecond))
	j := newJournal()
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil }, kafkax.WithOnError(onError))
	})
	eventually(t, "the first records", func() bool { return j.len() == 20 })
	f.freeze()
	eventually(t, "the silence to be reported", func() bool { return told(nil) > 0 && c.Stats().Errors > 0 })
	f.thaw()
	b.produce(t, &kgo.Record{Value: []byte("0/10")}, &kgo.Record{Partition: 1, Value: []byte("1/10")})
	eventually(t, "the loop to go on", func() bool { j.mu.Lock(); defer j.mu.Unlock(); return j.n["0/10"] > 0 && j.n["1/10"] > 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// Whatever is logged, messages that succeed and their commits are not.
func TestNoLogLineForAMessage(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	var lines atomic.Int64
	count := kafka.LoggerFunc(func(format string, args ...any) {
		lines.Add(1)
		t.Logf(format, args...)
	})
	c := b.consumer(t, "g", kafkax.WithConsumerLogger(count), kafkax.WithConsumerErrorLogger(count))
	var handled atomic.Int64
	stop := run(t, func(ctx context.Context) error {
		return c.ConsumeWithManualCommit(ctx, func(context.Context, kafka.Message) error { handled.Add(1); return nil })
	})
	b.produce(t, numbered(1, 1)...)
	eventually(t, "the first message to be committed", func() bool { return b.committed(t, "g", 0) == 1 })
	before := lines.Load()
	for i := range int64(10) {
		b.produce(t, &kgo.Record{Value: []byte("one more")})
		eventually(t, "its commit", func() bool { return b.committed(t, "g", 0) == i+2 })
	}
	if n := lines.Load() - before; n != 0 {
		t.Errorf("%d lines for 10 messages", n)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A loop that ends with its caller's deadline ends in peace: nothing failed.
func TestD7_DeadlineOfTheLoopIsNoFailure(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 4)
	onError, told := collectErrors()
	c := b.consumer(t, "g", kafkax.WithConsumerMaxWait(2*time.Second)) // fetches are under way when it ends
	ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
	defer cancel()
	if err := c.Consume(ctx, func(context.Context, kafka.Message) error { return nil }, kafkax.WithOnError(onError)); err != nil {
		t.Error(err)
	}
	if n := told(nil); n != 0 || c.Stats().Errors != 0 {
		t.Errorf("OnError was told %d times, %d errors counted", n, c.Stats().Errors)
	}
}

// When the coordinator is silent for long enough, kafka-go gives its membership
// up without being able to leave. The group must not wait for that member until
// its session times out, 30 s by default.
func TestD13_LostMembershipHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	f := new(freezer)
	b := startBroker(t, 1, kfake.ListenFn(f.listen))
	t.Cleanup(f.thaw)
	b.produce(t, numbered(1, 10)...)
	lost := make(chan struct{})
	var once sync.Once
	c := b.consumer(t, "g", kafkax.WithConsumerDialTimeout(500*time.Millisecond), kafkax.WithConsumerCommitInterval(10*time.Millisecond))
	j := newJournal()
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil },
			kafkax.WithOnError(func(_ context.Context, _ kafka.Message, err error) {
				if strings.Contains(err.Error(), "group g: join:") {
					once.Do(func() { close(lost) })
				}
			}))
	})
	eventually(t, "the first records to be committed", func() bool { return b.committed(t, "g", 0) == 10 })
	f.freeze()
	received(t, "the membership to be given up", lost)
	f.thaw()
	b.produce(t, &kgo.Record{Value: []byte("0/10")})
	eventuallyWithin(t, 10*time.Second, "the loop to go on", func() bool { return j.len() == 11 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestD13_StopWithSilentBrokerIsBounded(t *testing.T) {
	t.Parallel()
	f := new(freezer)
	b := startBroker(t, 2, kfake.ListenFn(f.listen))
	t.Cleanup(f.thaw)
	b.produce(t, numbered(2, 10)...)
	c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Hour))
	j := newJournal()
	frozen := make(chan struct{})
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
			if string(m.Value) == "0/9" {
				<-frozen // so that it cannot be committed before
			}
			j.add(m)
			return nil
		}, kafkax.WithConcurrency(2))
	})
	eventually(t, "the first records", func() bool { return j.len() == 19 })
	f.freeze()
	close(frozen)
	eventually(t, "the last record", func() bool { return j.len() == 20 })
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := c.GracefulShutdown(ctx)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the stop took %v with a context of 300ms", took)
	}
	var cut *kafkax.ShutdownError
	if !errors.As(err, &cut) {
		t.Errorf("err = %v, want a ShutdownError: what was handled could not be committed", err)
	}
	if err := stop(); !errors.As(err, &cut) {
		t.Errorf("the loop returned %v, want the ShutdownError", err)
	}
}

func TestD13_RefusalEndsTheLoop(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		broker []kfake.Opt
		refuse bool // the password, by an answer as real brokers do: kfake hangs up
		opts   []kafkax.ConsumerOption
		want   error
	}{
		{
			name:   "wrong_password",
			broker: []kfake.Opt{kfake.EnableSASL(), kfake.User("SCRAM-SHA-256", "alice", "right")},
			refuse: true,
			opts: []kafkax.ConsumerOption{
				kafkax.WithConsumerSASLMechanism(kafkax.SASLScramSHA256),
				kafkax.WithConsumerSASLUsername("alice"), kafkax.WithConsumerSASLPassword("wrong"),
			},
			want: kafkax.ErrAuthentication,
		},
		{
			name:   "no_access_to_topic",
			broker: []kfake.Opt{kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "alice", "right")},
			opts: []kafkax.ConsumerOption{
				kafkax.WithConsumerSASLMechanism(kafkax.SASLPlain),
				kafkax.WithConsumerSASLUsername("alice"), kafkax.WithConsumerSASLPassword("right"),
			},
			want: kafkax.ErrAuthorization,
		},
	}
	for _, tt := range tests {
		for _, group := range []string{"g", ""} {
			t.Run(fmt.Sprintf("%s/group=%t", tt.name, group != ""), func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1, tt.broker...)
				if tt.refuse {
					b.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
						b.KeepControl()
						res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
						res.ErrorCode = int16(kafka.SASLAuthenticationFailed)
						return res, nil, true
					})
				}
				handle := func(context.Context, kafka.Message) error { return nil }
				if err := b.consumer(t, group, tt.opts...).Consume(testContext(t), handle); !errors.Is(err, tt.want) {
					t.Errorf("Consume = %v, want %v", err, tt.want)
				}
				if _, err := b.consumer(t, group, tt.opts...).FetchMessage(testContext(t)); !errors.Is(err, tt.want) {
					t.Errorf("FetchMessage = %v, want %v", err, tt.want)
				}
			})
		}
	}
}

// Partitions, compression and a handler that does not return: what is fetched
// and waits stays within max_bytes and a batch for each partition.
func TestD15_QueueIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	const (
		partitions = 8
		size       = 10 << 10
		maxBytes   = 1 << 20
		batch      = 1_000_000 / size // franz-go's largest, before compression
	)
	b := startBroker(t, partitions)
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.DefaultProduceTopic(b.topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	value := make([]byte, size) // zeros: compresses a thousandfold
	for i := range partitions * 500 {
		cl.Produce(testContext(t), &kgo.Record{Partition: int32(i % partitions), Value: value}, nil)
	}
	if err := cl.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}

	c := b.consumer(t, "g", kafkax.WithConsumerMaxBytes(maxBytes))
	release := make(chan struct{})
	var handled atomic.Int64
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(context.Context, kafka.Message) error {
			<-release
			handled.Add(1)
			return nil
		})
	})
	// The queue fills until nothing more is fetched.
	fetches, still := int64(-1), 0
	eventually(t, "fetching to pause", func() bool {
		if n := c.Stats().Fetches; n != fetches {
			fetches, still = n, 0
		} else {
			still++
		}
		return fetches > 0 && still > 100
	})
	// Each partition may hold a batch whatever the others hold; what goes beyond
	// that is in max_bytes.
	queued := c.Stats().QueueLength
	if queued == 0 || queued > partitions*batch+maxBytes/size {
		t.Errorf("%d records are queued, want at most a batch of %d for each of %d partitions, and max_bytes", queued, batch, partitions)
	}
	t.Logf("%d KiB queued of %d KiB in the log, max_bytes %d KiB", queued*size>>10, partitions*500*size>>10, maxBytes>>10)
	close(release)
	eventually(t, "all to be handled", func() bool { return handled.Load() == partitions*500 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
