package history

import (
	"iter"
	"time"
)

// Event is one thing that happened: a [Send], [Start], [Assign], [Revoke],
// [Delivery], [DeadLetter], [Skip], [Commit], [Seek], [Stop], [Fault] or [Leak].
type Event interface {
	// When is the time at which it happened or began.
	When() time.Time
	// String is the event in one line, without its time.
	String() string

	// until is when it ended; the zero time if it has not.
	until() time.Time
	about() subject
}

// TopicPartition is one log.
type TopicPartition struct {
	Topic     string
	Partition int

	// Incarnation tells the logs of a topic apart that was deleted and made
	// again: 0 is the first, and offsets of two have nothing to do with each
	// other.
	Incarnation int
}

// Span is the offsets First to Last of a partition, both included. A Last below
// First stands for First alone, so that one message needs no Last.
type Span struct {
	TopicPartition

	First, Last int64
}

// offsets is each of them.
func (s Span) offsets() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for offset := s.First; offset <= max(s.First, s.Last); offset++ {
			if !yield(offset) {
				return
			}
		}
	}
}

// SendOutcome is what a producer said about a message.
type SendOutcome string

// The outcomes of a send.
const (
	// Pending is of a send that has not returned, or whose completion was not
	// called.
	Pending SendOutcome = ""
	// Acknowledged is of a send that promised that the message is stored for
	// good. With acks one or none a success promises less: that is Unknown.
	Acknowledged SendOutcome = "acknowledged"
	// NotSent is of a send that promised that the message is not in the log and
	// never will be.
	NotSent SendOutcome = "not sent"
	// Unknown is of a send that said that the message may be stored or not.
	Unknown SendOutcome = "unknown"
)

// Send is one message given to a producer.
type Send struct {
	// Producer is the name that the test gave a producer. One that is made anew
	// is another: order is promised within one.
	Producer string
	// Caller names the part of the program that sent: the messages of one
	// producer and caller were given to it one after the other in the order of
	// their events, as by one goroutine, in one call or without waiting. Where
	// it is empty, only sends that returned before another began have an order.
	Caller string

	Topic string
	// ID is unlike that of every other send. The test puts it into the message
	// so that it can tell it again.
	ID string
	// Key is empty for a message without one.
	Key string

	// Placed says that the producer told Partition, Incarnation and Offset.
	Placed      bool
	Partition   int
	Incarnation int
	Offset      int64

	// Idempotent says that the producer promised to write the message at most
	// once and in order.
	Idempotent bool

	Began time.Time
	// Returned is when the outcome was known; zero while it is Pending.
	Returned time.Time
	Outcome  SendOutcome
}

// Start is the moment from which a member consumes: its loop began, or its
// first fetch. It goes on until its [Stop] or [Crash].
type Start struct {
	// Member is the name that the test gave one run of a consumer, from its
	// start to its stop. It is not the member id of the protocol, which changes
	// in between. A consumer that is started again is another member.
	Member string
	// Group is empty for a reader without a group.
	Group  string
	Topics []string
	Time   time.Time
}

// Assign says which partitions a member got. It must be recorded before the
// first delivery that follows from it. Partitions that the member had already
// are no news: their assignment goes on.
type Assign struct {
	Member     string
	Group      string
	Generation int
	Partitions []TopicPartition
	Time       time.Time
}

// Revoke says which partitions a member gave back or lost.
type Revoke struct {
	Member     string
	Group      string
	Generation int
	Partitions []TopicPartition
	Time       time.Time

	// Lost says that the group took them without waiting for the member: a
	// timeout of its session or of the rebalance.
	Lost bool
	// Again is what the member said will come again, though it was given to a
	// handler.
	Again []Span
}

// Outcome is how a call of a handler ended.
type Outcome string

// The outcomes of a delivery.
const (
	// Running is of a handler that has not returned.
	Running Outcome = ""
	// Handled is of one that returned without an error.
	Handled Outcome = "handled"
	// Failed is of one whose message is to be tried again, or was left.
	Failed Outcome = "failed"
	// Skipped is of a failure after which the failure policy gave the message
	// up.
	Skipped Outcome = "skipped"
	// DeadLettered is of a failure after which the message went to a dead
	// letter topic. The message is done only when a [DeadLetter] says that this
	// acknowledged it.
	DeadLettered Outcome = "dead-lettered"
	// Cancelled is of a handler that was told to end, by a stop or a rebalance,
	// and whose message comes again.
	Cancelled Outcome = "cancelled"
)

