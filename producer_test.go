package kafkax_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

const produceWait = 30 * time.Second

// produceCluster is one broker with "orders" (1 partition) and "events" (3).
func produceCluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"), kfake.SeedTopics(3, "events")}, opts...)
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// produceTo makes a producer to "orders" that is closed with the test.
func produceTo(t testing.TB, c *kfake.Cluster, opts ...kafkax.ProducerOption) *kafkax.Producer {
	t.Helper()
	opts = append([]kafkax.ProducerOption{
		kafkax.WithProducerBrokers(c.ListenAddrs()...),
		kafkax.WithProducerTopic("orders"),
	}, opts...)
	p, err := kafkax.NewProducer(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// stored reads n records of a topic back with another client.
func stored(t testing.TB, brokers []string, topic string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), produceWait)
	defer cancel()

	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read %d of %d records of %s: %v", len(records), n, topic, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func storedValues(t testing.TB, c *kfake.Cluster, topic string, n int) []string {
	t.Helper()
	var values []string
	for _, r := range stored(t, c.ListenAddrs(), topic, n) {
		values = append(values, string(r.Value))
	}
	return values
}

// onProduce lets answer give the error code of each produce request; 0 lets
// the broker do its work. It runs inside the broker, one request at a time.
func onProduce(c *kfake.Cluster, answer func(*kmsg.ProduceRequest) *kerr.Error) {
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		refusal := answer(req)
		if refusal == nil {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range req.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic = topic.Topic
			for _, partition := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode, rp.BaseOffset = partition.Partition, refusal.Code, -1
				rt.Partitions = append(rt.Partitions, rp)
			}
			res.Topics = append(res.Topics, rt)
		}
		return res, nil, true
	})
}

// hold makes the broker stop at its next produce request: arrived is closed
// then, and free lets it go on.
func hold(t testing.TB, c *kfake.Cluster) (arrived <-chan struct{}, free func()) {
	t.Helper()
	in, out := make(chan struct{}), make(chan struct{})
	free = sync.OnceFunc(func() { close(out) })
	t.Cleanup(free)
	enter := sync.OnceFunc(func() { close(in) })
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		enter()
		<-out
		c.DropControl()
		return nil, nil, false
	})
	return in, free
}

func receive[T any](t testing.TB, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(produceWait):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// goSend sends in a goroutine that ends with the test.
func goSend(t testing.TB, send func() error) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- send() }()
	return result
}

func produceErrors(t testing.TB, err error) kafkax.ProduceErrors {
	t.Helper()
	var errs kafkax.ProduceErrors
	if !errors.As(fmt.Errorf("wrapped: %w", err), &errs) {
		t.Fatalf("got %v (%T), want ProduceErrors", err, err)
	}
	return errs
}

func failedIndexes(t testing.TB, err error) []int {
	t.Helper()
	var indexes []int
	for _, e := range produceErrors(t, err) {
		indexes = append(indexes, e.Index)
	}
	return indexes
}

type logLines struct {
	mu    sync.Mutex
	lines []string
	seen  chan struct{} // one for the first line
	once  sync.Once
}

func newLogLines() *logLines { return &logLines{seen: make(chan struct{})} }

func (l *logLines) Printf(format string, args ...any) {
	l.mu.Lock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
	l.mu.Unlock()
	l.once.Do(func() { close(l.seen) })
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func TestP1_NilMeansAcknowledgedByAllInSyncReplicas(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	var acks atomic.Int32
	onProduce(c, func(req *kmsg.ProduceRequest) *kerr.Error {
		acks.Store(int32(req.Acks))
		return nil
	})
	arrived, free := hold(t, c)
	p := produceTo(t, c)

	sent := goSend(t, func() error { return p.SendMessage(t.Context(), nil, []byte("v")) })
	receive(t, arrived, "the produce request")
	select {
	case err := <-sent:
		t.Fatalf("returned %v before the broker answered", err)
	default:
	}
	free()
	if err := receive(t, sent, "the send"); err != nil {
		t.Fatal(err)
	}
	if acks.Load() != -1 {
		t.Errorf("acks = %d, want -1 (all)", acks.Load())
	}
	if got := storedValues(t, c, "orders", 1); !slices.Equal(got, []string{"v"}) {
		t.Errorf("stored %q", got)
	}
}

func TestP1_RefusedIsNotNil(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer *kerr.Error
		want   []error
	}{
		{"refused", kerr.PolicyViolation, []error{kafka.PolicyViolation}},
		{"forbidden", kerr.TopicAuthorizationFailed, []error{kafka.TopicAuthorizationFailed, kafkax.ErrAuthorization}},
		{"may_have_been_stored", kerr.UnknownServerError, []error{kafka.Unknown, kafkax.ErrOutcomeUnknown}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error { return tt.answer })
			p := produceTo(t, c)
			p.SetLogger(nil, newLogLines())

			err := p.SendMessage(t.Context(), []byte("k"), []byte("v"))
			for _, want := range tt.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want it to match %v", err, want)
				}
			}
			got := produceErrors(t, err)[0]
			if got.Index != 0 || got.Topic != "orders" || got.Partition != 0 {
				t.Errorf("got the place of %+v", got)
			}
			if strings.Contains(err.Error(), "Client") {
				t.Errorf("%q names kafka-go's internals", err)
			}
		})
	}
}

