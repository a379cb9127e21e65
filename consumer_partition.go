package kafkax

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/segmentio/kafka-go"
)

// consumerStats are the counters that outlive an assignment.
type consumerStats struct {
	fetches    atomic.Int64
	messages   atomic.Int64
	bytes      atomic.Int64
	rebalances atomic.Int64
	timeouts   atomic.Int64
	errors     atomic.Int64
}

// claim is what the handlers may work on until the next rebalance or the stop.
type claim struct {
	partitions []*partition

	stopping context.Context // ends when nothing more may be delivered
	ctx      context.Context // of the handlers; ends with a cause when they are cut off
	revoking chan struct{}   // closed when the group begins to wait for the claim's end; nil: it never does
	commits  atomic.Bool     // what is handled need not come again

	commit        func(ctx context.Context) error // of what is handled by now; waits
	requestCommit func()                          // of what is handled by now; does not wait
	unfinished    func(partition int, err error)  // takes the error of a message that was left alone

	activities // of those who handle its messages
}

// atWork names what is being handled and since when; for the pull API, which
// handles nothing itself, what it has delivered.
func (c *claim) atWork() []string {
	if names := c.running(); len(names) > 0 {
		return names
	}
	var names []string
	for _, p := range c.partitions {
		if n := p.tracker.inFlight(); n > 0 {
			names = append(names, fmt.Sprintf("%s: %d message(s) delivered and not committed", at(p.topic, p.id, p.tracker.position()), n))
		}
	}
	return names
}

// inFlight counts what was delivered and not handled.
func (c *claim) inFlight() (n int) {
	for _, p := range c.partitions {
		n += p.tracker.inFlight()
	}
	return n
}

// overtaken says whether a message of a chunk has one behind it that is handled, and
// that comes again unless this one is handled too.
func (c *claim) overtaken(from *chunk, offset int64) bool {
	return c.commits.Load() && from.partition.tracker.handledBehind(from.seeks, offset)
}

// find returns a claimed partition, or nil.
func (c *claim) find(topic string, id int) *partition {
	if c == nil {
		return nil
	}
	for _, p := range c.partitions {
		if p.id == id && p.topic == topic {
			return p
		}
	}
	return nil
}

// partition is one partition of a claim: fetched by its fetcher, handled by
// whoever reads chunks, committed by what its tracker says.
type partition struct {
	topic   string
	id      int
	tracker *offsetTracker
	chunks  chan *chunk // from the fetcher, in order
	stats   *consumerStats

	stopping      context.Context // the claim's
	requestCommit func()          // the claim's

	highWatermark atomic.Int64 // -1 until a broker has told it
	queued        atomic.Int64 // messages fetched and not delivered yet
	stopsHere     atomic.Bool  // the run ends at a message of it that failed for good
}

// lag is how many offsets are not handled yet; -1 while that is unknown.
func (p *partition) lag() int64 {
	position, end := p.tracker.position(), p.highWatermark.Load()
	if position < 0 || end < 0 {
		return -1
	}
	return max(end-position, 0)
}

// chunk is what one fetch brought. One goroutine at a time has it: the fetcher,
// then whoever delivers its messages.
type chunk struct {
	partition *partition
	messages  []kafka.Message
	seeks     int           // the tracker's when it was fetched; a later seek makes it stale
	position  int64         // what comes after it in the log, past what no handler sees
	jump      bool          // nothing was fetched, and what the log no longer has is passed over
	reset     chan struct{} // not nil: nothing was fetched, the partition moves to position; closed when it has
	from      origin        // with reset: of the position
	memory    *holding      // of the messages that are not done with; nil for none

	index int // of the next message
	ended bool
}

// next delivers a message: from here on it is on its way to a handler. It is nil
// when the chunk is used up. What a seek has made stale is passed to skipped
// instead.
func (c *chunk) next(skipped func()) *kafka.Message {
	for c.more() {
		m := &c.messages[c.index]
		c.index++
		if c.deliver(m) {
			return m
		}
		skipped()
	}
	return nil
}

// more says whether a message is left to deliver. When there is none, the
// tracker may go on behind the chunk.
func (c *chunk) more() bool {
	if c.index < len(c.messages) {
		return true
	}
	if !c.ended {
		c.ended = true
		c.finished()
	}
	return false
}

// letGo gives the memory of a message back that is done with; release that of all
// that are left.
func (c *chunk) letGo(m *kafka.Message) { c.memory.give(memorySize(m)) }
func (c *chunk) release()               { c.memory.giveAll() }

func (c *chunk) deliver(m *kafka.Message) bool {
	p := c.partition
	p.queued.Add(-1)
	if !p.tracker.delivered(c.seeks, m.Offset) {
		return false
	}
	p.stats.messages.Add(1)
	p.stats.bytes.Add(int64(len(m.Key) + len(m.Value)))
	return true
}

// finished is called in the order of the log, after the last message of the
// chunk was delivered.
func (c *chunk) finished() {
	p := c.partition
	if c.reset == nil {
		p.tracker.passed(c.seeks, c.position)
		if c.jump {
			p.requestCommit()
		}
		return
	}
	if c.seeks == p.tracker.seekCount() {
		p.tracker.seek(c.position, c.from)
		p.requestCommit()
	}
	close(c.reset)
}
