// Command batch stores a week of earthquakes in a database, SQLite, with one
// transaction for each batch of messages.
//
//	go run ./examples/batch -pace 100ms
//
// What to watch for: the table has each event once, whatever happens.
//   - First the transaction commits, then the handler returns nil, and only
//     then the offsets are committed. So nothing is lost.
//   - A process that dies in between handles those messages again. So the key
//     of the table is where a message stands in Kafka: topic, partition and
//     offset. A second insert does nothing.
//   - A message that is no event fails alone, by a BatchError, and for good: it
//     goes to the dead letter topic.
//   - Any other error is the database's, and of the whole batch, which waits
//     until it is over. With the ten attempts of the default, an outage of half
//     a minute would send good events to the dead letter topic.
//   - Try it on a cluster: kill -9 it in the middle, and start it again. The
//     group waits for the dead member for consumer.session_timeout, 30 s.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"math"
	"os"
	"os/signal"
	"path/filepath"
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
		log.Fatalln("batch:", err)
	}
}

// run is main without the process, so that a test can call it.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := demo.Flags("batch", "stores a week of earthquakes in SQLite.", stdout)
	file := flags.String("db", filepath.Join(os.TempDir(), "kafkax-example-batch.db"), "the database `file`, which belongs to one cluster; made if absent")
	pace := flags.Duration("pace", 0, "how long to wait after each batch, so that there is a middle to kill it in")
	if err := demo.Parse(flags, args); err != nil {
		return err
	}
	out := log.New(stdout, "", 0)

	cfg, err := kafkax.LoadConsumerFromEnv()
	if err != nil {
		return err
	}
	cfg.Topic = cmp.Or(cfg.Topic, "example-earthquakes")
	cfg.GroupID = cmp.Or(cfg.GroupID, "example-batch")
	cfg.DLQTopic = cmp.Or(cfg.DLQTopic, cfg.Topic+"-dlq")
	stopBroker, err := demo.Broker(ctx, out, &cfg.ConnectionConfig,
		demo.Topic{Name: cfg.Topic, Fill: quakes.Messages()},
		demo.Topic{Name: cfg.DLQTopic},
	)
	if err != nil {
		return err
	}
	defer stopBroker()

	events, err := openStore(ctx, *file, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.close()) }()
	events.pace = *pace

	consumer, err := kafkax.NewConsumer(kafkax.WithConsumerConfig(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()

	// A service consumes until it is stopped; this program, until nothing is
	// left. KAFKAX_CONSUMER_BATCH_SIZE and _BATCH_TIMEOUT say what a batch is.
	running, release := demo.UntilCaughtUp(ctx, consumer)
	defer release()
	if err := consume(running, consumer, events); err != nil {
		return err
	}
	n, err := events.count(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	out.Printf("table: %d events in %s", n, *file)
	return nil
}

// consume stores what there is, and what comes, until ctx ends.
func consume(ctx context.Context, consumer *kafkax.Consumer, events *store) error {
	return consumer.ConsumeBatch(ctx, events.add, kafkax.WithRetry(kafkax.RetryConfig{
		MaxAttempts: math.MaxInt32, // until it works, or somebody stops it
		MaxBackoff:  5 * time.Second,
		Jitter:      0.2,
	}))
}
