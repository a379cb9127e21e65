package kafkax

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
)

func TestD1_CommitsHandledPrefixOnly(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		delivered []int64
		handled   []int64
		passed    int64
		want      int64
	}{
		{name: "nothing_delivered", want: 10},
		{name: "delivered_not_handled", delivered: []int64{10, 11}, want: 10},
		{name: "first_handled", delivered: []int64{10, 11}, handled: []int64{10}, want: 11},
		{name: "second_handled_first", delivered: []int64{10, 11}, handled: []int64{11}, want: 10},
		{name: "all_handled_out_of_order", delivered: []int64{10, 11, 12}, handled: []int64{12, 10, 11}, want: 13},
		{name: "hole_before_unfinished", delivered: []int64{10, 17}, handled: []int64{10}, want: 17},
		{name: "handled_twice", delivered: []int64{10, 11}, handled: []int64{10, 10}, want: 11},
		{name: "handled_unknown", delivered: []int64{10, 11}, handled: []int64{99, 3}, want: 10},
		{name: "marker_behind_handled", delivered: []int64{10}, handled: []int64{10}, passed: 12, want: 12},
		{name: "marker_behind_unfinished", delivered: []int64{10}, passed: 12, want: 10},
		{name: "only_markers", passed: 14, want: 14},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tr := newOffsetTracker(10, -1, unknownOrigin)
			for _, o := range tt.delivered {
				tr.delivered(0, o)
			}
			tr.passed(0, tt.passed)
			for _, o := range tt.handled {
				tr.handled(0, o)
			}
			if got := tr.position(); got != tt.want {
				t.Errorf("position = %d, want %d", got, tt.want)
			}
		})
	}
}

// Any order of finishing, any holes: the position is always the first
// unfinished offset.
func TestD1_PositionMatchesModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		tr := newOffsetTracker(0, -1, unknownOrigin)
		var open []int64
		next := int64(0)
		for range 1500 {
			if len(open) == 0 || r.IntN(2) == 0 {
				next += int64(r.IntN(3))
				tr.delivered(0, next)
				open = append(open, next)
				next++
			} else {
				i := r.IntN(min(len(open), 1+r.IntN(2000)))
				tr.handled(0, open[i])
				open = slices.Delete(open, i, i+1)
			}
			want := next
			if len(open) > 0 {
				want = open[0]
			}
			if got := tr.position(); got != want {
				t.Fatalf("seed %d: position = %d, want %d", seed, got, want)
			}
			if got := tr.inFlight(); got != len(open) {
				t.Fatalf("seed %d: in flight = %d, want %d", seed, got, len(open))
			}
		}
	}
}

func TestD2_DueNeverGoesBack(t *testing.T) {
	t.Parallel()
	tr := newOffsetTracker(10, 10, unknownOrigin)
	if _, ok := tr.due(); ok {
		t.Fatal("due although the group has it")
	}
	tr.delivered(0, 10)
	tr.delivered(0, 11)
	if !tr.handledThrough(11) {
		t.Fatal("11 was delivered")
	}
	d, ok := tr.due()
	if !ok || d.offset != 12 {
		t.Fatalf("due = %d, %v, want 12", d.offset, ok)
	}
	tr.acknowledged(d.seeks, d.offset)
	if !tr.handledThrough(10) {
		t.Fatal("10 was delivered")
	}
	if d, ok := tr.due(); ok {
		t.Fatalf("an older message made %d due", d.offset)
	}
	if tr.handledThrough(12) {
		t.Fatal("12 was never delivered here")
	}
}

// A seek is the one thing that may go back; what was delivered before it no
// longer counts, and neither does a commit that it overtook.
func TestD2_SeekGoesBackOnce(t *testing.T) {
	t.Parallel()
	tr := newOffsetTracker(100, 100, unknownOrigin)
	tr.delivered(0, 100)
	tr.delivered(0, 101)
	tr.handled(0, 100)
	before, _ := tr.due() // a commit of 101 is under way
	epoch := tr.seek(5, unknownOrigin)
	tr.acknowledged(before.seeks, before.offset)
	tr.handled(0, 101)
	if tr.delivered(0, 102) {
		t.Fatal("a message from before the seek was delivered")
	}
	d, ok := tr.due()
	if !ok || d.offset != 5 || d.seeks != epoch {
		t.Fatalf("due = %d, %v, want 5", d.offset, ok)
	}
	tr.acknowledged(d.seeks, d.offset)
	if d, ok := tr.due(); ok {
		t.Fatalf("%d is due after the seek was committed", d.offset)
	}
	tr.delivered(epoch, 5)
	tr.handled(epoch, 5)
	if d, ok := tr.due(); !ok || d.offset != 6 {
		t.Fatalf("due = %d, %v, want 6", d.offset, ok)
	}
}

