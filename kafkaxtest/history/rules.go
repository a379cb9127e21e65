package history

import "time"

// Ordering is which messages of a partition are handled one after the other.
type Ordering string

// The orderings, as the options of a loop spell them.
const (
	OrderPartition Ordering = "partition"
	OrderKey       Ordering = "key"
	Unordered      Ordering = "none"
)

// Isolation is which records a reader may see.
type Isolation string

// The isolation levels.
const (
	ReadUncommitted Isolation = "read_uncommitted"
	ReadCommitted   Isolation = "read_committed"
)

// StartOffset is where a group begins in a partition that it has no offset for.
type StartOffset string

// The start offsets.
const (
	Earliest StartOffset = "earliest"
	Latest   StartOffset = "latest"
)

// FailurePolicy is what becomes of a message whose attempts are used up.
type FailurePolicy string

// The failure policies.
const (
	FailSkip FailurePolicy = "skip"
	FailStop FailurePolicy = "stop"
)

// Rules are what the program under test promised, and how patient the check is.
// The zero value is a usable start.
type Rules struct {
	// GroupRules are of each group that Groups does not name. A reader without
	// a group goes by the group "".
	GroupRules

	Groups map[string]GroupRules

	// Grace is how long after the end of a fault its consequences may still
	// show: at least the session timeout.
	Grace time.Duration
	// StopSlack is what a stop may take beyond its bound.
	StopSlack time.Duration
	// Progress is how long messages may wait that nobody handles, while their
	// group has a member and no fault is active: 30 s if it is 0, for ever if
	// it is below. Retries that wait longer are an [Outage].
	Progress time.Duration

	off site // a check that is switched off, to show that a test needs it
}

// GroupRules are the promises to one group.
type GroupRules struct {
	Ordering  Ordering    // OrderPartition if empty
	Isolation Isolation   // ReadUncommitted if empty
	Start     StartOffset // Earliest if empty
	// Reset is where the group goes on where the log no longer has its position.
	Reset     StartOffset   // Earliest if empty
	OnFailure FailurePolicy // with FailStop, neither the outcome Skipped nor a Skip lets a commit pass

	// CommitWithin is how long after a message and all before it are handled
	// the broker must have the commit, when all is well: 10 s if it is 0, for
	// ever if it is below. It bounds duplicates: a fault explains the second
	// delivery only of what was not yet due when the fault began.
	CommitWithin time.Duration
	// Pulled says that the program fetches messages and handles them by itself,
	// so that no stop knows of what it handles, and none waits for it: what began
	// within StopSlack of the stop may have been given to it before.
	Pulled bool

	// Members are the promises of members whose are others: they are judged by
	// their own. What is asked of the group as a whole is the least that one of
	// its members promises.
	Members map[string]MemberRules
	// Complete says that the test waited until the group had handled all there
	// was. Then each message of the logs must have been.
	Complete bool
}

const (
	defaultProgress     = 30 * time.Second
	defaultCommitWithin = 10 * time.Second
)

func (r Rules) group(name string) GroupRules {
	g, ok := r.Groups[name]
	if !ok {
		g = r.GroupRules
	}
	if g.Ordering == "" {
		g.Ordering = OrderPartition
	}
	if g.CommitWithin == 0 {
		g.CommitWithin = defaultCommitWithin
	}
	return g
}

func (r Rules) progress() time.Duration {
	if r.Progress == 0 {
		return defaultProgress
	}
	return r.Progress
}

// MemberRules are what may be unlike in the members of a group: see [GroupRules].
type MemberRules struct {
	Ordering  Ordering
	Isolation Isolation
	OnFailure FailurePolicy
	Pulled    bool
}

// of is the rules as they are of one member.
func (r GroupRules) of(member string) GroupRules {
	if m, ok := r.Members[member]; ok {
		r.Ordering, r.Isolation, r.OnFailure, r.Pulled = m.Ordering, m.Isolation, m.OnFailure, m.Pulled
		if r.Ordering == "" {
			r.Ordering = OrderPartition
		}
	}
	return r
}

// isolation is of the records that all members are given.
func (r GroupRules) isolation() Isolation {
	for _, m := range r.Members {
		if m.Isolation == ReadCommitted {
			return ReadCommitted
		}
	}
	return r.Isolation
}
