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
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

var errHandler = errors.New("handler failed")

// commitLog is every offset that members of the current generation asked the
// broker to store.
type commitLog struct {
	mu         sync.Mutex
	generation int32
	offsets    map[int32][]int64
}

func watchCommits(b *broker) *commitLog {
	l := &commitLog{offsets: map[int32][]int64{}}
	b.ControlKey(int16(kmsg.SyncGroup), func(r kmsg.Request) (kmsg.Response, error, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.generation = max(l.generation, r.(*kmsg.SyncGroupRequest).Generation)
		return nil, nil, false
	})
	b.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		req := r.(*kmsg.OffsetCommitRequest)
		for _, topic := range req.Topics {
			for _, p := range topic.Partitions {
				if req.Generation >= l.generation { // the broker refuses the others
					l.offsets[p.Partition] = append(l.offsets[p.Partition], p.Offset)
				}
			}
		}
		return nil, nil, false
	})
	return l
}

// highest is the largest offset of partition 0 so far; -1 if there is none.
func (l *commitLog) highest() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.offsets[0]) == 0 {
		return -1
	}
	return slices.Max(l.offsets[0])
}

// neverBack fails if an offset was committed after a larger one.
func (l *commitLog) neverBack(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, offsets := range l.offsets {
		if !slices.IsSorted(offsets) {
			t.Errorf("partition %d: commits went back: %v", p, offsets)
		}
	}
}

// gate holds handlers back until it is opened.
type gate struct {
	once sync.Once
	open chan struct{}
}

func newGate(t testing.TB) *gate {
	g := &gate{open: make(chan struct{})}
	t.Cleanup(g.release)
	return g
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

// wait waits, and gives up with the context's cause.
func (g *gate) wait(ctx context.Context) error {
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// received waits for a signal.
func received[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(time.Minute):
		t.Fatalf("timed out waiting for: %s", what)
		panic("unreachable")
	}
}

// dlqFunc is a caller's DLQWriter.
type dlqFunc func(ctx context.Context, msgs ...kafka.Message) error

func (f dlqFunc) WriteMessages(ctx context.Context, msgs ...kafka.Message) error {
	return f(ctx, msgs...)
}

// asLoop makes either kind of loop run h, so that one table serves all.
type asLoop struct {
	name string
	run  func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler, opts ...kafkax.ConsumeOption) error
}

var (
	loopConsume = asLoop{"Consume", func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler, opts ...kafkax.ConsumeOption) error {
		return c.Consume(ctx, h, opts...)
	}}
	loopManual = asLoop{"ConsumeWithManualCommit", func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler, opts ...kafkax.ConsumeOption) error {
		return c.ConsumeWithManualCommit(ctx, h, opts...)
	}}
	// Each message is tried, and the batch says which failed.
	loopBatch = asLoop{"ConsumeBatch", func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler, opts ...kafkax.ConsumeOption) error {
		opts = append([]kafkax.ConsumeOption{kafkax.WithBatchTimeout(10 * time.Millisecond)}, opts...)
		return c.ConsumeBatch(ctx, func(ctx context.Context, msgs []kafka.Message) error {
			failed := map[int]error{}
			for i, m := range msgs {
				if err := h(ctx, m); err != nil {
					failed[i] = err
				}
			}
			if len(failed) > 0 {
				return &kafkax.BatchError{Failed: failed}
			}
			return nil
		}, opts...)
	}}
	allLoops = []asLoop{loopConsume, loopManual, loopBatch}
)

func TestD1_NothingCommittedPastAMessageInFlight(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		loop asLoop
		opts []kafkax.ConsumeOption
	}{
		{"partition order", loopConsume, []kafkax.ConsumeOption{kafkax.WithConcurrency(4)}},
		{"key order", loopConsume, []kafkax.ConsumeOption{kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.OrderKey)}},
		{"no order", loopConsume, []kafkax.ConsumeOption{kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.Unordered)}},
		{"no order, manual", loopManual, []kafkax.ConsumeOption{kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.Unordered)}},
		{"batches of one", loopBatch, []kafkax.ConsumeOption{kafkax.WithConcurrency(4), kafkax.WithBatchSize(1)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 2)
			commits := watchCommits(b)
			b.produce(t, numbered(2, 40)...)
			c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
			held, j := newGate(t), newJournal()
			run(t, func(ctx context.Context) error {
				return tt.loop.run(c, ctx, func(ctx context.Context, m kafka.Message) error {
					if m.Partition == 0 && m.Offset == 3 {
						if err := held.wait(ctx); err != nil {
							return err
						}
					}
					j.add(m)
					return nil
				}, tt.opts...)
			})
			eventually(t, "the other partition to be committed", func() bool { return b.committed(t, "g", 1) == 40 })
			eventually(t, "what is before to be committed", func() bool { return b.committed(t, "g", 0) == 3 })
			if got := commits.highest(); got != 3 {
				t.Errorf("%d was committed while 3 was in flight", got)
			}
			held.release()
			eventually(t, "everything to be committed", func() bool { return b.committed(t, "g", 0) == 40 })
			if d := j.duplicates(); d != nil {
				t.Errorf("handled twice: %v", d)
			}
			commits.neverBack(t)
		})
	}
}

