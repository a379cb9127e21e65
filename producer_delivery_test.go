package kafkax

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// lossyConn loses some produce requests, and the answers to some others after
// the broker has stored the batch.
type lossyConn struct {
	net.Conn
	lose  func() (request, answer bool)
	fatal atomic.Bool
}

func (c *lossyConn) Write(p []byte) (int, error) {
	if isProduce(p) {
		request, answer := c.lose()
		if request {
			_ = c.Conn.Close()
			return 0, io.ErrClosedPipe
		}
		c.fatal.Store(answer)
	}
	return c.Conn.Write(p)
}

func isProduce(request []byte) bool {
	return len(request) >= 6 && binary.BigEndian.Uint16(request[4:]) == uint16(kmsg.Produce)
}

func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.fatal.Load() {
		_ = c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// lossyTransports are transports over such connections.
type lossyTransports struct {
	requests, answers int64 // one in so many is lost; none if it is 0
	seen              atomic.Int64
	lostRequests      atomic.Int64
	lostAnswers       atomic.Int64
}

func (l *lossyTransports) lose() (request, answer bool) {
	switch n := l.seen.Add(1); {
	case l.requests > 0 && n%l.requests == 0:
		l.lostRequests.Add(1)
		return true, false
	case l.answers > 0 && n%l.answers == l.answers/2:
		l.lostAnswers.Add(1)
		return false, true
	}
	return false, false
}

func (l *lossyTransports) connect(topics ...string) transport {
	return &kafka.Transport{
		MetadataTopics: topics,
		MetadataTTL:    200 * time.Millisecond,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &lossyConn{Conn: conn, lose: l.lose}, nil
		},
	}
}

func deliveryCluster(tb testing.TB, topic string, partitions int32) *kfake.Cluster {
	tb.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(partitions, topic))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cluster.Close)
	return cluster
}

// deliveryWriter is a kafka.Writer as a Producer has it.
func deliveryWriter(tb testing.TB, cfg ProducerConfig, brokers []string, topic string, connect func(...string) transport) *kafka.Writer {
	tb.Helper()
	quiet := kafka.LoggerFunc(func(string, ...any) {})
	d := newDeliveryOver(cfg, connect, func(err error) error { return err }, newLoggers(quiet, quiet))
	w := &kafka.Writer{
		Addr:         kafka.TCP(brokers...),
		Topic:        topic,
		Balancer:     kafka.Murmur2Balancer{},
		MaxAttempts:  1,
		BatchTimeout: time.Millisecond,
		WriteTimeout: cfg.DeliveryTimeout + time.Minute,
		RequiredAcks: kafka.RequireAll,
		Transport:    d,
	}
	tb.Cleanup(func() {
		d.close()
		_ = w.Close()
	})
	return w
}

// A tally is what some senders had acknowledged: sender i sends i/0, i/1, ...
// under a key of its own, one after the other.
type tally []atomic.Int64 // by sender: values below were acknowledged

// sendUntil runs the senders until ctx ends, or each has sent most messages.
func (sent tally) sendUntil(ctx context.Context, t *testing.T, w *kafka.Writer, most int64) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range sent {
		wg.Go(func() {
			for ctx.Err() == nil && sent[i].Load() < most {
				err := w.WriteMessages(context.Background(), kafka.Message{
					Key:   []byte(strconv.Itoa(i)),
					Value: fmt.Appendf(nil, "%d/%d", i, sent[i].Load()),
				})
				if err != nil {
					t.Errorf("sender %d, message %d: %v", i, sent[i].Load(), err)
					return
				}
				sent[i].Add(1)
			}
		})
	}
	wg.Wait()
}

// check reads the topic and holds it against what was acknowledged.
func (sent tally) check(t *testing.T, brokers []string, topic string, partitions int) {
	t.Helper()
	next := make([]int, len(sent))
	for p := range partitions {
		for _, value := range readPartition(t, brokers, topic, p) {
			a, b, _ := strings.Cut(value, "/")
			sender, _ := strconv.Atoi(a)
			n, _ := strconv.Atoi(b)
			switch {
			case n < next[sender]:
				t.Errorf("sender %d: message %d is doubled", sender, n)
			case n > next[sender]:
				t.Errorf("sender %d: message %d follows %d", sender, n, next[sender]-1)
				next[sender] = n + 1
			default:
				next[sender]++
			}
		}
	}
	for sender, n := range next {
		if acked := int(sent[sender].Load()); n != acked {
			t.Errorf("sender %d: %d messages in the log, %d acknowledged", sender, n, acked)
		}
	}
}

func readPartition(t *testing.T, brokers []string, topic string, partition int) (values []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var conn *kafka.Conn
	for try := 1; ; try++ {
		var err error
		if conn, err = kafka.DialLeader(ctx, "tcp", brokers[try%len(brokers)], topic, partition); err == nil {
			break
		}
		if deliveryBackoff.wait(ctx, try) != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = conn.Close() }()
	first, last, err := conn.ReadOffsets()
	if err != nil {
		t.Fatal(err)
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: brokers, Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond,
	})
	defer func() { _ = reader.Close() }()
	for range last - first {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			t.Fatalf("%s[%d] after %d of %d messages: %v", topic, partition, len(values), last-first, err)
		}
		values = append(values, string(m.Value))
		if m.Offset == last-1 {
			break
		}
	}
	return values
}

