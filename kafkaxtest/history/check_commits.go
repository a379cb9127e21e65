package history

import "slices"

// commit looks at an offset that the broker has stored.
func (p *partitionCheck) commit(e Commit) {
	v := Violation{TopicPartition: p.tp, Offset: e.Offset, Group: e.Group, Member: e.Member, Time: e.Time, Events: []Event{e}}
	asked := p.asked(e)
	if e.Offset < p.committed {
		if asked || p.adrift || p.mayGoBack(e) {
			p.wentBack(e.Offset)
		} else {
			v.Events = []Event{p.last, e}
			p.blame("commit back", v, "the committed offset was %d before", p.committed)
		}
	}
	if p.log != nil && p.log.End > 0 && e.Offset > p.log.End && p.log.Deleted.IsZero() && len(p.log.cut) == 0 && !asked {
		p.blame("commit beyond", v, "the log ends at %d", p.log.End)
	}
	if p.begun < 0 {
		p.begun = p.since(e.Time)
	}
	if p.committed < 0 && p.groupCheck.rules.Start == Latest {
		p.fixed(e)
	}
	p.handledUpTo(e)
	p.committed, p.last, p.adrift = e.Offset, e, asked
	p.committedSince(e, p.since(e.Time))
}

// handledUpTo wants all that a commit is past to be done, or passed over by a seek.
func (p *partitionCheck) handledUpTo(e Commit) {
	at := p.since(e.Time)
	var needed []*sought
	for ; p.verified < len(p.visible) && p.visible[p.verified] < e.Offset; p.verified++ {
		offset := p.visible[p.verified]
		if p.done(offset) || p.leftBehind(offset) {
			continue
		}
		s := p.beyond(e.Member, offset, at)
		if s != nil {
			p.forgiven[offset] = true
		}
		if p.log.mayMiss(offset) && !p.stood(offset, at) {
			continue
		}
		if s != nil {
			needed = append(needed, s)
			continue
		}
		v := Violation{TopicPartition: p.tp, Offset: offset, Group: e.Group, Member: e.Member, Time: e.Time, Events: []Event{e}}
		if letter, ok := p.letters[offset]; ok {
			v.Events = []Event{letter, e}
			p.blame("commit dead letter", v, "%d was committed, and its dead letter was not acknowledged", e.Offset)
			continue
		}
		p.blame("commit unhandled", v, "%d was committed, and it was not done", e.Offset)
	}
	for _, s := range needed {
		s.ahead = true
	}
	if len(needed) > 0 {
		p.passTo(p.verified, at)
	}
}

// repeated judges a message that is handled again, though it was done.
func (p *partitionCheck) repeated(d Delivery, was finish, m moment) {
	cause := p.cause(d, was, m)
	v := violationAt(d, was.event, d)
	a, ok := p.owned[claim{d.Member, p.tp}]
	back := ok && a.revoked == 0 && was.member == d.Member && a.began <= was.began && !was.dropped
	committed := d.Offset < p.committed && p.lastBefore(d, m)
	switch {
	case p.soughtAgain(d, was, back || committed || cause == ""):
		p.report.Duplicates[Sought]++
		return
	case back:
		p.blame("back", v, "it was done, and came again within one assignment")
		return
	case committed:
		v.Events = append(v.Events, p.last)
		p.blame("duplicate committed", v, "it was handled again, and %d had been committed", p.committed)
		return
	case cause == "":
		p.blame("duplicate", v, "it was done, and handled again; nothing explains that")
		return
	}
	if t := p.trouble(was.member, was.at, m.t); cause != Named && t != nil {
		if done, ok := p.prefixAt[d.Offset]; ok && t.from-done > int64(p.groupCheck.rules.CommitWithin) && p.groupCheck.rules.CommitWithin > 0 {
			p.blame("duplicate due", v, "it was done %v before the fault that could explain it, and should have been committed within %v",
				seconds(t.from-done), p.groupCheck.rules.CommitWithin)
		}
	}
	p.report.Duplicates[cause]++
}

// lastBefore says whether the member could have known of the last commit: it
// was there when the member got the partition.
func (p *partitionCheck) lastBefore(d Delivery, m moment) bool {
	a, ok := p.owned[claim{d.Member, p.tp}]
	began := m.t
	if ok {
		began = a.began
	}
	return p.since(p.last.Time) < began
}

// behind says whether a message before it was not done when a handler was told
// to end.
func (p *partitionCheck) behind(offset int64) bool {
	done, ok := p.prefixAt[offset]
	return !ok || done > p.cut
}

// cutBy is when a handler was told to end last, whether it has or not.
func (p *partitionCheck) cutBy(at int64) int64 {
	for _, r := range p.running {
		if ended := p.since(r.ContextEnded); !r.ContextEnded.IsZero() && ended <= at {
			p.cut = max(p.cut, ended)
		}
	}
	return p.cut
}

// heldUp says whether a message was done behind one whose handler was told to end,
// and did not for so long that it may not have been committed yet.
func (p *partitionCheck) heldUp(offset int64, was finish, at int64) bool {
	holds := func(d Delivery) bool {
		return d.Member == was.member && d.Offset < offset && !d.ContextEnded.IsZero() && p.since(d.ContextEnded) <= at
	}
	return slices.ContainsFunc(p.running, holds) || slices.ContainsFunc(p.late, func(d Delivery) bool {
		ended := p.since(d.Ended)
		return holds(d) && ended >= was.at && at-ended <= p.onItsWay()
	})
}

// leftAtStop says whether a program that pulls had a message when its member's stop
// began: the stop neither waits for it nor commits it.
func (p *partitionCheck) leftAtStop(was finish) bool {
	s, ok := p.stopped[was.member]
	return ok && p.groupCheck.rules.of(was.member).Pulled && was.at >= p.since(s.stop.Began)
}

func (p *partitionCheck) cause(d Delivery, was finish, m moment) Cause {
	switch {
	case p.again[d.Offset]:
		return Named
	case was.dropped:
		return CutOff
	case p.cutBy(m.t) >= was.at && p.behind(d.Offset):
		return CutOff // it could not be committed for one that was told to end
	case p.heldUp(d.Offset, was, m.t), p.leftAtStop(was):
		return CutOff
	}
	if t := p.trouble(was.member, was.at, m.t); t != nil {
		return Cause(t.kind)
	}
	if p.lost >= was.at {
		return LostMembership
	}
	return ""
}
