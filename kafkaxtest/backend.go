package kafkaxtest

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/twmb/franz-go/pkg/kfake"
)

// backend is the Kafka behind a simulation: the one in memory, or one that runs
// elsewhere.
type backend interface {
	// brokers are the addresses, in the order of the nodes.
	brokers() []string
	createTopic(ctx context.Context, name string, partitions int, configs map[string]string) error
	deleteTopic(ctx context.Context, name string) error
	moveLeader(ctx context.Context, topic string, partition, node int) error
	// logs are the partitions of a topic; none if there is no such topic.
	logs(ctx context.Context, topic string) ([]extent, error)
	group(ctx context.Context, name string) (groupState, error)
	committed(ctx context.Context, group, topic string) (map[int]int64, error)
	close()
}

// extent is how far a partition reaches: its first offset, and the next one.
type extent struct {
	partition  int
	start, end int64
}

type groupState struct {
	members int
	stable  bool
}

// memory is franz-go's kfake.
type memory struct {
	*kfake.Cluster

	nodes int
	seed  uint64
}

func (m memory) brokers() []string { return m.ListenAddrs() }

func (m memory) createTopic(_ context.Context, name string, partitions int, configs map[string]string) error {
	if err := m.CreateTopic(name, int32(partitions), configs); err != nil {
		return err
	}
	return m.spread(name, partitions)
}

// spread has a topic's partitions led by one node after the other, from one on
// that the seed says. What leads them without that is by chance.
func (m memory) spread(topic string, partitions int) error {
	if m.nodes == 1 {
		return nil
	}
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, topic, m.seed) // a hash takes everything
	first := int(h.Sum64() % uint64(m.nodes))
	for p := range partitions {
		if err := m.MoveTopicPartition(topic, int32(p), int32((first+p)%m.nodes)); err != nil {
			return err
		}
	}
	return nil
}

func (m memory) deleteTopic(_ context.Context, name string) error { return m.DeleteTopic(name) }

func (m memory) moveLeader(_ context.Context, topic string, partition, node int) error {
	return m.MoveTopicPartition(topic, int32(partition), int32(node))
}

func (m memory) logs(_ context.Context, topic string) ([]extent, error) {
	infos := m.PartitionInfos(topic)
	logs := make([]extent, len(infos))
	for i, p := range infos {
		logs[i] = extent{int(p.Partition), p.LogStartOffset, p.HighWatermark}
	}
	return logs, nil
}

func (m memory) group(_ context.Context, name string) (groupState, error) {
	info := m.GroupInfo(name)
	if info == nil {
		return groupState{}, nil
	}
	return groupState{len(info.Members), info.State == "Stable"}, nil
}

func (m memory) committed(_ context.Context, group, topic string) (map[int]int64, error) {
	offsets := map[int]int64{}
	if info := m.GroupInfo(group); info != nil {
		for partition, c := range info.Commits[topic] {
			offsets[int(partition)] = c.Offset
		}
	}
	return offsets, nil
}

func (m memory) close() { m.Close() }

// memory is the cluster in memory, for what no other can be made to do.
func (s *Sim) memory(what string) memory {
	s.T.Helper()
	m, ok := s.backend.(memory)
	if !ok {
		s.fatalf("%s: only the cluster in memory can be made to do that, not one that runs already", what)
	}
	return m
}

// logs are the partitions of a topic.
func (s *Sim) logs(topic string) []extent {
	s.T.Helper()
	ctx, cancel := s.bound()
	defer cancel()
	logs, err := s.backend.logs(ctx, topic)
	if err != nil {
		s.fatalf("%s: %v", topic, err)
	}
	return logs
}

// group is how a group is now.
func (s *Sim) group(name string) (groupState, error) {
	ctx, cancel := s.bound()
	defer cancel()
	state, err := s.backend.group(ctx, name)
	if err != nil {
		return groupState{}, fmt.Errorf("group %s: %w", name, err)
	}
	return state, nil
}
