package kafkax

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax/internal/budget"
)

// handling is a loop over partitions that a test fills by hand.
type handling struct {
	*loop
	claim  *claim
	stop   func() // ends stopping
	cut    func() // ends the handlers' context
	work   sync.WaitGroup
	next   []int64 // offset, by partition
	failed chan error
}

func newHandling(t testing.TB, partitions int, h Handler, options func(*consumeConfig)) *handling {
	t.Helper()
	cfg := consumeConfig{ConsumerConfig: ConsumerConfig{Topic: "events", Concurrency: 8, Ordering: OrderKey}}
	cfg.Retry = RetryConfig{MaxAttempts: 3, InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond}
	options(&cfg)
	log := newLoggers(nil, kafka.LoggerFunc(func(string, ...any) {}))
	f := &handling{failed: make(chan error, 100), next: make([]int64, partitions)}
	var stopping, ctx context.Context
	stopping, f.stop = context.WithCancel(context.Background())
	ctx, f.cut = context.WithCancel(context.Background())
	f.claim = &claim{stopping: stopping, ctx: ctx, requestCommit: func() {}, unfinished: func(int, error) {}}
	f.claim.commits.Store(true)
	for id := range partitions {
		f.claim.partitions = append(f.claim.partitions, &partition{
			topic: cfg.Topic, id: id, tracker: newOffsetTracker(0, -1, unknownOrigin), chunks: make(chan *chunk), stats: new(consumerStats),
		})
	}
	f.loop = &loop{
		caller: t.Context(), cfg: cfg, log: log, stats: new(consumerStats), handler: h,
		slots: make(chan struct{}, cfg.Concurrency), report: newReporter(t.Context(), cfg.onError, log),
		fail: func(err error) { f.failed <- err },
	}
	f.work.Go(func() { f.workMessages(f.claim) })
	t.Cleanup(func() { f.stop(); f.cut(); f.work.Wait(); f.report.cancel() })
	return f
}

// give hands over one chunk with messages of these keys; it is false after a
// stop. A message without a key is given as "".
func (f *handling) give(partition int, keys ...string) bool {
	p := f.claim.partitions[partition]
	c := &chunk{partition: p, seeks: p.tracker.seekCount()}
	for _, key := range keys {
		m := kafka.Message{Topic: p.topic, Partition: p.id, Offset: f.next[partition], Value: []byte("value")}
		if key != "" {
			m.Key = []byte(key)
		}
		c.messages = append(c.messages, m)
		f.next[partition]++
	}
	c.position = f.next[partition]
	select {
	case p.chunks <- c:
		return true
	case <-f.claim.stopping.Done():
		return false
	}
}

// until polls, and fails the test if it never is.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for n := 0; !ok(); n++ {
		if n < 1000 {
			runtime.Gosched()
			continue
		}
		time.Sleep(time.Millisecond)
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for: %s", what)
		}
	}
}

// A worker that has nothing to do may keep its handler slot from others for ever.
func TestIdleLanesHoldNoSlot(t *testing.T) {
	t.Parallel()
	for _, ordering := range []Ordering{OrderPartition, OrderKey, Unordered} {
		t.Run(string(ordering), func(t *testing.T) {
			t.Parallel()
			var handled atomic.Int64
			f := newHandling(t, 2, func(context.Context, kafka.Message) error { handled.Add(1); return nil },
				func(cfg *consumeConfig) { cfg.Ordering, cfg.Concurrency = ordering, 4 })
			given := int64(0)
			for burst := range 1000 {
				for p := range 2 {
					keys := slices.Repeat([]string{"a", "b", "c", "d", "e"}, 2)[:1+burst%7]
					f.give(p, keys...)
					given += int64(len(keys))
				}
				until(t, "the burst to be handled", func() bool { return handled.Load() == given })
				until(t, "the slots to be free", func() bool { return len(f.slots) == 0 })
			}
		})
	}
}

