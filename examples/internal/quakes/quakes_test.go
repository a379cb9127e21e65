package quakes_test

import (
	"cmp"
	"encoding/json"
	"slices"
	"testing"

	"github.com/bi-common/kafkax/examples/internal/quakes"
)

func TestEvents(t *testing.T) {
	t.Parallel()
	events := quakes.Events()
	types := map[string]int{}
	ids := map[string]bool{}
	for _, e := range events {
		types[e.Type]++
		ids[e.ID] = true
	}
	if len(events) != 1707 || len(ids) != 1707 {
		t.Errorf("%d events with %d ids, want 1707", len(events), len(ids))
	}
	if types["earthquake"] != 1679 || types["explosion"] != 15 || types["quarry blast"] != 13 {
		t.Errorf("types: %v", types)
	}
	if !slices.IsSortedFunc(events, func(a, b quakes.Event) int { return cmp.Compare(a.Time, b.Time) }) {
		t.Error("not oldest first")
	}
	if got, want := events[2].String(), "magnitude 5.3, 50km NNW of Sangiang, Indonesia, 31 January 2018, 02:00 UTC"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	events := quakes.Events()
	msgs := quakes.Messages()
	if len(msgs) != len(events) {
		t.Fatalf("%d messages of %d events", len(msgs), len(events))
	}
	for i, m := range msgs {
		var e quakes.Event
		if err := json.Unmarshal(m.Value, &e); err != nil || e.ID != events[i].ID || string(m.Key) != e.Net {
			t.Fatalf("message %d: key %q, event %s (%v); want that of %s", i, m.Key, e.ID, err, events[i].ID)
		}
	}
}
