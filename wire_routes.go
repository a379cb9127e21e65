package kafkax

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicID is what a cluster calls a topic for as long as it exists: one that is made
// again under the same name has another. The zero is of brokers before Kafka 2.8,
// which have none.
type topicID [16]byte

// String is as Kafka's own tools print it.
func (id topicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// parseTopicID is the way back from String; zero of what is no id.
func parseTopicID(text string) (id topicID) {
	if b, err := base64.RawURLEncoding.DecodeString(text); err == nil && len(b) == len(id) {
		copy(id[:], b)
	}
	return id
}

// isOther says whether two ids are known, and are not of the same topic.
func (id topicID) isOther(than topicID) bool {
	return id != (topicID{}) && than != (topicID{}) && id != than
}

// topicRoute is what the cluster says of a topic.
type topicRoute struct {
	leaders map[int]leader // by partition
}

// leader is who answers for a partition.
type leader struct {
	node  int32
	epoch int32   // of its leadership; -1 where brokers do not tell
	topic topicID // of which it is
	err   error   // not nil: there is none

	failures int // of the node, when the cluster named it
}

// cluster knows which node to ask: who leads a partition, and who coordinates a
// group. What it was told it remembers until an answer, or a connection that fails,
// shows that it is old.
type cluster struct {
	*wire
	topics       *lookups[string, *topicRoute]
	coordinators *lookups[coordinated, *coordinator]
}

// newCluster is followed by close.
func newCluster(d *dialer) *cluster {
	return &cluster{
		wire:         newWire(d),
		topics:       newLookups[string, *topicRoute](),
		coordinators: newLookups[coordinated, *coordinator](),
	}
}

// leaderOf is who leads a partition. Its errors of the cluster's are Kafka's codes.
func (c *cluster) leaderOf(ctx context.Context, topic string, partition int) (leader, error) {
	t, err := c.topics.get(ctx, topic,
		func(t *topicRoute) bool {
			l, ok := t.leaders[partition]
			return ok && l.err == nil && l.failures == c.failuresOf(l.node)
		},
		func() (*topicRoute, error) { return c.topicRoute(ctx, topic) },
	)
	if err != nil {
		return leader{}, err
	}
	l, ok := t.leaders[partition]
	if !ok {
		return l, fmt.Errorf("metadata of topic %s: partition %d: %w", topic, partition, kafka.UnknownTopicOrPartition)
	}
	return l, l.err
}

// forgetTopic is for answers that show that what is known of a topic is old.
func (c *cluster) forgetTopic(topic string) { c.topics.forget(topic) }

func (c *cluster) topicRoute(ctx context.Context, topic string) (*topicRoute, error) {
	res, err := c.metadata(ctx, []string{topic})
	if err != nil {
		return nil, err
	}
	for _, t := range res.Topics {
		if t.Topic == nil || *t.Topic != topic {
			continue
		}
		if t.ErrorCode != 0 {
			return nil, fmt.Errorf("metadata of topic %s: %w", topic, brokerError(t.ErrorCode))
		}
		route := &topicRoute{leaders: make(map[int]leader, len(t.Partitions))}
		for _, p := range t.Partitions {
			l := leader{node: p.Leader, epoch: p.LeaderEpoch, topic: t.TopicID, failures: c.failuresOf(p.Leader)}
			switch {
			case p.Leader < 0:
				l.err = fmt.Errorf("metadata of topic %s: partition %d: %w", topic, p.Partition, kafka.LeaderNotAvailable)
			case p.ErrorCode != 0 && kafka.Error(p.ErrorCode) != kafka.ReplicaNotAvailable: // a follower's trouble
				l.err = fmt.Errorf("metadata of topic %s: partition %d: %w", topic, p.Partition, brokerError(p.ErrorCode))
			}
			route.leaders[int(p.Partition)] = l
		}
		return route, nil
	}
	return nil, fmt.Errorf("metadata of topic %s: the answer leaves it out: %w", topic, kafka.UnknownTopicOrPartition)
}

// What a coordinator is of, as in FindCoordinator.
const coordinatesGroup int8 = 0

// coordinated is a group or a transactional id.
type coordinated struct {
	kind int8
	key  string
}

type coordinator struct {
	node     int32
	failures int // of the node, when the cluster named it
}

// coordinatorOf is the node that answers for a group.
func (c *cluster) coordinatorOf(ctx context.Context, of coordinated) (int32, error) {
	found, err := c.coordinators.get(ctx, of,
		func(known *coordinator) bool { return known.failures == c.failuresOf(known.node) },
		func() (*coordinator, error) { return c.findCoordinator(ctx, of) },
	)
	if err != nil {
		return 0, err
	}
	return found.node, nil
}

// forgetCoordinator is for answers that show that it is another by now.
func (c *cluster) forgetCoordinator(of coordinated) { c.coordinators.forget(of) }

func (c *cluster) findCoordinator(ctx context.Context, of coordinated) (*coordinator, error) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorType = of.kind
	req.CoordinatorKey, req.CoordinatorKeys = of.key, []string{of.key} // by versions
	ctx, cancel := c.lookup(ctx)
	defer cancel()
	res, err := exchange(ctx, c.wire, req, anyNode)
	if err != nil {
		return nil, err
	}
	if res.Version < 4 {
		res.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{
			Key: of.key, NodeID: res.NodeID, Host: res.Host, Port: res.Port, ErrorCode: res.ErrorCode, ErrorMessage: res.ErrorMessage,
		}}
	}
	for _, named := range res.Coordinators {
		switch {
		case named.Key != of.key:
		case named.ErrorCode != 0:
			return nil, fmt.Errorf("coordinator of %s: %w", oneLine(of.key), brokerError(named.ErrorCode))
		default:
			c.found(named.NodeID, named.Host, named.Port)
			return &coordinator{node: named.NodeID, failures: c.failuresOf(named.NodeID)}, nil
		}
	}
	return nil, fmt.Errorf("coordinator of %s: the answer leaves it out: %w", oneLine(of.key), kafka.GroupCoordinatorNotAvailable)
}
