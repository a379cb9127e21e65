package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// requestTimeout bounds the exchange with one node.
const requestTimeout = 5 * time.Second

var errNoNode = errors.New("no node is running")

// view is what one node says of the cluster. It comes over a connection of its
// own: kafka-go's client would answer from a cache.
type view struct {
	brokers    []kafka.Broker
	partitions []kafka.Partition
}

// view asks for the named topics, or all.
func (n *node) view(ctx context.Context, topics ...string) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conn, err := n.dial(ctx)
	if err != nil {
		return view{}, err
	}
	defer conn.Close()

	brokers, err := conn.Brokers()
	if err != nil {
		return view{}, fmt.Errorf("node %d: %w", n.id, err)
	}
	partitions, err := conn.ReadPartitions(topics...)
	if err != nil {
		return view{}, fmt.Errorf("node %d: %w", n.id, err)
	}
	return view{brokers, partitions}, nil
}

func (v view) lists(nodes []*node) error {
	for _, n := range nodes {
		if !slices.ContainsFunc(v.brokers, n.is) {
			return fmt.Errorf("does not list node %d", n.id)
		}
	}
	return nil
}

// inSync says where a node lags behind the partition's leader.
func (v view) inSync(n *node) error {
	for _, p := range v.partitions {
		if slices.ContainsFunc(p.Replicas, n.is) && !slices.ContainsFunc(p.Isr, n.is) {
			return fmt.Errorf("node %d is not in sync for %s[%d]", n.id, p.Topic, p.ID)
		}
	}
	return nil
}

func (n *node) is(b kafka.Broker) bool { return b.ID == n.id }

// dial connects without security; the context's deadline holds for the
// connection's life.
func (n *node) dial(ctx context.Context) (*kafka.Conn, error) {
	conn, err := kafka.DialContext(ctx, "tcp", n.addr(Plaintext))
	if err != nil {
		return nil, err
	}
	if err := setDeadline(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func setDeadline(ctx context.Context, conn *kafka.Conn) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	return conn.SetDeadline(deadline)
}

// client is for requests that a bare connection does not offer.
func (c *Cluster) client() (client *kafka.Client, closeIdle func()) {
	var addrs []string
	for _, n := range c.answering() {
		addrs = append(addrs, n.addr(Plaintext))
	}
	transport := &kafka.Transport{DialTimeout: requestTimeout, MetadataTTL: requestTimeout}
	return &kafka.Client{Addr: kafka.TCP(addrs...), Transport: transport, Timeout: requestTimeout},
		transport.CloseIdleConnections
}
