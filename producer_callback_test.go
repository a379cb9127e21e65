package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

// misbehaviours are what code of the caller's may do, once.
var misbehaviours = map[string]func(p *kafkax.Producer, b *blocker){
	"blocks":             func(_ *kafkax.Producer, b *blocker) { b.block() },
	"panics":             func(*kafkax.Producer, *blocker) { panic("misbehaved") },
	"ends_its_goroutine": func(*kafkax.Producer, *blocker) { runtime.Goexit() },
	"closes":             func(p *kafkax.Producer, _ *blocker) { _ = p.Close() },
	"sends": func(p *kafkax.Producer, _ *blocker) {
		_ = p.SendMessage(context.Background(), nil, []byte("sent by the callback"))
	},
}

// callbackKinds are the code of the caller's that a Producer calls; each option
// has misbehave called for the message "bad", or for what is logged about it.
var callbackKinds = map[string]func(misbehave func()) kafkax.ProducerOption{
	"completion": func(misbehave func()) kafkax.ProducerOption {
		return kafkax.WithProducerCompletion(func(msgs []kafka.Message, _ error) {
			if string(msgs[0].Value) == "bad" {
				misbehave()
			}
		})
	},
	"balancer": func(misbehave func()) kafkax.ProducerOption {
		return withBalancer(func(m kafka.Message, _ ...int) int {
			if string(m.Value) == "bad" {
				misbehave()
			}
			return 0
		})
	},
	"logger": func(misbehave func()) kafkax.ProducerOption {
		return kafkax.WithProducerLogger(kafka.LoggerFunc(func(string, ...any) { misbehave() }))
	},
	"error_logger": func(misbehave func()) kafkax.ProducerOption {
		return kafkax.WithProducerErrorLogger(kafka.LoggerFunc(func(string, ...any) { misbehave() }))
	},
	"tuned_logger": func(misbehave func()) kafkax.ProducerOption {
		return kafkax.WithProducerWriter(func(w *kafka.Writer) { w.Logger = kafka.LoggerFunc(func(string, ...any) { misbehave() }) })
	},
}

// Whatever the caller's code does, and wherever it is called: sends return,
// others go on, and Close is bounded.
func TestP5_CallbacksHoldNobodyUp(t *testing.T) {
	t.Parallel()
	for kind, option := range callbackKinds {
		for misbehaviour, misbehave := range misbehaviours {
			for _, async := range []bool{false, true} {
				for _, topics := range [][]string{{"orders"}, {"orders", "events"}} {
					t.Run(fmt.Sprintf("%s/%s/async=%t/topics=%d", kind, misbehaviour, async, len(topics)), func(t *testing.T) {
						t.Parallel()
						holdsNobodyUp(t, option, misbehave, misbehaviour == "closes", async, topics)
					})
				}
			}
		}
	}
}

func holdsNobodyUp(t *testing.T, option func(func()) kafkax.ProducerOption, misbehave func(*kafkax.Producer, *blocker),
	closes, async bool, topics []string,
) {
	t.Helper()
	c := produceCluster(t)
	onProduce(c, func(req *kmsg.ProduceRequest) *kerr.Error {
		if strings.Contains(string(req.Topics[0].Partitions[0].Records), "bad") {
			return kerr.PolicyViolation // so that there is something to log
		}
		return nil
	})
	b := newBlocker(t)
	var p *kafkax.Producer
	var once sync.Once
	misbehaved := make(chan struct{})
	p = produceTo(t, c, kafkax.WithProducerErrorLogger(newLogLines()), kafkax.WithProducerAsync(async), kafkax.WithProducerCompression("none"),
		kafkax.WithProducerShutdownTimeout(100*time.Millisecond), option(func() {
			once.Do(func() {
				close(misbehaved)
				misbehave(p, b)
			})
		}))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	bad := make([]kafka.Message, len(topics))
	for i, topic := range topics {
		bad[i] = kafka.Message{Topic: topic, Value: []byte("bad")}
	}
	sent := goSend(t, func() error { return p.WriteMessages(ctx, bad...) })
	// An error logger has nothing to log when a send returns its error.
	if async || !strings.Contains(t.Name(), "/error_logger/") {
		receive(t, misbehaved, "the code under test to be called")
	}
	if strings.Contains(t.Name(), "/balancer/blocks/") {
		cancel() // Nothing else ends this one but the stop.
	}
	_ = receive(t, sent, "the send that the misbehaviour is about")
	if !closes {
		other := goSend(t, func() error { return p.SendToTopic(t.Context(), "events", nil, []byte("good")) })
		if err := receive(t, other, "a send after it"); err != nil {
			t.Errorf("a send after it: %v", err)
		}
	}
	_ = receive(t, goSend(t, p.Close), "Close")
	if err := p.SendMessage(t.Context(), nil, nil); !errors.Is(err, kafkax.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestP6_CallbackThatFailsIsLoggedAndCalledAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		misbehave func()
		logged    string
	}{
		"panics":             {func() { panic("secret") }, "orders[0]: the completion callback panicked err="},
		"ends_its_goroutine": {runtime.Goexit, "orders[0]: the completion callback ended its goroutine err="},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newLogLines()
			var calls atomic.Int32
			p := produceTo(t, produceCluster(t), kafkax.WithProducerErrorLogger(log), kafkax.WithProducerCompletion(func([]kafka.Message, error) {
				calls.Add(1)
				tt.misbehave()
			}))
			for range 2 {
				if err := receive(t, goSend(t, func() error { return p.SendMessage(t.Context(), nil, []byte("v")) }), "the send"); err != nil {
					t.Error(err)
				}
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if got := log.String(); strings.Count(got, tt.logged) != 2 || strings.Contains(got, "secret") {
				t.Errorf("logged %q, want twice %q", got, tt.logged)
			}
			if calls.Load() != 2 {
				t.Errorf("called %d times, want 2", calls.Load())
			}
		})
	}
}

