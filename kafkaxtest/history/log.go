package history

import "time"

// Transaction is what became of the transaction that a record was written in.
type Transaction string

// The outcomes of transactions.
const (
	// Committed is also of a record outside of any transaction.
	Committed Transaction = ""
	// Aborted is of a record that no reader with read_committed may see.
	Aborted Transaction = "aborted"
	// Open is of a record whose transaction had not ended when the log was
	// read: a reader with read_committed stands before it.
	Open Transaction = "open"
)

// Record is one record of a partition's log.
type Record struct {
	Offset int64
	// ID and Key are what the message says, see [Send].
	ID  string
	Key string

	Transaction Transaction
	// Control says that it is a marker of the broker's, which no reader may be
	// given.
	Control bool
	// Available is when readers could have it, if known: it was written, and
	// its transaction had ended. Without it the sends tell.
	Available time.Time
	// Gone is when it was deleted, by a call or by retention: not after anybody
	// could miss it. Zero if it stands, or went by compaction.
	Gone time.Time
}

// Log is what the broker had of a partition at the end.
type Log struct {
	TopicPartition

	// Records rise in their offsets. Those that were seen before they were
	// deleted or compacted belong to them: then more can be said.
	Records []Record
	// Start is the log start offset: what is below was deleted, which is legal.
	Start int64
	// End is the offset that the next record would have; 0 if it is not known.
	End int64
	// Missing is further offsets that have no record for a good reason: taken by
	// compaction or by records deleted one by one, or markers that the test
	// cannot see. First and Last are included.
	Missing []Range
	// Cut is offsets that were taken off the end of the log, by an election of a
	// replica that did not have them, and may have been given to other records
	// since.
	Cut []Range
	// Deleted is when the topic was deleted, and this incarnation with it. Its
	// messages may be gone. Zero if it stands.
	Deleted time.Time
}

// Range is the offsets First to Last, both included.
type Range struct{ First, Last int64 }
