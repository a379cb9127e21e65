package kafkax_test

import (
	"bytes"
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
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

func TestP2_EachMessageFailsAlone(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c, kafkax.WithProducerTopic(""), kafkax.WithProducerBatchBytes(1000))

	err := p.WriteMessages(t.Context(),
		kafka.Message{Topic: "orders", Value: []byte("a")},
		kafka.Message{Topic: "orders", Value: make([]byte, 1000)},
		kafka.Message{Value: []byte("nowhere")},
		kafka.Message{Topic: "not\na topic", Value: []byte("x")},
		kafka.Message{Topic: "orders", Value: []byte("b")},
	)
	errs := produceErrors(t, err)
	if text := err.Error() + errs[2].Error(); strings.Contains(text, "\n") {
		t.Errorf("%q is more than a line", text)
	}
	want := map[int]error{1: kafka.MessageSizeTooLarge, 2: kafkax.ErrNoTopic, 3: kafka.InvalidTopic}
	if len(errs) != len(want) {
		t.Fatalf("got %v", err)
	}
	for _, e := range errs {
		if !errors.Is(e, want[e.Index]) {
			t.Errorf("message %d: got %v, want %v", e.Index, e, want[e.Index])
		}
		if !errors.Is(fmt.Errorf("wrapped: %w", err), want[e.Index]) {
			t.Errorf("errors.Is does not find %v in %v", want[e.Index], err)
		}
	}
	if got := storedValues(t, c, "orders", 2); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("stored %q", got)
	}
}

func TestP2_UnknownTopicFailsAlone(t *testing.T) {
	t.Parallel()
	c := produceCluster(t, kfake.SeedTopics(1, "audit"))
	acked := make(chan struct{}, 4)
	p := produceTo(t, c, kafkax.WithProducerCompletion(func([]kafka.Message, error) { acked <- struct{}{} }))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	sent := goSend(t, func() error {
		return p.WriteMessages(ctx,
			kafka.Message{Topic: "missing", Value: []byte("x")},
			kafka.Message{Topic: "audit", Value: []byte("a")},
			kafka.Message{Value: []byte("b")},
		)
	})
	for range 2 {
		receive(t, acked, "the acknowledgement of the others")
	}
	// Their outcome is noted before their partitions send anything else.
	for _, topic := range []string{"audit", "orders"} {
		if err := p.SendToTopic(t.Context(), topic, nil, []byte("next")); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	err := receive(t, sent, "the send")
	if got := failedIndexes(t, err); !slices.Equal(got, []int{0}) {
		t.Fatalf("failed %v: %v", got, err)
	}
	if errors.Is(err, kafkax.ErrOutcomeUnknown) {
		t.Errorf("nothing can have reached a topic that does not exist: %v", err)
	}
	if got := append(storedValues(t, c, "audit", 2), storedValues(t, c, "orders", 2)...); !slices.Equal(got, []string{"a", "next", "b", "next"}) {
		t.Errorf("stored %q", got)
	}
}

// A broker refuses a batch as a whole, whatever is wrong with one record.
func TestP2_RefusedRecordFailsAlone(t *testing.T) {
	t.Parallel()
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%t", async), func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			onProduce(c, func(req *kmsg.ProduceRequest) *kerr.Error {
				if bytes.Contains(req.Topics[0].Partitions[0].Records, []byte("bad")) {
					return kerr.InvalidRecord
				}
				return nil
			})
			failed := make(chan kafka.Message, 10)
			p := produceTo(t, c, kafkax.WithProducerAsync(async), kafkax.WithProducerCompression("none"),
				kafkax.WithProducerCompletion(func(msgs []kafka.Message, err error) {
					for _, m := range msgs {
						if err != nil {
							failed <- m
						}
					}
				}))

			var msgs []kafka.Message
			var want []string
			for i := range 20 {
				v := fmt.Sprintf("good %02d", i)
				if i == 3 || i == 15 {
					msgs = append(msgs, kafka.Message{Value: []byte("bad"), WriterData: i})
					continue
				}
				want = append(want, v)
				msgs = append(msgs, kafka.Message{Value: []byte(v), WriterData: i})
			}
			err := p.WriteMessages(t.Context(), msgs...)
			if async {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				if got := failedIndexes(t, err); !slices.Equal(got, []int{3, 15}) {
					t.Errorf("failed %v: %v", got, err)
				}
				if !errors.Is(err, kafka.InvalidRecord) {
					t.Errorf("got %v", err)
				}
			}
			for _, index := range []int{3, 15} {
				if got := receive(t, failed, "a failed message"); got.WriterData != index || string(got.Value) != "bad" {
					t.Errorf("callback got %v, want %d", got.WriterData, index)
				}
			}
			if got := storedValues(t, c, "orders", len(want)); !slices.Equal(got, want) {
				t.Errorf("stored %q, want %q: in order, each once", got, want)
			}
		})
	}
}

