// Campaign runs kafkax for days of virtual time under faults, and judges what it
// saw: every schedule is made from a seed, of a way to use kafkax (a mode) and of
// faults that come and go. What a seed breaks, it breaks again, in nine of ten runs
// at least:
//
//	go run ./kafkaxtest/campaign -duration 2h -seed 1
//	go run ./kafkaxtest/campaign -only 4711
//
// Of a seed are the schedule, what is sent, what handlers do with each message, how
// long each request and each answer is on its way, who leads which partition, and
// what kafkax and kafka-go draw by chance. It runs on one thread. What still varies
// is which of several cases that are ready a select takes, in which order a map is
// gone through, and which of several timers of the same instant fires first, in
// kafkax, kafka-go and the cluster in memory. Two runs are mostly the same to the
// nanosecond for minutes; then something arrives some microseconds sooner, or
// another member leads the group.
//
// With -real it runs the same against three nodes of Apache Kafka, on the wall
// clock: nodes are killed and stopped in their tracks too, and most members are
// processes of their own that this happens to. Then a seed says what is done, and
// not what comes of it.
//
//	go run ./kafkaxtest/campaign -real -duration 1h -seed 1
//
// It prints a line for each seed, and at the end what was run: schedules, time,
// faults by kind, messages, rebalances, duplicates and what explains them.
// It ends with 1 if a promise was broken.
//
// With -plain, kafka-go is used as its README does in place of kafkax, in the same
// schedules, and judged by the same promises, so that the two sums may stand side
// by side. What it breaks is counted, and fails nothing. What kafka-go has no way
// to do it does not: its readers cannot seek in a group.
//
//go:debug randseednop=0
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

func main() {
	takePart()
	var (
		duration = flag.Duration("duration", time.Minute, "how long to go on, of the wall clock")
		seed     = flag.Uint64("seed", 1, "the first seed; the next ones follow")
		seeds    = flag.Uint64("seeds", math.MaxUint64, "how many seeds at most")
		only     = flag.Uint64("only", 0, "run this seed alone, and print its history")
		alone    = flag.String("fault", "", "the one fault that comes, by its name in the sum; all of them if it is empty")
		first    = flag.Bool("first", false, "end with the first seed that breaks something")
		plain    = flag.Bool("plain", false, "run plain kafka-go in place of kafkax, in the simulation")
		apart    = flag.Bool("apart", false, "print what the seed of -only came to for the process that asked for it")
		length   = flag.Duration("length", 0, "how long a schedule is: 10m of the virtual clock if it is 0, or 2m with -real")
		onReal   = flag.Bool("real", false, "run against three real nodes, which needs Java and, the first time, Maven")
	)
	testing.Init()
	flag.Parse()
	if *plain && *onReal {
		fmt.Fprintln(os.Stderr, "-plain runs in the simulation alone: leave out -real")
		os.Exit(2)
	}
	campaign := func(t *testing.T) {
		where, perform := simulation, simulate
		if !*onReal {
			runtime.GOMAXPROCS(1) // several threads would take what is ready at once in an order of their own
		} else {
			cluster, err := kafkatest.Run(nodeCount, cleaning...)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := cluster.Stop(); err != nil {
					t.Error(err)
				}
			}()
			where, perform = onNodes, (&nodes{cluster: cluster}).perform
		}
		if *length == 0 {
			*length = where.length
		}
		if *alone != "" {
			where.faults = slices.DeleteFunc(slices.Clone(where.faults), func(f fault) bool { return f.name != *alone })
			if len(where.faults) == 0 {
				t.Fatalf("there is no fault %q here", *alone)
			}
		}
		schedule := func(seed uint64) schedule {
			if *plain {
				return where.schedule(seed, *length).inPlace()
			}
			return where.schedule(seed, *length)
		}
		sum := newSum(where.clock)
		if *apart {
			t.Run(fmt.Sprint("seed ", *only), func(t *testing.T) { runForAnother(t, schedule(*only), sum) })
			return
		}
		defer func() { fmt.Print(sum) }()
		if *only != 0 {
			t.Run(fmt.Sprint("seed ", *only), func(t *testing.T) { perform(t, schedule(*only), sum, true) })
			return
		}
		for begin := time.Now(); *seeds > 0 && time.Since(begin) < *duration; *seed, *seeds = *seed+1, *seeds-1 {
			if len(schedule(*seed).steps) == 0 {
				continue // the one fault is not for its mode
			}
			fmt.Printf("seed %d: ", *seed)
			if *plain {
				line, err := runApart(t.Context(), *seed, *length, *alone, sum)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Print(line)
				continue
			}
			ok := t.Run(fmt.Sprint("seed ", *seed), func(t *testing.T) { perform(t, schedule(*seed), sum, false) })
			if !ok && *first {
				return
			}
		}
	}
	// A bubble of testing/synctest needs a test, and so does the program.
	testing.Main(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Campaign", F: campaign}}, nil, nil)
}
