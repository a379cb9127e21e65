package kafkax

import (
	"log/slog"

	"github.com/segmentio/kafka-go"
)

// Reader returns a plain kafka.Reader: kafkax vouches for nothing that is done
// with it.
//
// It has the consumer's settings, is made on the first call, begins to fetch at
// once, and is closed with the consumer; nil after that. One consumer is never
// two members of its group. The Reader of an idle consumer has the group, and
// with it the consumer: its loops, FetchMessage and ReadMessage say [ErrBusy]
// from then on. One that is asked for while a loop or the pull API runs has no
// group: it reads partition 0 from start_offset and commits nothing. The log
// says at WARN which it is.
func (c *Consumer) Reader() *kafka.Reader {
	if c == nil || c.closing == nil {
		return nil
	}
	r, made := c.openReader()
	if r == nil || c.IsShutdown() {
		return nil
	}
	if made {
		msg := "a plain kafka.Reader was asked for: it reads without a group, and commits nothing"
		if r.member {
			msg = "a plain kafka.Reader was asked for: it has the consumer's group, and takes partitions that no handler sees"
		}
		c.log.warn(msg, logAttrs{slog.String("topic", c.cfg.Topic)}.group(c.cfg.GroupID))
	}
	return r.Reader
}

// openReader makes the reader if there is none; it is nil after a stop.
func (c *Consumer) openReader() (r *ownedReader, made bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil || c.reader != nil {
		return c.reader, false
	}
	r = &ownedReader{dialer: c.dialer.sibling(), member: c.cfg.GroupID != "" && c.engine == nil}
	r.Reader = kafka.NewReader(c.readerConfig(r.dialer, r.member))
	if !r.member {
		_ = r.SetOffset(c.cfg.StartOffset.kafka()) // fails for members and closed readers alone
	}
	c.reader = r
	return r, true
}

func (c *Consumer) readerConfig(d *dialer, member bool) kafka.ReaderConfig {
	cfg := kafka.ReaderConfig{
		Brokers:               c.cfg.Brokers,
		Topic:                 c.cfg.Topic,
		Dialer:                d.kafkaDialer(),
		MinBytes:              c.cfg.MinBytes,
		MaxBytes:              c.cfg.MaxBytes,
		MaxWait:               c.cfg.MaxWait,
		ReadLagInterval:       -1,
		Logger:                c.log.infoLogger(),
		ErrorLogger:           c.log.errorLogger(),
		IsolationLevel:        c.cfg.IsolationLevel.kafka(),
		OffsetOutOfRangeError: true, // or kafka-go jumps forward without a word
	}
	if !member {
		cfg.Partition = max(c.cfg.Partition, 0)
	} else {
		cfg.GroupID = c.cfg.GroupID
		cfg.CommitInterval = c.cfg.CommitInterval
		cfg.HeartbeatInterval = c.cfg.HeartbeatInterval
		cfg.SessionTimeout = c.cfg.SessionTimeout
		cfg.RebalanceTimeout = c.cfg.RebalanceTimeout
		cfg.WatchPartitionChanges = c.cfg.WatchPartitionChanges
		cfg.PartitionWatchInterval = c.cfg.PartitionWatchInterval
		cfg.StartOffset = c.cfg.StartOffset.kafka()
	}
	return cfg
}
