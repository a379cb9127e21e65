package kafkax

import (
	"context"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// lanes are what one partition's messages run on: one lane keeps the order of
// the partition, several that of each key or none.
type lanes struct {
	ordering Ordering
	slots    chan struct{} // one a handler that may run at once
	stopping context.Context
	ctx      context.Context // of the handlers
	// handle sees a message through; false if nothing may run behind it.
	handle func(slot *handlerSlot, it item) bool

	own     handlerSlot // of the single lane
	queues  []chan item // none with a single lane
	seed    maphash.Seed
	turn    int
	workers sync.WaitGroup

	mu      sync.Mutex
	started int64 // the highest offset a handler was called with
	barrier int64 // the lowest offset left unfinished; nothing behind it may start
}

// newLanes makes one lane for partition order, else as many as there are slots.
func newLanes(ordering Ordering, slots chan struct{}, claim *claim, handle func(*handlerSlot, item) bool) *lanes {
	ls := &lanes{
		ordering: ordering,
		slots:    slots,
		stopping: claim.stopping,
		ctx:      claim.ctx,
		handle:   handle,
		own:      handlerSlot{slots: slots},
		started:  -1,
		barrier:  math.MaxInt64,
	}
	if ordering == OrderPartition || cap(slots) == 1 {
		return ls
	}
	ls.seed = maphash.MakeSeed()
	ls.queues = make([]chan item, cap(slots))
	for i := range ls.queues {
		if i == 0 || ordering == OrderKey {
			ls.queues[i] = make(chan item, 8) // a slow lane does not stop the others at once
		} else {
			ls.queues[i] = ls.queues[0] // without order any lane takes the next message
		}
		ls.workers.Go(func() { ls.run(ls.queues[i]) })
	}
	return ls
}

// wait holds back a partition that runs too far ahead of its first unfinished
// message. A single lane finishes each before the next.
func (ls *lanes) wait(p *partition) {
	if ls.queues != nil {
		p.tracker.wait(ls.stopping.Done())
	}
}

// deliver hands a message over in order; false when nothing more may be.
func (ls *lanes) deliver(it item) bool {
	if ls.queues == nil {
		defer it.done()
		return ls.own.acquire(ls.stopping) && ls.handle(&ls.own, it)
	}
	ls.turn++ // spreads messages without a key, which have no order to keep
	lane := uint64(ls.turn)
	if it.Key != nil {
		lane = maphash.Bytes(ls.seed, it.Key)
	}
	select {
	case ls.queues[lane%uint64(len(ls.queues))] <- it:
		return true
	case <-ls.stopping.Done():
		return false
	}
}

func (ls *lanes) run(queue <-chan item) {
	slot := handlerSlot{slots: ls.slots}
	defer slot.release()
	for it := range queue {
		if ls.start(&slot, it.Offset) && !ls.handle(&slot, it) {
			ls.leave(it.Offset)
		}
		it.done()
		if len(queue) == 0 {
			slot.release()
		}
	}
}

// start waits for the right to run a handler. Once the assignment ends, only
// messages behind which others have started get it: without them, what is
// behind could not be committed and would be handled twice.
func (ls *lanes) start(slot *handlerSlot, offset int64) bool {
	acquired := slot.acquire(ls.stopping)
	ls.mu.Lock()
	allowed := offset < ls.barrier && (ls.stopping.Err() == nil || offset < ls.started)
	if allowed {
		ls.started = max(ls.started, offset)
	}
	ls.mu.Unlock()
	return allowed && (acquired || slot.acquire(ls.ctx))
}

// leave lets nothing start behind a message that stays unfinished.
func (ls *lanes) leave(offset int64) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.barrier = min(ls.barrier, offset)
}

// idle is called when there may be nothing to do for a while.
func (ls *lanes) idle() { ls.own.release() }

// close waits for what was delivered.
func (ls *lanes) close() {
	ls.own.release()
	for i, q := range ls.queues {
		if i == 0 || ls.ordering == OrderKey {
			close(q)
		}
	}
	ls.workers.Wait()
}

// item is a message on its way through the loop.
type item struct {
	*kafka.Message
	chunk *chunk
	left  *atomic.Int64 // messages of the chunk that are not done with
}

// done gives the chunk's bytes back with its last message.
func (i item) done() {
	if i.left.Add(-1) == 0 {
		i.chunk.release()
	}
}

// handlerSlot is a lane's right to run a handler. A lane keeps it from one
// message to the next for a moment, as passing it on costs more than a short
// handler.
type handlerSlot struct {
	slots chan struct{}
	since time.Time // zero: not held
}

const slotTime = 2 * time.Millisecond

func (s *handlerSlot) acquire(ctx context.Context) bool {
	if !s.since.IsZero() {
		if time.Since(s.since) < slotTime {
			return true
		}
		s.release()
	}
	select {
	case s.slots <- struct{}{}:
		s.since = time.Now()
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *handlerSlot) release() {
	if !s.since.IsZero() {
		s.since = time.Time{}
		<-s.slots
	}
}
