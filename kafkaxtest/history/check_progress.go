package history

import (
	"cmp"
	"slices"
)

// progress wants that no message waits for long that somebody could have
// handled. A message waits from when it could be read, and the partition is
// worked on while a handler of it runs.
func (p *partitionCheck) progress() {
	if p.log == nil || !p.log.Deleted.IsZero() {
		return
	}
	limit := int64(p.checker.rules.progress())
	if limit <= 0 {
		return
	}
	busy := sortedRanges(p.activity)
	for _, offset := range p.visible {
		from, known := p.available(offset)
		if _, passed := p.forgiven[offset]; !known || passed || p.before[offset] || p.unwanted(offset) {
			continue // it was handled when somebody had gone back to it, or need not be
		}
		until := p.end
		if f, ok := p.finished[offset]; ok {
			until = f.at
		} else if p.log.mayMiss(offset) {
			until = p.goneAt(offset)
		}
		if until-from <= limit {
			continue
		}
		for _, gap := range gaps(busy, from, until) {
			if idle, ok := p.idle(gap, limit); ok {
				p.blame("no progress", Violation{TopicPartition: p.tp, Offset: offset, Group: p.name},
					"it waited %v that nobody used, though the group had members and nothing was wrong", seconds(idle.Last-idle.First))
				return // the same holds for those behind it
			}
		}
	}
}

// available is when a record could be read.
func (p *partitionCheck) available(offset int64) (int64, bool) {
	r := p.log.record(offset)
	if r == nil {
		return 0, false
	}
	if !r.Available.IsZero() {
		return p.since(r.Available), true
	}
	sent, ok := p.returned()[message{p.tp.Topic, r.ID}]
	return sent, ok && r.ID != ""
}

// idle says whether a gap has enough time in which all was well, at a stretch:
// no fault, and a member that has the partition or should.
func (p *partitionCheck) idle(gap Range, limit int64) (Range, bool) {
	for _, well := range p.well() {
		from, to := max(gap.First, well.First), min(gap.Last, well.Last)
		if to-from > limit {
			return Range{from, to}, true
		}
	}
	return Range{}, false
}

// gaps is what sorted ranges leave free between two times.
func gaps(sorted []Range, from, to int64) []Range {
	var free []Range
	i, _ := slices.BinarySearchFunc(sorted, from, func(r Range, at int64) int { return cmp.Compare(r.Last, at) })
	for ; i < len(sorted) && sorted[i].First < to; i++ {
		if sorted[i].First > from {
			free = append(free, Range{from, sorted[i].First})
		}
		from = max(from, sorted[i].Last)
	}
	if from < to {
		free = append(free, Range{from, to})
	}
	return free
}

// returned is when the send of each message was acknowledged.
func (c *checker) returned() map[message]int64 {
	if c.sentAt == nil {
		c.sentAt = map[message]int64{}
		for _, e := range c.events {
			if s, ok := e.Event.(Send); ok && s.Outcome == Acknowledged {
				c.sentAt[message{s.Topic, s.ID}] = c.since(s.Returned)
			}
		}
	}
	return c.sentAt
}

// well is when nothing was wrong for anybody, and the group had a member.
func (g *groupCheck) well() []Range {
	if g.calm != nil {
		return g.calm
	}
	var bad []Range
	for _, f := range g.faults {
		for _, t := range f {
			bad = append(bad, Range{t.from, t.to})
		}
	}
	members, since := 0, int64(0)
	for _, m := range g.moments {
		change := 0
		switch m.Event.(type) {
		case Start:
			change = 1
		case Stop, Fault:
			change = -1
		}
		if change == 0 {
			continue
		}
		if members == 0 && change > 0 {
			bad = append(bad, Range{since, m.t + int64(g.checker.rules.Grace)})
		}
		// Whoever comes or goes, the group rebalances.
		bad = append(bad, Range{m.t, m.t + int64(g.checker.rules.Grace)})
		if members += change; members == 0 {
			since = m.t
		}
	}
	if members == 0 {
		bad = append(bad, Range{since, never.t})
	}
	g.calm = gaps(sortedRanges(bad), 0, g.end)
	if g.calm == nil {
		g.calm = []Range{}
	}
	return g.calm
}
