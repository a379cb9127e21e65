package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/bi-common/kafkax"
)

// silence makes the broker take requests and answer none.
func (b *broker) silence() {
	b.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		return nil, nil, true
	})
}

// stopCase is a consumer in some state when it is stopped.
type stopCase struct {
	name string
	opts []kafkax.ConsumerOption
	// start brings the consumer there. Results of loops go to ended.
	start func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error)
	loops int
	// stop is Close unless given.
	stop func(t *testing.T, c *kafkax.Consumer) error
	// within bounds the stop.
	within time.Duration
	check  func(t *testing.T, b *broker, stopErr error, loopErrs []error)
}

func consumeIn(c *kafkax.Consumer, ended chan<- error, h kafkax.Handler, opts ...kafkax.ConsumeOption) {
	go func() { ended <- c.Consume(context.Background(), h, opts...) }()
}

func noErrors(t *testing.T, _ *broker, stopErr error, loopErrs []error) {
	t.Helper()
	if err := errors.Join(append(loopErrs, stopErr)...); err != nil {
		t.Errorf("the stop cut something off: %v", err)
	}
}

func wantShutdownError(what string) func(*testing.T, *broker, error, []error) {
	return func(t *testing.T, b *broker, stopErr error, loopErrs []error) {
		t.Helper()
		for _, err := range append(loopErrs, stopErr) {
			var cut *kafkax.ShutdownError
			if !errors.As(err, &cut) || !errors.Is(err, kafkax.ErrShutdown) || !strings.Contains(strings.Join(cut.What, "\n"), what) {
				t.Errorf("got %v, want a ShutdownError that names %q", err, what)
			}
		}
	}
}