func TestD1_OutOfOrderFinishCommitsThePrefixOnly(t *testing.T) {
	t.Parallel()
	const n = 8
	b := startBroker(t, 1)
	commits := watchCommits(b)
	b.produce(t, numbered(1, n)...)
	c := b.consumer(t, "g")
	var gates [n]*gate
	for i := range gates {
		gates[i] = newGate(t)
	}
	started, finished := make(chan int64, n), make(chan int64, n)
	run(t, func(ctx context.Context) error {
		return c.ConsumeWithManualCommit(ctx, func(ctx context.Context, m kafka.Message) error {
			started <- m.Offset
			defer func() { finished <- m.Offset }()
			return gates[m.Offset].wait(ctx)
		}, kafkax.WithConcurrency(n), kafkax.WithOrdering(kafkax.Unordered))
	})
	for range n {
		received(t, "all handlers at once", started)
	}
	done := map[int64]bool{}
	for _, offset := range []int64{7, 2, 0, 4, 1, 3, 6, 5} {
		gates[offset].release()
		done[received(t, "the handler to finish", finished)] = true
		prefix := int64(0)
		for done[prefix] {
			prefix++
		}
		eventually(t, fmt.Sprintf("a commit of %d", prefix), func() bool { return max(b.committed(t, "g", 0), 0) == prefix })
		if got := commits.highest(); got > prefix {
			t.Fatalf("%d committed, but only %d are handled in a row", got, prefix)
		}
	}
}

func TestD1_NothingCommittedFromAFailureOn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		loop  asLoop
		opts  []kafkax.ConsumeOption
		exact bool
	}{
		{"manual", loopManual, nil, true},
		{"consume with stop", loopConsume, []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailStop)}, true},
		{"batch", loopBatch, nil, true},
		{"batch of a few", loopBatch, []kafkax.ConsumeOption{kafkax.WithBatchSize(3), kafkax.WithConcurrency(4)}, true},
		{"no order", loopManual, []kafkax.ConsumeOption{kafkax.WithOrdering(kafkax.Unordered), kafkax.WithConcurrency(4)}, true},
		{"key order", loopManual, []kafkax.ConsumeOption{kafkax.WithOrdering(kafkax.OrderKey), kafkax.WithConcurrency(4)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 2)
			commits := watchCommits(b)
			b.produce(t, numbered(2, 30)...)
			c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
			err := tt.loop.run(c, testContext(t), func(_ context.Context, m kafka.Message) error {
				if m.Partition == 1 && m.Offset == 11 {
					return errHandler
				}
				return nil
			}, tt.opts...)
			var he *kafkax.HandlerError
			if !errors.As(err, &he) || he.Partition != 1 || he.Offset != 11 || !errors.Is(err, errHandler) {
				t.Fatalf("the loop returned %v", err)
			}
			if got := b.committed(t, "g", 1); got > 11 || (tt.exact && got != 11) {
				t.Errorf("committed %d, the first that failed is 11", got)
			}
			commits.neverBack(t)
		})
	}
}

func TestD1_NothingCommittedPastAPendingDeadLetter(t *testing.T) {
	t.Parallel()
	for _, loop := range allLoops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			commits := watchCommits(b)
			b.produce(t, numbered(1, 20)...)
			c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond), kafkax.WithConsumerRetryMaxAttempts(1))
			up, tried := newGate(t), make(chan struct{}, 100)
			run(t, func(ctx context.Context) error {
				return loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
					if m.Offset == 7 {
						return errHandler
					}
					return nil
				}, kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error {
					tried <- struct{}{}
					select {
					case <-up.open:
						return nil
					default:
						return errors.New("dead letters are down")
					}
				})))
			})
			received(t, "a first try", tried)
			received(t, "a second try", tried)
			eventually(t, "what is before to be committed", func() bool { return b.committed(t, "g", 0) == 7 })
			received(t, "a third try", tried)
			if got := commits.highest(); got != 7 {
				t.Errorf("%d committed while the dead letter of 7 is pending", got)
			}
			up.release()
			eventually(t, "the rest", func() bool { return b.committed(t, "g", 0) == 20 })
		})
	}
}

func TestD2_ConcurrentHandlersNeverCommitBack(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 3)
	commits := watchCommits(b)
	b.produce(t, numbered(3, 300)...)
	c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
	var n atomic.Int64
	run(t, func(ctx context.Context) error {
		return c.ConsumeWithManualCommit(ctx, func(context.Context, kafka.Message) error {
			if n.Add(1)%7 == 0 {
				runtime.Gosched()
			}
			return nil
		}, kafkax.WithConcurrency(8), kafkax.WithOrdering(kafkax.Unordered))
	})
	for p := range 3 {
		eventually(t, "everything to be committed", func() bool { return b.committed(t, "g", p) == 300 })
	}
	commits.neverBack(t)
}

