package kafkax

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
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
	epoch     int           // counts seeks; what was delivered before one no longer counts
	committed int64         // what the group has stored; -1 if unknown
	force     bool          // the next commit may go back: somebody asked for it
	room      chan struct{} // closed and replaced whenever pending shrinks
}

type trackedOffset struct {
	offset  int64
	handled bool
}

// maxPending bounds how far a partition runs ahead of its first unfinished
// message. It is reached only without partition order, behind a message that
// is retried for long.
const maxPending = 1 << 16

func newOffsetTracker(next, committed int64) *offsetTracker {
	return &offsetTracker{next: next, committed: committed, room: make(chan struct{})}
}

// delivered notes that a message is on its way to a handler. Offsets rise. It
// reports false if a seek has made the message stale.
func (t *offsetTracker) delivered(epoch int, offset int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch != t.epoch {
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
func (t *offsetTracker) passed(epoch int, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch == t.epoch && next > t.next {
		t.next = next
	}
}

// handled marks one delivered message.
func (t *offsetTracker) handled(epoch int, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch != t.epoch {
		return
	}
	if i, ok := t.find(offset); ok {
		t.pending[i].handled = true
		t.shrink()
	}
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
func (t *offsetTracker) due() (epoch int, offset int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	offset = t.positionLocked()
	return t.epoch, offset, offset >= 0 && (t.force || offset > t.committed)
}

// acknowledged notes what the group has stored. A commit that a seek overtook
// says nothing: the one that the seek forces comes after it.
func (t *offsetTracker) acknowledged(epoch int, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch == t.epoch {
		t.force = false
		t.committed = offset
	}
}

// seek forgets everything delivered and goes on at offset, which may be lower.
// It returns the new epoch.
func (t *offsetTracker) seek(offset int64) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	t.pending, t.head = nil, 0
	t.next = offset
	t.force = true
	close(t.room)
	t.room = make(chan struct{})
	return t.epoch
}

// origin is where fetching starts after a seek that the caller, at epoch, does
// not know yet. It may be one of Kafka's names for an end of the log.
func (t *offsetTracker) origin(epoch int) (int, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch == t.epoch {
		return epoch, 0
	}
	return t.epoch, t.next
}

// resolved replaces the name that origin returned by the offset it stands for.
func (t *offsetTracker) resolved(epoch int, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch == t.epoch && t.next < 0 {
		t.next = offset
	}
}

func (t *offsetTracker) currentEpoch() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch
}

// committer sends the offsets of one assignment: one request at a time, each
// with everything that became due while the one before was under way.
type committer struct {
	partitions []*partition
	interval   time.Duration                        // how long a due offset may wait; 0: not at all
	send       func(map[string]map[int]int64) error // bounded by itself
	failed     func(error)                          // told of each failure that nobody waits for
	kick       chan struct{}

	mu      sync.Mutex
	waiters []chan error
	closed  error // once set, nothing is sent and every waiter gets it
}

func newCommitter(partitions []*partition, interval time.Duration, send func(map[string]map[int]int64) error, failed func(error)) *committer {
	return &committer{
		partitions: partitions,
		interval:   interval,
		send:       send,
		failed:     failed,
		kick:       make(chan struct{}, 1),
	}
}

// run sends until stop is closed. Whoever runs it calls finish afterwards.
func (c *committer) run(stop <-chan struct{}) {
	var tick <-chan time.Time
	if c.interval > 0 {
		ticker := time.NewTicker(c.interval)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-stop:
			return
		case <-tick:
		case <-c.kick:
		}
		if err := c.round(); err != nil {
			c.failed(err)
			// The offsets stay due. The next tick or kick tries again, but
			// not faster than a coordinator that moves can answer.
			pause := time.NewTimer(commitRetryPause)
			select {
			case <-stop:
			case <-pause.C:
				c.request()
			}
			pause.Stop()
		}
	}
}

const commitRetryPause = 250 * time.Millisecond

// request asks for a commit soon and does not wait for it.
func (c *committer) request() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// commit asks for a commit and waits for its result.
func (c *committer) commit(ctx context.Context) error {
	result := make(chan error, 1)
	c.mu.Lock()
	if err := c.closed; err != nil {
		c.mu.Unlock()
		return err
	}
	c.waiters = append(c.waiters, result)
	c.mu.Unlock()
	c.request()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// round sends one request with all that is due and answers who waited for it.
func (c *committer) round() error {
	c.mu.Lock()
	waiters := c.waiters
	c.waiters = nil
	closed := c.closed
	c.mu.Unlock()

	err := closed
	if err == nil {
		err = c.sendDue()
	}
	for _, w := range waiters {
		w <- err
	}
	return err
}

func (c *committer) sendDue() error {
	type sent struct {
		p      *partition
		epoch  int
		offset int64
	}
	var all []sent
	offsets := map[string]map[int]int64{}
	for _, p := range c.partitions {
		epoch, offset, ok := p.tracker.due()
		if !ok {
			continue
		}
		if offsets[p.topic] == nil {
			offsets[p.topic] = map[int]int64{}
		}
		offsets[p.topic][p.id] = offset
		all = append(all, sent{p, epoch, offset})
	}
	if len(all) == 0 {
		return nil
	}
	if err := c.send(offsets); err != nil {
		return err
	}
	for _, s := range all {
		s.p.tracker.acknowledged(s.epoch, s.offset)
	}
	return nil
}

// finish sends what is still due, again and again until limit if the coordinator
// is busy or gone for a moment: this is the last chance. Then it refuses
// everything with reason.
func (c *committer) finish(limit context.Context, reason error) error {
	err := c.round()
	for IsRetryable(err) && sleep(limit, commitRetryPause) == nil {
		err = c.round()
	}
	c.close(reason)
	return err
}

// close refuses everything from now on, without sending.
func (c *committer) close(reason error) {
	c.mu.Lock()
	c.closed = reason
	waiters := c.waiters
	c.waiters = nil
	c.mu.Unlock()
	for _, w := range waiters {
		w <- reason
	}
}
