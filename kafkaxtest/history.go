package kafkaxtest

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/kafkaxtest/internal/network"
)

// line is one of the history.
type line struct {
	at   time.Time
	text string
}

const (
	maxLines   = 10_000 // kept
	shownLines = 100    // printed with a failure
)

func (s *Sim) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteLocked(fmt.Sprintf(format, args...))
}

func (s *Sim) noteLocked(text string) {
	if len(s.lines) == 2*maxLines {
		s.lines = append(s.lines[:0], s.lines[maxLines:]...)
	}
	s.lines = append(s.lines, line{time.Now(), text})
	close(s.changed)
	s.changed = make(chan struct{})
}

// Log adds a line of the test's own to the history.
func (s *Sim) Log(format string, args ...any) { s.note(format, args...) }

// History is what has happened, a line for each: what the test did, joins and
// what the groups decided, commits as the broker stored them, answers with an
// error, what was handled, and what clients logged as failures. It goes back
// 10,000 lines.
func (s *Sim) History() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.lines[max(0, len(s.lines)-maxLines):]
	text := make([]string, len(lines))
	for i, l := range lines {
		text[i] = fmt.Sprintf("%14s  %s", l.at.Sub(s.began).Round(time.Microsecond), l.text)
	}
	return text
}

// fatalf ends the test and prints what led there.
func (s *Sim) fatalf(format string, args ...any) {
	s.T.Helper()
	lines := s.History()
	shown := lines[max(0, len(lines)-shownLines):]
	s.T.Fatalf("kafkaxtest: %s\n\nwhat led there, the last %d of %d lines:\n%s",
		fmt.Sprintf(format, args...), len(shown), len(lines), strings.Join(shown, "\n"))
}

func (s *Sim) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counter++
	return s.counter
}

// once is for what may be called twice, and is called at the end in any case.
func (s *Sim) once(f func()) func() {
	var once sync.Once
	call := func() { once.Do(f) }
	s.atEnd(call)
	return call
}

func (s *Sim) atEnd(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, f)
}

// observe notes what is worth a line of what the network carries.
func (s *Sim) observe(f *network.Frame) {
	if f.Client == feedID {
		return
	}
	if join, ok := f.Request.(*kmsg.JoinGroupRequest); ok && !f.Answer {
		s.mu.Lock()
		s.joins[join.Group] = join
		s.mu.Unlock()
	}
	if !f.Answer {
		s.recordRequest(f)
		return
	}
	if f.Response == nil {
		return
	}
	s.recordAnswer(f)
	switch res := f.Response.(type) {
	case *kmsg.JoinGroupResponse:
		if res.ErrorCode == 0 {
			s.note("%s joined %s: generation %d, leads: %v", f.Client, f.Request.(*kmsg.JoinGroupRequest).Group, res.Generation, res.LeaderID == res.MemberID)
			return
		}
	case *kmsg.SyncGroupResponse:
		if res.ErrorCode == 0 {
			req := f.Request.(*kmsg.SyncGroupRequest)
			s.note("%s is assigned in generation %d of %s: %s", f.Client, req.Generation, req.Group, assignmentText(res.MemberAssignment))
			return
		}
	case *kmsg.LeaveGroupResponse:
		s.note("%s leaves its group", f.Client)
	case *kmsg.OffsetCommitResponse:
		req := f.Request.(*kmsg.OffsetCommitRequest)
		for i, topic := range res.Topics {
			for j, p := range topic.Partitions {
				if p.ErrorCode == 0 {
					s.note("%s committed %s[%d] to %d in generation %d", f.Client, topic.Topic, p.Partition, req.Topics[i].Partitions[j].Offset, req.Generation)
				}
			}
		}
	}
	network.Codes(f.Response, func(code int16) {
		s.note("%s: node %d answers %s with %v", f.Client, f.Node, f.Key.Name(), kerr.ErrorForCode(code))
	})
}

func assignmentText(data []byte) string {
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(data); err != nil {
		return "what cannot be read"
	}
	texts := make([]string, len(a.Topics))
	for i, t := range a.Topics {
		texts[i] = fmt.Sprintf("%s%v", t.Topic, t.Partitions)
	}
	if len(texts) == 0 {
		return "nothing"
	}
	return strings.Join(texts, " ")
}
