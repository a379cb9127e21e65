package kafkaxtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// CreateTopic makes a topic, with configs as pairs of a name and a value, such
// as "max.message.bytes", "1000".
func (s *Sim) CreateTopic(name string, partitions int, configs ...string) {
	s.T.Helper()
	ctx, cancel := s.bound()
	defer cancel()
	if err := s.backend.createTopic(ctx, name, partitions, pairs(configs)); err != nil {
		s.fatalf("creating topic %s: %v", name, err)
	}
	s.mu.Lock()
	if s.deleted[name] {
		s.deleted[name] = false
		s.made[name]++
	}
	s.mu.Unlock()
	s.note("topic %s, %d partitions", name, partitions)
}

// pairs are names and values.
func pairs(configs []string) map[string]string {
	values := map[string]string{}
	for i := 0; i+1 < len(configs); i += 2 {
		values[configs[i]] = configs[i+1]
	}
	return values
}

// DeleteTopic deletes a topic and what is in it. [Sim.Check] knows what a topic
// that members consume had until then.
func (s *Sim) DeleteTopic(name string) {
	s.T.Helper()
	defer s.alter()()
	var ended []history.Log
	at := time.Now()
	if s.consumed()[name] {
		s.remember(name)
		for _, l := range s.logs(name) {
			ended = append(ended, history.Log{TopicPartition: s.log(name, l.partition), Start: l.start, Deleted: at})
		}
	}
	ctx, cancel := s.bound()
	defer cancel()
	if err := s.backend.deleteTopic(ctx, name); err != nil {
		s.fatalf("deleting topic %s: %v", name, err)
	}
	s.feed.PurgeTopicsFromClient(name) // the next of that name is another
	s.mu.Lock()
	s.deleted[name] = true
	s.ended[name] = append(s.ended[name], ended...)
	s.mu.Unlock()
	s.note("topic %s deleted", name)
}

// MoveLeader makes another broker the leader of a partition.
func (s *Sim) MoveLeader(topic string, partition, node int) {
	s.T.Helper()
	ctx, cancel := s.bound()
	defer cancel()
	if err := s.backend.moveLeader(ctx, topic, partition, node); err != nil {
		s.fatalf("moving %s[%d] to node %d: %v", topic, partition, node, err)
	}
	s.note("%s[%d] moved to node %d", topic, partition, node)
}

// MoveCoordinators makes other brokers the coordinators of groups.
func (s *Sim) MoveCoordinators() {
	s.T.Helper()
	s.memory("MoveCoordinators").RehashCoordinators()
	s.note("coordinators moved")
}

// Send writes messages, and returns when they are in the log; faults are not for
// it. A message without a topic fails the test. One with a key goes to the
// partition of its key; one without goes to its Partition.
func (s *Sim) Send(msgs ...kafkax.Message) {
	s.T.Helper()
	records := s.records(msgs)
	ctx, cancel := s.bound()
	defer cancel()
	if err := s.feed.ProduceSync(ctx, records...).FirstErr(); err != nil {
		s.fatalf("Send: %v", err)
	}
}

func (s *Sim) records(msgs []kafkax.Message) []*kgo.Record {
	s.T.Helper()
	records := make([]*kgo.Record, len(msgs))
	for i, m := range msgs {
		records[i] = &kgo.Record{Topic: m.Topic, Key: m.Key, Value: m.Value, Timestamp: m.Time, Partition: int32(m.Partition)}
		for _, h := range m.Headers {
			records[i].Headers = append(records[i].Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		if m.Topic == "" {
			s.fatalf("message %d to send names no topic", i)
		}
	}
	return records
}

// Fill sends n messages whose values are "0", "1", and so on, in turn to each
// partition of the topic.
func (s *Sim) Fill(topic string, n int) {
	s.T.Helper()
	partitions := len(s.logs(topic))
	if partitions == 0 {
		s.fatalf("Fill: there is no topic %s", topic)
	}
	msgs := make([]kafkax.Message, n)
	for i := range msgs {
		msgs[i] = kafkax.Message{Topic: topic, Partition: i % partitions, Value: []byte(strconv.Itoa(i))}
	}
	s.Send(msgs...)
}

// Messages is what stands in a topic, with keys, values and headers, partition
// by partition: dead letters, say, or what a producer wrote.
func (s *Sim) Messages(topic string) []kafkax.Message {
	s.T.Helper()
	var msgs []kafkax.Message
	s.read(topic, func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			msgs = append(msgs, message(r))
		}
	})
	slices.SortStableFunc(msgs, func(a, b kafkax.Message) int { return a.Partition - b.Partition })
	return msgs
}

