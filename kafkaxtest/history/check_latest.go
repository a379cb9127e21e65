package history

import "time"

// fixed takes the first commit of a group that starts at the latest. Until then
// each start is at another end of the log, and what was sent before may be passed
// over; from its offset on all is wanted, as of a group that starts at the earliest.
//
// A member asks for the end as soon as it is assigned the partition. So where
// nothing was wrong since, what was sent well after that is wanted too.
func (p *partitionCheck) fixed(e Commit) {
	p.first, p.verified = e.Offset, p.index(e.Offset)
	p.passTo(p.verified, p.since(e.Time))
	a, ok := p.owned[claim{e.Member, p.tp}]
	within := p.groupCheck.rules.CommitWithin
	if !ok || within < 0 || p.trouble(e.Member, a.began, p.since(e.Time)) != nil || p.open(e.Member, a.began) {
		return
	}
	for _, offset := range p.visible[:p.verified] {
		if p.done(offset) || p.log.mayMiss(offset) || p.sentBefore(offset, a.began+int64(within)) {
			continue
		}
		p.blame("latest, late", Violation{TopicPartition: p.tp, Offset: offset, Group: e.Group, Member: e.Member, Time: e.Time, Events: []Event{e}},
			"it was sent %v and more after the partition was assigned, and the group began behind it", within)
		return // those behind it are of the same
	}
}

// sentBefore says whether a message may have been in the log by then.
func (p *partitionCheck) sentBefore(offset, then int64) bool {
	r := p.log.record(offset)
	if r == nil || r.ID == "" {
		return true
	}
	began, ok := p.sendsBegan()[message{p.tp.Topic, r.ID}]
	return !ok || began <= then
}

// sendsBegan is when each message was given to its producer.
func (c *checker) sendsBegan() map[message]int64 {
	if c.sendAt == nil {
		c.sendAt = map[message]int64{}
		for _, e := range c.events {
			if s, ok := e.Event.(Send); ok {
				c.sendAt[message{s.Topic, s.ID}] = c.since(s.Began)
			}
		}
	}
	return c.sendAt
}

// before the first position nothing is wanted; see fixed.
func (p *partitionCheck) unwanted(offset int64) bool {
	return p.groupCheck.rules.Start == Latest && offset < p.first
}

// seconds is a time as a violation tells it.
func seconds(nanoseconds int64) time.Duration {
	return time.Duration(nanoseconds).Round(time.Millisecond)
}
