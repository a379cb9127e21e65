// Command multi-topic consumes two topics in one group, each with a handler of
// its own, and stops them together.
//
//	go run ./examples/multi-topic
//
// What to watch for:
//   - Each topic has its own order, commits, retries and dead letters. One that
//     is slow, or missing, does not hold up the other.
//   - A topic that does not exist yet is waited for, and read from its start
//     once it is there.
//   - The handlers of the topics run at the same time, so what they share must
//     bear that.
//   - If one topic cannot go on, all stop, and the error says which it was.
//   - Bounds such as max_bytes and concurrency are of each topic.
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
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demo"
	"github.com/bi-common/kafkax/examples/internal/quakes"
)

const (
	natural = "example-natural"  // earthquakes
	manMade = "example-man-made" // explosions and quarry blasts
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatalln("multi-topic:", err)
	}
}

// run is main without the process, so that a test can call it.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := demo.Flags("multi-topic", "consumes two topics, each with a handler of its own.", stdout)
	if err := demo.Parse(flags, args); err != nil {
		return err
	}
	out := log.New(stdout, "", 0)

	// All that is configured holds for each topic. Of consumer.topic nothing is
	// asked here.
	cfg, err := kafkax.LoadConsumerFromEnv()
	if err != nil {
		return err
	}
	cfg.GroupID = cmp.Or(cfg.GroupID, "example-multi-topic")
	stopBroker, err := demo.Broker(ctx, out, &cfg.ConnectionConfig,
		demo.Topic{Name: natural, Fill: events("earthquake")},
		demo.Topic{Name: manMade, Fill: events("explosion", "quarry blast")},
	)
	if err != nil {
		return err
	}
	defer stopBroker()

	consumer, err := kafkax.NewMultiTopicConsumer([]string{natural, manMade}, kafkax.WithConsumerConfig(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()

	// A service consumes until it is stopped; this program, until nothing is left.
	ctx, release := demo.UntilCaughtUp(ctx, consumer.Consumer(natural), consumer.Consumer(manMade))
	defer release()

	c := &counts{out: out}
	err = consumer.Consume(ctx, map[string]kafkax.Handler{
		natural: c.earthquake,
		manMade: c.blast,
	})
	out.Printf("handled: %d earthquakes, %d blasts", c.earthquakes.Load(), c.blasts.Load())
	return err
}

// counts is shared by the handlers.
type counts struct {
	out         *log.Logger
	earthquakes atomic.Int64
	blasts      atomic.Int64
}

func (c *counts) earthquake(context.Context, kafkax.Message) error {
	c.earthquakes.Add(1)
	return nil
}

func (c *counts) blast(_ context.Context, msg kafkax.Message) error {
	var e quakes.Event
	if err := json.Unmarshal(msg.Value, &e); err != nil {
		return kafkax.Permanent(fmt.Errorf("decode: %w", err))
	}
	if c.blasts.Add(1) == 1 {
		c.out.Printf("first blast: %v", e)
	}
	return nil
}

// events is the part of the data that is of these types.
func events(types ...string) []kafkax.Message {
	var msgs []kafkax.Message
	all := quakes.Messages()
	for i, e := range quakes.Events() {
		if slices.Contains(types, e.Type) {
			msgs = append(msgs, all[i])
		}
	}
	return msgs
}