func TestRefusalByAnOldConnectionIsNotFinal(t *testing.T) {
	t.Parallel()
	for _, times := range []int32{1, 2} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			var produced atomic.Int32
			onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error {
				if n := produced.Add(1); n > 1 && n <= 1+times {
					return kerr.TopicAuthorizationFailed
				}
				return nil
			})
			p := produceTo(t, c)
			if err := p.SendMessage(t.Context(), nil, []byte("before")); err != nil {
				t.Fatal(err)
			}
			err := p.SendMessage(t.Context(), nil, []byte("refused"))
			if times == 1 && err != nil || times == 2 && !errors.Is(err, kafkax.ErrAuthorization) {
				t.Errorf("refused %d times: %v", times, err)
			}
			if err != nil && !strings.Contains(err.Error(), `allow Write on the topic "orders"`) {
				t.Errorf("%q does not say what to do", err)
			}
			if err := p.SendMessage(t.Context(), nil, []byte("after")); err != nil {
				t.Error(err)
			}
			if got := produced.Load(); got != 4 {
				t.Errorf("%d requests, want 4", got)
			}
		})
	}
}

func TestAcksReachTheBroker(t *testing.T) {
	t.Parallel()
	for acks, want := range map[kafkax.Acks]int16{kafkax.AcksAll: -1, kafkax.AcksOne: 1, kafkax.AcksNone: 0} {
		t.Run(string(acks), func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			got := make(chan int16, 1)
			onProduce(c, func(req *kmsg.ProduceRequest) *kerr.Error {
				got <- req.Acks
				return nil
			})
			p := produceTo(t, c, kafkax.WithProducerRequiredAcks(acks), kafkax.WithProducerIdempotent(acks == kafkax.AcksAll))
			if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, got, "the request"); got != want {
				t.Errorf("acks = %d, want %d", got, want)
			}
		})
	}
}

// waitFor polls: for what gives no signal.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(produceWait); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestP7_OneSendTakesMilliseconds(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c)
	took := make([]time.Duration, 21)
	for i := range took {
		begin := time.Now()
		if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	// kafka-go's default is a second; what is above a few milliseconds is a busy
	// test machine's.
	if median := took[len(took)/2]; median > 500*time.Millisecond {
		t.Errorf("median %s", median)
	}
}

func TestP7_ConcurrentSendsShareARequest(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	var requests atomic.Int32
	onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error {
		requests.Add(1)
		return nil
	})
	const n = 64
	p := produceTo(t, c, kafkax.WithProducerBatchSize(n), kafkax.WithProducerBatchTimeout(time.Hour))
	var senders sync.WaitGroup
	for range n {
		senders.Go(func() {
			if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	if got := requests.Load(); got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
}

func TestP8_PingFailsAfterTheClusterIsGone(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c)
	if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := p.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	addr := c.ListenAddrs()[0]
	c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), produceWait)
	defer cancel()
	if err := p.Ping(ctx); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v, want an error that names %s", err, addr)
	}
}

