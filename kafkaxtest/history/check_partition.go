package history

import (
	"math"
	"slices"
	"time"
)

// partitionCheck is a partition for one group as it was at one moment.
type partitionCheck struct {
	*groupCheck

	tp      TopicPartition
	log     *logIndex
	visible []int64 // the offsets that the group is given, as far as is known

	running   []Delivery
	late      []Delivery        // that ended after they had been told to
	tried     map[attempt]int64 // when its last handler began
	finished  map[int64]finish
	prefix    int             // so many of visible are finished without a gap
	prefixAt  map[int64]int64 // when an offset came to be in it
	letters   map[int64]DeadLetter
	again     map[int64]bool // what a stop or revoke named
	committed int64          // below 0: nothing
	verified  int            // so many of visible were looked at when something was committed
	last      Commit
	seeks     []*sought
	excused   map[int64]int  // so many of seeks were used up for a message that was done
	before    map[int64]bool // done, and gone back to since
	forgiven  map[int64]bool // passed over by a seek; false if one went back since
	adrift    bool           // the committed offset may be beyond the end, as a seek asked
	highest   int64          // of what was given to a handler; below 0: nothing
	first     int64          // with Latest, where the group began; no message is behind before it is known
	resets    []Seek         // forward, and told
	begun     int64          // when something was committed first; below 0: never
	lost      int64          // when a member lost it last; below 0: never
	cut       int64          // when a handler was told to end last; below 0: never
	activity  []Range        // when handlers ran, in nanoseconds
}

// attempt is a message that a member was given.
type attempt struct {
	member string
	offset int64
}

// finish is when a message was done, and by whom.
type finish struct {
	began  int64 // its last handler; a dead letter may follow in a later assignment
	at     int64
	member string

	// dropped says that the handler had been told to end before, so that nobody
	// knows what its success counted for.
	dropped bool
	event   Event
}

func newPartitionCheck(g *groupCheck, tp TopicPartition) *partitionCheck {
	p := &partitionCheck{
		groupCheck: g, tp: tp, log: g.logs[tp], committed: -1, begun: -1, lost: -1, cut: -1, highest: -1, first: math.MaxInt64,
		excused: map[int64]int{}, before: map[int64]bool{}, forgiven: map[int64]bool{},
		tried: map[attempt]int64{}, finished: map[int64]finish{}, prefixAt: map[int64]int64{}, letters: map[int64]DeadLetter{}, again: map[int64]bool{},
	}
	for _, s := range g.stopped {
		for _, span := range s.again {
			if span.TopicPartition == tp {
				for offset := range span.offsets() {
					p.again[offset] = true
				}
			}
		}
	}
	if p.log != nil {
		isolation := g.rules.isolation()
		for _, r := range p.log.readable(isolation) {
			if r.visible(isolation) {
				p.visible = append(p.visible, r.Offset)
			}
		}
		return p
	}
	for _, m := range g.moments {
		if d, ok := m.Event.(Delivery); ok && d.TopicPartition == tp && !m.ends {
			p.visible = append(p.visible, d.Offset)
		}
	}
	slices.Sort(p.visible)
	p.visible = slices.Compact(p.visible)
	return p
}

// index is where an offset stands among the visible ones, or would.
func (p *partitionCheck) index(offset int64) int {
	i, _ := slices.BinarySearch(p.visible, offset)
	return i
}

// position is where a new assignment begins to read; -1 if that is not known.
func (p *partitionCheck) position(member string, at int64) int {
	switch {
	case p.open(member, at), p.adrift, p.committed < 0 && len(p.seeks) > 0:
		return -1
	case p.committed >= 0:
		return p.index(p.committed)
	case p.groupCheck.rules.Start == Latest:
		return -1
	}
	return 0
}

func (p *partitionCheck) handlerBegan(d Delivery, m moment) {
	for _, other := range p.running {
		p.together(d, other, m)
	}
	p.running = append(p.running, d)
	to := never.t
	if !d.Ended.IsZero() {
		to = p.since(d.Ended)
	}
	p.activity = append(p.activity, Range{m.t, to})

	if was, ok := p.finished[d.Offset]; ok {
		p.repeated(d, was, m)
	}
	a, ok := p.owned[claim{d.Member, p.tp}]
	if !ok {
		a, ok = p.inherit(d.Member, m.t)
	}
	switch {
	case !ok && p.assigns:
		p.blame("member without claim", violationAt(d, d), "%s handled a message of a partition that it did not have", d.Member)
		return
	case !ok:
		a = &assignment{began: m.t, next: -1, lanes: map[string]Delivery{}}
		p.owned[claim{d.Member, p.tp}] = a
	case a.revoked > 0 && m.t-a.revoked > int64(time.Second):
		p.blame("member without claim", violationAt(d, d), "%s handled a message of a partition that it had lost", d.Member)
	}
	p.inOrder(d, a, m.t)
	p.highest = max(p.highest, d.Offset)
	p.tried[attempt{d.Member, d.Offset}] = m.t
}

