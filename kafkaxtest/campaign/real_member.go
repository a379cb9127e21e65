package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// part is what a member in a process of its own is told.
type part struct {
	Seed    uint64 // of the schedule, which says the mode
	Luck    uint64 // of the handler
	Prefix  string // of the member's name
	Brokers []string
	Proxied []string

	Topic, Dead, Group string
}

// partOf is the environment variable that makes this program a member.
const partOf = "CAMPAIGN_MEMBER"

// takePart makes the program a member, and ends it, if it was started to be one.
func takePart() {
	text := os.Getenv(partOf)
	if text == "" {
		return
	}
	var p part
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		fmt.Fprintln(os.Stderr, partOf, err)
		os.Exit(1)
	}
	os.Args = os.Args[:1]
	testing.Main(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Member", F: p.run}}, nil, nil)
}

// run is a member from its first event to its last. It leaves when it gets a
// signal, or when whoever started it is gone.
func (p part) run(t *testing.T) {
	m := onNodes.schedule(p.Seed, 0).mode
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	gone := make(chan struct{})
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()

	sim := kafkaxtest.Start(t, kafkaxtest.Brokers(p.Brokers...), kafkaxtest.Through(p.Proxied...),
		kafkaxtest.MembersNamed(p.Prefix), kafkaxtest.Identify(identify))
	out := &teller{lines: json.NewEncoder(os.Stdout)}
	sim.Recorded().Watch = func(n int, e history.Event) { out.tell(tellingOf(n, e)) }
	options := append(m.consumerOptions(p.Dead), kafkax.WithConsumerErrorLogger(out))
	member := sim.JoinLoop(p.Group, p.Topic, m.consume(rand.New(rand.NewPCG(p.Luck, 1))), options...)
	select {
	case <-stop:
	case <-gone:
	}
	if err := member.Leave(); err != nil {
		out.Printf("left with %v", err)
	}
}

// teller writes what happens to the standard output: a line for each event, in
// one write, before what is told of can have consequences. So a kill loses
// nothing that anybody else could have seen.
type teller struct {
	mu    sync.Mutex
	lines *json.Encoder
}

func (o *teller) tell(t telling) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.lines.Encode(t); err != nil {
		fmt.Fprintln(os.Stderr, "a line to tell:", err)
		os.Exit(1) // what nobody is told of must not happen
	}
}

// Printf is for what clients log.
func (o *teller) Printf(format string, args ...any) {
	o.tell(telling{Log: fmt.Sprintf(format, args...)})
}

// telling is one line: an event as it is added or set, or a line of a log.
type telling struct {
	Number   int
	Start    *history.Start    `json:",omitempty"`
	Delivery *history.Delivery `json:",omitempty"`
	Skip     *history.Skip     `json:",omitempty"`
	Stop     *history.Stop     `json:",omitempty"`
	Log      string            `json:",omitempty"`
}

func tellingOf(n int, e history.Event) telling {
	t := telling{Number: n}
	switch e := e.(type) {
	case history.Start:
		t.Start = &e
	case history.Delivery:
		t.Delivery = &e
	case history.Skip:
		t.Skip = &e
	case history.Stop:
		t.Stop = &e
	default:
		t.Log = fmt.Sprint("not told: ", e)
	}
	return t
}

// event is nil for a line of a log.
func (t telling) event() history.Event {
	switch {
	case t.Start != nil:
		return *t.Start
	case t.Delivery != nil:
		return *t.Delivery
	case t.Skip != nil:
		return *t.Skip
	case t.Stop != nil:
		return *t.Stop
	}
	return nil
}

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
func (c *course) launch(luck uint64) *member {
	prefix := fmt.Sprint("process-", c.processes.Add(1))
	p := &process{course: c, name: prefix + "-1", started: make(chan struct{}), heard: make(chan struct{})}
	if err := p.start(part{c.seed, luck, prefix, c.sim.Brokers(), c.sim.Proxied(), c.topic, c.dead, c.group}); err != nil {
		c.sim.T.Errorf("%s: %v", p.name, err)
		return nil
	}
	c.sim.T.Cleanup(p.close)
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-p.started:
		return &member{p.name, p.leave, p.crash, p.freeze}
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
	defer stdout.Close() // the process has its own
	in, stdin, err := os.Pipe()
	if err != nil {
		out.Close()
		return err
	}
	defer in.Close()
	p.stdin = stdin
	p.cmd = exec.CommandContext(context.Background(), program) //nolint:gosec // this program itself
	p.cmd.Env = append(os.Environ(), partOf+"="+string(text))
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, stdout, os.Stderr
	if p.Process, err = p.course.nodes.cluster.Launch(p.name, p.cmd); err != nil {
		out.Close()
		stdin.Close()
		return err
	}
	go p.hear(out)
	return nil
}

// hear ends with the process, which close ends and waits for.
func (p *process) hear(out io.ReadCloser) {
	defer close(p.heard)
	defer out.Close()
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
		p.course.sim.Log("%s: log: %s", p.name, t.Log)
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

// crash kills it. What it had told before counts.
func (p *process) crash() {
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