func TestD15_PendingIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newOffsetTracker(0, -1, unknownOrigin)
		for o := range int64(maxPending) {
			tr.delivered(0, o)
			tr.handled(0, o+1) // not delivered yet: nothing moves
		}
		released := make(chan struct{})
		go func() {
			tr.wait(nil)
			close(released)
		}()
		synctest.Wait()
		select {
		case <-released:
			t.Fatal("a partition ran ahead without bound")
		default:
		}
		tr.handled(0, 0)
		<-released

		stop := make(chan struct{})
		tr.delivered(0, maxPending)
		close(stop)
		tr.wait(stop) // a stop does not wait for room
	})
}

// fakeGroup stores offsets as a coordinator does.
type fakeGroup struct {
	mu     sync.Mutex
	stored map[int]int64
	sends  int
	gate   chan struct{} // not nil: each send waits for it
	err    error
}

func (g *fakeGroup) send(all []commitment) error {
	if g.gate != nil {
		<-g.gate
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sends++
	if g.err != nil {
		return g.err
	}
	for _, c := range all {
		g.stored[c.id] = c.offset
	}
	return nil
}

func newTestCommitter(g *fakeGroup, interval time.Duration, n int) (*committer, []*partition) {
	var parts []*partition
	for id := range n {
		parts = append(parts, &partition{topic: "t", id: id, tracker: newOffsetTracker(0, -1, unknownOrigin)})
	}
	return newCommitter(parts, interval, g.send, func(error) {}), parts
}

func TestCommitter_Coalesces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGroup{stored: map[int]int64{}, gate: make(chan struct{})}
		c, parts := newTestCommitter(g, 0, 1)
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() { c.run(stop); close(done) }()
		for o := range int64(1000) {
			parts[0].tracker.delivered(0, o)
			parts[0].tracker.handled(0, o)
			c.request()
			if o == 0 {
				synctest.Wait() // the first request is under way
			}
		}
		g.gate <- struct{}{}
		g.gate <- struct{}{} // the second carries the rest
		synctest.Wait()
		close(stop)
		<-done
		if g.stored[0] != 1000 || g.sends != 2 {
			t.Errorf("stored %d in %d requests, want 1000 in 2", g.stored[0], g.sends)
		}
	})
}

func TestCommitter_FailureStaysDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGroup{stored: map[int]int64{}, err: errors.New("coordinator moves")}
		c, parts := newTestCommitter(g, time.Second, 2)
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() { c.run(stop); close(done) }()
		parts[1].tracker.delivered(0, 0)
		parts[1].tracker.handled(0, 0)
		if err := c.commit(t.Context()); !errors.Is(err, g.err) {
			t.Errorf("commit = %v, want the cause", err)
		}
		g.mu.Lock()
		g.err = nil
		g.mu.Unlock()
		time.Sleep(2 * time.Second) // the fake clock's
		synctest.Wait()
		if g.stored[1] != 1 {
			t.Errorf("stored %d, want 1", g.stored[1])
		}
		close(stop)
		<-done
	})
}

func TestCommitter_FinishSendsRestThenRefuses(t *testing.T) {
	t.Parallel()
	g := &fakeGroup{stored: map[int]int64{}}
	c, parts := newTestCommitter(g, time.Hour, 1)
	parts[0].tracker.delivered(0, 0)
	parts[0].tracker.handled(0, 0)
	if err := c.finish(t.Context(), t.Context(), ErrRevoked); err != nil {
		t.Fatal(err)
	}
	if g.stored[0] != 1 {
		t.Errorf("stored %d, want 1", g.stored[0])
	}
	parts[0].tracker.delivered(0, 1)
	parts[0].tracker.handled(0, 1)
	if err := c.commit(context.Background()); !errors.Is(err, ErrRevoked) {
		t.Errorf("commit after finish = %v, want ErrRevoked", err)
	}
	if g.stored[0] != 1 {
		t.Errorf("stored %d after finish, want 1", g.stored[0])
	}
}

