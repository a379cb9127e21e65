package history

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Violation is one broken promise.
type Violation struct {
	Kind Kind

	// Where it was. The topic is empty, Offset below 0 and the names empty
	// where there is none.
	TopicPartition
	Offset int64
	Group  string
	Member string

	// Time is when it showed.
	Time time.Time
	// Text says what was expected and what was seen.
	Text string
	// Events are those that show it.
	Events []Event

	site site
}

// String is the violation in one line.
func (v Violation) String() string {
	where := ""
	switch {
	case v.Topic != "" && v.Offset >= 0:
		where = "at " + at(v.TopicPartition, v.Offset)
	case v.Topic != "":
		where = "at " + v.TopicPartition.String()
	}
	return line(string(v.Kind), where, v.Member, group(v.Group, 0)) + ": " + v.Text
}

// Tail is the last n events of the history up to the violation that have to do
// with its message or, if it has none, with its partition or member.
func (v Violation) Tail(h *History, n int) string {
	filters := []Filter{Until(v.Time)}
	switch {
	case v.Topic != "" && v.Offset >= 0:
		filters = append(filters, OnMessage(v.TopicPartition, v.Offset))
	case v.Topic != "":
		filters = append(filters, OnPartition(v.TopicPartition))
	case v.Member != "":
		filters = append(filters, OfMember(v.Member))
	}
	return h.Tail(n, filters...)
}

// Cause is what explains a duplicate: the [FaultKind], or one of these.
type Cause string

// The causes of duplicates beside faults.
const (
	LostMembership Cause = "lost membership" // a Revoke that was Lost
	Named          Cause = "named"           // a Stop or Revoke said that it comes again
	Sought         Cause = "seek"            // a Seek went back
	CutOff         Cause = "cancelled"       // its handler, or one before it, had been told to end
)

// Report is what a check found.
type Report struct {
	// Violations are by kind, and within a kind by time; at most 100 a kind.
	Violations []Violation
	// Found counts all of them.
	Found map[Kind]int

	Events     int
	Sends      map[SendOutcome]int
	Deliveries map[Outcome]int
	Commits    int
	Rebalances int // generations that assigned something
	Letters    int // acknowledged dead letters
	Skips      int
	Missed     int // messages that were deleted before they were handled, as was told

	// Duplicates counts the messages that were handled again, where that is
	// explained, by what explains it.
	Duplicates map[Cause]int
}

const maxViolations = 100

// Err is nil if nothing was violated, or else says all of the report.
func (r *Report) Err() error {
	if len(r.Violations) == 0 {
		return nil
	}
	return errors.New(r.String())
}

// String is the counts, then the violations, each with its events.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d events; sends: %s; deliveries: %s; %d commits, %d rebalances, %d dead letters, %d skips; duplicates: %s\n",
		r.Events, counts(r.Sends, "pending"), counts(r.Deliveries, "running"), r.Commits, r.Rebalances, r.Letters, r.Skips,
		counts(r.Duplicates, ""))
	if len(r.Found) == 0 {
		b.WriteString("no violation\n")
		return b.String()
	}
	fmt.Fprintf(&b, "violations: %s\n", counts(r.Found, ""))
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "%s\n", v)
		for _, e := range v.Events {
			fmt.Fprintf(&b, "\t%s %s\n", e.When().Format("15:04:05.000000"), e)
		}
	}
	return b.String()
}

// Explain is String, and what led to the first violations.
func (r *Report) Explain(h *History) string {
	texts := []string{r.String()}
	for _, v := range r.Violations[:min(3, len(r.Violations))] {
		texts = append(texts, v.Tail(h, 40))
	}
	return strings.Join(texts, "\n")
}

func counts[K ~string](m map[K]int, unnamed string) string {
	if len(m) == 0 {
		return "none"
	}
	texts := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		texts = append(texts, fmt.Sprintf("%d %s", m[k], orElse(string(k), unnamed)))
	}
	return strings.Join(texts, ", ")
}

// add files a violation.
func (r *Report) add(v Violation) {
	r.Found[v.Kind]++
	if r.Found[v.Kind] <= maxViolations {
		r.Violations = append(r.Violations, v)
	}
}
