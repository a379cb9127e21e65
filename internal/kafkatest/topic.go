package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/plain"
)

// adminTimeout bounds a change of the cluster until all nodes know of it.
const adminTimeout = time.Minute

var names atomic.Int64

// Name is a name for a topic or a group that nothing else in the test binary
// has. It begins with the test's.
func Name(t testing.TB) string {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, t.Name())
	// Kafka's limit is 249, and tests derive names by appending to this one.
	return fmt.Sprintf("%.150s-%d", name, names.Add(1))
}

// Topic makes a topic for this test and returns its name; see
// [Cluster.CreateTopic]. A failure ends the test.
func (c *Cluster) Topic(t testing.TB, partitions int, configs ...string) string {
	t.Helper()
	topic := Name(t)
	if err := c.CreateTopic(topic, partitions, configs...); err != nil {
		t.Fatal(err)
	}
	return topic
}

// CreateTopic makes a topic with as many replicas as the cluster has nodes. It
// returns when every node that answers knows its leaders, and they serve it.
// Configs are Kafka's topic properties, as "cleanup.policy=compact".
func (c *Cluster) CreateTopic(topic string, partitions int, configs ...string) error {
	config := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: len(c.nodes)}
	for _, entry := range configs {
		key, value, _ := strings.Cut(entry, "=")
		config.ConfigEntries = append(config.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
	}

	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	err := c.createTopic(ctx, config)
	if err == nil {
		err = poll(ctx, func() error { return c.checkTopic(ctx, topic, partitions) })
	}
	if err != nil {
		return fmt.Errorf("kafkatest: create topic %s: %w", topic, err)
	}
	return nil
}

func (c *Cluster) createTopic(ctx context.Context, config kafka.TopicConfig) error {
	nodes := c.answering()
	if len(nodes) == 0 {
		return errNoNode
	}
	conn, err := nodes[0].dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// kafka-go takes a topic that exists for a success, whatever it looks like.
	switch _, err := conn.ReadPartitions(config.Topic); {
	case err == nil:
		return kafka.TopicAlreadyExists
	case !errors.Is(err, kafka.UnknownTopicOrPartition):
		return err
	}
	return conn.CreateTopics(config)
}

// checkTopic asks every node about the topic, and each leader for the end of
// its partition: it may not lead yet what all say it leads.
func (c *Cluster) checkTopic(ctx context.Context, topic string, partitions int) error {
	nodes := c.answering()
	if len(nodes) == 0 {
		return errNoNode
	}
	for i, n := range nodes {
		view, err := n.view(ctx, topic)
		if err != nil {
			return err
		}
		if len(view.partitions) != partitions {
			return fmt.Errorf("node %d knows %d of %d partitions", n.id, len(view.partitions), partitions)
		}
		for _, p := range view.partitions {
			if p.Leader.ID == 0 {
				return fmt.Errorf("node %d: partition %d has no leader", n.id, p.ID)
			}
			if i > 0 {
				continue
			}
			if err := leads(ctx, p); err != nil {
				return fmt.Errorf("partition %d on node %d: %w", p.ID, p.Leader.ID, err)
			}
		}
	}
	return nil
}

func leads(ctx context.Context, p kafka.Partition) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conn, err := (&kafka.Dialer{}).DialPartition(ctx, "tcp", "", p)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := setDeadline(ctx, conn); err != nil {
		return err
	}
	_, err = conn.ReadLastOffset()
	return err
}

// Leader is the node that leads the partition, or 0 if none does. A killed or
// frozen leader is named for up to 5 s more.
func (c *Cluster) Leader(t testing.TB, topic string, partition int) int {
	t.Helper()
	p, err := c.partition(context.Background(), topic, partition)
	if err != nil {
		t.Errorf("kafkatest: leader of %s[%d]: %v", topic, partition, err)
	}
	return p.Leader.ID
}

func (c *Cluster) partition(ctx context.Context, topic string, partition int) (kafka.Partition, error) {
	nodes := c.answering()
	if len(nodes) == 0 {
		return kafka.Partition{}, errNoNode
	}
	view, err := nodes[0].view(ctx, topic)
	if err != nil {
		return kafka.Partition{}, err
	}
	for _, p := range view.partitions {
		if p.ID == partition {
			return p, nil
		}
	}
	return kafka.Partition{}, kafka.UnknownTopicOrPartition
}

