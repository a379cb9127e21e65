// Command replay handles again what was written since a point in time: after a
// bug was fixed, or to fill a new table.
//
//	go run ./examples/replay -from 2018-02-05T00:00:00Z
//
// What to watch for:
//   - SetOffsetAt moves each partition to its first message that is not older
//     than that. With SetOffset it is all that moves a committed offset back.
//   - The new position is the group's: it is committed, and outlives this
//     process. To leave the group's work alone, replay in a group of your own,
//     set by KAFKAX_CONSUMER_GROUP_ID.
//   - It moves the partitions that this member has. So stop the other members
//     before, or theirs stay where they are.
//   - What was handled before is handled again, so the handler must bear that.
//   - Times are those the producer gave. If they are not in order within a
//     partition, older messages are among those behind the first.
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
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demo"
	"github.com/bi-common/kafkax/examples/internal/quakes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatalln("replay:", err)
	}
}

// run is main without the process, so that a test can call it.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := demo.Flags("replay", "handles again what was written since a point in time.", stdout)
	var from time.Time
	flags.TextVar(&from, "from", time.Date(2018, 2, 5, 0, 0, 0, 0, time.UTC), "since `when`, as in RFC 3339; the data is of 31 January to 7 February 2018")
	if err := demo.Parse(flags, args); err != nil {
		return err
	}
	out := log.New(stdout, "", 0)

	cfg, err := kafkax.LoadConsumerFromEnv()
	if err != nil {
		return err
	}
	cfg.Topic = cmp.Or(cfg.Topic, "example-earthquakes-2018")
	cfg.GroupID = cmp.Or(cfg.GroupID, "example-replay")
	stopBroker, err := demo.Broker(ctx, out, &cfg.ConnectionConfig, demo.Topic{Name: cfg.Topic, Fill: timed()})
	if err != nil {
		return err
	}
	defer stopBroker()

	consumer, err := kafkax.NewConsumer(kafkax.WithConsumerConfig(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()

	// Before the loop: it applies to what the group gives this member. While a
	// loop runs it takes effect at once.
	if err := consumer.SetOffsetAt(ctx, from); err != nil {
		return err
	}

	// A service would now go on for ever; this program, until nothing is left.
	ctx, release := demo.UntilCaughtUp(ctx, consumer)
	defer release()

	r := &replayed{}
	err = consumer.Consume(ctx, r.handle, kafkax.WithOnFailure(kafkax.FailStop))
	out.Printf("replayed: %d messages since %s", r.count, from.Format(time.RFC3339))
	if r.count > 0 {
		out.Printf("oldest: %s", r.oldest.UTC().Format(time.RFC3339))
		out.Printf("largest: %v", r.largest)
	}
	return err
}

// replayed is what the messages are handled for. Concurrency is 1, the default,
// so its method is never called twice at the same time.
type replayed struct {
	count   int
	oldest  time.Time
	largest quakes.Event
}

func (r *replayed) handle(_ context.Context, msg kafkax.Message) error {
	var e quakes.Event
	if err := json.Unmarshal(msg.Value, &e); err != nil {
		return kafkax.Permanent(fmt.Errorf("decode: %w", err))
	}
	if r.count == 0 || msg.Time.Before(r.oldest) {
		r.oldest = msg.Time
	}
	if e.Mag > r.largest.Mag {
		r.largest = e
	}
	r.count++
	return nil
}

// timed is the data with the time of each event as its message's, which is the
// time of sending otherwise.
func timed() []kafkax.Message {
	msgs := quakes.Messages()
	for i, e := range quakes.Events() {
		msgs[i].Time = e.At()
	}
	return msgs
}