// A handler that ignores its context comes back after its partition was handed
// on and committed by somebody else.
func TestD2_LateHandlerAfterARebalanceCommitsNothing(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.GroupMinSessionTimeout(100*time.Millisecond))
	commits := watchCommits(b)
	b.produce(t, numbered(1, 10)...)
	short := []kafkax.ConsumerOption{
		kafkax.WithConsumerSessionTimeout(400 * time.Millisecond),
		kafkax.WithConsumerRebalanceTimeout(400 * time.Millisecond),
		kafkax.WithConsumerHeartbeatInterval(50 * time.Millisecond),
	}
	first := b.consumer(t, "g", short...)
	deaf, started := newGate(t), make(chan struct{}, 10)
	stopFirst := run(t, func(ctx context.Context) error {
		return first.ConsumeWithManualCommit(ctx, func(_ context.Context, m kafka.Message) error {
			started <- struct{}{}
			<-deaf.open
			return nil
		})
	})
	received(t, "the first handler", started)

	second := b.consumer(t, "g", short...)
	stopSecond := run(t, func(ctx context.Context) error {
		return second.ConsumeWithManualCommit(ctx, func(context.Context, kafka.Message) error { return nil })
	})
	eventually(t, "the second member to take over", func() bool { return b.committed(t, "g", 0) == 10 })
	if err := stopSecond(); err != nil {
		t.Error(err)
	}
	deaf.release()
	eventually(t, "the first to be a member again", func() bool { return first.Stats().Rebalances >= 2 })
	if err := stopFirst(); err != nil {
		t.Error(err)
	}
	if got := b.committed(t, "g", 0); got != 10 {
		t.Errorf("committed %d, was 10", got)
	}
	commits.neverBack(t)
}

func TestD3_RebalancesMakeNoDuplicates(t *testing.T) {
	t.Parallel()
	slowly := func(j *journal) kafkax.Handler {
		return func(ctx context.Context, m kafka.Message) error {
			select {
			case <-time.After(2 * time.Millisecond): // a handler that does something
				j.add(m)
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	tests := []struct {
		name    string
		ordered bool
		run     func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler) error
	}{
		{"Consume", true, func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler) error { return c.Consume(ctx, h) }},
		{"Consume by key", false, func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler) error {
			return c.Consume(ctx, h, kafkax.WithConcurrency(6), kafkax.WithOrdering(kafkax.OrderKey))
		}},
		{"ConsumeWithManualCommit", true, func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler) error {
			return c.ConsumeWithManualCommit(ctx, h, kafkax.WithConcurrency(3))
		}},
		{"ConsumeBatch", true, func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler) error {
			return loopBatch.run(c, ctx, h, kafkax.WithConcurrency(2), kafkax.WithBatchSize(7))
		}},
		{"FetchMessage", true, func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler) error {
			for {
				m, err := c.FetchMessage(ctx)
				if err != nil {
					return ignoreStop(err)
				}
				if err := h(context.WithoutCancel(ctx), m); err != nil {
					return err
				}
				if err := c.CommitMessages(context.WithoutCancel(ctx), m); err != nil {
					return err
				}
			}
		}},
		{"ReadMessage", true, func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler) error {
			for {
				m, err := c.ReadMessage(ctx)
				if err != nil {
					return ignoreStop(err)
				}
				if err := h(context.WithoutCancel(ctx), m); err != nil {
					return err
				}
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const partitions, each = 4, 150
			b := startBroker(t, partitions)
			commits := watchCommits(b)
			b.produce(t, numbered(partitions, each)...)
			j := newJournal()
			join := func() (leave func()) {
				c := b.consumer(t, "g", kafkax.WithConsumerHeartbeatInterval(20*time.Millisecond))
				stop := run(t, func(ctx context.Context) error { return tt.run(c, ctx, slowly(j)) })
				return func() {
					t.Helper()
					if err := stop(); err != nil {
						t.Errorf("a member's stop: %v", err)
					}
					if err := c.Close(); err != nil {
						t.Errorf("a member's close: %v", err)
					}
				}
			}
			progress := func(n int) {
				t.Helper()
				eventually(t, fmt.Sprintf("%d to be handled", n), func() bool { return j.len() >= n })
			}
			leaveFirst := join()
			progress(40)
			leaveSecond := join()
			progress(140)
			leaveThird := join()
			progress(240)
			leaveFirst()
			progress(340)
			leaveThird()
			progress(440)
			leaveFourth := join()
			progress(partitions * each)
			leaveSecond()
			leaveFourth()

			if d := j.duplicates(); d != nil {
				t.Errorf("%d handled twice: %v", len(d), d)
			}
			if tt.ordered {
				j.ordered(t)
			}
			for p := range partitions {
				if got := b.committed(t, "g", p); got != each {
					t.Errorf("partition %d: committed %d of %d", p, got, each)
				}
			}
			commits.neverBack(t)
		})
	}
}

func ignoreStop(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, kafkax.ErrClosed) {
		return nil
	}
	return err
}

func TestD3_StopWaitsForHandlersAndCommitsThem(t *testing.T) {
	t.Parallel()
	for _, loop := range allLoops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 10)...)
			j, held, started := newJournal(), newGate(t), make(chan struct{}, 10)
			consume := func(ctx context.Context, c *kafkax.Consumer) error {
				return loop.run(c, ctx, func(ctx context.Context, m kafka.Message) error {
					if m.Offset == 4 {
						started <- struct{}{}
						if err := held.wait(ctx); err != nil {
							return err
						}
					}
					j.add(m)
					return nil
				})
			}
			// Nothing but the last commit.
			c := b.consumer(t, "g", kafkax.WithConsumerBatchSize(5), kafkax.WithConsumerCommitInterval(time.Hour))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- consume(ctx, c) }()
			received(t, "the handler", started)
			cancel()
			select {
			case err := <-result:
				t.Fatalf("the loop did not wait: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			held.release()
			if err := received(t, "the loop to end", result); err != nil {
				t.Fatal(err)
			}
			// The stop may have come when more had begun.
			if got, handled := b.committed(t, "g", 0), int64(j.len()); got != handled || handled < 5 {
				t.Errorf("committed %d, handled %d", got, handled)
			}
			run(t, func(ctx context.Context) error { return consume(ctx, c) }) // the same consumer again
			eventually(t, "the rest", func() bool { return j.len() >= 10 })
			if d := j.duplicates(); d != nil {
				t.Errorf("handled twice: %v", d)
			}
		})
	}
}

