package kafkatest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"
)

// exitTimeout bounds the wait for a process that was told to end.
const exitTimeout = 30 * time.Second

// Process is a node's, or that of another program: see [Cluster.Launch].
type Process struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd was waited for

	mu     sync.Mutex
	frozen bool
}

// Launch starts a program beside the nodes: on Linux it ends with this process,
// however that ends, and in any case with [Cluster.Stop], which kills it. What
// the command reads and writes must be files.
func (c *Cluster) Launch(name string, cmd *exec.Cmd) (*Process, error) {
	p, err := c.launcher.launch(name, cmd)
	if err != nil {
		return nil, fmt.Errorf("kafkatest: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.launched = append(slices.DeleteFunc(c.launched, func(p *Process) bool { return !p.running() }), p)
	return p, nil
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Kill ends the process at once, if it still runs, and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.signal(os.Kill, true); err != nil && p.running() {
		return err
	}
	return nil
}

// Shutdown tells the process to end, and does not wait.
func (p *Process) Shutdown() error { return p.signal(sigShutdown, false) }

// Freeze stops the process in its tracks until Thaw.
func (p *Process) Freeze() error { return p.signal(sigFreeze, false) }

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.signal(sigThaw, false) }

// reap ends with its process.
func (p *Process) reap() {
	_ = p.cmd.Wait() // killed, as a rule
	close(p.exited)
}

func (p *Process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *Process) isFrozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

// signal sends one signal and may wait for the end.
func (p *Process) signal(sig os.Signal, wait bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("%s is not running", p.name)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	switch sig {
	case sigFreeze:
		p.frozen = true
	case sigThaw:
		p.frozen = false
	}
	if !wait {
		return nil
	}

	timeout := time.NewTimer(exitTimeout)
	defer timeout.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timeout.C:
		return fmt.Errorf("%s has not ended %v after %v", p.name, exitTimeout, sig)
	}
}

// launcher starts processes from one thread and keeps that thread until it is
// closed. Linux ends a child with the thread that started it, not with the
// process, and Go ends threads as it likes.
type launcher struct {
	cmds chan *exec.Cmd
	errs chan error
	done chan struct{}

	mu     sync.Mutex
	closed bool
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

// launch starts a program. Whoever gets it ends it and waits for that.
func (l *launcher) launch(name string, cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = dieWithParent()
	if err := l.start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, cmd: cmd, exited: make(chan struct{})}
	go p.reap()
	return p, nil
}

func (l *launcher) start(cmd *exec.Cmd) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errStopped
	}
	l.cmds <- cmd
	return <-l.errs
}

// close may be called when every process has ended.
func (l *launcher) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.cmds)
	<-l.done
}

var errStopped = errors.New("the cluster is stopped")
