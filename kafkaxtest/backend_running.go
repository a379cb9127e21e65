package kafkaxtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// running is a Kafka that somebody else has started. The test's own client asks
// it for everything.
type running struct {
	addresses []string
	feed      *kgo.Client
}

const (
	maxReplicas = 3
	adminPause  = 100 * time.Millisecond
)

func (r running) brokers() []string { return slices.Clone(r.addresses) }

func (running) close() {} // it is not the simulation's

// patiently asks again while what is missing is only that a leader or a
// coordinator is not there yet.
func patiently(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if code, ok := errors.AsType[*kerr.Error](err); err == nil || ok && !code.Retriable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(adminPause):
		}
	}
}

func (r running) createTopic(ctx context.Context, name string, partitions int, configs map[string]string) error {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions = name, int32(partitions)
	topic.ReplicationFactor = int16(min(maxReplicas, len(r.addresses)))
	for key, value := range configs {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = key, &value
		topic.Configs = append(topic.Configs, config)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, topic)
	res, err := req.RequestWith(ctx, r.feed)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		if err := coded(t.ErrorCode, t.ErrorMessage); err != nil {
			return err
		}
	}
	return patiently(ctx, func() error { // its leaders serve it
		logs, err := r.logs(ctx, name)
		if err == nil && len(logs) != partitions {
			err = fmt.Errorf("%d of %d partitions are there", len(logs), partitions)
		}
		return err
	})
}

func (r running) deleteTopic(ctx context.Context, name string) error {
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = &name
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames, req.Topics = []string{name}, append(req.Topics, topic)
	res, err := req.RequestWith(ctx, r.feed)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		if err := coded(t.ErrorCode, t.ErrorMessage); err != nil {
			return err
		}
	}
	return patiently(ctx, func() error { // the brokers learn of it later
		_, partitions, err := r.describe(ctx, name)
		if err == nil && len(partitions) > 0 {
			err = fmt.Errorf("%d partitions are there still", len(partitions))
		}
		return err
	})
}

// coded is an error with what the broker says of it.
func coded(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err != nil && message != nil {
		return fmt.Errorf("%w: %s", err, *message)
	}
	return err
}

// describe is the brokers, and the partitions of a topic; none if there is no
// such topic.
func (r running) describe(ctx context.Context, topic string) (*kmsg.MetadataResponse, []kmsg.MetadataResponseTopicPartition, error) {
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = &topic
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = append(req.Topics, asked)
	res, err := req.RequestWith(ctx, r.feed)
	if err != nil {
		return nil, nil, err
	}
	if len(res.Topics) != 1 {
		return nil, nil, fmt.Errorf("an answer about %d topics, and one was asked for", len(res.Topics))
	}
	t := res.Topics[0]
	if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, nil, err
	}
	return res, t.Partitions, nil
}

func (r running) logs(ctx context.Context, topic string) (logs []extent, err error) {
	err = patiently(ctx, func() error {
		_, partitions, err := r.describe(ctx, topic)
		if err != nil || len(partitions) == 0 {
			logs = nil
			return err
		}
		numbers := make([]int32, len(partitions))
		for i, p := range partitions {
			numbers[i] = p.Partition
		}
		starts, err := r.offsets(ctx, topic, numbers, -2)
		if err != nil {
			return err
		}
		ends, err := r.offsets(ctx, topic, numbers, -1)
		if err != nil {
			return err
		}
		logs = make([]extent, len(numbers))
		for i, n := range numbers {
			logs[i] = extent{int(n), starts[n], ends[n]}
		}
		slices.SortFunc(logs, func(a, b extent) int { return a.partition - b.partition })
		return nil
	})
	return logs, err
}

// offsets are the first ones of the partitions, for -2, or the next ones, for -1.
func (r running) offsets(ctx context.Context, topic string, partitions []int32, which int64) (map[int32]int64, error) {
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for _, n := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = n, which
		asked.Partitions = append(asked.Partitions, p)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.Topics = append(req.Topics, asked)
	res, err := req.RequestWith(ctx, r.feed)
	if err != nil {
		return nil, err
	}
	found := map[int32]int64{}
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, err
			}
			found[p.Partition] = p.Offset
		}
	}
	if len(found) != len(partitions) {
		return nil, fmt.Errorf("offsets of %d of %d partitions were told", len(found), len(partitions))
	}
	return found, nil
}

