package history

import "time"

// subject is what a filter can ask an event for.
type subject struct {
	names []string // of the member or producer
	group string
	spans []Span // nil: of no partition. A span of offsets -1 is the whole partition
	id    string
	key   string
	topic string // of a send whose partition is not known, or of a seek of a whole topic
	all   bool   // it concerns everybody
}

func whole(partitions []TopicPartition) []Span {
	spans := make([]Span, len(partitions))
	for i, tp := range partitions {
		spans[i] = Span{tp, -1, -1}
	}
	return spans
}

func one(tp TopicPartition, offset int64) []Span { return []Span{{tp, offset, offset}} }

func (e Send) place() TopicPartition {
	return TopicPartition{Topic: e.Topic, Partition: e.Partition, Incarnation: e.Incarnation}
}

// When is when the message was given to the producer.
func (e Send) When() time.Time { return e.Began }

// When is Time.
func (e Start) When() time.Time { return e.Time }

// When is Time.
func (e Assign) When() time.Time { return e.Time }

// When is Time.
func (e Revoke) When() time.Time { return e.Time }

// When is when the handler was called.
func (e Delivery) When() time.Time { return e.Began }

// When is Time.
func (e DeadLetter) When() time.Time { return e.Time }

// When is Time.
func (e Skip) When() time.Time { return e.Time }

// When is Time.
func (e Commit) When() time.Time { return e.Time }

// When is Time.
func (e Seek) When() time.Time { return e.Time }

// When is when the call began.
func (e Stop) When() time.Time { return e.Began }

// When is when it began.
func (e Fault) When() time.Time { return e.Began }

// When is Time.
func (e Leak) When() time.Time { return e.Time }

func (e Send) until() time.Time       { return e.Returned }
func (e Start) until() time.Time      { return e.Time }
func (e Assign) until() time.Time     { return e.Time }
func (e Revoke) until() time.Time     { return e.Time }
func (e Delivery) until() time.Time   { return e.Ended }
func (e DeadLetter) until() time.Time { return e.Time }
func (e Skip) until() time.Time       { return e.Time }
func (e Commit) until() time.Time     { return e.Time }
func (e Seek) until() time.Time {
	if e.Returned.IsZero() {
		return e.Time
	}
	return e.Returned
}
func (e Stop) until() time.Time  { return e.Returned }
func (e Fault) until() time.Time { return e.Ended }
func (e Leak) until() time.Time  { return e.Time }

func (e Send) about() subject {
	s := subject{names: []string{e.Producer}, id: e.ID, key: e.Key}
	if e.Placed {
		s.spans = one(e.place(), e.Offset)
	} else {
		s.topic = e.Topic
	}
	return s
}

func (e Start) about() subject { return subject{names: []string{e.Member}, group: e.Group} }

func (e Assign) about() subject {
	return subject{names: []string{e.Member}, group: e.Group, spans: whole(e.Partitions)}
}

func (e Revoke) about() subject {
	return subject{names: []string{e.Member}, group: e.Group, spans: whole(e.Partitions)}
}

func (e Delivery) about() subject {
	return subject{names: []string{e.Member}, group: e.Group, spans: one(e.TopicPartition, e.Offset), id: e.ID, key: e.Key}
}

func (e DeadLetter) about() subject {
	return subject{names: []string{e.Member}, group: e.Group, spans: []Span{e.Span}, id: e.ID}
}

func (e Skip) about() subject {
	return subject{names: []string{e.Member}, group: e.Group, spans: []Span{e.Span}}
}

func (e Commit) about() subject {
	return subject{names: []string{e.Member}, group: e.Group, spans: whole([]TopicPartition{e.TopicPartition})}
}

func (e Seek) about() subject {
	if e.Partition < 0 {
		return subject{names: []string{e.Member}, group: e.Group, topic: e.Topic}
	}
	return subject{names: []string{e.Member}, group: e.Group, spans: whole([]TopicPartition{e.TopicPartition})}
}

func (e Stop) about() subject { return subject{names: []string{e.Member}, group: e.Group, all: true} }

func (e Fault) about() subject { return subject{names: []string{e.Target}, all: true} }

func (e Leak) about() subject { return subject{names: []string{e.Member}} }