// The last commit is the last chance: a coordinator that is away costs no duplicates
// while nobody else can have been given the partitions, and neither does a rebalance
// that begins. It is asked again until a limit, and about nothing it refused.
func TestD3_LastCommitIsTriedAgain(t *testing.T) {
	t.Parallel()
	const pause = commitRetryPause
	for _, tt := range []struct {
		name        string
		err         error
		fails       int
		limit, away time.Duration
		sends       int
		after       time.Duration
		stored      bool
		told        int
	}{
		{"away for a moment", kafka.GroupCoordinatorNotAvailable, 3, time.Minute, time.Hour, 4, 3 * pause, true, 0},
		{"away for longer", kafka.GroupCoordinatorNotAvailable, 7, 3*pause + 1, time.Hour, 8, 7 * pause, true, 1},
		{"not to be reached", io.EOF, 7, 3*pause + 1, time.Hour, 8, 7 * pause, true, 1},
		{"away for good", kafka.GroupCoordinatorNotAvailable, math.MaxInt, pause, 3*pause + 1, 4, 3*pause + 1, false, 1},
		{"busy", kafka.RequestTimedOut, 3, time.Minute, time.Hour, 4, 3 * pause, true, 0},
		{"busy for good", kafka.RequestTimedOut, math.MaxInt, 3*pause + 1, time.Hour, 4, 3*pause + 1, false, 0},
		{"in a rebalance", kafka.RebalanceInProgress, 3, time.Minute, time.Hour, 4, 3 * pause, true, 0},
		{"in a rebalance for good", kafka.RebalanceInProgress, math.MaxInt, 3*pause + 1, time.Hour, 4, 3*pause + 1, false, 0},
		{"refused", kafka.GroupAuthorizationFailed, math.MaxInt, time.Minute, time.Hour, 1, 0, false, 0},
		{"of another generation", kafka.IllegalGeneration, math.MaxInt, time.Minute, time.Hour, 1, 0, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGroup{stored: map[int]int64{}}
				c, parts := newTestCommitter(g, time.Hour, 1)
				c.send = func(all []commitment) error {
					if g.err = nil; g.sends < tt.fails {
						g.err = tt.err
					}
					return g.send(all)
				}
				told := 0
				c.failed = func(error) { told++ }
				parts[0].tracker.delivered(0, 0)
				parts[0].tracker.handled(0, 0)
				start := time.Now()
				err := c.finish(endsAfter(t, tt.limit, ErrShutdown), endsAfter(t, tt.away, ErrShutdown), ErrRevoked)
				if tt.stored != (err == nil) || err != nil && !errors.Is(err, tt.err) {
					t.Errorf("finish = %v", err)
				}
				if got := time.Since(start); g.sends != tt.sends || got != tt.after || tt.stored != (g.stored[0] == 1) {
					t.Errorf("%d requests in %v, stored %v, want %d in %v", g.sends, got, g.stored, tt.sends, tt.after)
				}
				if told != tt.told {
					t.Errorf("told %d times of a failure, want %d", told, tt.told)
				}
				if err := c.commit(t.Context()); !errors.Is(err, ErrRevoked) {
					t.Errorf("commit after finish = %v, want ErrRevoked", err)
				}
			})
		})
	}
}

// Who waits for a commit that a rebalance keeps from being taken learns what became
// of it in the end: it may be stored yet.
func TestCommitter_WaitersOutlastARebalance(t *testing.T) {
	t.Parallel()
	for _, want := range []error{nil, ErrRevoked} {
		t.Run(fmt.Sprint(want), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGroup{stored: map[int]int64{}}
				c, parts := newTestCommitter(g, time.Hour, 1)
				c.send = func(all []commitment) error {
					switch {
					case g.sends == 0:
						g.err = kafka.RebalanceInProgress
					case want != nil:
						g.err = kafka.IllegalGeneration
					default:
						g.err = nil
					}
					return g.send(all)
				}
				stop, done, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
				c.failed = func(error) { close(stop) }
				go func() { c.run(stop); close(done) }()
				parts[0].tracker.delivered(0, 0)
				parts[0].tracker.handled(0, 0)
				go func() { result <- c.commit(t.Context()) }()
				<-done
				synctest.Wait()
				select {
				case err := <-result:
					t.Fatalf("commit = %v before the end of the generation", err)
				default:
				}
				_ = c.finish(t.Context(), t.Context(), ErrRevoked)
				if err := <-result; want == nil && err != nil || want != nil && !isFenced(err) {
					t.Errorf("commit = %v, want %v", err, want)
				}
			})
		})
	}
}

// What is committed is the next offset: the one before it is handled, it is not.
func TestD2_CommittedPastIsOfTheOffsetBefore(t *testing.T) {
	t.Parallel()
	tr := newOffsetTracker(5, 5, unknownOrigin)
	for offset, want := range map[int64]bool{4: true, 5: false, 6: false} {
		if got := tr.committedPast(offset); got != want {
			t.Errorf("with 5 committed, %d is handled: %v", offset, got)
		}
	}
}

// The end of the log that was asked for before a seek says nothing of the seek's
// own name for an end.
// What a caller moved to in a topic is no place in another of the same name.
func TestD12_AMoveIsOfTheTopicAsItIs(t *testing.T) {
	t.Parallel()
	here := topicID{1}
	tr := newOffsetTracker(5, 5, origin{topic: here, epoch: 3})
	tr.move(7)
	if d, ok := tr.due(); !ok || d.offset != 7 || d.from != (origin{topic: here, epoch: -1, asked: true}) {
		t.Errorf("to be committed: %+v, %v", d, ok)
	}
}

func TestASeekOvertakesTheOffsetOfAName(t *testing.T) {
	t.Parallel()
	tr := newOffsetTracker(-2, -1, unknownOrigin)
	before, _ := tr.start(-1)
	after := tr.seek(-1, unknownOrigin)
	tr.resolved(before, 7)
	if got := tr.position(); got != -1 {
		t.Errorf("the position is %d, want the name that was sought last", got)
	}
	tr.resolved(after, 9)
	if got := tr.position(); got != 9 {
		t.Errorf("the position is %d, want 9", got)
	}
}
