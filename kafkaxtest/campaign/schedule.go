package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// schedule is what a seed says.
type schedule struct {
	seed   uint64
	length time.Duration
	mode   mode
	steps  []step
}

// step is a fault that begins after a wait, and ends after another.
type step struct {
	after, lasts time.Duration
	fault        fault
}

// stage is where schedules take place.
type stage struct {
	clock  string        // which time it is
	nodes  []int         // as many, one of these
	length time.Duration // of a schedule, where nothing else is said
	drain  time.Duration // how long what is left may take at the end
	every  time.Duration // between two faults, on average
	pace   time.Duration // between two messages, on average, where handlers are quick
	faults []fault
}

var simulation = stage{
	clock: "virtual time", nodes: []int{1, 3}, length: 10 * time.Minute, drain: 30 * time.Minute,
	every: 20 * time.Second, pace: time.Second,
	faults: slices.Concat(faults, memoryFaults),
}

func (st stage) schedule(seed uint64, length time.Duration) schedule {
	r := rand.New(rand.NewPCG(seed, 1))
	s := schedule{seed: seed, length: length, mode: newMode(r, st.nodes...)}
	allowed := slices.DeleteFunc(slices.Clone(st.faults), func(f fault) bool {
		return f.name == "dead letter topic down" && !s.mode.deadLetters || s.mode.calm && !f.calm
	})
	for at := time.Duration(0); at < length; {
		wait := time.Duration(r.ExpFloat64() * float64(st.every))
		s.steps = append(s.steps, step{wait, time.Duration(r.ExpFloat64() * float64(8*time.Second)), pick(r, allowed...)})
		at += wait
	}
	return s
}

// course is a schedule on its way.
type course struct {
	names

	sim   *kafkaxtest.Sim
	seed  uint64
	mode  mode
	stage stage

	nodes     *nodes // nil in the simulation
	processes atomic.Int64

	mu      sync.Mutex
	members []*member
	work    sync.WaitGroup // leaves and strangers that are under way
}

