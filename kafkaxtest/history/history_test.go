package history_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// start is when every history of these tests begins.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// sec is a moment of a history.
func sec(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

var (
	p0 = history.TopicPartition{Topic: "orders"}
	p1 = history.TopicPartition{Topic: "orders", Partition: 1}
)

func TestHistoryPrintsWhatLedThere(t *testing.T) {
	t.Parallel()
	var h history.History
	h.Add(history.Start{Member: "a", Group: "g", Topics: []string{"orders"}, Time: sec(0)})
	running := h.Add(history.Delivery{Member: "a", Group: "g", Generation: 3, TopicPartition: p0, Offset: 7, ID: "m7", Key: "k", Began: sec(2)})
	h.Add(history.Send{Producer: "p", Topic: "orders", ID: "m7", Began: sec(1), Returned: sec(1.5), Outcome: history.Unknown})
	h.Add(history.Commit{Group: "g", TopicPartition: p1, Offset: 5, Time: sec(3)})
	h.Add(history.Fault{Kind: history.Cut, Target: "broker 1", Began: sec(4)})
	h.Set(running, history.Delivery{
		Member: "a", Group: "g", Generation: 3, TopicPartition: p0, Offset: 7, ID: "m7", Key: "k", Attempt: 2,
		Began: sec(2), Ended: sec(2.25), Outcome: history.Failed,
	})

	want := strings.TrimPrefix(`
    +0.000000s start a of g orders
    +1.000000s send p orders "m7" unknown after 500ms
    +2.000000s deliver a of g/3 orders[0]@7 "m7" key "k" attempt 2 failed after 250ms
    +3.000000s commit of g orders[1]@5
    +4.000000s fault cut broker 1 goes on
`, "\n")
	if got := h.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	want = strings.TrimPrefix(`
... 1 earlier
    +2.000000s deliver a of g/3 orders[0]@7 "m7" key "k" attempt 2 failed after 250ms
    +4.000000s fault cut broker 1 goes on
`, "\n")
	if got := h.Tail(2, history.OnPartition(p0)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := h.Events(history.OfID("m7"), history.Until(sec(1))); len(got) != 1 {
		t.Errorf("got %v, want the send alone", got)
	}
}

func TestHistoryIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	var h history.History
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				n := h.Add(history.Stop{Member: "a", Began: sec(1)})
				h.Set(n, history.Stop{Member: "a", Began: sec(1), Returned: sec(2)})
				h.AddLog(history.Log{TopicPartition: p0})
				_ = h.Tail(1)
			}
		})
	}
	wg.Wait()
	if n, m := len(h.Events()), len(h.Logs()); n != 800 || m != 800 {
		t.Errorf("got %d events and %d logs, want 800 of each", n, m)
	}
}
