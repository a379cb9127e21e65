// Command manual-commit handles messages that must not be passed over: when one
// fails for good, it stops, has the cause repaired, and goes on with that very
// message.
//
//	go run ./examples/manual-commit
//
// What to watch for:
//   - ConsumeWithManualCommit asks for a commit after each message and does not
//     wait for it: those handled meanwhile share the next.
//   - A message that failed all its attempts ends the loop with a HandlerError
//     that names it. Nothing of its partition from it on is committed, so the
//     next loop, or the next process, begins there.
//   - Consume would have skipped the message, and with a dead letter topic both
//     loops would go on. Here a missing event would falsify the sums.
//   - No message comes twice, as the stop was in good order. After a crash a
//     few may, those whose commit was still under way.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demo"
	"github.com/bi-common/kafkax/examples/internal/quakes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatalln("manual-commit:", err)
	}
}

// run is main without the process, so that a test can call it.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := demo.Flags("manual-commit", "adds up earthquakes and leaves none out.", stdout)
	breakAt := flags.Int("break-at", 700, "how many messages to add before the adding breaks; 0 for never")
	if err := demo.Parse(flags, args); err != nil {
		return err
	}
	out := log.New(stdout, "", 0)

	cfg, err := kafkax.LoadConsumerFromEnv()
	if err != nil {
		return err
	}
	cfg.Topic = cmp.Or(cfg.Topic, "example-earthquakes")
	cfg.GroupID = cmp.Or(cfg.GroupID, "example-manual-commit")
	stopBroker, err := demo.Broker(ctx, out, &cfg.ConnectionConfig, demo.Topic{Name: cfg.Topic, Fill: quakes.Messages()})
	if err != nil {
		return err
	}
	defer stopBroker()

	consumer, err := kafkax.NewConsumer(kafkax.WithConsumerConfig(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()

	// A service consumes until it is stopped; this program, until nothing is left.
	ctx, release := demo.UntilCaughtUp(ctx, consumer)
	defer release()

	// What is broken here stays so until it is repaired: the ten attempts of the
	// default would take half a minute to find that out.
	retry := kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 3, Jitter: 0.2})

	s := &sums{breakAt: *breakAt, added: map[place]int{}}
	for {
		err := consumer.ConsumeWithManualCommit(ctx, s.add, retry)
		failed, ok := errors.AsType[*kafkax.HandlerError](err)
		if !ok || !errors.Is(failed, errBroken) { // nil: stopped, or caught up
			s.print(out)
			return err
		}
		out.Printf("stopped: at %s[%d]@%d, after %d attempts: %v",
			failed.Topic, failed.Partition, failed.Offset, failed.Attempts, failed.Err)

		// A service would return the error here, be restarted, and perhaps fail
		// again until somebody sees to it.
		s.repair()
		out.Printf("repaired: going on with that message")
	}
}

var errBroken = errors.New("the sums cannot be stored")

// sums is what must not miss a message. Concurrency is 1, the default, so its
// methods are never called at the same time.
type sums struct {
	breakAt int
	added   map[place]int // how often each message was
	largest quakes.Event
}

// place is where a message stands. An event may be in several messages, if its
// producer was run again.
type place struct {
	partition int
	offset    int64
}

// add is the handler.
func (s *sums) add(_ context.Context, msg kafkax.Message) error {
	if s.breakAt > 0 && len(s.added) >= s.breakAt {
		return errBroken
	}
	var e quakes.Event
	if err := json.Unmarshal(msg.Value, &e); err != nil {
		return kafkax.Permanent(fmt.Errorf("decode: %w", err))
	}
	s.added[place{msg.Partition, msg.Offset}]++
	if e.Mag > s.largest.Mag {
		s.largest = e
	}
	return nil
}

func (s *sums) repair() { s.breakAt = 0 }

func (s *sums) print(out *log.Logger) {
	twice := 0
	for _, n := range s.added {
		if n > 1 {
			twice++
		}
	}
	out.Printf("added: %d messages, %d of them more than once", len(s.added), twice)
	out.Printf("largest: %v", s.largest)
}
