package kafkax

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// locate asks where the group stands in the partitions that were assigned. What
// kafka-go found out for itself lacks what shows of which log an offset is, and it
// takes a partition that the coordinator's answer leaves out for one that nothing is
// committed of; that would be all of it again, or with "latest" a loss. So it asks
// until the answer names each, and is false if ctx or revoked ends first.
func (s *scope) locate(ctx, revoked context.Context, assigned []kafka.PartitionAssignment) (starts []start, ok bool) {
	asking, cancel := context.WithCancel(revoked)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	refused, looked := false, false
	for failures := 0; len(assigned) > 0; {
		committed, err := s.committed(asking, assigned)
		if err == nil {
			if looked || !ofAnother(assigned, committed) {
				return startsOf(assigned, committed), true
			}
			looked = true // the topic may have been made again since it was looked up
			s.cluster.forgetTopic(s.cfg.Topic)
			continue
		}
		err = fmt.Errorf("group %s: committed offsets: %w", s.cfg.GroupID, s.dialer.reason(err))
		switch {
		case asking.Err() != nil:
			return nil, false
		case isRefused(err) && (refused || !s.secondTry(err)):
			s.fail(err)
			return nil, false
		}
		refused = isRefused(err)
		s.report(-1, err)
		if failures++; brokerBackoff.wait(asking, failures) != nil {
			return nil, false
		}
	}
	return nil, true
}

// ofAnother says whether something is committed under the topic's name, which is all
// that kafka-go asks by, that is not of the topic with its id.
func ofAnother(assigned []kafka.PartitionAssignment, committed map[int]start) bool {
	return slices.ContainsFunc(assigned, func(p kafka.PartitionAssignment) bool { return p.Offset >= 0 && committed[p.ID].offset < 0 })
}

func startsOf(assigned []kafka.PartitionAssignment, committed map[int]start) []start {
	starts := make([]start, len(assigned))
	for i, p := range assigned {
		starts[i] = start{partition: p.ID, offset: p.Offset, from: unknownOrigin}
		switch found := committed[p.ID]; {
		case found.offset >= 0:
			starts[i] = found
		case p.Offset >= 0:
			starts[i].offset = kafka.FirstOffset // of a topic that is gone: this one is read from its start
		}
	}
	return starts
}

// committed asks once, and is an error unless each partition is answered; the offset
// is -1 of one that nothing is committed of.
func (s *scope) committed(ctx context.Context, assigned []kafka.PartitionAssignment) (map[int]start, error) {
	ctx, cancel := context.WithTimeout(ctx, coordinatorTimeout)
	defer cancel()
	topic := s.cfg.Topic
	leader, err := s.cluster.leaderOf(ctx, topic, assigned[0].ID)
	if err != nil && !isElecting(err) { // what matters is the topic's id
		return nil, err
	}
	ids := make([]int32, len(assigned))
	for i, p := range assigned {
		ids[i] = int32(p.ID)
	}
	res, err := exchangeWithCoordinator(ctx, s, offsetFetch(s.cfg.GroupID, topic, leader.topic, ids))
	if err != nil {
		return nil, err
	}
	partitions, err := fetchedOffsets(res)
	if err != nil {
		return nil, s.checkCoordinator(err)
	}
	starts := map[int]start{}
	for _, p := range partitions {
		if p.ErrorCode != 0 {
			s.cluster.forgetTopic(topic) // it may be another by now
			return nil, fmt.Errorf("%s[%d]: %w", topic, p.Partition, s.checkCoordinator(kafka.Error(p.ErrorCode)))
		}
		starts[int(p.Partition)] = start{int(p.Partition), p.Offset, noted(p)}
	}
	missing := slices.DeleteFunc(slices.Clone(ids), func(id int32) bool { _, ok := starts[int(id)]; return ok })
	if slices.Sort(missing); len(missing) > 0 {
		return nil, fmt.Errorf("topic %s: the coordinator's answer leaves out partitions %s", topic, strings.Trim(fmt.Sprint(missing), "[]"))
	}
	return starts, nil
}

