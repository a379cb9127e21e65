// Command consumer is the one to copy: a service that handles the messages of a
// topic, with its configuration from the environment, a dead letter topic, a
// health endpoint and a graceful stop.
//
//	go run ./examples/consumer
//
// What to watch for:
//   - The topic has 28 events that are no earthquakes. The handler refuses
//     them for good, so they go to the dead letter topic at once, with the
//     reason in their headers. Any other error is tried again first.
//   - An offset is committed when its message and all before it are handled or
//     dead-lettered. Whatever kills the process, nothing is lost; after a crash
//     what was not committed yet comes again, so the handler must bear that.
//   - Ctrl-C, or what an orchestrator sends: it fetches no more, the handlers
//     that run finish, what they did is committed, and the group is left. A
//     second Ctrl-C does not wait for the handlers.
//   - The health endpoint tells a cluster that is out of reach from a service
//     that is: see health.go.
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
	"sync/atomic"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demo"
	"github.com/bi-common/kafkax/examples/internal/quakes"
)

func main() {
	// RunWithGracefulShutdown takes the signals.
	err := run(context.Background(), os.Args[1:], os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatalln("consumer:", err)
	}
}

// run is main without the process, so that a test can call it.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := demo.Flags("consumer", "handles the messages of a topic until it is stopped.", stdout)
	addr := flags.String("health", "127.0.0.1:0", "where to serve /livez and /readyz; port 0 takes a free one")
	maxLag := flags.Int64("max-lag", 10_000, "how many messages it may be behind and still be ready")
	if err := demo.Parse(flags, args); err != nil {
		return err
	}
	out := log.New(stdout, "", 0)

	// The defaults, the file named by KAFKAX_CONFIG_FILE, and KAFKAX_*.
	cfg, err := kafkax.LoadConsumerFromEnv()
	if err != nil {
		return err
	}
	cfg.Topic = cmp.Or(cfg.Topic, "example-earthquakes")
	cfg.GroupID = cmp.Or(cfg.GroupID, "example-consumer")
	cfg.DLQTopic = cmp.Or(cfg.DLQTopic, cfg.Topic+"-dlq")

	// Not to be copied: a service has a cluster, and topics.
	stopBroker, err := demo.Broker(ctx, out, &cfg.ConnectionConfig,
		demo.Topic{Name: cfg.Topic, Fill: quakes.Messages()},
		demo.Topic{Name: cfg.DLQTopic},
	)
	if err != nil {
		return err
	}
	defer stopBroker()

	consumer, err := kafkax.NewConsumer(kafkax.WithConsumerConfig(cfg))
	if err != nil {
		return err
	}
	// NewConsumer does not connect, and Consume waits for a cluster for ever.
	// Ping says at once what is wrong with an address or a password.
	if err := consumer.Ping(ctx); err != nil {
		return errors.Join(err, consumer.Close())
	}
	health, err := serveHealth(ctx, *addr, consumer, *maxLag)
	if err != nil {
		return errors.Join(err, consumer.Close())
	}
	out.Printf("health: http://%s/readyz", health.addr)
	out.Printf("consuming: %s as %s; Ctrl-C stops", cfg.Topic, cfg.GroupID)

	s := &service{out: out}
	err = consumer.RunWithGracefulShutdown(ctx, func(ctx context.Context) error {
		return consumer.Consume(ctx, s.handle, kafkax.WithOnError(s.onError))
	})
	out.Printf("stopped: handled %d messages", s.handled.Load())
	return errors.Join(err, health.close())
}

// service is what the messages are for. It is used by several goroutines where
// the concurrency is above 1.
type service struct {
	out     *log.Logger
	handled atomic.Int64
}

// handle is called for each message, in the order of its partition. The context
// ends when a stop or a rebalance cannot wait any longer: pass it on.
func (s *service) handle(_ context.Context, msg kafkax.Message) error {
	var e quakes.Event
	if err := json.Unmarshal(msg.Value, &e); err != nil {
		return kafkax.Permanent(fmt.Errorf("decode: %w", err))
	}
	if e.Type != "earthquake" {
		return kafkax.Permanent(fmt.Errorf("not an earthquake but: %s", e.Type))
	}
	if e.Mag >= 6 {
		s.out.Printf("strong: %v", e)
	}
	s.handled.Add(1)
	return nil
}

// onError is called for each message that is given up, whose dead letter is
// written by then, and for what the loop lives through, like a cluster that is
// out of reach for a while. The error says which of these it is, and where.
func (s *service) onError(_ context.Context, _ kafkax.Message, err error) {
	s.out.Printf("problem: %v", err)
}
