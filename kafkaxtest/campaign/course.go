package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// course is a schedule on its way.
type course struct {
	schedule
	names

	sim   *kafkaxtest.Sim
	sum   *sum
	stage stage

	nodes     *nodes // nil in the simulation
	processes atomic.Int64
	plains    atomic.Int64 // members of plain kafka-go there were

	transactions atomic.Int64 // that there were
	letters      sync.Mutex   // held while there is no dead letter topic
	settings     sync.Mutex   // held while the topic has other settings
	there        sync.RWMutex // held while it is away, by others while it must not go
	clocks       clocks

	peace time.Time // from when on nobody seeks, and no handler blocks: see consume

	mu      sync.Mutex
	members []*member
	modes   map[string]mode // of all members that there were
	work    sync.WaitGroup  // leaves and strangers that are under way
}

// member is one of the group. What cannot be done to it is nil.
type member struct {
	name   string // and client id
	leave  func()
	crash  func() // of one in this process: its connections carry nothing more
	kill   func() // of one in a process of its own
	freeze func() (thaw func())
}

// target is a client, a node or everybody.
func (c *course) target(r *rand.Rand) kafkaxtest.Target {
	switch r.IntN(4) {
	case 0:
		return kafkaxtest.Target{Nodes: []int{r.IntN(c.mode.nodes)}}
	case 1:
		return kafkaxtest.Target{Client: "producer"}
	case 2:
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.members) > 0 {
			return kafkaxtest.Target{Client: pick(r, c.members...).name}
		}
	}
	return kafkaxtest.Target{}
}

func (c *course) join(r *rand.Rand) {
	if m := c.joiner(r); m != nil { // else the test has failed
		c.add(m)
	}
}

// joiner is a new member, which nothing is done to before it is added.
func (c *course) joiner(r *rand.Rand) *member {
	if c.nodes != nil && !c.plain && r.IntN(3) > 0 {
		which := c.which(r)
		return c.is(c.launch(r.Uint64(), which), which)
	}
	return c.joinHere(r)
}

// joinHere is a joiner in this process.
func (c *course) joinHere(r *rand.Rand) *member {
	which := c.which(r)
	if c.plain {
		return c.is(c.joinPlain(r, c.mode.as(which)), which)
	}
	here := c.mode.as(which).join(c.sim, c.names, r, c.peace)
	return c.is(&member{name: here.Name, leave: func() { _ = here.Leave() }, crash: here.Crash}, which)
}

// which is what a member's mode is made of.
func (c *course) which(r *rand.Rand) uint64 {
	if c.mode.mixed {
		return r.Uint64()
	}
	return 0
}

// is notes the mode of a member.
func (c *course) is(m *member, which uint64) *member {
	if m != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.modes[m.name] = c.mode.as(which)
	}
	return m
}

func (c *course) add(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, m)
}

// take takes a member out of the list that may be; nil if there is none.
func (c *course) take(r *rand.Rand, may func(*member) bool) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	var which []int
	for i, m := range c.members {
		if may(m) {
			which = append(which, i)
		}
	}
	if len(which) == 0 {
		return nil
	}
	i := pick(r, which...)
	m := c.members[i]
	c.members = slices.Delete(c.members, i, i+1)
	return m
}

func anyone(*member) bool { return true }

func (c *course) leave(r *rand.Rand) {
	if m := c.take(r, anyone); m != nil {
		c.work.Go(m.leave)
	}
}

// lose ends a member that can be ended so, and has another join later.
func (c *course) lose(r *rand.Rand, how func(*member) func()) func() {
	m := c.take(r, func(m *member) bool { return how(m) != nil })
	if m == nil {
		return nil
	}
	c.work.Go(how(m))
	return func() { c.join(r) }
}

// whole calls f while all nodes are there, and the topic is. It says whether they
// were: what is asked of the cluster could not be done otherwise.
func (c *course) whole(f func()) bool {
	if !c.there.TryRLock() {
		return false
	}
	defer c.there.RUnlock()
	if c.nodes != nil {
		if !c.nodes.all.TryLock() {
			return false
		}
		defer c.nodes.all.Unlock()
	}
	f()
	return true
}

func (c *course) moveLeader(r *rand.Rand) func() {
	topic := c.anyTopic(r)
	if !c.whole(func() { c.sim.MoveLeader(topic, r.IntN(c.mode.partitions), r.IntN(c.mode.nodes)) }) {
		return nil
	}
	return nothing
}

