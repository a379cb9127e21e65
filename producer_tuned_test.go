package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

// blocker is code of the caller's that does not return before the test ends.
type blocker struct {
	entered chan struct{} // closed by the first call
	enter   func()
	release chan struct{}
	free    func() // lets all calls return
}

func newBlocker(t testing.TB) *blocker {
	b := &blocker{entered: make(chan struct{}), release: make(chan struct{})}
	b.enter = sync.OnceFunc(func() { close(b.entered) })
	b.free = sync.OnceFunc(func() { close(b.release) })
	t.Cleanup(b.free)
	return b
}

func (b *blocker) block() {
	b.enter()
	<-b.release
}

// withBalancer gives the Writer a balancer of the caller's.
func withBalancer(f func(msg kafka.Message, partitions ...int) int) kafkax.ProducerOption {
	return kafkax.WithProducerWriter(func(w *kafka.Writer) { w.Balancer = kafka.BalancerFunc(f) })
}

func TestP2_MessageThatTheBalancerFailsOnFailsAlone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		choose func(partitions []int) int
		check  func(error) bool
	}{
		{"panics", func([]int) int { panic("secret") }, func(err error) bool {
			var p *kafkax.PanicError
			return errors.As(err, &p) && p.Value == "secret" && !strings.Contains(err.Error(), "secret")
		}},
		{"ends_its_goroutine", func([]int) int { runtime.Goexit(); return 0 }, func(err error) bool {
			return strings.Contains(err.Error(), "Goexit")
		}},
		{"too_high", func([]int) int { return 99 }, func(err error) bool { return strings.Contains(err.Error(), "partition 99; the topic has 0 to") }},
		{"next", func(p []int) int { return len(p) }, func(err error) bool { return strings.Contains(err.Error(), "the topic has 0 to") }},
		{"negative", func([]int) int { return -1 }, func(err error) bool { return strings.Contains(err.Error(), "partition -1") }},
	}
	for _, tt := range tests {
		for _, async := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/async=%t", tt.name, async), func(t *testing.T) {
				t.Parallel()
				c := produceCluster(t)
				var asked atomic.Int32
				p := produceTo(t, c, kafkax.WithProducerAsync(async), withBalancer(func(m kafka.Message, partitions ...int) int {
					if m.WriterData != string(m.Value) {
						t.Errorf("was asked about %v with WriterData %v", string(m.Value), m.WriterData)
					}
					asked.Add(1)
					if string(m.Value) == "bad" {
						return tt.choose(partitions)
					}
					return len(partitions) - 1
				}))
				message := func(topic, value string) kafka.Message {
					return kafka.Message{Topic: topic, Value: []byte(value), WriterData: value}
				}
				err := p.WriteMessages(t.Context(),
					message("orders", "bad"), message("events", "bad"), message("events", "a"),
					message("events", "bad"), message("events", "b"), message("orders", "c"),
				)
				if got := failedIndexes(t, err); fmt.Sprint(got) != "[0 1 3]" {
					t.Fatalf("failed %v: %v", got, err)
				}
				for _, e := range produceErrors(t, err) {
					if !tt.check(e) || errors.Is(e, kafkax.ErrOutcomeUnknown) || kafkax.IsRetryable(e) || e.Partition != -1 {
						t.Errorf("got %+v: %v", e, e)
					}
				}
				if asked.Load() != 6 {
					t.Errorf("was asked %d times, want once for each message", asked.Load())
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
				for i, r := range stored(t, c.ListenAddrs(), "events", 2) {
					if want := []string{"a", "b"}[i]; string(r.Value) != want || r.Partition != 2 {
						t.Errorf("events[%d] has %q, want %q in partition 2", r.Partition, r.Value, want)
					}
				}
				stored(t, c.ListenAddrs(), "orders", 1)
			})
		}
	}
}

