// Campaign runs kafkax for days of virtual time under faults, and judges what it
// saw: every schedule is made from a seed, of a way to use kafkax (a mode) and of
// faults that come and go. What a seed breaks, it breaks again:
//
//	go run ./kafkaxtest/campaign -duration 2h -seed 1
//	go run ./kafkaxtest/campaign -only 4711
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
package main

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

func main() {
	takePart()
	var (
		duration = flag.Duration("duration", time.Minute, "how long to go on, of the wall clock")
		seed     = flag.Uint64("seed", 1, "the first seed; the next ones follow")
		only     = flag.Uint64("only", 0, "run this seed alone, and print its history")
		first    = flag.Bool("first", false, "end with the first seed that breaks something")
		length   = flag.Duration("length", 0, "how long a schedule is: 10m of the virtual clock if it is 0, or 2m with -real")
		onReal   = flag.Bool("real", false, "run against three real nodes, which needs Java and, the first time, Maven")
	)
	testing.Init()
	flag.Parse()
	campaign := func(t *testing.T) {
		where, perform := simulation, simulate
		if *onReal {
			cluster, err := kafkatest.Run(nodeCount)
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
		sum := newSum(where.clock)
		defer func() { fmt.Print(sum) }()
		if *only != 0 {
			t.Run(fmt.Sprint("seed ", *only), func(t *testing.T) { perform(t, where.schedule(*only, *length), sum, true) })
			return
		}
		for begin := time.Now(); time.Since(begin) < *duration; *seed++ {
			fmt.Printf("seed %d: ", *seed)
			ok := t.Run(fmt.Sprint("seed ", *seed), func(t *testing.T) { perform(t, where.schedule(*seed, *length), sum, false) })
			if !ok && *first {
				return
			}
		}
	}
	// A bubble of testing/synctest needs a test, and so does the program.
	testing.Main(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Campaign", F: campaign}}, nil, nil)
}
