package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
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

	"github.com/bi-common/kafkax"
)

// on is the same cluster with another topic.
func (b *broker) on(topic string) *broker {
	return &broker{Cluster: b.Cluster, topic: topic, addrs: b.addrs, dial: b.dial}
}

// client is kafka-go's. It never has a broker create a topic because it asks
// about it.
func (b *broker) client() (client *kafka.Client, closeClient func()) {
	transport := &kafka.Transport{Dial: b.dial}
	return &kafka.Client{Addr: kafka.TCP(b.addrs...), Transport: transport}, transport.CloseIdleConnections
}

// multi makes a consumer of topics that joins group, and closes it with the
// test.
func (b *broker) multi(t testing.TB, group string, topics []string, opts ...kafkax.ConsumerOption) *kafkax.MultiTopicConsumer {
	t.Helper()
	opts = append([]kafkax.ConsumerOption{
		kafkax.WithConsumerBrokers(b.addrs...),
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
	m, err := kafkax.NewMultiTopicConsumer(topics, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// journals has one for each topic, and handlers that write to them.
func journals(topics ...string) (map[string]*journal, map[string]kafkax.Handler) {
	js, handlers := map[string]*journal{}, map[string]kafkax.Handler{}
	for _, topic := range topics {
		j := newJournal()
		js[topic] = j
		handlers[topic] = func(_ context.Context, m kafka.Message) error {
			if m.Topic != topic {
				return fmt.Errorf("the handler of %s was given a message of %s", topic, m.Topic)
			}
			j.add(m)
			return nil
		}
	}
	return js, handlers
}

// countJoins counts the JoinGroup requests.
func (b *broker) countJoins() *atomic.Int64 {
	joins := new(atomic.Int64)
	b.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		joins.Add(1)
		return nil, nil, false
	})
	return joins
}

// position is like committed, and -1 also where the group is not known yet.
func (b *broker) position(t testing.TB, group string, partition int) int64 {
	t.Helper()
	client, closeClient := b.client()
	defer closeClient()
	res, err := client.OffsetFetch(testContext(t), &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{b.topic: {partition}}})
	if err != nil || len(res.Topics[b.topic]) != 1 || res.Topics[b.topic][0].Error != nil {
		return -1
	}
	return res.Topics[b.topic][0].CommittedOffset
}

func (b *broker) createPartitions(t testing.TB, topic string, count int) {
	t.Helper()
	client, closeClient := b.client()
	defer closeClient()
	res, err := client.CreatePartitions(testContext(t), &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: int32(count)}},
	})
	if err == nil {
		err = res.Errors[topic]
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewMultiTopicConsumer_ReportsEveryProblemOnce(t *testing.T) {
	t.Parallel()
	good := []kafkax.ConsumerOption{kafkax.WithConsumerBrokers("localhost:9092"), kafkax.WithConsumerGroupID("g")}
	tests := []struct {
		name   string
		topics []string
		opts   []kafkax.ConsumerOption
		want   []string // one a problem, found in it
		is     error
	}{
		{name: "no_topics", opts: good, want: []string{"topics: at least one"}, is: kafkax.ErrNoTopic},
		{name: "empty_topic", topics: []string{"a", ""}, opts: good, want: []string{"topics: at least one"}, is: kafkax.ErrNoTopic},
		{name: "twice", topics: []string{"a", "b", "a"}, opts: good, want: []string{"topics = a: is given twice"}},
		{name: "bad_names", topics: []string{"a b", "ok", "c/d"}, opts: good, want: []string{"a b", "c/d"}},
		{name: "dead_letter_topic", topics: []string{"a", "a.dlq"}, opts: append(slices.Clip(good), kafkax.WithConsumerDLQTopic("a.dlq")), want: []string{"consumer.dlq_topic"}},
		{name: "no_brokers", topics: []string{"a", "b"}, opts: good[1:], want: []string{"brokers"}, is: kafkax.ErrNoBrokers},
		{name: "nil_option", topics: []string{"a", "b"}, opts: append(slices.Clip(good), nil), want: []string{"option 3"}},
		{
			name:   "certificate",
			topics: []string{"a", "b"},
			opts:   append(slices.Clip(good), kafkax.WithConsumerTLSEnabled(true), kafkax.WithConsumerTLSCAFile("no/such/file")),
			want:   []string{"tls.ca_file"},
		},
		{
			name:   "all_at_once",
			topics: []string{"a b", "", "c", "c"},
			opts:   []kafkax.ConsumerOption{kafkax.WithConsumerMaxBytes(-1)},
			want:   []string{"a b", "consumer.max_bytes", "brokers", "topics: at least one", "topics = c", "consumer.group_id"},
			is:     kafkax.ErrNoBrokers,
		},
		{name: "nothing_at_all", want: []string{"topics: at least one", "brokers", "consumer.group_id"}, is: kafkax.ErrNoTopic},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := kafkax.NewMultiTopicConsumer(tt.topics, tt.opts...)
			if m != nil || !errors.Is(err, kafkax.ErrInvalidConfig) {
				t.Fatalf("got %v, %v; want an error matching ErrInvalidConfig", m, err)
			}
			checkProblems(t, err, tt.want)
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v does not match %v", err, tt.is)
			}
		})
	}
}

