package kafkaxtest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

var complete = history.Rules{Grace: time.Minute, GroupRules: history.GroupRules{Complete: true}}

// fetching is a loop of a program's own, which nobody tells of a reset but the log.
func fetching(ctx context.Context, m *kafkaxtest.Member) error {
	for {
		msg, err := m.Consumer.FetchMessage(ctx)
		if err != nil {
			return nil //nolint:nilerr // it was closed
		}
		_ = m.Record(nothing)(ctx, msg)
		if err := m.Consumer.CommitMessages(ctx, msg); err != nil {
			return err
		}
	}
}

// Partitions that a topic gains are found and handled, and judged.
func TestAddPartitions(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) { gainsPartitions(s, "orders") }, kafkaxtest.Nodes(3), kafkaxtest.Topic("orders", 1), kafkaxtest.Identify(id))
}

func TestAddPartitions_Real(t *testing.T) {
	t.Parallel()
	topic := kafkatest.Name(t)
	gainsPartitions(kafkaxtest.Start(t, kafkaxtest.Brokers(kafkatest.Shared(t).Brokers()...),
		kafkaxtest.Topic(topic, 1), kafkaxtest.Identify(id)), topic)
}

func gainsPartitions(s *kafkaxtest.Sim, topic string) {
	m := s.Join(topic, topic, nothing, kafkax.WithConsumerPartitionWatchInterval(time.Second))
	s.WaitMembers(topic, 1)
	s.Fill(topic, 10)
	s.WaitCommitted(topic, topic)
	s.AddPartitions(topic, 4)
	if n := s.Partitions(topic); n != 4 {
		s.T.Fatalf("%d partitions", n)
	}
	for i := range 40 {
		s.Send(kafkax.Message{Topic: topic, Partition: i % 4, Value: fmt.Append(nil, "later-", i)})
	}
	s.WaitCommitted(topic, topic)
	if err := m.Leave(); err != nil {
		s.T.Error(err)
	}
	s.Check(complete)
	by := map[int]int{}
	for _, h := range s.Handled() {
		by[h.Partition]++
	}
	for partition, want := range []int{20, 10, 10, 10} {
		if by[partition] != want {
			s.T.Errorf("partition %d: %d handled, want %d", partition, by[partition], want)
		}
	}
}

// What is deleted before a group has come so far is told, by OnError or by the
// log, and recorded with its place.
func TestDeleteRecords(t *testing.T) {
	t.Parallel()
	for name, loop := range map[string]func(context.Context, *kafkaxtest.Member) error{
		"consume": func(ctx context.Context, m *kafkaxtest.Member) error {
			return m.Consumer.Consume(ctx, m.Record(nothing), kafkax.WithOnError(m.OnError))
		},
		"fetch": fetching,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kafkaxtest.Run(t, func(s *kafkaxtest.Sim) { losesRecords(s, "orders", loop) }, kafkaxtest.Topic("orders", 1), kafkaxtest.Identify(id))
		})
	}
}

func TestDeleteRecords_Real(t *testing.T) {
	t.Parallel()
	topic := kafkatest.Name(t)
	losesRecords(kafkaxtest.Start(t, kafkaxtest.Brokers(kafkatest.Shared(t).Brokers()...),
		kafkaxtest.Topic(topic, 1), kafkaxtest.Identify(id)), topic, fetching)
}

