package kafkax

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/segmentio/kafka-go"
)

// SetOffset moves every assigned partition (without a group: the partition) to
// offset, or to [kafka.FirstOffset] or [kafka.LastOffset], and commits the new
// position, also if it is lower than the one before. Before a start it applies
// to the first assignment. Messages that are in flight are finished and no
// longer count. An offset that is not in the log follows offset_reset.
//
// It does not wait for the commit. An end of the log is that of the time of the
// call, which asks the partitions' leaders and takes at most 10 s. It returns [ErrClosed] after a stop, and an
// error for any other negative offset.
func (c *Consumer) SetOffset(offset int64) error {
	if offset < 0 && offset != kafka.FirstOffset && offset != kafka.LastOffset {
		return fmt.Errorf("kafkax: SetOffset(%d): an offset is not negative, except kafka.FirstOffset and kafka.LastOffset", offset)
	}
	var ends map[int]int64
	if a := c.current(); a != nil && offset < 0 {
		requests := make([]kafka.OffsetRequest, len(a.partitions))
		for i, p := range a.partitions {
			requests[i] = kafka.OffsetRequest{Partition: p.id, Timestamp: offset}
		}
		var err error
		if ends, err = listOffsets(a.stopping, a.engine.client, c.cfg.Topic, kafka.ReadUncommitted, requests); err != nil {
			return fmt.Errorf("topic %s: ends of the log: %w", c.cfg.Topic, a.engine.dialer.explain(err))
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

// offsetsAt asks for every partition; one whose messages are all older gives its
// end.
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
	times, ends := make([]kafka.OffsetRequest, n), make([]kafka.OffsetRequest, n)
	for id := range n {
		times[id], ends[id] = kafka.TimeOffsetOf(id, t), kafka.LastOffsetOf(id)
	}
	offsets, err := listOffsets(ctx, e.client, c.cfg.Topic, kafka.ReadUncommitted, ends)
	if err != nil {
		return nil, err
	}
	found, err := listOffsets(ctx, e.client, c.cfg.Topic, kafka.ReadUncommitted, times)
	maps.Copy(offsets, found)
	return offsets, err
}
