package kafkax

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

func realTransport(topics ...string) transport {
	return livelyTransport(topics, 10*time.Second, func(c net.Conn) net.Conn { return c })
}

// livelyTransport ends a request after a silence, as a Producer's does.
func livelyTransport(topics []string, silence time.Duration, wrap func(net.Conn) net.Conn) transport {
	return &kafka.Transport{
		MetadataTopics: topics, MetadataTTL: time.Second,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			socket, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			c := newLively(wrap(socket))
			c.bound(silence)
			return c, nil
		},
	}
}

// settle returns when every sender has had 20 more messages acknowledged.
func (sent tally) settle(t *testing.T, after string) {
	t.Helper()
	start := time.Now()
	from := make([]int64, len(sent))
	for i := range sent {
		from[i] = sent[i].Load()
	}
	for time.Since(start) < time.Minute {
		if t.Failed() || sent.passed(from, 20) {
			t.Logf("%s: all senders went on within %s", after, time.Since(start).Round(time.Millisecond))
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s: some senders still wait after a minute", after)
}

func (sent tally) passed(from []int64, by int64) bool {
	for i := range sent {
		if sent[i].Load() < from[i]+by {
			return false
		}
	}
	return true
}

// Senders go on through all that can happen to the leaders, and notice nothing
// but time.
func TestP4_P9_RealLeadersMoveDieAndFreeze(t *testing.T) {
	t.Parallel()
	const partitions, senders = 6, 24
	cluster := kafkatest.Start(t, 3)
	topic := cluster.Topic(t, partitions)
	w := deliveryWriter(t, testDeliveryConfig(), cluster.Brokers(), topic, realTransport)

	ctx, stop := context.WithCancel(t.Context())
	sent := make(tally, senders)
	done := make(chan struct{})
	go func() {
		defer close(done)
		sent.sendUntil(ctx, t, w, 1<<62)
	}()
	defer func() {
		stop()
		<-done
	}()
	sent.settle(t, "start")

	for _, node := range cluster.Nodes()[:2] {
		cluster.MoveLeader(t, topic, 0, node)
	}
	sent.settle(t, "leader moves")

	node := cluster.Leader(t, topic, 0)
	cluster.Kill(t, node)
	sent.settle(t, "killed broker")
	cluster.Restart(t, node)
	sent.settle(t, "its restart")

	node = cluster.Leader(t, topic, 1)
	cluster.Freeze(t, node)
	sent.settle(t, "frozen broker")
	cluster.Thaw(t, node)
	sent.settle(t, "its thaw")

	stop()
	<-done
	sent.check(t, cluster.Brokers(), topic, partitions)
	d := w.Transport.(*delivery)
	if d.retries.Load() == 0 {
		t.Error("no retry was made: nothing was put to the test")
	}
	total := int64(0)
	for i := range sent {
		total += sent[i].Load()
	}
	t.Logf("%d messages, %d retries", total, d.retries.Load())
}

// A real broker must accept what a producer's state does on its own: the first sequence
// of a bumped epoch, and the wrap of the sequence.
func TestP9_RealBrokerAcceptsBumpAndWrap(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	topic := cluster.Topic(t, 1)
	w := deliveryWriter(t, testDeliveryConfig(), cluster.Brokers(), topic, realTransport)
	d := w.Transport.(*delivery)
	write := func(value string) error {
		return w.WriteMessages(t.Context(), kafka.Message{Value: []byte(value)})
	}
	var want []string
	for i, change := range []func(s *producerState){
		func(*producerState) {},
		func(s *producerState) { s.bump() },
		func(s *producerState) { s.renew() },
		func(s *producerState) { s.renew() }, // and below, close to the end
		func(*producerState) {},
		func(*producerState) {},
	} {
		s := stateOf(d, topic)
		s.turn <- struct{}{}
		change(s)
		if i == 3 {
			// A log that has been written to takes any first sequence of a
			// producer it does not know.
			s.id, s.next = 1<<40, 1<<31-2
		}
		<-s.turn
		value := string(rune('a' + i))
		if err := write(value); err != nil {
			t.Fatalf("message %s: %v", value, err)
		}
		want = append(want, value)
	}
	if s := stateOf(d, topic); s.id != 1<<40 || s.next != 1 {
		t.Errorf("the producer is at %d/%d, want it to have wrapped to 1", s.id, s.next)
	}
	if got := readPartition(t, cluster.Brokers(), topic, 0); !slices.Equal(got, want) {
		t.Errorf("log holds %v, want %v", got, want)
	}
}

// stateOf is the producer's state of the topic's first partition.
func stateOf(d *delivery, topic string) *producerState {
	u := d.states.acquire(partitionID{topic, 0})
	defer u.release()
	return u.value
}

// The same, with the answer to one in ten requests lost on the way.
func TestP9_RealLostAnswers(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	const partitions, senders, each = 3, 24, 20
	topic := cluster.Topic(t, partitions)
	lossy := &lossyTransports{answers: 10}
	w := deliveryWriter(t, testDeliveryConfig(), cluster.Brokers(), topic, lossy.connect)
	sent := make(tally, senders)
	sent.sendUntil(t.Context(), t, w, each)
	sent.check(t, cluster.Brokers(), topic, partitions)
	if lossy.lostAnswers.Load() == 0 {
		t.Error("no answer was lost: nothing was put to the test")
	}
}

// A batch whose outcome is unknown may still lie in a socket of a broker that
// does not run. Once something newer is in the log, it must not come after it.
func TestP9_RealStragglerIsFenced(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	topic := cluster.Topic(t, 1)
	var held atomic.Pointer[heldConn]
	hold := atomic.Bool{}
	connect := func(topics ...string) transport {
		return livelyTransport(topics, 2*time.Second, func(c net.Conn) net.Conn {
			return &heldConn{Conn: c, hold: &hold, held: &held}
		})
	}
	cfg := testDeliveryConfig()
	cfg.MaxAttempts = 1
	w := deliveryWriter(t, cfg, cluster.Brokers(), topic, connect)
	write := func(value string) error {
		return w.WriteMessages(t.Context(), kafka.Message{Value: []byte(value)})
	}
	if err := write("a"); err != nil {
		t.Fatal(err)
	}
	hold.Store(true)
	var batch kafka.WriteErrors
	if err := write("straggler"); !errors.As(err, &batch) || !errors.Is(batch[0], ErrOutcomeUnknown) {
		t.Fatalf("error %v, want ErrOutcomeUnknown", err)
	}
	hold.Store(false)
	if err := write("b"); err != nil {
		t.Fatal(err)
	}
	if err := held.Load().deliver(t); err != nil {
		t.Fatal(err)
	}
	if err := write("c"); err != nil {
		t.Fatal(err)
	}
	if got, want := readPartition(t, cluster.Brokers(), topic, 0), []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("log holds %v, want %v", got, want)
	}
}

// heldConn keeps produce requests back while hold is set, as the buffers
// between a client and a frozen broker do.
type heldConn struct {
	net.Conn
	hold *atomic.Bool
	held *atomic.Pointer[heldConn]
	kept []byte
}

func (c *heldConn) Write(p []byte) (int, error) {
	if isProduce(p) && c.hold.Load() {
		c.kept = slices.Clone(p)
		c.held.Store(c)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// Close leaves a connection open that still has a request to deliver.
func (c *heldConn) Close() error {
	if c.held.Load() == c {
		return nil
	}
	return c.Conn.Close()
}

// deliver sends what was kept and waits for the broker's answer.
func (c *heldConn) deliver(t *testing.T) error {
	t.Helper()
	defer func() { _ = c.Conn.Close() }()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Conn.Write(c.kept); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 512))
	return err
}
