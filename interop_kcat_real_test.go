package kafkax_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
)

// kcat is librdkafka's command line, which most other languages' clients are
// built on.
var kcat = peer{write: writeKcat, read: readKcat}

func TestInterop_Kcat(t *testing.T) {
	t.Parallel()
	kafkatest.Need(t, "kcat")
	msgs := slices.DeleteFunc(peerMessages(), func(m kafka.Message) bool {
		return !utf8.Valid(m.Key) // kcat's JSON is of no use for these
	})
	for i := range msgs {
		msgs[i].Time = time.Time{} // kcat cannot set it
	}
	testInterop(t, kcat, msgs)
}

func TestInterop_KeysLandAsLibrdkafkas(t *testing.T) {
	t.Parallel()
	kafkatest.Need(t, "kcat")
	testPartitions(t, kcat, "crc32", partitionKeys())
}

// All of a dead letter can be seen without kafkax.
func TestInterop_KcatReadsADeadLetter(t *testing.T) {
	t.Parallel()
	kafkatest.Need(t, "kcat")
	cluster := kafkatest.Shared(t)
	b := realBroker(t, cluster, 1)
	group, dlq := kafkatest.Name(t), cluster.Topic(t, 1)
	original := kafka.Message{
		Key:     []byte("order 7"),
		Value:   []byte(`{"total": -1}`),
		Headers: []kafka.Header{{Key: "trace", Value: []byte("ab12")}, {Key: "null"}},
		Time:    time.Date(2024, 2, 29, 23, 59, 59, 123e6, time.UTC),
	}
	if err := produceToReal(t, cluster, b.topic).WriteMessages(testContext(t), original); err != nil {
		t.Fatal(err)
	}

	c := b.consumer(t, group, kafkax.WithConsumerDLQTopic(dlq), kafkax.WithConsumerCommitInterval(20*time.Millisecond))
	started := time.Now()
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(context.Context, kafka.Message) error { return errors.New("the total is negative: größe") })
	})
	eventually(t, "the commit past the dead letter", func() bool { return b.committed(t, group, 0) == 1 })
	if err := stop(); err != nil {
		t.Error(err)
	}

	letters := readKcat(t, cluster, 1, dlq)[dlq]
	if len(letters) != 1 {
		t.Fatalf("kcat read %d dead letters, want 1", len(letters))
	}
	letter := letters[0]
	failedAt := letter.Headers[len(letter.Headers)-1]
	at, err := time.Parse(time.RFC3339, string(failedAt.Value))
	if failedAt.Key != "kafkax-failed-at" || err != nil || at.Before(started.Truncate(time.Millisecond)) || at.After(time.Now()) {
		t.Errorf("header %s is %s: %v", failedAt.Key, failedAt.Value, err)
	}
	letter.Headers = letter.Headers[:len(letter.Headers)-1]
	want := original
	for _, h := range [][2]string{
		{"kafkax-original-topic", b.topic},
		{"kafkax-original-partition", "0"},
		{"kafkax-original-offset", "0"},
		{"kafkax-original-timestamp", "2024-02-29T23:59:59.123Z"},
		{"kafkax-dead-lettered", "1"},
		{"kafkax-consumer-group", group},
		{"kafkax-error", "the total is negative: größe"},
		{"kafkax-error-type", "*errors.errorString"},
		{"kafkax-attempts", "3"},
	} {
		want.Headers = append(want.Headers, kafka.Header{Key: h[0], Value: []byte(h[1])})
	}
	sameMessages(t, "dead letter", []kafka.Message{letter}, []kafka.Message{want})
}

// readKcat reads the JSON that kcat prints until the end of each topic.
func readKcat(t *testing.T, c *kafkatest.Cluster, _ int, topics ...string) map[string][]kafka.Message {
	t.Helper()
	msgs := map[string][]kafka.Message{}
	for _, topic := range topics {
		decoder := json.NewDecoder(runKcat(t, c, nil, "-C", "-q", "-e", "-J", "-t", topic))
		for {
			var r struct {
				TS           int64
				Key, Payload *string
				Headers      []*string // key, value, key, value
			}
			err := decoder.Decode(&r)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			m := kafka.Message{Key: orNull(r.Key), Value: orNull(r.Payload), Time: time.UnixMilli(r.TS)}
			for pair := range slices.Chunk(r.Headers, 2) {
				m.Headers = append(m.Headers, kafka.Header{Key: *pair[0], Value: orNull(pair[1])})
			}
			msgs[topic] = append(msgs[topic], m)
		}
	}
	return msgs
}

