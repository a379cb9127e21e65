package kafkax

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// SetOffset moves every assigned partition (without a group: the partition) to
// offset, or to [kafka.FirstOffset] or [kafka.LastOffset], and commits the new
// position, also if it is lower than the one before. While there are none, before
// a start or between two assignments, it applies to the next. Messages that are in
// flight are finished and no longer count. An offset that is not in the log follows
// offset_reset.
//
// It does not wait for the commit. A rebalance or a stop that is under way waits
// for it. If that commit fails, the position holds for what this member is assigned
// next, and the log names the partitions that another member got instead. An end of the log is that of the time of the
// call, which asks the partitions' leaders and takes at most 10 s. It returns [ErrClosed] after a stop, and an
// error for any other negative offset.
func (c *Consumer) SetOffset(offset int64) error {
	if offset < 0 && offset != kafka.FirstOffset && offset != kafka.LastOffset {
		return fmt.Errorf("kafkax: SetOffset(%d): an offset is not negative, except kafka.FirstOffset and kafka.LastOffset", offset)
	}
	var ends map[int]int64
	if offset < 0 {
		var err error
		if ends, err = c.ends(offset); err != nil {
			return err
		}
	}
	return c.seekTo(func(id int) int64 {
		if end, ok := ends[id]; ok {
			return end
		}
		return offset
	})
}

// SetOffsetAt is [Consumer.SetOffset] to the first message of each partition
// that is not older than t, or to the end where there is none. It asks the
// partitions' leaders, bounded by ctx. A time before 1970, such as the zero
// [time.Time], is refused.
func (c *Consumer) SetOffsetAt(ctx context.Context, t time.Time) error {
	if ctx == nil {
		return errNilArgument
	}
	if c.IsShutdown() {
		return ErrClosed
	}
	if t.UnixMilli() < 0 {
		// Kafka's own names for the ends of the log are such times.
		return fmt.Errorf("kafkax: SetOffsetAt(%s): a time is not before 1970; for the ends of the log there is SetOffset", t.Format(time.RFC3339))
	}
	offsets, err := c.offsetsAt(ctx, t)
	if err != nil {
		return fmt.Errorf("topic %s: offsets at %s: %w", c.cfg.Topic, t.Format(time.RFC3339), err)
	}
	return c.seekTo(func(id int) int64 {
		if offset, ok := offsets[id]; ok {
			return offset
		}
		return kafka.FirstOffset // a partition that is newer than the call
	})
}

// seekTo moves the partitions of the moment, or those of the next assignment.
func (c *Consumer) seekTo(offset func(id int) int64) error {
	if c.IsShutdown() {
		return ErrClosed
	}
	move := func(partitions []*partition) {
		for _, p := range partitions {
			p.tracker.move(offset(p.id))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seek, c.kept = nil, nil // of before
	if e := c.engine; e != nil {
		// Without a group nothing of an assignment outlives it.
		if claim := e.claimed(); claim != nil && (c.cfg.GroupID != "" || claim.stopping.Err() == nil) {
			move(claim.partitions)
			claim.requestCommit()
			return nil
		}
	}
	c.seek = move
	return nil
}

// takeSeek applies what was asked for while nothing was assigned, and what the
// last assignment could not commit.
func (c *Consumer) takeSeek(partitions []*partition) {
	c.mu.Lock()
	kept := c.kept
	c.kept = nil
	for _, p := range partitions {
		if offset, ok := kept[p.id]; ok {
			p.tracker.move(offset)
			delete(kept, p.id)
		}
	}
	if c.seek != nil && len(partitions) > 0 {
		c.seek(partitions)
		c.seek = nil
	}
	c.mu.Unlock()
	for id, offset := range kept {
		c.log.warn("a partition was moved, and went to another member before the group had stored that",
			attrsOf(c.cfg.Topic, id).offset(offset).group(c.cfg.GroupID))
	}
}

func (c *Consumer) keepSeek(partitions []*partition, gone func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone()
	if c.cfg.GroupID == "" {
		return
	}
	for _, p := range partitions {
		if offset, ok := p.tracker.unstored(); ok {
			if c.kept == nil {
				c.kept = map[int]int64{}
			}
			c.kept[p.id] = offset
		}
	}
}

// ends asks for one end of each partition's log, where any are assigned. A stop
// ends that, and a rebalance does not.
func (c *Consumer) ends(which int64) (map[int]int64, error) {
	e := c.running()
	if e == nil {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(e.abandoned)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-c.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	ends, err := e.ends(ctx, which)
	switch {
	case err == nil, e.over():
		return ends, nil
	case c.IsShutdown():
		return nil, ErrClosed
	}
	return nil, err
}

// offsetsAt asks for every partition; one whose messages are all older gives its
// end.
func (c *Consumer) offsetsAt(ctx context.Context, t time.Time) (map[int]int64, error) {
	e := c.newEngine(ctx, runPlan{cfg: &c.cfg})
	defer e.discard()
	return e.offsetsAt(ctx, t)
}