// Whatever becomes of messages, those of a key run one after the other and in
// order, as many at once as were asked for, and a stop leaves nothing behind.
func TestD14_LanesUnderFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			const partitions, each, concurrency = 2, 1500, 6
			rnd := rand.New(rand.NewPCG(seed, 1))
			type lane struct {
				partition int
				key       string
			}
			var (
				mu      sync.Mutex
				running = map[lane]bool{}
				last    = map[lane]int64{}
				atOnce  atomic.Int64
				done    = make([]map[int64]bool, partitions)
				calls   atomic.Int64
			)
			for p := range done {
				done[p] = map[int64]bool{}
			}
			ordering := []Ordering{OrderKey, Unordered, OrderKey}[seed%3]
			h := func(_ context.Context, m kafka.Message) error {
				if n := atOnce.Add(1); n > concurrency {
					t.Errorf("%d at once", n)
				}
				defer atOnce.Add(-1)
				l := lane{m.Partition, string(m.Key)}
				if m.Key == nil || ordering == Unordered {
					l.key = fmt.Sprint("none", m.Offset)
				}
				mu.Lock()
				if running[l] {
					t.Errorf("%v runs twice at the same time", l)
				}
				running[l] = true
				if before, ok := last[l]; ok && m.Offset < before {
					t.Errorf("%v: %d after %d", l, m.Offset, before)
				}
				last[l] = m.Offset
				mu.Unlock()
				n := calls.Add(1)
				if n%50 == 0 {
					time.Sleep(100 * time.Microsecond)
				}
				mu.Lock()
				running[l] = false
				mu.Unlock()
				switch {
				case n%11 == 0:
					return errors.New("failed")
				case n%13 == 0:
					panic("failed")
				case n%17 == 0:
					return Permanent(errors.New("failed"))
				}
				mu.Lock()
				done[m.Partition][m.Offset] = true
				mu.Unlock()
				return nil
			}
			var skipped atomic.Int64
			f := newHandling(t, partitions, h, func(cfg *consumeConfig) {
				cfg.Ordering, cfg.Concurrency = ordering, concurrency
				cfg.onError = func(_ context.Context, m kafka.Message, _ error) {
					skipped.Add(1)
					mu.Lock()
					done[m.Partition][m.Offset] = true
					mu.Unlock()
				}
			})
			stopAfter := int64(partitions * each)
			if seed >= 6 {
				stopAfter = rnd.Int64N(stopAfter)
			}
			var given sync.WaitGroup
			for p := range partitions {
				keys := make([]string, each)
				for i := range keys {
					if n := rnd.IntN(30); n > 2 {
						keys[i] = fmt.Sprint("k", n)
					}
				}
				given.Go(func() {
					for chunk := range slices.Chunk(keys, 40) {
						if !f.give(p, chunk...) {
							return
						}
					}
				})
			}
			until(t, "messages to be handled", func() bool { mu.Lock(); defer mu.Unlock(); return int64(len(done[0])+len(done[1])) >= stopAfter })
			f.stop()
			given.Wait()
			f.work.Wait() // nothing needs the handlers' context to end
			if n := len(f.slots); n != 0 {
				t.Errorf("%d slots are held", n)
			}
			if left := f.claim.running(); len(left) != 0 {
				t.Errorf("%v are said to run", left)
			}
			mu.Lock()
			defer mu.Unlock()
			for p, part := range f.claim.partitions {
				position := part.tracker.position()
				for o := range position {
					if !done[p][o] {
						t.Errorf("partition %d: %d may be committed, %d is not handled", p, position, o)
					}
				}
			}
		})
	}
}

// A seek makes stale what waits: it may finish, and marks nothing.
func TestLanesAfterASeek(t *testing.T) {
	t.Parallel()
	held, started := make(chan struct{}), make(chan int64, 100)
	f := newHandling(t, 1, func(_ context.Context, m kafka.Message) error {
		started <- m.Offset
		<-held
		return nil
	}, func(cfg *consumeConfig) { cfg.Concurrency = 2 })
	f.give(0, "a", "a", "b", "a", "c")
	<-started
	tracker := f.claim.partitions[0].tracker
	tracker.seek(100, unknownOrigin)
	f.next[0] = 100
	f.give(0, "a", "d")
	close(held)
	until(t, "what comes after the seek to be handled", func() bool { return tracker.position() == 102 })
}

// What waits for another message of its key must not keep alive what was fetched
// with it.
func TestWaitingMessagesAreOfTheirOwnMemory(t *testing.T) {
	t.Parallel()
	started, held, seen := make(chan struct{}), make(chan struct{}), make(chan string, 2)
	f := newHandling(t, 1, func(_ context.Context, m kafka.Message) error {
		if m.Offset == 0 {
			close(started)
			<-held
		}
		seen <- fmt.Sprintf("%s %s %s", m.Key, m.Headers[0].Value, m.Value)
		return nil
	}, func(*consumeConfig) {})
	p := f.claim.partitions[0]
	slab := []byte("key header value")
	c := &chunk{partition: p, position: 2}
	for offset := range int64(2) {
		c.messages = append(c.messages, kafka.Message{
			Offset: offset, Key: slab[:3], Value: slab[11:], Headers: []kafka.Header{{Key: "h", Value: slab[4:10]}},
		})
	}
	p.chunks <- c
	f.give(0) // is taken when the others are on their way
	<-started
	for i := range slab {
		slab[i] = 'x'
	}
	close(held)
	<-seen
	if got := <-seen; got != "key header value" {
		t.Errorf("the message became %q with what was fetched", got)
	}
}

