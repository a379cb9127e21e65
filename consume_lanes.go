package kafkax

import (
	"context"
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// lanes are what one partition's messages run on: one lane keeps the order of
// the partition, several that of each key or none.
type lanes struct {
	loop *loop
	a    *assignment
	own  handlerSlot // of the single lane

	queues  []chan item // none with a single lane
	seed    maphash.Seed
	turn    int
	workers sync.WaitGroup

	mu      sync.Mutex
	started int64 // the highest offset a handler was called with
	barrier int64 // the lowest offset left unfinished; nothing behind it may start
}

func (l *loop) openLanes(a *assignment) *lanes {
	ls := &lanes{loop: l, a: a, own: handlerSlot{slots: l.slots}, started: -1, barrier: math.MaxInt64}
	if l.cfg.Ordering == OrderPartition || l.cfg.Concurrency == 1 {
		return ls
	}
	ls.seed = maphash.MakeSeed()
	ls.queues = make([]chan item, l.cfg.Concurrency)
	for i := range ls.queues {
		if i == 0 || l.cfg.Ordering == OrderKey {
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
		p.tracker.wait(ls.a.stopping.Done())
	}
}

// deliver hands a message over in order; false when nothing more may be.
func (ls *lanes) deliver(it item) bool {
	if ls.queues == nil {
		defer it.done()
		return ls.own.acquire(ls.a.stopping) && ls.loop.handle(ls.a, &ls.own, it)
	}
	ls.turn++ // spreads messages without a key, which have no order to keep
	lane := uint64(ls.turn)
	if it.Key != nil {
		lane = maphash.Bytes(ls.seed, it.Key)
	}
	select {
	case ls.queues[lane%uint64(len(ls.queues))] <- it:
		return true
	case <-ls.a.stopping.Done():
		return false
	}
}

func (ls *lanes) run(queue <-chan item) {
	slot := handlerSlot{slots: ls.loop.slots}
	defer slot.release()
	for it := range queue {
		if ls.start(&slot, it.Offset) && !ls.loop.handle(ls.a, &slot, it) {
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
	acquired := slot.acquire(ls.a.stopping)
	ls.mu.Lock()
	allowed := offset < ls.barrier && (ls.a.stopping.Err() == nil || offset < ls.started)
	if allowed {
		ls.started = max(ls.started, offset)
	}
	ls.mu.Unlock()
	return allowed && (acquired || slot.acquire(ls.a.ctx))
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
		if i == 0 || ls.loop.cfg.Ordering == OrderKey {
			close(q)
		}
	}
	ls.workers.Wait()
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
