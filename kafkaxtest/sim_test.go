package kafkaxtest_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

func nothing(context.Context, kafkax.Message) error { return nil }

func TestAllIsHandledOnceInOrder(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Fill("orders", 300)
		s.Join("billing", "orders", nothing)
		s.WaitCommitted("billing", "orders")
		handled := s.Handled()
		if len(handled) != 300 {
			s.T.Errorf("%d handled", len(handled))
		}
		last := map[int]int64{0: -1, 1: -1, 2: -1}
		for _, h := range handled {
			if h.Member != "member-1" || h.Err != nil || h.Offset != last[h.Partition]+1 || string(h.Value) != strconv.Itoa(int(h.Offset)*3+h.Partition) {
				s.T.Fatalf("%+v after %v", h, last)
			}
			last[h.Partition] = h.Offset
		}
		if got := s.Committed("billing", "orders"); got[0] != 100 || got[1] != 100 || got[2] != 100 {
			s.T.Errorf("committed %v", got)
		}
	}, kafkaxtest.Nodes(3), kafkaxtest.Topic("orders", 3))
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Send(kafkax.Message{Topic: "orders", Key: []byte("k"), Value: []byte("good")}, kafkax.Message{Topic: "orders", Value: []byte("poison")})
		s.Join("billing", "orders", func(_ context.Context, m kafkax.Message) error {
			if string(m.Value) == "poison" {
				return errors.New("no such customer")
			}
			return nil
		}, kafkax.WithConsumerDLQTopic("orders.dead"), kafkax.WithConsumerRetryMaxAttempts(10))
		s.WaitCommitted("billing", "orders")
		dead := s.Messages("orders.dead")
		if len(dead) != 1 || string(dead[0].Value) != "poison" {
			s.T.Fatalf("dead letters: %v", dead)
		}
		want := kafkax.Header{Key: kafkax.HeaderError, Value: []byte("no such customer")}
		if !slices.ContainsFunc(dead[0].Headers, func(h kafka.Header) bool { return h.Key == want.Key && string(h.Value) == string(want.Value) }) {
			s.T.Errorf("headers: %v", dead[0].Headers)
		}
		if waited := s.Elapsed(); waited < 10*time.Second {
			s.T.Errorf("ten attempts in %v of the virtual clock", waited)
		}
	}, kafkaxtest.Topic("orders", 1), kafkaxtest.Topic("orders.dead", 1))
}

func TestOutageOfAnHour(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", nothing)
		s.WaitMembers("billing", 1)
		up := s.Down(0)
		s.Fill("orders", 5) // the test itself reaches it
		s.Advance(time.Hour)
		if n := len(s.Handled()); n > 0 {
			s.T.Errorf("%d handled from a broker that is down", n)
		}
		up()
		s.Fill("orders", 5)
		s.WaitCommitted("billing", "orders")
		if n := len(s.Handled()); n != 10 {
			s.T.Errorf("%d handled", n)
		}
	}, kafkaxtest.Topic("orders", 2))
}

func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		first := s.Join("billing", "orders", nothing)
		s.WaitMembers("billing", 1)
		second := s.Join("billing", "orders", nothing)
		s.WaitMembers("billing", 2)
		s.Fill("orders", 100)
		s.WaitHandled(100)
		by := map[string]int{}
		for _, h := range s.Handled() {
			by[h.Member]++
		}
		if by[first.Name] == 0 || by[second.Name] == 0 {
			s.T.Errorf("handled by %v", by)
		}
		if err := second.Leave(); err != nil {
			s.T.Error(err)
		}
		s.WaitMembers("billing", 1)
		third := s.Join("billing", "orders", nothing)
		s.WaitMembers("billing", 2)
		third.Crash()
		s.WaitMembers("billing", 1)
		s.Fill("orders", 100)
		s.WaitCommitted("billing", "orders")
	}, kafkaxtest.Topic("orders", 4))
}

func TestRebalance(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", nothing)
		s.WaitMembers("billing", 1)
		for range 10 {
			s.Fill("orders", 10)
			s.Rebalance("billing")
		}
		s.WaitCommitted("billing", "orders")
		if n := len(s.Handled()); n != 100 {
			s.T.Errorf("%d handled, want each once", n)
		}
	}, kafkaxtest.Topic("orders", 4))
}