// The last message that was delivered finds a worker too, when those there are
// begin to wait.
func TestD14_WorkersThatWaitAreReplaced(t *testing.T) {
	t.Parallel()
	held, last := make(chan struct{}), make(chan struct{})
	f := newHandling(t, 1, func(_ context.Context, m kafka.Message) error {
		if m.Offset < 2 {
			<-held
			return errors.New("failed")
		}
		close(last)
		return nil
	}, func(cfg *consumeConfig) {
		cfg.Concurrency = 2
		cfg.Retry = RetryConfig{MaxAttempts: 2, InitialBackoff: time.Hour, MaxBackoff: time.Hour}
	})
	f.give(0, "a", "b", "c")
	f.give(0) // is taken when the others are on their way
	close(held)
	select {
	case <-last:
	case <-time.After(time.Minute):
		t.Error("nobody works")
	}
}

// A stop finishes what lies before something that has started, and nothing else.
func TestD3_StopRunsOnlyWhatWasOvertaken(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	var mu sync.Mutex
	var ran []int64
	f := newHandling(t, 1, func(_ context.Context, m kafka.Message) error {
		if m.Offset == 0 {
			<-held
		}
		mu.Lock()
		defer mu.Unlock()
		ran = append(ran, m.Offset)
		return nil
	}, func(cfg *consumeConfig) { cfg.Concurrency = 2 })
	//        0       1       2    3       4
	f.give(0, "slow", "slow", "b", "slow", "slow")
	until(t, "2 to overtake", func() bool { mu.Lock(); defer mu.Unlock(); return slices.Contains(ran, 2) })
	until(t, "all to be delivered", func() bool { return f.claim.partitions[0].tracker.inFlight() == 4 })
	f.stop()
	close(held)
	f.work.Wait()
	if want := []int64{2, 0, 1}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
	if got := f.claim.partitions[0].tracker.position(); got != 3 {
		t.Errorf("%d may be committed, want 3", got)
	}
}

// What waits for its next try when a stop begins, while something behind it is at
// work, depends on what becomes of that.
func TestD3_StopDecidesOnWhatWaitsByWhatIsAtWork(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		fails    bool // the one at work
		tries    int64
		position int64
	}{
		{"it is handled", false, 2, 3},
		{"it fails", true, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var tries [3]atomic.Int64
				held := make(chan struct{})
				f := newHandling(t, 1, func(_ context.Context, m kafka.Message) error {
					switch n := tries[m.Offset].Add(1); {
					case m.Offset == 2:
						<-held
						if tt.fails {
							return errors.New("failed")
						}
					case n == 1:
						return errors.New("failed")
					}
					return nil
				}, func(cfg *consumeConfig) {
					cfg.Retry = RetryConfig{MaxAttempts: 3, InitialBackoff: time.Hour, MaxBackoff: time.Hour}
				})
				f.give(0, "a", "b", "c")
				synctest.Wait()
				f.stop()
				synctest.Wait()
				if a, b := tries[0].Load(), tries[1].Load(); a != 1 || b != 1 {
					t.Errorf("those that wait were tried %d and %d times before it is known", a, b)
				}
				began := time.Now()
				close(held)
				f.work.Wait()
				if took := time.Since(began); took != 0 {
					t.Errorf("the stop took %v more", took)
				}
				if a, b := tries[0].Load(), tries[1].Load(); a != tt.tries || b != tt.tries {
					t.Errorf("those that wait were tried %d and %d times, want %d", a, b, tt.tries)
				}
				if got := f.claim.partitions[0].tracker.position(); got != tt.position {
					t.Errorf("%d may be committed, want %d", got, tt.position)
				}
			})
		})
	}
}

