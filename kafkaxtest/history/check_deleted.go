package history

import "slices"

// told says whether a reset named an offset among what it passed over.
func (p *partitionCheck) told(offset int64) bool {
	for _, s := range p.resets {
		if s.From <= offset && offset < s.Offset {
			return true
		}
	}
	return false
}

// leftBehind says whether a reset went to the end of the log from before an offset,
// as it may where that was asked for.
func (p *partitionCheck) leftBehind(offset int64) bool {
	return p.groupCheck.rules.Reset == Latest && p.told(offset)
}

// goneAt is when a record was deleted; 0 if that is not known.
func (p *partitionCheck) goneAt(offset int64) int64 {
	r := p.log.record(offset)
	if r == nil || r.Gone.IsZero() {
		return 0
	}
	return p.since(r.Gone)
}

// gone says whether a record was deleted by then.
func (p *partitionCheck) gone(offset, at int64) bool {
	r := p.log.record(offset)
	return r != nil && !r.Gone.IsZero() && p.since(r.Gone) <= at
}

// stood says whether a record that was deleted was there still.
func (p *partitionCheck) stood(offset, at int64) bool {
	r := p.log.record(offset)
	return r != nil && !r.Gone.IsZero() && p.since(r.Gone) > at
}

// untold wants that a group which went past records that were deleted before it
// could handle them has said so. A group that had no position yet has missed
// nothing: it begins where the log does.
func (p *partitionCheck) untold() {
	if p.log == nil || p.begun < 0 {
		return
	}
	for _, offset := range p.visible {
		if offset >= p.committed {
			return
		}
		if p.done(offset) || !p.gone(offset, p.end) || p.goneAt(offset) < p.begun || p.forgiven[offset] || p.unwanted(offset) || p.soughtAfter(offset, p.goneAt(offset)) {
			continue
		}
		if p.told(offset) {
			p.report.Missed++
			continue
		}
		p.blame("deleted, untold", Violation{TopicPartition: p.tp, Offset: offset, Group: p.name, Member: p.last.Member, Events: []Event{p.last}},
			"it was deleted before it was handled, and passed over in silence")
		return // those behind it are of the same
	}
}

// inherit gives a member the partition of a topic that was made again, if it had
// it before: it reads the new log from its start.
func (p *partitionCheck) inherit(member string, at int64) (*assignment, bool) {
	for was := p.tp; was.Incarnation > 0; {
		was.Incarnation--
		if a, ok := p.owned[claim{member, was}]; ok && a.revoked == 0 {
			next := &assignment{began: at, lanes: map[string]Delivery{}}
			p.owned[claim{member, p.tp}] = next
			return next, true
		}
	}
	return nil, false
}

// soughtAfter says whether a seek may have gone to an offset, or before it, when it
// was deleted: to the start of the log, say, which is behind it then.
func (p *partitionCheck) soughtAfter(offset, gone int64) bool {
	return slices.ContainsFunc(p.seeks, func(s *sought) bool { return s.offset <= offset && s.over >= gone })
}
