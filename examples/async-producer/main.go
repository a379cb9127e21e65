// Command async-producer sends a week of earthquakes without waiting for
// answers, and counts what comes back.
//
//	go run ./examples/async-producer
//
// What to watch for:
//   - A send returns before anything is sent: nil says that the message is in
//     the buffer, no more. The completion callback says what became of it.
//   - The buffer is bounded. Where the cluster is slower than the program, a
//     send waits for room, for as long as its context allows.
//   - Close sends what is in the buffer. After it, each message was reported:
//     acknowledged and failed add up to what was handed over.
//   - The callback holds up the batches behind it, so it must be fast; and it
//     must not call Close, which waits for it.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync/atomic"
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
		log.Fatalln("async-producer:", err)
	}
}

// run is main without the process, so that a test can call it.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := demo.Flags("async-producer", "sends a week of earthquakes without waiting for answers.", stdout)
	times := flags.Int("times", 10, "how often to send the week")
	if err := demo.Parse(flags, args); err != nil {
		return err
	}
	out := log.New(stdout, "", 0)

	cfg, err := kafkax.LoadProducerFromEnv()
	if err != nil {
		return err
	}
	cfg.Topic = cmp.Or(cfg.Topic, "example-earthquakes")
	cfg.Async = true
	stopBroker, err := demo.Broker(ctx, out, &cfg.ConnectionConfig, demo.Topic{Name: cfg.Topic})
	if err != nil {
		return err
	}
	defer stopBroker()

	o := &outcomes{out: out}
	producer, err := kafkax.NewProducer(
		kafkax.WithProducerConfig(cfg),
		kafkax.WithProducerCompletion(o.add),
	)
	if err != nil {
		return err
	}

	began := time.Now()
	handed, sendErr := send(ctx, producer, *times)
	out.Printf("handed over: %d messages in %v, %d of them acknowledged by then",
		handed, time.Since(began).Round(time.Millisecond), o.acknowledged.Load())

	// Close even after an error: what was handed over must not be lost.
	closeErr := producer.Close()
	acknowledged, failed := o.acknowledged.Load(), o.failed.Load()
	out.Printf("closed: after %v; %d acknowledged, %d failed",
		time.Since(began).Round(time.Millisecond), acknowledged, failed)

	if err := errors.Join(sendErr, closeErr); err != nil {
		return err
	}
	if failed > 0 || acknowledged != int64(handed) {
		return fmt.Errorf("%d of %d messages were not acknowledged", int64(handed)-acknowledged, handed)
	}
	return nil
}

// send hands the messages over and returns how many it could.
func send(ctx context.Context, producer *kafkax.Producer, times int) (handed int, err error) {
	msgs := quakes.Messages()
	for range times {
		for _, m := range msgs {
			// An error is of a message that was not buffered: too large, or ctx
			// has ended.
			if err := producer.WriteMessages(ctx, m); err != nil {
				return handed, fmt.Errorf("message %d: %w", handed, err)
			}
			handed++
		}
	}
	return handed, nil
}

// outcomes counts what became of the messages.
type outcomes struct {
	out          *log.Logger
	acknowledged atomic.Int64
	failed       atomic.Int64
}

// add is called with the messages of each batch, by several goroutines. Without
// a callback, failures would go to the error logger.
func (o *outcomes) add(msgs []kafkax.Message, err error) {
	if err != nil {
		o.failed.Add(int64(len(msgs)))
		o.out.Printf("failed: %d messages to %s[%d]: %v", len(msgs), msgs[0].Topic, msgs[0].Partition, err)
		return
	}
	o.acknowledged.Add(int64(len(msgs)))
}
