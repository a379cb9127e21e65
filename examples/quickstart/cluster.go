package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bi-common/kafkax"
)

// findBroker returns the addresses of the cluster to use. If none is
// configured it starts a broker in this process.
func findBroker(opts *options, out *log.Logger) (brokers []string, stop func(), err error) {
	stop = func() {}
	if opts.brokers != "" {
		out.Printf("broker     %s", opts.brokers)
		return strings.Split(opts.brokers, ","), stop, nil
	}

	// What kafkax itself would use: KAFKAX_BROKERS, or a configuration file.
	cfg, err := kafkax.LoadProducerFromEnv()
	if err != nil {
		return nil, nil, err
	}
	if len(cfg.Brokers) > 0 {
		source := ""
		for _, s := range cfg.Explain() {
			if s.Key == "brokers" {
				source = s.Source
			}
		}
		out.Printf("broker     %s (%s)", strings.Join(cfg.Brokers, ", "), source)
		return cfg.Brokers, stop, nil
	}

	fake, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}), // nobody else will join
	)
	if err != nil {
		return nil, nil, fmt.Errorf("start a broker: %w", err)
	}
	opts.inProcess = true
	out.Print("broker     in this process; KAFKAX_BROKERS names another")
	return fake.ListenAddrs(), fake.Close, nil
}

// cluster is what kafkax leaves to kafka-go: topics and offsets, for people
// and tools.
type cluster struct {
	brokers []string
	client  *kafka.Client
}

// newCluster connects as the producer does, TLS and SASL included.
func newCluster(brokers []string, producer *kafkax.Producer) *cluster {
	w := producer.Writer()
	return &cluster{brokers: brokers, client: &kafka.Client{Addr: w.Addr, Transport: w.Transport}}
}

// createTopics makes topics that are not there, with as many replicas as the
// cluster likes. Kafkax itself never creates a topic: partitions and replicas
// are a decision.
func (c *cluster) createTopics(ctx context.Context, topics ...string) error {
	var req kafka.CreateTopicsRequest
	for _, t := range topics {
		req.Topics = append(req.Topics, kafka.TopicConfig{Topic: t, NumPartitions: 3, ReplicationFactor: -1})
	}
	res, err := c.client.CreateTopics(ctx, &req)
	if err != nil {
		return err
	}
	for _, t := range topics {
		if err := res.Errors[t]; err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", t, err)
		}
	}
	return nil
}

// position is where one partition begins and ends, and how far a group is.
type position struct {
	first, end, committed int64
}

// positions has one entry a partition. Without a group, or if it has committed
// nothing, committed is where the partition begins.
func (c *cluster) positions(ctx context.Context, topic, group string) ([]position, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		all, err := c.askPositions(ctx, topic, group)
		if err == nil || !kafkax.IsRetryable(err) {
			return all, err
		}
		select {
		case <-time.After(100 * time.Millisecond): // a new topic has no leader yet, a new group no coordinator
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

func (c *cluster) askPositions(ctx context.Context, topic, group string) ([]position, error) {
	meta, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, err
	}
	if err := meta.Topics[0].Error; err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	partitions := make([]int, len(meta.Topics[0].Partitions))
	var ends []kafka.OffsetRequest
	for i := range partitions {
		partitions[i] = i
		ends = append(ends, kafka.FirstOffsetOf(i), kafka.LastOffsetOf(i))
	}
	offsets, err := c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: ends}})
	if err != nil {
		return nil, err
	}
	all := make([]position, len(partitions))
	for _, p := range offsets.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("%s[%d]: %w", topic, p.Partition, p.Error)
		}
		all[p.Partition] = position{first: p.FirstOffset, end: p.LastOffset, committed: p.FirstOffset}
	}
	if group == "" {
		return all, nil
	}

	committed, err := c.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: partitions}})
	if err == nil {
		err = committed.Error
	}
	if errors.Is(err, kafka.GroupIdNotFound) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("offsets of group %s: %w", group, err)
	}
	for _, p := range committed.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("offset of group %s in %s[%d]: %w", group, topic, p.Partition, p.Error)
		}
		all[p.Partition].committed = max(all[p.Partition].committed, p.CommittedOffset)
	}
	return all, nil
}

// readAll calls each with every message that the topic has now.
func (c *cluster) readAll(ctx context.Context, topic string, each func(kafka.Message)) error {
	all, err := c.positions(ctx, topic, "")
	if err != nil {
		return err
	}
	for partition, p := range all {
		if p.first == p.end {
			continue
		}
		if err := c.readPartition(ctx, topic, partition, p.end, each); err != nil {
			return fmt.Errorf("read %s[%d]: %w", topic, partition, err)
		}
	}
	return nil
}

// readPartition reads one partition up to end. A consumer without a group
// shares nothing, commits nothing and begins at the start: what one wants for
// a look at a topic.
func (c *cluster) readPartition(ctx context.Context, topic string, partition int, end int64, each func(kafka.Message)) (err error) {
	consumer, err := kafkax.NewConsumer(
		kafkax.WithConsumerBrokers(c.brokers...),
		kafkax.WithConsumerTopic(topic),
		kafkax.WithConsumerGroupID(""),
		kafkax.WithConsumerPartition(partition),
		kafkax.WithConsumerStartOffset(kafkax.StartEarliest),
	)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	for {
		msg, err := consumer.FetchMessage(ctx)
		if err != nil {
			return err
		}
		each(msg)
		if msg.Offset+1 >= end {
			return nil
		}
	}
}