// With key order a message may finish while earlier ones of another key wait
// for their turn. They must get it, or the one that finished comes again.
func TestD3_StopFinishesWhatWasOvertaken(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	slow := func(i int) *kgo.Record { return &kgo.Record{Key: []byte("slow"), Value: fmt.Appendf(nil, "0/%d", i)} }
	for i := range 4 {
		b.produce(t, slow(i))
	}
	for i := range 20 {
		b.produce(t, &kgo.Record{Key: fmt.Appendf(nil, "fast%d", i), Value: fmt.Appendf(nil, "0/%d", 4+i)})
	}
	c := b.consumer(t, "g")
	j, held, overtaken := newJournal(), newGate(t), make(chan struct{}, 100)
	consume := func(ctx context.Context) error {
		return c.Consume(ctx, func(ctx context.Context, m kafka.Message) error {
			if string(m.Key) == "slow" {
				if err := held.wait(ctx); err != nil {
					return err
				}
			} else {
				overtaken <- struct{}{}
			}
			j.add(m)
			return nil
		}, kafkax.WithConcurrency(2), kafkax.WithOrdering(kafkax.OrderKey))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- consume(ctx) }()
	received(t, "a message to overtake", overtaken)
	cancel()
	select {
	case err := <-result:
		t.Fatalf("the loop did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	held.release()
	if err := received(t, "the loop to end", result); err != nil {
		t.Fatal(err)
	}
	handled := int64(j.len())
	if got := b.committed(t, "g", 0); got != handled {
		t.Errorf("committed %d, handled %d", got, handled)
	}
	run(t, consume)
	eventually(t, "the rest", func() bool { return j.len() >= 24 })
	if d := j.duplicates(); d != nil {
		t.Errorf("handled twice: %v", d)
	}
}

// The last commit of a stop or a rebalance is the only thing between what was
// handled and a duplicate.
func TestD3_LastCommitIsTriedAgain(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 5)...)
	c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Hour))
	var n atomic.Int64
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(context.Context, kafka.Message) error { n.Add(1); return nil })
	})
	eventually(t, "all to be handled", func() bool { return n.Load() == 5 })
	fault := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorLoadInProgress, Count: 2})
	if err := stop(); err != nil {
		t.Error(err)
	}
	if fault.Hits() != 2 {
		t.Errorf("%d commits failed, want 2", fault.Hits())
	}
	if got := b.committed(t, "g", 0); got != 5 {
		t.Errorf("committed %d, handled 5", got)
	}
}

func TestD3_HandlersAreCutOffWithACause(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		cause error
		end   func(t *testing.T, b *broker, c *kafkax.Consumer, cancel func())
	}{
		{"context ended", kafkax.ErrShutdown, func(_ *testing.T, _ *broker, _ *kafkax.Consumer, cancel func()) { cancel() }},
		{"closed", kafkax.ErrShutdown, func(t *testing.T, _ *broker, c *kafkax.Consumer, _ func()) {
			var cut *kafkax.ShutdownError
			if err := c.Close(); !errors.As(err, &cut) || !strings.Contains(cut.Error(), "events[0]@2") {
				t.Errorf("Close returned %v", err)
			}
		}},
		{"rebalance", kafkax.ErrRevoked, func(t *testing.T, b *broker, _ *kafkax.Consumer, _ func()) {
			other := b.consumer(t, "g")
			run(t, func(ctx context.Context) error {
				return other.Consume(ctx, func(context.Context, kafka.Message) error { return nil })
			})
		}},
	}
	for _, loop := range allLoops {
		for _, tt := range tests {
			t.Run(loop.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1)
				commits := watchCommits(b)
				b.produce(t, numbered(1, 5)...)
				c := b.consumer(t, "g", kafkax.WithConsumerBatchSize(1), kafkax.WithConsumerShutdownTimeout(200*time.Millisecond))
				var dead, calls atomic.Int64
				started, causes := make(chan struct{}, 10), make(chan error, 10)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				result := make(chan error, 1)
				go func() {
					result <- loop.run(c, ctx, func(ctx context.Context, m kafka.Message) error {
						if m.Offset < 2 || calls.Add(1) > 1 {
							return nil
						}
						started <- struct{}{}
						<-ctx.Done()
						causes <- context.Cause(ctx)
						return ctx.Err()
					}, kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 1}),
						kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error { dead.Add(1); return nil })))
				}()
				received(t, "the handler", started)
				tt.end(t, b, c, cancel)
				if err := received(t, "the handler's context to end", causes); !errors.Is(err, tt.cause) {
					t.Errorf("the cause is %v, want %v", err, tt.cause)
				}
				if errors.Is(tt.cause, kafkax.ErrShutdown) {
					var cut *kafkax.ShutdownError
					if err := received(t, "the loop", result); !errors.As(err, &cut) || !errors.Is(err, kafkax.ErrShutdown) {
						t.Errorf("the loop returned %v", err)
					}
					if highest := commits.highest(); highest > 2 {
						t.Errorf("committed %d, 2 was cut off", highest)
					}
				} else {
					eventually(t, "the message to come again", func() bool { return b.committed(t, "g", 0) == 5 })
				}
				if dead.Load() != 0 {
					t.Error("a message was dead-lettered because its handler was cut off")
				}
				commits.neverBack(t)
			})
		}
	}
}