// A batch that may be stored is not sent again in parts, whatever the broker
// says about a record of it afterwards.
func TestP9_BatchInDoubtIsNotSplit(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 1}) // It is stored all the same.
	var requests atomic.Int32
	onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error {
		if requests.Add(1) == 2 {
			return kerr.InvalidRecord
		}
		return nil
	})
	p := produceTo(t, c)
	err := p.WriteMessages(t.Context(), kafka.Message{Value: []byte("a")}, kafka.Message{Value: []byte("b")})
	if got := failedIndexes(t, err); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("failed %v: %v", got, err)
	}
	if !errors.Is(err, kafkax.ErrOutcomeUnknown) || !errors.Is(err, kafka.InvalidRecord) {
		t.Errorf("got %v, want ErrOutcomeUnknown and why", err)
	}
	if n := c.PartitionInfo("orders", 0).HighWatermark; n != 2 {
		t.Errorf("stored %d, want 2", n)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestP2_BatchOverTheTopicsLimitIsSplit(t *testing.T) {
	t.Parallel()
	c := produceCluster(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "2000"}))
	p := produceTo(t, c, kafkax.WithProducerCompression("none"))

	var msgs []kafka.Message
	for range 50 {
		msgs = append(msgs, kafka.Message{Value: make([]byte, 200)})
	}
	msgs[20].Value = make([]byte, 3000)
	err := p.WriteMessages(t.Context(), msgs...)
	if got := failedIndexes(t, err); !slices.Equal(got, []int{20}) {
		t.Errorf("failed %v: %v", got, err)
	}
	if !errors.Is(err, kafka.MessageSizeTooLarge) {
		t.Errorf("got %v", err)
	}
	stored(t, c.ListenAddrs(), "orders", 49)
}

func TestP3_ContextEndsInFlight(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c, kafkax.WithProducerCompression("none"))
	arrived, free := hold(t, c)
	ctx, cancel := context.WithCancel(t.Context())

	key, value, header := []byte("key"), []byte("value"), []byte("header")
	sent := goSend(t, func() error {
		return p.SendMessageWithHeaders(ctx, key, value, kafka.Header{Key: "h", Value: header})
	})
	receive(t, arrived, "the produce request")
	// It waits behind the first, and is not even encoded yet.
	second := []byte("second")
	queued := goSend(t, func() error { return p.SendMessage(ctx, nil, second) })
	waitFor(t, "two calls to be handed over", func() bool { return p.Stats().BatchQueueTime.Count == 2 })
	cancel()

	for _, sent := range []<-chan error{sent, queued} {
		err := receive(t, sent, "the send")
		if !errors.Is(err, kafkax.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want ErrOutcomeUnknown and context.Canceled", err)
		}
		if got := failedIndexes(t, err); !slices.Equal(got, []int{0}) {
			t.Errorf("failed %v", got)
		}
	}

	// The caller has its buffers back; the messages still go out as they were.
	for _, b := range [][]byte{key, value, header, second} {
		copy(b, "xxxxxx")
	}
	free()
	records := stored(t, c.ListenAddrs(), "orders", 2)
	if r := records[0]; string(r.Key) != "key" || string(r.Value) != "value" || string(r.Headers[0].Value) != "header" {
		t.Errorf("stored %q %q %q", r.Key, r.Value, r.Headers)
	}
	if got := string(records[1].Value); got != "second" {
		t.Errorf("stored %q, want %q", got, "second")
	}
}

func TestP3_OnlyWhatIsOpenIsUnknown(t *testing.T) {
	t.Parallel()
	c := produceCluster(t, kfake.SeedTopics(1, "stuck"))
	in, out := make(chan struct{}), make(chan struct{})
	arrive := sync.OnceFunc(func() { close(in) })
	defer close(out) // before the producer's Close, which waits for it
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if r.(*kmsg.ProduceRequest).Topics[0].Topic == "stuck" {
			arrive()
			c.SleepControl(func() { <-out })
		}
		return nil, nil, false
	})
	acked := make(chan struct{}, 3)
	p := produceTo(t, c, kafkax.WithProducerCompletion(func([]kafka.Message, error) { acked <- struct{}{} }))
	ctx, cancel := context.WithCancel(t.Context())
	sent := goSend(t, func() error {
		return p.WriteMessages(ctx,
			kafka.Message{Topic: "orders", Value: []byte("a")},
			kafka.Message{Topic: "stuck", Value: []byte("b")},
		)
	})
	receive(t, in, "the request of the second")
	receive(t, acked, "the acknowledgement of the first")
	// Its outcome is noted before the partition's next batch goes out.
	if err := p.SendMessage(t.Context(), nil, []byte("c")); err != nil {
		t.Fatal(err)
	}
	cancel()

	err := receive(t, sent, "the send")
	if got := failedIndexes(t, err); !slices.Equal(got, []int{1}) || !errors.Is(err, kafkax.ErrOutcomeUnknown) {
		t.Errorf("failed %v: %v", got, err)
	}
}