func TestMessagesArriveAsGiven(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1700000000123)
	tests := []struct {
		name string
		send func(context.Context, *kafkax.Producer) error
		want kgo.Record
	}{
		{"send", func(ctx context.Context, p *kafkax.Producer) error {
			return p.SendMessage(ctx, []byte("k"), []byte("v"))
		}, kgo.Record{Topic: "orders", Key: []byte("k"), Value: []byte("v")}},
		{"to_topic", func(ctx context.Context, p *kafkax.Producer) error {
			return p.SendToTopic(ctx, "events", []byte("k"), []byte("v"))
		}, kgo.Record{Topic: "events", Key: []byte("k"), Value: []byte("v")}},
		{"tombstone", func(ctx context.Context, p *kafkax.Producer) error {
			return p.SendMessage(ctx, []byte("k"), nil)
		}, kgo.Record{Topic: "orders", Key: []byte("k")}},
		{"empty_is_not_nil", func(ctx context.Context, p *kafkax.Producer) error {
			return p.SendMessage(ctx, []byte{}, []byte{})
		}, kgo.Record{Topic: "orders", Key: []byte{}, Value: []byte{}}},
		{"headers", func(ctx context.Context, p *kafkax.Producer) error {
			return p.SendMessageWithHeaders(ctx, nil, []byte("v"), kafka.Header{Key: "b", Value: []byte("1")}, kafka.Header{Key: "a", Value: []byte{}}, kafka.Header{Key: "b"})
		}, kgo.Record{Topic: "orders", Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "b", Value: []byte("1")}, {Key: "a", Value: []byte{}}, {Key: "b"}}}},
		{"headers_to_topic", func(ctx context.Context, p *kafkax.Producer) error {
			return p.SendToTopicWithHeaders(ctx, "events", nil, []byte("v"), kafka.Header{Key: "a", Value: []byte("1")})
		}, kgo.Record{Topic: "events", Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}}}},
		{"json", func(ctx context.Context, p *kafkax.Producer) error {
			return p.SendJSON(ctx, []byte("k"), map[string]int{"n": 1})
		}, kgo.Record{Topic: "orders", Key: []byte("k"), Value: []byte(`{"n":1}`)}},
		{"json_to_topic", func(ctx context.Context, p *kafkax.Producer) error {
			return p.SendJSONToTopic(ctx, "events", nil, nil)
		}, kgo.Record{Topic: "events", Value: []byte("null")}},
		{"consumed_message_passed_on", func(ctx context.Context, p *kafkax.Producer) error {
			return p.WriteMessages(ctx, kafka.Message{Topic: "events", Partition: 77, Offset: 9, HighWaterMark: 10, Value: []byte("v"), Time: at})
		}, kgo.Record{Topic: "events", Value: []byte("v"), Timestamp: at}},
	}
	for _, tt := range tests {
		// With a context that can end the messages are copied first.
		for _, copied := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/copied=%t", tt.name, copied), func(t *testing.T) {
				t.Parallel()
				c := produceCluster(t)
				ctx := context.Background()
				if copied {
					ctx = t.Context()
				}
				if err := tt.send(ctx, produceTo(t, c)); err != nil {
					t.Fatal(err)
				}
				got := stored(t, c.ListenAddrs(), tt.want.Topic, 1)[0]
				sameBytes := func(what string, got, want []byte) {
					if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
						t.Errorf("%s: got %#v, want %#v", what, got, want)
					}
				}
				sameBytes("key", got.Key, tt.want.Key)
				sameBytes("value", got.Value, tt.want.Value)
				if len(got.Headers) != len(tt.want.Headers) {
					t.Fatalf("headers: got %v, want %v", got.Headers, tt.want.Headers)
				}
				for i, h := range tt.want.Headers {
					if got.Headers[i].Key != h.Key {
						t.Errorf("header %d: got %q, want %q", i, got.Headers[i].Key, h.Key)
					}
					sameBytes("header "+h.Key, got.Headers[i].Value, h.Value)
				}
				if want := tt.want.Timestamp; !want.IsZero() && !got.Timestamp.Equal(want) {
					t.Errorf("time: got %s, want %s", got.Timestamp, want)
				}
			})
		}
	}
}

