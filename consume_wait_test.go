package kafkax_test

import (
	"context"
	"errors"
	"fmt"
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

// What a message may wait for, while those that need not wait for it go on.
type waitsFor struct {
	name string
	// of is what the handler does with a message that is to wait, until the
	// gate opens.
	of   func(ctx context.Context, held *gate) error
	opts func(held *gate) []kafkax.ConsumeOption
}

func waits() []waitsFor {
	fails := func(context.Context, *gate) error { return kafkax.Permanent(errHandler) }
	return []waitsFor{
		{
			"its handler",
			func(ctx context.Context, held *gate) error { return held.wait(ctx) },
			func(*gate) []kafkax.ConsumeOption { return nil },
		},
		{
			"a retry",
			func(context.Context, *gate) error { return errHandler },
			func(*gate) []kafkax.ConsumeOption {
				return []kafkax.ConsumeOption{kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 2, InitialBackoff: time.Hour, MaxBackoff: time.Hour})}
			},
		},
		{"its dead letter", fails, func(held *gate) []kafkax.ConsumeOption {
			return []kafkax.ConsumeOption{kafkax.WithDLQWriter(dlqFunc(func(ctx context.Context, _ ...kafka.Message) error { return held.wait(ctx) }))}
		}},
		{"OnError", fails, func(held *gate) []kafkax.ConsumeOption {
			return []kafkax.ConsumeOption{kafkax.WithOnError(func(context.Context, kafka.Message, error) { <-held.open })}
		}},
	}
}

func TestD14_AKeyThatWaitsHoldsUpItselfAlone(t *testing.T) {
	t.Parallel()
	const n, keys = 2000, 20
	for _, tt := range waits() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			var records []*kgo.Record
			for i := range n {
				records = append(records, &kgo.Record{Key: fmt.Appendf(nil, "key%d", i%keys), Value: fmt.Appendf(nil, "0/%d", i)})
			}
			b.produce(t, records...)
			c := b.consumer(t, "g", kafkax.WithConsumerShutdownTimeout(time.Second))
			held := newGate(t)
			var others, own atomic.Int64
			run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(ctx context.Context, m kafka.Message) error {
					if string(m.Key) == "key7" {
						own.Add(1)
						return tt.of(ctx, held)
					}
					others.Add(1)
					return nil
				}, append(tt.opts(held), kafkax.WithConcurrency(8), kafkax.WithOrdering(kafkax.OrderKey))...)
			})
			eventually(t, "all others to be handled", func() bool { return others.Load() == n-n/keys })
			if got := own.Load(); got != 1 {
				t.Errorf("%d messages of the key that waits were handled", got)
			}
		})
	}
}

func TestD14_MessagesThatWaitHoldUpNoneWithoutOrder(t *testing.T) {
	t.Parallel()
	const n, slow = 1000, 100
	for _, tt := range waits()[1:] { // as many handlers at once as were asked for are all there is
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, n)...)
			c := b.consumer(t, "g", kafkax.WithConsumerShutdownTimeout(time.Second))
			held := newGate(t)
			var others atomic.Int64
			run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(ctx context.Context, m kafka.Message) error {
					if m.Offset%(n/slow) == 0 {
						return tt.of(ctx, held)
					}
					others.Add(1)
					return nil
				}, append(tt.opts(held), kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.Unordered))...)
			})
			eventually(t, "all others to be handled", func() bool { return others.Load() == n-slow })
		})
	}
}