func TestP9_LostRequestsAndAnswers(t *testing.T) {
	t.Parallel()
	const partitions, senders, each = 3, 24, 40
	cluster := deliveryCluster(t, "orders", partitions)
	cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: kerr.CoordinatorLoadInProgress, Count: 2},
		// Both are stored all the same.
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 5},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend, Count: 5},
	)
	lossy := &lossyTransports{requests: 20, answers: 20}
	cfg := testDeliveryConfig()
	w := deliveryWriter(t, cfg, cluster.ListenAddrs(), "orders", lossy.connect)

	ctx, cancel := context.WithCancel(t.Context())
	moved := make(chan struct{})
	go func() { // leaders move all along
		defer close(moved)
		for deliveryBackoff.wait(ctx, 3) == nil {
			cluster.ShufflePartitionLeaders()
		}
	}()
	sent := make(tally, senders)
	sent.sendUntil(t.Context(), t, w, each)
	cancel()
	<-moved

	sent.check(t, cluster.ListenAddrs(), "orders", partitions)
	if lossy.lostAnswers.Load() == 0 || lossy.lostRequests.Load() == 0 {
		t.Errorf("lost %d answers and %d requests: nothing was put to the test", lossy.lostAnswers.Load(), lossy.lostRequests.Load())
	}
}

// An abandoned batch must neither block its partition nor be doubled by what
// follows.
func TestP9_GoesOnAfterUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{true, false} {
		t.Run(fmt.Sprintf("stored %t", stored), func(t *testing.T) {
			t.Parallel()
			cluster := deliveryCluster(t, "orders", 1)
			lossy := &lossyTransports{}
			cfg := testDeliveryConfig()
			cfg.MaxAttempts = 1
			w := deliveryWriter(t, cfg, cluster.ListenAddrs(), "orders", lossy.connect)
			write := func(value string) error {
				return w.WriteMessages(t.Context(), kafka.Message{Value: []byte(value)})
			}

			if err := write("a"); err != nil {
				t.Fatal(err)
			}
			want := []string{"a"}
			if lossy.requests = 1; stored {
				lossy.requests, lossy.answers = 0, 1
				want = append(want, "b")
			}
			err := write("b")
			var batch kafka.WriteErrors
			if !errors.As(err, &batch) || !errors.Is(batch[0], ErrOutcomeUnknown) {
				t.Fatalf("error %v, want ErrOutcomeUnknown", err)
			}
			lossy.requests, lossy.answers = 0, 0
			for _, value := range []string{"c", "d"} {
				if err := write(value); err != nil {
					t.Fatal(err)
				}
			}
			want = append(want, "c", "d")
			if got := readPartition(t, cluster.ListenAddrs(), "orders", 0); strings.Join(got, "") != strings.Join(want, "") {
				t.Errorf("log holds %v, want %v", got, want)
			}
		})
	}
}

func TestP9_ProducerStateIsLost(t *testing.T) {
	t.Parallel()
	for _, code := range []*kerr.Error{
		kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch, kerr.InvalidProducerIDMapping,
	} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			cluster := deliveryCluster(t, "orders", 1)
			w := deliveryWriter(t, testDeliveryConfig(), cluster.ListenAddrs(), "orders", (&lossyTransports{}).connect)
			for i := range 4 {
				if i%2 == 1 {
					cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: code})
				}
				if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte{byte('a' + i)}}); err != nil {
					t.Fatal(err)
				}
			}
			if got := readPartition(t, cluster.ListenAddrs(), "orders", 0); strings.Join(got, "") != "abcd" {
				t.Errorf("log holds %q, want abcd", got)
			}
		})
	}
}

func TestP9_OffsetsReachCompletion(t *testing.T) {
	t.Parallel()
	cluster := deliveryCluster(t, "orders", 1)
	w := deliveryWriter(t, testDeliveryConfig(), cluster.ListenAddrs(), "orders", (&lossyTransports{}).connect)
	var offsets []int64
	w.Completion = func(msgs []kafka.Message, err error) {
		for i := range msgs {
			offsets = append(offsets, msgs[i].Offset)
		}
	}
	for range 3 {
		if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("a")}); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(offsets) != "[0 1 2]" {
		t.Errorf("offsets %v, want [0 1 2]", offsets)
	}
}

func TestP4_TopicMadeWhileASendWaits(t *testing.T) {
	t.Parallel()
	cluster := deliveryCluster(t, "other", 1)
	w := deliveryWriter(t, testDeliveryConfig(), cluster.ListenAddrs(), "orders", (&lossyTransports{}).connect)
	asked := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "orders", Observe: true, Count: -1})
	sent := make(chan error, 1)
	go func() {
		sent <- w.WriteMessages(context.Background(), kafka.Message{Value: []byte("a")})
	}()
	if err := asked.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	client := kafka.Client{Addr: kafka.TCP(cluster.ListenAddrs()...), Transport: (&lossyTransports{}).connect()}
	defer client.Transport.(transport).CloseIdleConnections()
	_, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: "orders", NumPartitions: 1, ReplicationFactor: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Errorf("send to a topic made meanwhile: %v", err)
	}
}

// What delivery costs beside the same request through a bare transport.
func BenchmarkDelivery(b *testing.B) {
	value := make([]byte, 200)
	for _, size := range []int{1, 100} {
		msgs := make([]kafka.Message, size)
		for i := range msgs {
			msgs[i].Value = value
		}
		for _, mode := range []string{"bare", "plain", "idempotent"} {
			b.Run(fmt.Sprintf("%s/batch=%d", mode, size), func(b *testing.B) {
				cluster := deliveryCluster(b, "orders", 1)
				cfg := testDeliveryConfig()
				cfg.Idempotent = mode == "idempotent"
				w := deliveryWriter(b, cfg, cluster.ListenAddrs(), "orders", (&lossyTransports{}).connect)
				w.BatchSize = size
				if mode == "bare" {
					bare := (&lossyTransports{}).connect("orders")
					b.Cleanup(bare.CloseIdleConnections)
					w.Transport = bare
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := w.WriteMessages(context.Background(), msgs...); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
