package kafkatest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// MaxNodes is the size of the largest cluster.
const MaxNodes = 3

const (
	// startTimeout bounds the start of a cluster and the return of a node. It
	// takes 3 to 7 s on an idle machine with two cores.
	startTimeout = 2 * time.Minute

	pollInterval = 25 * time.Millisecond

	// metaProperties is the file of a node's storage that says whose it is.
	metaProperties = "meta.properties"
)

// Cluster is a running Kafka cluster. Its methods are safe for concurrent use.
// Those that take a testing.TB report a failure with Errorf and may be called
// from any goroutine, unless they say that a failure ends the test.
type Cluster struct {
	Certs

	dist     distribution
	slot     *slot
	launcher *launcher
	nodes    []*node
	extra    properties
	stop     func() error

	mu       sync.Mutex
	launched []*Process
}

// Option changes a cluster before it starts.
type Option func(*Cluster)

// WithProperty sets a Kafka broker property on every node.
func WithProperty(key, value string) Option {
	return func(c *Cluster) { c.extra[key] = value }
}

// Run starts a cluster of 1 to [MaxNodes] nodes and returns when all of them
// answer and know each other. The caller calls Stop. Where there is a
// testing.TB, use [Start].
func Run(nodes int, opts ...Option) (*Cluster, error) {
	if nodes < 1 || nodes > MaxNodes {
		return nil, fmt.Errorf("kafkatest: a cluster has 1 to %d nodes, not %d", MaxNodes, nodes)
	}
	dist, err := install(context.Background())
	if err != nil {
		return nil, fmt.Errorf("kafkatest: %w", err)
	}
	say("starting Kafka %s, %d node(s)", dist.version.name, nodes)
	slot, err := takeSlot()
	if err != nil {
		return nil, fmt.Errorf("kafkatest: %w", err)
	}

	c := &Cluster{dist: dist, slot: slot, launcher: newLauncher(), extra: properties{}}
	c.stop = sync.OnceValue(c.teardown)
	for _, opt := range opts {
		opt(c)
	}
	if err := c.start(nodes); err != nil {
		return nil, fmt.Errorf("kafkatest: %w", errors.Join(err, c.Stop()))
	}
	return c, nil
}

func (c *Cluster) start(nodes int) error {
	certs, brokerCert, err := makeCerts(filepath.Join(c.slot.dir, "certs"))
	if err != nil {
		return err
	}
	c.Certs = certs

	for id := 1; id <= nodes; id++ {
		c.nodes = append(c.nodes, c.newNode(id))
	}
	clusterID := newClusterID()
	for _, n := range c.nodes {
		if err := c.prepare(n, clusterID, brokerCert); err != nil {
			return err
		}
	}
	return c.startNodes(c.nodes)
}

func (c *Cluster) newNode(id int) *node {
	dir := filepath.Join(c.slot.dir, fmt.Sprintf("node%d", id))
	n := &node{
		id:     id,
		ports:  make(map[Listener]int),
		logDir: filepath.Join(dir, "data"),
		config: filepath.Join(dir, "server.properties"),
		output: filepath.Join(dir, "output.log"),
	}
	for i, l := range listeners {
		n.ports[l] = c.slot.nodePort(id, i)
	}
	return n
}

// prepare writes a node's configuration and does what formatting its storage
// would: the same records, and who it is.
func (c *Cluster) prepare(n *node, clusterID, brokerCert string) error {
	if err := os.CopyFS(n.logDir, os.DirFS(c.dist.formatted())); err != nil {
		return err
	}
	meta := properties{
		"version":      "1",
		"cluster.id":   clusterID,
		"node.id":      strconv.Itoa(n.id),
		"directory.id": newClusterID(),
	}
	return errors.Join(
		c.nodeProperties(n, brokerCert).writeFile(n.config),
		meta.writeFile(filepath.Join(n.logDir, metaProperties)),
	)
}

// startNodes starts processes and waits until they have joined.
func (c *Cluster) startNodes(nodes []*node) error {
	for _, n := range nodes {
		if err := n.start(c.launcher, c.dist); err != nil {
			return err
		}
	}
	return c.waitAllJoined(nodes)
}

func (c *Cluster) waitAllJoined(nodes []*node) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, n := range nodes {
		if err := c.waitJoined(ctx, n); err != nil {
			return fmt.Errorf("node %d did not join: %w; its output ends:\n%s", n.id, err, n.tail())
		}
	}
	return nil
}

