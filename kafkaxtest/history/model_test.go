package history

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// model is a group that does all right, whatever happens to it: it sends,
// handles, commits, loses members, and writes down what it saw.
type model struct {
	*rand.Rand

	now      time.Time
	ordering Ordering
	events   []Event
	parts    []*modelPart
	members  []*modelMember
	sent     int
	names    int
	cut      int // the event of the fault under which no commit gets through; below 0: none
}

type modelMember struct {
	name   string
	frozen bool
}

// modelPart is a partition, and how its owner stands in it.
type modelPart struct {
	log        Log
	owner      *modelMember // nil: nobody, until free
	free       time.Time
	generation int

	from     int64 // where the owner began
	done     map[int64]bool
	attempts map[int64]int
	running  map[int64]int // by offset, the event

	committed   int64
	committedAt time.Time
}

const modelGrace = 7 * time.Second

func modelRules(o Ordering) Rules {
	return Rules{
		GroupRules: GroupRules{Ordering: o, Isolation: ReadCommitted, Complete: true},
		Grace:      modelGrace,
	}
}

func newModel(seed uint64) *model {
	m := &model{Rand: rand.New(rand.NewPCG(seed, 1)), now: base, cut: -1}
	m.ordering = []Ordering{OrderPartition, OrderKey, Unordered}[seed%3]
	for i := range 2 {
		p := &modelPart{log: Log{TopicPartition: TopicPartition{Topic: "orders", Partition: i}}}
		m.parts = append(m.parts, p)
	}
	m.join()
	m.join()
	for _, p := range m.parts {
		m.assign(p)
	}
	return m
}

// run lets things happen, and then lets the group come to rest.
func (m *model) run(steps int) {
	for range steps {
		m.step(m.IntN(100))
	}
	if m.cut >= 0 {
		m.mend()
	}
	for i := 0; m.busy(); i++ {
		if i > 100_000 {
			panic("the model does not come to rest")
		}
		m.step(20 + m.IntN(60))
	}
	for len(m.members) > 0 {
		m.stop(m.members[0])
	}
	for _, p := range m.parts {
		p.log.End = int64(len(p.log.Records))
		m.compact(p)
	}
}

func (m *model) busy() bool {
	for _, p := range m.parts {
		if p.owner == nil || p.owner.frozen || len(p.running) > 0 || p.next() != int64(len(p.log.Records)) || p.committed != p.next() {
			return true
		}
	}
	return false
}

func (m *model) add(e Event) int {
	m.events = append(m.events, e)
	return len(m.events) - 1
}

func (m *model) tick(most int) {
	m.now = m.now.Add(time.Millisecond * time.Duration(1+m.IntN(most)))
}

func (m *model) step(what int) {
	m.tick(60)
	p := m.parts[m.IntN(len(m.parts))]
	if p.owner == nil && m.now.After(p.free) {
		m.assign(p)
	}
	held := p.owner != nil && !p.owner.frozen
	if held && m.cut < 0 && p.next() > p.committed && m.now.Sub(p.committedAt) > 2*time.Second {
		m.commit(p)
	}
	switch {
	case what < 20:
		m.send(p)
	case !held:
	case what < 45:
		m.begin(p)
	case what < 75:
		m.end(p)
	case what < 80:
		if m.cut < 0 {
			m.commit(p)
		}
	case what < 84:
		m.rebalance(p)
	case what < 87:
		m.seek(p)
	case m.IntN(4) > 0:
	case what < 90:
		m.crash(p.owner)
	case what < 93:
		m.freeze(p.owner)
	case what < 96:
		if m.cut < 0 {
			m.cut = m.add(Fault{Kind: Cut, Target: "broker", Began: m.now})
		} else {
			m.mend()
		}
	default:
		m.stop(p.owner)
	}
}

func (m *model) mend() {
	f := m.events[m.cut].(Fault)
	f.Ended = m.now
	m.events[m.cut] = f
	m.cut = -1
	m.tick(10)
}