// Batches of a partition go out one by one, each with its delivery_timeout.
func TestP3_DeliveryTimeoutCountsTheQueue(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c, kafkax.WithProducerBatchSize(1),
		kafkax.WithProducerWriteTimeout(500*time.Millisecond), kafkax.WithProducerDeliveryTimeout(500*time.Millisecond))
	p.SetLogger(nil, newLogLines())

	_ = p.SendMessage(t.Context(), nil, nil) // The topic is known from here on.
	_, free := hold(t, c)
	defer free()
	begin := time.Now()
	var senders sync.WaitGroup
	var queued atomic.Int32
	for range 60 { // 30 s, one after the other
		senders.Go(func() {
			err := p.SendMessage(context.Background(), nil, []byte("v"))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want DeadlineExceeded", err)
			}
			if errors.Is(err, kafkax.ErrOutcomeUnknown) {
				queued.Add(1)
			}
		})
	}
	senders.Wait()
	if queued.Load() == 0 {
		t.Error("what still queues may be sent yet: its outcome is unknown")
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("took %s", took)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.GracefulShutdown(done); err == nil {
		t.Error("messages that still queue were cut off in silence")
	}
}

func TestP3_ContextAlreadyDone(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	requests := countRequests(c)
	p := produceTo(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	if err := p.SendMessage(ctx, nil, []byte("v")); err != context.Canceled { //nolint:errorlint // nothing else may be said
		t.Errorf("got %v, want exactly context.Canceled", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests for a send that must not begin", n)
	}
}

func TestP3_ContextEndsBeforeTheHandover(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	in, out := make(chan struct{}), make(chan struct{})
	enter, free := sync.OnceFunc(func() { close(in) }), sync.OnceFunc(func() { close(out) })
	t.Cleanup(free)
	c.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		enter()
		<-out
		return nil, nil, false
	})
	var produced atomic.Int32
	onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error {
		produced.Add(1)
		return nil
	})
	p := produceTo(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	sent := goSend(t, func() error { return p.SendMessage(ctx, nil, []byte("v")) })
	receive(t, in, "the metadata request")
	cancel()

	err := receive(t, sent, "the send")
	if !errors.Is(err, context.Canceled) || errors.Is(err, kafkax.ErrOutcomeUnknown) {
		t.Errorf("got %v, want context.Canceled and a known outcome", err)
	}
	free()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if produced.Load() != 0 {
		t.Error("the message was sent all the same")
	}
}

func TestP6_AsyncFailureReachesTheCallback(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error { return kerr.PolicyViolation })
	type outcome struct {
		msgs []kafka.Message
		err  error
	}
	outcomes := make(chan outcome, 1)
	p := produceTo(t, c, kafkax.WithProducerAsync(true),
		kafkax.WithProducerCompletion(func(msgs []kafka.Message, err error) { outcomes <- outcome{msgs, err} }))

	if err := p.WriteMessages(t.Context(), kafka.Message{Value: []byte("v"), WriterData: 42}); err != nil {
		t.Fatal(err)
	}
	got := receive(t, outcomes, "the callback")
	if !errors.Is(got.err, kafka.PolicyViolation) {
		t.Errorf("got %v", got.err)
	}
	if m := got.msgs[0]; len(got.msgs) != 1 || m.WriterData != 42 || m.Topic != "orders" || string(m.Value) != "v" {
		t.Errorf("got %+v", got.msgs)
	}
}

func TestP6_AsyncFailureReachesTheLog(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error { return kerr.PolicyViolation })
	p := produceTo(t, c, kafkax.WithProducerAsync(true))
	log := newLogLines()
	p.SetLogger(nil, log)

	if err := p.SendMessage(t.Context(), nil, []byte("secret body")); err != nil {
		t.Fatal(err)
	}
	receive(t, log.seen, "a line in the error log")
	if got := log.String(); !strings.Contains(got, "orders[0]: messages were not acknowledged messages=1 err=") || strings.Contains(got, "secret") {
		t.Errorf("logged %q", got)
	}
}

func TestP6_AsyncRefusesAtOnceWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c, kafkax.WithProducerAsync(true), kafkax.WithProducerTopic(""), kafkax.WithProducerBatchBytes(100))
	err := p.WriteMessages(t.Context(),
		kafka.Message{Value: []byte("x")},
		kafka.Message{Topic: "orders", Value: make([]byte, 100)},
		kafka.Message{Topic: "orders", Value: []byte("v")},
	)
	if got := failedIndexes(t, err); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("failed %v: %v", got, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	stored(t, c.ListenAddrs(), "orders", 1)
}