// In the order of partitions, one that waits gives its handler to the others.
func TestD14_APartitionThatWaitsHoldsUpItselfAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range waits()[1:] {
		for _, loop := range allLoops {
			if loop.name == loopBatch.name && tt.name == "a retry" {
				continue // a batch is of several partitions, and they wait together
			}
			t.Run(tt.name+"/"+loop.name, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 2)
				b.produce(t, numbered(2, 50)...)
				c := b.consumer(t, "g", kafkax.WithConsumerShutdownTimeout(time.Second), kafkax.WithConsumerBatchSize(5))
				held := newGate(t)
				var others, own atomic.Int64
				run(t, func(ctx context.Context) error {
					return loop.run(c, ctx, func(ctx context.Context, m kafka.Message) error {
						if m.Partition == 0 && m.Offset >= 10 {
							own.Add(1)
							return tt.of(ctx, held)
						}
						if m.Partition == 1 {
							others.Add(1)
						}
						return nil
					}, append(tt.opts(held), kafkax.WithOnFailure(kafkax.FailSkip))...)
				})
				eventually(t, "the other partition to be handled", func() bool { return others.Load() == 50 })
				if got := own.Load(); got > 5 {
					t.Errorf("%d messages behind the one that waits were handled", got)
				}
			})
		}
	}
}

// overtaking is a loop in which messages behind one that waits are handled.
type overtaking struct {
	name string
	asLoop
	behind int // how many of 18, each tenth of the same key
	opts   []kafkax.ConsumeOption
}

func overtakings() []overtaking {
	ordered := func(o kafkax.Ordering) []kafkax.ConsumeOption {
		return []kafkax.ConsumeOption{kafkax.WithConcurrency(4), kafkax.WithOrdering(o)}
	}
	return []overtaking{
		{"by key", loopConsume, 17, ordered(kafkax.OrderKey)},
		{"by key, manual", loopManual, 17, ordered(kafkax.OrderKey)},
		{"unordered", loopConsume, 18, ordered(kafkax.Unordered)},
		{"batches", loopBatch, 18, nil},
	}
}

// overtaken is a member that has handled all it can but its first message, which
// waits for long.
type overtaken struct {
	*broker
	*kafkax.Consumer
	handled *journal
	down    atomic.Bool  // what the message needs
	tries   atomic.Int64 // of that
	log     *logLines
	ended   chan error // what the loop returned
	consume func(ctx context.Context, c *kafkax.Consumer) error
}

func newOvertaken(t *testing.T, o overtaking, group, wait string, opts ...kafkax.ConsumerOption) *overtaken {
	t.Helper()
	f := &overtaken{broker: startVirtualBroker(t, 1), handled: newJournal(), log: newLogLines(), ended: make(chan error, 1)}
	f.produce(t, numbered(1, 19)...)
	f.down.Store(true)
	try := func() error {
		if f.tries.Add(1); f.down.Load() {
			return errHandler
		}
		return nil
	}
	f.consume = func(ctx context.Context, c *kafkax.Consumer) error {
		return o.run(c, ctx, func(_ context.Context, m kafka.Message) error {
			if m.Offset == 0 {
				if wait == "a dead letter" {
					return kafkax.Permanent(errHandler)
				}
				if err := try(); err != nil {
					return err
				}
			}
			f.handled.add(m)
			return nil
		}, append([]kafkax.ConsumeOption{
			kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 1000, InitialBackoff: time.Second, Multiplier: 2, MaxBackoff: time.Hour}),
			kafkax.WithDLQWriter(dlqFunc(func(_ context.Context, msgs ...kafka.Message) error {
				if err := try(); err != nil {
					return err
				}
				f.handled.add(msgs[0])
				return nil
			})),
		}, o.opts...)...)
	}
	f.Consumer = f.consumer(t, group, append([]kafkax.ConsumerOption{kafkax.WithConsumerErrorLogger(f.log)}, opts...)...)
	run(t, func(ctx context.Context) error {
		err := f.consume(ctx, f.Consumer)
		f.ended <- err
		return err
	})
	eventually(t, "those behind to be handled", func() bool { return f.handled.len() == o.behind })
	time.Sleep(time.Minute) // of the bubble's clock: the waits are long by now
	return f
}

// join has another member take the partition.
func (f *overtaken) join(t *testing.T, opts ...kafkax.ConsumerOption) {
	t.Helper()
	other := f.consumer(t, "g", opts...)
	run(t, func(ctx context.Context) error { return f.consume(ctx, other) })
}

