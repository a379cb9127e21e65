package kafkax

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
}

// taken is a message in a batch.
type taken struct {
	kafka.Message
	feed  *feed
	seeks int
}

// failure is a message that no attempt is left for.
type failure struct {
	taken
	attempts int
	err      error
}

func (l *loop) workBatches(claim *claim) {
	var all sync.WaitGroup
	workers := make([]chan offer, min(l.cfg.Concurrency, len(claim.partitions)))
	for i := range workers {
		workers[i] = make(chan offer)
		all.Go(func() { l.gather(claim, workers[i]) })
	}
	for i, p := range claim.partitions {
		f := &feed{partition: p, offers: workers[i%len(workers)], failed: make(chan []failure)}
		all.Go(func() { l.feed(claim, f) })
	}
	all.Wait()
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
			if !l.giveUpAll(claim, failed) {
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
				if !l.giveUpAll(claim, failed) {
					return
				}
			case f.offers <- offer{f, c, usedUp}:
				done = <-usedUp
			}
		}
		c.release()
	}
}

// gather fills batches and runs them, one after the other.
func (l *loop) gather(claim *claim, offers <-chan offer) {
	for {
		batch := l.fill(claim, offers)
		if batch == nil || !l.runBatch(claim, batch) {
			return
		}
	}
}

// fill waits for a first message, then for more until the batch is full or
// batch_timeout has passed. It is nil when a stop came first: what was gathered
// was not handled and comes again.
func (l *loop) fill(claim *claim, offers <-chan offer) []taken {
	var (
		batch   []taken
		timeout <-chan time.Time
	)
	for len(batch) < l.cfg.BatchSize {
		select {
		case <-claim.stopping.Done():
			return nil
		case <-timeout:
			return batch
		case o := <-offers:
			for len(batch) < l.cfg.BatchSize {
				m := o.chunk.next(func() {})
				if m == nil {
					break
				}
				batch = append(batch, taken{*m, o.feed, o.chunk.seeks})
			}
			o.usedUp <- !o.chunk.more()
			if timeout == nil && len(batch) > 0 {
				timeout = time.After(l.cfg.BatchTimeout)
			}
		}
	}
	return batch
}

// runBatch calls the handler until every message succeeded or has no attempt
// left. Only those that failed are tried again. It is false if a stop or a
// rebalance left some unfinished: nothing may run behind them.
func (l *loop) runBatch(claim *claim, batch []taken) bool {
	var failed []failure
	interrupted := false
	for attempt := 1; len(batch) > 0; attempt++ {
		messages := make([]kafka.Message, len(batch))
		for i, t := range batch {
			messages[i] = t.Message
		}
		err := l.call(claim.ctx, func(ctx context.Context) error { return l.batch(ctx, messages) })
		var again []taken
		for i, t := range batch {
			err, permanent := unmark(messageError(err, i, len(batch)))
			switch {
			case err == nil:
				t.feed.partition.tracker.handled(t.seeks, t.Offset)
			case l.interrupted(claim, err):
				interrupted = true
			case permanent || attempt >= l.cfg.Retry.MaxAttempts:
				failed = append(failed, failure{t, attempt, err})
			default:
				again = append(again, t)
			}
		}
		l.handled(claim)
		batch = again
		if len(batch) > 0 {
			l.log.progress("messages of a batch failed, to be retried", append(logAttrs{slog.String("topic", l.cfg.Topic)}.group(l.cfg.GroupID).attempt(attempt, l.cfg.Retry.MaxAttempts).err(err), slog.Int("messages", len(batch))))
			if interrupted || l.cfg.Retry.wait(claim.stopping, attempt) != nil {
				interrupted = true
				break
			}
		}
	}
	l.failed(claim, failed)
	return !interrupted
}

// messageError is what a batch's error says of message i. A BatchError that
// names no message, or one that is not there, says it of all.
func messageError(err error, i, n int) error {
	var be *BatchError
	if !errors.As(err, &be) || be == nil || len(be.Failed) == 0 {
		return err
	}
	for j := range be.Failed {
		if j < 0 || j >= n {
			return err
		}
	}
	e, ok := be.Failed[i]
	switch {
	case !ok:
		return nil
	case e == nil:
		return err
	}
	// What was put around the BatchError holds for each message it names.
	if errors.Is(err, ErrHandlerTimeout) && !errors.Is(e, ErrHandlerTimeout) {
		e = fmt.Errorf("%w: %w", ErrHandlerTimeout, e)
	}
	if permanentOutside(err) {
		e = Permanent(e)
	}
	return e
}

// permanentOutside says whether err is marked Permanent as a whole, not only
// inside of its BatchError.
func permanentOutside(err error) bool {
	switch e := err.(type) { //nolint:errorlint // this walks the tree itself
	case *BatchError:
		return false
	case *permanentError:
		return true
	case interface{ Unwrap() error }:
		return permanentOutside(e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), permanentOutside)
	}
	return false
}

// failed hands messages that failed for good to their partitions.
func (l *loop) failed(claim *claim, failed []failure) {
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
			l.giveUpAll(claim, own)
		}
		failed = others
	}
}

// giveUpAll deals with failed messages of one partition, in order; false if the
// partition may not go on.
func (l *loop) giveUpAll(claim *claim, failed []failure) bool {
	slices.SortFunc(failed, func(a, b failure) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, f := range failed {
		if !l.giveUp(claim, f.Message, f.err, f.attempts) {
			return false
		}
		f.feed.partition.tracker.handled(f.seeks, f.Offset)
	}
	l.handled(claim)
	return true
}