func TestD4_Stop(t *testing.T) { //nolint:paralleltest // looks for goroutines left behind
	handled := func(context.Context, kafka.Message) error { return nil }
	deaf := make(chan struct{})
	closeNow := func(t *testing.T, c *kafkax.Consumer) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return c.GracefulShutdown(ctx)
	}
	short := []kafkax.ConsumerOption{kafkax.WithConsumerShutdownTimeout(200 * time.Millisecond)}

	tests := []stopCase{
		{
			name:  "before any start",
			start: func(*testing.T, *broker, *kafkax.Consumer, chan<- error) {},
			check: noErrors, within: time.Second,
		},
		{
			name: "while a loop waits for messages", loops: 1,
			start: func(t *testing.T, _ *broker, c *kafkax.Consumer, ended chan<- error) {
				consumeIn(c, ended, handled)
				eventually(t, "fetches", func() bool { return c.Stats().Fetches > 1 })
			},
			check: noErrors, within: 5 * time.Second,
		},
		{
			name: "from many goroutines at once", loops: 1,
			start: func(t *testing.T, _ *broker, c *kafkax.Consumer, ended chan<- error) {
				consumeIn(c, ended, handled)
				eventually(t, "fetches", func() bool { return c.Stats().Fetches > 1 })
			},
			stop: func(_ *testing.T, c *kafkax.Consumer) error {
				errs := make([]error, 8)
				var stops sync.WaitGroup
				for i := range errs {
					stops.Go(func() { errs[i] = c.Close() })
				}
				stops.Wait()
				return errors.Join(errs...)
			},
			check: noErrors, within: 5 * time.Second,
		},
		{
			name: "right after a start", loops: 1,
			start: func(_ *testing.T, _ *broker, c *kafkax.Consumer, ended chan<- error) { consumeIn(c, ended, handled) },
			check: func(t *testing.T, b *broker, stopErr error, loopErrs []error) {
				if errors.Is(loopErrs[0], kafkax.ErrClosed) {
					loopErrs[0] = nil // the stop came first
				}
				noErrors(t, b, stopErr, loopErrs)
			},
			within: 5 * time.Second,
		},
		{
			name: "while a join is under way", loops: 1, opts: short,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				joining := make(chan struct{}, 100)
				b.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
					b.KeepControl()
					joining <- struct{}{}
					return nil, nil, true
				})
				consumeIn(c, ended, handled)
				received(t, "the join", joining)
			},
			check: noErrors, within: 3 * time.Second,
		},
		{
			name: "with the topic missing", loops: 1,
			opts: []kafkax.ConsumerOption{kafkax.WithConsumerTopic("missing")},
			start: func(t *testing.T, _ *broker, c *kafkax.Consumer, ended chan<- error) {
				consumeIn(c, ended, handled)
				eventually(t, "the report", func() bool { return c.Stats().Errors > 0 })
			},
			check: noErrors, within: 3 * time.Second,
		},
		{
			name: "while a handler is busy", loops: 1,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				started := make(chan struct{}, 10)
				consumeIn(c, ended, func(ctx context.Context, _ kafka.Message) error {
					started <- struct{}{}
					select {
					case <-time.After(100 * time.Millisecond):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				received(t, "the handler", started)
			},
			check: func(t *testing.T, b *broker, stopErr error, loopErrs []error) {
				noErrors(t, b, stopErr, loopErrs)
				if got := b.committed(t, "g", 0); got != 1 {
					t.Errorf("committed %d, handled 1", got)
				}
			},
			within: 5 * time.Second,
		},
		{
			name: "while a handler waits for its context", loops: 1, opts: short,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				started := make(chan struct{}, 10)
				consumeIn(c, ended, func(ctx context.Context, _ kafka.Message) error {
					started <- struct{}{}
					<-ctx.Done()
					return ctx.Err()
				})
				received(t, "the handler", started)
			},
			check: wantShutdownError("events[0]@0"), within: 3 * time.Second,
		},
		{
			name: "with a context that has ended", loops: 1,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				started := make(chan struct{}, 10)
				consumeIn(c, ended, func(ctx context.Context, _ kafka.Message) error {
					started <- struct{}{}
					<-ctx.Done()
					return ctx.Err()
				})
				received(t, "the handler", started)
			},
			stop: closeNow,
			check: func(t *testing.T, b *broker, stopErr error, loopErrs []error) {
				wantShutdownError("events[0]@0")(t, b, stopErr, loopErrs)
				if !errors.Is(stopErr, context.Canceled) {
					t.Errorf("%v does not say why", stopErr)
				}
			},
			within: 3 * time.Second,
		},
		{
			name: "with a context that has ended and nothing in flight", loops: 1,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				consumeIn(c, ended, handled, kafkax.WithDLQTopic("events.dlq"))
				eventually(t, "the messages", func() bool { return b.committed(t, "g", 0) == 10 })
			},
			opts: []kafkax.ConsumerOption{kafkax.WithConsumerCommitInterval(time.Millisecond)},
			stop: closeNow, check: noErrors, within: 3 * time.Second,
		},
		{
			name: "while a handler ignores its context", loops: 1, opts: short,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				started := make(chan struct{}, 10)
				consumeIn(c, ended, func(context.Context, kafka.Message) error {
					started <- struct{}{}
					<-deaf
					return nil
				})
				received(t, "the handler", started)
			},
			check: func(t *testing.T, b *broker, stopErr error, loopErrs []error) {
				wantShutdownError("events[0]@0")(t, b, stopErr, loopErrs)
				close(deaf)
				if got := b.committed(t, "g", 0); got > 0 {
					t.Errorf("committed %d", got)
				}
			},
			within: 3 * time.Second,
		},
		{
			name: "while a handler is in backoff", loops: 1,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				failed := make(chan struct{}, 10)
				consumeIn(c, ended, func(context.Context, kafka.Message) error { failed <- struct{}{}; return errHandler },
					kafkax.WithRetry(kafkax.RetryConfig{InitialBackoff: time.Minute, MaxBackoff: time.Minute}))
				received(t, "a failure", failed)
			},
			check: noErrors, within: 5 * time.Second,
		},
		{
			name: "while the dead letter topic is down", loops: 1,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				down := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events.dlq", Err: kerr.PolicyViolation, Count: -1})
				consumeIn(c, ended, func(context.Context, kafka.Message) error { return kafkax.Permanent(errHandler) }, kafkax.WithDLQTopic("events.dlq"))
				eventually(t, "a try", func() bool { return down.Hits() > 0 })
			},
			check: func(t *testing.T, _ *broker, stopErr error, loopErrs []error) {
				for _, err := range append(loopErrs, stopErr) {
					var dle *kafkax.DeadLetterError
					if !errors.As(err, &dle) || !errors.Is(err, errHandler) || !errors.Is(err, kafka.PolicyViolation) {
						t.Errorf("got %v", err)
					}
				}
			},
			within: 5 * time.Second,
		},
		{
			name: "while a dead letter gets no answer", loops: 1, opts: short,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				sent := make(chan struct{}, 100)
				b.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
					b.KeepControl()
					sent <- struct{}{}
					return nil, nil, true
				})
				consumeIn(c, ended, func(context.Context, kafka.Message) error { return kafkax.Permanent(errHandler) }, kafkax.WithDLQTopic("events.dlq"))
				received(t, "the dead letter", sent)
			},
			check: func(t *testing.T, _ *broker, stopErr error, loopErrs []error) {
				for _, err := range append(loopErrs, stopErr) {
					var dle *kafkax.DeadLetterError
					if !errors.As(err, &dle) || !errors.Is(err, errHandler) || !errors.Is(err, kafkax.ErrShutdown) {
						t.Errorf("got %v", err)
					}
				}
			},
			within: 3 * time.Second,
		},
		{
			name: "while the broker is silent", loops: 1, opts: append(short, kafkax.WithConsumerCommitInterval(time.Hour)),
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				var n atomic.Int64
				consumeIn(c, ended, func(context.Context, kafka.Message) error { n.Add(1); return nil })
				eventually(t, "the messages", func() bool { return n.Load() == 10 })
				b.silence()
			},
			check: func(t *testing.T, _ *broker, stopErr error, loopErrs []error) {
				for _, err := range append(loopErrs, stopErr) {
					var cut *kafkax.ShutdownError
					if !errors.As(err, &cut) || !strings.Contains(strings.Join(cut.What, "\n"), "commit of events[0]") {
						t.Errorf("got %v", err)
					}
				}
			},
			within: 3 * time.Second,
		},
		{
			name: "after the broker is gone", loops: 1, opts: append(short, kafkax.WithConsumerCommitInterval(time.Hour)),
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 10)...)
				var n atomic.Int64
				consumeIn(c, ended, func(context.Context, kafka.Message) error { n.Add(1); return nil })
				eventually(t, "the messages", func() bool { return n.Load() == 10 })
				b.Close()
			},
			check:  func(*testing.T, *broker, error, []error) {},
			within: 3 * time.Second,
		},
		{
			name: "while FetchMessage waits", loops: 2,
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, ended chan<- error) {
				b.produce(t, numbered(1, 2)...)
				msgs := fetchN(t, c, 2)
				if err := c.CommitMessages(testContext(t), msgs...); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					go func() {
						_, err := c.FetchMessage(context.Background())
						ended <- err
					}()
				}
			},
			check: func(t *testing.T, _ *broker, stopErr error, loopErrs []error) {
				if stopErr != nil {
					t.Errorf("Close returned %v", stopErr)
				}
				for _, err := range loopErrs {
					if !errors.Is(err, kafkax.ErrClosed) {
						t.Errorf("FetchMessage returned %v", err)
					}
				}
			},
			within: 5 * time.Second,
		},
		{
			name: "with messages fetched and not committed",
			start: func(t *testing.T, b *broker, c *kafkax.Consumer, _ chan<- error) {
				b.produce(t, numbered(1, 10)...)
				fetchN(t, c, 5)
			},
			check: func(t *testing.T, b *broker, stopErr error, loopErrs []error) {
				noErrors(t, b, stopErr, loopErrs)
				if got := b.committed(t, "g", 0); got > 0 {
					t.Errorf("committed %d", got)
				}
			},
			within: 5 * time.Second,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startBroker(t, 1, kfake.SeedTopics(1, "events.dlq"))
			c := b.consumer(t, "g", tt.opts...)
			before := goleak.IgnoreCurrent()
			ended := make(chan error, 10)
			tt.start(t, b, c, ended)

			began := time.Now()
			var stopErr error
			if tt.stop != nil {
				stopErr = tt.stop(t, c)
			} else {
				stopErr = c.Close()
			}
			if took := time.Since(began); took > tt.within {
				t.Errorf("the stop took %v", took)
			}
			wantClosed(t, c)
			if err := c.Close(); tt.stop == nil && stopErr == nil && err != nil {
				t.Errorf("the second Close returned %v", err)
			}
			var loopErrs []error
			for range tt.loops {
				loopErrs = append(loopErrs, received(t, "the loop to end", ended))
			}
			tt.check(t, b, stopErr, loopErrs)
			b.Close() // its side of the connections
			goleak.VerifyNone(t, before)
		})
	}
}

