package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// The campaign has processes of its own: members on real nodes, and schedules of
// plain kafka-go. Here they are this test program once more.
func TestMain(m *testing.M) {
	takePart()
	if len(os.Args) > 1 && os.Args[1] == "-plain" {
		main()
		return
	}
	os.Exit(kafkatest.M{M: m}.Run())
}

// Some schedules, for as long as a test may take. What a seed breaks is broken
// again by: go run ./kafkaxtest/campaign -only SEED.
func TestCampaign(t *testing.T) { //nolint:paralleltest // its schedules share the time
	bound := time.Minute
	if testing.Short() {
		bound = 10 * time.Second
	}
	sum := newSum(simulation.clock)
	for began, seed := time.Now(), uint64(1); time.Since(began) < bound; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { simulate(t, simulation.schedule(seed, simulation.length), sum, false) })
	}
	t.Log(sum)
}

// The same seed is the same schedule.
func TestScheduleIsOfItsSeed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		a, b := onNodes.schedule(seed, time.Hour), onNodes.schedule(seed, time.Hour)
		if a.mode != b.mode || len(a.steps) != len(b.steps) {
			t.Fatalf("seed %d: %v and %v", seed, a.mode, b.mode)
		}
		for i := range a.steps {
			if a.steps[i].fault.name != b.steps[i].fault.name || a.steps[i].after != b.steps[i].after || a.steps[i].lasts != b.steps[i].lasts {
				t.Fatalf("seed %d, step %d differs", seed, i)
			}
		}
	}
}

// All that a mode may have comes up.
func TestModesAreDrawn(t *testing.T) {
	t.Parallel()
	sum := newSum(simulation.clock)
	const seeds = 400
	for seed := range uint64(seeds) {
		m := simulation.schedule(seed, time.Minute).mode
		sum.also(m)
		if h := m.handler; m.pulls() && (h.stuck > 0 || h.deaf > 0 || h.fails > 0) {
			t.Errorf("seed %d: a program that pulls has nobody to end its handling: %v", seed, m)
		}
	}
	for what, n := range sum.Also {
		if n == seeds {
			t.Errorf("all schedules have %s", what)
		}
	}
	for _, what := range []string{"several topics", "seeks", "start at the latest", "unlike members", "stuck handlers", "deaf handlers"} {
		if sum.Also[what] < seeds/20 {
			t.Errorf("%d of %d schedules with %s", sum.Also[what], seeds, what)
		}
	}
}

// Members of one group are unlike where the mode says so, each by its number alone,
// and can be in one group: they have a balancer in common.
func TestMembersAreUnlike(t *testing.T) {
	t.Parallel()
	m := simulation.schedule(1, time.Minute).mode
	if m.mixed = false; m.as(7) != m {
		t.Error("a member is unlike where none should be")
	}
	m.mixed = true
	loops := map[string]bool{}
	for which := range uint64(50) {
		one := m.as(which)
		if one != m.as(which) {
			t.Fatalf("member %d differs from itself", which)
		}
		loops[one.loop] = true
		balancers := one.tuning.balancers()
		if len(balancers) > 0 && balancers[len(balancers)-1].ProtocolName() != "range" {
			t.Errorf("member %d shares no balancer with the default: %v", which, balancers)
		}
	}
	if len(loops) != 5 {
		t.Errorf("only %v", loops)
	}
}
