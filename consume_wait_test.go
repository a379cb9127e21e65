package kafkax_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

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
