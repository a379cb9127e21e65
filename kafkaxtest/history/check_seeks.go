package history

import (
	"math"
	"slices"
)

// sought is a seek as it concerns one partition.
//
// It takes effect while its call runs, or when its member is assigned the
// partition next, or again after that if the group had not stored it. So there is
// a time in which it may, and in that time it excuses one thing of each kind: that
// the committed offset goes back, to it or beyond; that a commit passes over
// messages that are before it and not done; and that a message that was done is
// handled again, once for each message from it on. What nobody asked for is one
// thing more than that.
type sought struct {
	Seek

	returned int64
	offset   int64 // below 0: anywhere
	commits  int   // of its member since it returned
	over     int64 // from when it has no effect any more

	back, ahead bool // a commit went back, or ahead, that needed it
}

// seek takes a position that was set otherwise than by reading.
func (g *groupCheck) seek(e Seek, at int64) {
	if e.Partition >= 0 {
		g.of(e.TopicPartition).seek(e, at)
		return
	}
	for tp, p := range g.partitions {
		if tp.Topic == e.Topic {
			p.seek(e, at)
		}
	}
	g.wide = append(g.wide, e) // for those of which nothing is known yet
}

func (p *partitionCheck) seek(e Seek, at int64) {
	if e.Reset && e.From < e.Offset {
		p.resets = append(p.resets, e) // it excuses only what it passed over
		return
	}
	s := &sought{Seek: e, returned: max(at, p.since(e.until())), offset: e.Offset, over: math.MaxInt64}
	if e.Offset > p.highest+1 {
		s.offset = -1 // it may have been beyond the end, and there the client's reset decides
	}
	p.seeks = append(p.seeks, s)
}

// soughtSince says whether a member has sought since it was given a message.
func (p *partitionCheck) soughtSince(d Delivery) bool {
	return slices.ContainsFunc(p.seeks, func(s *sought) bool { return s.Member == d.Member && s.returned >= p.since(d.Began) })
}

// by says whether it may concern what a member does. What is not known to be of a
// member concerns all, and of all.
func (s *sought) by(member string) bool {
	return s.Member == "" || member == "" || s.Member == member
}

// open says whether a member has a seek that may still take effect, or did after t.
func (p *partitionCheck) open(member string, t int64) bool {
	return slices.ContainsFunc(p.seeks, func(s *sought) bool { return s.by(member) && s.over >= t })
}

// settle ends what a member's seeks may do, at a moment after which they cannot
// take effect.
func (p *partitionCheck) settle(member string, at int64) {
	for _, s := range p.seeks {
		if s.Member == member && s.returned < at {
			s.over = min(s.over, at)
		}
	}
}

// elsewhere settles the seeks of a member in the partitions of a topic that it was
// not assigned with others of that topic: what it has kept for them is given up.
// Where something was wrong, it may not have come to know of an assignment.
func (g *groupCheck) elsewhere(e Assign, at int64) {
	for tp, p := range g.partitions {
		same := func(other TopicPartition) bool { return other.Topic == tp.Topic }
		_, has := g.owned[claim{e.Member, tp}]
		if !has && slices.ContainsFunc(e.Partitions, same) && !slices.Contains(e.Partitions, tp) {
			for _, s := range p.seeks {
				if s.Member == e.Member && s.returned < at && p.trouble(e.Member, p.since(s.Time), at) == nil {
					s.over = min(s.over, at)
				}
			}
		}
	}
}

// committedSince counts the commits of a member after its seeks. One may have been
// on its way before; the next is of the new position, and once that is stored and
// nothing kept the member from knowing it, the seek is over.
func (p *partitionCheck) committedSince(e Commit, at int64) {
	for _, s := range p.seeks {
		if s.Member == "" || s.Member != e.Member || s.returned >= at {
			continue
		}
		if s.commits++; s.commits >= 2 && p.trouble(e.Member, p.since(s.Time), at) == nil {
			s.over = min(s.over, at)
		}
	}
	if a, ok := p.owned[claim{e.Member, p.tp}]; ok && a.next >= 0 && len(p.seeks) > 0 {
		a.next = max(a.next, p.index(e.Offset)) // what is before it was judged here
	}
}

// asked says whether a commit is of the very position that a seek named, which may
// have been beyond the end of the log. Whoever reads there finds that out, this
// member or the next, and is reset: see adrift.
func (p *partitionCheck) asked(e Commit) bool {
	return slices.ContainsFunc(p.seeks, func(s *sought) bool {
		return s.by(e.Member) && s.offset < 0 && s.Offset == e.Offset && s.over >= p.since(e.Time)
	})
}

// mayGoBack says whether a seek went there, or further back.
func (p *partitionCheck) mayGoBack(e Commit) bool {
	for _, s := range p.seeks {
		if s.by(e.Member) && !s.back && s.offset <= e.Offset && s.over >= p.since(e.Time) {
			s.back = true
			return true
		}
	}
	return false
}

// wentBack has the messages from a position on judged anew: whoever went back to
// them wants them again.
func (p *partitionCheck) wentBack(offset int64) {
	p.verified = min(p.verified, p.index(offset))
	for o := range p.forgiven {
		if o >= offset {
			p.forgiven[o] = false
		}
	}
	p.first = min(p.first, offset)
}

// beyond is a seek by which a member may have passed over an offset at t; nil if
// there was none.
func (p *partitionCheck) beyond(member string, offset, t int64) *sought {
	for _, s := range p.seeks {
		if s.by(member) && !s.ahead && (s.offset < 0 || s.offset > offset) && s.over >= t {
			return s
		}
	}
	return nil
}

// soughtAgain says whether a seek explains that a message that was done is handled once
// more, which needs it or not. Then the message is not done, until it is again.
func (p *partitionCheck) soughtAgain(d Delivery, was finish, needs bool) bool {
	for i := p.excused[d.Offset]; i < len(p.seeks); i++ {
		s := p.seeks[i]
		if s.offset > d.Offset || s.over < was.began-p.onItsWay() {
			continue
		}
		if needs {
			p.excused[d.Offset] = i + 1
		}
		p.before[d.Offset] = true
		delete(p.finished, d.Offset)
		delete(p.prefixAt, d.Offset) // when it may be committed is another matter now
		return true
	}
	return false
}

// onItsWay is how long something may take to be committed: after a seek handlers
// may begin so long with what they were given before it, and what comes again then.
func (p *partitionCheck) onItsWay() int64 {
	if within := p.groupCheck.rules.CommitWithin; within >= 0 {
		return int64(within)
	}
	return p.end
}

// done says whether a message is done, or was before a seek went back to it.
func (p *partitionCheck) done(offset int64) bool {
	_, ok := p.finished[offset]
	return ok || p.before[offset]
}
