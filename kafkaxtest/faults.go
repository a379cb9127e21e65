package kafkaxtest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/kafkaxtest/history"
	"github.com/bi-common/kafkax/kafkaxtest/internal/network"
)

// Failure is what brokers answer in place of doing what they were asked: see
// [Sim.Fail]. Each field narrows it down; the zero value of each is any.
type Failure struct {
	// Requests are the kinds, such as kmsg.Produce or kmsg.OffsetCommit.
	Requests []kmsg.Key

	// Error is the code. Default kafka.Unknown, which is no code that a broker
	// should ever answer.
	Error kafka.Error

	Topic      string
	Partitions []int
	Group      string
	Nodes      []int

	// Count is how many requests fail. Default 1; -1 is all until the fault is
	// removed.
	Count int

	// Share is how many of the requests that match fail, of 1; which, is decided
	// by the simulation's seed. Default 1: all.
	Share float64
}

// Fault is a [Failure] at work.
type Fault struct {
	handle *kfake.FaultHandle
	remove func()
}

// Hits is how many requests it has failed so far.
func (f *Fault) Hits() int { return f.handle.Hits() }

// Remove ends it.
func (f *Fault) Remove() { f.remove() }

// Fail makes brokers answer requests with an error code, before they act on
// them. REQUEST_TIMED_OUT, and NOT_ENOUGH_REPLICAS_AFTER_APPEND to a produce
// request, are answered after: a broker may do so.
func (s *Sim) Fail(f Failure) *Fault {
	s.T.Helper()
	if len(f.Requests) == 0 {
		for key := range int16(128) {
			if r := kmsg.RequestForKey(key); r != nil && key != kmsg.ApiVersions.Int16() {
				f.Requests = append(f.Requests, kmsg.Key(key))
			}
		}
	}
	if f.Error == 0 {
		f.Error = kafka.Unknown
	}
	code := kerr.TypedErrorForCode(int16(f.Error))
	if code == nil {
		s.fatalf("Fail: %d is no error code", int(f.Error))
	}
	of := kfake.Fault{
		Err: code, Count: f.Count, Topic: f.Topic, Group: f.Group,
		Partitions: int32s(f.Partitions), Nodes: int32s(f.Nodes), When: s.share(f.Share, ""),
	}
	var faults []kfake.Fault
	for _, key := range f.Requests {
		fault := of
		fault.Keys = []kmsg.Key{key}
		if slices.Contains(wholeAnswers, key) {
			if f.Topic != "" {
				continue // it has none
			}
			fault.TopLevel, fault.Group, fault.When = true, "", s.share(f.Share, f.Group)
		}
		faults = append(faults, fault)
	}
	if f.Count >= 0 && len(faults) > 1 {
		faults = together(faults, max(f.Count, 1))
	}
	names := make([]string, 0, 3)
	for _, key := range f.Requests[:min(3, len(f.Requests))] {
		names = append(names, key.Name())
	}
	text := "failing with " + code.Message + " " + strings.Join(names, " ")
	handle, over := s.memory("Fail").Fault(faults...), s.recordFault(history.Refused, "", text)
	return &Fault{handle: handle, remove: s.once(func() {
		handle.Remove()
		over()
	})}
}

// wholeAnswers are the kinds whose answer has one code for all of it.
var wholeAnswers = []kmsg.Key{
	kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.FindCoordinator, kmsg.InitProducerID,
	kmsg.EndTxn, kmsg.AddOffsetsToTxn, kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.ConsumerGroupHeartbeat,
}

// together makes faults of several kinds share one count. The broker asks them
// one at a time.
func together(faults []kfake.Fault, count int) []kfake.Fault {
	var failed kmsg.Request
	for i := range faults {
		when := faults[i].When
		faults[i].Count = -1
		faults[i].When = func(req kmsg.Request) bool {
			if req == failed {
				return true // another entity of the same
			}
			if count == 0 || !when(req) {
				return false
			}
			count--
			failed = req
			return true
		}
	}
	return faults
}

// share decides once for each request. The broker asks one at a time.
func (s *Sim) share(share float64, group string) func(kmsg.Request) bool {
	r := rand.New(rand.NewPCG(s.options.seed, uint64(s.count())))
	var (
		last    kmsg.Request
		decided bool
	)
	return func(req kmsg.Request) bool {
		if req == last {
			return decided
		}
		last = req
		decided = group == "" || groupOf(req) == group
		if decided && share > 0 && share < 1 {
			decided = r.Float64() < share
		}
		return decided
	}
}

// groupOf is what a request names as its group; FindCoordinator calls it a key.
func groupOf(req kmsg.Request) string {
	v := reflect.ValueOf(req).Elem()
	for _, name := range []string{"Group", "CoordinatorKey"} {
		if f := v.FieldByName(name); f.IsValid() && f.Kind() == reflect.String {
			return f.String()
		}
	}
	return ""
}

