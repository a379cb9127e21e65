// Command secure connects with TLS and a password (security.protocol SASL_SSL
// in Kafka's words), which takes no code: this program is as it would be
// without.
//
//	go run ./examples/secure
//
// For a cluster of yours:
//
//	KAFKAX_BROKERS=broker:9094 KAFKAX_TLS_ENABLED=true KAFKAX_TLS_CA_FILE=ca.pem \
//	KAFKAX_SASL_MECHANISM=SCRAM-SHA-512 KAFKAX_SASL_USERNAME=me \
//	KAFKAX_SASL_PASSWORD_FILE=password go run ./examples/secure
//
// What to watch for:
//   - One configuration serves both sides, the dead letter topic and Ping.
//   - A refused password, and a certificate that is not trusted, is an error
//     that matches ErrAuthentication and names the broker. It is not retried.
//     With -wrong-password, the broker in this process hangs up instead of
//     refusing, so that is an error which names broker and keys alone.
//   - Passwords never show, not in an error and not in a printed configuration.
//   - Certificates and the password file are read again when they change, so a
//     rotation needs no restart.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
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
		log.Fatalln("secure:", err)
	}
}

// run is main without the process, so that a test can call it.
func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	flags := demo.Flags("secure", "connects with TLS and a password, and consumes.", stdout)
	wrong := flags.Bool("wrong-password", false, "see what comes of it")
	if err := demo.Parse(flags, args); err != nil {
		return err
	}
	out := log.New(stdout, "", 0)

	cfg, err := kafkax.LoadConsumerFromEnv()
	if err != nil {
		return err
	}
	cfg.Topic = cmp.Or(cfg.Topic, "example-earthquakes")
	cfg.GroupID = cmp.Or(cfg.GroupID, "example-secure")
	stopBroker, err := demo.SecureBroker(ctx, out, &cfg.ConnectionConfig, demo.Topic{Name: cfg.Topic, Fill: quakes.Messages()})
	if err != nil {
		return err
	}
	defer stopBroker()
	if *wrong {
		cfg.SASL.Password, cfg.SASL.PasswordFile = kafkax.NewSecret("wrong"), ""
	}

	consumer, err := kafkax.NewConsumer(kafkax.WithConsumerConfig(cfg))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	printSecurity(out, consumer)

	// NewConsumer has read the certificates. Ping goes through the handshakes
	// with each broker.
	if err := consumer.Ping(ctx); err != nil {
		return err
	}
	out.Print("ping: accepted")

	// A service consumes until it is stopped; this program, until nothing is left.
	ctx, release := demo.UntilCaughtUp(ctx, consumer)
	defer release()
	handled := 0
	err = consumer.Consume(ctx, func(context.Context, kafkax.Message) error {
		handled++ // concurrency is 1, the default
		return nil
	})
	out.Printf("consumed: %d messages", handled)
	return err
}

// printSecurity lists what is in effect, and where that is from.
func printSecurity(out *log.Logger, consumer *kafkax.Consumer) {
	cfg := consumer.Config()
	protocol := map[[2]bool]string{
		{false, false}: "PLAINTEXT",
		{false, true}:  "SASL_PLAINTEXT",
		{true, false}:  "SSL",
		{true, true}:   "SASL_SSL",
	}[[2]bool{cfg.TLS.Enabled, cfg.SASL.Mechanism != kafkax.SASLNone}]
	out.Printf("security: %s", protocol)
	for _, s := range cfg.Explain() {
		if strings.HasPrefix(s.Key, "tls.") || strings.HasPrefix(s.Key, "sasl.") {
			out.Printf("  %-24s  %-40s  %s", s.Key, cmp.Or(s.Value, "-"), s.Source)
		}
	}
}
