package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demotest"
	"github.com/bi-common/kafkax/examples/internal/quakes"
	"github.com/bi-common/kafkax/kafkaxtest"
)

func TestMain(m *testing.M) { demotest.Main(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events.db")
	demotest.Contains(t, demotest.Run(t, run, "-db", file),
		"broker: in this process",
		"stored: 100 of 100 messages, 0 were there, 0 are no events\n",
		"table: 1707 events in "+file+"\n",
	)
}

func TestHelp(t *testing.T) {
	t.Parallel()
	demotest.Help(t, run, "-db", "-pace")
}

// Not parallel, as it sets the environment.
func TestRunNoEvents(t *testing.T) {
	const topic = "mixed"
	s := demotest.Cluster(t, kafkaxtest.Topic(topic, 1))
	t.Setenv("KAFKAX_CONSUMER_TOPIC", topic)
	t.Setenv("KAFKAX_CONSUMER_BATCH_TIMEOUT", "100ms")
	for _, v := range []string{`{"id":"a"}`, `?`, `{"id":"b"}`} {
		s.Send(kafkax.Message{Topic: topic, Value: []byte(v)})
	}
	file := filepath.Join(t.TempDir(), "events.db")
	demotest.Contains(t, demotest.Run(t, run, "-db", file), "table: 2 events in ")
	if dead := s.Messages(topic + "-dlq"); len(dead) != 1 || string(dead[0].Value) != "?" {
		t.Errorf("dead letters: %v", dead)
	}
}

// While the database is locked nothing is lost, passed over or dead-lettered,
// however long.
func TestDatabaseLocked(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		file := filepath.Join(s.T.TempDir(), "events.db")
		events, err := openStore(s.T.Context(), file, log.New(io.Discard, "", 0))
		if err != nil {
			s.T.Fatal(err)
		}
		defer func() {
			if err := events.close(); err != nil {
				s.T.Error(err)
			}
		}()
		lock, err := events.db.Conn(s.T.Context())
		if err != nil {
			s.T.Fatal(err)
		}
		defer lock.Close()
		if _, err := lock.ExecContext(s.T.Context(), "BEGIN EXCLUSIVE"); err != nil {
			s.T.Fatal(err)
		}

		consumer := s.Consumer(kafkax.WithConsumerTopic("quakes"), kafkax.WithConsumerGroupID("batch"), kafkax.WithConsumerDLQTopic("dead"))
		ended := make(chan error, 1)
		go func() { ended <- consume(context.Background(), consumer, events) }()
		for _, m := range quakes.Messages() {
			m.Topic = "quakes"
			s.Send(m)
		}
		s.Advance(time.Hour)
		if lag := s.Lag("batch", "quakes"); lag != 1707 {
			s.T.Errorf("lag %d", lag)
		}
		if _, err := lock.ExecContext(s.T.Context(), "ROLLBACK"); err != nil {
			s.T.Fatal(err)
		}
		s.WaitCommitted("batch", "quakes")
		if n, err := events.count(s.T.Context()); n != 1707 || err != nil {
			s.T.Errorf("%d rows: %v", n, err)
		}
		if dead := s.Messages("dead"); len(dead) != 0 {
			s.T.Errorf("dead letters: %v", dead)
		}
		if err := errors.Join(consumer.Close(), <-ended); err != nil {
			s.T.Error(err)
		}
	}, kafkaxtest.Topic("quakes", 3), kafkaxtest.Topic("dead", 1))
}

