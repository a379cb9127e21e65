package kafkax

import (
	"context"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

func (l *loop) workMessages(claim *claim) {
	var partitions sync.WaitGroup
	for _, p := range claim.partitions {
		partitions.Go(func() { l.workPartition(claim, p) })
	}
	partitions.Wait()
}

// workPartition delivers a partition's messages in order to its lanes.
func (l *loop) workPartition(claim *claim, p *partition) {
	ls := newLanes(l.cfg.Ordering, l.slots, claim, func(w *worker) bool { return l.handle(claim, w) })
	defer ls.close()
	for {
		var c *chunk
		select {
		case <-claim.stopping.Done():
			return
		case c = <-p.chunks:
		}
		if len(c.messages) == 0 {
			c.release()
		}
		skipped := func() { c.letGo(&c.messages[c.index-1]) }
		for {
			ls.wait(p)
			if claim.stopping.Err() != nil {
				return
			}
			m := c.next(skipped)
			if m == nil {
				break
			}
			if !ls.pass(item{Message: m, chunk: c}) {
				return
			}
		}
		c.messages = nil // those that wait keep the chunk, and need no others
		ls.rest()
	}
}

// handle sees one message through. It is false if nothing may run behind it.
func (l *loop) handle(claim *claim, w *worker) bool {
	w.begin()
	r := l.attempt(claim, w)
	if r.outcome == outcomeFailed {
		w.pause() // a dead letter topic that is down, or OnError, must not keep others from their handlers
		w.detach()
		r = l.giveUp(claim, w.await, &w.original, r)
	}
	return l.conclude(claim, w.item.chunk, &w.original, r)
}

// attempt calls the handler until it succeeds or no attempt is left. The first
// has the message as it was fetched, the others copies of what that was.
func (l *loop) attempt(claim *claim, w *worker) (r result) {
	msg := *w.item.Message
	stopped := l.cfg.Retry.run(func(d time.Duration) error { return w.await(claim.ctx, d) }, func(attempt int, last bool) bool {
		r = result{outcome: outcomeInterrupted, attempts: attempt}
		if attempt > 1 {
			if !w.resume() {
				return false
			}
			msg = cloneMessage(&w.original)
		}
		err := l.call(claim.ctx, func(ctx context.Context) error { return l.handler(ctx, msg) })
		if err == nil {
			r.outcome = outcomeHandled
			return false
		}
		if l.interrupted(claim, err) {
			return false
		}
		var permanent bool
		r.outcome = outcomeFailed
		r.err, permanent = unmark(err)
		if permanent || last {
			return false
		}
		msg = kafka.Message{}
		w.pause()
		w.detach()
		return true
	}, func(attempt int, wait time.Duration) {
		l.log.progress("a handler failed, to be retried", l.attrs(&w.original).attempt(attempt, l.cfg.Retry.MaxAttempts).next(wait).err(r.err))
	})
	if stopped != nil {
		return result{outcome: outcomeInterrupted}
	}
	return r
}
