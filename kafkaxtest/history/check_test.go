package history

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	base = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tp   = TopicPartition{Topic: "orders"}
)

// at is so many seconds after the begin.
func second(s float64) time.Time { return base.Add(time.Duration(s * float64(time.Second))) }

// sent is a message that was acknowledged at an offset.
func sent(id string, offset int64, began float64) Send {
	return Send{
		Producer: "p", Caller: "main", Topic: tp.Topic, ID: id, Placed: true, Offset: offset, Idempotent: true,
		Began: second(began), Returned: second(began + 0.1), Outcome: Acknowledged,
	}
}

// handled is a message m<offset> that a member handled within a second.
func handled(member string, offset int64, began float64) Delivery {
	return Delivery{
		Member: member, Group: "g", TopicPartition: tp, Offset: offset, ID: fmt.Sprint("m", offset),
		Began: second(began), Ended: second(began + 1), Outcome: Handled,
	}
}

func committed(offset int64, at float64) Commit {
	return Commit{Group: "g", TopicPartition: tp, Offset: offset, Time: second(at)}
}

func assigned(member string, at float64) Assign {
	return Assign{Member: member, Group: "g", Partitions: []TopicPartition{tp}, Time: second(at)}
}

func revoked(at float64) Revoke {
	return Revoke{Member: "a", Group: "g", Partitions: []TopicPartition{tp}, Time: second(at)}
}

func failed(d *Delivery) { d.Outcome = Failed }

func letter(at float64) DeadLetter {
	return DeadLetter{Member: "a", Group: "g", Span: Span{tp, 0, 0}, ID: "m0", To: "dead", Acknowledged: true, Time: second(at)}
}

func started() Start {
	return Start{Member: "a", Group: "g", Topics: []string{tp.Topic}, Time: base}
}

func stop(member string, began, returned float64) Stop {
	return Stop{Member: member, Group: "g", Began: second(began), Returned: second(returned), Bound: 10 * time.Second}
}

// log of n records m0, m1, ...
func logOf(n int) Log {
	l := Log{TopicPartition: tp, End: int64(n)}
	for i := range n {
		l.Records = append(l.Records, Record{Offset: int64(i), ID: fmt.Sprint("m", i)})
	}
	return l
}

// with changes a copy.
func with[T any](v T, change func(*T)) T {
	change(&v)
	return v
}

// row is a history that breaks one promise, and the nearest that does not.
type row struct {
	site      site
	name      string
	rules     Rules
	logs      []Log
	bad, good []Event
	goodLogs  []Log // if it differs by its logs
}

func rows() []row {
	return slices.Concat(rowsOfStanding(), rowsOfDeleted(), rowsOfSeeks(), rowsOfLatest(), rowsOfMembers())
}

