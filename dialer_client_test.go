package kafkax_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

// silentBroker takes connections and never says a word.
func silentBroker(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // and the connections that nobody took
	return l.Addr().String()
}

// With a dial_timeout of an hour, whoever waits for the silent brokers waits
// for the test's end.
func TestD13_SilentBootstrapBrokersDelayNoClient(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	brokers := append([]string{silentBroker(t), silentBroker(t), silentBroker(t)}, b.addrs...)
	p, err := kafkax.NewProducer(
		kafkax.WithProducerBrokers(brokers...), kafkax.WithProducerTopic(b.topic), kafkax.WithProducerDialTimeout(time.Hour),
		kafkax.WithProducerErrorLogger(testLogger(t)),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.SendMessage(testContext(t), nil, []byte("0/0")); err != nil {
		t.Fatal(err)
	}
	if got, want := p.Writer().Addr.String(), strings.Join(brokers, ","); got != want {
		t.Errorf("the Writer names %s, want %s: it may be given another transport", got, want)
	}
	for _, group := range []string{"g", ""} {
		opts := []kafkax.ConsumerOption{kafkax.WithConsumerBrokers(brokers...), kafkax.WithConsumerDialTimeout(time.Hour)}
		if group == "" {
			opts = append(opts, kafkax.WithConsumerPartition(0))
		}
		c := b.consumer(t, group, opts...)
		if err := c.Ping(testContext(t)); err != nil {
			t.Errorf("group %q: Ping: %v", group, err)
		}
		if m, err := c.FetchMessage(testContext(t)); err != nil || string(m.Value) != "0/0" {
			t.Errorf("group %q: got %q, %v", group, m.Value, err)
		}
	}
}

// The password is right, and every connection is cut inside SASL for a while.
func TestD13_HangupsDuringAuthenticationAreRetried(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", "alice", "right"))
	var left atomic.Int32
	b.ControlKey(int16(kmsg.SASLAuthenticate), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		if left.Add(-1) >= 0 {
			return nil, errors.New("cut"), true
		}
		return nil, nil, false
	})
	left.Store(4)
	p, err := kafkax.NewProducer(
		kafkax.WithProducerBrokers(b.addrs...), kafkax.WithProducerTopic(b.topic), kafkax.WithProducerErrorLogger(testLogger(t)),
		kafkax.WithProducerSASLMechanism(kafkax.SASLPlain), kafkax.WithProducerSASLUsername("alice"), kafkax.WithProducerSASLPassword("right"),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.SendMessage(testContext(t), nil, []byte("0/0")); err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"g", ""} {
		left.Store(4)
		opts := []kafkax.ConsumerOption{
			kafkax.WithConsumerSASLMechanism(kafkax.SASLPlain), kafkax.WithConsumerSASLUsername("alice"), kafkax.WithConsumerSASLPassword("right"),
		}
		if group == "" {
			opts = append(opts, kafkax.WithConsumerPartition(0))
		}
		c := b.consumer(t, group, opts...)
		j := newJournal()
		stop := run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
		})
		eventually(t, "the record", func() bool { return j.len() == 1 })
		if err := stop(); err != nil {
			t.Errorf("group %q: %v", group, err)
		}
	}
}

// blockingMechanism never returns from a call before release is closed.
type blockingMechanism struct {
	plain.Mechanism

	entered chan struct{}
	release chan struct{}
}

func (m blockingMechanism) Name() string {
	select {
	case m.entered <- struct{}{}:
	default:
	}
	<-m.release
	return m.Mechanism.Name()
}

func TestD13_CloseDoesNotWaitForAMechanism(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.EnableSASL(), kfake.Superuser("PLAIN", "alice", "right"))
	m := blockingMechanism{entered: make(chan struct{}, 1), release: make(chan struct{})}
	t.Cleanup(func() { close(m.release) })

	c := b.consumer(t, "g", kafkax.WithConsumerSASL(m), kafkax.WithConsumerDialTimeout(time.Hour))
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	pinged := make(chan error, 1)
	go func() { pinged <- c.Ping(ctx) }()
	<-m.entered
	cancel()
	if err := <-pinged; !errors.Is(err, context.Canceled) {
		t.Errorf("Ping: %v", err)
	}
	consumed := make(chan error, 1)
	go func() {
		consumed <- c.Consume(context.Background(), func(context.Context, kafka.Message) error { return nil })
	}()
	<-m.entered
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-consumed; err != nil {
		t.Errorf("Consume: %v", err)
	}
}

// The configuration file and those it names are judged alike.
func TestC1_APipeForAFileBlocksNobody(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]kafkax.ConsumerOption{
		"config_file":        kafkax.WithConsumerConfigFile(pipe),
		"sasl.password_file": kafkax.WithConsumerSASLPasswordFile(pipe),
		"tls.ca_file":        kafkax.WithConsumerTLSCAFile(pipe),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := []kafkax.ConsumerOption{
				kafkax.WithConsumerBrokers("localhost:1"), kafkax.WithConsumerTopic("t"), kafkax.WithConsumerGroupID("g"), opt,
			}
			switch name {
			case "sasl.password_file":
				opts = append(opts, kafkax.WithConsumerSASLMechanism(kafkax.SASLPlain), kafkax.WithConsumerSASLUsername("alice"))
			case "tls.ca_file":
				opts = append(opts, kafkax.WithConsumerTLSEnabled(true))
			}
			_, err := kafkax.NewConsumer(opts...)
			var problem *kafkax.ConfigError
			if !errors.As(err, &problem) || problem.Key != name || problem.Rule != "must be a regular file" || problem.Source == "" {
				t.Errorf("got %#v", problem)
			}
			if problem != nil && problem.Value != pipe {
				t.Errorf("the value is %q, want the path", problem.Value)
			}
		})
	}
}
