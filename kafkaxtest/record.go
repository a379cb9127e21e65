package kafkaxtest

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest/history"
	"github.com/bi-common/kafkax/kafkaxtest/internal/network"
)

// Recorded is what the simulation has seen so far, in the form that
// [history.Check] judges: starts, stops and crashes of members, what was
// assigned and committed as the broker said it, deliveries, dead letters, and
// the faults that the test made. Sends are there if [Identify] was given and the
// test adds them.
func (s *Sim) Recorded() *history.History { return s.events }

// Check judges all that was recorded, and fails the test with what was broken
// and what led there. It belongs at the end of a test, when members have left.
// It knows the logs as they are then, and what [Sim.DeleteRecords], [Sim.Expire]
// and [Sim.Compact] took from them, and what [Sim.DeleteTopic] did.
func (s *Sim) Check(rules history.Rules) *history.Report {
	s.T.Helper()
	report := s.Judge(rules)
	if report.Err() != nil {
		s.fatalf("%s", report.Explain(s.events))
	}
	return report
}

// Judge is Check that fails nothing.
func (s *Sim) Judge(rules history.Rules) *history.Report {
	s.T.Helper()
	for topic := range s.consumed() {
		s.addLogs(topic)
	}
	return history.Check(s.events, rules)
}

// Identify tells which message is which: f returns what is unlike in every two
// that were sent, such as an id in the value. Without it [Sim.Check] cannot tell
// a message from another, only an offset.
func Identify(f func(msg kafkax.Message) string) Option {
	return func(o *options) { o.identify = f }
}

// record adds an event, and a line of the history for it.
func (s *Sim) record(e history.Event) (number int) {
	s.note("%v", e)
	return s.events.Add(e)
}

// complete is record for one that has ended.
func (s *Sim) complete(number int, e history.Event) {
	s.note("%v", e)
	s.events.Set(number, e)
}

func (s *Sim) identify(m kafkax.Message) string {
	if s.options.identify == nil {
		return ""
	}
	return s.options.identify(m)
}

// consumed are the topics that members have consumed.
func (s *Sim) consumed() map[string]bool {
	topics := map[string]bool{}
	for _, e := range s.events.Events() {
		if start, ok := e.(history.Start); ok {
			for _, t := range start.Topics {
				topics[t] = true
			}
		}
	}
	return topics
}

// log names a partition of the topic as it is now.
func (s *Sim) log(topic string, partition int) history.TopicPartition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logLocked(topic, partition)
}

func (s *Sim) logLocked(topic string, partition int) history.TopicPartition {
	return history.TopicPartition{Topic: topic, Partition: partition, Incarnation: s.made[topic]}
}

// recordAnswer takes what a broker's answer says into the record.
func (s *Sim) recordAnswer(f *network.Frame) {
	switch res := f.Response.(type) {
	case *kmsg.SyncGroupResponse:
		req := f.Request.(*kmsg.SyncGroupRequest)
		if res.ErrorCode == 0 {
			s.recordAssignment(f.Client, req, res.MemberAssignment)
		}
	case *kmsg.HeartbeatResponse:
		switch res.ErrorCode {
		case kerr.UnknownMemberID.Code, kerr.IllegalGeneration.Code:
			req := f.Request.(*kmsg.HeartbeatRequest)
			s.recordRevoked(f.Client, req.Group, known(req.MemberID), true)
		}
	case *kmsg.OffsetCommitResponse:
		s.recordCommits(f.Client, f.Request.(*kmsg.OffsetCommitRequest), res)
	case *kmsg.MetadataResponse:
		s.learn(res)
	case *kmsg.ProduceResponse:
		s.recordLetters(f.Client, f.Request.(*kmsg.ProduceRequest), res)
	}
}

func (s *Sim) recordCommits(client string, req *kmsg.OffsetCommitRequest, res *kmsg.OffsetCommitResponse) {
	sent := map[history.TopicPartition]int64{}
	for _, topic := range req.Topics {
		for _, p := range topic.Partitions {
			sent[s.logNamed(topic.Topic, topic.TopicID, int(p.Partition))] = p.Offset
		}
	}
	for _, topic := range res.Topics {
		for _, p := range topic.Partitions {
			tp := s.logNamed(topic.Topic, topic.TopicID, int(p.Partition))
			if offset, ok := sent[tp]; ok && p.ErrorCode == 0 {
				s.record(history.Commit{
					Member: client, Generation: int(req.Generation), Group: req.Group, TopicPartition: tp, Offset: offset, Time: time.Now(),
				})
			}
		}
	}
}