// rowsOfStanding are of logs that keep what they have.
func rowsOfStanding() []row {
	two := []Log{logOf(2)}
	crash := func(at float64) Fault {
		return Fault{Kind: Crash, Target: "a", Began: second(at), Ended: second(at)}
	}
	deaf := func(began, ended float64) Delivery {
		return with(handled("a", 0, began), func(d *Delivery) { d.ContextEnded, d.Ended = second(4), second(ended) })
	}
	key := func(d Delivery, key string) Delivery { d.Key = key; return d }
	byKey := Rules{GroupRules: GroupRules{Ordering: OrderKey}}
	return []row{
		{
			site: "send lost", name: "acknowledged at an offset that the log lacks", logs: []Log{{TopicPartition: tp, End: 1}},
			bad: []Event{sent("m0", 0, 1)}, goodLogs: []Log{logOf(1)}, good: []Event{sent("m0", 0, 1)},
		},
		{
			site: "send lost, no place", logs: []Log{logOf(1)},
			bad:  []Event{with(sent("m7", 0, 1), func(s *Send) { s.Placed = false })},
			good: []Event{with(sent("m7", 0, 1), func(s *Send) { s.Placed = false; s.Outcome = Unknown })},
		},
		{
			site: "dead letter lost", logs: []Log{{TopicPartition: TopicPartition{Topic: "dead"}}},
			bad:  []Event{letter(1)},
			good: []Event{DeadLetter{Member: "a", Group: "g", Span: Span{tp, 0, 0}, ID: "m0", To: "dead", Time: second(1)}},
		},
		{
			site: "send failed, stored", logs: two,
			bad:  []Event{with(sent("m0", 0, 1), func(s *Send) { s.Placed = false; s.Outcome = NotSent })},
			good: []Event{with(sent("m0", 0, 1), func(s *Send) { s.Placed = false; s.Outcome = Unknown })},
		},
		{
			site: "send failed, read",
			bad:  []Event{with(sent("m0", 0, 1), func(s *Send) { s.Placed = false; s.Outcome = NotSent }), handled("a", 0, 2)},
			good: []Event{with(sent("m0", 0, 1), func(s *Send) { s.Placed = false; s.Outcome = Unknown }), handled("a", 0, 2)},
		},
		{
			site: "send doubled", logs: []Log{with(logOf(2), func(l *Log) { l.Records[1].ID = "m0" })},
			bad:  []Event{sent("m0", 0, 1)},
			good: []Event{with(sent("m0", 0, 1), func(s *Send) { s.Idempotent = false })},
		},
		{
			site: "send order, caller", logs: two,
			bad:  []Event{sent("m1", 1, 1), sent("m0", 0, 1)},
			good: []Event{sent("m0", 0, 1), sent("m1", 1, 1)},
		},
		{
			site: "send order, time", logs: two,
			bad: []Event{
				with(sent("m1", 1, 1), func(s *Send) { s.Caller = "" }), with(sent("m0", 0, 2), func(s *Send) { s.Caller = "" }),
			},
			good: []Event{ // at the same time
				with(sent("m1", 1, 1), func(s *Send) { s.Caller = "" }), with(sent("m0", 0, 1.05), func(s *Send) { s.Caller = "" }),
			},
		},
		{
			site: "send, other place", logs: two,
			bad: []Event{sent("m0", 1, 1)}, good: []Event{sent("m0", 0, 1)},
		},
		{
			site: "send, other key", logs: two,
			bad: []Event{with(sent("m0", 0, 1), func(s *Send) { s.Key = "k" })}, good: []Event{sent("m0", 0, 1)},
		},
		{
			site: "read, other value", logs: two,
			bad: []Event{with(handled("a", 0, 1), func(d *Delivery) { d.ID = "m9" })}, good: []Event{handled("a", 0, 1)},
		},
		{
			site: "read, other reader",
			bad:  []Event{handled("a", 0, 1), with(handled("b", 0, 3), func(d *Delivery) { d.ID, d.Group = "m9", "h" })},
			good: []Event{handled("a", 0, 1), with(handled("b", 0, 3), func(d *Delivery) { d.Group = "h" })},
		},
		{
			site: "read, not there", logs: []Log{logOf(1)},
			bad: []Event{handled("a", 0, 1), handled("a", 1, 3)}, good: []Event{handled("a", 0, 1)},
		},
		{
			site: "read aborted", rules: Rules{GroupRules: GroupRules{Isolation: ReadCommitted}},
			logs: []Log{with(logOf(1), func(l *Log) { l.Records[0].Transaction = Aborted })},
			bad:  []Event{handled("a", 0, 1)}, goodLogs: []Log{logOf(1)}, good: []Event{handled("a", 0, 1)},
		},
		{
			site: "read open", rules: Rules{GroupRules: GroupRules{Isolation: ReadCommitted}},
			logs: []Log{with(logOf(1), func(l *Log) { l.Records[0].Transaction = Open })},
			bad:  []Event{handled("a", 0, 1)}, goodLogs: []Log{logOf(1)}, good: []Event{handled("a", 0, 1)},
		},
		{
			site: "read early", rules: Rules{GroupRules: GroupRules{Isolation: ReadCommitted}},
			logs: []Log{with(logOf(1), func(l *Log) { l.Records[0].Available = second(5) })},
			bad:  []Event{handled("a", 0, 1)}, good: []Event{handled("a", 0, 5)},
		},
		{
			site: "read control", logs: []Log{with(logOf(1), func(l *Log) { l.Records[0].Control = true })},
			bad: []Event{handled("a", 0, 1)}, goodLogs: []Log{logOf(1)}, good: []Event{handled("a", 0, 1)},
		},
		{
			site: "skipped", logs: []Log{logOf(3)},
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), handled("a", 2, 3)},
			good: []Event{assigned("a", 0), handled("a", 0, 1), handled("a", 1, 2), handled("a", 2, 3)},
		},
		{
			site: "never handled", rules: Rules{GroupRules: GroupRules{Complete: true}}, logs: two,
			bad:  []Event{started(), handled("a", 0, 1)},
			good: []Event{started(), handled("a", 0, 1), handled("a", 1, 3)},
		},
		{
			site: "back", logs: two,
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), handled("a", 1, 3), handled("a", 0, 5)},
			good: []Event{assigned("a", 0), handled("a", 0, 1), handled("a", 1, 3), Seek{Member: "a", Group: "g", TopicPartition: tp, Time: second(4.5)}, handled("a", 0, 5)},
		},
		{
			site: "back", name: "after a dead letter", logs: two,
			bad: []Event{assigned("a", 0), with(handled("a", 0, 1), failed), letter(2.5), handled("a", 0, 3), handled("a", 1, 5)},
			// The dead letter is of the assignment before.
			good: []Event{
				assigned("a", 0), with(handled("a", 0, 1), failed),
				with(revoked(2.1), func(r *Revoke) { r.Again = []Span{{tp, 0, 0}} }), assigned("a", 2.2),
				letter(2.5), handled("a", 0, 3), handled("a", 1, 5),
			},
		},
		{
			site: "order, partition", logs: two,
			bad:  []Event{assigned("a", 0), with(handled("a", 0, 1), failed), handled("a", 1, 3)},
			good: []Event{assigned("a", 0), with(handled("a", 0, 1), func(d *Delivery) { d.Outcome = Skipped }), handled("a", 1, 3)},
		},
		{
			site: "order, key", rules: byKey, logs: nil,
			bad: []Event{assigned("a", 0), key(with(handled("a", 0, 1), failed), "k"), key(handled("a", 1, 3), "k")},
			// Another key goes on, though the order of the partition is broken.
			good: []Event{assigned("a", 0), key(with(handled("a", 0, 1), failed), "k"), key(handled("a", 1, 3), "l")},
		},
		{
			site: "overlap", rules: byKey,
			bad:  []Event{assigned("a", 0), key(handled("a", 1, 1), "k"), key(handled("a", 0, 1.5), "k")},
			good: []Event{assigned("a", 0), key(handled("a", 1, 1), "k"), key(handled("a", 0, 2.5), "k")},
		},
		{
			site: "members overlap", name: "by an instant",
			bad:  []Event{handled("a", 0, 1), handled("b", 1, 1.999)},
			good: []Event{handled("a", 0, 1), handled("b", 1, 2)},
		},
		{
			site: "members overlap", name: "beside one that was told to end",
			bad: []Event{handled("a", 0, 1), handled("b", 1, 1.9)},
			good: []Event{
				with(handled("a", 0, 1), func(d *Delivery) { d.ContextEnded = second(1.5) }), handled("b", 1, 1.9),
			},
		},
		{
			site: "members overlap", name: "of a program that pulls and has sought", logs: two, rules: Rules{GroupRules: GroupRules{Pulled: true}},
			bad: []Event{handled("a", 0, 1), handled("b", 1, 1.9)},
			good: []Event{
				handled("a", 0, 1), Seek{Member: "a", Group: "g", TopicPartition: tp, Offset: 1, Time: second(1.5)}, handled("b", 1, 1.9),
			},
		},
		{
			site: "member without claim",
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), handled("b", 1, 3)},
			good: []Event{assigned("a", 0), handled("a", 0, 1), revoked(2.5), assigned("b", 2.6), handled("b", 1, 3)},
		},
		{
			site: "commit back",
			bad:  []Event{handled("a", 0, 1), handled("a", 1, 2), committed(2, 4), committed(1, 5)},
			good: []Event{
				handled("a", 0, 1), handled("a", 1, 2), committed(2, 4),
				Seek{Group: "g", TopicPartition: tp, Offset: 1, Time: second(4.5)},
				committed(1, 5),
			},
		},
		{
			site: "commit unhandled", logs: two,
			bad:  []Event{handled("a", 0, 1), committed(2, 4)},
			good: []Event{handled("a", 0, 1), committed(1, 4)},
		},
		{
			site: "commit unhandled", name: "a moment too early", logs: two,
			bad:  []Event{handled("a", 0, 1), committed(1, 1.999)},
			good: []Event{handled("a", 0, 1), committed(1, 2)},
		},
		{
			site: "commit unhandled", name: "skipped where nothing may be", rules: Rules{GroupRules: GroupRules{OnFailure: FailStop}},
			bad: []Event{
				with(handled("a", 0, 1), failed),
				Skip{Member: "a", Group: "g", Span: Span{tp, 0, 0}, Time: second(2)},
				committed(1, 3),
			},
			good: []Event{handled("a", 0, 1), Skip{Member: "a", Group: "g", Span: Span{tp, 0, 0}, Time: second(2)}, committed(1, 3)},
		},
		{
			site: "commit beyond", logs: []Log{logOf(1)},
			bad: []Event{handled("a", 0, 1), committed(2, 4)}, good: []Event{handled("a", 0, 1), committed(1, 4)},
		},
		{
			site: "commit dead letter", logs: two,
			bad: []Event{
				with(handled("a", 0, 1), func(d *Delivery) { d.Outcome = DeadLettered }),
				DeadLetter{Member: "a", Group: "g", Span: Span{tp, 0, 0}, To: "dead", Time: second(2)},
				committed(1, 3),
			},
			good: []Event{
				with(handled("a", 0, 1), func(d *Delivery) { d.Outcome = DeadLettered }),
				DeadLetter{Member: "a", Group: "g", Span: Span{tp, 0, 0}, To: "dead", Acknowledged: true, Time: second(2)},
				committed(1, 3),
			},
		},
		{
			site: "duplicate", name: "after a member left in good order",
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), revoked(3), assigned("b", 3.1), handled("b", 0, 4)},
			good: []Event{assigned("a", 0), handled("a", 0, 1), crash(3), assigned("b", 3.1), handled("b", 0, 4)},
		},
		{
			site: "duplicate", name: "of what a stop named",
			bad: []Event{handled("a", 0, 1), stop("a", 2.5, 3), handled("b", 0, 4)},
			good: []Event{
				handled("a", 0, 1), with(stop("a", 2.5, 3), func(s *Stop) { s.Again = []Span{{tp, 0, 0}} }), handled("b", 0, 4),
			},
		},
		{
			site: "duplicate", name: "behind one that was told to end", logs: two, rules: Rules{GroupRules: GroupRules{Ordering: Unordered}},
			bad: []Event{
				assigned("a", 0), with(handled("a", 0, 1), failed), handled("a", 1, 1),
				revoked(5), assigned("b", 5.1), handled("b", 0, 6), handled("b", 1, 6),
			},
			good: []Event{
				assigned("a", 0), with(handled("a", 0, 1), func(d *Delivery) {
					d.Outcome, d.Ended, d.ContextEnded = Cancelled, second(5), second(4.9)
				}), handled("a", 1, 1),
				revoked(5), assigned("b", 5.1), handled("b", 0, 6), handled("b", 1, 8),
			},
		},
		{
			site: "duplicate", name: "behind one that took no notice of its end", logs: two, rules: Rules{GroupRules: GroupRules{Ordering: Unordered}},
			bad:  []Event{assigned("a", 0), deaf(1, 5), handled("a", 1, 6), revoked(19), assigned("b", 20), handled("b", 0, 20.1), handled("b", 1, 22)},
			good: []Event{assigned("a", 0), deaf(1, 18), handled("a", 1, 6), revoked(19), assigned("b", 20), handled("b", 0, 20.1), handled("b", 1, 22)},
		},
		{
			site: "duplicate", name: "of a program that pulls, and stops", logs: two, rules: Rules{GroupRules: GroupRules{Pulled: true}, StopSlack: time.Second},
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), stop("a", 2.5, 3), assigned("b", 4), handled("b", 0, 5)},
			good: []Event{assigned("a", 0), handled("a", 0, 1), stop("a", 1.9, 3), assigned("b", 4), handled("b", 0, 5)},
		},
		{
			site: "duplicate committed",
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), committed(1, 3), crash(4), assigned("b", 5), handled("b", 0, 6)},
			good: []Event{assigned("a", 0), handled("a", 0, 1), crash(4), assigned("b", 5), handled("b", 0, 6)},
		},
		{
			site: "duplicate due", name: "done long before the crash", logs: two,
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), crash(40), assigned("b", 41), handled("b", 0, 42)},
			good: []Event{assigned("a", 0), handled("a", 0, 1), crash(5), assigned("b", 41), handled("b", 0, 42)},
		},
		{
			site: "began after stop",
			bad:  []Event{stop("a", 1, 2), handled("a", 0, 2.1)}, good: []Event{handled("a", 0, 0.5), stop("a", 1, 2)},
		},
		{
			site: "began after stop", name: "of a program that pulls", logs: two,
			rules: Rules{GroupRules: GroupRules{Pulled: true}, StopSlack: time.Second},
			bad:   []Event{stop("a", 1, 2), handled("a", 0, 4)}, good: []Event{handled("a", 0, 1.5), stop("a", 1, 2), handled("a", 1, 2.6)},
		},
		{
			site: "ran after stop",
			bad:  []Event{handled("a", 0, 1.5), stop("a", 1, 2)},
			good: []Event{with(handled("a", 0, 1.5), func(d *Delivery) { d.ContextEnded = second(1.9) }), stop("a", 1, 2)},
		},
		{
			site: "sent after stop", logs: two,
			bad:  []Event{with(stop("p", 1, 2), func(s *Stop) { s.Group = "" }), sent("m0", 0, 3)},
			good: []Event{sent("m0", 0, 0.5), with(stop("p", 1, 2), func(s *Stop) { s.Group = "" })},
		},
		{site: "stop late", bad: []Event{stop("a", 1, 12)}, good: []Event{stop("a", 1, 11)}},
		{
			site: "stop hangs",
			bad:  []Event{with(stop("a", 1, 0), func(s *Stop) { s.Returned = time.Time{} }), handled("b", 0, 20)},
			good: []Event{with(stop("a", 1, 0), func(s *Stop) { s.Returned = time.Time{} }), handled("b", 0, 5)},
		},
		{site: "leak", bad: []Event{stop("a", 1, 2), Leak{Member: "a", Text: "3 goroutines", Time: second(3)}}, good: []Event{stop("a", 1, 2)}},
		{
			site: "no progress", logs: two,
			bad: []Event{started(), assigned("a", 0), sent("m0", 0, 1), sent("m1", 1, 2), handled("a", 0, 60), handled("a", 1, 62)},
			good: []Event{
				started(), assigned("a", 0), sent("m0", 0, 1), sent("m1", 1, 2),
				Fault{Kind: Down, Began: second(3), Ended: second(55)},
				handled("a", 0, 60), handled("a", 1, 62),
			},
		},
	}
}