func TestBadInputIsAnErrorAndDialsNothing(t *testing.T) {
	t.Parallel()
	p, err := kafkax.NewProducer(kafkax.WithProducerBrokers("127.0.0.1:1")) // Nobody listens.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	log := newLogLines()
	p.SetLogger(log, log)
	ctx := t.Context()

	tests := []struct {
		name string
		err  error
		is   error // nil: any
	}{
		{"no_topic", p.SendMessage(ctx, nil, nil), kafkax.ErrNoTopic},
		{"topic_dots", p.SendToTopic(ctx, "..", nil, nil), kafka.InvalidTopic},
		{"topic_slash", p.SendToTopic(ctx, "a/b", nil, nil), kafka.InvalidTopic},
		{"topic_not_ascii", p.SendToTopic(ctx, "größe", nil, nil), kafka.InvalidTopic},
		{"topic_long", p.SendToTopic(ctx, strings.Repeat("a", 250), nil, nil), kafka.InvalidTopic},
		{"json_channel", p.SendJSONToTopic(ctx, "orders", nil, make(chan int)), nil},
		{"json_nan", p.SendJSONToTopic(ctx, "orders", nil, math.NaN()), nil},
		{"nil_context_write", p.SendMessage(nil, nil, nil), nil}, //nolint:staticcheck // the input under test
		{"nil_context_ping", p.Ping(nil), nil},                   //nolint:staticcheck // the input under test
		{"nil_context_shutdown", p.GracefulShutdown(nil), nil},   //nolint:staticcheck // the input under test
		{"shutdown_did_not_happen", p.SendMessage(ctx, nil, nil), kafkax.ErrNoTopic},
	}
	for _, tt := range tests {
		if tt.err == nil || tt.is != nil && !errors.Is(tt.err, tt.is) {
			t.Errorf("%s: got %v, want %v", tt.name, tt.err, tt.is)
		}
	}
	if err := p.WriteMessages(ctx); err != nil {
		t.Errorf("no messages: %v", err)
	}
	if got := log.String(); got != "" {
		t.Errorf("logged %q", got)
	}
}

// An encoder of a type's own may quote what it was given. Its error is there,
// and its text is nowhere.
func TestSendJSONShowsNothingOfThePayload(t *testing.T) {
	t.Parallel()
	p, err := kafkax.NewProducer(kafkax.WithProducerBrokers("127.0.0.1:1")) // Nobody listens.
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Close() // what is encoded all the same fails at once
	ring := map[string]any{}
	ring["secret"] = ring
	tests := []struct {
		name    string
		payload any
		want    string
		as      any
	}{
		{"marshaler", refusingJSON("secret"), "the encoder of kafkax_test.refusingJSON failed", new(*json.MarshalerError)},
		{"text_marshaler", []any{refusingText{"secret"}}, "the encoder of kafkax_test.refusingText failed", new(*json.MarshalerError)},
		{"text_marshaler_as_a_key", map[refusingText]int{{"secret"}: 1}, "JSON has no form for it", nil},
		{"number", json.Number("secret"), "JSON has no form for it", nil},
		{"not_a_number", map[string]float64{"secret": math.Inf(1)}, "this value of Go type float64", new(*json.UnsupportedValueError)},
		{"channel", make(chan string), "Go type chan string", new(*json.UnsupportedTypeError)},
		{"ring", ring, "this value of Go type map[string]interface {}", new(*json.UnsupportedValueError)},
		{"time", time.Date(123456, 1, 1, 0, 0, 0, 0, time.UTC), "the encoder of time.Time failed", new(*json.MarshalerError)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := p.SendJSONToTopic(t.Context(), "orders", nil, tt.payload)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("err = %v, want %q in it", err, tt.want)
			}
			if tt.as != nil && !errors.As(err, tt.as) {
				t.Errorf("errors.As does not find the cause of %v", err)
			}
			for _, part := range []string{"secret", "Inf", "123456"} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("the error shows %s: %v", part, err)
				}
			}
		})
	}
}

type refusingJSON string

func (s refusingJSON) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("cannot write %s", string(s))
}

type refusingText struct{ text string }

func (s refusingText) MarshalText() ([]byte, error) {
	return nil, fmt.Errorf("cannot write %s", s.text)
}

func TestProducerStatsOnlyGrow(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c)
	for i := int64(1); i <= 3; i++ {
		if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
			t.Fatal(err)
		}
		p.Stats() // Another poller takes nothing away.
		s := p.Stats()
		if s.Messages != i || s.Writes != i || s.BatchSize.Count != i || s.BatchSize.Sum != i || s.WriteTime.Count != i {
			t.Errorf("after %d sends: %+v", i, s)
		}
		if s.BatchSize.Min != 1 || s.BatchSize.Max != 1 || s.BatchSize.Avg != 1 || s.WriteTime.Min <= 0 || s.WriteTime.Avg < s.WriteTime.Min {
			t.Errorf("after %d sends: %+v %+v", i, s.BatchSize, s.WriteTime)
		}
		if s.Topic != "orders" || s.Async || s.RequiredAcks != -1 {
			t.Errorf("settings: %+v", s)
		}
	}
}