// recordLetters finds the dead letters in what was produced.
func (s *Sim) recordLetters(client string, req *kmsg.ProduceRequest, res *kmsg.ProduceResponse) {
	for i, topic := range res.Topics {
		for j, p := range topic.Partitions {
			if i >= len(req.Topics) || j >= len(req.Topics[i].Partitions) {
				continue
			}
			for _, m := range recordsOf(req.Topics[i].Partitions[j].Records) {
				from, ok := origin(m)
				if !ok {
					continue
				}
				s.record(history.DeadLetter{
					Member: client, Group: header(m, kafkax.HeaderConsumerGroup),
					Span: history.Span{TopicPartition: s.log(from.topic, from.partition), First: from.offset, Last: from.offset},
					ID:   s.identify(m), To: s.logNamed(req.Topics[i].Topic, req.Topics[i].TopicID, 0).Topic, Acknowledged: p.ErrorCode == 0, Time: time.Now(),
				})
			}
		}
	}
}

func header(m kafkax.Message, key string) string {
	for _, h := range m.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// origin is where a dead letter came from.
func origin(m kafkax.Message) (from place, ok bool) {
	partition, err := strconv.Atoi(header(m, kafkax.HeaderOriginalPartition))
	if err != nil {
		return place{}, false
	}
	offset, err := strconv.ParseInt(header(m, kafkax.HeaderOriginalOffset), 10, 64)
	return place{header(m, kafkax.HeaderOriginalTopic), partition, offset}, err == nil
}

// recordsOf reads the batch of one partition; what cannot be read is nothing.
func recordsOf(data []byte) []kafkax.Message {
	var batch kmsg.RecordBatch
	if batch.ReadFrom(data) != nil {
		return nil
	}
	raw, err := decompressor{}.Decompress(batch.Records, kgo.CompressionCodecType(batch.Attributes&7))
	if err != nil {
		return nil
	}
	var msgs []kafkax.Message
	for len(raw) > 0 {
		length, n := binary.Varint(raw)
		end := int64(n) + length
		var r kmsg.Record
		if n <= 0 || length < 0 || end > int64(len(raw)) || r.ReadFrom(raw[:end]) != nil {
			return nil
		}
		raw = raw[end:]
		m := kafkax.Message{Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, kafkax.Header{Key: h.Key, Value: h.Value})
		}
		msgs = append(msgs, m)
	}
	return msgs
}

// recordCall records one call of a handler, and returns what ends the record of
// it.
func (s *Sim) recordCall(ctx context.Context, member, group string, msg kafkax.Message, batch int) (end func(err error)) {
	d := history.Delivery{
		Member: member, Group: group, TopicPartition: s.logOf(msg), Offset: msg.Offset,
		ID: s.identify(msg), Key: string(msg.Key), Batch: batch, Began: time.Now(),
	}
	s.mu.Lock()
	for _, a := range s.assigned[memberOf{member, group}] {
		if slices.Contains(a.Partitions, d.TopicPartition) {
			d.Generation = a.Generation
		}
	}
	at := callOf{member, group, d.Generation, place{msg.Topic, msg.Partition, msg.Offset}}
	s.attempts[at]++
	d.Attempt = s.attempts[at]
	s.mu.Unlock()
	n := s.events.Add(d) // its line comes with its end
	cut := make(chan time.Time, 1)
	told := d
	stop := context.AfterFunc(ctx, func() {
		told.ContextEnded = time.Now()
		s.events.Set(n, told) // it may never return
		cut <- told.ContextEnded
	})
	return func(err error) {
		if !stop() {
			d.ContextEnded = <-cut
		}
		d.Ended, d.Outcome = time.Now(), history.Handled
		switch {
		case err == nil:
		case ctx.Err() != nil && !errors.Is(context.Cause(ctx), kafkax.ErrHandlerTimeout):
			d.Outcome = history.Cancelled
		default:
			d.Outcome = history.Failed
		}
		if err == nil {
			s.mu.Lock()
			delete(s.attempts, at)
			s.mu.Unlock()
		}
		s.events.Set(n, d)
	}
}

// callOf is a message in one assignment.
type callOf struct {
	member, group string
	generation    int
	place
}

// recordProblem is for OnError: which messages a loop gave up.
func (s *Sim) recordProblem(member, group string, err error) {
	var told *kafkax.ConsumeError
	if !errors.As(err, &told) {
		return
	}
	s.note("%s: %v", member, err)
	if told.Outcome == kafkax.OutcomeSkipped && told.Offset >= 0 {
		s.record(history.Skip{
			Member: member, Group: group, Time: time.Now(),
			Span: history.Span{TopicPartition: s.log(told.Topic, told.Partition), First: told.Offset, Last: told.Offset},
		})
	}
}

// recordFault returns what ends it.
func (s *Sim) recordFault(kind history.FaultKind, target, text string) (end func()) {
	f := history.Fault{Kind: kind, Target: target, Text: text, Began: time.Now()}
	n := s.record(f)
	return func() {
		f.Ended = time.Now()
		s.complete(n, f)
	}
}