func check(events []Event, logs []Log, rules Rules) *Report {
	return Check(recorded(events, logs), rules)
}

func recorded(events []Event, logs []Log) *History {
	h := new(History)
	for _, e := range events {
		h.Add(e)
	}
	for _, l := range logs {
		h.AddLog(l)
	}
	return h
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		t.Run(strings.TrimSpace(string(r.site)+" "+r.name), func(t *testing.T) {
			t.Parallel()
			report := check(r.bad, r.logs, r.rules)
			for kind := range report.Found {
				if kind != kindOf[r.site] {
					t.Errorf("found %q too", kind)
				}
			}
			if report.Found[kindOf[r.site]] == 0 {
				t.Errorf("not found: %s", report)
			}
			for _, v := range report.Violations {
				if v.site == r.site && (v.Text == "" || len(v.Events) == 0 && r.site != "never handled" && r.site != "no progress") {
					t.Errorf("says too little: %+v", v)
				}
			}
			logs := r.goodLogs
			if logs == nil {
				logs = r.logs
			}
			if err := check(r.good, logs, r.rules).Err(); err != nil {
				t.Errorf("the good history: %v", err)
			}
		})
	}
}

// Each check finds what no other does.
func TestEachCheckIsNeeded(t *testing.T) {
	t.Parallel()
	seen := map[site]bool{}
	for _, r := range rows() {
		seen[r.site] = true
		rules := r.rules
		rules.off = r.site
		if report := check(r.bad, r.logs, rules); len(report.Found) > 0 {
			t.Errorf("%s %s: found without it: %s", r.site, r.name, report)
		}
	}
	for s, kind := range kindOf {
		if !seen[s] {
			t.Errorf("no history for %q", s)
		}
		if !slices.Contains(Kinds(), kind) {
			t.Errorf("%q is of no kind", s)
		}
	}
}

