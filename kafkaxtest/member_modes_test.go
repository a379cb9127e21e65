package kafkaxtest_test

import (
	"context"
	"testing"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// A member of several topics is one member, whatever it is to its group: what it
// has of one topic it keeps when it joins again for another.
func TestAMemberOfSeveralTopics(t *testing.T) {
	t.Parallel()
	topics := []string{"orders", "returns"}
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		loop := func(ctx context.Context, m *kafkaxtest.Member) error {
			h := m.Record(func(context.Context, kafkax.Message) error { return nil })
			return m.Topics.Consume(ctx, map[string]kafkax.Handler{"orders": h, "returns": h})
		}
		first := s.JoinTopics("billing", topics, loop)
		s.WaitMembers("billing", 2)
		for range 3 {
			for _, topic := range topics {
				s.Fill(topic, 20)
			}
			second := s.JoinTopics("billing", topics, loop)
			s.WaitMembers("billing", 4)
			if err := second.Leave(); err != nil {
				s.T.Error(err)
			}
		}
		for _, topic := range topics {
			s.WaitCommitted("billing", topic)
		}
		if err := first.Leave(); err != nil {
			s.T.Error(err)
		}
		if n := len(s.Handled()); n != 3*20*len(topics) {
			s.T.Errorf("%d calls", n)
		}
		s.Check(history.Rules{GroupRules: history.GroupRules{Complete: true}})
	}, kafkaxtest.Topic(topics[0], 2), kafkaxtest.Topic(topics[1], 2))
}

// A seek through the member is one that was asked for; one that nobody heard of is
// a step back.
func TestSeeksAreRecorded(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]func(m *kafkaxtest.Member) error{
		"heard":   func(m *kafkaxtest.Member) error { return m.SetOffset("orders", 3) },
		"unheard": func(m *kafkaxtest.Member) error { return m.Consumer.SetOffset(3) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
				m := s.Join("billing", "orders", func(context.Context, kafkax.Message) error { return nil })
				s.Fill("orders", 10)
				s.WaitCommitted("billing", "orders")
				if err := back(m); err != nil {
					s.T.Fatal(err)
				}
				s.Wait("them again", func() bool { return len(s.Handled()) == 10+7 })
				s.WaitCommitted("billing", "orders")
				if err := m.Leave(); err != nil {
					s.T.Error(err)
				}
				report := s.Judge(history.Rules{GroupRules: history.GroupRules{Complete: true}})
				if heard := report.Found[history.StepBack] == 0 && len(report.Found) == 0; heard != (name == "heard") {
					s.T.Errorf("found %v", report.Found)
				}
			}, kafkaxtest.Topic("orders", 1))
		})
	}
}
