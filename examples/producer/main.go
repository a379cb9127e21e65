// Command producer sends a week of earthquakes and learns of each message what
// became of it.
//
//	go run ./examples/producer
//
// What to watch for:
//   - Nil means that all in-sync replicas have the messages. What is worth a
//     retry was retried, without doubling anything; an error is for good.
//   - Messages fail one by one. One here is too large, on purpose: the others
//     of its call are sent all the same, and the error names it.
//   - A message whose error matches ErrOutcomeUnknown was under way when the
//     time or the program ended, and may be there: sending it again may store
//     it twice.
//   - Messages of one key stay in order, as they share a partition.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demo"
	"github.com/bi-common/kafkax/examples/internal/quakes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatalln("producer:", err)
	}
}

// run is main without the process, so that a test can call it.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := demo.Flags("producer", "sends a week of earthquakes, and one message that is too large.", stdout)
	perCall := flags.Int("per-call", 500, "how many messages to give to one call")
	if err := demo.Parse(flags, args); err != nil {
		return err
	}
	if *perCall < 1 {
		return fmt.Errorf("-per-call %d: must be at least 1", *perCall)
	}
	out := log.New(stdout, "", 0)

	cfg, err := kafkax.LoadProducerFromEnv()
	if err != nil {
		return err
	}
	cfg.Topic = cmp.Or(cfg.Topic, "example-earthquakes")
	stopBroker, err := demo.Broker(ctx, out, &cfg.ConnectionConfig, demo.Topic{Name: cfg.Topic})
	if err != nil {
		return err
	}
	defer stopBroker()

	// A producer is safe for concurrent use: one is enough for a program, and
	// sends that meet share requests.
	producer, err := kafkax.NewProducer(kafkax.WithProducerConfig(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, producer.Close()) }()

	tooLarge := kafka.Message{Key: []byte("too large"), Value: bytes.Repeat([]byte("?"), cfg.BatchBytes)}
	msgs := slices.Insert(quakes.Messages(), 42, tooLarge)

	began, sent := time.Now(), 0
	for call := range slices.Chunk(msgs, *perCall) {
		err := producer.WriteMessages(ctx, call...)
		var failed kafkax.ProduceErrors
		switch {
		case err == nil:
			sent += len(call)
		case errors.As(err, &failed):
			sent += len(call) - len(failed) // what it does not name was acknowledged
			if err := report(out, call, failed); err != nil {
				return fmt.Errorf("after %d messages: %w", sent, err)
			}
		default: // stopped before anything of this call was sent
			return fmt.Errorf("after %d messages: %w", sent, err)
		}
	}
	out.Printf("sent: %d messages to %s in %v", sent, cfg.Topic, time.Since(began).Round(time.Millisecond))
	return nil
}

// report says what failed of a call, and whether to give up.
func report(out *log.Logger, call []kafka.Message, failed kafkax.ProduceErrors) error {
	for _, f := range failed {
		switch {
		case errors.Is(f, kafkax.ErrOutcomeUnknown):
			// Who reads the topic will tell.
			return f
		case errors.Is(f, kafka.MessageSizeTooLarge):
			// It will never fit. A service would store it elsewhere.
			out.Printf("refused: key %q: %v", call[f.Index].Key, f.Err)
		default:
			return f
		}
	}
	return nil
}
