// Package demotest runs the examples in tests.
package demotest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bi-common/kafkax/kafkaxtest"
)

// bound is how long an example may take to do anything.
const bound = time.Minute

// Main runs the tests without a configuration from outside, and fails if they
// leave a goroutine behind.
func Main(m *testing.M) {
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "KAFKAX_") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

// Cluster starts one that stands for a real cluster, and names it in the
// environment, where the examples look for it.
func Cluster(t *testing.T, opts ...kafkaxtest.Option) *kafkaxtest.Sim {
	t.Helper()
	s := kafkaxtest.Start(t, opts...)
	t.Setenv("KAFKAX_BROKERS", strings.Join(s.Brokers(), ","))
	return s
}

// RunFunc is an example without its process.
type RunFunc func(ctx context.Context, args []string, stdout io.Writer) error

// Run returns what an example printed that must end by itself, and well.
func Run(t *testing.T, run RunFunc, args ...string) string {
	t.Helper()
	p := Start(t, run, args...)
	if err := p.Wait(); err != nil {
		t.Fatalf("run %q: %v\n%s", args, err, p)
	}
	return p.String()
}

// Help checks that -h says what the example is for, and want.
func Help(t *testing.T, run RunFunc, want ...string) {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: error %v, want flag.ErrHelp", err)
	}
	Contains(t, out.String(), append(want, "go run ./examples/", "KAFKAX_BROKERS")...)
	if err := run(t.Context(), []string{"surplus"}, io.Discard); err == nil {
		t.Error("an argument that is no flag is not refused")
	}
}

// Contains checks that all of want are in out.
func Contains(t *testing.T, out string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in:\n%s", w, out)
		}
	}
}

// Program is an example that runs.
type Program struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once ended is closed

	mu      sync.Mutex
	out     bytes.Buffer
	printed chan struct{} // closed and replaced by each write
}

// Start runs an example until it ends, Stop is called or the test is over.
func Start(t *testing.T, run RunFunc, args ...string) *Program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &Program{t: t, cancel: cancel, ended: make(chan struct{}), printed: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = run(ctx, args, p)
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
	})
	return p
}

// Write is for what the example prints.
func (p *Program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.printed)
	p.printed = make(chan struct{})
	return p.out.Write(b)
}

// String is what it printed so far.
func (p *Program) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// WaitFor waits for a line that begins with prefix, and returns it.
func (p *Program) WaitFor(prefix string) string {
	p.t.Helper()
	timeout := time.After(bound)
	for {
		p.mu.Lock()
		out, printed := p.out.String(), p.printed
		p.mu.Unlock()
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, prefix) && strings.HasSuffix(line, "\n") {
				return strings.TrimSuffix(line, "\n")
			}
		}
		select {
		case <-printed:
		case <-p.ended:
			p.t.Fatalf("ended (%v) without a line %q:\n%s", p.err, prefix, p)
		case <-timeout:
			p.t.Fatalf("no line %q:\n%s", prefix, p)
		}
	}
}

// Stop stops the example as a signal does, and returns how it ended.
func (p *Program) Stop() error {
	p.t.Helper()
	p.cancel()
	return p.Wait()
}

// Wait returns how the example ended.
func (p *Program) Wait() error {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(bound):
		p.t.Fatalf("did not end:\n%s", p)
		return nil
	}
}