// offsetFetch asks of one topic, as all versions do.
func offsetFetch(group, topic string, id topicID, partitions []int32) *kmsg.OffsetFetchRequest {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	before := kmsg.NewOffsetFetchRequestTopic()
	before.Topic, before.Partitions = topic, partitions
	req.Topics = append(req.Topics, before)
	of, in := kmsg.NewOffsetFetchRequestGroup(), kmsg.NewOffsetFetchRequestGroupTopic()
	in.Topic, in.TopicID, in.Partitions = topic, id, partitions
	of.Group, of.Topics = group, append(of.Topics, in)
	req.Groups = append(req.Groups, of)
	return req
}

// fetchedOffsets is what the answer has of the one topic that was asked for.
func fetchedOffsets(res *kmsg.OffsetFetchResponse) (partitions []kmsg.OffsetFetchResponseGroupTopicPartition, err error) {
	if res.ErrorCode != 0 {
		return nil, kafka.Error(res.ErrorCode)
	}
	for _, topic := range res.Topics {
		for _, p := range topic.Partitions {
			partitions = append(partitions, kmsg.OffsetFetchResponseGroupTopicPartition{
				Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: p.Metadata, ErrorCode: p.ErrorCode,
			})
		}
	}
	for _, group := range res.Groups {
		if group.ErrorCode != 0 {
			return nil, kafka.Error(group.ErrorCode)
		}
		for _, topic := range group.Topics {
			partitions = append(partitions, topic.Partitions...)
		}
	}
	return partitions, nil
}

// offsetCommit commits as a member of a generation. Of which topic an offset is says
// its id, where the coordinator heeds that, and for whoever goes on from there the
// note beside it.
func offsetCommit(gen *kafka.Generation, topic string, now topicID, all []commitment) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID = gen.GroupID, gen.ID, gen.MemberID
	for _, c := range all {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = int32(c.id), c.offset, c.from.epoch, note(c.from)
		of := c.from.topic
		if of == (topicID{}) {
			of = now
		}
		i := slices.IndexFunc(req.Topics, func(t kmsg.OffsetCommitRequestTopic) bool { return t.TopicID == of })
		if i < 0 {
			i = len(req.Topics)
			in := kmsg.NewOffsetCommitRequestTopic()
			in.Topic, in.TopicID = topic, of // by versions
			req.Topics = append(req.Topics, in)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	return req
}

// What a commit says of itself begins so, in the place that Kafka has for that: of
// which topic it is, and whether a caller moved there. Whoever else commits for the
// group leaves it out.
const (
	noteOfTopic = "kafkax topic-id="
	noteOfMove  = "kafkax moved topic-id="
)

func note(from origin) *string {
	if from.topic == (topicID{}) {
		return nil
	}
	text := noteOfTopic
	if from.asked {
		text = noteOfMove
	}
	text += from.topic.String()
	return &text
}

// noted is where what is committed comes from, as far as it says so.
func noted(p kmsg.OffsetFetchResponseGroupTopicPartition) origin {
	from := origin{epoch: p.LeaderEpoch}
	if p.Metadata == nil {
		return from
	}
	if id, ok := strings.CutPrefix(*p.Metadata, noteOfTopic); ok {
		from.topic = parseTopicID(id)
	} else if id, ok := strings.CutPrefix(*p.Metadata, noteOfMove); ok {
		from.topic, from.asked = parseTopicID(id), true
	}
	return from
}

// exchangeWithCoordinator asks the group's.
func exchangeWithCoordinator[Q question[A], A kmsg.Response](ctx context.Context, s *scope, req Q) (A, error) {
	node, err := s.cluster.coordinatorOf(ctx, s.group())
	if err != nil {
		var none A
		return none, err
	}
	return exchange(ctx, s.cluster.wire, req, node)
}

func (s *scope) group() coordinated { return coordinated{coordinatesGroup, s.cfg.GroupID} }

// checkCoordinator has it looked up again after an answer that shows that it is
// another.
func (s *scope) checkCoordinator(err error) error {
	if isElecting(err) {
		s.cluster.forgetCoordinator(s.group())
	}
	return err
}
