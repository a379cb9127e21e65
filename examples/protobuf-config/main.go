// Command protobuf-config consumes with a configuration that arrives as a
// protobuf message: here as JSON from a file, elsewhere from a service that
// hands out configuration.
//
//	go run ./examples/protobuf-config
//
// What to watch for:
//   - The message is one more layer: over the defaults, the YAML file and the
//     environment, under the options. What it does not set comes from these,
//     as the brokers do here; a zero that it sets is a value.
//   - Every problem of the merged result is in the one error of SetupConsumer,
//     and the explanation says which layer a value is from.
//   - Leave passwords out of it. Kafkax never prints one, but whoever logs the
//     message does; sasl.password_file and the environment are for that.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demo"
	"github.com/bi-common/kafkax/examples/internal/quakes"
	"github.com/bi-common/kafkax/kafkaxpb"
)

// A ConsumerConfig as JSON, in the names of the .proto.
//
//go:embed consumer.json
var defaultConfig []byte

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatalln("protobuf-config:", err)
	}
}

// run is main without the process, so that a test can call it.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := demo.Flags("protobuf-config", "consumes as a protobuf message says.", stdout)
	file := flags.String("config", "", "a `file` with a ConsumerConfig as JSON; by default consumer.json as it was compiled in")
	if err := demo.Parse(flags, args); err != nil {
		return err
	}
	out := log.New(stdout, "", 0)

	msg, err := readConfig(*file)
	if err != nil {
		return err
	}
	env, err := kafkax.LoadConsumerFromEnv()
	if err != nil {
		return err
	}
	if len(msg.GetBrokers()) > 0 {
		env.Brokers = msg.GetBrokers()
	}
	stopBroker, err := demo.Broker(ctx, out, &env.ConnectionConfig, demo.Topic{Name: msg.GetTopic(), Fill: quakes.Messages()})
	if err != nil {
		return err
	}
	defer stopBroker()

	// A service needs no option here: its brokers are in the message or the
	// environment.
	consumer, err := kafkax.SetupConsumer(msg, kafkax.WithConsumerBrokers(env.Brokers...))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	for _, s := range consumer.Config().Explain() {
		if s.Source != "default" {
			out.Printf("  %-30s  %-25s  %s", s.Key, s.Value, s.Source)
		}
	}

	// A service consumes until it is stopped; this program, until nothing is left.
	ctx, release := demo.UntilCaughtUp(ctx, consumer)
	defer release()
	var handled atomic.Int64 // concurrency is above 1
	err = consumer.Consume(ctx, func(context.Context, kafkax.Message) error {
		handled.Add(1)
		return nil
	})
	out.Printf("consumed: %d messages of %s", handled.Load(), msg.GetTopic())
	return err
}

// readConfig refuses a name that the .proto does not have.
func readConfig(file string) (*kafkaxpb.ConsumerConfig, error) {
	text := defaultConfig
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	msg := new(kafkaxpb.ConsumerConfig)
	if err := protojson.Unmarshal(text, msg); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return msg, nil
}