func TestP10_EveryFailedMessageIsCounted(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	good := kafka.Message{Topic: "orders", Value: []byte("good")}
	bad := kafka.Message{Topic: "orders", Value: []byte("bad")}
	tests := []struct {
		name  string
		opts  []kafkax.ProducerOption
		send  func(t *testing.T, p *kafkax.Producer) error
		want  int64
		async bool // the send itself returns nil then
	}{
		{name: "none", send: func(t *testing.T, p *kafkax.Producer) error { return p.WriteMessages(t.Context(), good) }},
		{name: "no_topic", send: func(t *testing.T, p *kafkax.Producer) error {
			return p.WriteMessages(t.Context(), kafka.Message{}, good, kafka.Message{})
		}, want: 2},
		{name: "too_large", send: func(t *testing.T, p *kafkax.Producer) error {
			return p.SendToTopic(t.Context(), "orders", nil, make([]byte, 2<<20))
		}, want: 1},
		{name: "topic_missing", send: func(t *testing.T, p *kafkax.Producer) error {
			return p.WriteMessages(t.Context(), kafka.Message{Topic: "missing"}, kafka.Message{Topic: "missing"})
		}, want: 2, opts: []kafkax.ProducerOption{kafkax.WithProducerWriteTimeout(100 * time.Millisecond), kafkax.WithProducerDeliveryTimeout(100 * time.Millisecond)}},
		{
			name: "no_broker", send: func(t *testing.T, p *kafkax.Producer) error { return p.WriteMessages(t.Context(), good, good) },
			want: 2, opts: []kafkax.ProducerOption{
				kafkax.WithProducerBrokers("127.0.0.1:1"), kafkax.WithProducerWriteTimeout(100 * time.Millisecond), kafkax.WithProducerDeliveryTimeout(100 * time.Millisecond),
			},
		},
		{name: "login_refused", send: func(t *testing.T, p *kafkax.Producer) error { return p.WriteMessages(t.Context(), good) }, want: 1, opts: []kafkax.ProducerOption{
			kafkax.WithProducerSASLMechanism("PLAIN"), kafkax.WithProducerSASLUsername("alice"), kafkax.WithProducerSASLPassword("wrong"),
		}},
		{name: "refused", send: func(t *testing.T, p *kafkax.Producer) error { return p.WriteMessages(t.Context(), bad, good, bad) }, want: 2},
		{name: "refused_async", async: true, send: func(t *testing.T, p *kafkax.Producer) error {
			return p.WriteMessages(t.Context(), bad, good, bad)
		}, want: 2},
		{
			name: "balancer", opts: []kafkax.ProducerOption{withBalancer(func(kafka.Message, ...int) int { return -1 })},
			send: func(t *testing.T, p *kafkax.Producer) error { return p.WriteMessages(t.Context(), good, good) }, want: 2,
		},
		{name: "context_ended_before", send: func(_ *testing.T, p *kafkax.Producer) error { return p.WriteMessages(canceled, good, good) }, want: 2},
		{name: "no_context", send: func(_ *testing.T, p *kafkax.Producer) error {
			return p.WriteMessages(nil, good) //nolint:staticcheck // the input under test
		}, want: 1},
		{name: "not_json", send: func(t *testing.T, p *kafkax.Producer) error { return p.SendJSON(t.Context(), nil, make(chan int)) }, want: 1},
		{name: "closed", send: func(t *testing.T, p *kafkax.Producer) error {
			_ = p.Close()
			return p.WriteMessages(t.Context(), good, good)
		}, want: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var clusterOpts []kfake.Opt
			if tt.name == "login_refused" {
				clusterOpts = []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "alice", "right")}
			}
			c := produceCluster(t, clusterOpts...)
			if tt.name == "login_refused" { // by itself it hangs up, which is no refusal
				c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
					c.KeepControl()
					res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
					res.ErrorCode = kerr.SaslAuthenticationFailed.Code
					return res, nil, true
				})
			}
			onProduce(c, func(req *kmsg.ProduceRequest) *kerr.Error {
				if bytes.Contains(req.Topics[0].Partitions[0].Records, []byte("bad")) {
					return kerr.InvalidRecord
				}
				return nil
			})
			p := produceTo(t, c, append([]kafkax.ProducerOption{
				kafkax.WithProducerTopic(""), kafkax.WithProducerAsync(tt.async), kafkax.WithProducerCompression("none"),
				kafkax.WithProducerErrorLogger(newLogLines()),
			}, tt.opts...)...)
			if err := tt.send(t, p); (err != nil) != (tt.want > 0 && !tt.async) {
				t.Errorf("send: %v", err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if got := p.Stats().Errors; got != tt.want {
				t.Errorf("%d errors counted, want %d", got, tt.want)
			}
		})
	}
}

