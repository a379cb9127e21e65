package kafkax

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// SetOffset moves every assigned partition (without a group: the partition) to
// offset, or to [kafka.FirstOffset] or [kafka.LastOffset], and commits the new
// position, also if it is lower than the one before. Before a start it applies
// to the first assignment. Messages that are in flight are finished and no
// longer count. An offset that is not in the log follows offset_reset.
//
// It does not wait for the commit. It returns [ErrClosed] after a stop, and an
// error for any other negative offset.
func (c *Consumer) SetOffset(offset int64) error {
	if offset < 0 && offset != kafka.FirstOffset && offset != kafka.LastOffset {
		return fmt.Errorf("kafkax: SetOffset(%d): an offset is not negative, except kafka.FirstOffset and kafka.LastOffset", offset)
	}
	return c.seekTo(func(int) int64 { return offset })
}

// SetOffsetAt is [Consumer.SetOffset] to the first message of each partition
// that is not older than t, or to the end where there is none. It asks the
// partitions' leaders, bounded by ctx.
func (c *Consumer) SetOffsetAt(ctx context.Context, t time.Time) error {
	if ctx == nil {
		return errNilArgument
	}
	if c.IsShutdown() {
		return ErrClosed
	}
	offsets, err := c.offsetsAt(ctx, t)
	if err != nil {
		return fmt.Errorf("topic %s: offsets at %s: %w", c.cfg.Topic, t.Format(time.RFC3339), err)
	}
	return c.seekTo(func(id int) int64 {
		if offset, ok := offsets[id]; ok {
			return offset
		}
		return kafka.LastOffset
	})
}

// seekTo moves the partitions of the moment, or those of the next assignment.
func (c *Consumer) seekTo(offset func(id int) int64) error {
	if c.IsShutdown() {
		return ErrClosed
	}
	move := func(partitions []*partition) {
		for _, p := range partitions {
			p.tracker.seek(offset(p.id))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.engine; e != nil {
		if a := e.assigned(); a != nil {
			move(a.partitions)
			a.committer.request()
			return nil
		}
	}
	c.seek = move
	return nil
}

// takeSeek applies what was asked for while nothing was assigned.
func (c *Consumer) takeSeek(partitions []*partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seek != nil && len(partitions) > 0 {
		c.seek(partitions)
		c.seek = nil
	}
}

// offsetsAt has no entry for a partition whose messages are all older.
func (c *Consumer) offsetsAt(ctx context.Context, t time.Time) (map[int]int64, error) {
	e := newEngine(ctx, c, &c.cfg)
	defer e.discard()
	n, err := e.countPartitions(ctx)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, kafka.UnknownTopicOrPartition
	}
	requests := make([]kafka.OffsetRequest, n)
	for id := range requests {
		requests[id] = kafka.TimeOffsetOf(id, t)
	}
	return listOffsets(ctx, e.client, c.cfg.Topic, requests)
}