// checkProblems wants each of want in one problem of err, and no other problem.
func checkProblems(t *testing.T, err error, want []string) {
	t.Helper()
	problems := strings.Split(err.Error(), "\n")
	if len(problems) != len(want) {
		t.Errorf("%d problems, want %d:\n%v", len(problems), len(want), err)
	}
	for _, w := range want {
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, w) }) {
			t.Errorf("no problem with %q in:\n%v", w, err)
		}
	}
}

func TestNewMultiTopicConsumer_IgnoresConfiguredTopic(t *testing.T) { //nolint:paralleltest // sets the environment
	for _, topic := range []string{"elsewhere", "not a topic", "b"} {
		t.Setenv("KAFKAX_CONSUMER_TOPIC", topic)
		m, err := kafkax.NewMultiTopicConsumer([]string{"a", "b"},
			kafkax.WithConsumerBrokers("localhost:9092"), kafkax.WithConsumerGroupID("g"), kafkax.WithConsumerTopic("another"))
		if err != nil {
			t.Fatalf("KAFKAX_CONSUMER_TOPIC=%q: %v", topic, err)
		}
		for _, topic := range []string{"a", "b"} {
			if got := m.Consumer(topic).Config().Topic; got != topic {
				t.Errorf("the consumer of %s has topic %q", topic, got)
			}
		}
	}
}