func TestP6_CallbacksKeepTheOrderOfAPartition(t *testing.T) {
	t.Parallel()
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%t", async), func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			b := newBlocker(t)
			other := make(chan struct{}, 1)
			var mu sync.Mutex
			var told []int64
			p := produceTo(t, c, kafkax.WithProducerAsync(async), kafkax.WithProducerBatchSize(1), kafkax.WithProducerCompletion(func(msgs []kafka.Message, err error) {
				if msgs[0].Topic == "events" {
					other <- struct{}{}
					return
				}
				mu.Lock()
				for _, m := range msgs {
					told = append(told, m.Offset)
				}
				first := len(told) == 1
				mu.Unlock()
				if first {
					b.block()
				}
			}))
			const n = 20
			for range n {
				if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
					t.Fatal(err)
				}
			}
			receive(t, b.entered, "the callback")
			stored(t, c.ListenAddrs(), "orders", n) // Sending goes on, although the callback has not returned.
			if err := p.SendToTopic(t.Context(), "events", nil, []byte("v")); err != nil {
				t.Error(err)
			}
			receive(t, other, "the callback of another partition")
			b.free()
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			var want []int64
			for i := range n {
				want = append(want, int64(i))
			}
			if !slices.Equal(told, want) {
				t.Errorf("told of offsets %v, want %v", told, want)
			}
		})
	}
}

// What waits for a callback is bounded, by a bound of the partition's own.
func TestP6_CallbackThatBlocksHoldsUpItsPartitionAlone(t *testing.T) {
	t.Parallel()
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%t", async), func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			b := newBlocker(t)
			p := produceTo(t, c, kafkax.WithProducerAsync(async), kafkax.WithProducerBatchBytes(2<<20),
				kafkax.WithProducerCompletion(func(msgs []kafka.Message, _ error) {
					if msgs[0].Topic == "orders" {
						b.block()
					}
				}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var sent atomic.Int32
			result := goSend(t, func() error {
				for {
					if err := p.SendMessage(ctx, nil, make([]byte, 1<<20)); err != nil {
						return err
					}
					sent.Add(1)
				}
			})
			receive(t, b.entered, "the callback")
			// 40 MiB through another partition: more than async mode buffers.
			for range 40 {
				if err := p.SendToTopic(t.Context(), "events", nil, make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
			}
			// Those that were accepted before the first outcome came are beyond the bound.
			accepted := int32(5)
			if async {
				accepted += 32
			}
			waitFor(t, "the partition to be full", func() bool { return sent.Load() >= 4 })
			both := goSend(t, func() error {
				return p.WriteMessages(ctx, kafka.Message{Topic: "events", Value: []byte("with the other")}, kafka.Message{Topic: "orders", Value: make([]byte, 1<<20)})
			})
			waitFor(t, "the other half of a call", func() bool {
				n := int64(0)
				for partition := range int32(3) {
					n += c.PartitionInfo("events", partition).HighWatermark
				}
				return n == 41
			})
			cancel()
			err := receive(t, result, "the send")
			if !errors.Is(err, context.Canceled) || errors.Is(err, kafkax.ErrOutcomeUnknown) || !strings.Contains(err.Error(), "completion callback") {
				t.Errorf("got %v, want context.Canceled, a known outcome and the reason", err)
			}
			if err := receive(t, both, "the call to both"); err != nil && !slices.Contains(failedIndexes(t, err), 1) {
				t.Errorf("got %v", err)
			}
			if n := sent.Load(); n > accepted {
				t.Errorf("%d MiB were taken, want at most %d", n, accepted)
			}
			b.free()
			if err := p.SendMessage(t.Context(), nil, []byte("again")); err != nil {
				t.Errorf("after the callback returned: %v", err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCallbackOfTheWriterIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	b := newBlocker(t)
	p := produceTo(t, c, kafkax.WithProducerCompletion(func([]kafka.Message, error) { b.block() }))
	sent := goSend(t, func() error { return p.Writer().WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}) })
	receive(t, b.entered, "the callback")
	stored(t, c.ListenAddrs(), "orders", 1)
	select {
	case err := <-sent:
		t.Errorf("returned %v before the callback, which kafka-go does not", err)
	default:
	}
	b.free()
	if err := receive(t, sent, "the send"); err != nil {
		t.Error(err)
	}
}