func TestD5_DeadLetterTopicDown(t *testing.T) {
	t.Parallel()
	for _, loop := range allLoops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 2, kfake.SeedTopics(1, "events.dlq"))
			down := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events.dlq", Err: kerr.PolicyViolation, Count: -1})
			b.produce(t, numbered(2, 20)...)
			c := b.consumer(t, "g", kafkax.WithConsumerDLQTopic("events.dlq"), kafkax.WithConsumerCommitInterval(time.Millisecond),
				kafkax.WithConsumerShutdownTimeout(2*time.Second)) // a batch goes on behind the dead letter
			var told atomic.Int64
			seen := newJournal()
			stop := run(t, func(ctx context.Context) error {
				return loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
					if m.Partition == 0 && m.Offset == 4 {
						return kafkax.Permanent(errHandler)
					}
					seen.add(m)
					return nil
				}, kafkax.WithConcurrency(1), kafkax.WithOnError(func(_ context.Context, m kafka.Message, err error) {
					if m.Partition == 0 && m.Offset == 4 {
						told.Add(1)
					}
				}))
			})
			// One handler at a time, and the other partition gets it.
			eventually(t, "the other partition", func() bool { return b.committed(t, "g", 1) == 20 })
			eventually(t, "several tries", func() bool { return down.Hits() >= 3 && told.Load() >= 2 })
			if got := b.committed(t, "g", 0); got != 4 {
				t.Errorf("committed %d, 4 is not dead-lettered", got)
			}
			err := stop()
			var dle *kafkax.DeadLetterError
			if !errors.As(err, &dle) || !errors.Is(err, errHandler) || !errors.Is(err, kafka.PolicyViolation) {
				t.Errorf("the loop returned %v", err)
			} else if dle.Topic != b.topic || dle.Partition != 0 || dle.Offset != 4 || dle.DLQTopic != "events.dlq" {
				t.Errorf("the error names %+v", dle)
			}
			if got := b.committed(t, "g", 0); got != 4 {
				t.Errorf("committed %d after the stop, 4 is not dead-lettered", got)
			}

			down.Remove()
			run(t, func(ctx context.Context) error {
				return loop.run(c, ctx, func(context.Context, kafka.Message) error { return kafkax.Permanent(errHandler) })
			})
			eventually(t, "the dead letters to get through", func() bool { return b.committed(t, "g", 0) == 20 })
			cl, kerr := kgo.NewClient(kgo.SeedBrokers(b.addrs...), kgo.ConsumeTopics("events.dlq"))
			if kerr != nil {
				t.Fatal(kerr)
			}
			defer cl.Close()
			fetches := cl.PollFetches(testContext(t))
			if rs := fetches.Records(); len(rs) == 0 || string(rs[0].Value) != "0/4" {
				t.Errorf("the dead letters begin with %v", rs)
			}
		})
	}
}

func TestD5_CallersWriterIsLeftOpen(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 3)...)
	w := &closableWriter{written: make(chan kafka.Message, 10)}
	c := b.consumer(t, "g", kafkax.WithConsumerRetryMaxAttempts(1))
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(context.Context, kafka.Message) error { return errHandler }, kafkax.WithDLQWriter(w))
	})
	for range 3 {
		received(t, "a dead letter", w.written)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if w.closed.Load() {
		t.Error("the caller's writer was closed")
	}
	if got := b.committed(t, "g", 0); got != 3 {
		t.Errorf("committed %d of 3 dead letters", got)
	}
}

type closableWriter struct {
	written chan kafka.Message
	closed  atomic.Bool
}

func (w *closableWriter) WriteMessages(_ context.Context, msgs ...kafka.Message) error {
	for _, m := range msgs {
		w.written <- m
	}
	return nil
}

func (w *closableWriter) Close() error { w.closed.Store(true); return nil }