func TestP3_BalancerThatBlocksHoldsUpItsOwnCall(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	b := newBlocker(t)
	p := produceTo(t, c, withBalancer(func(m kafka.Message, _ ...int) int {
		if string(m.Value) == "block" {
			b.block()
		}
		return 0
	}))
	ctx, cancel := context.WithCancel(t.Context())
	sent := goSend(t, func() error {
		return p.WriteMessages(ctx,
			kafka.Message{Topic: "events", Value: []byte("other topic")},
			kafka.Message{Topic: "orders", Value: []byte("block")},
			kafka.Message{Topic: "orders", Value: []byte("behind")},
		)
	})
	receive(t, b.entered, "the balancer")
	if err := p.SendMessage(t.Context(), nil, []byte("other call")); err != nil {
		t.Error(err)
	}
	stored(t, c.ListenAddrs(), "events", 1)
	cancel()
	err := receive(t, sent, "the send")
	for _, e := range produceErrors(t, err) {
		if !errors.Is(e, context.Canceled) || e.Index > 0 && errors.Is(e, kafkax.ErrOutcomeUnknown) {
			t.Errorf("got %v, want context.Canceled and a known outcome", e)
		}
	}
	if got := failedIndexes(t, err); fmt.Sprint(got) != "[1 2]" && fmt.Sprint(got) != "[0 1 2]" {
		t.Errorf("failed %v: %v", got, err)
	}
	if got := storedValues(t, c, "orders", 1); got[0] != "other call" {
		t.Errorf("stored %q", got)
	}
}

// endedContext has ended, and nobody was woken by that yet.
type endedContext struct {
	context.Context
	ended atomic.Bool
}

func (c *endedContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return c.Context.Err()
}

func TestP3_ContextEndsWhileThePartitionIsChosen(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	ctx := &endedContext{Context: t.Context()}
	p := produceTo(t, c, withBalancer(func(kafka.Message, ...int) int { ctx.ended.Store(true); return 0 }))
	err := p.SendMessage(ctx, nil, []byte("v"))
	if !errors.Is(err, context.Canceled) || errors.Is(err, kafkax.ErrOutcomeUnknown) {
		t.Errorf("got %v, want context.Canceled and a known outcome", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if n := c.PartitionInfo("orders", 0).HighWatermark; n != 0 {
		t.Errorf("stored %d", n)
	}
}

func TestP5_BalancerThatBlocksEndsWithTheStop(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	b := newBlocker(t)
	p := produceTo(t, c, kafkax.WithProducerShutdownTimeout(50*time.Millisecond),
		withBalancer(func(kafka.Message, ...int) int { b.block(); return 0 }))
	sent := goSend(t, func() error { return p.SendMessage(context.Background(), nil, []byte("v")) })
	receive(t, b.entered, "the balancer")

	var cut *kafkax.ShutdownError
	if err := receive(t, goSend(t, p.Close), "Close"); !errors.As(err, &cut) {
		t.Errorf("Close: %v, want a ShutdownError", err)
	}
	if err := receive(t, sent, "the send"); !errors.Is(err, kafkax.ErrClosed) || errors.Is(err, kafkax.ErrOutcomeUnknown) {
		t.Errorf("got %v, want ErrClosed: nothing was sent", err)
	}
	if n := c.PartitionInfo("orders", 0).HighWatermark; n != 0 {
		t.Errorf("stored %d", n)
	}
}

func TestWithProducerWriterThatMisbehaves(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		tune func(*kafka.Writer)
		says string
	}{
		{"panics", func(*kafka.Writer) { panic(errors.New("two\nlines")) }, `two\nlines`},
		{"ends_its_goroutine", func(*kafka.Writer) { runtime.Goexit() }, "Goexit"},
		{"batch_too_large_to_reserve", func(w *kafka.Writer) { w.BatchSize = 1 << 40 }, "BatchSize"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := kafkax.NewProducer(kafkax.WithProducerBrokers("127.0.0.1:1"), kafkax.WithProducerWriter(tt.tune))
			var problem *kafkax.ConfigError
			if !errors.Is(err, kafkax.ErrInvalidConfig) || !errors.As(err, &problem) || problem.Source != "option WithProducerWriter" {
				t.Fatalf("got %v, want ErrInvalidConfig and the option", err)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q does not say %q", err, tt.says)
			}
		})
	}
	t.Run("blocks", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			_, err := kafkax.NewProducer(kafkax.WithProducerBrokers("127.0.0.1:1"), kafkax.WithProducerWriter(func(*kafka.Writer) { <-release }))
			if !errors.Is(err, kafkax.ErrInvalidConfig) {
				t.Errorf("got %v, want ErrInvalidConfig", err)
			}
			close(release)
		})
	})
}

func TestWithProducerWriterLeavesTheBatchBytes(t *testing.T) {
	t.Parallel()
	p := produceTo(t, produceCluster(t), kafkax.WithProducerBatchBytes(2<<20),
		kafkax.WithProducerWriter(func(w *kafka.Writer) { w.BatchBytes = -1 }))
	if got := p.Config().BatchBytes; got != 2<<20 {
		t.Errorf("batch_bytes %d, want what was configured", got)
	}
	if err := p.SendMessage(t.Context(), nil, make([]byte, 1<<20)); err != nil {
		t.Error(err) // kafka-go's own default would refuse the whole call.
	}
}

