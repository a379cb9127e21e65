package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// part is what a member in a process of its own is told.
type part struct {
	Seed    uint64 // of the schedule, which says the mode
	Luck    uint64 // of the handler
	Which   uint64 // of the members' modes, see as
	Prefix  string // of the member's name
	Brokers []string
	Proxied []string

	Topic, Dead, Group string

	Peace time.Time // see consume
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
	m := onNodes.schedule(p.Seed, 0).mode.as(p.Which)
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
	member := m.join(sim, names{p.Topic, p.Dead, p.Group}, rand.New(rand.NewPCG(p.Luck, 1)), p.Peace, kafkax.WithConsumerErrorLogger(out))
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
	err := o.lines.Encode(t)
	o.mu.Unlock()
	if err != nil {
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
	Seek     *history.Seek     `json:",omitempty"`
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
	case history.Seek:
		t.Seek = &e
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
	case t.Seek != nil:
		return *t.Seek
	case t.Stop != nil:
		return *t.Stop
	}
	return nil
}
