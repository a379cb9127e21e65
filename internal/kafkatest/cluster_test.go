package kafkatest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
	"github.com/segmentio/kafka-go"
)

const testTimeout = time.Minute

func TestSharedProduceAndFetch(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	topic := cluster.Topic(t, 1)

	produce(t, cluster, topic, "a", "b", "c")

	if got, want := consume(t, cluster, topic, 3), "a b c"; got != want {
		t.Errorf("consumed %q, want %q", got, want)
	}
}

// produce writes through kafka-go's Writer with its many retries.
func produce(t *testing.T, cluster *kafkatest.Cluster, topic string, values ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	transport := &kafka.Transport{MetadataTTL: 500 * time.Millisecond}
	defer transport.CloseIdleConnections()
	writer := &kafka.Writer{
		Addr:         kafka.TCP(cluster.Brokers()...),
		Topic:        topic,
		RequiredAcks: kafka.RequireAll,
		BatchTimeout: time.Millisecond,
		MaxAttempts:  1000,
		Transport:    transport,
	}
	for _, value := range values {
		if err := writer.WriteMessages(ctx, kafka.Message{Value: []byte(value)}); err != nil {
			t.Fatalf("produce %s: %v", value, err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Error(err)
	}
}

// consume returns the first n values of partition 0.
func consume(t *testing.T, cluster *kafkatest.Cluster, topic string, n int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: cluster.Brokers(),
		Topic:   topic,
		MaxWait: 100 * time.Millisecond,
	})
	defer reader.Close()
	var values []string
	for range n {
		msg, err := reader.ReadMessage(ctx)
		if err != nil {
			t.Fatalf("after %q: %v", values, err)
		}
		values = append(values, string(msg.Value))
	}
	return strings.Join(values, " ")
}

func TestNodesComeAndGo(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, 3)
	topic := cluster.Topic(t, 1)
	produce(t, cluster, topic, "before")

	killed := cluster.Leader(t, topic, 0)
	cluster.Kill(t, killed)
	produce(t, cluster, topic, "after")
	if now := cluster.Leader(t, topic, 0); now == killed || now == 0 {
		t.Errorf("node %d leads after the kill of node %d", now, killed)
	}

	cluster.Restart(t, killed)
	cluster.MoveLeader(t, topic, 0, killed)
	if now := cluster.Leader(t, topic, 0); now != killed {
		t.Errorf("node %d leads after the move to node %d", now, killed)
	}
	if got, want := consume(t, cluster, topic, 2), "before after"; got != want {
		t.Errorf("consumed %q, want %q", got, want)
	}

	cluster.Shutdown(t, killed)
	if now := cluster.Leader(t, topic, 0); now == killed || now == 0 {
		t.Errorf("node %d leads at the end of node %d, which shut down in order", now, killed)
	}
}

func TestFreezeAndStop(t *testing.T) {
	t.Parallel()
	kafkatest.Available(t)
	cluster, err := kafkatest.Run(1)
	if err != nil {
		t.Fatal(err)
	}
	addr := cluster.Brokers()[0]
	conn, err := kafka.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	cluster.Freeze(t, 1)
	// A thread stops when it is next scheduled, so an answer may still come.
	for range 20 {
		_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err = conn.Brokers(); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("frozen: %v, want a timeout", err)
	}
	cluster.Thaw(t, 1)
	produce(t, cluster, cluster.Topic(t, 1), "thawed")

	// A frozen node must not hold up the end.
	cluster.Freeze(t, 1)
	for range 2 {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Errorf("%s still listens", addr)
	}
}

func TestFailedStartShowsOutput(t *testing.T) {
	t.Parallel()
	kafkatest.Available(t)
	_, err := kafkatest.Run(1, kafkatest.WithProperty("num.io.threads", "none"))
	if err == nil || !strings.Contains(err.Error(), "Invalid value none for configuration num.io.threads") {
		t.Errorf("got %v, want Kafka's own words", err)
	}
}

func TestRunRefusesSize(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{-1, 0, kafkatest.MaxNodes + 1} {
		if _, err := kafkatest.Run(nodes); err == nil {
			t.Errorf("%d nodes: no error", nodes)
		}
	}
}