// restartNodes is what a rolling upgrade of the cluster does: one after the other is
// away, and back before the next goes.
func (c *course) restartNodes() {
	const away, back = 3 * time.Second, 2 * time.Second
	for node := range c.mode.nodes {
		up := c.sim.Down(node)
		time.Sleep(away)
		up()
		time.Sleep(back)
	}
}

func (c *course) stranger() {
	c.work.Go(func() {
		if err := c.sim.Stranger(c.group); err != nil {
			c.sim.Log("the stranger: %v", err)
		}
	})
}

// transaction begins one, of which half are aborted.
func (c *course) transaction(r *rand.Rand) func() {
	if !c.there.TryRLock() {
		return nil
	}
	t := c.sim.Begin(c.together(r)...)
	end := t.Abort
	if r.IntN(2) == 0 {
		end = t.Commit
	}
	return func() {
		defer c.there.RUnlock()
		end()
	}
}

// together is the messages of one transaction.
func (c *course) together(r *rand.Rand) (msgs []kafkax.Message) {
	n := c.transactions.Add(1)
	for i := range 1 + r.IntN(5) {
		msgs = append(msgs, kafkax.Message{
			Topic: c.anyTopic(r), Key: fmt.Append(nil, "key-", r.IntN(20)), Value: fmt.Append(nil, "transaction-", n, "-", i, " "),
		})
	}
	return msgs
}

// run goes through a schedule, lets all end, and judges. It returns what is
// worth a line.
func (c *course) run(verbose bool) (line string) {
	if verbose {
		defer func() { fmt.Println(strings.Join(c.sim.History(), "\n")) }()
	}
	r := c.rand(0)
	c.sim.Log("seed %d: %s", c.seed, c.mode)
	c.peace, c.modes = time.Now().Add(c.length), map[string]mode{}
	for range c.mode.members {
		c.join(r)
	}
	c.disturb(r)
	if len(c.members) == 0 {
		c.join(r)
	}
	rules := c.rules()
	switch {
	case c.sim.Becomes(c.stage.drain, c.drained):
	case c.plain:
		c.sum.trouble("did not drain")
		rules.Complete = false // it would say that once more, message by message
	case c.nodes == nil && c.sim.Members(c.group) > len(c.members)*len(c.of(c.mode.topics)): // real nodes let go of a member that nobody has
		c.sum.known("a group waits for members that nobody has")
		return "left: a group that waits for members that nobody has"
	default:
		c.sim.WaitFor(0, "all to be committed", c.drained)
	}
	for m := c.take(r, anyone); m != nil; m = c.take(r, anyone) {
		m.leave()
	}
	return c.judge(rules, verbose)
}

// rand is the numbers of one step, counted from 1, or of what is before and after
// all of them. What one step draws changes nothing for the others.
func (c *course) rand(step int) *rand.Rand { return rand.New(rand.NewPCG(c.seed, uint64(2+step))) }

// disturb sends messages while faults come and go. Whatever happens, it returns
// when all of them have gone.
func (c *course) disturb(r *rand.Rand) {
	p := newSender(c, "producer", r)
	ctx, end := context.WithCancel(context.Background())
	var sending, ending sync.WaitGroup
	defer func() {
		ending.Wait()
		end()
		sending.Wait()
		if errors.Is(p.close(), errStuck) {
			c.sum.trouble(errStuck.Error())
		}
		c.work.Wait()
	}()
	sending.Go(func() { p.run(ctx) })
	for i, step := range c.steps {
		time.Sleep(step.after)
		over := step.fault.do(c.rand(1+i), c)
		if over == nil {
			continue
		}
		c.sum.fault(step.fault.name)
		ending.Go(func() { time.Sleep(step.lasts); over() })
	}
}

// judge fails the test with what kafkax broke. What plain kafka-go broke is
// counted.
func (c *course) judge(rules history.Rules, verbose bool) (line string) {
	report := c.sim.Judge(rules)
	c.sum.add(c.mode.loop, report, c.sim.Elapsed())
	c.sum.also(c.mode)
	if report.Err() != nil && !c.plain {
		c.sim.T.Fatal(report.Explain(c.sim.Recorded()))
	}
	line = fmt.Sprintf("%v, %d sends, %d deliveries, %d rebalances; %s", c.sim.Elapsed().Round(time.Second),
		total(report.Sends), total(report.Deliveries), report.Rebalances, c.mode)
	if c.plain {
		line = fmt.Sprintf("violations: %v; %s", report.Found, line)
		if verbose {
			fmt.Println(report)
		}
	}
	return line
}
