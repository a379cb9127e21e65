package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

const (
	startLimit = time.Minute
	leaveLimit = time.Minute // more than a close may take, and the end of a process
)

// process is a member in a process of its own.
type process struct {
	*kafkatest.Process

	course *course
	name   string
	cmd    *exec.Cmd
	stdin  io.Closer

	started chan struct{} // closed when it has told of its start
	heard   chan struct{} // closed when all that it told was heard

	mu    sync.Mutex
	ended bool // it was told to end, or killed
}

// launch starts a member, and waits for its start. It is nil if that failed, and
// the test with it.
func (c *course) launch(luck, which uint64) *member {
	prefix := fmt.Sprint("process-", c.processes.Add(1))
	p := &process{course: c, name: prefix + "-1", started: make(chan struct{}), heard: make(chan struct{})}
	if err := p.start(part{c.seed, luck, which, prefix, c.sim.Brokers(), c.sim.Proxied(), c.topic, c.dead, c.group, c.peace}); err != nil {
		c.sim.T.Errorf("%s: %v", p.name, err)
		return nil
	}
	c.sim.T.Cleanup(p.close)
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-p.started:
		return &member{name: p.name, leave: p.leave, kill: p.kill, freeze: p.freeze}
	case <-p.heard:
	case <-limit.C:
		c.sim.T.Errorf("%s has not begun after %v", p.name, startLimit)
	}
	return nil
}

func (p *process) start(told part) error {
	text, err := json.Marshal(told)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = stdout.Close() }() // the process has its own
	in, stdin, err := os.Pipe()
	if err != nil {
		_ = out.Close()
		return err
	}
	defer func() { _ = in.Close() }()
	p.stdin = stdin
	p.cmd = exec.CommandContext(context.Background(), program) //nolint:gosec // this program itself
	p.cmd.Env = append(os.Environ(), partOf+"="+string(text))
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, stdout, os.Stderr
	if p.Process, err = p.course.nodes.cluster.Launch(p.name, p.cmd); err != nil {
		_ = out.Close()
		_ = stdin.Close()
		return err
	}
	go p.hear(out)
	return nil
}

// hear ends with the process, which close ends and waits for.
func (p *process) hear(out io.ReadCloser) {
	defer close(p.heard)
	defer func() { _ = out.Close() }()
	numbers := map[int]int{} // of the history, by those of the process
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // what has no end is cut off, and was not followed by anything
		}
		p.hears(line, numbers)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.course.sim.T.Errorf("%s ended by itself", p.name)
	}
}

func (p *process) hears(line []byte, numbers map[int]int) {
	var t telling
	if json.Unmarshal(line, &t) != nil {
		p.course.sim.Log("%s: %s", p.name, line)
		return
	}
	e := t.event()
	if e == nil {
		p.course.sim.Logger(p.name, p.course.group).Printf("%s: %s", p.name, t.Log)
		return
	}
	p.course.sim.Log("%v", e)
	n, known := numbers[t.Number]
	if known {
		p.course.sim.Recorded().Set(n, e)
	} else {
		numbers[t.Number] = p.course.sim.Recorded().Add(e)
	}
	if t.Start != nil {
		close(p.started)
	}
}

func (p *process) ends() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

// leave has it end as a good program does.
func (p *process) leave() {
	p.ends()
	if err := p.Shutdown(); err != nil {
		p.course.sim.T.Errorf("%v", err)
	}
	limit := time.NewTimer(leaveLimit)
	defer limit.Stop()
	select {
	case <-p.Exited():
		<-p.heard
		if !p.cmd.ProcessState.Success() {
			p.course.sim.T.Errorf("%s left with %v", p.name, p.cmd.ProcessState)
		}
	case <-limit.C:
		p.course.sim.T.Errorf("%s has not left after %v", p.name, leaveLimit)
		p.close()
	}
}

// kill ends it at once. What it had told before counts.
func (p *process) kill() {
	p.close()
	p.course.fault(history.Crash, p.name, "killed")()
}

// close kills it if it still runs, and waits until all was heard.
func (p *process) close() {
	p.ends()
	if err := p.Kill(); err != nil {
		p.course.sim.T.Errorf("%v", err)
		return
	}
	<-p.heard
	_ = p.stdin.Close()
}

// freeze stops it in its tracks.
func (p *process) freeze() (thaw func()) {
	over := p.course.fault(history.Freeze, p.name, "stopped in its tracks")
	if err := p.Freeze(); err != nil {
		p.course.sim.T.Errorf("%v", err)
	}
	return func() {
		if err := p.Thaw(); err != nil {
			p.course.sim.T.Errorf("%v", err)
		}
		over()
	}
}
