package kafkax

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// stopGrace is how long a stop that ran out of time still waits for what it
	// cut off to fail. Everything does so at once, code of the caller's apart.
	stopGrace = 800 * time.Millisecond

	// lastGrace is for what is left when that is no longer waited for either.
	// Both, and the wait for the log, are less than a second.
	lastGrace = 50 * time.Millisecond
)

// stopping is the end of a Producer: who may still come in, what a stop waits
// for, and what it cost.
type stopping struct {
	mu     sync.Mutex
	closed bool
	why    error          // why a stop cut off; nil if none did
	lost   map[string]int // what failed since, by place
	left   []string       // what the caller's callback was not told of

	handovers sync.WaitGroup // calls inside Writer.WriteMessages; none begins after closed
	flushed   chan struct{}  // closed when all that was accepted has an outcome
	gone      chan struct{}  // closed when a stop waits no longer for the caller's code
	goneOnce  sync.Once

	untold func() []string // finds out what the callback was not told of; nil without one
}

func newStopping() *stopping {
	return &stopping{flushed: make(chan struct{}), gone: make(chan struct{})}
}

// enter begins a handover, which leave ends; it is false once closed.
func (s *stopping) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.handovers.Add(1)
	return true
}

func (s *stopping) leave() { s.handovers.Done() }

func (s *stopping) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// begin refuses what comes from now on, and has flush run once the last
// handover is over. Its goroutine ends with flushed, which every stop waits
// for.
func (s *stopping) begin(refuse, flush func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	refuse()
	go func() {
		defer close(s.flushed)
		s.handovers.Wait()
		flush()
	}()
}

// wait returns when all is flushed. When ctx ends before, it has cut make what
// is in flight fail, and waits for no more than that.
func (s *stopping) wait(ctx context.Context, cut func()) error {
	select {
	case <-s.flushed:
		return s.cutOff()
	case <-ctx.Done():
	}

	s.countLosses(ctx)
	cut()

	if _, ok := within(s.flushed, stopGrace); !ok {
		s.giveUp()
		within(s.flushed, lastGrace)
	}
	return s.cutOff()
}

// giveUp ends every wait for the caller's code.
func (s *stopping) giveUp() {
	s.goneOnce.Do(func() {
		close(s.gone)
		if s.untold == nil {
			return
		}
		left := s.untold()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.left = left
	})
}

// countLosses counts what fails from now on.
func (s *stopping) countLosses(ctx context.Context) {
	why := context.Cause(ctx)
	if !errors.Is(why, ctx.Err()) {
		why = fmt.Errorf("%w: %w", ctx.Err(), why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		s.why, s.lost = why, make(map[string]int)
	}
}

// cutOff is what a stop returns: nil unless one ran out of time and that cost
// something.
func (s *stopping) cutOff() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	what := make([]string, 0, len(s.lost)+len(s.left)+1)
	for _, place := range slices.Sorted(maps.Keys(s.lost)) {
		what = append(what, fmt.Sprintf("%s: %d message(s) not acknowledged", place, s.lost[place]))
	}
	what = append(what, s.left...)
	select {
	case <-s.flushed:
	default:
		what = append(what, "messages in flight: no outcome yet; a WriteMessages of Writer has not returned")
	}
	if len(what) == 0 {
		return nil
	}
	return &ShutdownError{What: what, Err: s.why}
}

// noteLost counts messages that failed because a stop ran out of time.
func (s *stopping) noteLost(place string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost != nil {
		s.lost[place] += n
	}
}
