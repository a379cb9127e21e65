package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bi-common/kafkax"
)

// kafka-go's own Close and WriteMessages lock each other out here.
func TestP5_ProducerCloseRacingSends(t *testing.T) {
	t.Parallel()
	topics := make([]string, 8)
	for i := range topics {
		topics[i] = fmt.Sprintf("race-%d", i)
	}
	c := produceCluster(t, kfake.SeedTopics(4, topics...))
	p := produceTo(t, c, kafkax.WithProducerBalancer("round_robin"))

	var acked atomic.Int32
	started := make(chan struct{}, 1)
	var senders sync.WaitGroup
	for i := range 16 {
		senders.Go(func() {
			for n := 0; ; n++ {
				err := p.SendToTopic(t.Context(), topics[(i+n)%len(topics)], nil, []byte("v"))
				if errors.Is(err, kafkax.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("sender %d: %v", i, err)
					return
				}
				acked.Add(1)
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	receive(t, started, "a first acknowledgement")
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() {
			if err := p.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	done := make(chan struct{})
	go func() { closers.Wait(); senders.Wait(); close(done) }()
	receive(t, done, "Close and all senders")

	if err := p.SendToTopic(t.Context(), topics[0], nil, []byte("late")); !errors.Is(err, kafkax.ErrClosed) {
		t.Errorf("late send: got %v, want ErrClosed", err)
	}
	total := 0
	for _, topic := range topics {
		for partition := range int32(4) {
			total += int(c.PartitionInfo(topic, partition).HighWatermark)
		}
	}
	if total != int(acked.Load()) {
		t.Errorf("%d stored, %d acknowledged", total, acked.Load())
	}
}

func TestP5_StopIsBoundedAndSaysWhatItCutOff(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		stop func(*kafkax.Producer) error
		why  error
	}{
		{"close", (*kafkax.Producer).Close, context.DeadlineExceeded},
		{"graceful", func(p *kafkax.Producer) error {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			return p.GracefulShutdown(ctx)
		}, context.DeadlineExceeded},
		{"context_already_done", func(p *kafkax.Producer) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return p.GracefulShutdown(ctx)
		}, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := produceCluster(t)
			arrived, _ := hold(t, c)
			p := produceTo(t, c, kafkax.WithProducerShutdownTimeout(50*time.Millisecond))
			// Background: nothing but the stop can end this send.
			sent := goSend(t, func() error { return p.SendMessage(context.Background(), nil, []byte("v")) })
			receive(t, arrived, "the produce request")

			begin := time.Now()
			err := tt.stop(p)
			if took := time.Since(begin); took > 15*time.Second {
				t.Errorf("took %s", took)
			}
			var cut *kafkax.ShutdownError
			if !errors.As(err, &cut) || !errors.Is(err, tt.why) {
				t.Fatalf("got %v, want a ShutdownError for %v", err, tt.why)
			}
			if len(cut.What) != 1 || !strings.Contains(cut.What[0], "orders[0]: 1 message(s)") {
				t.Errorf("cut off %q", cut.What)
			}
			err = receive(t, sent, "the send")
			if !errors.Is(err, kafkax.ErrOutcomeUnknown) {
				t.Errorf("got %v, want ErrOutcomeUnknown", err)
			}
			if err := p.SendMessage(context.Background(), nil, nil); !errors.Is(err, kafkax.ErrClosed) {
				t.Errorf("late send: got %v", err)
			}
		})
	}
}

func TestP5_StopBoundedByStuckCallback(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	b, log := newBlocker(t), newLogLines()
	p := produceTo(t, c, kafkax.WithProducerErrorLogger(log), kafkax.WithProducerCompletion(func([]kafka.Message, error) { b.block() }))
	for i := range 3 { // The callback is told of the first, and the others wait.
		sent := goSend(t, func() error { return p.SendMessage(context.Background(), nil, []byte("v")) })
		if err := receive(t, sent, "the send"); err != nil {
			t.Errorf("send %d was acknowledged, and got %v", i, err)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		var cut *kafkax.ShutdownError
		if err := p.GracefulShutdown(ctx); !errors.As(err, &cut) {
			t.Fatalf("got %v, want a ShutdownError", err)
		}
		if len(cut.What) != 1 || cut.What[0] != "orders[0]: the completion callback has not returned, and was not told of 2 message(s)" {
			t.Errorf("cut off %q", cut.What)
		}
	}
	if got := log.String(); !strings.Contains(got, "orders[0]: the completion callback has not returned, and is told no more messages=2") {
		t.Errorf("logged %q", got)
	}
}

func TestP5_StopFlushesABatchThatWaits(t *testing.T) {
	t.Parallel()
	c := produceCluster(t)
	p := produceTo(t, c, kafkax.WithProducerBatchTimeout(time.Hour))
	entered := make(chan struct{})
	ctx := lookedAt{t.Context(), sync.OnceFunc(func() { close(entered) })}
	sent := goSend(t, func() error { return p.SendMessage(ctx, nil, []byte("v")) })
	receive(t, entered, "the send to be accepted")

	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := receive(t, sent, "the send"); err != nil {
		t.Error(err)
	}
	stored(t, c.ListenAddrs(), "orders", 1)
}

// openConns counts the connections of a listener that are not closed yet.
type openConns struct {
	net.Listener
	open *atomic.Int32
}

func (l openConns) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return openConn{c, sync.OnceFunc(func() { l.open.Add(-1) })}, nil
}

type openConn struct {
	net.Conn
	closed func()
}

func (c openConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func TestP5_CloseLeavesNoConnection(t *testing.T) {
	t.Parallel()
	var open atomic.Int32
	c := produceCluster(t, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return openConns{l, &open}, err
	}))
	p := produceTo(t, c)
	if err := p.SendMessage(t.Context(), nil, []byte("v")); err != nil {
		t.Fatal(err)
	}
	if open.Load() == 0 {
		t.Fatal("sent without a connection")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	waitFor(t, "the broker to see all connections closed", func() bool { return open.Load() == 0 })
}

// lookedAt tells when a send looks at its context: then it is accepted.
type lookedAt struct {
	context.Context
	seen func()
}

func (c lookedAt) Err() error {
	c.seen()
	return c.Context.Err()
}

func TestStopTwiceBeforeUseAndOnZero(t *testing.T) {
	t.Parallel()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	c := produceCluster(t)
	for name, p := range map[string]*kafkax.Producer{"unused": produceTo(t, c), "zero": {}, "nil": nil} {
		for range 2 {
			if err := p.Close(); err != nil {
				t.Errorf("%s: Close: %v", name, err)
			}
			if err := p.GracefulShutdown(done); err != nil {
				t.Errorf("%s: GracefulShutdown: %v", name, err)
			}
		}
		if err := p.SendJSON(t.Context(), nil, 1); !errors.Is(err, kafkax.ErrClosed) {
			t.Errorf("%s: send: %v", name, err)
		}
		if err := p.Ping(t.Context()); !errors.Is(err, kafkax.ErrClosed) {
			t.Errorf("%s: Ping: %v", name, err)
		}
		p.SetLogger(nil, nil)
		p.Stats()
		p.Config()
		p.Writer()
	}
}
