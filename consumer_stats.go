package kafkax

import (
	"fmt"

	"github.com/segmentio/kafka-go"
)

// Stats returns kafka-go's reader statistics: Fetches, Messages, Bytes (of keys
// and values), Rebalances, Timeouts and Errors count since the consumer was
// made and never go back. Lag, QueueLength (messages fetched and not delivered)
// and, without a group, Offset are of the moment. The rest of the counters and
// summaries is not filled.
func (c *Consumer) Stats() kafka.ReaderStats {
	if c == nil {
		return kafka.ReaderStats{Offset: -1, Lag: -1}
	}
	s := kafka.ReaderStats{
		Fetches:    c.stats.fetches.Load(),
		Messages:   c.stats.messages.Load(),
		Bytes:      c.stats.bytes.Load(),
		Rebalances: c.stats.rebalances.Load(),
		Timeouts:   c.stats.timeouts.Load(),
		Errors:     c.stats.errors.Load(),
		Offset:     -1,
		Lag:        c.Lag(),
		MinBytes:   int64(c.cfg.MinBytes),
		MaxBytes:   int64(c.cfg.MaxBytes),
		MaxWait:    c.cfg.MaxWait,
		ClientID:   c.cfg.ClientID,
		Topic:      c.cfg.Topic,
	}
	if claim := c.claimed(); claim != nil {
		for _, p := range claim.partitions {
			s.QueueLength += p.queued.Load()
			if c.cfg.GroupID == "" {
				s.Offset = p.tracker.position()
			}
		}
	}
	if c.cfg.GroupID == "" {
		s.Partition = fmt.Sprint(c.cfg.Partition)
	}
	return s
}

// Lag is how many offsets of the assigned partitions are not handled yet, by
// what the last fetches said (and every read_lag_interval where a slow handler
// keeps fetches from being made). It is -1 while nothing is assigned or known.
func (c *Consumer) Lag() int64 {
	var sum int64
	lags := c.PartitionLag()
	for _, lag := range lags {
		if lag < 0 {
			return -1
		}
		sum += lag
	}
	if len(lags) == 0 {
		return -1
	}
	return sum
}

// PartitionLag is [Consumer.Lag] by assigned partition; -1 where it is not
// known yet. It is empty while nothing is assigned.
func (c *Consumer) PartitionLag() map[int]int64 {
	lags := map[int]int64{}
	if claim := c.claimed(); claim != nil {
		for _, p := range claim.partitions {
			lags[p.id] = p.lag()
		}
	}
	return lags
}