func orNull(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}

func writeKcat(t *testing.T, c *kafkatest.Cluster, batches ...peerBatch) {
	t.Helper()
	for _, b := range batches {
		args := []string{"-P", "-K", `\t`, "-t", b.Topic, "-z", string(b.Compression)}
		switch b.Transaction {
		case aborted:
			killKcat(t, c, b, append(args, "-X", "transactional.id="+b.Topic)...)
		case committed:
			runKcat(t, c, kcatInput(t, b.Messages), append(args, "-X", "transactional.id="+b.Topic)...)
		default:
			for _, msgs := range kcatRuns(b.Messages) {
				runKcat(t, c, kcatInput(t, msgs), append(args, kcatOptions(msgs[0])...)...)
			}
		}
	}
}

// kcatRuns splits messages into those that one run of kcat can write.
func kcatRuns(msgs []kafka.Message) [][]kafka.Message {
	var runs [][]kafka.Message
	for i, m := range msgs {
		if i == 0 || !slices.Equal(kcatOptions(m), kcatOptions(msgs[i-1])) {
			runs = append(runs, nil)
		}
		last := len(runs) - 1
		runs[last] = append(runs[last], m)
	}
	return runs
}

// kcatOptions are what kcat needs to write a message: they are for all of a
// run.
func kcatOptions(m kafka.Message) []string {
	var args []string
	if m.Key == nil || m.Value == nil {
		args = append(args, "-Z") // null instead of empty
	}
	for _, h := range m.Headers {
		header := h.Key
		if h.Value != nil {
			header += "=" + string(h.Value)
		}
		args = append(args, "-H", header)
	}
	return args
}

func kcatInput(t *testing.T, msgs []kafka.Message) *bytes.Buffer {
	t.Helper()
	var lines bytes.Buffer
	for _, m := range msgs {
		if bytes.ContainsAny(append(m.Key, m.Value...), "\t\n") {
			t.Fatalf("kcat cannot write %s", describe(m))
		}
		lines.Write(slices.Concat(m.Key, []byte("\t"), m.Value, []byte("\n")))
	}
	return &lines
}

// killKcat kills kcat within a transaction. The next one with the same
// transactional ID aborts that, as librdkafka's producers do.
func killKcat(t *testing.T, c *kafkatest.Cluster, b peerBatch, args ...string) {
	t.Helper()
	cmd := kcatCommand(testContext(t), c, args...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	before := logEnds(t, c.Brokers(), b.Topic, 1)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It reads in blocks, and sends the messages of those that are full.
	lines := bytes.Repeat(kcatInput(t, b.Messages).Bytes(), 100)
	for err == nil && logEnds(t, c.Brokers(), b.Topic, 1) < before+int64(len(b.Messages)) {
		_, err = stdin.Write(lines)
	}
	killed, ended := cmd.Process.Kill(), cmd.Wait()
	if err != nil || killed != nil {
		t.Fatalf("kcat did not take its input: %v, %v, %v\n%s", err, killed, ended, &complaints)
	}
}

func runKcat(t *testing.T, c *kafkatest.Cluster, input io.Reader, args ...string) *bytes.Buffer {
	t.Helper()
	cmd := kcatCommand(testContext(t), c, args...)
	var output, complaints bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &output, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("kcat %s: %v\n%s", strings.Join(args, " "), err, &complaints)
	}
	return &output
}

func kcatCommand(ctx context.Context, c *kafkatest.Cluster, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "kcat", append([]string{
		"-F", os.DevNull, // not the user's configuration
		"-b", strings.Join(c.Brokers(), ","),
		"-m", "30", // seconds, for metadata and transactions
	}, args...)...)
}
