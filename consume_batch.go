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

// offer is the next messages of a partition. The worker takes some and says how
// many.
type offer struct {
	feed     *feed
	chunk    *chunk
	messages []kafka.Message
	taken    chan<- int
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
	epoch int
}

// failure is a message that no attempt is left for.
type failure struct {
	taken
	attempts int
	err      error
}

func (l *loop) workBatches(a *assignment) {
	var all sync.WaitGroup
	workers := make([]chan offer, min(l.cfg.Concurrency, len(a.partitions)))
	for i := range workers {
		workers[i] = make(chan offer)
		all.Go(func() { l.gather(a, workers[i]) })
	}
	for i, p := range a.partitions {
		f := &feed{partition: p, offers: workers[i%len(workers)], failed: make(chan []failure)}
		all.Go(func() { l.feed(a, f) })
	}
	all.Wait()
}

// feed offers a partition's messages in order.
func (l *loop) feed(a *assignment, f *feed) {
	taken := make(chan int)
	for {
		var c *chunk
		select {
		case <-a.stopping.Done():
			return
		case failed := <-f.failed:
			if !l.settle(a, failed) {
				return
			}
			continue
		case c = <-f.partition.chunks:
		}
		for rest := c.messages; len(rest) > 0; {
			select {
			case <-a.stopping.Done():
				return
			case failed := <-f.failed:
				if !l.settle(a, failed) {
					return
				}
			case f.offers <- offer{f, c, rest, taken}:
				rest = rest[<-taken:]
			}
		}
		c.finished()
		c.release()
	}
}

// gather fills batches and runs them, one after the other.
func (l *loop) gather(a *assignment, offers <-chan offer) {
	for {
		batch := l.fill(a, offers)
		if batch == nil || !l.runBatch(a, batch) {
			return
		}
	}
}

// fill waits for a first message, then for more until the batch is full or
// batch_timeout has passed. It is nil when a stop came first: what was gathered
// was not handled and comes again.
func (l *loop) fill(a *assignment, offers <-chan offer) []taken {
	var (
		batch   []taken
		timeout <-chan time.Time
	)
	for len(batch) < l.cfg.BatchSize {
		select {
		case <-a.stopping.Done():
			return nil
		case <-timeout:
			return batch
		case o := <-offers:
			n := min(len(o.messages), l.cfg.BatchSize-len(batch))
			for i := range o.messages[:n] {
				if m := &o.messages[i]; o.chunk.deliver(m) {
					batch = append(batch, taken{*m, o.feed, o.chunk.epoch})
				}
			}
			o.taken <- n
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
func (l *loop) runBatch(a *assignment, batch []taken) bool {
	var failed []failure
	interrupted := false
	for attempt := 1; len(batch) > 0; attempt++ {
		messages := make([]kafka.Message, len(batch))
		for i, t := range batch {
			messages[i] = t.Message
		}
		err := l.call(a.ctx, func(ctx context.Context) error { return l.batch(ctx, messages) })
		var again []taken
		for i, t := range batch {
			err, permanent := unmark(messageError(err, i, len(batch)))
			switch {
			case err == nil:
				t.feed.partition.tracker.handled(t.epoch, t.Offset)
			case l.interrupted(a, err):
				interrupted = true
			case permanent || attempt >= l.cfg.Retry.MaxAttempts:
				failed = append(failed, failure{t, attempt, err})
			default:
				again = append(again, t)
			}
		}
		l.handled(a)
		batch = again
		if len(batch) > 0 {
			l.log.progress("messages of a batch failed, to be retried", append(logAttrs{slog.String("topic", l.cfg.Topic)}.group(l.cfg.GroupID).attempt(attempt, l.cfg.Retry.MaxAttempts).err(err), slog.Int("messages", len(batch))))
			if interrupted || l.cfg.Retry.wait(a.stopping, attempt) != nil {
				interrupted = true
				break
			}
		}
	}
	l.failed(a, failed)
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
func (l *loop) failed(a *assignment, failed []failure) {
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
		case <-a.stopping.Done():
			l.settle(a, own)
		}
		failed = others
	}
}

// settle deals with failed messages of one partition, in order; false if the
// partition may not go on.
func (l *loop) settle(a *assignment, failed []failure) bool {
	slices.SortFunc(failed, func(a, b failure) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, f := range failed {
		if !l.giveUp(a, f.Message, f.err, f.attempts) {
			return false
		}
		f.feed.partition.tracker.handled(f.epoch, f.Offset)
	}
	l.handled(a)
	return true
}