// together judges two handlers at once. One that was told to end, and did not,
// is nobody's fault.
func (p *partitionCheck) together(d, other Delivery, m moment) {
	if other.Member != d.Member {
		if !other.ContextEnded.IsZero() && p.since(other.ContextEnded) <= m.t {
			return
		}
		if p.groupCheck.rules.of(other.Member).Pulled && p.soughtSince(other) {
			return // nobody waits for what a program was given before it sought
		}
		if p.trouble(other.Member, p.since(other.Began), m.t) == nil {
			p.blame("members overlap", violationAt(d, other, d), "%s and %s handled messages of it at once", other.Member, d.Member)
		}
		return
	}
	if d.Batch != 0 && d.Batch == other.Batch || p.groupCheck.rules.lane(d) != p.groupCheck.rules.lane(other) || p.groupCheck.rules.lane(d) == "" {
		return
	}
	p.blame("overlap", violationAt(d, other, d), "%d was handled while %d was", d.Offset, other.Offset)
}

// lane names what is handled one after the other; empty for what has no order.
func (r GroupRules) lane(d Delivery) string {
	r = r.of(d.Member)
	switch {
	case r.Ordering == OrderPartition:
		return "partition"
	case r.Ordering == OrderKey && d.Key != "":
		return "key " + d.Key
	}
	return ""
}

// inOrder compares a message with the one before it in its lane, and with what
// the member should have been given next.
func (p *partitionCheck) inOrder(d Delivery, a *assignment, at int64) {
	rules := p.groupCheck.rules.of(d.Member)
	if rules.Ordering == OrderPartition {
		i := p.index(d.Offset)
		if a.next >= 0 && i > a.next {
			for _, offset := range p.visible[a.next:i] {
				if !p.done(offset) && !p.log.mayMiss(offset) && p.beyond(d.Member, offset, at) == nil && !slices.ContainsFunc(p.running, func(r Delivery) bool { return r.Offset == offset }) {
					p.blame("skipped", Violation{TopicPartition: p.tp, Offset: offset, Group: d.Group, Member: d.Member, Events: []Event{d}},
						"it was passed over: the next that was delivered is %d", d.Offset)
					break
				}
			}
		}
		a.next = max(a.next, p.index(d.Offset+1))
	}
	name := rules.lane(d)
	if name == "" {
		return
	}
	last, ok := a.lanes[name]
	if ok && last.Offset < d.Offset && (d.Batch == 0 || d.Batch != last.Batch) {
		if _, finished := p.finished[last.Offset]; !finished && (last.Outcome == Failed || last.Outcome == Running) && !p.open(d.Member, p.since(last.Began)) {
			found := site("order, partition")
			if rules.Ordering == OrderKey {
				found = "order, key"
			}
			p.blame(found, violationAt(d, last, d), "%d was handled, and %d before it was not done", d.Offset, last.Offset)
		}
	}
	a.lanes[name] = d
}

func (p *partitionCheck) handlerEnded(d Delivery, m moment) {
	p.running = slices.DeleteFunc(p.running, func(r Delivery) bool {
		return r.Offset == d.Offset && r.Member == d.Member && r.Attempt == d.Attempt && r.Began.Equal(d.Began)
	})
	if !d.ContextEnded.IsZero() {
		p.cut = max(p.cut, p.since(d.ContextEnded))
		p.late = append(p.late, d)
	}
	switch d.Outcome {
	case Handled:
		p.finish(d.Offset, m, d.Member, !d.ContextEnded.IsZero())
	case Running, Failed, DeadLettered, Cancelled: // not done by that
	case Skipped:
		if p.groupCheck.rules.of(d.Member).OnFailure != FailStop {
			p.finish(d.Offset, m, d.Member, false)
		}
	}
}

// finish counts a message as done.
func (p *partitionCheck) finish(offset int64, m moment, member string, dropped bool) {
	if was, ok := p.finished[offset]; ok && !was.dropped {
		return
	}
	began, tried := p.tried[attempt{member, offset}]
	if _, ok := m.Event.(Delivery); ok || !tried {
		began = p.since(m.Event.When())
	}
	p.finished[offset] = finish{began, m.t, member, dropped, m.Event}
	p.passTo(p.prefix, m.t)
}

// passTo moves the prefix to where it is now, or to an index that it need not be
// before.
func (p *partitionCheck) passTo(index int, at int64) {
	for _, offset := range p.visible[min(p.prefix, index):index] {
		if _, ok := p.finished[offset]; ok {
			p.prefixAt[offset] = at
		}
	}
	p.prefix = max(p.prefix, index)
	for p.prefix < len(p.visible) {
		next := p.visible[p.prefix]
		if _, ok := p.finished[next]; ok {
			p.prefixAt[next] = at
		} else if !p.before[next] && (!p.gone(next, at) || !p.told(next)) {
			break // who is at it does not know that it was deleted
		}
		p.prefix++
	}
}

// complete wants all there is to be done.
func (p *partitionCheck) complete() {
	if p.log == nil || !p.log.Deleted.IsZero() || p.committed < 0 && len(p.seeks) > 0 {
		return
	}
	for _, offset := range p.visible {
		if !p.done(offset) && !p.log.mayMiss(offset) && !p.forgiven[offset] && !p.leftBehind(offset) && !p.unwanted(offset) {
			p.blame("never handled", Violation{TopicPartition: p.tp, Offset: offset, Group: p.name}, "it stands in the log, and was not handled to the end")
		}
	}
}
