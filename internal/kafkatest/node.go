package kafkatest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// node is one broker and controller: its files, and its process while there is
// one.
type node struct {
	id     int
	ports  map[Listener]int
	logDir string // Kafka's data
	config string
	output string // what the process prints

	mu      sync.Mutex
	process *Process // the last that was started
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
	process, err := l.launch(fmt.Sprint("node ", n.id), cmd)
	if err == nil {
		n.process = process
	}
	return err
}

// running needs the lock.
func (n *node) running() bool { return n.process != nil && n.process.running() }

// answers says whether the node can be expected to answer a request.
func (n *node) answers() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running() && !n.process.isFrozen()
}

// signal sends one signal to a running process and may wait for its end.
func (n *node) signal(sig os.Signal, wait bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return fmt.Errorf("node %d is not running", n.id)
	}
	return n.process.signal(sig, wait)
}

// kill ends the process if there is one.
func (n *node) kill() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return nil
	}
	return n.process.Kill()
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
