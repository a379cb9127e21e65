package kafkaxtest

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/kafkaxtest/history"
	"github.com/bi-common/kafkax/kafkaxtest/internal/network"
)

// recordRequest takes what a member's request means into the record: one that
// joins again, or leaves, has given back what it had.
func (s *Sim) recordRequest(f *network.Frame) {
	switch req := f.Request.(type) {
	case *kmsg.JoinGroupRequest:
		s.mu.Lock()
		s.joins[req.Group] = req
		s.mu.Unlock()
		s.recordRevoked(f.Client, req.Group, rejoins(req), false)
	case *kmsg.LeaveGroupRequest:
		for _, m := range append(req.Members, kmsg.LeaveGroupRequestMember{MemberID: req.MemberID}) {
			if m.MemberID != "" {
				s.recordRevoked(f.Client, req.Group, known(m.MemberID), false)
			}
		}
	}
}

func (s *Sim) recordAssignment(member string, req *kmsg.SyncGroupRequest, data []byte) {
	var a kmsg.ConsumerMemberAssignment
	if a.ReadFrom(data) != nil {
		return
	}
	assign := history.Assign{Member: member, Group: req.Group, Generation: int(req.Generation), Time: time.Now()}
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			assign.Partitions = append(assign.Partitions, s.log(t.Topic, int(p)))
		}
	}
	s.mu.Lock()
	of := memberOf{member, req.Group}
	s.assigned[of] = slices.DeleteFunc(s.assigned[of], known(req.MemberID))
	if len(assign.Partitions) > 0 {
		s.assigned[of] = append(s.assigned[of], assigned{assign, req.MemberID})
	}
	s.mu.Unlock()
	s.record(assign)
}

// assigned is what a member has, and under which id the group knows it.
type assigned struct {
	history.Assign

	id string
}

// memberOf is a member of one group; a client may be in several.
type memberOf struct{ member, group string }

// known finds what a member has under an id.
func known(id string) func(assigned) bool {
	return func(a assigned) bool { return a.id == id }
}

// rejoins finds what a member gives back that joins again, under its id or another:
// what it has of the topics that it subscribes to. A client that consumes several
// topics may be a member for each.
func rejoins(req *kmsg.JoinGroupRequest) func(assigned) bool {
	topics := map[string]bool{}
	for _, p := range req.Protocols {
		var wants kmsg.ConsumerMemberMetadata
		_ = wants.ReadFrom(p.Metadata) // what kafka-go sends ends behind the topics
		for _, t := range wants.Topics {
			topics[t] = true
		}
	}
	return func(a assigned) bool {
		return a.id == req.MemberID || slices.ContainsFunc(a.Partitions, func(tp history.TopicPartition) bool { return topics[tp.Topic] })
	}
}

// recordRevoked takes from a member what it has of that kind. What is late is
// about what it had before.
func (s *Sim) recordRevoked(member, group string, which func(assigned) bool, lost bool) {
	of := memberOf{member, group}
	s.mu.Lock()
	var had []assigned
	s.assigned[of] = slices.DeleteFunc(s.assigned[of], func(a assigned) bool {
		if !which(a) {
			return false
		}
		had = append(had, a)
		return true
	})
	s.mu.Unlock()
	for _, a := range had {
		s.record(history.Revoke{
			Member: member, Group: group, Generation: a.Generation, Partitions: a.Partitions, Time: time.Now(), Lost: lost,
		})
	}
}