func TestP6_AsyncBufferIsBoundedAndBlocks(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	arrived, free := hold(t, c)
	p := produceTo(t, c, kafkax.WithProducerAsync(true), kafkax.WithProducerBatchBytes(8<<20), kafkax.WithProducerCompression("snappy"))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // much more than copying 28 MiB takes
	defer cancel()

	value := make([]byte, 4<<20)
	accepted := 0
	var err error
	for err == nil && accepted < 100 {
		if err = p.SendMessage(ctx, nil, value); err == nil {
			accepted++
		}
	}
	receive(t, arrived, "the first produce request")
	if accepted != 7 { // 8 would be 32 MiB and their overhead
		t.Errorf("buffered %d messages of 4 MiB, want 7", accepted)
	}
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kafkax.ErrOutcomeUnknown) {
		t.Errorf("got %v, want the context's error and a known outcome", err)
	}

	// A stop wakes a send that waits for room, and still sends the rest.
	blocked := goSend(t, func() error { return p.SendMessage(context.Background(), nil, value) })
	closed := goSend(t, p.Close)
	if err := receive(t, blocked, "the blocked send"); !errors.Is(err, kafkax.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	free()
	if err := receive(t, closed, "Close"); err != nil {
		t.Error(err)
	}
	if n := c.PartitionInfo("orders", 0).HighWatermark; n != int64(accepted) {
		t.Errorf("stored %d, want %d", n, accepted)
	}
}

func TestP6_AsyncBufferGivesRoomBack(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c, kafkax.WithProducerAsync(true), kafkax.WithProducerBatchBytes(8<<20))
	value := make([]byte, 7<<20)
	for range 20 { // 140 MiB through 32
		if err := p.SendMessage(t.Context(), nil, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if n := c.PartitionInfo("orders", 0).HighWatermark; n != 20 {
		t.Errorf("stored %d, want 20", n)
	}
}

func TestP6_AsyncBufferGivesRoomBackForWhatIsNotTaken(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c, kafkax.WithProducerAsync(true), kafkax.WithProducerBatchBytes(8<<20))
	value := make([]byte, 7<<20)
	for range 6 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err := p.SendToTopic(ctx, "missing", nil, value)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), produceWait)
	defer cancel()
	if err := p.SendMessage(ctx, nil, value); err != nil {
		t.Error(err)
	}
}

func TestP6_CloseFlushes(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c, kafkax.WithProducerAsync(true), kafkax.WithProducerBatchTimeout(time.Hour))
	var want []string
	for i := range 250 {
		want = append(want, fmt.Sprint(i))
		value := []byte(want[i])
		if err := p.SendMessage(t.Context(), nil, value); err != nil {
			t.Fatal(err)
		}
		copy(value, "reused")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got := storedValues(t, c, "orders", len(want)); !slices.Equal(got, want) {
		t.Errorf("stored %q", got)
	}
}

func TestP6_PanicInTheCallbackIsLogged(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	log := newLogLines()
	p := produceTo(t, c, kafkax.WithProducerErrorLogger(log),
		kafkax.WithProducerCompletion(func([]kafka.Message, error) { panic("secret") }))

	for range 2 {
		if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
			t.Error(err)
		}
	}
	if got := log.String(); !strings.Contains(got, "completion callback panicked") || !strings.Contains(got, "PanicInTheCallback") || strings.Contains(got, "secret") {
		t.Errorf("logged %q", got)
	}
}

// A line that says "to be retried" says when.
func TestProducerLogsTheTimeOfTheNextAttempt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, topic, line string }{
		{"a batch", "orders", "orders[0]: a batch was not acknowledged, to be retried"},
		{"a topic", "missing", "missing: a topic was not found out, to be retried"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			var refused atomic.Bool
			onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error {
				if refused.Swap(true) {
					return nil
				}
				return kerr.NotLeaderForPartition
			})
			var lines logBook
			p := produceTo(t, c, kafkax.WithProducerLogger(&lines))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			began := time.Now()
			sent := goSend(t, func() error { return p.SendToTopic(ctx, tt.topic, nil, []byte("v")) })
			waitFor(t, "the line", func() bool { return len(lines.with(tt.line, "attempt=1 ")) > 0 })
			if tt.topic == "missing" {
				cancel() // or it waits for the topic for a while
			}
			err := receive(t, sent, "the send")
			if (err == nil) != (tt.topic == "orders") {
				t.Error(err)
			}
			checkNext(t, lines.with(tt.line, "attempt=1 ")[0], began, time.Now().Add(time.Second)) // that was cancelled in its wait
		})
	}
}