func TestMultiTopicConsumer_ChecksHandlersBeforeAnythingElse(t *testing.T) { //nolint:tparallel // the requests of all are counted in the end
	t.Parallel()
	b := startBroker(t, 1)
	requests := countRequests(b.Cluster)
	ok := func(context.Context, kafka.Message) error { return nil }
	tests := []struct {
		name     string
		handlers map[string]kafkax.Handler
		opts     []kafkax.ConsumeOption
		want     []string
	}{
		{name: "nil_map", want: []string{"handlers = a: the topic has no handler", "handlers = b: the topic has no handler"}},
		{name: "topic_without_handler", handlers: map[string]kafkax.Handler{"a": ok}, want: []string{"handlers = b: the topic has no handler"}},
		{name: "handler_without_topic", handlers: map[string]kafkax.Handler{"a": ok, "b": ok, "c": ok}, want: []string{"handlers = c: is not one of"}},
		{name: "nil_handler", handlers: map[string]kafkax.Handler{"a": ok, "b": nil}, want: []string{"handlers = b: the handler is nil"}},
		{
			name:     "all_at_once",
			handlers: map[string]kafkax.Handler{"a": nil, "d": nil, "c": ok},
			opts:     []kafkax.ConsumeOption{kafkax.WithConcurrency(-1), nil, kafkax.WithDLQTopic("b")},
			want:     []string{"handlers = a", "handlers = b", "handlers = c", "handlers = d", "consumer.concurrency", "option 2", "consumer.dlq_topic"},
		},
	}
	m := b.multi(t, "g", []string{"a", "b"})
	for _, tt := range tests {
		for name, consume := range map[string]func(context.Context, map[string]kafkax.Handler, ...kafkax.ConsumeOption) error{
			"Consume": m.Consume, "ConsumeWithManualCommit": m.ConsumeWithManualCommit,
			"ConsumeBatch": func(ctx context.Context, handlers map[string]kafkax.Handler, opts ...kafkax.ConsumeOption) error {
				return m.ConsumeBatch(ctx, asBatches(handlers), opts...)
			},
		} {
			t.Run(tt.name+"/"+name, func(t *testing.T) { //nolint:paralleltest // the requests are counted after it
				err := consume(testContext(t), tt.handlers, tt.opts...)
				if !errors.Is(err, kafkax.ErrInvalidConfig) {
					t.Fatalf("err = %v, want ErrInvalidConfig", err)
				}
				checkProblems(t, err, tt.want)
			})
		}
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// asBatches makes each handler one of batches, which stops at the first error.
func asBatches(handlers map[string]kafkax.Handler) map[string]kafkax.BatchHandler {
	batches := map[string]kafkax.BatchHandler{}
	for topic, h := range handlers {
		if h == nil {
			batches[topic] = nil
			continue
		}
		batches[topic] = func(ctx context.Context, msgs []kafka.Message) error {
			for i, msg := range msgs {
				if err := h(ctx, msg); err != nil {
					return &kafkax.BatchError{Failed: map[int]error{i: err}}
				}
			}
			return nil
		}
	}
	return batches
}

func TestMultiTopicConsumer_EachTopicToItsHandler(t *testing.T) {
	t.Parallel()
	topics := []string{"a", "b", "c"}
	b := startBroker(t, 3, kfake.SeedTopics(3, topics...))
	for _, topic := range topics {
		b.on(topic).produce(t, numbered(3, 50)...)
	}
	for _, name := range []string{"Consume", "ConsumeWithManualCommit", "ConsumeBatch"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := b.multi(t, name, topics)
			js, handlers := journals(topics...)
			stop := run(t, func(ctx context.Context) error {
				opt := kafkax.WithOnFailure(kafkax.FailStop)
				switch name {
				case "ConsumeBatch":
					return m.ConsumeBatch(ctx, asBatches(handlers), opt)
				case "ConsumeWithManualCommit":
					return m.ConsumeWithManualCommit(ctx, handlers, opt)
				default:
					return m.Consume(ctx, handlers, opt)
				}
			})
			for topic, j := range js {
				eventually(t, topic, func() bool { return j.len() == 150 })
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			stats := m.Stats()
			if len(stats) != len(topics) {
				t.Errorf("Stats of %d topics, want %d", len(stats), len(topics))
			}
			for topic, j := range js {
				j.ordered(t)
				if d := j.duplicates(); d != nil {
					t.Errorf("%s: handled twice: %v", topic, d)
				}
				for p := range 3 {
					if got := b.on(topic).committed(t, name, p); got != 50 {
						t.Errorf("%s[%d]: committed %d, want 50", topic, p, got)
					}
				}
				if s := stats[topic]; s.Topic != topic || s.Messages < 150 {
					t.Errorf("%s: Stats = %+v", topic, s)
				}
			}
			if m.Consumer("d") != nil {
				t.Error("there is a consumer of a topic that was not given")
			}
		})
	}
}

// A fatal error of one topic stops the others as a stop would: what is in
// flight finishes and is committed.
func TestMultiTopicConsumer_FirstFatalErrorStopsTheOthers(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.SeedTopics(1, "bad", "slow", "idle"))
	b.on("bad").produce(t, numbered(1, 10)...)
	b.on("slow").produce(t, numbered(1, 10)...)
	m := b.multi(t, "g", []string{"idle", "slow", "bad"}, kafkax.WithConsumerCommitInterval(time.Hour))
	poison := errors.New("poison")
	slowRuns, slowMayEnd := make(chan struct{}), make(chan struct{})
	var slow atomic.Int64
	handlers := map[string]kafkax.Handler{
		"idle": func(context.Context, kafka.Message) error { return nil },
		"slow": func(ctx context.Context, _ kafka.Message) error {
			if slow.Add(1) == 3 {
				close(slowRuns)
				<-slowMayEnd
			}
			return ctx.Err()
		},
		"bad": func(_ context.Context, msg kafka.Message) error {
			if msg.Offset == 4 {
				<-slowRuns
				return kafkax.Permanent(poison)
			}
			return nil
		},
	}
	result := make(chan error, 1)
	go func() { result <- m.ConsumeWithManualCommit(testContext(t), handlers) }()
	eventually(t, "the topic that failed to be committed", func() bool { return b.on("bad").position(t, "g", 0) == 4 })
	select {
	case err := <-result:
		t.Fatalf("the loop did not wait for a handler in flight: %v", err)
	default:
	}
	close(slowMayEnd)
	err := <-result
	var failed *kafkax.HandlerError
	if !errors.As(err, &failed) || failed.Topic != "bad" || failed.Offset != 4 || !errors.Is(err, poison) {
		t.Errorf("err = %v, want the HandlerError of bad[0]@4", err)
	}
	if got := b.on("slow").committed(t, "g", 0); got < 3 || got != slow.Load() {
		t.Errorf("slow: committed %d of %d handled", got, slow.Load())
	}
	if m.IsShutdown() {
		t.Error("a loop that failed shut the consumer down")
	}
	// As with a Consumer, another loop may follow.
	js, again := journals("idle", "slow", "bad")
	stop := run(t, func(ctx context.Context) error { return m.Consume(ctx, again) })
	eventually(t, "the rest", func() bool { return js["bad"].len() == 6 && int64(js["slow"].len()) == 10-slow.Load() })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestMultiTopicConsumer_JoinsAllErrors(t *testing.T) {
	t.Parallel()
	topics := []string{"a", "b", "c"}
	b := startBroker(t, 1, kfake.SeedTopics(1, topics...))
	var together sync.WaitGroup // no handler fails before all have begun
	together.Add(len(topics))
	handlers, causes := map[string]kafkax.Handler{}, map[string]error{}
	for _, topic := range topics {
		b.on(topic).produce(t, &kgo.Record{Value: []byte("x")})
		causes[topic] = errors.New("poison in " + topic)
		handlers[topic] = func(context.Context, kafka.Message) error {
			together.Done()
			together.Wait()
			return kafkax.Permanent(causes[topic])
		}
	}
	err := b.multi(t, "g", topics).ConsumeWithManualCommit(testContext(t), handlers)
	for topic, cause := range causes {
		if !errors.Is(err, cause) {
			t.Errorf("err = %v, without that of %s", err, topic)
		}
	}
}

func TestMultiTopicConsumer_LifeCycle(t *testing.T) {
	t.Parallel()
	topics := []string{"a", "b"}
	b := startBroker(t, 1, kfake.SeedTopics(1, topics...))
	noop := func(context.Context, kafka.Message) error { return nil }
	handlers := map[string]kafkax.Handler{"a": noop, "b": noop}
	consume := func(m *kafkax.MultiTopicConsumer) func(context.Context) error {
		return func(ctx context.Context) error { return m.Consume(ctx, handlers) }
	}
	assigned := func(m *kafkax.MultiTopicConsumer) func() bool {
		return func() bool {
			s := m.Stats()
			return s["a"].Rebalances > 0 && s["b"].Rebalances > 0 && m.Consumer("a").Lag() == 0 && m.Consumer("b").Lag() == 0
		}
	}
	closed := func(t *testing.T, m *kafkax.MultiTopicConsumer) {
		t.Helper()
		ctx := testContext(t)
		if !m.IsShutdown() {
			t.Error("IsShutdown is false")
		}
		for name, err := range map[string]error{
			"Consume":                 m.Consume(ctx, handlers),
			"ConsumeWithManualCommit": m.ConsumeWithManualCommit(ctx, nil),
			"ConsumeBatch":            m.ConsumeBatch(ctx, nil),
			"Ping":                    m.Ping(ctx),
			"RunWithGracefulShutdown": m.RunWithGracefulShutdown(ctx, consume(m)),
		} {
			if !errors.Is(err, kafkax.ErrClosed) {
				t.Errorf("%s = %v, want ErrClosed", name, err)
			}
		}
		if err := errors.Join(m.Close(), m.GracefulShutdown(ctx)); err != nil {
			t.Errorf("another stop: %v", err)
		}
	}
	tests := []struct {
		name string
		test func(t *testing.T, m *kafkax.MultiTopicConsumer)
	}{
		{"closed_before_a_start", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			if m.IsShutdown() {
				t.Error("IsShutdown before a stop")
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			closed(t, m)
		}},
		{"context_ends", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			stop := run(t, consume(m))
			eventually(t, "assignments", assigned(m))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if m.IsShutdown() {
				t.Error("the end of a loop shut the consumer down")
			}
		}},
		{"context_over_already", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := m.Consume(ctx, handlers); err != nil {
				t.Fatal(err)
			}
		}},
		{"stopped_while_it_runs", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			stop := run(t, consume(m))
			eventually(t, "assignments", assigned(m))
			if err := m.GracefulShutdown(testContext(t)); err != nil {
				t.Fatal(err)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			closed(t, m)
		}},
		{"second_loop", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			stop := run(t, consume(m))
			eventually(t, "assignments", assigned(m))
			if err := m.ConsumeWithManualCommit(testContext(t), handlers); !errors.Is(err, kafkax.ErrBusy) {
				t.Errorf("a second loop: %v, want ErrBusy", err)
			}
			if err := m.Consumer("b").Consume(testContext(t), noop); !errors.Is(err, kafkax.ErrBusy) {
				t.Errorf("a loop of one topic: %v, want ErrBusy", err)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		}},
		{"one_topic_in_use", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			stop := run(t, func(ctx context.Context) error { return m.Consumer("b").Consume(ctx, noop) })
			eventually(t, "its assignment", func() bool { return m.Consumer("b").Lag() == 0 })
			if err := m.Consume(testContext(t), handlers); !errors.Is(err, kafkax.ErrBusy) {
				t.Errorf("err = %v, want ErrBusy", err)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		}},
		{"one_topic_closed", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			stop := run(t, consume(m))
			eventually(t, "assignments", assigned(m))
			if err := m.Consumer("a").Close(); err != nil {
				t.Fatal(err)
			}
			b.on("b").produce(t, &kgo.Record{Value: []byte("x")})
			eventually(t, "the other topic to go on", func() bool { return m.Stats()["b"].Messages > 0 })
			if err := m.Ping(testContext(t)); err != nil {
				t.Errorf("Ping: %v", err)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		}},
		{"run_with_graceful_shutdown", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- m.RunWithGracefulShutdown(ctx, consume(m)) }()
			eventually(t, "assignments", assigned(m))
			cancel()
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			closed(t, m)
		}},
		{"ping_and_loggers", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			if err := m.Ping(testContext(t)); err != nil {
				t.Fatal(err)
			}
			m.SetLogger(nil, nil)
			m.SetLogger(testLogger(t), testLogger(t))
		}},
		{"nil_arguments", func(t *testing.T, m *kafkax.MultiTopicConsumer) {
			var none context.Context
			for name, err := range map[string]error{
				"Consume":                     m.Consume(none, handlers),
				"ConsumeBatch":                m.ConsumeBatch(none, nil),
				"Ping":                        m.Ping(none),
				"GracefulShutdown":            m.GracefulShutdown(none),
				"RunWithGracefulShutdown":     m.RunWithGracefulShutdown(none, consume(m)),
				"RunWithGracefulShutdown_run": m.RunWithGracefulShutdown(context.Background(), nil),
			} {
				if err == nil {
					t.Errorf("%s(nil) = nil", name)
				}
			}
			if m.IsShutdown() {
				t.Error("a call that was refused shut the consumer down")
			}
		}},
		{"nil_receiver", func(t *testing.T, _ *kafkax.MultiTopicConsumer) { closed(t, nil) }},
		{"zero_value", func(t *testing.T, _ *kafkax.MultiTopicConsumer) {
			m := new(kafkax.MultiTopicConsumer)
			closed(t, m)
			m.SetLogger(nil, nil)
			for _, m := range []*kafkax.MultiTopicConsumer{m, nil} {
				if len(m.Stats()) != 0 || len(m.PartitionLag()) != 0 || m.Consumer("a") != nil || fmt.Sprint(m) == "" {
					t.Error("there are topics")
				}
				if m.Lag() != -1 || m.Config().GroupID != "" {
					t.Errorf("Lag is %d, and the configuration has a group", m.Lag())
				}
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.test(t, b.multi(t, t.Name(), topics))
		})
	}
}