// wantClosed calls everything, which says so at once.
func wantClosed(t *testing.T, c *kafkax.Consumer) {
	t.Helper()
	ctx := context.Background()
	began := time.Now()
	_, fetchErr := c.FetchMessage(ctx)
	_, readErr := c.ReadMessage(ctx)
	for name, err := range map[string]error{
		"FetchMessage":   fetchErr,
		"ReadMessage":    readErr,
		"CommitMessages": c.CommitMessages(ctx, kafka.Message{Topic: "events"}),
		"Consume":        c.Consume(ctx, func(context.Context, kafka.Message) error { return nil }),
		"ConsumeWithManualCommit": c.ConsumeWithManualCommit(ctx, func(context.Context, kafka.Message) error { return nil },
			kafkax.WithDLQTopic("events.dlq")),
		"ConsumeBatch":            c.ConsumeBatch(ctx, func(context.Context, []kafka.Message) error { return nil }),
		"Ping":                    c.Ping(ctx),
		"SetOffset":               c.SetOffset(0),
		"SetOffsetAt":             c.SetOffsetAt(ctx, time.Now()),
		"RunWithGracefulShutdown": c.RunWithGracefulShutdown(ctx, func(context.Context) error { return nil }),
	} {
		if !errors.Is(err, kafkax.ErrClosed) {
			t.Errorf("%s after a stop returned %v", name, err)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("calls after a stop took %v", took)
	}
	if !c.IsShutdown() {
		t.Error("IsShutdown is false after a stop")
	}
	if r := c.Reader(); r != nil {
		t.Errorf("Reader returned %v after a stop", r)
	}
	if c.Lag() > 0 {
		t.Errorf("the lag is %d after a stop", c.Lag())
	}
	_ = c.Stats()
	_ = c.Config()
	c.SetLogger(nil, nil)
}

// Nothing is delivered once a stop has returned, also by calls that raced it.
func TestD4_NothingIsDeliveredAfterAStop(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 500)...)
	for range 5 {
		c := b.consumer(t, "g")
		var stopped atomic.Bool
		var late atomic.Int64
		loop := make(chan error, 1)
		started := make(chan struct{}, 1000)
		go func() {
			loop <- c.Consume(context.Background(), func(context.Context, kafka.Message) error {
				if stopped.Load() {
					late.Add(1)
				}
				started <- struct{}{}
				return nil
			}, kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.Unordered))
		}()
		received(t, "a message", started)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		stopped.Store(true)
		if err := received(t, "the loop", loop); err != nil {
			t.Error(err)
		}
		if n := late.Load(); n > 0 {
			t.Errorf("%d handlers ran after Close", n)
		}
		b.produce(t, numbered(1, 50)...)
	}
}

