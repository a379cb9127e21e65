package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	// callbackPatience is how long a partition's next batch, and a send that
	// waits, are held back for the callback: long enough for one that does its
	// work, so that it has been called when the send returns.
	callbackPatience = 100 * time.Millisecond

	// callbackBytes is from where on a partition takes no more messages because
	// of those its callback has not been told of.
	callbackBytes = 4 << 20

	// callbackSlow is after how long a callback that has not returned is logged.
	callbackSlow = 10 * time.Second
)

// callbacks tells the caller's completion callback what became of each batch:
// of one partition in the order in which that came out, one call after the
// other; of several partitions at once. Whatever a call does (it panics, never
// returns, sends, closes the producer) holds up nothing but the calls behind it.
type callbacks struct {
	call func([]kafka.Message, error) // the caller's
	log  *loggers
	gone <-chan struct{} // closed when nobody waits for the callback any longer

	mu      sync.Mutex
	lanes   map[partitionID]*callbackLane // those with something to tell
	running sync.WaitGroup                // one for each lane
}

// callbackLane is what a partition's callback has still to be told.
type callbackLane struct {
	outcomes []*toldOutcome // the first is being told
	bytes    int
	calling  bool            // the first's call is under way
	stuck    bool            // and has used up the patience
	waiting  []chan struct{} // closed at the next call's return
}

type toldOutcome struct {
	msgs []kafka.Message
	err  error
	size int
	told chan struct{} // closed when the call has returned
}

func newCallbacks(call func([]kafka.Message, error), log *loggers, gone <-chan struct{}) *callbacks {
	return &callbacks{call: call, log: log, gone: gone, lanes: make(map[partitionID]*callbackLane)}
}

