package kafkax

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"
)

// leadership is what a member found out as the leader of a generation, who
// decides which member reads what.
type leadership struct {
	partitions map[string]int // how many each topic of any member has; 0 for a missing one
	err        error          // why nobody was assigned anything
	balancer   bool           // the balancer is to blame for that
}

// leading is a member's part in the joins: whether it was made the leader, and
// with which partitions.
type leading struct {
	*scope
	ctx   context.Context
	leave func(ctx context.Context, id string) error

	mu     sync.Mutex
	last   *leadership // of the generation being joined
	member string      // what the group calls this member, from the last join
}

// leaderBalancer is a balancer, kafka-go's or the caller's, given partitions that
// can be trusted. The leader asks for the topics of all members at once; when one of
// them is missing, kafka-go has none for any, and the whole group would be left
// without partitions. kafka-go calls it on a goroutine of its own, where a panic
// would end the process.
type leaderBalancer struct {
	balancer kafka.GroupBalancer
	name     string // of its protocol
	leading  *leading
}

func (b leaderBalancer) ProtocolName() string { return b.name }

func (b leaderBalancer) UserData() ([]byte, error) {
	var data []byte
	err := b.leading.call(b.name, "UserData", func() (err error) {
		data, err = b.balancer.UserData()
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

func (b leaderBalancer) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	lead := &leadership{partitions: map[string]int{}}
	for _, m := range members {
		for _, topic := range m.Topics {
			lead.partitions[topic] = 0
		}
	}
	if len(partitions) == 0 {
		partitions, lead.err = b.leading.existingPartitions(b.leading.ctx, lead.topics())
	}
	for _, p := range partitions {
		lead.partitions[p.Topic]++
	}
	// A broker lists them in any order, and balancers go by it: the same members
	// would be given others each time.
	partitions = slices.SortedFunc(slices.Values(partitions), func(a, b kafka.Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
	})
	var assignments kafka.GroupMemberAssignments
	err := b.leading.call(b.name, "AssignGroups", func() error {
		assignments = b.balancer.AssignGroups(members, partitions)
		return nil
	})
	if err == nil {
		b.leading.set(lead)
		return assignments
	}
	if lead.err == nil {
		lead.err, lead.balancer = err, true
	}
	b.leading.set(lead)
	return nil
}

func (l *leadership) topics() []string { return slices.Collect(maps.Keys(l.partitions)) }

// changed says whether a topic of the group has another number of partitions
// than when they were assigned; own is how many this member's has. A follower
// cannot act on that: the broker answers one that joins again with the
// assignment there is.
func (l *leadership) changed(ctx context.Context, s *scope, own int) (bool, error) {
	if own != l.partitions[s.cfg.Topic] || len(l.partitions) == 1 {
		return own != l.partitions[s.cfg.Topic], nil
	}
	partitions, err := s.existingPartitions(ctx, l.topics())
	if err != nil {
		return false, err
	}
	now := make(map[string]int, len(l.partitions))
	for topic := range l.partitions {
		now[topic] = 0
	}
	for _, p := range partitions {
		now[p.Topic]++
	}
	return !maps.Equal(now, l.partitions), nil
}

// balancers are the given ones, or else kafka-go's defaults.
func (l *leading) balancers(balancers []kafka.GroupBalancer) ([]kafka.GroupBalancer, error) {
	if len(balancers) == 0 {
		balancers = []kafka.GroupBalancer{kafka.RangeGroupBalancer{}, kafka.RoundRobinGroupBalancer{}}
	}
	wrapped := make([]kafka.GroupBalancer, len(balancers))
	for i, b := range balancers {
		var name string
		err := l.call(fmt.Sprintf("%T", b), "ProtocolName", func() error {
			name = b.ProtocolName()
			return nil
		})
		if err != nil {
			return nil, err
		}
		wrapped[i] = leaderBalancer{balancer: b, name: name, leading: l}
	}
	return wrapped, nil
}

// call runs a method of a balancer, which may be the caller's. A member that it keeps
// from joining leaves: the group would wait for it.
func (l *leading) call(balancer, method string, f func() error) error {
	return l.callToJoin(l.ctx, "balancer "+balancer+": "+method, f, func() {
		l.mu.Lock()
		id := l.member
		l.mu.Unlock()
		if id != "" {
			_ = l.leave(l.ctx, id) // the group has timeouts as well
		}
	})
}

// joined notes the name of this member.
func (l *leading) joined(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.member = id
}

// existingPartitions asks the cluster for topics of which some may be missing,
// past the run's own transport, which knows a single topic.
func (s *scope) existingPartitions(ctx context.Context, topics []string) ([]kafka.Partition, error) {
	if len(topics) == 0 {
		return nil, nil
	}
	transport := s.dialer.transport(topics...)
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: s.dialer.addr(), Transport: transport}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout+lookupTimeout)
	defer cancel()
	res, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	var partitions []kafka.Partition
	for _, t := range res.Topics {
		if t.Error != nil && !errors.Is(t.Error, kafka.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("topic %s: metadata: %w", t.Name, t.Error)
		}
		partitions = append(partitions, t.Partitions...)
	}
	return partitions, nil
}

func (l *leading) set(lead *leadership) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = lead
}

// take is of the generation that was just joined; nil for a follower.
func (l *leading) take() *leadership {
	l.mu.Lock()
	defer l.mu.Unlock()
	lead := l.last
	l.last = nil
	return lead
}

// groupDialer makes a group's connections.
func groupDialer(d *dialer) *kafka.Dialer {
	kd := d.kafkaDialer()
	kd.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &noCreateConn{Conn: c}, nil
	}
	return kd
}

// noCreateConn takes the wish to create missing topics out of metadata
// requests. kafka-go's group leader always sends it, so that a topic which was
// deleted would come back, with a broker's default partitions, at the next
// rebalance.
type noCreateConn struct {
	net.Conn
	left     int  // bytes of the request under way that are still to come
	metadata bool // it is one that ends with the wish
}

const (
	metadataKey       = 3
	metadataCreate    = 4 // the first version with the wish
	metadataCreateEnd = 7 // the last in which nothing comes after it
)

// Write is called with whole requests, or with pieces of one if it is larger
// than kafka-go's buffer.
func (c *noCreateConn) Write(b []byte) (int, error) {
	if c.left == 0 && len(b) >= 8 {
		key, version := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
		c.metadata = key == metadataKey && metadataCreate <= version && version <= metadataCreateEnd
		c.left = 4 + int(binary.BigEndian.Uint32(b))
	}
	if c.metadata && len(b) == c.left {
		b = slices.Clone(b) // a Writer may not change what it is given
		b[len(b)-1] = 0
	}
	n, err := c.Conn.Write(b)
	c.left = max(c.left-n, 0)
	return n, err
}
