package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// nodeCount is how many nodes all schedules of a run have in common: with three
// replicas, of which two must be there, one may be away.
const nodeCount = 3

// onNodes is three real brokers, and the wall clock.
var onNodes = stage{
	clock: "wall clock", nodes: []int{nodeCount}, length: 2 * time.Minute, drain: 4 * time.Minute,
	every: 8 * time.Second, pace: 100 * time.Millisecond,
	faults: slices.Concat(faults, topicFaults, groupFaults, nodeFaults, nodeTopicFaults),
}

// nodes are the real brokers.
type nodes struct {
	cluster *kafkatest.Cluster
	all     sync.Mutex // held while one of them is away
}

// nodeFaults are what is done to processes: brokers, and members in one of their
// own.
var nodeFaults = []fault{
	{"node killed", false, func(r *rand.Rand, c *course) func() {
		cluster := c.nodes.cluster
		return c.takeAway(r, history.Down, "killed", cluster.Kill, cluster.Restart)
	}},
	{"node stopped in its tracks", false, func(r *rand.Rand, c *course) func() {
		cluster := c.nodes.cluster
		return c.takeAway(r, history.Stall, "stopped in its tracks", cluster.Freeze, cluster.Thaw)
	}},
	{"member killed", false, func(r *rand.Rand, c *course) func() {
		return c.lose(r, func(m *member) func() { return m.kill })
	}},
	{"member stopped in its tracks", false, func(r *rand.Rand, c *course) func() {
		m := c.take(r, func(m *member) bool { return m.freeze != nil })
		if m == nil {
			return nil
		}
		thaw := m.freeze()
		return func() { thaw(); c.add(m) }
	}},
}

// takeAway takes one node from the cluster, if all are there, until what it
// returns has given it back.
func (c *course) takeAway(r *rand.Rand, kind history.FaultKind, how string, take, give func(t testing.TB, nodes ...int)) func() {
	if !c.nodes.all.TryLock() {
		return nil
	}
	node := r.IntN(c.mode.nodes)
	id := c.nodes.cluster.Nodes()[node]
	over := c.fault(kind, "", fmt.Sprintf("node %d %s", node, how))
	take(c.sim.T, id)
	return func() {
		defer c.nodes.all.Unlock()
		defer over()
		give(c.sim.T, id)
		c.nodes.cluster.WaitInSync(c.sim.T, id)
	}
}

// fault records what the simulation does not see, and returns what ends it.
func (c *course) fault(kind history.FaultKind, target, text string) (over func()) {
	f := history.Fault{Kind: kind, Target: target, Text: text, Began: time.Now()}
	n := c.sim.Recorded().Add(f)
	c.sim.Log("%v", f)
	return func() {
		f.Ended = time.Now()
		c.sim.Recorded().Set(n, f)
		c.sim.Log("over: %v", f)
	}
}

// perform runs a schedule on the nodes. Its topics and its group have names of
// their own, as the cluster is that of all schedules.
func (n *nodes) perform(t *testing.T, s schedule, sum *sum, verbose bool) {
	t.Helper()
	own := names{kafkatest.Name(t), kafkatest.Name(t), kafkatest.Name(t)}
	sim := kafkaxtest.Start(t, append(s.topicsOf(own), kafkaxtest.Brokers(n.cluster.Brokers()...), kafkaxtest.Identify(identify), kafkaxtest.SpareJoins())...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(keep(sim, s.seed))
		}
	})
	c := &course{schedule: s, names: own, sim: sim, sum: sum, stage: onNodes, nodes: n}
	fmt.Println(c.run(verbose))
}

// keep writes what has happened to a file, and says where it is: the seed will
// not bring about the same again.
func keep(sim *kafkaxtest.Sim, seed uint64) string {
	f, err := os.CreateTemp("", fmt.Sprintf("campaign-seed-%d-*.log", seed))
	if err != nil {
		return fmt.Sprintf("the history is lost: %v", err)
	}
	events := sim.Recorded().Tail(len(sim.Recorded().Events()))
	_, err = fmt.Fprintf(f, "%s\n\n%s\n", strings.Join(sim.History(), "\n"), events)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Sprintf("the history is not whole in %s: %v", f.Name(), err)
	}
	return "the whole history is in " + f.Name()
}
