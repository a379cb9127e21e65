package kafkax

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// Batches are gathered by workers, as many as handlers may run at once. Each
// partition belongs to one worker, so its messages are never in two batches at
// the same time. A goroutine a partition offers them and writes its dead
// letters: while it does the latter it offers nothing, and the partition waits.

// offer lends a partition's chunk to a worker, who takes messages from it and
// says whether it is used up.
type offer struct {
	feed   *feed
	chunk  *chunk
	usedUp chan<- bool
}

// feed is one partition's side of a batch worker.
type feed struct {
	partition *partition
	offers    chan<- offer
	failed    chan []failure // messages that failed for good
	activity  activity
}

// taken is a message in a batch, as it came.
type taken struct {
	kafka.Message
	feed  *feed
	chunk *chunk
}

// failure is a message that no attempt is left for.
type failure struct {
	taken
	result result
}

// batcher is a batch worker. What it needs for a batch it uses for the next one
// too.
type batcher struct {
	offers   chan offer
	batch    []taken
	messages []kafka.Message // what the handler is given
	kept     originals
	activity activity
}

func (l *loop) workBatches(claim *claim) {
	var all sync.WaitGroup
	workers := make([]*batcher, min(l.cfg.Concurrency, len(claim.partitions)))
	for i := range workers {
		w := &batcher{offers: make(chan offer)}
		workers[i] = w
		claim.add(&w.activity)
		all.Go(func() {
			defer claim.remove(&w.activity)
			for more := true; more; {
				more = l.fill(claim, w) && l.runBatch(claim, w)
			}
		})
	}
	feeds := make([]*feed, len(claim.partitions))
	for i, p := range claim.partitions {
		f := &feed{partition: p, offers: workers[i%len(workers)].offers, failed: make(chan []failure)}
		feeds[i] = f
		claim.add(&f.activity)
		all.Go(func() { l.feed(claim, f) })
	}
	all.Wait()
	for _, f := range feeds { // not before: a worker may write the dead letters of one that has gone
		claim.remove(&f.activity)
	}
}

// feed offers a partition's messages in order.
func (l *loop) feed(claim *claim, f *feed) {
	usedUp := make(chan bool)
	for {
		var c *chunk
		select {
		case <-claim.stopping.Done():
			return
		case failed := <-f.failed:
			if !l.giveUpAll(claim, f, failed) {
				return
			}
			continue
		case c = <-f.partition.chunks:
		}
		for done := false; !done; {
			select {
			case <-claim.stopping.Done():
				return
			case failed := <-f.failed:
				if !l.giveUpAll(claim, f, failed) {
					return
				}
			case f.offers <- offer{f, c, usedUp}:
				done = <-usedUp
			}
		}
		c.release()
	}
}

// fill waits for a first message, then for more until the batch is full or
// batch_timeout has passed. It is false when a stop came first: what was gathered
// was not handled and comes again.
func (l *loop) fill(claim *claim, w *batcher) bool {
	w.forget()
	var timeout <-chan time.Time
	for len(w.batch) < l.cfg.BatchSize {
		select {
		case <-claim.stopping.Done():
			return false
		case <-timeout:
			return true
		case o := <-w.offers:
			for len(w.batch) < l.cfg.BatchSize {
				m := o.chunk.next(func() {})
				if m == nil {
					break
				}
				w.batch = append(w.batch, taken{*m, o.feed, o.chunk})
			}
			o.usedUp <- !o.chunk.more()
			if timeout == nil && len(w.batch) > 0 {
				timeout = time.After(l.cfg.BatchTimeout)
			}
		}
	}
	return true
}