// What is unlike in two incarnations of a topic is no violation.
func TestIncarnationsAreApart(t *testing.T) {
	t.Parallel()
	again := TopicPartition{Topic: tp.Topic, Incarnation: 1}
	events := []Event{
		handled("a", 0, 1), handled("a", 1, 2), committed(2, 3.5),
		with(handled("a", 0, 5), func(d *Delivery) { d.TopicPartition, d.ID = again, "n0" }),
		with(committed(1, 7), func(c *Commit) { c.TopicPartition = again }),
	}
	if err := check(events, []Log{with(logOf(2), func(l *Log) { l.Deleted = second(4) })}, Rules{}).Err(); err != nil {
		t.Error(err)
	}
}

// A member that has a partition goes on in the topic that is made again. When it
// gives the partition back, it has none of them.
func TestARevokeEndsWhatWasInherited(t *testing.T) {
	t.Parallel()
	again := TopicPartition{Topic: tp.Topic, Incarnation: 1}
	in := func(d *Delivery) { d.TopicPartition, d.ID = again, "n0" }
	events := []Event{
		assigned("a", 0), handled("a", 0, 1), with(handled("a", 0, 5), in), revoked(7),
		Fault{Kind: Cut, Began: second(6.5), Ended: second(6.6)},
		with(assigned("a", 8), func(a *Assign) { a.Partitions = []TopicPartition{again} }), with(handled("a", 0, 9), in),
	}
	if err := check(events, []Log{with(logOf(1), func(l *Log) { l.Deleted = second(4) })}, Rules{}).Err(); err != nil {
		t.Error(err)
	}
}
