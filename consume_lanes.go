package kafkax

import (
	"context"
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// lanes are what one partition's messages run on. In the order of the partition
// that is the goroutine that delivers them, and each waits for the one before.
// Else it is workers, and only messages of one key wait for each other.
//
// A worker that waits, for a retry or a dead letter, gives its handler slot back
// and is replaced meanwhile, so a key holds up nothing but itself.
type lanes struct {
	slots chan struct{} // one a handler that may run at once
	claim *claim
	// handle sees a message through; false if nothing may run behind it.
	handle func(w *worker) bool

	own     *worker // in the order of the partition; else nil
	byKey   bool
	seed    maphash.Seed
	workers sync.WaitGroup
	room    chan struct{} // poked when ready shrinks

	mu      sync.Mutex
	keys    map[uint64][]item // what waits for the message before it, by key; none for a key that is at work alone
	ready   []item            // what waits for a worker
	idle    []*worker
	working int // workers that are at a message and do not wait
	atWork  int // messages that workers have and that do not wait for their next try
	closed  bool
	started int64 // the highest offset a handler was called with
	barrier int64 // the lowest offset left unfinished; nothing behind it may start

	wake      chan struct{} // closed when those that wait for a try are to judge anew; nil if none does
	undecided bool          // one of them waits for what is at work
}

// maxReady is how many messages wait for a worker, so that one which is done
// finds the next without waiting for it.
const maxReady = 64

func newLanes(ordering Ordering, slots chan struct{}, claim *claim, handle func(*worker) bool) *lanes {
	ls := &lanes{
		slots:   slots,
		claim:   claim,
		handle:  handle,
		byKey:   ordering == OrderKey,
		started: -1,
		barrier: math.MaxInt64,
	}
	if ordering == OrderPartition || cap(slots) == 1 {
		ls.own = ls.newWorker()
		ls.atWork = 1
		return ls
	}
	ls.seed = maphash.MakeSeed()
	ls.keys = map[uint64][]item{}
	ls.room = make(chan struct{}, 1)
	return ls
}

// wait holds back a partition that runs too far ahead of its first unfinished
// message. In the order of the partition each is finished before the next.
func (ls *lanes) wait(p *partition) {
	if ls.own == nil {
		p.tracker.wait(ls.claim.stopping.Done())
	}
}

// pass hands a message over in order; false when nothing more may be.
func (ls *lanes) pass(it item) bool {
	if ls.own != nil {
		ls.own.item = it
		defer ls.own.letGo()
		return ls.own.slot.acquire(ls.claim.stopping) && ls.handle(ls.own)
	}
	if ls.byKey && it.Key != nil { // messages without a key have no order to keep
		it.ordered = true
		it.key = maphash.Bytes(ls.seed, it.Key)
		if ls.busy(it.key) {
			it.detach()
		}
	}
	for !ls.accept(it) {
		select {
		case <-ls.room:
		case <-ls.claim.stopping.Done():
			it.chunk.letGo(it.Message)
			return false
		}
	}
	return true
}

func (ls *lanes) busy(key uint64) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	_, busy := ls.keys[key]
	return busy
}

// accept takes a message unless too many wait for a worker.
func (ls *lanes) accept(it item) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if it.ordered {
		if waiting, busy := ls.keys[it.key]; busy {
			ls.keys[it.key] = append(waiting, it)
			return true
		}
	}
	if ls.working >= cap(ls.slots) && len(ls.ready) >= maxReady {
		return false
	}
	if it.ordered {
		ls.keys[it.key] = nil
	}
	ls.ready = append(ls.ready, it)
	ls.staff()
	return true
}

// staff has workers take what is ready, as many as may work. It needs mu.
func (ls *lanes) staff() {
	for ls.working < cap(ls.slots) && len(ls.ready) > 0 {
		it := ls.pop()
		ls.working++
		ls.atWork++
		if n := len(ls.idle); n > 0 {
			w := ls.idle[n-1]
			ls.idle = ls.idle[:n-1]
			w.next <- it
			continue
		}
		w := ls.newWorker()
		w.item = it
		ls.workers.Go(func() { ls.work(w) })
	}
}