func (r running) group(ctx context.Context, name string) (state groupState, err error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{name}
	err = patiently(ctx, func() error {
		res, err := req.RequestWith(ctx, r.feed)
		if err != nil {
			return err
		}
		if len(res.Groups) != 1 {
			return fmt.Errorf("an answer about %d groups, and one was asked for", len(res.Groups))
		}
		g := res.Groups[0]
		state = groupState{len(g.Members), g.State == "Stable"}
		err = kerr.ErrorForCode(g.ErrorCode)
		if errors.Is(err, kerr.GroupIDNotFound) {
			return nil
		}
		return err
	})
	return state, err
}

func (r running) committed(ctx context.Context, group, topic string) (offsets map[int]int64, err error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	err = patiently(ctx, func() error {
		res, err := req.RequestWith(ctx, r.feed)
		if err != nil {
			return err
		}
		offsets = map[int]int64{}
		for _, g := range res.Groups {
			if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
				return err
			}
			for _, t := range g.Topics {
				if t.Topic != topic {
					continue
				}
				for _, p := range t.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						return err
					}
					if p.Offset >= 0 {
						offsets[int(p.Partition)] = p.Offset
					}
				}
			}
		}
		return nil
	})
	return offsets, err
}

// moveLeader makes a replica on the node the preferred one, and has it elected.
func (r running) moveLeader(ctx context.Context, topic string, partition, node int) error {
	return patiently(ctx, func() error {
		meta, partitions, err := r.describe(ctx, topic)
		if err != nil {
			return err
		}
		id, err := r.id(meta, node)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(partitions, func(p kmsg.MetadataResponseTopicPartition) bool { return p.Partition == int32(partition) })
		if i < 0 {
			return kerr.UnknownTopicOrPartition
		}
		p := partitions[i]
		if p.Leader == id {
			return nil
		}
		if p.Replicas[0] != id {
			order := append([]int32{id}, slices.DeleteFunc(slices.Clone(p.Replicas), func(other int32) bool { return other == id })...)
			if err := r.reassign(ctx, topic, p.Partition, order[:len(p.Replicas)]); err != nil {
				return err
			}
		}
		if err := r.elect(ctx, topic, p.Partition); err != nil {
			return err
		}
		return fmt.Errorf("node %d does not lead it yet", node)
	})
}

// id is the broker id of a node.
func (r running) id(meta *kmsg.MetadataResponse, node int) (int32, error) {
	if node < 0 || node >= len(r.addresses) {
		return 0, fmt.Errorf("there is no node %d of %d", node, len(r.addresses))
	}
	for _, b := range meta.Brokers {
		if net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))) == r.addresses[node] {
			return b.NodeID, nil
		}
	}
	return 0, fmt.Errorf("node %d is not in the cluster", node)
}

func (r running) reassign(ctx context.Context, topic string, partition int32, replicas []int32) error {
	p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	p.Partition, p.Replicas = partition, replicas
	t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	t.Topic, t.Partitions = topic, append(t.Partitions, p)
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(ctx, r.feed)
	if err != nil {
		return err
	}
	errs := []error{coded(res.ErrorCode, res.ErrorMessage)}
	for _, t := range res.Topics {
		for _, p := range t.Partitions {
			errs = append(errs, coded(p.ErrorCode, p.ErrorMessage))
		}
	}
	return errors.Join(errs...)
}

// elect asks for the preferred leader; that it cannot be yet, shows afterwards.
func (r running) elect(ctx context.Context, topic string, partition int32) error {
	t := kmsg.NewElectLeadersRequestTopic()
	t.Topic, t.Partitions = topic, []int32{partition}
	req := kmsg.NewPtrElectLeadersRequest()
	req.Topics = append(req.Topics, t)
	_, err := req.RequestWith(ctx, r.feed)
	return err
}