// member is one of the group. What cannot be done to it is nil.
type member struct {
	name   string
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
	var m *member
	if c.nodes != nil && r.IntN(3) > 0 {
		m = c.launch(r.Uint64())
	} else {
		here := c.sim.JoinLoop(c.group, c.topic, c.mode.consume(r), c.mode.consumerOptions(c.dead)...)
		m = &member{name: here.Name, leave: func() { _ = here.Leave() }, crash: here.Crash}
	}
	if m == nil {
		return // the test has failed
	}
	c.add(m)
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

// moveLeader does not while a node is away: it could not be done.
func (c *course) moveLeader(r *rand.Rand) func() {
	if c.nodes != nil {
		if !c.nodes.all.TryLock() {
			return nil
		}
		defer c.nodes.all.Unlock()
	}
	c.sim.MoveLeader(c.topic, r.IntN(c.mode.partitions), r.IntN(c.mode.nodes))
	return nothing
}

func (c *course) stranger() {
	c.work.Go(func() {
		if err := c.sim.Stranger(c.group); err != nil {
			c.sim.Log("the stranger: %v", err)
		}
	})
}

// simulate is a schedule in the simulation.
func simulate(t *testing.T, s schedule, sum *sum, verbose bool) {
	began, line := time.Now(), "" // of the wall clock: inside there is another
	n := names{"orders", "orders.dead", "billing"}
	kafkaxtest.Run(t, func(sim *kafkaxtest.Sim) {
		c := &course{sim: sim, seed: s.seed, mode: s.mode, names: n, stage: simulation}
		line = c.run(s, sum, verbose)
	}, kafkaxtest.Nodes(s.mode.nodes), kafkaxtest.Seed(s.seed), kafkaxtest.Identify(identify),
		kafkaxtest.Topic(n.topic, s.mode.partitions), kafkaxtest.Topic(n.dead, 1), kafkaxtest.SpareJoins())
	fmt.Printf("%v for %s\n", time.Since(began).Round(time.Millisecond), line)
}

// run goes through a schedule, lets all end, and judges. It returns what is
// worth a line.
func (c *course) run(s schedule, sum *sum, verbose bool) (line string) {
	if verbose {
		defer func() { fmt.Println(strings.Join(c.sim.History(), "\n")) }()
	}
	r := newRand(s.seed, 2) // faults end while others begin
	c.sim.Log("seed %d: %s", s.seed, s.mode)
	for range s.mode.members {
		c.join(r)
	}
	c.disturb(s, sum, r)
	if len(c.members) == 0 {
		c.join(r)
	}
	all := func() bool { return c.sim.Lag(c.group, c.topic) == 0 }
	// Real nodes let go of a member that nobody has.
	if !c.sim.Becomes(c.stage.drain, all) && c.nodes == nil && c.sim.Members(c.group) > len(c.members) {
		sum.known("a group waits for members that nobody has")
		return "left: a group that waits for members that nobody has"
	}
	c.sim.WaitFor(0, "all to be committed", all)
	for m := c.take(r, anyone); m != nil; m = c.take(r, anyone) {
		m.leave()
	}
	report := c.sim.Check(s.mode.rules())
	sum.add(report, c.sim.Elapsed())
	return fmt.Sprintf("%v, %d sends, %d deliveries, %d rebalances; %s", c.sim.Elapsed().Round(time.Second),
		total(report.Sends), total(report.Deliveries), report.Rebalances, s.mode)
}

// disturb sends messages while faults come and go. Whatever happens, it returns
// when all of them have gone.
func (c *course) disturb(s schedule, sum *sum, r *rand.Rand) {
	p := newSender(c, "producer", r)
	ctx, end := context.WithCancel(context.Background())
	var sending, ending sync.WaitGroup
	defer func() {
		ending.Wait()
		end()
		sending.Wait()
		_ = p.close()
		c.work.Wait()
	}()
	sending.Go(func() { p.run(ctx) })
	for _, step := range s.steps {
		time.Sleep(step.after)
		over := step.fault.do(r, c)
		if over == nil {
			continue
		}
		sum.fault(step.fault.name)
		ending.Go(func() { time.Sleep(step.lasts); over() })
	}
}

func total[K comparable](m map[K]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// sum is what all schedules came to.
type sum struct {
	mu         sync.Mutex
	schedules  int
	clock      string
	time       time.Duration
	faults     map[string]int
	sends      map[history.SendOutcome]int
	deliveries map[history.Outcome]int
	duplicates map[history.Cause]int
	rebalances int
	letters    int
	left       map[string]int // what is known and not mended, by kind
}

func newSum(clock string) *sum {
	return &sum{
		clock: clock, faults: map[string]int{}, sends: map[history.SendOutcome]int{}, deliveries: map[history.Outcome]int{},
		duplicates: map[history.Cause]int{}, left: map[string]int{},
	}
}

func (s *sum) fault(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[name]++
}

// known counts a schedule that met what later work mends.
func (s *sum) known(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left[what]++
}

func (s *sum) add(r *history.Report, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedules++
	s.time += took
	s.rebalances += r.Rebalances
	s.letters += r.Letters
	merge(s.sends, r.Sends)
	merge(s.deliveries, r.Deliveries)
	merge(s.duplicates, r.Duplicates)
}

func merge[K comparable](into, from map[K]int) {
	for k, n := range from {
		into[k] += n
	}
}

func (s *sum) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d schedules without a violation, %v of %s, %d rebalances, %d dead letters\n",
		s.schedules, s.time.Round(time.Second), s.clock, s.rebalances, s.letters)
	fmt.Fprintf(&b, "sends %v; deliveries %v; explained duplicates %v\nfaults:\n", s.sends, s.deliveries, s.duplicates)
	for _, name := range slices.Sorted(maps.Keys(s.faults)) {
		fmt.Fprintf(&b, "%8d %s\n", s.faults[name], name)
	}
	fmt.Fprintln(&b, "known, and not counted above:")
	for what, n := range s.left {
		fmt.Fprintf(&b, "%8d %s\n", n, what)
	}
	fmt.Fprintln(&b, "left out:")
	for _, what := range leftOut {
		fmt.Fprintf(&b, "         %s\n", what)
	}
	return b.String()
}