func TestZeroAndNilConsumer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*kafkax.Consumer{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantClosed(t, c)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := c.GracefulShutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNilArguments(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	c := b.consumer(t, "g")
	var none context.Context
	ctx := context.Background()
	handler := func(context.Context, kafka.Message) error { return nil }
	_, fetchErr := c.FetchMessage(none)
	_, readErr := c.ReadMessage(none)
	for name, err := range map[string]error{
		"FetchMessage, context":            fetchErr,
		"ReadMessage, context":             readErr,
		"CommitMessages, context":          c.CommitMessages(none),
		"Consume, context":                 c.Consume(none, handler),
		"Consume, handler":                 c.Consume(ctx, nil),
		"ConsumeWithManualCommit, handler": c.ConsumeWithManualCommit(ctx, nil),
		"ConsumeBatch, handler":            c.ConsumeBatch(ctx, nil),
		"Ping, context":                    c.Ping(none),
		"SetOffsetAt, context":             c.SetOffsetAt(none, time.Now()),
		"GracefulShutdown, context":        c.GracefulShutdown(none),
		"RunWithGracefulShutdown, context": c.RunWithGracefulShutdown(none, func(context.Context) error { return nil }),
		"RunWithGracefulShutdown, run":     c.RunWithGracefulShutdown(ctx, nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, opt := range map[string]kafkax.ConsumeOption{
		"nil option":    nil,
		"nil OnError":   kafkax.WithOnError(nil),
		"nil DLQWriter": kafkax.WithDLQWriter(nil),
		"concurrency 0": kafkax.WithConcurrency(0),
		"bad policy":    kafkax.WithOnFailure("perhaps"),
		"own topic":     kafkax.WithDLQTopic(b.topic),
	} {
		if err := c.Consume(ctx, handler, opt); !errors.Is(err, kafkax.ErrInvalidConfig) {
			t.Errorf("Consume with %s: %v", name, err)
		}
	}
	if c.IsShutdown() {
		t.Error("a bad call shut the consumer down")
	}
	b.produce(t, numbered(1, 1)...)
	fetchN(t, c, 1)
}

func TestNewConsumerErrors(t *testing.T) {
	t.Parallel()
	_, err := kafkax.NewConsumer(nil, kafkax.WithConsumerTopic("t"))
	if !errors.Is(err, kafkax.ErrInvalidConfig) || !errors.Is(err, kafkax.ErrNoBrokers) {
		t.Errorf("NewConsumer returned %v", err)
	}
	defer func() {
		err, ok := recover().(error)
		if !ok || !errors.Is(err, kafkax.ErrNoTopic) {
			t.Errorf("MustNewConsumer panicked with %v", err)
		}
	}()
	kafkax.MustNewConsumer(kafkax.WithConsumerBrokers("localhost:1"))
	t.Error("MustNewConsumer returned")
}

func TestConsumerConfigIsACopy(t *testing.T) {
	t.Parallel()
	c, err := kafkax.NewConsumer(kafkax.WithConsumerBrokers("one:1", "two:2"), kafkax.WithConsumerTopic("t"), kafkax.WithConsumerGroupID("g"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	cfg := c.Config()
	cfg.Brokers[0] = "changed:3"
	if got := c.Config(); !slices.Equal(got.Brokers, []string{"one:1", "two:2"}) {
		t.Errorf("the consumer's configuration was changed through a copy: %v", got.Brokers)
	}
}

func TestSetLoggerWhileRunning(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 50)...)
	c := b.consumer(t, "g")
	var n atomic.Int64
	run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(context.Context, kafka.Message) error { n.Add(1); return kafkax.Permanent(errHandler) })
	})
	logged := make(chan struct{}, 1000)
	for handled := int64(0); handled < 50; {
		handled = n.Load()
		c.SetLogger(nil, nil)
		c.SetLogger(testLogger(t), kafka.LoggerFunc(func(string, ...any) {
			select {
			case logged <- struct{}{}:
			default:
			}
		}))
	}
	b.produce(t, numbered(1, 1)...)
	received(t, "a line in the last logger", logged)
}

