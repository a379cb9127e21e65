package history

import (
	"slices"
	"time"
)

// Filter says which events are kept.
type Filter func(Event) bool

func keep(e Event, filters []Filter) bool {
	for _, f := range filters {
		if !f(e) {
			return false
		}
	}
	return true
}

// OnPartition keeps what happened to a partition, and stops and faults.
func OnPartition(tp TopicPartition) Filter {
	return func(e Event) bool {
		s := e.about()
		return s.all || s.topic == tp.Topic && s.topic != "" ||
			slices.ContainsFunc(s.spans, func(sp Span) bool { return sp.TopicPartition == tp })
	}
}

// OnMessage keeps what happened to the message at an offset: events of that
// offset, and what concerns its whole partition.
func OnMessage(tp TopicPartition, offset int64) Filter {
	return func(e Event) bool {
		s := e.about()
		return s.all || slices.ContainsFunc(s.spans, func(sp Span) bool {
			return sp.TopicPartition == tp && (sp.First < 0 || sp.First <= offset && offset <= sp.last())
		})
	}
}

// OfID keeps the sends, deliveries and dead letters of one message.
func OfID(id string) Filter {
	return func(e Event) bool { return e.about().id == id }
}

// OfKey keeps the sends and deliveries with one key.
func OfKey(key string) Filter {
	return func(e Event) bool { return e.about().key == key }
}

// OfGroup keeps what the members of a group did, and faults.
func OfGroup(group string) Filter {
	return func(e Event) bool {
		_, fault := e.(Fault)
		return fault || e.about().group == group
	}
}

// OfMember keeps what a member or producer did, and what was done to it.
func OfMember(name string) Filter {
	return func(e Event) bool { return slices.Contains(e.about().names, name) }
}

// Until keeps what began at t or before.
func Until(t time.Time) Filter {
	return func(e Event) bool { return !e.When().After(t) }
}
