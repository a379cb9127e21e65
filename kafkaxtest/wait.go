package kafkaxtest

import (
	"errors"
	"fmt"
	"time"
)

var errNoReturn = errors.New("the handler did not return: it panicked, or ended its goroutine")

// Wait returns when ok does, which is asked anew whenever something has happened
// in the simulation. After ten minutes, of the virtual clock, or 30 seconds of
// the real one, it fails the test with the history that led there.
func (s *Sim) Wait(what string, ok func() bool) {
	s.T.Helper()
	s.WaitFor(s.patience(), what, ok)
}

// patience is how long the test waits for what should come soon.
func (s *Sim) patience() time.Duration {
	if s.virtual {
		return 10 * time.Minute
	}
	return 30 * time.Second
}

// WaitFor is Wait with another bound.
func (s *Sim) WaitFor(limit time.Duration, what string, ok func() bool) {
	s.T.Helper()
	if !s.Becomes(limit, ok) {
		s.fatalf("not in %v: %s", limit, what)
	}
}

func (s *Sim) poll() time.Duration {
	switch {
	case s.virtual:
		return time.Second
	case len(s.options.brokers) > 0:
		return 200 * time.Millisecond // each look is requests
	}
	return 20 * time.Millisecond
}

// Becomes is WaitFor that says whether it came to be, and fails nothing.
func (s *Sim) Becomes(limit time.Duration, ok func() bool) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	// What brokers do by themselves, such as the end of a session, tells nobody.
	poll := time.NewTicker(s.poll())
	defer poll.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if ok() {
			return true
		}
		select {
		case <-changed:
		case <-poll.C:
		case <-end.C:
			return ok()
		}
	}
}

// WaitHandled waits until n messages, each counted once, were handled without an
// error.
func (s *Sim) WaitHandled(n int) {
	s.T.Helper()
	s.Wait(fmt.Sprintf("%d messages handled", n), func() bool { return s.distinct() >= n })
}

// distinct is how many different messages were handled.
func (s *Sim) distinct() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.done)
}

// WaitCommitted waits until a group has committed all that is in a topic.
func (s *Sim) WaitCommitted(group, topic string) {
	s.T.Helper()
	s.Wait(fmt.Sprintf("%s to have committed all of %s", group, topic), func() bool { return s.Lag(group, topic) == 0 })
}

// WaitMembers waits until a group has n members and is stable.
func (s *Sim) WaitMembers(group string, n int) {
	s.T.Helper()
	s.Wait(fmt.Sprintf("%d members in %s", n, group), func() bool {
		state, err := s.group(group)
		return err == nil && state.members == n && (n == 0 || state.stable)
	})
}

// Advance lets time pass. In a [Run] that is as fast as what happens meanwhile
// lets it be.
func (s *Sim) Advance(d time.Duration) {
	s.note("%v pass", d)
	time.Sleep(d)
}

// Elapsed is the time since the simulation's begin.
func (s *Sim) Elapsed() time.Duration { return time.Since(s.began) }