// MoveLeader makes a node the leader of the partition, without a failure, and
// waits until every node knows. A failure ends the test.
func (c *Cluster) MoveLeader(t testing.TB, topic string, partition, node int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	if err := c.moveLeader(ctx, topic, partition, node); err != nil {
		t.Fatalf("kafkatest: move %s[%d] to node %d: %v", topic, partition, node, err)
	}
}

func (c *Cluster) moveLeader(ctx context.Context, topic string, partition, node int) error {
	p, err := c.partition(ctx, topic, partition)
	if err != nil {
		return err
	}
	// The first replica is the preferred one, and elections are for it.
	order := []int{node}
	for _, replica := range p.Replicas {
		if replica.ID != node {
			order = append(order, replica.ID)
		}
	}
	if len(order) != len(p.Replicas) {
		return errors.New("it has no replica")
	}

	client, closeClient := c.client()
	defer closeClient()
	reassigned, err := client.AlterPartitionReassignments(ctx, &kafka.AlterPartitionReassignmentsRequest{
		Topic:       topic,
		Assignments: []kafka.AlterPartitionReassignmentsRequestAssignment{{PartitionID: partition, BrokerIDs: order}},
		Timeout:     requestTimeout,
	})
	if err != nil {
		return err
	}
	errs := []error{reassigned.Error}
	for _, result := range reassigned.PartitionResults {
		errs = append(errs, result.Error)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}

	return poll(ctx, func() error {
		// Answers that no election is needed, or not possible yet, show below.
		if _, err := client.ElectLeaders(ctx, &kafka.ElectLeadersRequest{
			Topic: topic, Partitions: []int{partition}, Timeout: requestTimeout,
		}); err != nil {
			return err
		}
		for _, n := range c.answering() {
			view, err := n.view(ctx, topic)
			if err != nil {
				return err
			}
			for _, p := range view.partitions {
				if p.ID == partition && p.Leader.ID != node {
					return fmt.Errorf("node %d says that node %d leads", n.id, p.Leader.ID)
				}
			}
		}
		return nil
	})
}

// Deny forbids [Guest] everything on a topic, and returns when every node that
// answers refuses it. A failure ends the test.
func (c *Cluster) Deny(t testing.TB, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	if err := c.deny(ctx, topic); err != nil {
		t.Fatalf("kafkatest: deny %s: %v", topic, err)
	}
}

func (c *Cluster) deny(ctx context.Context, topic string) error {
	client, closeClient := c.client()
	defer closeClient()
	resp, err := client.CreateACLs(ctx, &kafka.CreateACLsRequest{ACLs: []kafka.ACLEntry{{
		ResourceType:        kafka.ResourceTypeTopic,
		ResourceName:        topic,
		ResourcePatternType: kafka.PatternTypeLiteral,
		Principal:           "User:" + Guest,
		Host:                "*",
		Operation:           kafka.ACLOperationTypeAll,
		PermissionType:      kafka.ACLPermissionTypeDeny,
	}}})
	if err != nil {
		return err
	}
	if err := errors.Join(resp.Errors...); err != nil {
		return err
	}

	return poll(ctx, func() error {
		for _, n := range c.answering() {
			if err := n.refusesGuest(ctx, topic); err != nil {
				return fmt.Errorf("node %d: %w", n.id, err)
			}
		}
		return nil
	})
}

func (n *node) refusesGuest(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	dialer := &kafka.Dialer{SASLMechanism: plain.Mechanism{Username: Guest, Password: Password}}
	conn, err := dialer.DialContext(ctx, "tcp", n.addr(SASLPlaintext))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := setDeadline(ctx, conn); err != nil {
		return err
	}
	_, err = conn.ReadPartitions(topic)
	switch {
	case errors.Is(err, kafka.TopicAuthorizationFailed):
		return nil
	case err == nil:
		return errors.New("not refused yet")
	}
	return err
}
