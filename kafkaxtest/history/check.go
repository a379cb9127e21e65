package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Check says which of the promises that rules state the history broke. It takes
// time in proportion to the events, times the logarithm of their number.
func Check(h *History, rules Rules) *Report {
	c := newChecker(h, rules)
	c.checkSends()
	c.checkValues()
	c.checkStops()
	c.checkGroups()
	c.finish()
	return c.report
}

// instant is a moment, with the place among the events of the same moment.
type instant struct {
	t   int64 // nanoseconds since the first event
	seq int
}

// never is after all instants.
var never = instant{math.MaxInt64, math.MaxInt}

func (a instant) compare(b instant) int {
	return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.seq, b.seq))
}
func (a instant) before(b instant) bool { return a.compare(b) < 0 }

type checker struct {
	rules  Rules
	report *Report

	events []entry // by the time they began
	start  time.Time
	end    int64
	logs   map[TopicPartition]*logIndex
	topics map[string][]*logIndex

	crashed map[string]instant // by member or producer
	stopped map[string]stopped
	names   map[string]bool      // members and producers
	faults  map[string][]trouble // by target; of everybody by ""
	sentAt  map[message]int64    // see returned
	sendAt  map[message]int64    // see sendsBegan
}

// stopped is what the stops of one member or producer said together.
type stopped struct {
	at    instant // the first return
	stop  Stop    // the one that returned first
	again []Span
}

func newChecker(h *History, rules Rules) *checker {
	c := &checker{
		rules: rules,
		report: &Report{
			Found: map[Kind]int{}, Sends: map[SendOutcome]int{}, Deliveries: map[Outcome]int{}, Duplicates: map[Cause]int{},
		},
		events:  h.sorted(),
		crashed: map[string]instant{},
		stopped: map[string]stopped{},
		names:   map[string]bool{},
	}
	if len(c.events) > 0 {
		c.start = c.events[0].When()
	}
	c.indexLogs(h.Logs())
	c.applyCrashes()
	c.indexStops()
	c.indexFaults()
	c.count()
	return c
}

// since is nanoseconds since the first event.
func (c *checker) since(t time.Time) int64 { return int64(t.Sub(c.start)) }

func (c *checker) began(e entry) instant { return instant{c.since(e.When()), e.entered} }

func (c *checker) ended(e entry) instant {
	if e.until().IsZero() {
		return never
	}
	return instant{c.since(e.until()), e.ended}
}

// applyCrashes cuts off what a process is said to have done after its end. What
// the broker stored counts whenever it was.
func (c *checker) applyCrashes() {
	for _, e := range c.events {
		if f, ok := e.Event.(Fault); ok && f.Kind == Crash {
			if _, twice := c.crashed[f.Target]; !twice {
				c.crashed[f.Target] = c.began(e)
			}
		}
	}
	c.events = slices.DeleteFunc(c.events, func(e entry) bool {
		crash, ok := c.crashed[actor(e.Event)]
		return ok && crash.before(c.began(e))
	})
	for i, e := range c.events {
		crash, ok := c.crashed[actor(e.Event)]
		if !ok || !crash.before(c.ended(e)) {
			continue
		}
		switch unended := e.Event.(type) {
		case Delivery:
			unended.Ended, unended.Outcome = time.Time{}, Running
			c.events[i].Event = unended
		case Send:
			unended.Returned, unended.Outcome = time.Time{}, Pending
			c.events[i].Event = unended
		case Stop:
			// What it promised ended with the process.
			unended.Returned, unended.Bound = time.Time{}, 0
			c.events[i].Event = unended
		}
	}
	for _, e := range c.events {
		c.end = max(c.end, c.since(e.When()))
		if !e.until().IsZero() {
			c.end = max(c.end, c.since(e.until()))
		}
		if name := actor(e.Event); name != "" {
			c.names[name] = true
		}
	}
}

// actor is the member or producer whose own doing an event is.
func actor(e Event) string {
	switch e := e.(type) {
	case Send:
		return e.Producer
	case Start:
		return e.Member
	case Assign:
		return e.Member
	case Revoke:
		return e.Member
	case Delivery:
		return e.Member
	case DeadLetter:
		return e.Member
	case Skip:
		return e.Member
	case Seek:
		return e.Member
	case Stop:
		return e.Member
	}
	return "" // what the broker, the test or somebody outside did
}

func (c *checker) count() {
	r := c.report
	r.Events = len(c.events)
	type generation struct {
		group  string
		number int
	}
	generations := map[generation]bool{}
	for _, e := range c.events {
		switch e := e.Event.(type) {
		case Send:
			r.Sends[e.Outcome]++
		case Delivery:
			r.Deliveries[e.Outcome]++
		case Commit:
			r.Commits++
		case Skip:
			r.Skips++
		case DeadLetter:
			if e.Acknowledged {
				r.Letters++
			}
		case Assign:
			switch {
			case len(e.Partitions) == 0:
			case e.Generation == 0:
				r.Rebalances++
			default:
				generations[generation{e.Group, e.Generation}] = true
			}
		}
	}
	r.Rebalances += len(generations)
}

// blame files a violation, unless its check is switched off.
func (c *checker) blame(found site, v Violation, format string, args ...any) {
	if found == c.rules.off {
		return
	}
	kind, ok := kindOf[found]
	if !ok {
		panic("history: a check without a kind: " + string(found))
	}
	v.site, v.Kind, v.Text = found, kind, fmt.Sprintf(format, args...)
	for _, e := range v.Events {
		if v.Time.Before(e.When()) {
			v.Time = e.When()
		}
	}
	c.report.add(v)
}

func (c *checker) finish() {
	order := map[Kind]int{}
	for i, k := range Kinds() {
		order[k] = i
	}
	slices.SortStableFunc(c.report.Violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(order[a.Kind], order[b.Kind]), a.Time.Compare(b.Time))
	})
}
