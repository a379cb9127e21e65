package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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

func newSchedule(seed uint64, length time.Duration) schedule {
	r := rand.New(rand.NewPCG(seed, 1))
	s := schedule{seed: seed, length: length, mode: newMode(r)}
	allowed := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		return f.name == "dead letter topic down" && !s.mode.deadLetters || s.mode.calm && !f.calm
	})
	for at := time.Duration(0); at < length; {
		wait := time.Duration(r.ExpFloat64() * float64(20*time.Second))
		s.steps = append(s.steps, step{wait, time.Duration(r.ExpFloat64() * float64(8*time.Second)), pick(r, allowed...)})
		at += wait
	}
	return s
}

// course is a schedule on its way.
type course struct {
	sim  *kafkaxtest.Sim
	mode mode

	mu      sync.Mutex
	members []*kafkaxtest.Member
	work    sync.WaitGroup // leaves and strangers that are under way
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
			return kafkaxtest.Target{Client: pick(r, c.members...).Name}
		}
	}
	return kafkaxtest.Target{}
}

func (c *course) join(r *rand.Rand) {
	m := c.sim.JoinLoop(group, topic, c.mode.consume(r), c.mode.consumerOptions()...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, m)
}

// take takes a member out of the list; nil if there is none.
func (c *course) take(r *rand.Rand) *kafkaxtest.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) == 0 {
		return nil
	}
	i := r.IntN(len(c.members))
	m := c.members[i]
	c.members = slices.Delete(c.members, i, i+1)
	return m
}

func (c *course) leave(r *rand.Rand) {
	if m := c.take(r); m != nil {
		c.work.Go(func() { _ = m.Leave() })
	}
}

func (c *course) crash(r *rand.Rand) {
	if m := c.take(r); m != nil {
		c.work.Go(m.Crash)
	}
}

func (c *course) stranger() {
	c.work.Go(func() {
		if err := c.sim.Stranger(group); err != nil {
			c.sim.Log("the stranger: %v", err)
		}
	})
}

// run goes through a schedule, lets all end, and judges.
func run(t *testing.T, s schedule, sum *sum, verbose bool) {
	began, line := time.Now(), "" // of the wall clock: inside there is another
	opts := []kafkaxtest.Option{
		kafkaxtest.Nodes(s.mode.nodes), kafkaxtest.Seed(s.seed), kafkaxtest.Identify(identify),
		kafkaxtest.Topic(topic, s.mode.partitions), kafkaxtest.Topic(dead, 1), kafkaxtest.SpareJoins(),
	}
	kafkaxtest.Run(t, func(sim *kafkaxtest.Sim) {
		c := &course{sim: sim, mode: s.mode}
		r := newRand(s.seed, 2) // faults end while others begin
		sim.Log("seed %d: %s", s.seed, s.mode)
		for range s.mode.members {
			c.join(r)
		}
		p := newSender(sim, s.mode, "producer", r)
		ctx, end := context.WithCancel(context.Background())
		var sending, ending sync.WaitGroup
		sending.Go(func() { p.run(ctx) })
		for _, step := range s.steps {
			time.Sleep(step.after)
			sum.fault(step.fault.name)
			over := step.fault.do(r, c)
			ending.Go(func() { time.Sleep(step.lasts); over() })
		}
		ending.Wait()
		end()
		sending.Wait()
		_ = p.close()
		c.work.Wait()
		if len(c.members) == 0 {
			c.join(r)
		}
		all := func() bool { return sim.Lag(group, topic) == 0 }
		if !sim.Becomes(30*time.Minute, all) && sim.Members(group) > len(c.members) {
			sum.known("a group waits for members that nobody has")
			line = "left: a group that waits for members that nobody has"
			return
		}
		sim.WaitFor(0, "all to be committed", all)
		for m := c.take(r); m != nil; m = c.take(r) {
			_ = m.Leave()
		}
		if verbose {
			fmt.Println(strings.Join(sim.History(), "\n"))
		}
		report := sim.Check(s.mode.rules())
		sum.add(report, sim.Elapsed())
		line = fmt.Sprintf("%v, %d sends, %d deliveries, %d rebalances; %s", sim.Elapsed().Round(time.Second),
			total(report.Sends), total(report.Deliveries), report.Rebalances, s.mode)
	}, opts...)
	fmt.Printf("%v for %s\n", time.Since(began).Round(time.Millisecond), line)
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
	virtual    time.Duration
	faults     map[string]int
	sends      map[history.SendOutcome]int
	deliveries map[history.Outcome]int
	duplicates map[history.Cause]int
	rebalances int
	letters    int
	left       map[string]int // what is known and not mended, by kind
}

func newSum() *sum {
	return &sum{
		faults: map[string]int{}, sends: map[history.SendOutcome]int{}, deliveries: map[history.Outcome]int{},
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

func (s *sum) add(r *history.Report, virtual time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedules++
	s.virtual += virtual
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
	fmt.Fprintf(&b, "%d schedules without a violation, %v of virtual time, %d rebalances, %d dead letters\n",
		s.schedules, s.virtual.Round(time.Minute), s.rebalances, s.letters)
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