// pop needs mu.
func (ls *lanes) pop() item {
	it := ls.ready[0]
	ls.ready[0] = item{}
	ls.ready = ls.ready[1:]
	select {
	case ls.room <- struct{}{}:
	default:
	}
	return it
}

func (ls *lanes) work(w *worker) {
	defer ls.claim.remove(&w.activity)
	over := false
	defer func() {
		if !over { // the handler has ended this goroutine
			ls.leave(w.item.Offset)
			w.letGo()
			w.pause()
			ls.mu.Lock()
			defer ls.mu.Unlock()
			ls.done()
		}
	}()
	for more := true; more; more = ls.next(w) {
		if ls.start(&w.slot, w.item.Offset) && !ls.handle(w) {
			ls.leave(w.item.Offset)
		}
		w.letGo()
	}
	over = true
}

// next finds the next message for a worker that is done with one. It is false
// when there is none and will be none.
func (ls *lanes) next(w *worker) bool {
	ls.mu.Lock()
	if w.paused {
		w.paused = false
		ls.working++
	}
	if w.item.ordered {
		ls.follow(w.item.key)
	}
	if ls.undecided && !ls.claim.overtaken(w.item.chunk, w.item.Offset) {
		ls.rouse() // what lies before it is overtaken now, if it was handled
	}
	if len(ls.ready) > 0 {
		w.item = ls.pop()
		ls.mu.Unlock()
		return true
	}
	w.item = item{}
	w.kept.shrink()
	ls.working--
	ls.done()
	w.slot.release() // before it is idle, for as long as that may be
	if ls.closed || len(ls.idle) >= cap(ls.slots) {
		ls.mu.Unlock()
		return false
	}
	ls.idle = append(ls.idle, w)
	ls.mu.Unlock()
	var more bool
	w.item, more = <-w.next
	return more
}

// follow gives the next message of a key its turn, after those of other keys. It
// needs mu.
func (ls *lanes) follow(key uint64) {
	waiting := ls.keys[key]
	if len(waiting) == 0 {
		delete(ls.keys, key)
		return
	}
	ls.ready = append(ls.ready, waiting[0])
	waiting[0] = item{}
	ls.keys[key] = waiting[1:]
}

// start waits for the right to run a handler. Once the assignment ends, only
// messages behind which others have started get it: without them, what is
// behind could not be committed and would be handled twice. Once handlers are told
// to end, none gets it: one before it may have taken so long to end that the
// partition is another member's.
func (ls *lanes) start(slot *handlerSlot, offset int64) bool {
	acquired := slot.acquire(ls.claim.stopping)
	ls.mu.Lock()
	allowed := offset < ls.barrier && ls.claim.ctx.Err() == nil && (ls.claim.stopping.Err() == nil || offset < ls.started)
	if allowed {
		ls.started = max(ls.started, offset)
	}
	ls.mu.Unlock()
	return allowed && (acquired || slot.acquire(ls.claim.ctx))
}

// leave lets nothing start behind a message that stays unfinished.
func (ls *lanes) leave(offset int64) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if offset < ls.barrier {
		ls.barrier = offset
		ls.rouse()
	}
}

// await waits for the next try of a worker's message, and fails if there is none.
// Nothing may run behind the message then.
func (ls *lanes) await(ctx context.Context, w *worker, d time.Duration) error {
	ls.mu.Lock()
	ls.done()
	ls.mu.Unlock()
	err := awaitTry(ctx, ls.claim, d, func() (fate, <-chan struct{}) { return ls.judge(w.item) })
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.atWork++
	if err == nil && w.item.Offset > ls.barrier {
		err = context.Canceled
	}
	return err
}

// judge decides about a message that waits for its next try when the assignment
// ends. What is at work need not lie behind it, but the end waits for that anyway.
func (ls *lanes) judge(it item) (fate, <-chan struct{}) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	f := fateLeft
	switch {
	case it.Offset > ls.barrier: // with what it leaves, this one comes again, and what is behind it
	case ls.claim.overtaken(it.chunk, it.Offset):
		f = fateTried
	case ls.atWork > 0 && ls.claim.commits.Load():
		f, ls.undecided = fateOpen, true
	}
	if f == fateLeft {
		ls.barrier = min(ls.barrier, it.Offset)
		return f, nil
	}
	if ls.wake == nil {
		ls.wake = make(chan struct{})
	}
	return f, ls.wake
}