// tell has the callback called with the outcome of a batch of size bytes. told is
// closed when that has returned; stuck says that an earlier call has not for so
// long that waiting is in vain.
func (c *callbacks) tell(id partitionID, msgs []kafka.Message, err error, size int) (told <-chan struct{}, stuck bool) {
	o := &toldOutcome{msgs: msgs, err: err, size: size, told: make(chan struct{})}
	select {
	case <-c.gone:
		if err != nil {
			logFailure(c.log, msgs, err)
		}
		return o.told, true
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	lane := c.lanes[id]
	if lane == nil {
		lane = new(callbackLane)
		c.lanes[id] = lane
		c.running.Add(1)
		go c.work(id, lane) // ends with the lane's last outcome, or with gone
	}
	lane.outcomes = append(lane.outcomes, o)
	lane.bytes += size
	return o.told, lane.stuck
}

// tellAndWait also waits for the callback, but no longer than callbackPatience.
func (c *callbacks) tellAndWait(id partitionID, msgs []kafka.Message, err error, size int) {
	told, stuck := c.tell(id, msgs, err, size)
	if stuck {
		return
	}
	patience := time.NewTimer(callbackPatience)
	defer patience.Stop()
	select {
	case <-told:
	case <-c.gone:
	case <-patience.C:
		c.mu.Lock()
		defer c.mu.Unlock()
		if lane := c.lanes[id]; lane != nil {
			lane.stuck = true
		}
	}
}

// work makes the calls of one lane.
func (c *callbacks) work(id partitionID, lane *callbackLane) {
	defer c.running.Done()
	for {
		c.mu.Lock()
		if len(lane.outcomes) == 0 {
			delete(c.lanes, id)
			c.mu.Unlock()
			return
		}
		select {
		case <-c.gone:
			c.mu.Unlock()
			return // The lane stays, for untold.
		default:
		}
		o := lane.outcomes[0]
		lane.calling = true
		c.mu.Unlock()

		if !c.tellOne(id, o) {
			return
		}

		c.mu.Lock()
		lane.outcomes = lane.outcomes[1:]
		lane.bytes -= o.size
		lane.calling, lane.stuck = false, false
		for _, waiting := range lane.waiting {
			close(waiting)
		}
		lane.waiting = nil
		c.mu.Unlock()
		close(o.told)
	}
}

// tellOne makes one call, and is false if that had not returned when everybody
// was gone.
func (c *callbacks) tellOne(id partitionID, o *toldOutcome) bool {
	attrs := func() logAttrs { return attrsOf(id.topic, int(id.partition)) }
	returned := callUser(func() error { c.call(o.msgs, o.err); return nil })
	began := time.Now()
	slow := time.NewTimer(callbackSlow)
	defer slow.Stop()
	for {
		select {
		case err := <-returned:
			switch {
			case errors.Is(err, errGoexit):
				c.log.fail("the completion callback ended its goroutine", attrs().err(err))
			case err != nil:
				c.log.fail("the completion callback panicked", attrs().err(err))
			case time.Since(began) >= callbackSlow:
				c.log.progress("the completion callback has returned", append(attrs(), slog.Duration("after", time.Since(began))))
			}
			return true
		case <-slow.C:
			c.log.warn("the completion callback has not returned; the partition's other outcomes wait for it",
				append(attrs(), slog.Duration("after", callbackSlow)))
		case <-c.gone:
			return false
		}
	}
}

// apart takes the messages out, by partition, whose callback has too much to be
// told of before more is sent.
func (c *callbacks) apart(msgs []kafka.Message) (ready []kafka.Message, crowded [][]kafka.Message) {
	full := c.crowded()
	if len(full) == 0 {
		return msgs, nil
	}
	at := make(map[partitionID]int)
	for _, m := range msgs {
		id := m.WriterData.(*slot).place()
		if !full[id] {
			ready = append(ready, m)
			continue
		}
		i, ok := at[id]
		if !ok {
			i = len(crowded)
			at[id] = i
			crowded = append(crowded, nil)
		}
		crowded[i] = append(crowded[i], m)
	}
	return ready, crowded
}

func (c *callbacks) crowded() (full map[partitionID]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, lane := range c.lanes {
		if lane.bytes >= callbackBytes {
			if full == nil {
				full = make(map[partitionID]bool)
			}
			full[id] = true
		}
	}
	return full
}

// room waits until a partition is no longer crowded. Its error is ctx's cause.
func (c *callbacks) room(ctx context.Context, id partitionID) error {
	for {
		c.mu.Lock()
		lane := c.lanes[id]
		if lane == nil || lane.bytes < callbackBytes {
			c.mu.Unlock()
			return nil
		}
		returned := make(chan struct{})
		lane.waiting = append(lane.waiting, returned)
		c.mu.Unlock()
		select {
		case <-returned:
		case <-ctx.Done():
			c.mu.Lock()
			lane.waiting = slices.DeleteFunc(lane.waiting, func(w chan struct{}) bool { return w == returned })
			c.mu.Unlock()
			return fmt.Errorf("the completion callback has not been told of %d MiB of this partition's messages: %w", callbackBytes>>20, context.Cause(ctx))
		}
	}
}

// wait returns when everything is told, or everybody is gone. Nothing may be
// told any more.
func (c *callbacks) wait() { c.running.Wait() }

// untold says what the callback was not told of, when everybody is gone. That
// is logged too, as nobody else will hear of a failure among it.
func (c *callbacks) untold() []string {
	c.mu.Lock()
	lanes := maps.Clone(c.lanes)
	what := make([]string, 0, len(lanes))
	lines := make([]logAttrs, 0, len(lanes))
	for id, lane := range lanes {
		outcomes, text := lane.outcomes, "the completion callback was not told of %d message(s)"
		if lane.calling {
			outcomes, text = outcomes[1:], "the completion callback has not returned, and was not told of %d message(s)"
		}
		messages, failed, why := 0, 0, error(nil)
		for _, o := range outcomes {
			messages += len(o.msgs)
			if o.err != nil {
				failed, why = failed+len(o.msgs), o.err
			}
		}
		what = append(what, fmt.Sprintf("%s: "+text, id, messages))
		lines = append(lines, append(attrsOf(id.topic, int(id.partition)),
			slog.Int("messages", messages), slog.Int("not_acknowledged", failed)).err(why))
	}
	c.mu.Unlock()

	for _, attrs := range lines {
		c.log.fail("the completion callback has not returned, and is told no more", attrs)
	}
	slices.Sort(what)
	return what
}

func logFailure(log *loggers, msgs []kafka.Message, err error) {
	log.fail("messages were not acknowledged", append(attrsOf(msgs[0].Topic, msgs[0].Partition), slog.Int("messages", len(msgs))).err(err))
}