func losesRecords(s *kafkaxtest.Sim, topic string, loop func(context.Context, *kafkaxtest.Member) error) {
	fill := func(name string, n int) {
		for i := range n {
			s.Send(kafkax.Message{Topic: topic, Value: fmt.Append(nil, name, i)})
		}
	}
	m := s.JoinLoop(topic, topic, loop)
	fill("first-", 10)
	s.WaitCommitted(topic, topic)
	if err := m.Leave(); err != nil {
		s.T.Error(err)
	}
	fill("missed-", 10)
	s.DeleteRecords(topic, 0, 5)
	s.DeleteRecords(topic, 0, 17)
	m = s.JoinLoop(topic, topic, loop)
	s.WaitCommitted(topic, topic)
	fill("all-", 1)
	s.WaitCommitted(topic, topic)
	if err := m.Leave(); err != nil {
		s.T.Error(err)
	}
	s.Check(complete)
	var told []history.Seek
	for _, e := range s.Recorded().Events() {
		if seek, ok := e.(history.Seek); ok {
			seek.Time = time.Time{}
			told = append(told, seek)
		}
	}
	want := history.Seek{
		Member: "member-2", Group: topic, TopicPartition: history.TopicPartition{Topic: topic}, Reset: true, From: 10, Offset: 17,
	}
	if !slices.Equal(told, []history.Seek{want}) {
		s.T.Errorf("told of %v, want %v", told, want)
	}
	if first, next := s.Offsets(topic, 0); first != 17 || next != 21 {
		s.T.Errorf("the log has %d to %d", first, next)
	}
	if n := len(s.Handled()); n != 10+3+1 {
		s.T.Errorf("%d handled", n)
	}
	s.DeleteRecords(topic, 0, -1)
	if lag := s.Lag("someone", topic); lag != 0 {
		s.T.Errorf("%d messages of an empty log wait", lag)
	}
}

// Retention takes what is old, and a consumer that was away says what it missed.
func TestExpire(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		m := s.Join("billing", "orders", nothing)
		s.Send(kafkax.Message{Topic: "orders", Value: []byte("old")})
		s.WaitCommitted("billing", "orders")
		if err := m.Leave(); err != nil {
			s.T.Error(err)
		}
		s.Send(kafkax.Message{Topic: "orders", Value: []byte("missed")})
		s.Advance(time.Hour)
		s.Send(kafkax.Message{Topic: "orders", Value: []byte("young")})
		s.Expire("orders", time.Minute)
		if left := s.Messages("orders"); len(left) != 1 || string(left[0].Value) != "young" {
			s.T.Errorf("left: %v", left)
		}
		m = s.Join("billing", "orders", nothing)
		s.WaitCommitted("billing", "orders")
		if err := m.Leave(); err != nil {
			s.T.Error(err)
		}
		s.Check(complete)
	}, kafkaxtest.Topic("orders", 1), kafkaxtest.Identify(id))
}

// Compaction leaves the last value of each key, which is handled.
func TestCompact(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		for i := range 30 {
			s.Send(kafkax.Message{Topic: "orders", Key: fmt.Append(nil, "key-", i%7), Value: fmt.Append(nil, i)})
		}
		s.Compact("orders")
		left := s.Messages("orders")
		if len(left) >= 30 || len(left) < 7 {
			s.T.Errorf("%d of 30 are left", len(left))
		}
		m := s.Join("billing", "orders", nothing)
		s.WaitCommitted("billing", "orders")
		if err := m.Leave(); err != nil {
			s.T.Error(err)
		}
		s.Check(complete)
		last := map[string]string{}
		for _, h := range s.Handled() {
			last[string(h.Key)] = string(h.Value)
		}
		if len(s.Handled()) != len(left) || len(last) != 7 {
			s.T.Errorf("%d handled of %d, %d keys", len(s.Handled()), len(left), len(last))
		}
		for i := 23; i < 30; i++ {
			if key := fmt.Sprint("key-", i%7); last[key] != fmt.Sprint(i) {
				s.T.Errorf("%s: %s was the last, want %d", key, last[key], i)
			}
		}
	}, kafkaxtest.Topic("orders", 1), kafkaxtest.Identify(id))
}

// What a topic had before it was deleted is judged by itself, and so is what it
// has when it is made again.
func TestDeleteTopic(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		round := func(name string) {
			m := s.Join("billing", "orders", nothing)
			for i := range 10 {
				s.Send(kafkax.Message{Topic: "orders", Value: fmt.Append(nil, name, i)})
			}
			s.WaitCommitted("billing", "orders")
			if err := m.Leave(); err != nil {
				s.T.Error(err)
			}
		}
		round("first-")
		s.DeleteTopic("orders")
		s.CreateTopic("orders", 1)
		round("second-")
		s.Check(complete)
		for i, want := range []string{"first-9", "second-9"} {
			log := s.Recorded().Logs()[i]
			if log.Incarnation != i || log.Deleted.IsZero() != (i == 1) || len(log.Records) != 10 || log.Records[9].ID != want {
				s.T.Errorf("log %d: %+v", i, log)
			}
		}
	}, kafkaxtest.Topic("orders", 1), kafkaxtest.Identify(id))
}