func TestD6_PanicIsAnErrorWithItsStack(t *testing.T) {
	t.Parallel()
	errBoom := errors.New("boom")
	for _, loop := range allLoops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 2)...)
			c := b.consumer(t, "g", kafkax.WithConsumerBatchSize(1))
			var calls atomic.Int64
			panics := func(_ context.Context, m kafka.Message) error { //nolint:unparam // a Handler
				if m.Offset == 1 {
					calls.Add(1)
					panic(errBoom)
				}
				return nil
			}
			err := loop.run(c, testContext(t), panics, kafkax.WithOnFailure(kafkax.FailStop))
			var he *kafkax.HandlerError
			var pe *kafkax.PanicError
			if !errors.As(err, &he) || !errors.As(err, &pe) || !errors.Is(err, errBoom) {
				t.Fatalf("the loop returned %v", err)
			}
			if he.Offset != 1 || he.Attempts != 3 || calls.Load() != 3 {
				t.Errorf("%d calls, %+v", calls.Load(), he)
			}
			if !strings.Contains(string(pe.Stack), "consume_test.go") {
				t.Errorf("the stack does not lead to the handler:\n%s", pe.Stack)
			}

			dead := make(chan kafka.Message, 1)
			run(t, func(ctx context.Context) error {
				return loop.run(c, ctx, panics, kafkax.WithDLQWriter(dlqFunc(func(_ context.Context, msgs ...kafka.Message) error {
					dead <- msgs[0]
					return nil
				})))
			})
			m := received(t, "a dead letter", dead)
			for _, h := range m.Headers {
				if h.Key == kafkax.HeaderErrorType && string(h.Value) != "*kafkax.PanicError" {
					t.Errorf("dead-lettered as %s", h.Value)
				}
			}
			eventually(t, "it to be committed", func() bool { return b.committed(t, "g", 0) == 2 })
		})
	}
}

// t.FailNow in a handler does this.
func TestD6_GoexitInAHandlerEndsTheLoop(t *testing.T) {
	t.Parallel()
	opts := map[string][]kafkax.ConsumerOption{
		"one":     nil,
		"several": {kafkax.WithConsumerConcurrency(3), kafkax.WithConsumerOrdering(kafkax.OrderKey)},
	}
	for _, loop := range allLoops {
		for name, opts := range opts {
			t.Run(loop.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 2)
				b.produce(t, numbered(2, 30)...)
				c := b.consumer(t, "g", opts...)
				err := loop.run(c, testContext(t), func(_ context.Context, m kafka.Message) error {
					if m.Partition == 0 && m.Offset == 5 {
						runtime.Goexit()
					}
					return nil
				})
				if err == nil || !strings.Contains(err.Error(), "Goexit") {
					t.Errorf("the loop returned %v", err)
				}
				if got := b.committed(t, "g", 0); got > 5 {
					t.Errorf("committed %d, 5 was not handled", got)
				}
			})
		}
	}
}

func TestD6_OnErrorMayPanicOrExit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func()
	}{
		{"panic", func() { panic("in OnError") }},
		{"Goexit", runtime.Goexit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 5)...)
			c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
			run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(context.Context, kafka.Message) error { return kafkax.Permanent(errHandler) },
					kafkax.WithOnError(func(context.Context, kafka.Message, error) { tt.end() }))
			})
			eventually(t, "all to be skipped", func() bool { return b.committed(t, "g", 0) == 5 })
		})
	}
}

// What is not about a message is reported from the engine's own goroutines.
func TestD6_OnErrorMayExitOnAnEngineGoroutine(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 1)...)
	c := b.consumer(t, "g", kafkax.WithConsumerShutdownTimeout(200*time.Millisecond))
	started, told := make(chan struct{}, 10), make(chan error, 10)
	result := make(chan error, 1)
	go func() {
		result <- c.Consume(context.Background(), func(ctx context.Context, _ kafka.Message) error {
			started <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}, kafkax.WithOnError(func(_ context.Context, _ kafka.Message, err error) {
			if errors.Is(err, kafkax.ErrRevoked) {
				told <- err
				runtime.Goexit()
			}
		}))
	}()
	received(t, "the handler", started)
	other := b.consumer(t, "g")
	run(t, func(ctx context.Context) error {
		return other.Consume(ctx, func(context.Context, kafka.Message) error { return nil })
	})
	_ = received(t, "OnError, as the handler is too slow for the rebalance", told)
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	_, _ = received(t, "Close", closed), received(t, "the loop", result)
}

func TestD7_StopDuringAHandlerIsNoFailure(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		// err is what the handler returns, given its context and that of the loop.
		err func(ctx, loop context.Context) error
	}{
		{"its own context's error", func(ctx, _ context.Context) error { <-ctx.Done(); return ctx.Err() }},
		{"its context's cause, wrapped", func(ctx, _ context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("query: %w", context.Cause(ctx))
		}},
		{"something else, after its context", func(ctx, _ context.Context) error { <-ctx.Done(); return errHandler }},
		// A handler may use the context it was not given but closes over.
		{"the loop's context's error", func(_, loop context.Context) error { <-loop.Done(); return fmt.Errorf("query: %w", loop.Err()) }},
	}
	for _, loop := range allLoops {
		for _, tt := range tests {
			t.Run(loop.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1)
				commits := watchCommits(b)
				b.produce(t, numbered(1, 3)...)
				c := b.consumer(t, "g", kafkax.WithConsumerBatchSize(1), kafkax.WithConsumerShutdownTimeout(100*time.Millisecond))
				var dead, told, calls atomic.Int64
				started := make(chan struct{}, 10)
				stop := run(t, func(loopCtx context.Context) error {
					return loop.run(c, loopCtx, func(ctx context.Context, m kafka.Message) error {
						calls.Add(1)
						started <- struct{}{}
						return tt.err(ctx, loopCtx)
					}, kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 1}),
						kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error { dead.Add(1); return nil })),
						kafkax.WithOnError(func(context.Context, kafka.Message, error) { told.Add(1) }))
				})
				received(t, "the handler", started)
				var he *kafkax.HandlerError
				if err := stop(); errors.As(err, &he) {
					t.Errorf("a stop counted as a failure: %v", err)
				}
				if calls.Load() != 1 || dead.Load() != 0 || told.Load() != 0 {
					t.Errorf("%d calls, %d dead letters, OnError %d times", calls.Load(), dead.Load(), told.Load())
				}
				if got := commits.highest(); got > 0 {
					t.Errorf("committed %d, nothing is handled", got)
				}
			})
		}
	}
}

