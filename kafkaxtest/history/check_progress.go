package history

import (
	"slices"
	"time"
)

func seconds(nanoseconds int64) time.Duration {
	return time.Duration(nanoseconds).Round(time.Millisecond)
}

// progress wants that no message waits for long that somebody could have
// handled. A message waits from when it could be read, and the partition is
// worked on while a handler of it runs.
func (p *partitionCheck) progress() {
	if p.log == nil || !p.log.Deleted.IsZero() || p.groupCheck.rules.Start == Latest {
		return
	}
	limit := p.rulesProgress()
	busy := merged(p.activity)
	for _, offset := range p.visible {
		from, known := p.available(offset)
		if !known {
			continue
		}
		until := p.end
		if f, ok := p.finished[offset]; ok {
			until = f.at
		}
		if until-from <= limit {
			continue
		}
		for _, gap := range gaps(busy, from, until) {
			if idle, ok := p.idle(gap, limit); ok {
				p.blame("no progress", Violation{TopicPartition: p.tp, Offset: offset, Group: p.name},
					"it waited %v that nobody used, though the group had members and nothing was wrong", seconds(idle.to-idle.from))
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
func (p *partitionCheck) idle(gap span, limit int64) (span, bool) {
	for _, well := range p.well() {
		from, to := max(gap.from, well.from), min(gap.to, well.to)
		if to-from > limit {
			return span{from, to}, true
		}
	}
	return span{}, false
}

// merged is spans by their begin, without overlaps.
func merged(spans []span) []span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int { return int(min(max(a.from-b.from, -1), 1)) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// gaps is what sorted spans leave free between two times.
func gaps(sorted []span, from, to int64) []span {
	var free []span
	i, _ := slices.BinarySearchFunc(sorted, from, func(s span, at int64) int { return int(min(max(s.to-at, -1), 1)) })
	for ; i < len(sorted) && sorted[i].from < to; i++ {
		if sorted[i].from > from {
			free = append(free, span{from, sorted[i].from})
		}
		from = max(from, sorted[i].to)
	}
	if from < to {
		free = append(free, span{from, to})
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
func (g *groupCheck) well() []span {
	if g.calm != nil {
		return g.calm
	}
	var bad []span
	for _, f := range g.faults {
		for _, t := range f.all {
			bad = append(bad, span{t.from, t.to})
		}
	}
	members, since := 0, int64(0)
	for _, m := range g.moments {
		change := 0
		switch event := m.Event.(type) {
		case Start:
			change = 1
		case Stop:
			change = -1
			_ = event
		case Fault:
			change = -1
		}
		if change == 0 {
			continue
		}
		if members == 0 && change > 0 {
			bad = append(bad, span{since, m.t + int64(g.checker.rules.Grace)})
		}
		// Whoever comes or goes, the group rebalances.
		bad = append(bad, span{m.t, m.t + int64(g.checker.rules.Grace)})
		if members += change; members == 0 {
			since = m.t
		}
	}
	if members == 0 {
		bad = append(bad, span{since, never.t})
	}
	g.calm = gaps(merged(bad), 0, g.end)
	if g.calm == nil {
		g.calm = []span{}
	}
	return g.calm
}