func TestP10_UnknownOutcomeIsCountedOnce(t *testing.T) {
	t.Parallel()
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprintf("refused=%t", refused), func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			in, out := make(chan struct{}), make(chan struct{})
			onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error {
				close(in)
				<-out
				if refused {
					return kerr.PolicyViolation
				}
				return nil
			})
			p := produceTo(t, c)
			ctx, cancel := context.WithCancel(t.Context())
			sent := goSend(t, func() error { return p.SendMessage(ctx, nil, []byte("v")) })
			receive(t, in, "the produce request")
			cancel()
			if err := receive(t, sent, "the send"); !errors.Is(err, kafkax.ErrOutcomeUnknown) {
				t.Errorf("got %v", err)
			}
			if got := p.Stats().Errors; got != 1 {
				t.Errorf("%d errors counted when the send returned, want 1", got)
			}
			close(out)
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if got := p.Stats().Errors; got != 1 {
				t.Errorf("%d errors counted at the end, want 1", got)
			}
		})
	}
}

func TestProducerConfigIsACopy(t *testing.T) {
	t.Parallel()
	p := produceTo(t, produceCluster(t))
	p.Config().Brokers[0] = "changed"
	if got := p.Config().Brokers[0]; got == "changed" {
		t.Error("the producer's own brokers changed")
	}
}

func TestWriterSaysOnceThatItIsOutsideOfAllPromises(t *testing.T) {
	t.Parallel()
	log := newLogLines()
	p := produceTo(t, produceCluster(t), kafkax.WithProducerErrorLogger(log))
	if got := log.String(); got != "" {
		t.Errorf("logged %q before the first call", got)
	}
	for range 3 {
		p.Writer()
	}
	if got := log.String(); strings.Count(got, "vouches for nothing") != 1 {
		t.Errorf("logged %q", got)
	}
}

// What has no key stays as an earlier option set it; what has one does not.
func TestWithProducerConfigGoesOverTheKeysBeforeIt(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	cfg := produceTo(t, c, kafkax.WithProducerTopic("events")).Config()
	called := make(chan struct{}, 1)
	p := produceTo(t, c,
		kafkax.WithProducerTopic("orders"), kafkax.WithProducerBatchSize(7),
		kafkax.WithProducerCompletion(func([]kafka.Message, error) { called <- struct{}{} }),
		kafkax.WithProducerConfig(cfg),
		kafkax.WithProducerBatchBytes(1000),
	)
	if got := p.Config(); got.Topic != "events" || got.BatchSize != cfg.BatchSize || got.BatchBytes != 1000 {
		t.Errorf("topic %q, batch_size %d, batch_bytes %d", got.Topic, got.BatchSize, got.BatchBytes)
	}
	if err := p.SendMessage(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	receive(t, called, "the completion of the option before")
}

func TestWriterIsPlainAndClosedWithTheProducer(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c)
	w := p.Writer()
	if w != p.Writer() {
		t.Error("another Writer each time")
	}
	if w.Async || w.RequiredAcks != kafka.RequireAll || w.Topic != "orders" || w.BatchSize != p.Config().BatchSize {
		t.Errorf("settings: %+v", w)
	}
	if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	stored(t, c.ListenAddrs(), "orders", 1)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for _, w := range []*kafka.Writer{w, p.Writer()} {
		if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}); err == nil {
			t.Error("sent after the producer was closed")
		}
	}
	unused := produceTo(t, c)
	if err := unused.Close(); err != nil {
		t.Error(err)
	}
	if err := unused.Writer().WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}); err == nil {
		t.Error("sent through a Writer that was made after Close")
	}
}

