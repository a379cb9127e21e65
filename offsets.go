package kafkax

import (
	"cmp"
	"slices"
	"sync"
)

// offsetTracker knows which offset of one partition may be committed: the
// first that was delivered and is not handled yet. Handlers may finish in any
// order; the offset moves over the handled prefix only.
//
// Offsets have holes (compaction, transaction markers), so it remembers what
// was delivered instead of counting.
type offsetTracker struct {
	mu        sync.Mutex
	pending   []trackedOffset // delivered, by rising offset; the live part is pending[head:]
	head      int
	next      int64         // what comes after everything delivered
	highest   int64         // of what was handled alone; -1 if nothing was
	seeks     int           // how many there were; what was delivered before one no longer counts
	committed int64         // what the group has stored; -1 if unknown
	force     bool          // the next commit may go back: somebody asked for it
	moved     bool          // somebody asked for this position, and the group has not stored it
	from      origin        // of the position
	room      chan struct{} // closed and replaced whenever pending shrinks
}

// origin is what shows of which log a position is. It is unknown of one that nothing
// was read at.
type origin struct {
	topic topicID // zero: unknown
	epoch int32   // of a leadership that is not older than the last record before it; -1: unknown
	asked bool    // a caller moved there: the log may never have been so long
}

var unknownOrigin = origin{epoch: -1}

// start is where a partition is to be read from.
type start struct {
	partition int
	offset    int64 // or one of Kafka's names for an end of the log
	from      origin
}

// due is what is to be committed.
type due struct {
	seeks  int // the tracker's
	offset int64
	from   origin
}

type trackedOffset struct {
	offset  int64
	handled bool
}

// maxPending bounds how far a partition runs ahead of its first unfinished
// message. It is reached only without partition order, behind a message that
// is retried for long.
const maxPending = 1 << 16

func newOffsetTracker(next, committed int64, from origin) *offsetTracker {
	return &offsetTracker{next: next, highest: -1, committed: committed, from: from, room: make(chan struct{})}
}

// reads notes that the log that is read has the position.
func (t *offsetTracker) reads(seeks int, from origin) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seeks == t.seeks {
		t.from = from
	}
}

func (t *offsetTracker) readFrom() origin {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.from
}

// delivered notes that a message is on its way to a handler. Offsets rise. It
// reports false if a seek has made the message stale.
func (t *offsetTracker) delivered(seeks int, offset int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seeks != t.seeks {
		return false
	}
	if t.head == len(t.pending) {
		t.pending, t.head = t.pending[:0], 0
	} else if t.head > len(t.pending)/2 && t.head > 1024 {
		t.pending = append(t.pending[:0], t.pending[t.head:]...)
		t.head = 0
	}
	t.pending = append(t.pending, trackedOffset{offset: offset})
	t.next = offset + 1
	return true
}

// passed notes that everything below next was either delivered or is nothing a
// handler sees: transaction markers, aborted records, compacted holes.
func (t *offsetTracker) passed(seeks int, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seeks == t.seeks && next > t.next {
		t.next = next
	}
}

// handled marks one delivered message.
func (t *offsetTracker) handled(seeks int, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seeks != t.seeks {
		return
	}
	if i, ok := t.find(offset); ok {
		t.pending[i].handled = true
		t.highest = max(t.highest, offset)
		t.shrink()
	}
}

// handledBehind says whether a message behind offset was handled; false of one that
// a seek has made stale.
func (t *offsetTracker) handledBehind(seeks int, offset int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return seeks == t.seeks && t.highest > offset
}

// handledAhead counts the messages that are handled and cannot be committed, as
// first is not handled.
func (t *offsetTracker) handledAhead() (first int64, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pending[t.head:] {
		if p.handled {
			n++
		}
	}
	return t.positionLocked(), n
}

// handledThrough marks a message and every one delivered before it, which is
// what committing a single message means in Kafka. It is false if the message
// was not delivered since the partition was assigned or sought.
func (t *offsetTracker) handledThrough(offset int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if offset >= t.next {
		return false
	}
	for i := t.head; i < len(t.pending) && t.pending[i].offset <= offset; i++ {
		t.pending[i].handled = true
	}
	t.shrink()
	return true
}

// committedPast says whether the group has stored that offset is handled.
func (t *offsetTracker) committedPast(offset int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.committed > offset
}

func (t *offsetTracker) find(offset int64) (int, bool) {
	i, ok := slices.BinarySearchFunc(t.pending[t.head:], offset, func(p trackedOffset, offset int64) int {
		return cmp.Compare(p.offset, offset)
	})
	return t.head + i, ok
}

func (t *offsetTracker) shrink() {
	before := t.head
	for t.head < len(t.pending) && t.pending[t.head].handled {
		t.head++
	}
	if t.head > before && len(t.pending)-before >= maxPending {
		close(t.room)
		t.room = make(chan struct{})
	}
}

// wait blocks while the partition is maxPending ahead of its first unfinished
// message.
func (t *offsetTracker) wait(stop <-chan struct{}) {
	for {
		t.mu.Lock()
		full, room := len(t.pending)-t.head >= maxPending, t.room
		t.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-room:
		case <-stop:
			return
		}
	}
}

// position is the offset that may be committed.
func (t *offsetTracker) position() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.positionLocked()
}

func (t *offsetTracker) positionLocked() int64 {
	if t.head < len(t.pending) {
		return t.pending[t.head].offset
	}
	return t.next
}

// inFlight counts the messages delivered and not handled.
func (t *offsetTracker) inFlight() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, p := range t.pending[t.head:] {
		if !p.handled {
			n++
		}
	}
	return n
}

// due returns the offset to commit, if the group does not have it yet.
func (t *offsetTracker) due() (d due, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	offset := t.positionLocked()
	return due{t.seeks, offset, t.from}, offset >= 0 && (t.force || offset > t.committed)
}

// acknowledged notes what the group has stored. A commit that a seek overtook
// says nothing: the one that the seek forces comes after it.
func (t *offsetTracker) acknowledged(seeks int, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seeks == t.seeks {
		t.force, t.moved = false, false
		t.committed = offset
	}
}

// seek forgets everything delivered and goes on at offset, which may be lower.
// It returns how many seeks there were.
func (t *offsetTracker) seek(offset int64, from origin) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seekLocked(offset, from)
	return t.seeks
}

func (t *offsetTracker) seekLocked(offset int64, from origin) {
	t.seeks++
	t.from = from
	t.pending, t.head = nil, 0
	t.next, t.highest = offset, -1
	t.force = true
	close(t.room)
	t.room = make(chan struct{})
}

// move is a seek that somebody asked for. It is to hold whatever becomes of the
// assignment; but it was asked for of the topic as it is now, and not of one that is
// made again.
func (t *offsetTracker) move(offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seekLocked(offset, origin{topic: t.from.topic, epoch: -1, asked: true})
	t.moved = true
}

// unstored is the position of a move that the group has not stored. It may be one
// of Kafka's names for an end of the log.
func (t *offsetTracker) unstored() (offset int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.positionLocked(), t.moved
}

// start is where fetching starts after a seek that the caller, who knows seeks of them, does
// not know yet. It may be one of Kafka's names for an end of the log.
func (t *offsetTracker) start(seeks int) (int, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seeks == t.seeks {
		return seeks, 0
	}
	return t.seeks, t.next
}

// resolved replaces the name that start returned by the offset it stands for.
func (t *offsetTracker) resolved(seeks int, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seeks == t.seeks && t.next < 0 {
		t.next = offset
	}
}

func (t *offsetTracker) seekCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seeks
}
