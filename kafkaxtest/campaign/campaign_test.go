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
