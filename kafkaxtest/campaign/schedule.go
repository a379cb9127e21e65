package main

import (
	"context"
	"errors"
	"fmt"
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
	plain  bool   // kafka-go in place of kafkax
	judged func() // called before the clients' last goroutines are waited for, if it is not nil
}

// step is a fault that begins after a wait, and ends after another.
type step struct {
	after, lasts time.Duration
	fault        fault
}

func newSchedule(seed uint64, length time.Duration, plain bool) schedule {
	r := rand.New(rand.NewPCG(seed, 1))
	s := schedule{seed: seed, length: length, mode: newMode(r), plain: plain}
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
	sim   *kafkaxtest.Sim
	sum   *sum
	mode  mode
	plain bool

	mu      sync.Mutex
	members []member
	names   int            // given to members of plain kafka-go
	work    sync.WaitGroup // leaves and strangers that are under way
}

// member is a consumer in the group, with a loop that runs.
type member struct {
	name  string // and client id
	leave func() error
	crash func() error
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
	var m member
	if c.plain {
		m = c.joinPlain(r)
	} else {
		joined := c.sim.JoinLoop(group, topic, c.mode.consume(r), c.mode.consumerOptions()...)
		m = member{joined.Name, joined.Leave, func() error { joined.Crash(); return nil }}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, m)
}

// take takes a member out of the list, if there is one.
func (c *course) take(r *rand.Rand) (member, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) == 0 {
		return member{}, false
	}
	i := r.IntN(len(c.members))
	m := c.members[i]
	c.members = slices.Delete(c.members, i, i+1)
	return m, true
}

func (c *course) leave(r *rand.Rand) {
	if m, ok := c.take(r); ok {
		c.work.Go(func() { c.end(m.leave) })
	}
}

func (c *course) crash(r *rand.Rand) {
	if m, ok := c.take(r); ok {
		c.work.Go(func() { c.end(m.crash) })
	}
}

// end stops a client, and counts one that does not.
func (c *course) end(stop func() error) {
	if errors.Is(stop(), errStuck) {
		c.sum.trouble("a stop has not returned in " + plainStop.String())
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
		c := &course{sim: sim, sum: sum, mode: s.mode, plain: s.plain}
		r := newRand(s.seed, 2) // faults end while others begin
		sim.Log("seed %d: %s", s.seed, s.mode)
		c.play(s, r)
		rules := s.mode.rules()
		switch {
		case sim.Becomes(30*time.Minute, c.drained):
		case s.plain:
			sum.trouble("did not drain")
			rules.Complete = false // it would say that once more, message by message
		case sim.Members(group) > len(c.members):
			sum.known("a group waits for members that nobody has")
			line = "left: a group that waits for members that nobody has"
			return
		default:
			sim.WaitFor(0, "all to be committed", c.drained)
		}
		for m, ok := c.take(r); ok; m, ok = c.take(r) {
			c.end(m.leave)
		}
		if verbose {
			fmt.Println(strings.Join(sim.History(), "\n"))
		}
		line = c.judge(rules, verbose)
		if s.judged != nil {
			s.judged()
		}
	}, opts...)
	fmt.Printf("%v for %s\n", time.Since(began).Round(time.Millisecond), line)
}

// play is the schedule, until nothing is wrong any more.
func (c *course) play(s schedule, r *rand.Rand) {
	for range s.mode.members {
		c.join(r)
	}
	p := newSender(c.sim, s.mode, "producer", r, s.plain)
	ctx, end := context.WithCancel(context.Background())
	defer end()
	var sending, ending sync.WaitGroup
	sending.Go(func() { p.run(ctx) })
	for _, step := range s.steps {
		time.Sleep(step.after)
		c.sum.fault(step.fault.name)
		over := step.fault.do(r, c)
		ending.Go(func() { time.Sleep(step.lasts); over() })
	}
	ending.Wait()
	end()
	sending.Wait()
	c.end(p.close)
	c.work.Wait()
	if len(c.members) == 0 {
		c.join(r)
	}
}

// drained says whether all is committed.
func (c *course) drained() bool { return c.sim.Lag(group, topic) == 0 }

// judge fails the test with what kafkax broke. What plain kafka-go broke is
// counted.
func (c *course) judge(rules history.Rules, verbose bool) (line string) {
	check := c.sim.Check
	if c.plain {
		check = c.sim.Judge
	}
	report := check(rules)
	c.sum.add(c.mode.loop, report, c.sim.Elapsed())
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
