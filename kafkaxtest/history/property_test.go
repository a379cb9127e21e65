package history

import "testing"

func seeds() uint64 {
	if testing.Short() {
		return 60
	}
	return 150
}

// Whatever happens to a group that does all right, it broke nothing.
func TestCheckAccusesNoGroupThatDoesRight(t *testing.T) {
	t.Parallel()
	explained := map[Cause]int{}
	for seed := range seeds() {
		m := newModel(seed)
		m.run(600)
		h := recorded(m.events, m.logs())
		report := Check(h, modelRules(m.ordering))
		if err := report.Err(); err != nil {
			t.Fatalf("seed %d, ordering %s: %v\n%s", seed, m.ordering, err, report.Violations[0].Tail(h, 40))
		}
		for cause, n := range report.Duplicates {
			explained[cause] += n
		}
	}
	for _, cause := range []Cause{Cause(Crash), Cause(Freeze), Cause(Cut), Named, Sought} {
		if explained[cause] == 0 {
			t.Errorf("no duplicate had the cause %q: the model is too tame", cause)
		}
	}
	t.Log(explained)
}

// A history with holes makes no sense, but is no reason to panic.
func TestCheckTakesAnyEvents(t *testing.T) {
	t.Parallel()
	for seed := range seeds() {
		m := newModel(seed)
		m.run(200)
		var kept []Event
		for _, e := range m.events {
			if m.IntN(3) > 0 {
				kept = append(kept, e)
			}
			if s, ok := e.(Seek); ok && m.IntN(2) == 0 {
				s.Offset = -1
				kept = append(kept, s)
			}
		}
		m.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
		r := modelRules(m.ordering)
		if m.IntN(2) == 0 {
			r.Start = Latest
		}
		h := recorded(kept, m.logs()[:m.IntN(3)])
		if report := Check(h, r); report.String() == "" {
			t.Error("the report says nothing")
		}
	}
}

// What knows or asks less must accuse of no more.
func TestCheckAccusesNoMoreWhereItAsksLess(t *testing.T) {
	t.Parallel()
	for seed := range seeds() {
		m := newModel(seed)
		m.run(600)
		rules := modelRules(m.ordering)
		check := func(name string, events []Event, logs []Log, r Rules) {
			h := recorded(events, logs)
			report := Check(h, r)
			if err := report.Err(); err != nil {
				t.Fatalf("seed %d, ordering %s, %s: %v\n%s", seed, m.ordering, name, err, report.Violations[0].Tail(h, 40))
			}
		}
		latest, byKey, unordered, careless := rules, rules, rules, rules
		latest.Start = Latest
		byKey.Ordering, unordered.Ordering = OrderKey, Unordered
		careless.CommitWithin = -1
		check("without logs", m.events, nil, rules)
		check("from the end", m.events, m.logs(), latest)
		check("without order", m.events, m.logs(), unordered)
		if m.ordering == OrderPartition {
			check("by key", m.events, m.logs(), byKey)
		}
		var uncommitted, lost []Event
		for _, e := range m.events {
			if _, ok := e.(Commit); !ok {
				uncommitted = append(uncommitted, e)
			}
			if s, ok := e.(Seek); ok {
				s.Offset = -1
				e = s
			}
			lost = append(lost, e)
		}
		check("without commits", uncommitted, m.logs(), careless)
		check("with seeks to nobody knows where", lost, m.logs(), rules)
	}
}