// TestKilled kills the program with -9 three times: after transactions and
// before their offsets are committed, and twice wherever it happens to be. Then
// the table must be exact.
func TestKilled(t *testing.T) {
	t.Parallel()
	// The group must soon notice that a member is dead.
	s := kafkaxtest.Start(t)
	allowShortSessions(t, s)
	p := &process{
		binary: build(t),
		file:   filepath.Join(t.TempDir(), "events.db"),
		env: append(os.Environ(),
			"KAFKAX_BROKERS="+s.Brokers()[0],
			"KAFKAX_CONSUMER_BATCH_SIZE=20",
			"KAFKAX_CONSUMER_BATCH_TIMEOUT=50ms",
			"KAFKAX_CONSUMER_HEARTBEAT_INTERVAL=200ms",
			"KAFKAX_CONSUMER_SESSION_TIMEOUT=1s",
		),
	}

	// The first transactions are done, and Kafka never learns of it.
	heard := s.Lose(kafkaxtest.Target{Requests: []kmsg.Key{kmsg.OffsetCommit}})
	if err := p.run(t, 3); err == nil {
		t.Fatalf("ended by itself:\n%s", p)
	}
	heard()
	stored := len(p.rows(t))
	for _, batches := range []int{10, 25} {
		if err := p.run(t, batches); err == nil {
			t.Fatalf("ended by itself:\n%s", p)
		}
		before := stored
		if stored = len(p.rows(t)); stored <= before || stored == 1707 {
			t.Fatalf("%d events, then %d: not in the middle\n%s", before, stored, p)
		}
	}
	if err := p.run(t, 0); err != nil {
		t.Fatalf("the last run: %v\n%s", err, p)
	}
	demotest.Contains(t, p.String(), "table: 1707 events in ")
	if p.again == 0 {
		t.Errorf("no message came twice, so this proves nothing:\n%s", p)
	}

	// Exact: each message of the topic has its row, and there is no other.
	got, want := p.rows(t), map[string]string{}
	for _, m := range s.Messages("example-earthquakes") {
		var e quakes.Event
		if err := json.Unmarshal(m.Value, &e); err != nil {
			t.Fatal(err)
		}
		want[fmt.Sprintf("%s[%d]@%d", m.Topic, m.Partition, m.Offset)] = e.ID
	}
	for place, id := range want {
		if got[place] != id {
			t.Errorf("%s: event %q, want %q", place, got[place], id)
		}
	}
	if len(got) != len(want) || len(want) != 1707 {
		t.Errorf("%d rows of %d messages, want 1707", len(got), len(want))
	}
}

// allowShortSessions makes the brokers accept what Kafka refuses by default.
func allowShortSessions(t *testing.T, s *kafkaxtest.Sim) {
	t.Helper()
	transport := new(kafka.Transport)
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(s.Brokers()...), Transport: transport}
	res, err := client.IncrementalAlterConfigs(t.Context(), &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeBroker, ResourceName: "0",
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{
				Name: "group.min.session.timeout.ms", Value: "100", ConfigOperation: kafka.ConfigOperationSet,
			}},
		}},
	})
	if err == nil {
		err = res.Resources[0].Error
	}
	if err != nil {
		t.Fatal(err)
	}
}

// build compiles the program: a kill -9 needs a process of its own.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "batch.exe")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// process is the program, run several times over one database.
type process struct {
	binary, file string
	env          []string

	mu        sync.Mutex
	cmd       *exec.Cmd
	out       strings.Builder
	killAfter int // batches
	again     int // messages that were there already, in all runs
}

// run runs the program until it ends, or is killed after so many batches.
func (p *process) run(t *testing.T, killAfter int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.binary, "-db", p.file, "-pace", "2ms")
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, p, os.Stderr
	p.mu.Lock()
	p.cmd, p.killAfter = cmd, killAfter
	err := cmd.Start()
	p.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		t.Fatalf("did not end:\n%s", p)
	}
	return err
}

// Write takes what the program prints.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range strings.Lines(string(b)) {
		var added, of, again int
		if _, err := fmt.Sscanf(line, "stored: %d of %d messages, %d were there", &added, &of, &again); err != nil {
			continue
		}
		p.again += again
		if p.killAfter--; p.killAfter == 0 {
			_ = p.cmd.Process.Kill() // that it ended by itself shows elsewhere
		}
	}
	return p.out.Write(b)
}

// String is what it printed in all runs.
func (p *process) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// rows reads the table: the event's id by place.
func (p *process) rows(t *testing.T) map[string]string {
	t.Helper()
	db, err := sql.Open("sqlite", p.file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows, err := db.QueryContext(t.Context(), `SELECT format('%s[%d]@%d', topic, partition, "offset"), id FROM events`)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for rows.Next() {
		var place, id string
		if err := rows.Scan(&place, &id); err != nil {
			t.Fatal(err)
		}
		ids[place] = id
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}