func TestStatsOnlyGrow(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 100)...)
	c := b.consumer(t, "g")
	counters := func() [6]int64 {
		s := c.Stats()
		return [6]int64{s.Fetches, s.Messages, s.Bytes, s.Rebalances, s.Timeouts, s.Errors}
	}
	before := counters()
	poll := func() {
		t.Helper()
		now := counters()
		for i := range now {
			if now[i] < before[i] {
				t.Errorf("counters went from %v to %v", before, now)
			}
		}
		before = now
	}
	for round := range int64(3) { // each loop is a new membership
		var n atomic.Int64
		stop := run(t, func(ctx context.Context) error {
			return c.ConsumeWithManualCommit(ctx, func(context.Context, kafka.Message) error { n.Add(1); return nil })
		})
		eventually(t, "messages", func() bool { poll(); return n.Load() == 100 })
		if err := stop(); err != nil {
			t.Error(err)
		}
		poll()
		if s := c.Stats(); s.Messages != 100*(round+1) || s.Rebalances != round+1 || s.Topic != b.topic || s.Fetches == 0 || s.Bytes == 0 {
			t.Errorf("after %d loops: %+v", round+1, s)
		}
		b.produce(t, numbered(1, 100)...)
	}
}

func TestLag(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 2)
	b.produce(t, numbered(2, 10)...)
	c := b.consumer(t, "g", kafkax.WithConsumerReadLagInterval(20*time.Millisecond))
	if lag := c.Lag(); lag != -1 {
		t.Errorf("the lag before a start is %d, want -1", lag)
	}
	held := newGate(t)
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(ctx context.Context, m kafka.Message) error {
			if m.Offset < 4 {
				return nil
			}
			return held.wait(ctx)
		}, kafkax.WithConcurrency(2))
	})
	eventually(t, "a lag of 6 in each partition", func() bool { return c.Lag() == 12 })
	b.produce(t, numbered(2, 5)...) // the handlers are too slow for another fetch
	eventually(t, "the lag to grow", func() bool { return c.Lag() == 22 && c.Stats().Lag == 22 })
	held.release()
	eventually(t, "the lag to go", func() bool { return c.Lag() == 0 })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if lag := c.Lag(); lag != -1 {
		t.Errorf("the lag after a stop is %d, want -1", lag)
	}
}

