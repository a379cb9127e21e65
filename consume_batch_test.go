package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
)

// batchFailing names the messages of a batch that have one of the offsets.
func batchFailing(msgs []kafka.Message, offsets map[int64]error) error {
	failed := map[int]error{}
	for i, m := range msgs {
		if err, ok := offsets[m.Offset]; ok {
			failed[i] = err
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &kafkax.BatchError{Failed: failed}
}

func TestD9_BatchErrorDecidesForEachMessage(t *testing.T) {
	t.Parallel()
	all := map[int64]int{0: 3, 1: 3, 2: 3, 3: 3}
	tests := []struct {
		name string
		fail func(msgs []kafka.Message) error
		// want is how often each message was tried; nil where the handler fails
		// whatever it is given.
		want map[int64]int
		dead []int64
	}{
		{"one named", func(msgs []kafka.Message) error {
			return batchFailing(msgs, map[int64]error{2: errHandler})
		}, map[int64]int{0: 1, 1: 1, 2: 3, 3: 1}, []int64{2}},
		{"two named", func(msgs []kafka.Message) error {
			return batchFailing(msgs, map[int64]error{0: errHandler, 3: io.EOF})
		}, map[int64]int{0: 3, 1: 1, 2: 1, 3: 3}, []int64{0, 3}},
		{"wrapped", func(msgs []kafka.Message) error {
			if err := batchFailing(msgs, map[int64]error{1: errHandler}); err != nil {
				return fmt.Errorf("insert: %w", err)
			}
			return nil
		}, map[int64]int{0: 1, 1: 3, 2: 1, 3: 1}, []int64{1}},
		{"one of them permanent", func(msgs []kafka.Message) error {
			return batchFailing(msgs, map[int64]error{1: kafkax.Permanent(errHandler), 2: errHandler})
		}, map[int64]int{0: 1, 1: 1, 2: 3, 3: 1}, []int64{1, 2}},
		{"all of it permanent", func(msgs []kafka.Message) error {
			return kafkax.Permanent(batchFailing(msgs, map[int64]error{1: errHandler, 2: errHandler}))
		}, map[int64]int{0: 1, 1: 1, 2: 1, 3: 1}, []int64{1, 2}},
		{"no BatchError", func([]kafka.Message) error { return errHandler }, all, []int64{0, 1, 2, 3}},
		{"permanent without BatchError", func([]kafka.Message) error {
			return kafkax.Permanent(errHandler)
		}, map[int64]int{0: 1, 1: 1, 2: 1, 3: 1}, []int64{0, 1, 2, 3}},
		{"an empty one is of all", func([]kafka.Message) error { return &kafkax.BatchError{} }, all, []int64{0, 1, 2, 3}},
		{"a nil one is of all", func([]kafka.Message) error {
			var none *kafkax.BatchError
			return none
		}, all, []int64{0, 1, 2, 3}},
		{"an index too high is of all", func(msgs []kafka.Message) error {
			return &kafkax.BatchError{Failed: map[int]error{0: errHandler, len(msgs): errHandler}}
		}, all, []int64{0, 1, 2, 3}},
		{"a negative index is of all", func([]kafka.Message) error {
			return &kafkax.BatchError{Failed: map[int]error{-1: errHandler}}
		}, all, []int64{0, 1, 2, 3}},
		// An index means what stands there when the handler returns.
		{"after it was sorted", func(msgs []kafka.Message) error {
			slices.Reverse(msgs)
			return &kafkax.BatchError{Failed: map[int]error{0: errHandler}}
		}, nil, []int64{3}},
		{"after it was sorted, two", func(msgs []kafka.Message) error {
			slices.Reverse(msgs)
			failed := map[int]error{}
			for i, m := range msgs {
				if m.Offset == 0 || m.Offset == 2 {
					failed[i] = errHandler
				}
			}
			if len(failed) == 0 {
				return nil
			}
			return &kafkax.BatchError{Failed: failed}
		}, map[int64]int{0: 3, 1: 1, 2: 3, 3: 1}, []int64{0, 2}},
		{"after it was changed without a trace", func(msgs []kafka.Message) error {
			clear(msgs)
			return &kafkax.BatchError{Failed: map[int]error{0: errHandler}}
		}, nil, []int64{0, 1, 2, 3}},
		{"one named twice is of all", func(msgs []kafka.Message) error {
			msgs[1] = msgs[0]
			return &kafkax.BatchError{Failed: map[int]error{0: errHandler, 1: errHandler}}
		}, nil, []int64{0, 1, 2, 3}},
		{"a nil error fails too", func(msgs []kafka.Message) error {
			return batchFailing(msgs, map[int64]error{2: nil})
		}, map[int64]int{0: 1, 1: 1, 2: 3, 3: 1}, []int64{2}},
		{"a panic is of all", func([]kafka.Message) error { panic("boom") }, all, []int64{0, 1, 2, 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 4)...)
			c := b.consumer(t, "g")
			var mu sync.Mutex
			calls, dead := map[int64]int{}, []string{}
			stop := run(t, func(ctx context.Context) error {
				return c.ConsumeBatch(ctx, func(_ context.Context, msgs []kafka.Message) error {
					mu.Lock()
					defer mu.Unlock()
					for _, m := range msgs {
						calls[m.Offset]++
					}
					return tt.fail(msgs)
				}, kafkax.WithBatchSize(4), kafkax.WithBatchTimeout(time.Hour),
					kafkax.WithDLQWriter(dlqFunc(func(_ context.Context, msgs ...kafka.Message) error {
						mu.Lock()
						defer mu.Unlock()
						for _, m := range msgs {
							dead = append(dead, string(m.Value))
						}
						return nil
					})))
			})
			eventually(t, "the batch to be done with", func() bool { return b.committed(t, "g", 0) == 4 })
			if err := stop(); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if tt.want != nil && !maps.Equal(calls, tt.want) {
				t.Errorf("tried %v, want %v", calls, tt.want)
			}
			var want []string
			for _, offset := range tt.dead {
				want = append(want, fmt.Sprintf("0/%d", offset))
			}
			if slices.Sort(dead); !slices.Equal(dead, want) {
				t.Errorf("dead letters %v, want %v", dead, want)
			}
		})
	}
}

