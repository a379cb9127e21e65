package history

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"
)

func sorted[K cmp.Ordered, V any](m map[K]V) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

// leave ends what the owner has in a partition, and says what comes again.
func (m *model) leave(p *modelPart) []Span {
	for _, n := range sorted(p.running) {
		outcome := Cancelled
		if m.IntN(2) == 0 {
			outcome = Failed
		}
		m.ended(n, outcome)
	}
	clear(p.running)
	m.tick(5)
	if m.cut < 0 {
		m.commit(p)
	}
	var named []Span
	for o, done := range sorted(p.done) {
		if done && o >= p.committed {
			named = append(named, Span{TopicPartition: p.log.TopicPartition, First: o, Last: o})
		}
	}
	return named
}

func (m *model) rebalance(p *modelPart) {
	named := m.leave(p)
	m.revoke(p, p.owner, Revoke{Again: named})
	p.owner = nil
	m.assign(p)
}

func (m *model) revoke(p *modelPart, from *modelMember, r Revoke) {
	r.Member, r.Group, r.Generation = from.name, "g", p.generation
	r.Partitions, r.Time = []TopicPartition{p.log.TopicPartition}, m.now
	m.add(r)
	m.tick(5)
}

func (m *model) stop(member *modelMember) {
	if member.frozen {
		member.frozen = false
	}
	s := Stop{Member: member.name, Group: "g", Bound: 5 * time.Second, Began: m.now}
	n := m.add(s)
	m.tick(5)
	for _, p := range m.owned(member) {
		s.Again = append(s.Again, m.leave(p)...)
		p.owner, p.free = nil, m.now
	}
	m.tick(5)
	s.Returned = m.now
	m.events[n] = s
	m.forget(member)
	m.tick(5)
}

func (m *model) owned(member *modelMember) []*modelPart {
	var owned []*modelPart
	for _, p := range m.parts {
		if p.owner == member {
			owned = append(owned, p)
		}
	}
	return owned
}

func (m *model) forget(member *modelMember) {
	m.members = slices.DeleteFunc(m.members, func(other *modelMember) bool { return other == member })
}

// crash has the group wait for the session's end.
func (m *model) crash(member *modelMember) {
	m.add(Fault{Kind: Crash, Target: member.name, Began: m.now, Ended: m.now})
	m.tick(5)
	for _, p := range m.owned(member) {
		p.owner, p.free = nil, m.now.Add(modelGrace-time.Second)
		clear(p.running)
	}
	m.forget(member)
}

// freeze has a member wake up after its partitions were given away, with its
// handlers at work.
func (m *model) freeze(member *modelMember) {
	member.frozen = true
	n := m.add(Fault{Kind: Freeze, Target: member.name, Began: m.now})
	owned := m.owned(member)
	var running []int
	for _, p := range owned {
		for _, n := range sorted(p.running) {
			running = append(running, n)
		}
		p.owner, p.free = nil, m.now
	}
	m.now = m.now.Add(6 * time.Second)
	generations := map[*modelPart]int{}
	for _, p := range owned {
		generations[p] = p.generation
		m.assign(p)
		m.begin(p)
		m.tick(50)
	}
	f := m.events[n].(Fault)
	f.Ended = m.now
	m.events[n] = f
	for _, n := range running {
		m.tick(5)
		m.ended(n, Handled)
	}
	for _, p := range owned {
		m.revoke(p, member, Revoke{Lost: true, Generation: generations[p]})
	}
	member.frozen = false
}

// seek goes back, or ahead, when nothing is under way.
func (m *model) seek(p *modelPart) {
	if len(p.running) > 0 || m.IntN(3) > 0 {
		return
	}
	to := m.Int64N(min(p.committed+3, int64(len(p.log.Records))) + 1)
	m.add(Seek{Member: p.owner.name, Group: "g", TopicPartition: p.log.TopicPartition, Offset: to, Time: m.now})
	m.tick(5)
	p.restart(to)
}

// compact takes some records that all have read.
func (m *model) compact(p *modelPart) {
	kept := p.log.Records[:0:0]
	for i, r := range p.log.Records {
		if r.Transaction == Committed && i < len(p.log.Records)-1 && m.IntN(10) == 0 {
			p.log.Missing = append(p.log.Missing, Range{First: r.Offset, Last: r.Offset})
			continue
		}
		kept = append(kept, r)
	}
	p.log.Records = kept
}

func (m *model) logs() []Log {
	var logs []Log
	for _, p := range m.parts {
		l := p.log
		l.Records = slices.Clone(l.Records)
		logs = append(logs, l)
	}
	return logs
}
