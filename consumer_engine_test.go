package kafkax

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever bounds a stop ends with the run: no timer outlives it. Time does not
// pass in the bubble unless something waits for it.
func TestD4_BoundsEndWithTheRun(t *testing.T) {
	t.Parallel()
	cfg := &ConsumerConfig{ConnectionConfig: ConnectionConfig{ShutdownTimeout: time.Hour}}
	newBounded := func() *engine {
		e := &engine{scope: &scope{cfg: cfg}}
		e.scope.ctx, e.stop = context.WithCancel(context.Background())
		e.cut, e.cutOff = context.WithCancelCause(context.Background())
		e.abandoned, e.abandon = context.WithCancel(context.Background())
		return e
	}
	for _, tt := range []struct {
		name string
		end  func(e *engine, ended chan struct{})
		want time.Duration
	}{
		{"before a stop", func(_ *engine, ended chan struct{}) { close(ended) }, 0},
		{"after a clean stop", func(e *engine, ended chan struct{}) { e.stop(); synctest.Wait(); close(ended) }, 0},
		{"cut off, then clean", func(e *engine, ended chan struct{}) { e.stop(); e.cutOff(nil); synctest.Wait(); close(ended) }, 0},
		{"cut off", func(e *engine, _ chan struct{}) { e.stop(); e.cutOff(nil) }, cutGrace},
		{"not at all", func(e *engine, _ chan struct{}) { e.stop() }, time.Hour + cutGrace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e, ended, over := newBounded(), make(chan struct{}), make(chan struct{})
				began := time.Now()
				go func() {
					defer close(over)
					e.bound(ended)
				}()
				tt.end(e, ended)
				<-over
				if took := time.Since(began); took != tt.want {
					t.Errorf("waited for %v, want %v", took, tt.want)
				}
				if abandoned := e.abandoned.Err() != nil; abandoned != (tt.want > 0) {
					t.Errorf("abandoned: %v after %v", abandoned, tt.want)
				}
			})
		})
	}
}

// seekerFunc is a Consumer that does something more once an assignment has begun.
type seekerFunc struct {
	*Consumer
	begun func(partitions []*partition)
}

func (s seekerFunc) takeSeek(partitions []*partition) {
	s.Consumer.takeSeek(partitions)
	s.begun(partitions)
}

// A position that is set while an assignment begins is not that of the one after.
func TestD2_SetOffsetWhileAnAssignmentBegins(t *testing.T) {
	t.Parallel()
	c, err := NewConsumer(WithConsumerBrokers("127.0.0.1:1"), WithConsumerTopic("events"), WithConsumerPartition(0))
	if err != nil {
		t.Fatal(err)
	}
	e := c.newEngine(t.Context(), runPlan{cfg: &c.cfg, work: func(*claim) {}, chunks: func() chan *chunk { return make(chan *chunk) }})
	defer e.discard()
	if err := c.begin(e); err != nil {
		t.Fatal(err)
	}
	e.seeks = seekerFunc{c, func(partitions []*partition) {
		if err := c.SetOffset(5); err != nil {
			t.Error(err)
		}
		if got := partitions[0].tracker.position(); got != 5 {
			t.Errorf("the partition is at %d, want 5", got)
		}
	}}
	e.stop() // the assignment ends at once
	e.workOn(e.ctx, e.ctx, []start{{offset: 1, from: unknownOrigin}}, nil, nil)
}

// A move that no commit has stored is of the next assignment, and of no later one:
// by then another member has gone on from where it found the partition.
func TestD2_SetOffsetIsKeptForTheNextAssignment(t *testing.T) {
	t.Parallel()
	var logs logRecord
	c, err := NewConsumer(WithConsumerBrokers("127.0.0.1:1"), WithConsumerTopic("events"), WithConsumerGroupID("g"), WithConsumerErrorLogger(recordLogs(&logs)))
	if err != nil {
		t.Fatal(err)
	}
	at := func(id int) *partition { return &partition{id: id, tracker: newOffsetTracker(9, 9, unknownOrigin)} }
	stored, kept, lost := at(0), at(1), at(2)
	for _, p := range []*partition{stored, kept, lost} {
		p.tracker.move(3)
	}
	d, _ := stored.tracker.due()
	stored.tracker.acknowledged(d.seeks, d.offset)
	gone := false
	c.keepSeek([]*partition{stored, kept, lost}, func() { gone = true })
	if !gone {
		t.Error("the assignment is still the engine's")
	}
	for round, want := range [][]int64{{9, 3}, {9, 9, 9}} {
		var next []*partition
		for id := range want {
			next = append(next, at(id))
		}
		c.takeSeek(next)
		for id, p := range next {
			if got := p.tracker.position(); got != want[id] {
				t.Errorf("assignment %d: partition %d is at %d, want %d", round+1, id, got, want[id])
			}
		}
	}
	if lines := logs.all(); len(lines) != 1 || !strings.Contains(lines[0], "events[2]@3: ") {
		t.Errorf("logged %q, want one line of the partition that went elsewhere", lines)
	}
}
