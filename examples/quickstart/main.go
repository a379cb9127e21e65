// Command quickstart sends a week of earthquakes through Kafka and back, and
// checks that none is lost and none comes twice. It shows how to produce,
// consume, retry, dead-letter and stop; copy what you need.
//
//	go run ./examples/quickstart
//
// It needs no Kafka: without KAFKAX_BROKERS it runs a broker of its own, in
// this process. See -h.
//
// Main.go is what a service does. Cluster.go asks the brokers about topics and
// offsets, and report.go adds up.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/quakes"
)

const (
	topic    = "quickstart-earthquakes"
	dlqTopic = "quickstart-earthquakes-dlq"
)

// errStopped says that Ctrl-C came before the end.
var errStopped = errors.New("stopped before the end")

func main() {
	// Ctrl-C, or what an orchestrator sends, ends ctx, and with it everything
	// below. A second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, errStopped):
		os.Exit(130) // what shells expect after Ctrl-C; run has said the rest
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run is main without the process, so that tests can call it.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	opts, err := parseFlags(args, stdout)
	if err != nil || opts.help {
		return err
	}
	out := log.New(stdout, "", 0)
	brokers, closeBroker, err := findBroker(&opts, out)
	if err != nil {
		return err
	}
	defer closeBroker()

	err = roundTrip(ctx, opts, brokers, out)
	if err == nil || ctx.Err() == nil {
		return err
	}
	printStopped(out, opts)
	if errors.Is(err, errBehind) || errors.Is(err, context.Canceled) {
		return errStopped
	}
	return err
}

// roundTrip sends the events, consumes them and adds up.
func roundTrip(ctx context.Context, opts options, brokers []string, out *log.Logger) (err error) {
	// A producer is safe for concurrent use: one for the whole program is
	// enough.
	producer, err := kafkax.NewProducer(
		kafkax.WithProducerBrokers(brokers...),
		kafkax.WithProducerTopic(topic),
	)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, producer.Close()) }()

	// NewProducer does not connect, so a wrong address would only show in the
	// first send. Ping says at once what is wrong with each broker.
	if err := producer.Ping(ctx); err != nil {
		return err
	}
	books, err := openLedger(ctx, newCluster(brokers, producer), opts)
	if err != nil {
		return err
	}

	// Send what no earlier run has sent.
	began := time.Now()
	sent, err := send(ctx, producer, books.missing)
	books.noteSent(sent)
	books.printSent(out, time.Since(began))
	if err != nil {
		return err
	}

	// Consume until nothing is left, or somebody stops it.
	began = time.Now()
	s := newSink(opts.pace, out)
	if err := consume(ctx, brokers, opts.group, s); err != nil {
		return err
	}
	books.printHandled(out, s, time.Since(began))

	// Read the dead letters and add up, after a stop too: it takes a moment,
	// and is bounded.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := books.close(ctx); err != nil {
		return err
	}
	books.printDeadLetters(out)
	return books.printSum(out, s)
}