func TestD9_CutOffBatchKeepsWhatSucceeded(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 4)...)
	c := b.consumer(t, "g", kafkax.WithConsumerShutdownTimeout(100*time.Millisecond))
	started := make(chan struct{}, 10)
	stop := run(t, func(ctx context.Context) error {
		return c.ConsumeBatch(ctx, func(ctx context.Context, msgs []kafka.Message) error {
			started <- struct{}{}
			<-ctx.Done()
			return batchFailing(msgs, map[int64]error{2: ctx.Err(), 3: ctx.Err()})
		}, kafkax.WithBatchSize(4), kafkax.WithBatchTimeout(time.Hour))
	})
	received(t, "the handler", started)
	var cut *kafkax.ShutdownError
	if err := stop(); !errors.As(err, &cut) {
		t.Errorf("the loop returned %v", err)
	}
	if got := b.committed(t, "g", 0); got != 2 {
		t.Errorf("committed %d, two were handled", got)
	}
}

func TestBatchGoesWhenFull(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 2)
	c := b.consumer(t, "g")
	batches := make(chan []string, 100)
	stop := run(t, func(ctx context.Context) error {
		return c.ConsumeBatch(ctx, func(_ context.Context, msgs []kafka.Message) error {
			var values []string
			for _, m := range msgs {
				values = append(values, string(m.Value))
			}
			batches <- values
			return nil
		}, kafkax.WithBatchSize(5), kafkax.WithBatchTimeout(time.Hour))
	})
	b.produce(t, numbered(2, 6)...)
	next := map[byte]int{}
	for range 2 {
		batch := received(t, "a full batch", batches)
		if len(batch) != 5 {
			t.Errorf("a batch of %d: %v", len(batch), batch)
		}
		for _, v := range batch {
			if want := fmt.Sprintf("%c/%d", v[0], next[v[0]]); v != want {
				t.Errorf("got %s, want %s: each partition in order", v, want)
			}
			next[v[0]]++
		}
	}
	if len(next) != 2 {
		t.Errorf("the batches do not mix partitions: %v", next)
	}
	// The last two never make a batch. They were not handled, so come again.
	if err := stop(); err != nil {
		t.Error(err)
	}
	select {
	case batch := <-batches:
		t.Errorf("a batch of %v went before its time", batch)
	default:
	}
	if sum := max(b.committed(t, "g", 0), 0) + max(b.committed(t, "g", 1), 0); sum != 10 {
		t.Errorf("committed %d, handled 10", sum)
	}
}