func TestConsumerPing(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	c := b.consumer(t, "g")
	if err := c.Ping(testContext(t)); err != nil {
		t.Error(err)
	}
	b.Close()
	err := c.Ping(testContext(t))
	if _, ok := errors.AsType[*kafkax.ConnectError](err); !ok {
		t.Errorf("without a broker: %v", err)
	}
}

// A loop that cannot reach the cluster goes on trying, and says so.
func TestLoopWaitsForTheCluster(t *testing.T) {
	t.Parallel()
	out, err := net.Dial("tcp", silentBroker(t)) // nobody listens where it goes out from
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c, err := kafkax.NewConsumer(
		kafkax.WithConsumerBrokers(out.LocalAddr().String()),
		kafkax.WithConsumerTopic("events"),
		kafkax.WithConsumerGroupID("g"),
		kafkax.WithConsumerErrorLogger(testLogger(t)),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	told := make(chan error, 100)
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(context.Context, kafka.Message) error { return nil },
			kafkax.WithOnError(func(_ context.Context, _ kafka.Message, err error) { told <- err }))
	})
	for range 2 {
		if err := received(t, "OnError", told); !strings.Contains(err.Error(), out.LocalAddr().String()) {
			t.Errorf("%v does not say which broker", err)
		}
	}
	if n := c.Stats().Errors; n < 2 {
		t.Errorf("Stats counts %d errors", n)
	}
	if err := stop(); err != nil {
		t.Errorf("the loop returned %v", err)
	}
}

