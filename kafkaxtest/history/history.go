package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// History is the events of a test, and the broker's logs at its end. The zero
// value is empty and ready. All methods may be called at the same time.
type History struct {
	// Watch sees each event, with its number, as it is added and as it is set,
	// in that order: of a process of a test, say, that tells another what it
	// saw. It must be there before the first event, and must not call the
	// history.
	Watch func(n int, e Event)

	mu     sync.Mutex
	events []entry
	logs   []Log
	clock  int
}

// entry is an event with its place in the order of the calls of the recorder:
// in virtual time many events have the same instant, and this order is all that
// is left to tell them apart.
type entry struct {
	Event

	entered, ended int
}

// Add records an event and returns its number. What takes time is added when it
// begins, so that the history has it even if it never ends, and completed by
// [History.Set].
func (h *History) Add(e Event) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	h.events = append(h.events, entry{e, h.clock, h.clock})
	n := len(h.events) - 1
	h.watched(n, e)
	return n
}

// Set puts an event in the place of the one with the number n: the same one,
// now ended.
func (h *History) Set(n int, e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	h.events[n] = entry{e, h.events[n].entered, h.clock}
	h.watched(n, e)
}

// watched needs the lock, so that what is told is in order.
func (h *History) watched(n int, e Event) {
	if h.Watch != nil {
		h.Watch(n, e)
	}
}

// AddLog records what the broker has of a partition.
func (h *History) AddLog(l Log) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logs = append(h.logs, l)
}

// Logs returns the logs that were added.
func (h *History) Logs() []Log {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.logs)
}

// Events returns the events that all filters keep, by the time they began.
func (h *History) Events(filters ...Filter) []Event {
	var events []Event
	for _, e := range h.sorted() {
		if keep(e.Event, filters) {
			events = append(events, e.Event)
		}
	}
	return events
}

func (h *History) sorted() []entry {
	h.mu.Lock()
	entries := slices.Clone(h.events)
	h.mu.Unlock()
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(a.When().Compare(b.When()), cmp.Compare(a.entered, b.entered))
	})
	return entries
}

// String is the whole history, one event a line, with the time since the first.
func (h *History) String() string { return h.Tail(-1) }

// Tail is the last n events that all filters keep, as String has them. Below 0
// it is all of them.
func (h *History) Tail(n int, filters ...Filter) string {
	events := h.sorted()
	if len(events) == 0 {
		return ""
	}
	start := events[0].When()
	events = slices.DeleteFunc(events, func(e entry) bool { return !keep(e.Event, filters) })
	var b strings.Builder
	if n >= 0 && n < len(events) {
		fmt.Fprintf(&b, "... %d earlier\n", len(events)-n)
		events = events[len(events)-n:]
	}
	for _, e := range events {
		printEvent(&b, start, e.Event)
	}
	return b.String()
}

func printEvent(b *strings.Builder, start time.Time, e Event) {
	fmt.Fprintf(b, "%+13.6fs %s\n", e.When().Sub(start).Seconds(), e)
}