// eachOvertaken runs a test for each loop and each thing that a message waits for.
func eachOvertaken(t *testing.T, test func(t *testing.T, o overtaking, wait string)) {
	t.Helper()
	for _, o := range overtakings() {
		for _, wait := range []string{"a retry", "a dead letter"} {
			t.Run(o.name+"/"+wait, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { test(t, o, wait) })
			})
		}
	}
}

// What is handled behind a message that waits comes again unless that is handled
// too. So it does not wait any longer when its time ends.
func TestD3_StopTriesWhatWasOvertaken(t *testing.T) {
	t.Parallel()
	eachOvertaken(t, func(t *testing.T, o overtaking, wait string) {
		f := newOvertaken(t, o, "g", wait)
		f.down.Store(false)
		tries, began := f.tries.Load(), time.Now()
		if err := f.Close(); err != nil {
			t.Errorf("Close returned %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		if got := f.tries.Load() - tries; got != 1 {
			t.Errorf("it was tried %d times, want once", got)
		}
		if got := f.committed(t, "g", 0); got != 19 || f.handled.len() != 19 {
			t.Errorf("committed %d, handled %d, want all 19", got, f.handled.len())
		}
		if d := f.handled.duplicates(); d != nil {
			t.Errorf("handled twice: %v", d)
		}
	})
}

func TestD3_RebalanceTriesWhatWasOvertaken(t *testing.T) {
	t.Parallel()
	eachOvertaken(t, func(t *testing.T, o overtaking, wait string) {
		f := newOvertaken(t, o, "g", wait)
		f.down.Store(false)
		f.join(t)
		eventuallyWithin(t, 5*time.Second, "all to be committed", func() bool { return f.committed(t, "g", 0) == 19 })
		if d := f.handled.duplicates(); d != nil {
			t.Errorf("handled twice: %v", d)
		}
	})
}

// Where trying is in vain, the end says what comes again.
func TestD3_StopNamesWhatComesAgain(t *testing.T) {
	t.Parallel()
	eachOvertaken(t, func(t *testing.T, o overtaking, wait string) {
		f := newOvertaken(t, o, "g", wait, kafkax.WithConsumerShutdownTimeout(20*time.Second))
		tries, began := f.tries.Load(), time.Now()
		err := f.Close()
		cut, ok := errors.AsType[*kafkax.ShutdownError](err)
		want := fmt.Sprintf("events[0]@0: %d handled message(s) behind it come again", o.behind)
		if !ok || !slices.Contains(cut.What, want) || !errors.Is(err, kafkax.ErrShutdown) {
			t.Errorf("Close returned %v, want %q", err, want)
		}
		if ended := received(t, "the loop", f.ended); ended == nil || !strings.Contains(ended.Error(), want) {
			t.Errorf("the loop returned %v, want %q", ended, want)
		}
		if dead, ok := errors.AsType[*kafkax.DeadLetterError](err); ok != (wait == "a dead letter") {
			t.Errorf("of the dead letter it says %v", dead)
		}
		if took := time.Since(began); took < 20*time.Second || took > 21*time.Second {
			t.Errorf("Close took %v, want what it may", took)
		}
		if f.tries.Load() == tries {
			t.Error("it was not tried again")
		}
	})
}

func TestD3_RebalanceNamesWhatComesAgain(t *testing.T) {
	t.Parallel()
	eachOvertaken(t, func(t *testing.T, o overtaking, wait string) {
		short := []kafkax.ConsumerOption{kafkax.WithConsumerSessionTimeout(10 * time.Second), kafkax.WithConsumerRebalanceTimeout(10 * time.Second)}
		f := newOvertaken(t, o, "g", wait, short...)
		f.join(t, short...)
		want := fmt.Sprintf("events[0]@0: %d handled message(s) behind it come again", o.behind)
		eventually(t, "the log to say so", func() bool { return strings.Contains(f.log.String(), want) })
		f.down.Store(false)
		eventuallyWithin(t, 3*time.Minute, "all to be committed", func() bool { return f.committed(t, "g", 0) == 19 })
	})
}

// Where nothing would come again that is handled, nobody waits.
func TestD3_StopLeavesWhatWasNotOvertaken(t *testing.T) {
	t.Parallel()
	hour := kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 2, InitialBackoff: time.Hour, MaxBackoff: time.Hour})
	quick := func(t *testing.T, c *kafkax.Consumer) {
		t.Helper()
		began := time.Now()
		if err := c.Close(); err != nil {
			t.Errorf("Close returned %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("Close took %v", took)
		}
	}
	for _, o := range overtakings() {
		t.Run("all fail/"+o.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := startVirtualBroker(t, 1)
				b.produce(t, numbered(1, 19)...)
				c := b.consumer(t, "g")
				var calls atomic.Int64
				run(t, func(ctx context.Context) error {
					return o.run(c, ctx, func(context.Context, kafka.Message) error { calls.Add(1); return errHandler }, append(o.opts, hour)...)
				})
				eventually(t, "them to be tried", func() bool { return calls.Load() >= 10 })
				time.Sleep(time.Minute) // of the bubble's clock: all wait
				before := calls.Load()
				quick(t, c)
				if calls.Load() != before {
					t.Errorf("%d were tried again", calls.Load()-before)
				}
			})
		})
		t.Run("without a group/"+o.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { quick(t, newOvertaken(t, o, "", "a retry").Consumer) })
		})
	}
}