func TestRunWithGracefulShutdown(t *testing.T) { //nolint:paralleltest // sends signals to the process
	signalSelf := func(t *testing.T, s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	setUp := func(t *testing.T, opts ...kafkax.ConsumerOption) (*broker, *kafkax.Consumer) {
		b := startBroker(t, 1)
		b.produce(t, numbered(1, 10)...)
		c := b.consumer(t, "g", opts...)
		return b, c
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			b, c := setUp(t, kafkax.WithConsumerCommitInterval(time.Hour))
			started, result, held := make(chan struct{}, 10), make(chan error, 1), newGate(t)
			go func() {
				result <- c.RunWithGracefulShutdown(context.Background(), func(ctx context.Context) error {
					return c.Consume(ctx, func(ctx context.Context, m kafka.Message) error {
						if m.Offset == 3 {
							started <- struct{}{}
							return held.wait(ctx)
						}
						return nil
					})
				})
			}()
			received(t, "the handler", started)
			signalSelf(t, s)
			eventually(t, "the shutdown", c.IsShutdown)
			held.release()
			if err := received(t, "the end", result); err != nil {
				t.Errorf("RunWithGracefulShutdown returned %v", err)
			}
			if got := b.committed(t, "g", 0); got != 4 {
				t.Errorf("committed %d, handled 4", got)
			}
		})
	}
	t.Run("a second signal cuts it short", func(t *testing.T) {
		_, c := setUp(t)
		started, result := make(chan struct{}, 10), make(chan error, 1)
		go func() {
			result <- c.RunWithGracefulShutdown(context.Background(), func(ctx context.Context) error {
				return c.Consume(ctx, func(ctx context.Context, _ kafka.Message) error {
					started <- struct{}{}
					<-ctx.Done()
					return ctx.Err()
				})
			})
		}()
		received(t, "the handler", started)
		signalSelf(t, syscall.SIGTERM)
		eventually(t, "the shutdown", c.IsShutdown)
		began := time.Now()
		signalSelf(t, syscall.SIGTERM)
		var cut *kafkax.ShutdownError
		if err := received(t, "the end", result); !errors.As(err, &cut) {
			t.Errorf("RunWithGracefulShutdown returned %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	t.Run("the context ends", func(t *testing.T) {
		_, c := setUp(t)
		ctx, cancel := context.WithCancel(context.Background())
		err := c.RunWithGracefulShutdown(ctx, func(ctx context.Context) error {
			cancel()
			<-ctx.Done()
			return fmt.Errorf("run: %w", ctx.Err())
		})
		if err != nil || !c.IsShutdown() {
			t.Errorf("returned %v, IsShutdown %v", err, c.IsShutdown())
		}
	})
	t.Run("run ends", func(t *testing.T) {
		_, c := setUp(t)
		err := c.RunWithGracefulShutdown(context.Background(), func(context.Context) error { return errHandler })
		if !errors.Is(err, errHandler) || !c.IsShutdown() {
			t.Errorf("returned %v, IsShutdown %v", err, c.IsShutdown())
		}
	})
	t.Run("run ignores its context", func(t *testing.T) {
		_, c := setUp(t, kafkax.WithConsumerShutdownTimeout(50*time.Millisecond))
		ctx, cancel := context.WithCancel(context.Background())
		forever, left := make(chan struct{}), make(chan struct{})
		err := c.RunWithGracefulShutdown(ctx, func(context.Context) error {
			defer close(left)
			cancel()
			<-forever
			return nil
		})
		if _, ok := errors.AsType[*kafkax.ShutdownError](err); !ok {
			t.Errorf("returned %v", err)
		}
		close(forever)
		received(t, "run", left)
	})
}

// A run that ends because it was asked to has not failed, however it was asked
// and whoever notices first. What it says beside that is not lost.
func TestRunWithGracefulShutdownThatWasAskedFor(t *testing.T) {
	t.Parallel()
	failed := &kafkax.HandlerError{Topic: "orders", Attempts: 1, Err: context.DeadlineExceeded} // of a call the handler made
	notWritten := &kafkax.DeadLetterError{Topic: "orders", HandlerErr: errHandler, WriteErr: context.DeadlineExceeded}
	cutOff := &kafkax.ShutdownError{What: []string{"orders[3]@42: handler still running"}, Err: context.DeadlineExceeded}
	deadline := func() (context.Context, context.CancelFunc) {
		return context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	}
	canceled := func() (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx, cancel
	}
	running := func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }
	tests := []struct {
		name string
		ctx  func() (context.Context, context.CancelFunc)
		run  func(context.Context, *kafkax.Consumer) error
		want error
	}{
		{"deadline", deadline, func(ctx context.Context, _ *kafkax.Consumer) error { return ctx.Err() }, nil},
		{"deadline_with_text", deadline, func(ctx context.Context, _ *kafkax.Consumer) error {
			return fmt.Errorf("run: %w", ctx.Err())
		}, nil},
		{"canceled", canceled, func(ctx context.Context, _ *kafkax.Consumer) error { return ctx.Err() }, nil},
		{"pull_calls", deadline, func(ctx context.Context, c *kafkax.Consumer) error {
			_, err := c.FetchMessage(ctx)
			return err
		}, nil},
		{"closed_elsewhere", running, func(ctx context.Context, c *kafkax.Consumer) error {
			if err := c.Close(); err != nil {
				return err
			}
			_, err := c.FetchMessage(ctx)
			return err
		}, nil},
		{"its_own_deadline", running, func(context.Context, *kafkax.Consumer) error { return context.DeadlineExceeded }, context.DeadlineExceeded},
		{"handler_failed", deadline, func(ctx context.Context, _ *kafkax.Consumer) error { return errors.Join(ctx.Err(), failed) }, failed},
		{"dead_letter_not_written", deadline, func(context.Context, *kafkax.Consumer) error { return notWritten }, notWritten},
		{"cut_off", deadline, func(context.Context, *kafkax.Consumer) error { return cutOff }, cutOff},
		{"exits its goroutine", running, func(context.Context, *kafkax.Consumer) error { runtime.Goexit(); return nil }, kafkax.ErrGoexit},
		{"panics", running, func(context.Context, *kafkax.Consumer) error { panic(errHandler) }, errHandler},
		{"another_error", deadline, func(context.Context, *kafkax.Consumer) error { return errHandler }, errHandler},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for range 50 { // whether run or its context ends first is chance
				c, err := kafkax.NewConsumer(kafkax.WithConsumerBrokers("127.0.0.1:1"), // nobody listens
					kafkax.WithConsumerTopic("orders"), kafkax.WithConsumerGroupID("g"), kafkax.WithConsumerErrorLogger(testLogger(t)))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := tt.ctx()
				err = c.RunWithGracefulShutdown(ctx, func(ctx context.Context) error { return tt.run(ctx, c) })
				cancel()
				if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Fatalf("returned %v, want %v", err, tt.want)
				}
			}
		})
	}
}

