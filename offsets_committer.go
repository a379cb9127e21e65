package kafkax

import (
	"context"
	"slices"
	"sync"
	"time"
)

// committer sends the offsets of one assignment: one request at a time, each
// with everything that became due while the one before was under way.
type committer struct {
	partitions []*partition
	interval   time.Duration            // how long a due offset may wait; 0: not at all
	send       func([]commitment) error // bounded by itself
	failed     func(error)              // told of each failure that nobody waits for
	kick       chan struct{}

	mu      sync.Mutex
	waiters []chan error
	closed  error // once set, nothing is sent and every waiter gets it
}

func newCommitter(partitions []*partition, interval time.Duration, send func([]commitment) error, failed func(error)) *committer {
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
	if isRebalancing(err) { // the generation has not ended, and the next round may tell
		c.mu.Lock()
		c.waiters = append(waiters, c.waiters...)
		c.mu.Unlock()
		return err
	}
	for _, w := range waiters {
		w <- err
	}
	return err
}

// commitment is what is due of a partition.
type commitment struct {
	*partition
	due
}

func (c *committer) sendDue() error {
	var all []commitment
	for _, p := range c.partitions {
		if d, ok := p.tracker.due(); ok {
			all = append(all, commitment{p, d})
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := c.send(all); err != nil {
		return err
	}
	for _, sent := range all {
		sent.tracker.acknowledged(sent.seeks, sent.offset)
	}
	return nil
}

// finish sends what is still due, again and again until limit if the coordinator
// is busy, if a rebalance keeps it from taking it, or if a partition was moved
// meanwhile: this is the last chance. While no coordinator answers it goes on until
// away, of which failed is told once: nobody gives the partitions to another
// meanwhile, and what is too late the group refuses. Then it refuses everything
// with reason.
func (c *committer) finish(limit, away context.Context, reason error) error {
	err := c.round()
	for told := false; ; err = c.round() {
		if err == nil && limit.Err() == nil && c.moved() {
			continue
		}
		wait := limit
		if isAway(err) {
			wait = away
		} else if !IsRetryable(err) && !isRebalancing(err) {
			break
		}
		if sleep(wait, commitRetryPause) != nil {
			break
		}
		if limit.Err() != nil && !told {
			told = true
			c.failed(err)
		}
	}
	c.close(reason)
	return err
}

// moved says whether a partition was moved to an offset that is not sent yet.
func (c *committer) moved() bool {
	return slices.ContainsFunc(c.partitions, func(p *partition) bool {
		offset, ok := p.tracker.unstored()
		return ok && offset >= 0
	})
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