// Once a stop begins, a message that waits is tried at once, and then as it always
// is, until the handlers' context ends.
func TestD3_StopTriesAgainWhileItMay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var tries []time.Duration
		f := newHandling(t, 1, func(_ context.Context, m kafka.Message) error {
			if m.Offset > 0 {
				return nil
			}
			tries = append(tries, time.Since(began))
			return errors.New("failed")
		}, func(cfg *consumeConfig) {
			cfg.Retry = RetryConfig{MaxAttempts: 100, InitialBackoff: 10 * time.Second, MaxBackoff: 10 * time.Second}
		})
		f.give(0, "a", "b")
		time.AfterFunc(13*time.Second, f.stop)
		time.AfterFunc(40*time.Second, f.cut)
		f.work.Wait()
		want := []time.Duration{0, 10 * time.Second, 13 * time.Second, 23 * time.Second, 33 * time.Second}
		if took := time.Since(began); took != 40*time.Second || !slices.Equal(tries, want) {
			t.Errorf("tried at %v, ended after %v; want %v and 40s", tries, took, want)
		}
	})
}

// Behind a message that the loop ends at, trying saves nothing.
func TestD3_NothingIsTriedBehindWhereTheLoopEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		last := make(chan struct{})
		var tries atomic.Int64
		f := newHandling(t, 1, func(_ context.Context, m kafka.Message) error {
			switch m.Offset {
			case 0:
				<-last
				return Permanent(errors.New("failed"))
			case 1:
				tries.Add(1)
				return errors.New("failed")
			}
			return nil
		}, func(cfg *consumeConfig) {
			cfg.OnFailure = FailStop
			cfg.Retry = RetryConfig{MaxAttempts: 9, InitialBackoff: time.Hour, MaxBackoff: time.Hour}
		})
		f.give(0, "a", "b", "c")
		synctest.Wait()
		began := time.Now()
		close(last)
		if err := <-f.failed; err == nil {
			t.Error("the loop ends without an error")
		}
		synctest.Wait()
		f.stop()
		f.work.Wait()
		if took := time.Since(began); took != 0 || tries.Load() != 1 {
			t.Errorf("tried %d times, ended after %v", tries.Load(), took)
		}
	})
}

// A handler that ends its goroutine holds up nobody but what lies behind it.
func TestD6_GoexitLeavesTheOtherLanes(t *testing.T) {
	t.Parallel()
	for _, ordering := range []Ordering{OrderKey, Unordered} {
		t.Run(string(ordering), func(t *testing.T) {
			t.Parallel()
			release, handled := make(chan struct{}), new(atomic.Int64)
			f := newHandling(t, 1, func(_ context.Context, m kafka.Message) error {
				if m.Offset < 2 {
					<-release
				}
				if m.Offset == 2 {
					runtime.Goexit()
				}
				handled.Add(1)
				return nil
			}, func(cfg *consumeConfig) { cfg.Ordering, cfg.Concurrency = ordering, 3 })
			f.give(0, "a", "b", "c", "c", "a", "b", "d", "e")
			if err := <-f.failed; err == nil {
				t.Error("the loop does not end")
			}
			tracker := f.claim.partitions[0].tracker
			until(t, "all to be delivered", func() bool { return tracker.inFlight() == 8 })
			f.give(0) // is taken when the last is on its way
			f.stop()
			close(release)
			f.work.Wait()
			if n := handled.Load(); n != 2 || len(f.slots) != 0 {
				t.Errorf("%d handled, %d slots held", n, len(f.slots))
			}
			if got := f.claim.partitions[0].tracker.position(); got != 2 {
				t.Errorf("%d may be committed, 2 is not handled", got)
			}
		})
	}
}

// What is kept of a message costs nothing once there is room for it.
func TestKeepingAMessageAllocatesNothing(t *testing.T) { //nolint:paralleltest // counts allocations
	m := kafka.Message{
		Topic: "events", Key: []byte("key"), Value: make([]byte, 1000),
		Headers: []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}},
	}
	w := &worker{item: item{Message: &m, chunk: &chunk{}}}
	if n := testing.AllocsPerRun(100, func() { w.begin(); w.letGo() }); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
	var b batcher
	for range 50 {
		b.batch = append(b.batch, taken{Message: m})
	}
	spare := b.batch
	if n := testing.AllocsPerRun(100, func() { b.forget(); b.batch = spare[:50]; b.begin() }); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