// A batch that fails for good stops every topic, and is not committed.
func TestMultiTopicConsumer_FailedBatchStopsTheOthers(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.SeedTopics(1, "bad", "good"))
	b.on("bad").produce(t, numbered(1, 10)...)
	b.on("good").produce(t, numbered(1, 10)...)
	m := b.multi(t, "g", []string{"bad", "good"})
	poison := errors.New("poison")
	var good atomic.Int64
	goodDone := make(chan struct{})
	err := m.ConsumeBatch(testContext(t), map[string]kafkax.BatchHandler{
		"good": func(_ context.Context, msgs []kafka.Message) error {
			if good.Add(int64(len(msgs))) == 10 {
				close(goodDone)
			}
			return nil
		},
		"bad": func(ctx context.Context, _ []kafka.Message) error {
			select {
			case <-goodDone:
			case <-ctx.Done():
				return ctx.Err()
			}
			return &kafkax.BatchError{Failed: map[int]error{4: kafkax.Permanent(poison)}}
		},
	}, kafkax.WithBatchSize(10))
	failed, ok := errors.AsType[*kafkax.HandlerError](err)
	if !ok || failed.Topic != "bad" || failed.Offset != 4 || !errors.Is(err, poison) {
		t.Errorf("err = %v, want the HandlerError of bad[0]@4", err)
	}
	for topic, want := range map[string]int64{"bad": 4, "good": 10} {
		if got := b.on(topic).committed(t, "g", 0); got != want {
			t.Errorf("%s: committed %d, want %d", topic, got, want)
		}
	}
}

