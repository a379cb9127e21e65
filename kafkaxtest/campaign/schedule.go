package main

import (
	"fmt"
	chance "math/rand"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bi-common/kafkax/kafkaxtest"
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
	faults: slices.Concat(faults, topicFaults, groupFaults, memoryFaults, memoryTopicFaults),
}

// longTransaction is less than what the checker takes for a standstill: nothing
// behind an open transaction is handled.
const longTransaction = 40 * time.Second

func (st stage) schedule(seed uint64, length time.Duration) schedule {
	r := rand.New(rand.NewPCG(seed, 1))
	s := schedule{seed: seed, length: length, mode: newMode(r, st.nodes...)}
	s.mode.extend(rand.New(rand.NewPCG(seed, 3)))
	allowed := slices.DeleteFunc(slices.Clone(st.faults), func(f fault) bool {
		return !f.fits(s.mode)
	})
	if len(allowed) == 0 {
		return s // of one fault alone that is not for this mode
	}
	for at := time.Duration(0); at < length; {
		wait := time.Duration(r.ExpFloat64() * float64(st.every))
		next := step{wait, time.Duration(r.ExpFloat64() * float64(8*time.Second)), pick(r, allowed...)}
		if strings.HasPrefix(next.fault.name, transactions) {
			next.lasts = min(next.lasts, longTransaction)
		}
		s.steps = append(s.steps, next)
		at += wait
	}
	return s
}

// inPlace is the same schedule of plain kafka-go, whose readers cannot seek in a
// group.
func (s schedule) inPlace() schedule {
	s.plain, s.mode.seeks = true, false
	return s
}

// simulate is a schedule in the simulation.
func simulate(t *testing.T, s schedule, sum *sum, verbose bool) {
	began, line := time.Now(), "" // of the wall clock: inside there is another
	chance.Seed(int64(s.seed))    //nolint:staticcheck // kafkax, kafka-go and the cluster draw from it, and have no other
	n := names{"orders", "orders.dead", "billing"}
	kafkaxtest.Run(t, func(sim *kafkaxtest.Sim) {
		c := &course{schedule: s, names: n, sim: sim, sum: sum, stage: simulation}
		line = c.run(verbose)
		if s.judged != nil {
			s.judged()
		}
	}, append(s.topicsOf(n), kafkaxtest.Nodes(s.mode.nodes), kafkaxtest.Seed(s.seed), kafkaxtest.Identify(identify), kafkaxtest.SpareJoins())...)
	fmt.Printf("%v for %s\n", time.Since(began).Round(time.Millisecond), line)
}
