package kafkatest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Available skips the test where no broker can be started, and says why: in
// -short mode, or without Java or Maven. With CI=true in the environment a
// missing program fails the test, so that CI never passes by skipping. A
// [VersionVariable] that names no known version fails it everywhere.
func Available(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("real Kafka: not in -short mode")
	}
	if _, err := chosen(); err != nil {
		t.Fatalf("real Kafka: %v", err)
	}
	need(t, "real Kafka", available())
}

// Need is [Available] for a test that needs another program too.
func Need(t testing.TB, program string) {
	t.Helper()
	Available(t)
	_, err := exec.LookPath(program)
	need(t, program, err)
}

func need(t testing.TB, what string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("%s, which CI must test against: %v", what, err)
	default:
		skip(t, fmt.Sprintf("%s: %v", what, err))
	}
}

func available() error {
	if !supported {
		return errors.New("needs a Unix system")
	}
	if _, err := exec.LookPath("java"); err != nil {
		return err
	}
	if _, ok, err := installed(); ok || err != nil {
		return err
	}
	_, err := exec.LookPath("mvn")
	return err
}

// Start runs a cluster for one test and stops it at the test's end. It skips
// as [Available] does.
func Start(t testing.TB, nodes int, opts ...Option) *Cluster {
	t.Helper()
	Available(t)
	c, err := Run(nodes, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range c.nodes {
				t.Logf("the output of node %d of Kafka %s ends:\n%s", n.id, c.dist.version.name, n.tail())
			}
		}
		if err := c.Stop(); err != nil {
			t.Errorf("kafkatest: stop: %v", err)
		}
	})
	return c
}

// one is the cluster that the tests of a binary share.
var one shared

type shared struct {
	mu      sync.Mutex
	cluster *Cluster
	err     error // of the start; it is not tried again
}

// Shared is the binary's one-node cluster, started by the first test that asks
// for it and stopped by [M.Run] or [Close]. Tests use it in parallel, each with
// its own topics and groups, and do not kill or freeze it. It keeps goroutines
// of this package until then, which a test that looks for leaks ignores with
// goleak.IgnoreCurrent. It skips as [Available] does.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	return one.get(t)
}

func (s *shared) get(t testing.TB) *Cluster {
	t.Helper()
	Available(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil {
		s.cluster, s.err = Run(1)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.cluster
}

func (s *shared) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil {
		return nil
	}
	cluster := s.cluster
	s.cluster = nil
	return cluster.Stop()
}

// Close stops the shared cluster. The next test that asks starts a new one.
func Close() error { return one.close() }

// M is a testing.M whose Run also stops the shared cluster, and tells which
// tests were skipped for want of a program.
//
//	func TestMain(m *testing.M) { os.Exit(kafkatest.M{M: m}.Run()) }
//
// Or, to look for leaks after that: goleak.VerifyTestMain(kafkatest.M{M: m}).
type M struct{ *testing.M }

// Run runs the tests and returns the exit code.
func (m M) Run() int {
	code := m.M.Run()
	saySkips()
	if err := Close(); err != nil {
		fmt.Fprintln(os.Stderr, "kafkatest: stop:", err)
		return max(code, 1)
	}
	return code
}