// done is called when a message is not at work any more. It needs mu.
func (ls *lanes) done() {
	if ls.atWork--; ls.atWork == 0 && ls.undecided {
		ls.rouse()
	}
}

// rouse needs mu.
func (ls *lanes) rouse() {
	if ls.wake != nil {
		close(ls.wake)
		ls.wake, ls.undecided = nil, false
	}
}

// rest is called when there may be nothing to do for a while.
func (ls *lanes) rest() {
	if ls.own != nil {
		ls.own.slot.release()
	}
}

// close waits for what was delivered.
func (ls *lanes) close() {
	if ls.own != nil {
		ls.own.slot.release()
		ls.claim.remove(&ls.own.activity)
		return
	}
	ls.mu.Lock()
	ls.closed = true
	for _, w := range ls.idle {
		close(w.next)
	}
	ls.idle = nil
	ls.mu.Unlock()
	ls.workers.Wait()
}

// item is a message on its way through the loop.
type item struct {
	*kafka.Message
	chunk   *chunk
	key     uint64 // two keys of the same hash, which is as good as impossible, would wait for each other
	ordered bool   // by key
}

// detach copies a message that has to wait, so that it does not keep everything
// alive that was fetched with it.
func (it *item) detach() {
	m := cloneMessage(it.Message)
	it.Message = &m
}

// worker is a goroutine that sees messages through, one after the other.
type worker struct {
	lanes    *lanes
	slot     handlerSlot
	item     item
	activity activity
	kept     originals
	original kafka.Message // the message that is being handled, as it came
	begun    bool          // there is one
	paused   bool          // it waits, and another may work in its place
	next     chan item     // has what an idle worker is given
}

func (ls *lanes) newWorker() *worker {
	w := &worker{lanes: ls, slot: handlerSlot{slots: ls.slots}, next: make(chan item, 1)}
	ls.claim.add(&w.activity)
	return w
}

// pause gives the slot back while a message waits for something else than its
// handler.
func (w *worker) pause() {
	w.slot.release()
	if ls := w.lanes; !w.paused {
		w.paused = true
		ls.mu.Lock()
		defer ls.mu.Unlock()
		ls.working--
		ls.staff()
	}
}

// await is the nextTry of the message, which is paused.
func (w *worker) await(ctx context.Context, d time.Duration) error { return w.lanes.await(ctx, w, d) }

// resume takes a slot again; false if the message is not to be tried any more.
func (w *worker) resume() bool {
	ls := w.lanes
	if w.paused {
		w.paused = false
		ls.mu.Lock()
		ls.working++
		ls.mu.Unlock()
	}
	if w.slot.acquire(ls.claim.stopping) {
		return true
	}
	return w.await(ls.claim.ctx, 0) == nil && w.slot.acquire(ls.claim.ctx)
}

// begin keeps the message before its handler is called.
func (w *worker) begin() {
	w.kept.reset(*w.item.Message)
	w.original, w.begun = w.kept.keep(w.item.Message), true
	w.activity.begin(w.item.Message, w.slot.since)
}

// detach is called before a wait that may be long. What is kept of the message is
// then all there is of it.
func (w *worker) detach() {
	w.item.Message = &w.original
	w.activity.message.Store(&kafka.Message{Topic: w.original.Topic, Partition: w.original.Partition, Offset: w.original.Offset})
}

// letGo is called when the message is done with.
func (w *worker) letGo() {
	w.activity.end()
	m := w.item.Message
	if w.begun { // a handler may have changed its headers, and with them its size
		m, w.begun = &w.original, false
	}
	w.item.chunk.letGo(m)
}

// handlerSlot is a worker's right to run a handler. It is kept from one message
// to the next for a moment, as passing it on costs more than a short handler.
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
