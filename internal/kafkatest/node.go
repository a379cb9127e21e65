package kafkatest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// exitTimeout bounds the wait for a process that was told to end.
const exitTimeout = 30 * time.Second

// node is one broker and controller: its files, and its process while there is
// one.
type node struct {
	id     int
	ports  map[Listener]int
	logDir string // Kafka's data
	config string
	output string // what the process prints

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd was waited for
	frozen bool
}

func (n *node) start(l *launcher, d distribution) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		return fmt.Errorf("node %d is running", n.id)
	}

	output, err := os.OpenFile(n.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer output.Close() // the process has its own

	cmd := exec.Command("java",
		"-Xmx512m",
		"-XX:+UseSerialGC",
		"-XX:TieredStopAtLevel=1",
		"-XX:-UsePerfData",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", d.classpath(),
		"kafka.Kafka", n.config)
	cmd.Dir = filepath.Dir(n.config)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = dieWithParent()
	if err := l.start(cmd); err != nil {
		return fmt.Errorf("start node %d: %w", n.id, err)
	}

	n.cmd, n.exited, n.frozen = cmd, make(chan struct{}), false
	go reap(cmd, n.exited)
	return nil
}

// reap ends with its process, which [Cluster.Stop] ends and waits for.
func reap(cmd *exec.Cmd, exited chan<- struct{}) {
	_ = cmd.Wait() // killed, as a rule
	close(exited)
}

// running needs the lock.
func (n *node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// answers says whether the node can be expected to answer a request.
func (n *node) answers() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running() && !n.frozen
}

// signal sends one signal to a running process and may wait for its end.
func (n *node) signal(sig os.Signal, wait bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return fmt.Errorf("node %d is not running", n.id)
	}
	if err := n.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("node %d: %w", n.id, err)
	}
	switch sig {
	case sigFreeze:
		n.frozen = true
	case sigThaw:
		n.frozen = false
	}
	if !wait {
		return nil
	}

	timeout := time.NewTimer(exitTimeout)
	defer timeout.Stop()
	select {
	case <-n.exited:
		return nil
	case <-timeout.C:
		return fmt.Errorf("node %d has not ended %v after %v", n.id, exitTimeout, sig)
	}
}

// kill ends the process if there is one.
func (n *node) kill() error {
	err := n.signal(os.Kill, true)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return nil
	}
	return err
}

// tail is the end of what the process printed, without Java's stack frames.
func (n *node) tail() string {
	const lines, width = 20, 300
	output, err := os.ReadFile(n.output)
	if err != nil {
		return err.Error()
	}
	var kept []string
	for line := range strings.Lines(string(output)) {
		if !strings.HasPrefix(line, "\tat ") {
			kept = append(kept, fmt.Sprintf("%.*s", width, strings.TrimSpace(line)))
		}
	}
	return strings.Join(kept[max(0, len(kept)-lines):], "\n")
}

// launcher starts processes from one thread and keeps that thread until it is
// closed. Linux ends a child with the thread that started it, not with the
// process, and Go ends threads as it likes.
type launcher struct {
	cmds chan *exec.Cmd
	errs chan error
	done chan struct{}
	mu   sync.Mutex
}

func newLauncher() *launcher {
	l := &launcher{
		cmds: make(chan *exec.Cmd),
		errs: make(chan error),
		done: make(chan struct{}),
	}
	go l.run()
	return l
}

func (l *launcher) run() {
	defer close(l.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for cmd := range l.cmds {
		l.errs <- cmd.Start()
	}
}

func (l *launcher) start(cmd *exec.Cmd) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cmds <- cmd
	return <-l.errs
}

// close may be called when every process has ended.
func (l *launcher) close() {
	close(l.cmds)
	<-l.done
}
