package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/examples/internal/demotest"
	"github.com/bi-common/kafkax/examples/internal/quakes"
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
	broker := demotest.Broker(t, kfake.SeedTopics(1, topic))
	t.Setenv("KAFKAX_BROKERS", broker.ListenAddrs()[0])
	t.Setenv("KAFKAX_CONSUMER_TOPIC", topic)
	t.Setenv("KAFKAX_CONSUMER_BATCH_TIMEOUT", "100ms")
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...), kgo.DefaultProduceTopic(topic), kgo.ConsumeTopics(topic+"-dlq"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, v := range []string{`{"id":"a"}`, `?`, `{"id":"b"}`} {
		if err := client.ProduceSync(t.Context(), kgo.StringRecord(v)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "events.db")
	demotest.Contains(t, demotest.Run(t, run, "-db", file), "table: 2 events in ")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if dead := client.PollFetches(ctx).Records(); len(dead) != 1 || string(dead[0].Value) != "?" {
		t.Errorf("dead letters: %v", dead)
	}
}

// While the database is locked nothing is lost, passed over or dead-lettered.
func TestRunDatabaseLocked(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events.db")
	p := demotest.Start(t, run, "-db", file, "-pace", "10ms")
	p.WaitFor("stored: ")

	db, err := sql.Open("sqlite", file+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	lock, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p.WaitFor("not stored: 100 messages, to be tried again: ")
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, p)
	}
	demotest.Contains(t, p.String(), "table: 1707 events in ")
}

// TestKilled kills the program with -9 three times: after a transaction and
// before its offsets are committed, and twice wherever it happens to be. Then
// the table must be exact.
func TestKilled(t *testing.T) {
	t.Parallel()
	// The group must soon notice that a member is dead.
	broker := demotest.Broker(t, kfake.GroupMinSessionTimeout(100*time.Millisecond))
	p := &process{
		binary: build(t),
		file:   filepath.Join(t.TempDir(), "events.db"),
		env: append(os.Environ(),
			"KAFKAX_BROKERS="+broker.ListenAddrs()[0],
			"KAFKAX_CONSUMER_BATCH_SIZE=20",
			"KAFKAX_CONSUMER_BATCH_TIMEOUT=50ms",
			"KAFKAX_CONSUMER_HEARTBEAT_INTERVAL=200ms",
			"KAFKAX_CONSUMER_SESSION_TIMEOUT=1s",
		),
	}

	// One commit is withheld: the transaction before it is done, and Kafka
	// never learns of it.
	withheld := false
	broker.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		if p.batches() < 3 {
			return nil, nil, false
		}
		withheld = true
		p.kill()
		return nil, io.ErrClosedPipe, true
	})
	if err := p.run(t, 0); err == nil || !withheld {
		t.Fatalf("ended by itself (%v):\n%s", err, p)
	}
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
	got, want := p.rows(t), inKafka(t, broker.ListenAddrs())
	for place, id := range want {
		if got[place] != id {
			t.Errorf("%s: event %q, want %q", place, got[place], id)
		}
	}
	if len(got) != len(want) || len(want) != 1707 {
		t.Errorf("%d rows of %d messages, want 1707", len(got), len(want))
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
	stored    int // batches, in all runs
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
		p.stored++
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

func (p *process) batches() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stored
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Kill() // that it ended by itself shows elsewhere
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

// inKafka is what rows should be, read by another client.
func inKafka(t *testing.T, brokers []string) map[string]string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("example-earthquakes"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ids := map[string]string{}
	for len(ids) < 1707 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d messages: %v", len(ids), err)
		}
		for _, r := range fetches.Records() {
			var e quakes.Event
			if err := json.Unmarshal(r.Value, &e); err != nil {
				t.Fatal(err)
			}
			ids[fmt.Sprintf("%s[%d]@%d", r.Topic, r.Partition, r.Offset)] = e.ID
		}
	}
	return ids
}