// send sends events as JSON and returns those that were acknowledged. Kafka
// keeps the order of the messages of one key: here the key is the network that
// measured the event. So each network has a goroutine that sends one after the
// other, and sends of several networks share requests.
func send(ctx context.Context, producer *kafkax.Producer, events []quakes.Event) (sent []quakes.Event, err error) {
	networks := map[string][]quakes.Event{}
	for _, e := range events {
		networks[e.Net] = append(networks[e.Net], e)
	}

	ctx, fail := context.WithCancelCause(ctx) // the first failure ends the others
	defer fail(nil)
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for network, events := range networks {
		wg.Go(func() {
			for _, e := range events {
				// Nil means that all in-sync replicas have it. Kafkax has
				// retried what was worth it; an error is for good.
				if err := producer.SendJSON(ctx, []byte(network), e); err != nil {
					fail(fmt.Errorf("send %s: %w", e.ID, err))
					return
				}
				mu.Lock()
				sent = append(sent, e)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return sent, context.Cause(ctx)
}

// consume hands every message to the sink, as a member of the group.
func consume(ctx context.Context, brokers []string, group string, s *sink) error {
	consumer, err := kafkax.NewConsumer(
		kafkax.WithConsumerBrokers(brokers...),
		kafkax.WithConsumerTopic(topic),
		kafkax.WithConsumerGroupID(group),
		kafkax.WithConsumerStartOffset(kafkax.StartEarliest), // for a group that is new
		kafkax.WithConsumerDLQTopic(dlqTopic),
	)
	if err != nil {
		return err
	}

	// A service consumes until it is stopped. This program has an end.
	ctx, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		defer stop()
		waitUntilCaughtUp(ctx, consumer)
	})

	// Consume returns when ctx ends: after the handler's last call is done,
	// and what it handled is committed.
	err = consumer.Consume(ctx, s.handle, kafkax.WithRetry(kafkax.RetryConfig{
		MaxAttempts:    5,
		InitialBackoff: 20 * time.Millisecond,
	}))
	stop()
	watch.Wait()
	return errors.Join(err, consumer.Close())
}

// waitUntilCaughtUp returns when everything that was sent is handled.
func waitUntilCaughtUp(ctx context.Context, consumer *kafkax.Consumer) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for consumer.Lag() != 0 { // -1: not known yet
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// sink is where the earthquakes go: in a service of yours, a database. Every
// hundredth finds it down, at first.
type sink struct {
	pace time.Duration
	out  *log.Logger

	mu       sync.Mutex
	tries    map[string]int
	stored   map[string]bool
	retried  int
	repeated int
	largest  quakes.Event
}

func newSink(pace time.Duration, out *log.Logger) *sink {
	return &sink{pace: pace, out: out, tries: map[string]int{}, stored: map[string]bool{}}
}

var errSinkDown = errors.New("the sink is down")

// NotEarthquakeError is why an event is refused. The dead letter has its type and
// text in its headers.
type NotEarthquakeError struct{ Type string }

func (e NotEarthquakeError) Error() string { return "not an earthquake but: " + e.Type }

// handle is called for each message, in the order of its partition. Nil: the
// message may be committed. An error: it is called again, after a wait; after
// the last try the message goes to the dead letter topic, and is then committed.
func (s *sink) handle(ctx context.Context, msg kafkax.Message) error {
	e, err := decode(msg)
	if err != nil {
		// Trying again would not help, so the message is dead at once.
		return kafkax.Permanent(err)
	}
	return s.store(ctx, e)
}

// decode makes an earthquake of a message.
func decode(msg kafkax.Message) (quakes.Event, error) {
	var e quakes.Event
	if err := json.Unmarshal(msg.Value, &e); err != nil {
		return e, fmt.Errorf("decode: %w", err)
	}
	return e, check(e)
}

// check refuses what this service has no use for.
func check(e quakes.Event) error {
	if e.Type != "earthquake" {
		return NotEarthquakeError{e.Type}
	}
	return nil
}

func (s *sink) store(ctx context.Context, e quakes.Event) error {
	if s.pace > 0 {
		select {
		case <-time.After(s.pace):
		case <-ctx.Done(): // a stop could not wait any longer
			return context.Cause(ctx)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()

	s.tries[e.ID]++
	if s.tries[e.ID] == 1 && len(s.tries)%100 == 0 {
		return errSinkDown
	}
	if s.stored[e.ID] {
		s.repeated++
		return nil
	}
	s.stored[e.ID] = true
	if s.tries[e.ID] > 1 {
		s.retried++
	}
	if e.Mag > s.largest.Mag {
		s.largest = e
	}
	if n := len(s.stored); s.pace > 0 && n%100 == 0 {
		s.out.Printf("           %s ...", count(n))
	}
	return nil
}