func int32s(in []int) []int32 {
	var out []int32
	for _, n := range in {
		out = append(out, int32(n))
	}
	return out
}

// Target is what a disturbance of the network is about: all that each of its
// parts says. The zero Target is every connection of every client.
type Target struct {
	// Client is a client id, such as [Member.Name].
	Client string

	// Nodes are brokers, counted from 0. Default: all.
	Nodes []int

	// Requests are the kinds. Default: all.
	Requests []kmsg.Key

	// Topic is one that the request names. Requests that name none are not
	// meant then.
	Topic string

	// Answers is the way back: what answers such a request. Default: the
	// request itself.
	Answers bool
}

// String names what is meant.
func (t Target) String() string {
	text := "all"
	if t.Answers {
		text = "all answers"
	}
	for _, key := range t.Requests {
		text += " " + key.Name()
	}
	if t.Client != "" {
		text += " of " + t.Client
	}
	if len(t.Nodes) > 0 {
		text += fmt.Sprint(" at nodes ", t.Nodes)
	}
	if t.Topic != "" {
		text += " about " + t.Topic
	}
	return text
}

// connects says whether a connection of a client to a node is meant.
func (t Target) connects(client string, node int32) bool {
	return client != feedID &&
		(t.Client == "" || t.Client == client) &&
		(len(t.Nodes) == 0 || slices.Contains(t.Nodes, int(node)))
}

func (s *Sim) matches(t Target, f *network.Frame) bool {
	return t.connects(f.Client, f.Node) &&
		f.Answer == t.Answers &&
		(len(t.Requests) == 0 || slices.Contains(t.Requests, f.Key)) &&
		(t.Topic == "" || slices.Contains(s.topicsOf(f.Request), t.Topic))
}

// Hold keeps what matches from arriving, and what follows it on its connection,
// until it is released: then all arrives, in its order, also what clients have
// given up meanwhile, as on a line that has stalled.
func (s *Sim) Hold(t Target) (release func()) {
	gate := make(chan struct{})
	remove := s.network.Add(func(f *network.Frame) network.Fate {
		if s.matches(t, f) {
			return network.Fate{Held: gate}
		}
		return network.Fate{}
	})
	over := s.recordFault(history.Stall, t.Client, fmt.Sprint("holding ", t))
	return s.once(func() {
		defer over()
		remove()
		close(gate)
	})
}

// Slow makes what matches take longer: delay before it and a rate, in bytes a
// second, at which it goes; 0 is at once.
func (s *Sim) Slow(t Target, delay time.Duration, rate int) (stop func()) {
	return s.disturb(history.Stall, "slow", t, -1, network.Fate{Delay: delay, Rate: rate})
}

// Lose makes what matches never arrive, nor what follows it on its connection.
// The connection stays open: nobody is told.
func (s *Sim) Lose(t Target) (stop func()) {
	return s.disturb(history.Stall, "lost", t, -1, network.Fate{Lost: true})
}

// CutAt closes the connection of the next count requests that match (or of their
// answers, with Target.Answers), after pass bytes of them; a negative count is
// all, until it is stopped.
func (s *Sim) CutAt(t Target, count, pass int) (stop func()) {
	return s.disturb(history.Cut, "cut at", t, count, network.Fate{Cut: true, Pass: pass})
}

func (s *Sim) disturb(kind history.FaultKind, what string, t Target, count int, fate network.Fate) (stop func()) {
	over := s.recordFault(kind, t.Client, fmt.Sprint(what, " ", t))
	remove := s.network.Add(func(f *network.Frame) network.Fate {
		if count == 0 || !s.matches(t, f) {
			return network.Fate{}
		}
		count--
		return fate
	})
	return s.once(func() { remove(); over() })
}

// Cut closes connections that are open now: of a client, or of all, to nodes or
// to all. What a Target says of requests does not count.
func (s *Sim) Cut(t Target) {
	s.recordFault(history.Cut, t.Client, fmt.Sprint(t))()
	s.network.Close(t.connects)
}

// Down takes a broker away: its connections are closed and new ones are refused
// until it is up again; after a [Start], they are closed when they are made, or
// with their first request. The test itself still reaches it. Its partitions keep it as their
// leader, as those of a topic with one replica do; see [Sim.MoveLeader].
func (s *Sim) Down(node int) (up func()) {
	over := s.recordFault(history.Down, "", fmt.Sprint("node ", node))
	s.network.SetDown(int32(node), true)
	return s.once(func() {
		defer over()
		s.network.SetDown(int32(node), false)
	})
}

// Freeze stalls all connections of a client, in both directions, until it is
// thawed; its group hears nothing of it.
func (s *Sim) Freeze(client string) (thaw func()) {
	there := s.Hold(Target{Client: client})
	back := s.Hold(Target{Client: client, Answers: true})
	return func() { there(); back() }
}
