package history

// Kind is a kind of broken promise.
type Kind string

// The kinds of violations.
const (
	// LostWrite is an acknowledged message that the log has not.
	LostWrite Kind = "lost acknowledged write"
	// FailedWriteStored is a message that was said not to be sent, and is in
	// the log or was read.
	FailedWriteStored Kind = "failed write stored"
	// DoubledWrite is a message that an idempotent producer wrote twice.
	DoubledWrite Kind = "doubled write"
	// ReorderedWrite is messages of an idempotent producer that stand in
	// another order than they were sent in.
	ReorderedWrite Kind = "reordered write"

	// TwoValues is two messages at one offset, or one that changed.
	TwoValues Kind = "two values at one offset"
	// Phantom is a delivery of what the log has not.
	Phantom Kind = "phantom read"
	// UncommittedRead is a delivery of a record of a transaction that was
	// aborted or had not ended, or of a control record.
	UncommittedRead Kind = "aborted or uncommitted read"

	// SkippedOffset is a message that was passed over, or never handled.
	SkippedOffset Kind = "skipped offset"
	// Untold is a message that was deleted before it was handled, and that nobody
	// said had been missed.
	Untold Kind = "deleted unread, and not told"
	// StepBack is an earlier message again within one assignment.
	StepBack Kind = "step back within an assignment"
	// OutOfOrder is a message handled before an earlier one of its partition or
	// key was done.
	OutOfOrder Kind = "handled out of order"
	// Overlap is two messages of one partition or key that one member handled
	// at once.
	Overlap Kind = "handled at the same time"
	// TwoMembers is two members that handled one partition at once.
	TwoMembers Kind = "two members in one partition"

	// CommitBack is a committed offset that went back.
	CommitBack Kind = "committed offset went back"
	// CommitUnhandled is a committed offset past a message that was not done.
	CommitUnhandled Kind = "committed past an unhandled message"
	// DeadLetterUnacknowledged is a committed offset past a message whose dead
	// letter was not acknowledged.
	DeadLetterUnacknowledged Kind = "dead letter committed unacknowledged"

	// Duplicate is a message handled again though no fault explains it.
	Duplicate Kind = "unexplained duplicate"
	// DuplicateBound is a message handled again that a fault could have
	// explained, had it not been due to be committed long before.
	DuplicateBound Kind = "duplicate over the bound"

	// AfterStop is a message handled or sent after a stop had returned.
	AfterStop Kind = "after a stop returned"
	// StopOverBound is a stop that took longer than it may.
	StopOverBound Kind = "stop over its bound"
	// Leaked is what a stop left behind.
	Leaked Kind = "leak"
	// NoProgress is messages that nobody handled though all was well.
	NoProgress Kind = "no progress"
)

// Kinds returns all kinds of violations.
func Kinds() []Kind {
	return []Kind{
		LostWrite, FailedWriteStored, DoubledWrite, ReorderedWrite, TwoValues, Phantom, UncommittedRead,
		SkippedOffset, Untold, StepBack, OutOfOrder, Overlap, TwoMembers, CommitBack, CommitUnhandled, DeadLetterUnacknowledged,
		Duplicate, DuplicateBound, AfterStop, StopOverBound, Leaked, NoProgress,
	}
}

// site is one place that finds violations. The tests need each of them.
type site string

var kindOf = map[site]Kind{
	"send lost":            LostWrite,
	"send lost, no place":  LostWrite,
	"dead letter lost":     LostWrite,
	"send failed, stored":  FailedWriteStored,
	"send failed, read":    FailedWriteStored,
	"send doubled":         DoubledWrite,
	"send order, caller":   ReorderedWrite,
	"send order, time":     ReorderedWrite,
	"send, other place":    TwoValues,
	"send, other key":      TwoValues,
	"read, other value":    TwoValues,
	"read, other reader":   TwoValues,
	"read, not there":      Phantom,
	"read aborted":         UncommittedRead,
	"read open":            UncommittedRead,
	"read early":           UncommittedRead,
	"read control":         UncommittedRead,
	"skipped":              SkippedOffset,
	"deleted, untold":      Untold,
	"back":                 StepBack,
	"never handled":        SkippedOffset,
	"latest, late":         SkippedOffset,
	"order, partition":     OutOfOrder,
	"order, key":           OutOfOrder,
	"overlap":              Overlap,
	"members overlap":      TwoMembers,
	"member without claim": TwoMembers,
	"commit back":          CommitBack,
	"commit unhandled":     CommitUnhandled,
	"commit beyond":        CommitUnhandled,
	"commit dead letter":   DeadLetterUnacknowledged,
	"duplicate":            Duplicate,
	"duplicate committed":  Duplicate,
	"duplicate due":        DuplicateBound,
	"began after stop":     AfterStop,
	"ran after stop":       AfterStop,
	"sent after stop":      AfterStop,
	"stop late":            StopOverBound,
	"stop hangs":           StopOverBound,
	"leak":                 Leaked,
	"no progress":          NoProgress,
}
