package kafkax

import (
	"github.com/segmentio/kafka-go"
)

// Reader returns a plain kafka.Reader with the same settings, made on the first
// call and closed with the consumer; nil after that. It fetches at once, as a
// member of its own of the same group, and none of what kafkax promises holds
// for it.
func (c *Consumer) Reader() *kafka.Reader {
	if c == nil || c.closing == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.reader != nil {
		return c.reader
	}
	cfg := kafka.ReaderConfig{
		Brokers:               c.cfg.Brokers,
		Topic:                 c.cfg.Topic,
		Dialer:                c.dialer.sibling().kafkaDialer(),
		MinBytes:              c.cfg.MinBytes,
		MaxBytes:              c.cfg.MaxBytes,
		MaxWait:               c.cfg.MaxWait,
		ReadLagInterval:       -1,
		Logger:                c.log.infoLogger(),
		ErrorLogger:           c.log.errorLogger(),
		IsolationLevel:        c.cfg.IsolationLevel.kafka(),
		OffsetOutOfRangeError: true, // or kafka-go jumps forward without a word
	}
	if c.cfg.GroupID == "" {
		cfg.Partition = c.cfg.Partition
	} else {
		cfg.GroupID = c.cfg.GroupID
		cfg.CommitInterval = c.cfg.CommitInterval
		cfg.HeartbeatInterval = c.cfg.HeartbeatInterval
		cfg.SessionTimeout = c.cfg.SessionTimeout
		cfg.RebalanceTimeout = c.cfg.RebalanceTimeout
		cfg.RetentionTime = c.cfg.RetentionTime
		cfg.WatchPartitionChanges = c.cfg.WatchPartitionChanges
		cfg.PartitionWatchInterval = c.cfg.PartitionWatchInterval
		cfg.StartOffset = c.cfg.StartOffset.kafka()
	}
	c.reader = kafka.NewReader(cfg)
	return c.reader
}