// roundTripper is a Transport of the caller's.
type roundTripper func(kafka.Request) (kafka.Response, error)

func (f roundTripper) RoundTrip(_ context.Context, _ net.Addr, req kafka.Request) (kafka.Response, error) {
	return f(req)
}

func TestTunedTransportThatMisbehaves(t *testing.T) {
	t.Parallel()
	misbehaviours := map[string]func(*blocker) (kafka.Response, error){
		"panics":             func(*blocker) (kafka.Response, error) { panic("secret") },
		"ends_its_goroutine": func(*blocker) (kafka.Response, error) { runtime.Goexit(); return nil, nil },
		"answers_nothing":    func(*blocker) (kafka.Response, error) { return nil, nil },
		"blocks":             func(b *blocker) (kafka.Response, error) { b.block(); return nil, nil },
	}
	for name, misbehave := range misbehaviours {
		for _, inProduce := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/produce=%t", name, inProduce), func(t *testing.T) {
				t.Parallel()
				b := newBlocker(t)
				p := produceTo(t, produceCluster(t), kafkax.WithProducerShutdownTimeout(50*time.Millisecond), kafkax.WithProducerErrorLogger(newLogLines()),
					kafkax.WithProducerWriter(func(w *kafka.Writer) {
						next := w.Transport
						w.Transport = roundTripper(func(req kafka.Request) (kafka.Response, error) {
							if _, ok := req.(*produce.Request); ok == inProduce {
								return misbehave(b)
							}
							return next.RoundTrip(context.Background(), w.Addr, req)
						})
					}))
				sent := goSend(t, func() error {
					return p.WriteMessages(context.Background(), kafka.Message{Topic: "orders"}, kafka.Message{Topic: "events"})
				})
				if name == "blocks" {
					receive(t, b.entered, "the transport")
					_ = receive(t, goSend(t, p.Close), "Close")
				}
				err := receive(t, sent, "the send")
				if got := failedIndexes(t, err); fmt.Sprint(got) != "[0 1]" {
					t.Fatalf("failed %v: %v", got, err)
				}
				for _, e := range produceErrors(t, err) {
					if errors.Is(e, kafkax.ErrOutcomeUnknown) != inProduce {
						t.Errorf("got %v: unknown %t, want %t", e, !inProduce, inProduce)
					}
				}
			})
		}
	}
}

func TestTunedTransportThatFailsLeavesDoubt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answer  func() (kafka.Response, error)
		unknown bool
	}{
		{"broken_off", func() (kafka.Response, error) { return nil, io.ErrUnexpectedEOF }, true},
		{"timed_out", func() (kafka.Response, error) { return produceAnswer(kafka.RequestTimedOut), nil }, true},
		{"refused", func() (kafka.Response, error) { return produceAnswer(kafka.PolicyViolation), nil }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := produceTo(t, produceCluster(t), kafkax.WithProducerWriter(func(w *kafka.Writer) {
				next := w.Transport
				w.Transport = roundTripper(func(req kafka.Request) (kafka.Response, error) {
					if _, ok := req.(*produce.Request); ok {
						return tt.answer()
					}
					return next.RoundTrip(context.Background(), w.Addr, req)
				})
			}))
			if err := p.SendMessage(t.Context(), nil, []byte("v")); err == nil || errors.Is(err, kafkax.ErrOutcomeUnknown) != tt.unknown {
				t.Errorf("got %v: unknown should be %t", err, tt.unknown)
			}
		})
	}
}

func produceAnswer(code kafka.Error) *produce.Response {
	return &produce.Response{Topics: []produce.ResponseTopic{{
		Topic: "orders", Partitions: []produce.ResponsePartition{{ErrorCode: int16(code)}},
	}}}
}

func TestTunedLoggerThatPanics(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	onProduce(c, func(*kmsg.ProduceRequest) *kerr.Error { return kerr.PolicyViolation })
	panics := kafka.LoggerFunc(func(string, ...any) { panic("logger") })
	p := produceTo(t, c, kafkax.WithProducerErrorLogger(newLogLines()),
		kafkax.WithProducerWriter(func(w *kafka.Writer) { w.Logger, w.ErrorLogger = panics, panics }))
	if err := p.SendMessage(t.Context(), nil, []byte("v")); !errors.Is(err, kafka.PolicyViolation) {
		t.Errorf("got %v", err)
	}
}