// Delivery is one call of a handler with one message, or one message that a
// fetch returned.
type Delivery struct {
	Member     string
	Group      string
	Generation int
	TopicPartition
	Offset int64

	// ID and Key are what the message says, see [Send].
	ID  string
	Key string
	// Attempt is 1 for the first call with the message in this assignment, and
	// counts on with each retry. 0 is as 1.
	Attempt int
	// Batch is the same number, not 0, for all messages of one call of a batch
	// handler of the member, and unlike that of its other calls. Messages of one
	// call have no order among themselves.
	Batch int

	Began time.Time
	// Ended is when the handler returned, taken before the loop could know it;
	// zero while it runs.
	Ended time.Time
	// ContextEnded is when the handler's context was done, if that was while it
	// ran. What a handler does beyond that is no longer the client's to prevent.
	ContextEnded time.Time
	Outcome      Outcome
}

// DeadLetter is a message, or a range that could not be read, which was written
// to a dead letter or retry topic, or was tried to.
type DeadLetter struct {
	Member string
	Group  string
	// Span is where it came from.
	Span
	// ID is that of the message, as the record in the topic To has it.
	ID string
	// To is the topic it was written to. If the history has logs of that topic,
	// an acknowledged dead letter must be in one.
	To string

	Acknowledged bool
	Time         time.Time // when the write returned
}

// Skip is messages that were given up: a range that could not be read, a
// message that a call named.
type Skip struct {
	Member string
	Group  string
	Span
	Time time.Time
}

// Commit is an offset as the broker stored it for a group.
type Commit struct {
	// Member and Generation are those of the request, if known.
	Member     string
	Generation int

	Group string
	TopicPartition
	// Offset is Kafka's: that of the next message to be read.
	Offset int64
	// Time must not be before the moment it was stored. Round up what a broker
	// tells in milliseconds.
	Time time.Time
}

// Seek is a position that was set other than by reading and committing: by a
// call, by the tools of the broker, or by a reset where the log no longer had
// the old one. The positions and the committed offset may go back to it or jump
// to it, once. A reset that goes forward excuses what was deleted between, and with
// Latest what stood there too.
type Seek struct {
	// Member is empty for one that was made from outside.
	Member string
	Group  string
	// TopicPartition has a Partition below 0 where it is of all partitions of the
	// topic that the member has, or is assigned next.
	TopicPartition
	// Offset is below 0 if it is not known.
	Offset int64
	// Reset says that the client did it by itself and reported it.
	Reset bool
	// From is the position that a Reset said that it had.
	From int64
	Time time.Time // when the call began
	// Returned is when the call returned; zero if that was at Time.
	Returned time.Time
}

// Stop is a call that ends a consumer or a producer for good. A loop that ended
// by itself is recorded as a Stop without a bound.
type Stop struct {
	// Member is that of [Start], or the Producer of [Send].
	Member string
	Group  string

	Began    time.Time
	Returned time.Time // zero while it has not
	// Bound is how long it may take; 0 is any time.
	Bound time.Duration
	// Again is what its error named as coming again: what was cut off, or was
	// handled but could not be committed.
	Again []Span
	Err   string
}

// FaultKind says what went wrong.
type FaultKind string

// The kinds of faults. Others are the test's to name: the checker treats them
// as all but the first two.
const (
	// Crash is the end of a process without a stop, at Began. Target is the
	// member or producer; nothing that the history has of it after that counts.
	Crash FaultKind = "crash"
	// Freeze is a process that got no processor time, so that it could not know
	// what it had lost meanwhile.
	Freeze FaultKind = "freeze"
	// Cut is connections that broke or were refused.
	Cut FaultKind = "cut"
	// Stall is connections that carried nothing, or too late.
	Stall FaultKind = "stall"
	// Down is a broker that was away.
	Down FaultKind = "down"
	// Refused is a broker that answered with errors.
	Refused FaultKind = "refused"
	// LostAnswer is a request that was carried out, and whose answer got lost.
	LostAnswer FaultKind = "lost answer"
	// Outage is something other than Kafka for which handlers fail or wait: no
	// progress is expected of them.
	Outage FaultKind = "outage"
)

// Fault is something that was done to the program or the cluster.
type Fault struct {
	Kind FaultKind
	// Target is the member or producer that it was done to. Anything else, such
	// as a broker's name or nothing, concerns everybody.
	Target string
	Text   string // more about it, for the reader

	Began time.Time
	Ended time.Time // zero while it goes on
}

// Leak is what was left of a client after its stop.
type Leak struct {
	Member string
	Text   string // what was left: goroutines with their stacks, connections
	Time   time.Time
}