func TestFail(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		for _, key := range []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup, kmsg.FindCoordinator, kmsg.ListOffsets, kmsg.Fetch, kmsg.OffsetCommit, kmsg.Heartbeat, kmsg.Metadata} {
			fault := s.Fail(kafkaxtest.Failure{Requests: []kmsg.Key{key}, Error: kafka.NotCoordinatorForGroup, Count: 2})
			m := s.Join("billing-"+key.Name(), "orders", nothing)
			s.Fill("orders", 1)
			s.WaitCommitted("billing-"+key.Name(), "orders")
			s.Wait("the fault to hit: "+key.Name(), func() bool { return fault.Hits() == 2 })
			_ = m.Leave()
		}
		p := s.Producer(kafkax.WithProducerTopic("orders"))
		for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.Produce} {
			fault := s.Fail(kafkaxtest.Failure{Requests: []kmsg.Key{key}, Error: kafka.RequestTimedOut})
			if err := p.SendMessage(s.T.Context(), nil, nil); err != nil {
				s.T.Error(err)
			}
			if fault.Hits() != 1 {
				s.T.Errorf("%s: %d hits", key.Name(), fault.Hits())
			}
			fault.Remove()
		}
	}, kafkaxtest.Topic("orders", 1))
}

func TestHoldTheDeadLetterTopic(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", func(_ context.Context, m kafkax.Message) error {
			if m.Partition == 0 {
				return kafkax.Permanent(errors.New("no"))
			}
			return nil
		}, kafkax.WithConsumerDLQTopic("dead"))
		release := s.Hold(kafkaxtest.Target{Topic: "dead", Requests: []kmsg.Key{kmsg.Produce}})
		s.Fill("orders", 10)
		s.WaitHandled(5) // those of the other partition
		s.Advance(5 * time.Minute)
		if got := s.Committed("billing", "orders"); got[0] > 0 || got[1] != 5 {
			s.T.Errorf("committed %v", got)
		}
		release()
		s.WaitCommitted("billing", "orders")
		// A try of which nothing was heard was made again.
		places := map[string]bool{}
		for _, m := range s.Messages("dead") {
			for _, h := range m.Headers {
				if h.Key == kafkax.HeaderOriginalOffset {
					places[string(h.Value)] = true
				}
			}
		}
		if len(places) != 5 {
			s.T.Errorf("dead letters of %v", places)
		}
	}, kafkaxtest.Topic("orders", 2), kafkaxtest.Topic("dead", 1))
}

func TestStart(t *testing.T) {
	t.Parallel()
	s := kafkaxtest.Start(t, kafkaxtest.Topic("orders", 3))
	s.Join("billing", "orders", nothing)
	s.Fill("orders", 30)
	s.WaitCommitted("billing", "orders")
	if n := len(s.Handled()); n != 30 {
		t.Errorf("%d handled", n)
	}
}

// Whatever is done to a member, its group goes on and comes back.
func TestMembersUnderFire(t *testing.T) {
	t.Parallel()
	member := func(m *kafkaxtest.Member) kafkaxtest.Target { return kafkaxtest.Target{Client: m.Name} }
	answers := func(m *kafkaxtest.Member) kafkaxtest.Target { return kafkaxtest.Target{Client: m.Name, Answers: true} }
	fires := map[string]func(s *kafkaxtest.Sim, m *kafkaxtest.Member) (over func()){
		"cut":          func(s *kafkaxtest.Sim, m *kafkaxtest.Member) func() { s.Cut(member(m)); return func() {} },
		"frozen":       func(_ *kafkaxtest.Sim, m *kafkaxtest.Member) func() { return m.Freeze() },
		"slow":         func(s *kafkaxtest.Sim, m *kafkaxtest.Member) func() { return s.Slow(member(m), time.Second, 1000) },
		"lost":         func(s *kafkaxtest.Sim, m *kafkaxtest.Member) func() { return s.Lose(member(m)) },
		"unanswered":   func(s *kafkaxtest.Sim, m *kafkaxtest.Member) func() { return s.Lose(answers(m)) },
		"cut answers":  func(s *kafkaxtest.Sim, m *kafkaxtest.Member) func() { return s.CutAt(answers(m), 20, 7) },
		"cut requests": func(s *kafkaxtest.Sim, m *kafkaxtest.Member) func() { return s.CutAt(member(m), 20, 0) },
		"broker down":  func(s *kafkaxtest.Sim, m *kafkaxtest.Member) func() { return s.Down(0) },
	}
	for name, fire := range fires {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
				first := s.Join("billing", "orders", nothing)
				s.Join("billing", "orders", nothing)
				s.WaitMembers("billing", 2)
				s.Fill("orders", 100)
				s.WaitHandled(100)
				over := fire(s, first)
				s.Advance(2 * time.Minute)
				over()
				s.Fill("orders", 100)
				s.WaitCommitted("billing", "orders")
				s.WaitMembers("billing", 2)
				s.Check(history.Rules{Grace: time.Minute})
				if n := len(s.Handled()); n < 200 || n > 300 {
					s.T.Errorf("%d handled", n)
				}
			}, kafkaxtest.Nodes(2), kafkaxtest.Topic("orders", 4))
		})
	}
}