func TestD7_StopDuringBackoffIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, loop := range allLoops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			commits := watchCommits(b)
			b.produce(t, numbered(1, 3)...)
			c := b.consumer(t, "g")
			var dead atomic.Int64
			failed := make(chan struct{}, 10)
			began := time.Now()
			stop := run(t, func(ctx context.Context) error {
				return loop.run(c, ctx, func(context.Context, kafka.Message) error {
					failed <- struct{}{}
					return errHandler
				}, kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 2, InitialBackoff: time.Minute, MaxBackoff: time.Minute}),
					kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error { dead.Add(1); return nil })))
			})
			received(t, "a failure", failed)
			if err := stop(); err != nil {
				t.Errorf("the loop returned %v", err)
			}
			if time.Since(began) > 30*time.Second {
				t.Error("the stop waited for the backoff")
			}
			if dead.Load() != 0 || commits.highest() > 0 {
				t.Errorf("%d dead letters, committed %d", dead.Load(), commits.highest())
			}
		})
	}
}

func TestD8_PoliciesByLoop(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		loop  asLoop
		opts  []kafkax.ConsumeOption
		stops bool
	}{
		{"Consume skips", loopConsume, nil, false},
		{"Consume stops if told to", loopConsume, []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailStop)}, true},
		{"manual stops", loopManual, nil, true},
		{"manual skips if told to", loopManual, []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailSkip)}, false},
		{"batch stops", loopBatch, nil, true},
		{"batch skips if told to", loopBatch, []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailSkip)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 10)...)
			c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
			told := make(chan kafka.Message, 10)
			var calls atomic.Int64
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			result := make(chan error, 1)
			go func() {
				result <- tt.loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
					if m.Offset == 6 {
						calls.Add(1)
						return errHandler
					}
					return nil
				}, append(tt.opts, kafkax.WithOnError(func(_ context.Context, m kafka.Message, err error) {
					if errors.Is(err, errHandler) {
						told <- m
					}
				}))...)
			}()
			if m := received(t, "OnError", told); m.Offset != 6 || string(m.Value) != "0/6" {
				t.Errorf("OnError was told of %d", m.Offset)
			}
			if !tt.stops {
				eventually(t, "the rest", func() bool { return b.committed(t, "g", 0) == 10 })
				cancel()
			}
			err := received(t, "the loop", result)
			if calls.Load() != 3 {
				t.Errorf("%d attempts, want 3", calls.Load())
			}
			if !tt.stops {
				if err != nil {
					t.Errorf("the loop returned %v", err)
				}
				return
			}
			var he *kafkax.HandlerError
			if !errors.As(err, &he) {
				t.Fatalf("the loop returned %v", err)
			}
			want := kafkax.HandlerError{Topic: b.topic, Partition: 0, Offset: 6, Attempts: 3, Err: errHandler}
			if *he != want {
				t.Errorf("got %+v, want %+v", *he, want)
			}
			if got := b.committed(t, "g", 0); got != 6 {
				t.Errorf("committed %d", got)
			}
		})
	}
}

func TestD14_OrderIsKept(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		loop        asLoop
		ordering    kafkax.Ordering
		concurrency int
	}{
		{"partition, one", loopConsume, kafkax.OrderPartition, 1},
		{"partition, several", loopConsume, kafkax.OrderPartition, 8},
		{"partition, several, manual", loopManual, kafkax.OrderPartition, 3},
		{"key, one", loopConsume, kafkax.OrderKey, 1},
		{"key, several", loopConsume, kafkax.OrderKey, 8},
		{"key, several, manual", loopManual, kafkax.OrderKey, 3},
		{"unordered, one", loopConsume, kafkax.Unordered, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const partitions, each = 3, 200
			b := startBroker(t, partitions)
			b.produce(t, numbered(partitions, each)...)
			c := b.consumer(t, "g")
			var (
				mu      sync.Mutex
				running = map[string]bool{}
				last    = map[string]int64{}
				done    int
				atOnce  int
				most    int
			)
			failed := map[string]bool{}
			run(t, func(ctx context.Context) error {
				return tt.loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
					lane := fmt.Sprint(m.Partition)
					if tt.ordering == kafkax.OrderKey && tt.concurrency > 1 {
						lane += string(m.Key)
					}
					mu.Lock()
					if running[lane] {
						t.Errorf("%s runs twice at the same time", lane)
					}
					running[lane] = true
					if before, ok := last[lane]; ok && m.Offset <= before {
						t.Errorf("%s: %d after %d", lane, m.Offset, before)
					}
					atOnce++
					most = max(most, atOnce)
					mu.Unlock()
					runtime.Gosched()

					mu.Lock()
					defer mu.Unlock()
					running[lane] = false
					atOnce--
					if m.Offset%17 == 0 && !failed[string(m.Value)] {
						failed[string(m.Value)] = true
						return errHandler // nothing may overtake it while it is retried
					}
					last[lane] = m.Offset
					done++
					return nil
				}, kafkax.WithOrdering(tt.ordering), kafkax.WithConcurrency(tt.concurrency))
			})
			eventually(t, "all to be handled", func() bool { mu.Lock(); defer mu.Unlock(); return done == partitions*each })
			mu.Lock()
			defer mu.Unlock()
			if most > tt.concurrency {
				t.Errorf("%d handlers at once, at most %d were asked for", most, tt.concurrency)
			}
		})
	}
}

