package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// sum is what all schedules came to.
type sum struct {
	mu    sync.Mutex
	clock string // which time it is
	counts
}

// counts are exported for the process that a schedule may have of its own.
type counts struct {
	Schedules  map[string]int // by the loop of the mode
	Broken     int            // with a violation
	Time       time.Duration
	Faults     map[string]int
	Sends      map[history.SendOutcome]int
	Deliveries map[history.Outcome]int
	Duplicates map[history.Cause]int
	Most       int // duplicates of one schedule
	Rebalances int
	Letters    int
	Missed     int            // deleted before they were handled, as was told
	Left       map[string]int // what is known and not mended, by kind
	Also       map[string]int // schedules, by what else is in their mode

	Violations map[history.Kind]int
	Violated   map[history.Kind]map[string]int // schedules with such a violation, by the loop
	Troubles   map[string]int                  // what ended otherwise than it should
}

func newSum(clock string) *sum {
	return &sum{clock: clock, counts: counts{
		Schedules: map[string]int{}, Faults: map[string]int{}, Sends: map[history.SendOutcome]int{}, Deliveries: map[history.Outcome]int{},
		Duplicates: map[history.Cause]int{}, Left: map[string]int{}, Also: map[string]int{},
		Violations: map[history.Kind]int{}, Violated: map[history.Kind]map[string]int{}, Troubles: map[string]int{},
	}}
}

func (s *sum) fault(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Faults[name]++
}

// known counts a schedule that met what later work mends.
func (s *sum) known(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Left[what]++
}

// trouble counts what is no violation of the history, and should not be.
func (s *sum) trouble(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Troubles[what]++
}

func (s *sum) add(loop string, r *history.Report, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Schedules[loop]++
	if len(r.Found) > 0 {
		s.Broken++
	}
	s.Time += took
	s.Rebalances += r.Rebalances
	s.Letters += r.Letters
	s.Missed += r.Missed
	merge(s.Sends, r.Sends)
	merge(s.Deliveries, r.Deliveries)
	merge(s.Duplicates, r.Duplicates)
	s.Most = max(s.Most, total(r.Duplicates))
	merge(s.Violations, r.Found)
	for kind := range r.Found {
		s.violated(kind, map[string]int{loop: 1})
	}
}

// also counts a schedule by what is in its mode.
func (s *sum) also(m mode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for what, is := range map[string]bool{
		"several topics": m.topics > 1, "seeks": m.seeks, "start at the latest": m.latest, "unlike members": m.mixed,
		"stuck handlers": m.handler.stuck > 0, "deaf handlers": m.handler.deaf > 0, "read committed": m.committed,
		"dead letters": m.deadLetters, "nothing breaks": m.calm,
	} {
		if is {
			s.Also[what]++
		}
	}
}

func (s *sum) violated(kind history.Kind, loops map[string]int) {
	if s.Violated[kind] == nil {
		s.Violated[kind] = map[string]int{}
	}
	merge(s.Violated[kind], loops)
}

// join adds what schedules in another process came to.
func (s *sum) join(o counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Broken += o.Broken
	s.Time += o.Time
	s.Rebalances += o.Rebalances
	s.Letters += o.Letters
	s.Missed += o.Missed
	merge(s.Schedules, o.Schedules)
	merge(s.Faults, o.Faults)
	merge(s.Sends, o.Sends)
	merge(s.Deliveries, o.Deliveries)
	merge(s.Duplicates, o.Duplicates)
	s.Most = max(s.Most, o.Most)
	merge(s.Left, o.Left)
	merge(s.Also, o.Also)
	merge(s.Violations, o.Violations)
	for kind, loops := range o.Violated {
		s.violated(kind, loops)
	}
	merge(s.Troubles, o.Troubles)
}

func merge[K comparable](into, from map[K]int) {
	for k, n := range from {
		into[k] += n
	}
}

func total[K comparable](m map[K]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func (s *sum) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d schedules %v, %d of them without a violation, %v of %s, %d rebalances, %d dead letters, %d deleted unread\n",
		total(s.Schedules), s.Schedules, total(s.Schedules)-s.Broken, s.Time.Round(time.Second), s.clock, s.Rebalances, s.Letters, s.Missed)
	fmt.Fprintf(&b, "%d sends %v; %d deliveries %v; explained duplicates %v, at most %d in a schedule\n",
		total(s.Sends), s.Sends, total(s.Deliveries), s.Deliveries, s.Duplicates, s.Most)
	fmt.Fprintln(&b, "violations, and in how many schedules:")
	for _, kind := range history.Kinds() {
		if n := s.Violations[kind]; n > 0 {
			fmt.Fprintf(&b, "%8d %4d %s %v\n", n, total(s.Violated[kind]), kind, s.Violated[kind])
		}
	}
	list(&b, "otherwise:", s.Troubles)
	list(&b, "schedules with:", s.Also)
	list(&b, "faults:", s.Faults)
	list(&b, "known, and not counted above:", s.Left)
	fmt.Fprintln(&b, "left out:")
	for _, what := range leftOut {
		fmt.Fprintf(&b, "         %s\n", what)
	}
	return b.String()
}

func list(b *strings.Builder, title string, m map[string]int) {
	fmt.Fprintln(b, title)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(b, "%8d %s\n", m[name], name)
	}
}