func TestWithProducerWriterHasTheLastWord(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	seen := make(chan []kafka.Message, 10)
	calls := 0
	p := produceTo(t, c, kafkax.WithProducerTopic("orders"), kafkax.WithProducerWriter(func(w *kafka.Writer) {
		calls++
		if w.Topic != "orders" || w.RequiredAcks != kafka.RequireAll || w.Async {
			t.Errorf("given %+v", w)
		}
		w.Topic = "events"
		w.Async = true
		w.Balancer = kafka.BalancerFunc(func(kafka.Message, ...int) int { return 2 })
		w.Completion = func(msgs []kafka.Message, _ error) { seen <- msgs }
	}))
	if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, seen, "the completion")[0]; m.Topic != "events" || m.Partition != 2 || string(m.Value) != "v" {
		t.Errorf("got %+v", m)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got := stored(t, c.ListenAddrs(), "events", 1)[0]; got.Partition != 2 {
		t.Errorf("stored in %d", got.Partition)
	}
	if calls != 1 {
		t.Errorf("called %d times", calls)
	}
}

func TestCompletionToldOfSuccess(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	for _, async := range []bool{false, true} {
		var offsets []int64
		p := produceTo(t, c, kafkax.WithProducerAsync(async), kafkax.WithProducerCompletion(func(msgs []kafka.Message, err error) {
			if err != nil {
				t.Error(err)
			}
			for _, m := range msgs {
				offsets = append(offsets, m.Offset)
			}
		}))
		from := c.PartitionInfo("orders", 0).HighWatermark
		for range 3 {
			if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if !slices.Equal(offsets, []int64{from, from + 1, from + 2}) {
			t.Errorf("async=%t: offsets %v from %d", async, offsets, from)
		}
	}
}

func TestProducerCompression(t *testing.T) {
	t.Parallel()
	for i, compression := range []kafkax.Compression{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(string(compression), func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			p := produceTo(t, c, kafkax.WithProducerCompression(compression))
			value := strings.Repeat("compress me ", 100)
			if err := p.SendMessage(t.Context(), nil, []byte(value)); err != nil {
				t.Fatal(err)
			}
			r := stored(t, c.ListenAddrs(), "orders", 1)[0]
			if string(r.Value) != value {
				t.Error("value changed")
			}
			if got := int(r.Attrs.CompressionType()); got != i {
				t.Errorf("codec %d, want %d", got, i)
			}
		})
	}
}

func TestSetLoggerWhileSending(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c)
	var senders sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		senders.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 20 {
		log := newLogLines()
		p.SetLogger(log, log)
		receive(t, log.seen, "a line in the new logger")
	}
	close(stop)
	senders.Wait()
}

func TestMustNewProducerPanicsWithTheError(t *testing.T) {
	t.Parallel()
	_, want := kafkax.NewProducer(kafkax.WithProducerBatchSize(-1))
	if want == nil {
		t.Fatal("no error to panic with")
	}
	defer func() {
		err, _ := recover().(error)
		if err == nil || err.Error() != want.Error() {
			t.Errorf("got %v, want %v", err, want)
		}
	}()
	kafkax.MustNewProducer(kafkax.WithProducerBatchSize(-1))
}

// A constructor leaves neither a goroutine nor a connection behind: the clients are
// not closed, and synctest panics if a goroutine is left.
func TestNewStartsNothing(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	requests := countRequests(c)
	addrs := c.ListenAddrs()
	synctest.Test(t, func(t *testing.T) {
		if _, err := kafkax.NewProducer(kafkax.WithProducerBrokers(addrs...), kafkax.WithProducerTopic("orders"),
			kafkax.WithProducerCompletion(func([]kafka.Message, error) {})); err != nil {
			t.Error(err)
		}
		opts := []kafkax.ConsumerOption{kafkax.WithConsumerBrokers(addrs...), kafkax.WithConsumerTopic("orders"), kafkax.WithConsumerGroupID("g")}
		if _, err := kafkax.NewConsumer(opts...); err != nil {
			t.Error(err)
		}
		if _, err := kafkax.NewMultiTopicConsumer([]string{"orders", "events"}, opts...); err != nil {
			t.Error(err)
		}
	})
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}