// The lag of several topics is known when that of each is.
func TestMultiTopicConsumer_Lag(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.SeedTopics(2, "a", "b"))
	b.on("a").produce(t, numbered(2, 30)...)
	m := b.multi(t, "g", []string{"a", "b", "missing"})
	if got := m.Lag(); got != -1 {
		t.Errorf("Lag is %d before anything is read, want -1", got)
	}
	none := map[string]map[int]int64{"a": {}, "b": {}, "missing": {}}
	if got := m.PartitionLag(); !reflect.DeepEqual(got, none) {
		t.Errorf("PartitionLag is %v before anything is read, want %v", got, none)
	}

	var handled atomic.Int64
	over := make(chan struct{})
	wait := func(ctx context.Context, _ kafka.Message) error {
		if handled.Add(1) > 20 {
			<-over
		}
		return ctx.Err()
	}
	run(t, func(ctx context.Context) error {
		return m.Consume(ctx, map[string]kafkax.Handler{"a": wait, "b": wait, "missing": wait})
	})
	defer close(over) // before the loops are stopped
	eventually(t, "the lag of each partition", func() bool {
		lags := m.PartitionLag()
		return len(lags["a"]) == 2 && lags["a"][0]+lags["a"][1] == 40 && reflect.DeepEqual(lags["b"], map[int]int64{0: 0, 1: 0}) && len(lags["missing"]) == 0
	})
	if got := m.Lag(); got != -1 {
		t.Errorf("Lag is %d while a topic is missing, want -1", got)
	}

	two := b.multi(t, "g2", []string{"a", "b"})
	_, handlers := journals("a", "b")
	handlers["b"] = wait
	run(t, func(ctx context.Context) error { return two.Consume(ctx, handlers) })
	eventually(t, "the lag of both topics to be nothing", func() bool { return two.Lag() == 0 })
	b.on("b").produce(t, numbered(2, 3)...)
	eventually(t, "the lag of one to show", func() bool { return two.Lag() == 6 })
}