// waitJoined waits until every node that answers lists every other, and n is
// in sync wherever it has a replica.
func (c *Cluster) waitJoined(ctx context.Context, n *node) error {
	return poll(ctx, func() error {
		if !n.answers() {
			return errEnded
		}
		answering := c.answering()
		for _, peer := range answering {
			view, err := peer.view(ctx)
			if err != nil {
				return err
			}
			if err := view.lists(answering); err != nil {
				return fmt.Errorf("node %d: %w", peer.id, err)
			}
			if err := view.inSync(n); err != nil {
				return fmt.Errorf("node %d: %w", peer.id, err)
			}
		}
		return nil
	})
}

// Stop kills the nodes and removes everything of the cluster. Only the first
// call has an effect; the others wait for it and return the same error.
func (c *Cluster) Stop() error { return c.stop() }

func (c *Cluster) teardown() error {
	var errs []error
	c.mu.Lock()
	launched := c.launched
	c.mu.Unlock()
	for _, p := range launched {
		errs = append(errs, p.Kill())
	}
	for _, n := range c.nodes {
		errs = append(errs, n.kill())
	}
	c.launcher.close()
	errs = append(errs, c.slot.release())
	return errors.Join(errs...)
}

// Nodes are the IDs of the cluster's nodes, whether they run or not.
func (c *Cluster) Nodes() []int {
	ids := make([]int, len(c.nodes))
	for i, n := range c.nodes {
		ids[i] = n.id
	}
	return ids
}

// Brokers are the addresses of all nodes' [Plaintext] listeners.
func (c *Cluster) Brokers() []string { return c.Addrs(Plaintext) }

// Addrs are the addresses of all nodes' listener of that name, by node.
func (c *Cluster) Addrs(l Listener) []string {
	addrs := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		addrs[i] = n.addr(l)
	}
	return addrs
}

// Kill ends nodes at once, as kill -9 does, and waits until they are gone.
func (c *Cluster) Kill(t testing.TB, nodes ...int) {
	t.Helper()
	c.signal(t, os.Kill, true, nodes)
}

// Shutdown stops nodes in order: they hand their leaderships over first, which
// takes a majority of the cluster that goes on, or a cluster of one.
func (c *Cluster) Shutdown(t testing.TB, nodes ...int) {
	t.Helper()
	c.signal(t, sigShutdown, true, nodes)
}

// Freeze stops nodes in their tracks: connections stay open, and nothing is
// answered until Thaw. After 5 s the other nodes take over its leaderships.
func (c *Cluster) Freeze(t testing.TB, nodes ...int) {
	t.Helper()
	c.signal(t, sigFreeze, false, nodes)
}

// Thaw lets frozen nodes go on.
func (c *Cluster) Thaw(t testing.TB, nodes ...int) {
	t.Helper()
	c.signal(t, sigThaw, false, nodes)
}

// Restart starts nodes that were killed or shut down, on the same ports and
// with the same data, and waits until they are in sync again. Kafka lets a
// killed node back only when its old session has ended, 5 s after the kill.
func (c *Cluster) Restart(t testing.TB, nodes ...int) {
	t.Helper()
	named, err := c.named(nodes)
	if err == nil {
		err = c.startNodes(named)
	}
	if err != nil {
		t.Errorf("kafkatest: %v", err)
	}
}

// WaitInSync waits until running nodes know all others that run, and are in sync
// wherever they have a replica.
func (c *Cluster) WaitInSync(t testing.TB, nodes ...int) {
	t.Helper()
	named, err := c.named(nodes)
	if err == nil {
		err = c.waitAllJoined(named)
	}
	if err != nil {
		t.Errorf("kafkatest: %v", err)
	}
}

func (c *Cluster) signal(t testing.TB, sig os.Signal, wait bool, nodes []int) {
	t.Helper()
	named, err := c.named(nodes)
	if err != nil {
		t.Errorf("kafkatest: %v", err)
	}
	for _, n := range named {
		if err := n.signal(sig, wait); err != nil {
			t.Errorf("kafkatest: %v", err)
		}
	}
}

func (c *Cluster) named(ids []int) ([]*node, error) {
	var named []*node
	for _, id := range ids {
		if id < 1 || id > len(c.nodes) {
			return nil, fmt.Errorf("no node %d in a cluster of %d", id, len(c.nodes))
		}
		named = append(named, c.nodes[id-1])
	}
	return named, nil
}

func (c *Cluster) answering() []*node {
	var answering []*node
	for _, n := range c.nodes {
		if n.answers() {
			answering = append(answering, n)
		}
	}
	return answering
}

func newClusterID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return base64.RawURLEncoding.EncodeToString(id)
}

// errEnded says that waiting longer is useless.
var errEnded = errors.New("the process has ended")

// poll calls check until it succeeds, or the context ends; its error is then
// check's last one.
func poll(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		if ctxErr := pause(ctx, pollInterval); ctxErr != nil {
			return fmt.Errorf("%w: %w", ctxErr, err)
		}
	}
}