// A member that the group went on without cannot commit, and another may be at its
// messages by now.
func TestD14_WhatWasOvertakenIsLeftToTheGroup(t *testing.T) {
	t.Parallel()
	for _, o := range overtakings() {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := startVirtualBroker(t, 1)
				b.produce(t, numbered(1, 19)...)
				b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.IllegalGeneration})
				c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(5*time.Second))
				var mu sync.Mutex
				var generations []int64 // in which the message was tried
				run(t, func(ctx context.Context) error {
					return o.run(c, ctx, func(_ context.Context, m kafka.Message) error {
						if m.Offset == 0 {
							mu.Lock()
							defer mu.Unlock()
							generations = append(generations, c.Stats().Rebalances)
							return errHandler
						}
						return nil
					}, append(o.opts, kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 2, InitialBackoff: time.Hour, MaxBackoff: time.Hour}))...)
				})
				tried := func(n int) func() bool {
					return func() bool { mu.Lock(); defer mu.Unlock(); return len(generations) >= n }
				}
				eventually(t, "the first try", tried(1))
				eventually(t, "the second", tried(2))
				mu.Lock()
				defer mu.Unlock()
				if generations[0] == generations[1] {
					t.Error("it was tried again by a member that the group does not know")
				}
			})
		})
	}
}

// A loop that ends at a message says so by its error, and nothing was cut off. The
// log has what comes again with the message.
func TestD3_EndOfALoopLogsWhatComesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := startVirtualBroker(t, 1)
		b.produce(t, numbered(1, 5)...)
		log, behind := newLogLines(), make(chan struct{}, 4)
		c := b.consumer(t, "g", kafkax.WithConsumerErrorLogger(log))
		err := c.ConsumeWithManualCommit(testContext(t), func(_ context.Context, m kafka.Message) error {
			if m.Offset > 0 {
				behind <- struct{}{}
				return nil
			}
			for range 4 {
				<-behind
			}
			time.Sleep(time.Second) // of the bubble's clock: they are marked
			return kafkax.Permanent(errHandler)
		}, kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.OrderKey))
		if _, ok := errors.AsType[*kafkax.HandlerError](err); !ok {
			t.Errorf("the loop returned %v", err)
		}
		if cut, ok := errors.AsType[*kafkax.ShutdownError](err); ok {
			t.Errorf("the loop says that something was cut off: %v", cut)
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close returned %v", err)
		}
		if want := "events[0]@0: 4 handled message(s) behind it come again"; !strings.Contains(log.String(), want) {
			t.Errorf("the log has not %q: %s", want, log)
		}
	})
}