// Order is worth little if it costs the concurrency that was asked for.
func TestD14_ConcurrencyIsUsed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		ordering   kafkax.Ordering
		partitions int
		want       int
	}{
		{"a handler for each partition", kafkax.OrderPartition, 4, 4},
		{"no order within one partition", kafkax.Unordered, 1, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, int32(tt.partitions))
			b.produce(t, numbered(tt.partitions, 10)...)
			c := b.consumer(t, "g")
			all, started := newGate(t), make(chan struct{}, 100)
			run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(ctx context.Context, _ kafka.Message) error {
					started <- struct{}{}
					return all.wait(ctx)
				}, kafkax.WithConcurrency(4), kafkax.WithOrdering(tt.ordering))
			})
			for range tt.want {
				received(t, "as many handlers at once as were asked for", started)
			}
			all.release()
		})
	}
}

func TestD14_MessagesWithoutAKeySpread(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, &kgo.Record{Value: []byte("a")}, &kgo.Record{Value: []byte("b")})
	c := b.consumer(t, "g")
	all, started := newGate(t), make(chan struct{}, 10)
	run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(ctx context.Context, _ kafka.Message) error {
			started <- struct{}{}
			return all.wait(ctx)
		}, kafkax.WithConcurrency(2), kafkax.WithOrdering(kafkax.OrderKey))
	})
	received(t, "the first", started)
	received(t, "the second at the same time", started)
	all.release()
}

// A slow retry of one message leaves the handler to other partitions.
func TestRetryWaitsWithoutAHandlerSlot(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 2)
	b.produce(t, numbered(2, 5)...)
	c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
	run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
			if m.Partition == 0 {
				return errHandler
			}
			return nil
		}, kafkax.WithConcurrency(1), kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 3, InitialBackoff: time.Minute, MaxBackoff: time.Minute}))
	})
	eventually(t, "the other partition", func() bool { return b.committed(t, "g", 1) == 5 })
}

func TestRetryAttempts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		err   error
		retry kafkax.RetryConfig
		want  int
	}{
		{"the default", errHandler, kafkax.RetryConfig{}, 3},
		{"one", errHandler, kafkax.RetryConfig{MaxAttempts: 1}, 1},
		{"five", errHandler, kafkax.RetryConfig{MaxAttempts: 5}, 5},
		{"permanent", kafkax.Permanent(errHandler), kafkax.RetryConfig{MaxAttempts: 5}, 1},
		{"permanent inside", fmt.Errorf("decode: %w", kafkax.Permanent(errHandler)), kafkax.RetryConfig{MaxAttempts: 5}, 1},
	}
	for _, loop := range allLoops {
		for _, tt := range tests {
			t.Run(loop.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1)
				b.produce(t, numbered(1, 1)...)
				c := b.consumer(t, "g")
				var calls atomic.Int64
				err := loop.run(c, testContext(t), func(context.Context, kafka.Message) error {
					calls.Add(1)
					return tt.err
				}, kafkax.WithRetry(tt.retry), kafkax.WithOnFailure(kafkax.FailStop))
				var he *kafkax.HandlerError
				if !errors.As(err, &he) || he.Attempts != tt.want || calls.Load() != int64(tt.want) || !errors.Is(he.Err, errHandler) {
					t.Errorf("%d calls, %v; want %d", calls.Load(), err, tt.want)
				}
			})
		}
	}
}

func TestHandlerTimeout(t *testing.T) {
	t.Parallel()
	for _, loop := range allLoops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 1)...)
			c := b.consumer(t, "g")
			causes := make(chan error, 10)
			err := loop.run(c, testContext(t), func(ctx context.Context, _ kafka.Message) error {
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return ctx.Err()
			}, kafkax.WithHandlerTimeout(20*time.Millisecond), kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 2}), kafkax.WithOnFailure(kafkax.FailStop))
			var he *kafkax.HandlerError
			if !errors.As(err, &he) || he.Attempts != 2 || !errors.Is(err, kafkax.ErrHandlerTimeout) {
				t.Errorf("the loop returned %v", err)
			}
			for range 2 {
				if err := received(t, "a cause", causes); !errors.Is(err, kafkax.ErrHandlerTimeout) {
					t.Errorf("the cause is %v", err)
				}
			}
		})
	}
}

type contextKey struct{}

func TestHandlerSeesTheValuesOfTheLoopsContext(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 1)...)
	c := b.consumer(t, "g")
	values := make(chan any, 1)
	run(t, func(ctx context.Context) error {
		return c.Consume(context.WithValue(ctx, contextKey{}, "trace"), func(ctx context.Context, _ kafka.Message) error {
			values <- ctx.Value(contextKey{})
			return nil
		})
	})
	if v := received(t, "the handler", values); v != "trace" {
		t.Errorf("the handler saw %v", v)
	}
}