func TestRunning(t *testing.T) {
	t.Parallel()
	release, started := make(chan struct{}), make(chan struct{}, 10)
	f := newHandling(t, 3, func(context.Context, kafka.Message) error {
		started <- struct{}{}
		<-release
		return nil
	}, func(cfg *consumeConfig) { cfg.Ordering, cfg.Concurrency = OrderPartition, 1 })
	var given sync.WaitGroup
	for p := range 3 {
		given.Go(func() { f.give(p, "", "") })
	}
	<-started
	given.Wait()
	names := f.claim.running()
	if len(names) != 1 {
		t.Fatalf("one handler may run, and %v are said to", names)
	}
	if !regexp.MustCompile(`^events\[[0-2]\]@0 since [0-9.]+m?s$`).MatchString(names[0]) {
		t.Errorf("what runs is called %q", names[0])
	}
	close(release)
	until(t, "all to be handled", func() bool { return len(f.claim.running()) == 0 })
}

// Behind a message that is not handled a partition runs ahead so far and no
// further, where later messages may be handled first. In the order of the
// partition nothing runs ahead.
func TestD15_APartitionRunsAheadSoFar(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ordering Ordering
		slots    int
		waits    bool
	}{{OrderPartition, 4, false}, {OrderKey, 4, true}, {Unordered, 4, true}} {
		t.Run(string(tt.ordering), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tracker := newOffsetTracker(0, -1, unknownOrigin)
				for offset := range int64(maxPending) {
					tracker.delivered(0, offset)
				}
				ls := newLanes(tt.ordering, make(chan struct{}, tt.slots), &claim{stopping: t.Context(), ctx: t.Context()},
					func(*worker) bool { return true })
				defer ls.close()
				went := make(chan struct{})
				go func() {
					defer close(went)
					ls.wait(&partition{tracker: tracker})
				}()
				synctest.Wait()
				select {
				case <-went:
					if tt.waits {
						t.Error("it went on")
					}
				default:
					if !tt.waits {
						t.Error("it waits")
					}
				}
				tracker.handled(0, 0)
				<-went
			})
		})
	}
}

// What waits for a worker is bounded, whatever the partition brings: the rest
// stays where the fetches are bounded by.
func TestD15_MessagesThatWaitForAWorkerAreBounded(t *testing.T) {
	t.Parallel()
	for _, ordering := range []Ordering{OrderKey, Unordered} {
		t.Run(string(ordering), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				held := make(chan struct{})
				f := newHandling(t, 1, func(context.Context, kafka.Message) error { <-held; return nil },
					func(cfg *consumeConfig) { cfg.Ordering, cfg.Concurrency = ordering, 4 })
				var keys []string
				for i := range 10 * maxReady {
					keys = append(keys, fmt.Sprint(i))
				}
				f.give(0, keys...)
				synctest.Wait()
				tracker := f.claim.partitions[0].tracker
				tracker.mu.Lock()
				got := len(tracker.pending)
				tracker.mu.Unlock()
				if most := 4 + maxReady + 1; got > most || got < most-1 { // one is in the hands of the loop
					t.Errorf("%d messages were taken, want at most %d", got, most)
				}
				close(held)
			})
		})
	}
}

// A handler may change how large a message is: given back is what was taken.
func TestD15_AChangedMessageGivesBackWhatItTook(t *testing.T) {
	t.Parallel()
	for _, ordering := range []Ordering{OrderPartition, OrderKey, Unordered} {
		for size, changed := range map[string]kafka.Header{"larger": {Value: make([]byte, 1000)}, "smaller": {}} {
			t.Run(string(ordering)+"/"+size, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newHandling(t, 1, func(_ context.Context, m kafka.Message) error { m.Headers[0] = changed; return nil },
						func(cfg *consumeConfig) { cfg.Ordering = ordering })
					p, shared := f.claim.partitions[0], budget.New(1<<20)
					a := newAllowance(shared)
					for range 2 { // the partition's own fetch, and one from the budget of all
						c := &chunk{partition: p}
						taken := 0
						for range 3 {
							m := kafka.Message{Offset: f.next[0], Headers: []kafka.Header{{Key: "h", Value: []byte("x")}}}
							c.messages = append(c.messages, m)
							taken += memorySize(&m)
							f.next[0]++
						}
						c.position = f.next[0]
						var err error
						if c.memory, err = a.take(t.Context(), taken); err != nil {
							t.Fatal(err)
						}
						c.memory.correct(taken)
						p.chunks <- c
					}
					synctest.Wait()
					if got := p.tracker.position(); got != f.next[0] {
						t.Fatalf("all before %d are handled, want all before %d", got, f.next[0])
					}
					if used := shared.Used(); used != 0 {
						t.Errorf("%d bytes of all are still taken", used)
					}
					if len(a.own) != 1 {
						t.Error("the partition's own fetch is not free again")
					}
				})
			})
		}
	}
}
