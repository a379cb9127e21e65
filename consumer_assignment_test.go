package kafkax_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bi-common/kafkax"
)

// While a stop waits for a handler, a rebalance may begin. The group waits for
// neither longer than for any member, and then gives the message to another.
func TestD14_StopThatARebalanceOvertakes(t *testing.T) {
	t.Parallel()
	short := []kafkax.ConsumerOption{
		kafkax.WithConsumerSessionTimeout(10 * time.Second),
		kafkax.WithConsumerRebalanceTimeout(10 * time.Second),
		kafkax.WithConsumerShutdownTimeout(time.Minute),
	}
	const grace = 10*time.Second - 100*time.Millisecond // less a heartbeat
	for _, loop := range allLoops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := startVirtualBroker(t, 1)
				b.produce(t, numbered(1, 1)...)
				var running, together atomic.Int64
				enter := func() func() {
					if running.Add(1) > 1 {
						together.Add(1)
					}
					return func() { running.Add(-1) }
				}
				c := b.consumer(t, "g", short...)
				started, causes := make(chan struct{}, 1), make(chan error, 1)
				run(t, func(ctx context.Context) error {
					return loop.run(c, ctx, func(ctx context.Context, _ kafka.Message) error {
						defer enter()()
						started <- struct{}{}
						<-ctx.Done()
						causes <- context.Cause(ctx)
						return ctx.Err()
					})
				})
				received(t, "the handler", started)
				stopped := make(chan error, 1)
				go func() { stopped <- c.Close() }()
				// Of the bubble's clock: the stop has begun long before, and the join
				// comes between two heartbeats.
				time.Sleep(5*time.Second + 30*time.Millisecond)

				began := time.Now()
				other, handled := b.consumer(t, "g", short...), make(chan struct{}, 1)
				run(t, func(ctx context.Context) error {
					return loop.run(other, ctx, func(context.Context, kafka.Message) error {
						defer enter()()
						handled <- struct{}{}
						return nil
					})
				})
				if cause := received(t, "the handler's context to end", causes); !errors.Is(cause, kafkax.ErrRevoked) {
					t.Errorf("the cause is %v, want %v", cause, kafkax.ErrRevoked)
				}
				if took := time.Since(began); took > 10*time.Second || took < grace {
					t.Errorf("the handler was told after %v, want %v", took, grace)
				}
				err := received(t, "the stop", stopped)
				cut, ok := errors.AsType[*kafkax.ShutdownError](err)
				if !ok || !errors.Is(err, kafkax.ErrRevoked) || !strings.HasPrefix(cut.What[0], "events[0]@0 since ") {
					t.Errorf("Close returned %v", err)
				}
				received(t, "the other member to handle it", handled)
				if together.Load() > 0 {
					t.Error("two members handled the message at the same time")
				}
			})
		})
	}
}

// The other way around: the bound of a stop is the earlier one.
func TestD3_RebalanceThatAStopOvertakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := startVirtualBroker(t, 1)
		b.produce(t, numbered(1, 1)...)
		c := b.consumer(t, "g")
		started, causes := make(chan struct{}, 1), make(chan error, 1)
		run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(ctx context.Context, _ kafka.Message) error {
				started <- struct{}{}
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return ctx.Err()
			})
		})
		received(t, "the handler", started)
		other := b.consumer(t, "g")
		run(t, func(ctx context.Context) error {
			return other.Consume(ctx, func(context.Context, kafka.Message) error { return nil })
		})
		time.Sleep(time.Second) // of the bubble's clock: the rebalance waits for the handler
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if err := c.GracefulShutdown(ctx); !errors.Is(err, kafkax.ErrShutdown) {
			t.Errorf("GracefulShutdown returned %v", err)
		}
		if cause := received(t, "the handler's context to end", causes); !errors.Is(cause, kafkax.ErrShutdown) {
			t.Errorf("the cause is %v, want %v", cause, kafkax.ErrShutdown)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v, with a bound of 2s", took)
		}
	})
}

// A topic that has stopped leaves the group, which is a rebalance for those that
// still wait for their handlers.
func TestD14_StopOfSeveralTopicsHasTheGroupsGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := startVirtualBroker(t, 1, kfake.SeedTopics(1, "idle"))
		b.produce(t, numbered(1, 1)...)
		m := b.multi(t, "g", []string{b.topic, "idle"},
			kafkax.WithConsumerSessionTimeout(10*time.Second), kafkax.WithConsumerShutdownTimeout(time.Minute))
		started, causes := make(chan struct{}, 1), make(chan error, 1)
		slow := func(ctx context.Context, _ kafka.Message) error {
			started <- struct{}{}
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return ctx.Err()
		}
		run(t, func(ctx context.Context) error {
			return m.Consume(ctx, map[string]kafkax.Handler{b.topic: slow, "idle": slow})
		})
		received(t, "the handler", started)
		began := time.Now()
		err := m.Close()
		if cause := received(t, "the handler's context to end", causes); !errors.Is(cause, kafkax.ErrRevoked) {
			t.Errorf("the cause is %v, want %v", cause, kafkax.ErrRevoked)
		}
		if _, ok := errors.AsType[*kafkax.ShutdownError](err); !ok || time.Since(began) > 11*time.Second {
			t.Errorf("Close returned %v after %v", err, time.Since(began))
		}
	})
}