// read calls f for each record of a topic, in the order of each partition.
func (s *Sim) read(topic string, f func(*kgo.Record)) {
	s.T.Helper()
	ctx, cancel := s.bound()
	defer cancel()
	var (
		from = map[int32]kgo.Offset{}
		ends = map[int32]int64{}
	)
	for _, l := range s.logs(topic) {
		if l.end > l.start {
			from[int32(l.partition)], ends[int32(l.partition)] = kgo.NewOffset().At(l.start), l.end
		}
	}
	if len(from) == 0 {
		return
	}
	reader, err := kgo.NewClient(append(s.own(s.Brokers()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.KeepControlRecords())...)
	if err != nil {
		s.fatalf("reading %s: %v", topic, err)
	}
	defer reader.Close()
	for len(ends) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			s.fatalf("reading %s: %v", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if end, ok := ends[r.Partition]; !ok || r.Offset >= end {
				return // written since
			}
			f(r)
			if r.Offset+1 == ends[r.Partition] {
				delete(ends, r.Partition)
			}
		})
	}
}

func message(r *kgo.Record) kafkax.Message {
	m := kafkax.Message{
		Topic: r.Topic, Partition: int(r.Partition), Offset: r.Offset, Key: r.Key, Value: r.Value, Time: r.Timestamp,
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, kafkax.Header{Key: h.Key, Value: h.Value})
	}
	return m
}

// Committed is what a group has committed of a topic, by partition; a partition
// of which nothing is committed is left out.
func (s *Sim) Committed(group, topic string) map[int]int64 {
	s.T.Helper()
	ctx, cancel := s.bound()
	defer cancel()
	offsets, err := s.backend.committed(ctx, group, topic)
	if err != nil {
		s.fatalf("what %s has committed: %v", group, err)
	}
	return offsets
}

// Lag is how many offsets of a topic, from where its log starts, a group has not
// committed.
func (s *Sim) Lag(group, topic string) int64 {
	s.T.Helper()
	var lag int64
	committed := s.Committed(group, topic)
	for _, l := range s.logs(topic) {
		// What was deleted does not wait for anybody.
		lag += l.end - max(committed[l.partition], l.start)
	}
	return lag
}

// Members are how many members the cluster counts in a group.
func (s *Sim) Members(group string) int {
	s.T.Helper()
	state, err := s.group(group)
	if err != nil {
		s.fatalf("%v", err)
	}
	return state.members
}

// Rebalance makes a group rebalance twice: a stranger joins, who wants no topic,
// and leaves. It returns when the stranger has left; the group may still be at
// it. A group without members fails the test.
func (s *Sim) Rebalance(group string) {
	s.T.Helper()
	if err := s.Stranger(group); err != nil {
		s.fatalf("Rebalance of %s: %v", group, err)
	}
}

// Stranger is Rebalance for a goroutine that is not the test's: it returns what
// went wrong.
func (s *Sim) Stranger(group string) error {
	s.mu.Lock()
	joined, ok := s.joins[group]
	s.mu.Unlock()
	state, err := s.group(group)
	if err != nil {
		return err
	}
	if !ok || state.members == 0 {
		return errors.New("the group has no members")
	}
	ctx, cancel := s.bound()
	defer cancel()
	nothing := kmsg.NewConsumerMemberMetadata()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType = group, joined.ProtocolType
	join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = joined.SessionTimeoutMillis, joined.RebalanceTimeoutMillis
	for _, p := range joined.Protocols {
		own := kmsg.NewJoinGroupRequestProtocol()
		own.Name, own.Metadata = p.Name, nothing.AppendTo(nil)
		join.Protocols = append(join.Protocols, own)
	}
	s.note("a stranger joins %s", group)
	answer, err := join.RequestWith(ctx, s.feed)
	if err == nil && answer.ErrorCode == kerr.MemberIDRequired.Code {
		join.MemberID = answer.MemberID
		answer, err = join.RequestWith(ctx, s.feed)
	}
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("the stranger's join: %w", err)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = group, answer.MemberID
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = answer.MemberID
	leave.Members = append(leave.Members, member)
	if _, err := leave.RequestWith(ctx, s.feed); err != nil {
		return fmt.Errorf("the stranger's leave: %w", err)
	}
	s.note("the stranger left %s", group)
	return nil
}

// bound is for what the test itself asks of the cluster.
func (s *Sim) bound() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), s.patience())
}