func TestMultiTopicConsumer_Config(t *testing.T) {
	t.Parallel()
	m := kafkax.MustNewMultiTopicConsumer([]string{"a", "b"}, kafkax.WithConsumerBrokers("localhost:9092"),
		kafkax.WithConsumerGroupID("g"), kafkax.WithConsumerTopic("elsewhere"), kafkax.WithConsumerMaxBytes(1<<20))
	t.Cleanup(func() { _ = m.Close() })
	cfg := m.Config()
	if cfg.GroupID != "g" || cfg.MaxBytes != 1<<20 || cfg.Topic != "" {
		t.Errorf("group %q, max_bytes %d, topic %q", cfg.GroupID, cfg.MaxBytes, cfg.Topic)
	}
	cfg.Brokers[0] = "elsewhere:9092"
	if got := m.Config().Brokers[0]; got != "localhost:9092" {
		t.Errorf("a change of the copy shows: brokers %s", got)
	}
	if got := m.Consumer("b").Config().Topic; got != "b" {
		t.Errorf("the consumer of b has topic %q", got)
	}
}

func TestMustNewMultiTopicConsumer(t *testing.T) {
	t.Parallel()
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, kafkax.ErrNoTopic) {
			t.Errorf("panic(%v), want the error of NewMultiTopicConsumer", err)
		}
	}()
	kafkax.MustNewMultiTopicConsumer(nil, kafkax.WithConsumerBrokers("localhost:9092"), kafkax.WithConsumerGroupID("g"))
	t.Error("no panic")
}

