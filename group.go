package kafkax

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	// coordinatorTimeout bounds each request to the group's coordinator; a
	// join waits for the other members on top.
	coordinatorTimeout = 5 * time.Second

	// joinBackoff is the pause before a failed join is tried again.
	joinBackoff = time.Second

	// missingTopicInterval is how often a topic that does not exist is looked
	// for. The answer comes from a cache that is refreshed each second.
	missingTopicInterval = time.Second
)

// runGroup is a member of the group as long as the topic exists. kafka-go
// would join with a missing topic too, then rejoin without a pause, have the
// broker create the topic, and leave the whole group without partitions.
func (e *engine) runGroup(ctx context.Context) {
	for e.awaitTopic(ctx) {
		dialer := e.dialer.sibling()
		cfg := kafka.ConsumerGroupConfig{
			ID:                e.cfg.GroupID,
			Brokers:           e.cfg.Brokers,
			Dialer:            dialer.kafkaDialer(),
			Topics:            []string{e.cfg.Topic},
			HeartbeatInterval: e.cfg.HeartbeatInterval,
			SessionTimeout:    e.cfg.SessionTimeout,
			RebalanceTimeout:  e.cfg.RebalanceTimeout,
			RetentionTime:     e.cfg.RetentionTime,
			JoinGroupBackoff:  joinBackoff,
			StartOffset:       e.cfg.startOffset(),
			Timeout:           coordinatorTimeout,
			Logger:            e.log.infoLogger(),
			ErrorLogger:       e.log.infoLogger(), // Next returns the same errors
		}
		if e.cfg.tuneGroup != nil {
			e.cfg.tuneGroup(&cfg)
		}
		group, err := kafka.NewConsumerGroup(cfg)
		if err != nil {
			dialer.close()
			e.fail(fmt.Errorf("%w: %w", ErrInvalidConfig, err))
			return
		}
		closing := context.AfterFunc(e.abandoned, dialer.close)
		joined := e.generations(ctx, group)
		e.leave(ctx, group, dialer, joined)
		closing()
	}
}

// generations works on one assignment after the other until ctx ends or the
// topic is gone. It says whether the group ever knew this member.
func (e *engine) generations(ctx context.Context, group *kafka.ConsumerGroup) (joined bool) {
	for {
		gen, err := group.Next(ctx)
		joined = joined || gen != nil
		switch {
		case ctx.Err() != nil:
			return joined
		case errors.Is(err, kafka.RebalanceInProgress):
			e.log.infof(logAttrs{}.group(e.cfg.GroupID), "group %s: another rebalance began while joining", e.cfg.GroupID)
			continue
		case err != nil:
			err = fmt.Errorf("group %s: join: %w", e.cfg.GroupID, e.dialer.explain(err))
			if isRefused(err) || errors.Is(err, kafka.InvalidSessionTimeout) || errors.Is(err, kafka.InvalidGroupId) {
				e.fail(err)
				return joined
			}
			e.report(-1, err)
			continue
		}

		e.stats.rebalances.Add(1)
		a := e.newAssignment(gen.Assignments[e.cfg.Topic], gen)
		done := make(chan struct{})
		// kafka-go does not rejoin before this function has returned, and
		// until then the broker takes commits of this generation.
		gen.Start(func(ended context.Context) {
			defer close(done)
			a.run(ctx, ended)
		})
		<-done
		if ctx.Err() != nil || e.knownPartitions() == 0 {
			return joined
		}
	}
}

// leave tells the coordinator that this member goes, so that the others need
// not wait for its session to time out. It closes the group's connections.
func (e *engine) leave(ctx context.Context, group *kafka.ConsumerGroup, dialer *dialer, joined bool) {
	defer dialer.close()
	left := make(chan struct{})
	go func() {
		defer close(left)
		_ = group.Close() // always nil
	}()
	// Between two generations there is no connection for a moment, and without
	// one the group would not learn that a member left.
	if !joined && dialer.connected() == 0 {
		dialer.close() // never got as far as joining
	}
	abandoned := e.abandoned
	if ctx.Err() == nil { // the topic is gone, nobody is waiting
		var cancel context.CancelFunc
		abandoned, cancel = context.WithTimeout(e.abandoned, requestTimeout)
		defer cancel()
	}
	select {
	case <-left:
	case <-abandoned.Done():
		dialer.close() // a join or a silent coordinator ends with its connection
		<-left
	}
}

// awaitTopic waits until the topic exists; false if the run ended first.
func (e *engine) awaitTopic(ctx context.Context) bool {
	for failures := 0; ; {
		n, err := e.countPartitions(ctx)
		if ctx.Err() != nil {
			return false
		}
		e.mu.Lock()
		e.partitions = n
		e.mu.Unlock()
		switch {
		case n > 0:
			return true
		case err != nil && isRefused(err):
			e.fail(err)
			return false
		case err == nil:
			if failures == 0 {
				e.report(-1, fmt.Errorf("topic %s does not exist; waiting for it: %w", e.cfg.Topic, kafka.UnknownTopicOrPartition))
			}
			failures++
			if !sleep(ctx, min(missingTopicInterval, e.cfg.PartitionWatchInterval)) {
				return false
			}
		default:
			failures++
			e.report(-1, err)
			if fetchBackoff.wait(ctx, failures) != nil {
				return false
			}
		}
	}
}

// countPartitions is 0 without an error if the topic does not exist.
func (e *engine) countPartitions(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.DialTimeout+requestTimeout)
	defer cancel()
	res, err := e.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{e.cfg.Topic}})
	if err != nil {
		return 0, fmt.Errorf("topic %s: metadata: %w", e.cfg.Topic, e.dialer.explain(err))
	}
	for _, t := range res.Topics {
		switch {
		case t.Name != e.cfg.Topic:
		case errors.Is(t.Error, kafka.UnknownTopicOrPartition):
			return 0, nil
		case t.Error != nil && len(t.Partitions) == 0:
			return 0, fmt.Errorf("topic %s: metadata: %w", e.cfg.Topic, e.dialer.explain(t.Error))
		default:
			return len(t.Partitions), nil
		}
	}
	return 0, nil
}

func (e *engine) knownPartitions() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.partitions
}

func (c *ConsumerConfig) startOffset() int64 {
	if c.StartOffset == StartLatest {
		return kafka.LastOffset
	}
	return kafka.FirstOffset
}