// Whoever begins at what was committed can tell of which log that is: by the leader
// epoch, as other clients do, and by the topic's id.
func TestD12_CommitsNameTheirLog(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 3)...)
	c := b.consumer(t, "g")
	j := newJournal()
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
	})
	eventually(t, "all handled", func() bool { return j.len() == 3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	note := b.noteOf(b.topic)
	if got := b.GroupInfo("g").Commits[b.topic][0]; got.Offset != 3 || got.LeaderEpoch != b.PartitionInfo(b.topic, 0).Epoch || got.Metadata != note {
		t.Errorf("committed %+v, want offset 3, the leader's epoch and %q", got, note)
	}
}

// So does where a group begins, though nothing was read there, and where a caller
// moved it to: another member may know the topic that was there before.
func TestD12_PositionsThatWereNotReadNameTheirLog(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 3)...)
	c := b.consumer(t, "g", kafkax.WithConsumerStartOffset(kafkax.StartLatest), kafkax.WithConsumerCommitInterval(10*time.Millisecond))
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(context.Context, kafka.Message) error { return nil })
	})
	committed := func(offset int64, note string) func() bool {
		return func() bool {
			info := b.GroupInfo("g")
			if info == nil {
				return false
			}
			got, ok := info.Commits[b.topic][0]
			return ok && got.Offset == offset && got.Metadata == note
		}
	}
	note := b.noteOf(b.topic)
	eventually(t, "the end to be committed, with its topic", committed(3, note))
	if err := c.SetOffset(3); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the move to be committed, with its topic", committed(3, strings.Replace(note, "kafkax ", "kafkax moved ", 1)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
