package kafkax_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// javaTimeout is for a JVM that compiles its program first, on a busy machine.
const javaTimeout = 2 * time.Minute

// java is Kafka's own client.
var java = peer{write: writeJava, read: readJava}

func TestInterop_Java(t *testing.T) {
	t.Parallel()
	testInterop(t, java, peerMessages())
}

func TestInterop_KeysLandAsJavas(t *testing.T) {
	t.Parallel()
	testPartitions(t, java, "murmur2", append(partitionKeys(), "\x00\xff\x80", ""))
}

func writeJava(t *testing.T, c *kafkatest.Cluster, batches ...peerBatch) {
	t.Helper()
	var input bytes.Buffer
	encoder := json.NewEncoder(&input)
	for _, b := range batches {
		if err := encoder.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	runJava(t, c, &input, "write")
}

func readJava(t *testing.T, c *kafkatest.Cluster, _ int, topics ...string) map[string][]kafka.Message {
	t.Helper()
	msgs := map[string][]kafka.Message{}
	decoder := json.NewDecoder(runJava(t, c, nil, "read", topics...))
	for {
		var m kafka.Message
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			return msgs
		}
		if err != nil {
			t.Fatal(err)
		}
		msgs[m.Topic] = append(msgs[m.Topic], m)
	}
}

// runJava runs testdata/InteropPeer.java and returns what it prints.
func runJava(t *testing.T, c *kafkatest.Cluster, input io.Reader, mode string, args ...string) *bytes.Buffer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), javaTimeout)
	defer cancel()
	args = append([]string{"testdata/InteropPeer.java", mode, strings.Join(c.Brokers(), ",")}, args...)
	cmd := c.Java(ctx, args...)
	var output, complaints bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &output, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("the Java client, to %s: %v\n%s", mode, err, &complaints)
	}
	return &output
}
