package history

import (
	"math"
	"time"
)

// indexStops keeps what the stops of each member and producer said together.
func (c *checker) indexStops() {
	for _, e := range c.events {
		stop, ok := e.Event.(Stop)
		if !ok {
			continue
		}
		ended := c.ended(e)
		was, twice := c.stopped[stop.Member]
		if !twice || ended.before(was.at) {
			was.at, was.stop = ended, stop
		}
		was.again = append(was.again, stop.Again...)
		c.stopped[stop.Member] = was
	}
}

func (c *checker) checkStops() {
	for _, e := range c.events {
		switch event := e.Event.(type) {
		case Stop:
			c.checkBound(event)
		case Delivery:
			c.checkAfterStop(e, event)
		case Leak:
			c.blame("leak", Violation{Offset: -1, Member: event.Member, Events: []Event{event}}, "left behind: %s", event.Text)
		}
	}
}

func (c *checker) checkBound(stop Stop) {
	v := Violation{Offset: -1, Group: stop.Group, Member: stop.Member, Events: []Event{stop}}
	if _, crashed := c.crashed[stop.Member]; stop.Bound == 0 || crashed {
		return
	}
	limit := stop.Bound + c.rules.StopSlack
	switch {
	case !stop.Returned.IsZero() && stop.Returned.Sub(stop.Began) > limit:
		c.blame("stop late", v, "it took %v, and its bound was %v", stop.Returned.Sub(stop.Began), stop.Bound)
	case stop.Returned.IsZero() && time.Duration(c.end-c.since(stop.Began)) > limit:
		c.blame("stop hangs", v, "it has not returned, and its bound was %v", stop.Bound)
	}
}

// checkAfterStop leaves out a handler that was told to end before the stop had
// returned, as nobody can end it, and what a program that pulls was given shortly
// before.
func (c *checker) checkAfterStop(e entry, d Delivery) {
	stop, ok := c.stopped[d.Member]
	if !ok || c.rules.group(d.Group).of(d.Member).Pulled && c.began(e).t <= stop.at.t+int64(c.rules.StopSlack) {
		return
	}
	switch {
	case stop.at.before(c.began(e)):
		c.blame("began after stop", violationAt(d, d, stop.stop), "a handler was called after the stop had returned")
	case stop.at.before(c.ended(e)) && (d.ContextEnded.IsZero() || c.since(d.ContextEnded) > stop.at.t):
		c.blame("ran after stop", violationAt(d, d, stop.stop), "a handler ran when the stop returned, and had not been told to end")
	}
}

// trouble is the time in which something was wrong, its consequences included.
type trouble struct {
	kind     FaultKind
	from, to int64
}

func (c *checker) indexFaults() {
	c.faults = map[string][]trouble{}
	for _, e := range c.events {
		f, ok := e.Event.(Fault)
		if !ok {
			continue
		}
		target := f.Target
		if !c.names[target] && f.Kind != Crash {
			target = "" // everybody
		}
		to := int64(math.MaxInt64)
		if !f.Ended.IsZero() {
			to = c.since(f.Ended) + int64(c.rules.Grace)
		}
		c.faults[target] = append(c.faults[target], trouble{f.Kind, c.since(f.Began), to})
	}
}

// trouble is a fault, or its consequences, that a member met between two times;
// the one that began first. It is nil if there was none.
func (c *checker) trouble(member string, from, to int64) *trouble {
	var first *trouble
	for _, target := range []string{member, ""} {
		for i := range c.faults[target] {
			t := &c.faults[target][i]
			if t.from <= to && from <= t.to && (first == nil || t.from < first.from) {
				first = t
			}
		}
	}
	return first
}