func (m *model) send(p *modelPart) {
	m.sent++
	key := ""
	if m.IntN(4) > 0 {
		key = fmt.Sprintf("k%d", m.IntN(3))
	}
	s := Send{
		Producer: "p", Caller: "c", Topic: "orders", ID: fmt.Sprintf("s%d", m.sent), Key: key,
		Partition: p.log.Partition, Idempotent: true, Began: m.now, Outcome: Acknowledged,
	}
	m.tick(5)
	s.Returned = m.now
	stored := true
	switch m.IntN(20) {
	case 0:
		s.Outcome, stored = Unknown, m.IntN(2) == 0
	case 1:
		s.Outcome, stored = NotSent, false
	}
	if stored {
		r := Record{Offset: int64(len(p.log.Records)), ID: s.ID, Key: key, Available: m.now}
		if m.IntN(15) == 0 {
			r.Transaction = Aborted
		}
		p.log.Records = append(p.log.Records, r)
		if s.Outcome == Acknowledged && m.IntN(2) == 0 {
			s.Placed, s.Offset = true, r.Offset
		}
	}
	m.add(s)
}

func (m *model) join() {
	m.names++
	member := &modelMember{name: fmt.Sprintf("m%d", m.names)}
	m.members = append(m.members, member)
	m.add(Start{Member: member.name, Group: "g", Topics: []string{"orders"}, Time: m.now})
	m.tick(5)
}

func (m *model) assign(p *modelPart) {
	for p.owner == nil {
		if len(m.members) == 0 || m.IntN(5) == 0 {
			m.join()
		}
		if one := m.members[m.IntN(len(m.members))]; !one.frozen {
			p.owner = one
		} else {
			m.join()
		}
	}
	p.generation++
	m.add(Assign{
		Member: p.owner.name, Group: "g", Generation: p.generation,
		Partitions: []TopicPartition{p.log.TopicPartition}, Time: m.now,
	})
	m.tick(5)
	p.restart(p.committed)
	p.committedAt = m.now
}

func (p *modelPart) restart(from int64) {
	p.from, p.done, p.attempts, p.running = from, map[int64]bool{}, map[int64]int{}, map[int64]int{}
}

func (p *modelPart) visible(o int64) bool { return p.log.Records[o].Transaction == Committed }

// next is the offset up to which all is done.
func (p *modelPart) next() int64 {
	o := p.from
	for o < int64(len(p.log.Records)) && (p.done[o] || !p.visible(o)) {
		o++
	}
	return o
}

// begin calls a handler with a message whose turn it is.
func (m *model) begin(p *modelPart) {
	next := p.next()
	var ready []int64
	waits := map[string]bool{}
	for o := next; o < min(int64(len(p.log.Records)), next+8); o++ {
		if !p.visible(o) || p.done[o] {
			continue
		}
		lane, ordered := "", true
		switch m.ordering {
		case OrderKey:
			lane = p.log.Records[o].Key
			ordered = lane != ""
		case Unordered:
			ordered = false
		case OrderPartition:
		}
		_, running := p.running[o]
		if !running && (!ordered || !waits[lane]) {
			ready = append(ready, o)
		}
		waits[lane] = true
	}
	if len(ready) == 0 {
		return
	}
	o := ready[m.IntN(len(ready))]
	p.attempts[o]++
	r := p.log.Records[o]
	p.running[o] = m.add(Delivery{
		Member: p.owner.name, Group: "g", Generation: p.generation, TopicPartition: p.log.TopicPartition,
		Offset: o, ID: r.ID, Key: r.Key, Attempt: p.attempts[o], Began: m.now,
	})
}

func (m *model) end(p *modelPart) {
	for o, n := range sorted(p.running) {
		outcome := Handled
		switch m.IntN(20) {
		case 0, 1:
			outcome = Failed
		case 2:
			outcome = Skipped
		case 3:
			outcome = DeadLettered
		}
		m.ended(n, outcome)
		delete(p.running, o)
		p.done[o] = outcome != Failed
		if outcome == DeadLettered {
			m.tick(5)
			m.add(DeadLetter{
				Member: p.owner.name, Group: "g", Span: Span{TopicPartition: p.log.TopicPartition, First: o},
				ID: p.log.Records[o].ID, To: "dead", Acknowledged: true, Time: m.now,
			})
			m.tick(5)
		}
		return
	}
}

func (m *model) ended(n int, outcome Outcome) {
	d := m.events[n].(Delivery)
	d.Ended, d.Outcome = m.now, outcome
	m.events[n] = d
}

func (m *model) commit(p *modelPart) {
	if next := p.next(); next != p.committed {
		p.committed, p.committedAt = next, m.now
		m.add(Commit{
			Member: p.owner.name, Group: "g", Generation: p.generation, TopicPartition: p.log.TopicPartition, Offset: next, Time: m.now,
		})
		m.tick(5)
	}
}
