package kafkaxtest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AddPartitions makes a topic have more partitions: n in all. Messages with a
// key may go to another partition from then on.
func (s *Sim) AddPartitions(topic string, n int) {
	s.T.Helper()
	ctx, cancel := s.bound()
	defer cancel()
	err := patiently(ctx, func() error { return s.addPartitions(ctx, topic, n) })
	if err == nil {
		err = s.feedLearns(ctx, topic, int32(n-1))
	}
	if err != nil {
		s.fatalf("partitions of %s: %v", topic, err)
	}
	s.note("topic %s has %d partitions", topic, n)
}

func (s *Sim) addPartitions(ctx context.Context, topic string, n int) error {
	logs, err := s.backend.logs(ctx, topic)
	if err != nil || len(logs) >= n {
		return err
	}
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = topic, int32(n)
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(ctx, s.feed)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		if err := coded(t.ErrorCode, t.ErrorMessage); err != nil {
			return err
		}
	}
	if logs, err = s.backend.logs(ctx, topic); err == nil && len(logs) < n {
		err = kerr.LeaderNotAvailable // that of a new one
	}
	return err
}

// feedLearns waits until the test's own client can write to a new partition, if
// it has written to the topic before: else it looks anyhow.
func (s *Sim) feedLearns(ctx context.Context, topic string, last int32) error {
	known := func(partition int32) bool {
		leader, _, err := s.feed.PartitionLeader(topic, partition)
		return leader >= 0 && err == nil
	}
	for known(0) && !known(last) {
		s.feed.ForceMetadataRefresh()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(adminPause):
		}
	}
	return nil
}

// Partitions are how many partitions a topic has; none if there is no such topic.
func (s *Sim) Partitions(topic string) int {
	s.T.Helper()
	return len(s.logs(topic))
}

// Offsets are where a partition's log begins, and the offset behind its last record.
func (s *Sim) Offsets(topic string, partition int) (start, end int64) {
	s.T.Helper()
	for _, l := range s.logs(topic) {
		if l.partition == partition {
			return l.start, l.end
		}
	}
	return 0, 0
}

// DeleteRecords deletes what stands before an offset of a partition, all of it
// if the offset is below 0: a group that has not come so far misses it, and has
// to say so. See [Sim.Check].
func (s *Sim) DeleteRecords(topic string, partition int, before int64) {
	s.T.Helper()
	defer s.alter()()
	deleted := s.remember(topic)
	start, end := s.Offsets(topic, partition)
	if before < 0 {
		before = end
	}
	if before < start || before > end {
		s.fatalf("DeleteRecords: %s[%d] has %d to %d, and nothing before %d", topic, partition, start, end, before)
	}
	at := time.Now()
	ctx, cancel := s.bound()
	defer cancel()
	err := patiently(ctx, func() error {
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = int32(partition), before
		t := kmsg.NewDeleteRecordsRequestTopic()
		t.Topic, t.Partitions = topic, append(t.Partitions, p)
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Topics, req.TimeoutMillis = append(req.Topics, t), int32(s.patience().Milliseconds())
		res, err := req.RequestWith(ctx, s.feed)
		if err != nil {
			return err
		}
		for _, t := range res.Topics {
			for _, p := range t.Partitions {
				err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
			}
		}
		return err
	})
	if err != nil {
		s.fatalf("deleting what %s[%d] has before %d: %v", topic, partition, before, err)
	}
	deleted(partition, before, at)
	s.note("%s[%d]: what stood before %d is deleted", topic, partition, before)
}

// Expire deletes what is older than an age by its timestamp, as retention does,
// from the begin of each partition of a topic.
func (s *Sim) Expire(topic string, age time.Duration) {
	s.T.Helper()
	m := s.memory("Expire")
	restore := s.Configure(topic, "retention.ms", strconv.FormatInt(max(age.Milliseconds(), 1), 10))
	defer restore()
	m.ApplyRetention()
}

// Compact takes from a topic all that has a later message with the same key,
// but for the newest batch of each partition, as a log cleaner does. Messages
// without a key go too.
func (s *Sim) Compact(topic string) {
	s.T.Helper()
	m := s.memory("Compact")
	restore := s.Configure(topic, "cleanup.policy", "compact", "retention.ms", "-1")
	defer restore()
	before := s.logs(topic)
	m.Compact()
	for _, l := range before {
		if start, _ := s.Offsets(topic, l.partition); start >= l.start {
			continue
		}
		// kfake has a log begin with the first batch that is left, also with one
		// whose first records had been deleted.
		if err := m.DeleteRecords(topic, int32(l.partition), l.start); err != nil {
			s.fatalf("compacting %s[%d]: %v", topic, l.partition, err)
		}
	}
}

// Configure gives a topic other settings until they are restored, as pairs of a
// name and a value: see [Sim.CreateTopic]. Another call that deletes records
// waits until then: what goes meanwhile is taken for what these settings delete.
func (s *Sim) Configure(topic string, configs ...string) (restore func()) {
	s.T.Helper()
	altered := s.alter()
	values := pairs(configs)
	at, deleted := time.Now(), s.remember(topic)
	s.mu.Lock()
	s.compacted[topic] = s.compacted[topic] || strings.Contains(values["cleanup.policy"], "compact")
	s.mu.Unlock()
	if err := s.configure(topic, values, kmsg.IncrementalAlterConfigOpSet); err != nil {
		altered()
		s.fatalf("settings of %s: %v", topic, err)
	}
	s.note("topic %s has the settings %q", topic, configs)
	return s.once(func() {
		defer altered()
		if err := s.configure(topic, values, kmsg.IncrementalAlterConfigOpDelete); err != nil {
			s.fatalf("settings of %s: %v", topic, err)
		}
		for _, l := range s.logs(topic) {
			deleted(l.partition, l.start, at)
			s.note("%s[%d] has %d to %d", topic, l.partition, l.start, l.end)
		}
	})
}

// alter waits until no other call deletes records: what one remembers, another
// must not take. A mutex would stop the clock.
func (s *Sim) alter() (done func()) {
	s.altering <- struct{}{}
	return func() { <-s.altering }
}

func (s *Sim) configure(topic string, values map[string]string, op kmsg.IncrementalAlterConfigOp) error {
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	for name, value := range values {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Op, config.Value = name, op, &value
		resource.Configs = append(resource.Configs, config)
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, resource)
	ctx, cancel := s.bound()
	defer cancel()
	res, err := req.RequestWith(ctx, s.feed)
	if err != nil {
		return err
	}
	for _, r := range res.Resources {
		if err := coded(r.ErrorCode, r.ErrorMessage); err != nil {
			return fmt.Errorf("%s: %w", r.ResourceName, err)
		}
	}
	return nil
}