// runBatch calls the handler until every message succeeded or has no attempt
// left. Only those that failed are tried again. It is false if a stop or a
// rebalance left some unfinished: nothing may run behind them.
func (l *loop) runBatch(claim *claim, w *batcher) bool {
	defer w.activity.end()
	began := time.Now()
	messages := w.begin()
	pending := w.batch
	var failed []failure
	var err error // what the handler returned
	interrupted := false
	wait := func(d time.Duration) error {
		return awaitTry(claim.ctx, claim, d, func() (fate, <-chan struct{}) {
			return fateOf(slices.ContainsFunc(pending, func(t taken) bool { return claim.overtaken(t.chunk, t.Offset) })), nil
		})
	}
	stopped := l.cfg.Retry.run(wait, func(attempt int, last bool) bool {
		if attempt > 1 {
			messages = make([]kafka.Message, len(pending)) // what failed may still run, with the slice that it had
			for i := range pending {
				messages[i] = cloneMessage(&pending[i].Message)
			}
		}
		w.activity.beginBatch(messages, began)
		err = l.call(claim.ctx, func(ctx context.Context) error { return l.batch(ctx, messages) })
		if err != nil {
			w.messages = nil
		}
		of := errorOfEach(err, messages, func(i int) *kafka.Message { return &pending[i].Message })
		again := pending[:0]
		for i, t := range pending {
			r := result{outcome: outcomeHandled, attempts: attempt}
			var permanent bool
			r.err, permanent = unmark(of(i))
			switch {
			case r.err == nil:
				t.feed.partition.tracker.handled(t.chunk.seeks, t.Offset)
			case l.interrupted(claim, r.err):
				interrupted = true
			case permanent || last:
				r.outcome = outcomeFailed
				t.Message = cloneMessage(&t.Message)
				failed = append(failed, failure{t, r})
			default:
				again = append(again, t)
			}
		}
		l.handled(claim)
		pending = again
		return len(pending) > 0 && !interrupted
	}, func(attempt int, wait time.Duration) {
		attrs := logAttrs{slog.String("topic", l.cfg.Topic)}.group(l.cfg.GroupID).attempt(attempt, l.cfg.Retry.MaxAttempts).next(wait).err(err)
		l.log.progress("messages of a batch failed, to be retried", append(attrs, slog.Int("messages", len(pending))))
	})
	w.activity.end() // the dead letters are their partitions' business
	l.passOn(claim, failed)
	return stopped == nil && !interrupted
}

// forget lets the last batch go.
func (w *batcher) forget() {
	clear(w.batch)
	clear(w.messages)
	w.batch, w.messages = w.batch[:0], w.messages[:0]
}

// begin makes what the handler is given, and keeps the messages as they came.
func (w *batcher) begin() []kafka.Message {
	for i := range w.batch {
		w.messages = append(w.messages, w.batch[i].Message)
	}
	w.kept.reset(w.messages...)
	for i := range w.batch {
		w.batch[i].Message = w.kept.keep(&w.messages[i])
	}
	return w.messages
}

// passOn hands messages that failed for good to their partitions. Once those have
// gone, it deals with them itself: of one partition beside the other, as each may
// take all the time that is left.
func (l *loop) passOn(claim *claim, failed []failure) {
	var alone sync.WaitGroup
	defer alone.Wait()
	for len(failed) > 0 {
		feed := failed[0].feed
		var own, others []failure
		for _, f := range failed {
			if f.feed == feed {
				own = append(own, f)
			} else {
				others = append(others, f)
			}
		}
		select {
		case feed.failed <- own:
		case <-claim.stopping.Done():
			alone.Go(func() { l.giveUpAll(claim, feed, own) })
		}
		failed = others
	}
}

// giveUpAll deals with failed messages of one partition, in order; false if the
// partition may not go on.
func (l *loop) giveUpAll(claim *claim, f *feed, failed []failure) bool {
	defer f.activity.end()
	slices.SortFunc(failed, func(a, b failure) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := range failed {
		msg := &failed[i].Message
		f.activity.begin(msg, time.Now())
		wait := func(ctx context.Context, d time.Duration) error {
			return awaitTry(ctx, claim, d, func() (fate, <-chan struct{}) {
				return fateOf(claim.overtaken(failed[i].chunk, msg.Offset)), nil
			})
		}
		if !l.conclude(claim, failed[i].chunk, msg, l.giveUp(claim, wait, msg, failed[i].result)) {
			return false
		}
	}
	return true
}