// One context bounds the stop of all topics, and the error names what each of
// them left behind.
func TestMultiTopicConsumer_GracefulShutdownIsOneBound(t *testing.T) {
	t.Parallel()
	topics := []string{"a", "b", "c"}
	b := startBroker(t, 1, kfake.SeedTopics(1, topics...))
	var begun sync.WaitGroup
	begun.Add(len(topics))
	handlers := map[string]kafkax.Handler{}
	for _, topic := range topics {
		b.on(topic).produce(t, &kgo.Record{Value: []byte("x")})
		handlers[topic] = func(ctx context.Context, _ kafka.Message) error {
			begun.Done()
			<-ctx.Done()
			return ctx.Err()
		}
	}
	m := b.multi(t, "g", topics)
	stop := run(t, func(ctx context.Context) error { return m.Consume(ctx, handlers) })
	begun.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := m.GracefulShutdown(ctx)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the stop took %v", took)
	}
	for _, topic := range topics {
		if err == nil || !strings.Contains(err.Error(), topic+"[0]@0") {
			t.Errorf("err = %v, which does not name what was cut off of %s", err, topic)
		}
	}
	var cut *kafkax.ShutdownError
	if err := stop(); !errors.As(err, &cut) {
		t.Errorf("the loop returned %v, want a ShutdownError", err)
	}
}

func TestC3_MultiTopicConsumerPrintsNoSecrets(t *testing.T) {
	t.Parallel()
	m, err := kafkax.NewMultiTopicConsumer([]string{"a", "b"}, kafkax.WithConsumerBrokers("localhost:9092"), kafkax.WithConsumerGroupID("g"),
		kafkax.WithConsumerSASLMechanism(kafkax.SASLPlain), kafkax.WithConsumerSASLUsername("u"), kafkax.WithConsumerSASLPassword("hush"))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, m); strings.Contains(s, "hush") || !strings.Contains(s, "a b") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}
