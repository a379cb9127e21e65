package history

import (
	"cmp"
	"slices"
)

// checkGroups goes through what each group did, moment by moment.
func (c *checker) checkGroups() {
	groups := map[string]*groupCheck{}
	of := func(name string) *groupCheck {
		g, ok := groups[name]
		if !ok {
			g = &groupCheck{
				checker: c, name: name, rules: c.rules.group(name),
				partitions: map[TopicPartition]*partitionCheck{}, owned: map[claim]*assignment{},
			}
			groups[name] = g
		}
		return g
	}
	for _, e := range c.events {
		switch event := e.Event.(type) {
		case Start:
			of(event.Group).add(e, c.began(e), false)
			of(event.Group).topics = append(of(event.Group).topics, event.Topics...)
		case Assign:
			of(event.Group).add(e, c.began(e), false)
			of(event.Group).assigns = true
		case Revoke:
			of(event.Group).add(e, c.began(e), false)
		case Delivery:
			of(event.Group).add(e, c.began(e), false)
			if ended := c.ended(e); ended != never {
				of(event.Group).add(e, ended, true)
			}
		case DeadLetter:
			of(event.Group).add(e, c.began(e), false)
		case Skip:
			of(event.Group).add(e, c.began(e), false)
		case Commit:
			of(event.Group).add(e, c.began(e), false)
		case Seek:
			of(event.Group).add(e, c.began(e), false)
		case Stop:
			if event.Group != "" && c.ended(e) != never {
				of(event.Group).add(e, c.ended(e), true)
			}
		case Fault:
			if event.Kind == Crash {
				for _, g := range groups {
					g.add(e, c.began(e), false)
				}
			}
		}
	}
	names := make([]string, 0, len(groups))
	for name := range groups {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		groups[name].check()
	}
}

// moment is an event of a group, or its end.
type moment struct {
	instant
	entry

	ends bool
}

// groupCheck is a group as it was at one moment.
type groupCheck struct {
	*checker

	name    string
	rules   GroupRules
	topics  []string
	assigns bool // the history has assignments
	moments []moment

	partitions map[TopicPartition]*partitionCheck
	owned      map[claim]*assignment
	wide       []Seek  // of whole topics
	calm       []Range // see well
}

// claim is a partition that a member has.
type claim struct {
	member string
	TopicPartition
}

// assignment is how far a member has come in a partition.
type assignment struct {
	began   int64
	revoked int64               // when it was lost; 0 if it is not
	next    int                 // index of the next visible record; -1 if it is not known
	lanes   map[string]Delivery // the last of the partition, or of each of its keys
}

func (g *groupCheck) add(e entry, at instant, ends bool) {
	g.moments = append(g.moments, moment{at, e, ends})
}

func (g *groupCheck) check() {
	slices.SortStableFunc(g.moments, func(a, b moment) int { return a.compare(b.instant) })
	for _, m := range g.moments {
		switch event := m.Event.(type) {
		case Stop:
			g.drop(event.Member, m.t)
		case Fault:
			g.drop(event.Target, m.t)
		case Assign:
			g.assign(event, m.t)
		case Revoke:
			g.revoke(event, m.t)
		case Delivery:
			if m.ends {
				g.of(event.TopicPartition).handlerEnded(event, m)
			} else {
				g.of(event.TopicPartition).handlerBegan(event, m)
			}
		case DeadLetter:
			p := g.of(event.TopicPartition)
			for offset := range event.offsets() {
				if event.Acknowledged {
					p.finish(offset, m, event.Member, false)
				} else {
					p.letters[offset] = event
				}
			}
		case Skip:
			if g.rules.of(event.Member).OnFailure == FailStop {
				continue
			}
			p := g.of(event.TopicPartition)
			for offset := range event.offsets() {
				p.finish(offset, m, event.Member, false)
			}
		case Commit:
			g.of(event.TopicPartition).commit(event)
		case Seek:
			g.seek(event, m.t)
		}
	}
	g.finish()
}

func (g *groupCheck) of(tp TopicPartition) *partitionCheck {
	p, ok := g.partitions[tp]
	if !ok {
		p = newPartitionCheck(g, tp)
		g.partitions[tp] = p
		for _, e := range g.wide {
			if e.Topic == tp.Topic {
				p.seek(e, g.since(e.Time))
			}
		}
	}
	return p
}

func (g *groupCheck) drop(member string, at int64) {
	for _, p := range g.partitions {
		p.settle(member, at)
	}
	for c := range g.owned {
		if c.member == member {
			delete(g.owned, c)
		}
	}
}

func (g *groupCheck) assign(e Assign, at int64) {
	g.elsewhere(e, at)
	for _, tp := range e.Partitions {
		c := claim{e.Member, tp}
		if a, ok := g.owned[c]; !ok || a.revoked > 0 {
			g.owned[c] = &assignment{began: at, next: g.of(tp).position(e.Member, at), lanes: map[string]Delivery{}}
		}
	}
}

func (g *groupCheck) revoke(e Revoke, at int64) {
	for _, span := range e.Again {
		p := g.of(span.TopicPartition)
		for offset := range span.offsets() {
			p.again[offset] = true
		}
	}
	for _, tp := range e.Partitions {
		if e.Lost {
			g.of(tp).lost = at
		}
		for c, a := range g.owned {
			// Also what it inherited: the topic may have been made again since.
			if c.member != e.Member || c.Topic != tp.Topic || c.Partition != tp.Partition || c.Incarnation < tp.Incarnation {
				continue
			}
			if e.Lost {
				a.revoked = max(at, 1)
			} else {
				delete(g.owned, c)
			}
		}
	}
}

// finish is what can be said at the end alone.
func (g *groupCheck) finish() {
	tps := make([]TopicPartition, 0, len(g.partitions))
	for tp, l := range g.logs {
		if slices.Contains(g.topics, l.Topic) {
			g.of(tp)
		}
	}
	for tp := range g.partitions {
		tps = append(tps, tp)
	}
	slices.SortFunc(tps, func(a, b TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	for _, tp := range tps {
		p := g.partitions[tp]
		if g.rules.Complete {
			p.complete()
		}
		p.untold()
		p.progress()
	}
}