func TestD14_BatchesKeepTheOrderOfEachPartition(t *testing.T) {
	t.Parallel()
	for _, concurrency := range []int{1, 2, 8} {
		t.Run(fmt.Sprintf("concurrency %d", concurrency), func(t *testing.T) {
			t.Parallel()
			const partitions, each = 4, 120
			b := startBroker(t, partitions)
			b.produce(t, numbered(partitions, each)...)
			c := b.consumer(t, "g")
			var (
				mu       sync.Mutex
				running  = map[int]bool{}
				last     = map[int]int64{}
				retried  = map[int64]bool{}
				done     int
				handlers atomic.Int64
			)
			run(t, func(ctx context.Context) error {
				return c.ConsumeBatch(ctx, func(_ context.Context, msgs []kafka.Message) error {
					if n := handlers.Add(1); n > int64(concurrency) {
						t.Errorf("%d handlers at once", n)
					}
					defer handlers.Add(-1)
					mu.Lock()
					mine := map[int]bool{}
					for _, m := range msgs {
						if running[m.Partition] {
							t.Errorf("partition %d is in two batches at once", m.Partition)
						}
						mine[m.Partition] = true
						if before, ok := last[m.Partition]; ok && m.Offset <= before {
							t.Errorf("partition %d: %d after %d", m.Partition, m.Offset, before)
						}
					}
					for p := range mine {
						running[p] = true
					}
					mu.Unlock()
					select {
					case <-time.After(time.Millisecond): // a handler that does something
					case <-ctx.Done():
					}
					mu.Lock()
					defer mu.Unlock()
					for p := range mine {
						running[p] = false
					}
					if first := msgs[0]; first.Offset%5 == 0 && !retried[first.Offset] {
						retried[first.Offset] = true
						return errHandler // the whole batch again, before anything else
					}
					for _, m := range msgs {
						last[m.Partition] = m.Offset
					}
					done += len(msgs)
					return nil
				}, kafkax.WithConcurrency(concurrency), kafkax.WithBatchSize(7), kafkax.WithBatchTimeout(10*time.Millisecond))
			})
			eventually(t, "all to be handled", func() bool { mu.Lock(); defer mu.Unlock(); return done == partitions*each })
		})
	}
}

func TestBatchConcurrencyIsUsed(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 4)
	b.produce(t, numbered(4, 3)...)
	c := b.consumer(t, "g")
	all, started := newGate(t), make(chan struct{}, 100)
	run(t, func(ctx context.Context) error {
		return c.ConsumeBatch(ctx, func(ctx context.Context, _ []kafka.Message) error {
			started <- struct{}{}
			return all.wait(ctx)
		}, kafkax.WithConcurrency(4), kafkax.WithBatchTimeout(10*time.Millisecond))
	})
	for range 4 {
		received(t, "four handlers at once", started)
	}
	all.release()
}

// What fails for good in a batch of several partitions holds up its own.
func TestD5_BatchDeadLetterBlocksItsPartitionOnly(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 3)
	b.produce(t, numbered(3, 40)...)
	c := b.consumer(t, "g", kafkax.WithConsumerRetryMaxAttempts(1))
	up, stored := newGate(t), make(chan string, 10)
	var after atomic.Int64
	run(t, func(ctx context.Context) error {
		return c.ConsumeBatch(ctx, func(_ context.Context, msgs []kafka.Message) error {
			failed := map[int]error{}
			for i, m := range msgs {
				if m.Partition == 1 && m.Offset == 10 {
					failed[i] = errHandler
				}
				if m.Partition == 1 && m.Offset >= 20 {
					after.Add(1)
				}
			}
			if len(failed) > 0 {
				return &kafkax.BatchError{Failed: failed}
			}
			return nil
		}, kafkax.WithBatchSize(9), kafkax.WithBatchTimeout(10*time.Millisecond), kafkax.WithConcurrency(1),
			kafkax.WithDLQWriter(dlqFunc(func(_ context.Context, msgs ...kafka.Message) error {
				select {
				case <-up.open:
					stored <- string(msgs[0].Value)
					return nil
				default:
					return errors.New("down")
				}
			})))
	})
	for _, p := range []int{0, 2} {
		eventually(t, "the other partitions", func() bool { return b.committed(t, "g", p) == 40 })
	}
	eventually(t, "what is before the dead letter", func() bool { return b.committed(t, "g", 1) == 10 })
	if n := after.Load(); n != 0 {
		t.Errorf("%d messages of the blocked partition overtook the dead letter", n)
	}
	up.release()
	// Many batches were run since it failed.
	if got := received(t, "the dead letter", stored); got != "1/10" {
		t.Errorf("the dead letter is of %q", got)
	}
	eventually(t, "the rest", func() bool { return b.committed(t, "g", 1) == 40 })
}
