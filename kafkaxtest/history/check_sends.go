package history

import (
	"cmp"
	"slices"
)

// sendCheck holds what all sends are judged by.
type sendCheck struct {
	*checker

	places map[message][]position
	read   map[message]position // of what was delivered, by topic and id
	by     map[message]Event    // the delivery
	spare  map[string]int64     // by topic: messages that may be gone
}

func (c *checker) checkSends() {
	s := &sendCheck{
		checker: c, places: c.places(),
		read: map[message]position{}, by: map[message]Event{}, spare: map[string]int64{},
	}
	for topic, logs := range c.topics {
		for _, l := range logs {
			s.spare[topic] += l.gaps()
		}
	}
	var sends []entry
	for _, e := range c.events {
		switch event := e.Event.(type) {
		case Send:
			sends = append(sends, e)
		case Delivery:
			m := message{event.Topic, event.ID}
			if _, ok := s.read[m]; !ok {
				s.read[m], s.by[m] = position{event.TopicPartition, event.Offset}, event
			}
		}
	}
	for _, e := range sends {
		s.judge(e.Event.(Send))
		if stop, ok := c.stopped[actor(e.Event)]; ok && stop.at.before(c.began(e)) {
			s.afterStop(e.Event.(Send), stop.stop)
		}
	}
	for _, e := range c.events {
		if letter, ok := e.Event.(DeadLetter); ok && letter.Acknowledged {
			s.judgeLetter(letter)
		}
	}
	s.checkOrder(sends)
}

// violation is one of a send, where it stands or was said to stand.
func violationOf(e Send, places []position, events ...Event) Violation {
	v := Violation{TopicPartition: TopicPartition{Topic: e.Topic}, Offset: -1, Member: e.Producer, Events: append([]Event{e}, events...)}
	switch {
	case e.Placed:
		v.TopicPartition, v.Offset = e.place(), e.Offset
	case len(places) > 0:
		v.TopicPartition, v.Offset = places[0].TopicPartition, places[0].offset
	}
	return v
}

func (s *sendCheck) judge(e Send) {
	m := message{e.Topic, e.ID}
	places := s.places[m]
	switch e.Outcome {
	case NotSent:
		if len(places) > 0 {
			s.blame("send failed, stored", violationOf(e, places), "%q was said not to be sent, and stands at %s",
				e.ID, at(places[0].TopicPartition, places[0].offset))
		} else if by, ok := s.by[m]; ok {
			s.blame("send failed, read", violationOf(e, []position{s.read[m]}, by), "%q was said not to be sent, and was delivered", e.ID)
		}
	case Acknowledged:
		s.judgeAcknowledged(e, m)
	case Pending, Unknown: // it may be there or not
	}
	if e.Idempotent {
		s.judgeDoubled(e, places)
	}
	for _, p := range places {
		if r := s.logs[p.TopicPartition].record(p.offset); r.Key != e.Key {
			s.blame("send, other key", violationOf(e, []position{p}), "%q was sent with key %q, and stands with %q", e.ID, e.Key, r.Key)
		}
	}
}

func (s *sendCheck) judgeAcknowledged(e Send, m message) {
	places := s.places[m]
	at := position{e.place(), e.Offset}
	if !e.Placed {
		if len(places) > 0 || len(s.topics[e.Topic]) == 0 {
			return
		}
		read, ok := s.read[m]
		if !ok {
			s.judgeTraceless(e, m)
			return
		}
		at = read
	}
	log := s.logs[at.TopicPartition]
	switch {
	case log == nil || slices.Contains(places, at):
	case log.record(at.offset) != nil && !log.mayChange(at.offset):
		s.blame("send, other place", violationOf(e, places), "%q was acknowledged there, where %q stands", e.ID, log.record(at.offset).ID)
	case len(places) == 0 && !log.mayMiss(at.offset):
		s.blame("send lost", violationOf(e, []position{at}), "%q was acknowledged, and is not in the log", e.ID)
	}
}

// judgeTraceless is of an acknowledged message that nobody ever saw. It may have
// been at any offset that lost its record legally, but each only once.
func (s *sendCheck) judgeTraceless(e Send, m message) {
	if s.wasDeleted(e.Topic, e.Began) {
		return
	}
	if s.spare[m.topic] > 0 {
		s.spare[m.topic]--
		return
	}
	s.blame("send lost, no place", violationOf(e, nil), "%q was acknowledged, and is in no log of the topic", e.ID)
}

// judgeDoubled leaves out what stands in two incarnations of a topic: the
// second knows nothing of what the first had.
func (s *sendCheck) judgeDoubled(e Send, places []position) {
	for i, p := range places {
		if slices.ContainsFunc(places[:i], func(q position) bool { return q.Incarnation == p.Incarnation }) {
			s.blame("send doubled", violationOf(e, []position{p}), "%q stands %d times in the log, and was sent once by an idempotent producer",
				e.ID, len(places))
			return
		}
	}
}

func (s *sendCheck) judgeLetter(e DeadLetter) {
	if e.ID == "" || len(s.topics[e.To]) == 0 || len(s.places[message{e.To, e.ID}]) > 0 || s.wasDeleted(e.To, e.Time) {
		return
	}
	if s.spare[e.To] > 0 {
		s.spare[e.To]--
		return
	}
	s.blame("dead letter lost", Violation{TopicPartition: e.TopicPartition, Offset: e.First, Group: e.Group, Member: e.Member, Events: []Event{e}},
		"the dead letter of %q was acknowledged, and is in no log of %s", e.ID, e.To)
}

func (s *sendCheck) afterStop(e Send, stop Stop) {
	if e.Outcome == Acknowledged || len(s.places[message{e.Topic, e.ID}]) > 0 {
		s.blame("sent after stop", violationOf(e, nil, stop), "%q was given to the producer after its stop had returned, and was sent", e.ID)
	}
}

// lane is messages that one part of the program gave to one producer for one
// partition.
type lane struct {
	producer, caller string
	TopicPartition
}

// latest is the acknowledged send of a lane that stands at the highest offset.
type latest struct {
	offset int64
	Send
}

// checkOrder compares each send with those before it that were acknowledged: of
// those with an unknown outcome the client said itself that it cannot tell.
func (s *sendCheck) checkOrder(sends []entry) {
	// By caller the order is that of the events, so a lane is a list.
	byCaller := map[lane]latest{}
	slices.SortFunc(sends, func(a, b entry) int { return cmp.Compare(a.entered, b.entered) })
	for _, e := range sends {
		send := e.Event.(Send)
		if p, ok := s.stands(send); ok && send.Caller != "" {
			l := lane{send.Producer, send.Caller, p.TopicPartition}
			s.compare("send order, caller", byCaller, l, send, p)
			s.advance(byCaller, l, send, p)
		}
	}
	// Among callers one must have returned before the other began.
	type change struct {
		instant
		entry

		begins bool
	}
	var changes []change
	for _, e := range sends {
		if _, ok := s.stands(e.Event.(Send)); ok {
			changes = append(changes, change{s.began(e), e, true})
			if ended := s.ended(e); ended != never {
				changes = append(changes, change{ended, e, false})
			}
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return a.compare(b.instant) })
	byTime := map[lane]latest{}
	for _, change := range changes {
		send := change.Event.(Send)
		p, _ := s.stands(send)
		l := lane{send.Producer, "", p.TopicPartition}
		if !change.begins {
			s.advance(byTime, l, send, p)
		} else if last := byTime[l]; last.Caller == "" || last.Caller != send.Caller {
			s.compare("send order, time", byTime, l, send, p)
		}
	}
}

// stands is where the first copy of a message of an idempotent producer is.
func (s *sendCheck) stands(e Send) (position, bool) {
	places := s.places[message{e.Topic, e.ID}]
	if !e.Idempotent || len(places) == 0 {
		return position{}, false
	}
	first := places[0]
	for _, p := range places {
		if p.TopicPartition == first.TopicPartition && p.offset < first.offset {
			first = p
		}
	}
	return first, true
}

func (s *sendCheck) compare(found site, lanes map[lane]latest, l lane, e Send, p position) {
	if last, ok := lanes[l]; ok && p.offset < last.offset {
		s.blame(found, violationOf(e, []position{p}, last.Send), "%q was sent after %q, and stands at %d before it at %d",
			e.ID, last.ID, p.offset, last.offset)
	}
}

func (*sendCheck) advance(lanes map[lane]latest, l lane, e Send, p position) {
	if last, ok := lanes[l]; e.Outcome == Acknowledged && (!ok || p.offset > last.offset) {
		lanes[l] = latest{p.offset, e}
	}
}
