package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
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
			Dialer:            groupDialer(dialer),
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
		if slices.Equal(cfg.Brokers, e.cfg.Brokers) {
			cfg.Brokers = dialer.bootstrap() // kafka-go would try them in turn
		}
		cfg.GroupBalancers = e.leaderBalancers(ctx, cfg.GroupBalancers)
		group, err := kafka.NewConsumerGroup(cfg)
		if err != nil {
			dialer.close()
			e.fail(fmt.Errorf("%w: %w", ErrInvalidConfig, err))
			return
		}
		closing := context.AfterFunc(e.abandoned, dialer.close)
		m := &membership{engine: e, group: group, dialer: dialer}
		m.generations(ctx)
		m.end(ctx)
		closing()
	}
}

// membership is one stay in the group.
type membership struct {
	*engine
	group  *kafka.ConsumerGroup
	dialer *dialer
	id     string // what the group calls this member; empty while that is not known
	left   bool   // the coordinator knows that this member is gone
	ghosts sync.WaitGroup
}

// generations works on one assignment after the other until ctx ends or the
// topic is gone.
func (m *membership) generations(ctx context.Context) {
	e := m.engine
	for {
		gen, err := m.group.Next(ctx)
		lead := e.takeLeadership()
		if gen != nil {
			m.id = gen.MemberID
		}
		switch {
		case ctx.Err() != nil:
			if gen != nil {
				m.leaveNow()
			}
			return
		case errors.Is(err, kafka.RebalanceInProgress):
			e.log.progress("another rebalance began while joining", logAttrs{}.group(e.cfg.GroupID))
			continue
		}
		e.settled()
		switch {
		case err != nil:
			if m.id != "" {
				m.forget(ctx, m.id)
				m.id = ""
			}
			err = fmt.Errorf("group %s: join: %w", e.cfg.GroupID, e.dialer.explain(err))
		case lead != nil && lead.err != nil:
			// Nobody was assigned anything, so the group joins anew.
			gen.Start(func(ended context.Context) { _ = sleep(ended, joinBackoff) })
			err = fmt.Errorf("group %s: assign: %w", e.cfg.GroupID, e.dialer.explain(lead.err))
		}
		if err != nil {
			if isRefused(err) || errors.Is(err, kafka.InvalidSessionTimeout) || errors.Is(err, kafka.InvalidGroupId) {
				e.fail(err)
				return
			}
			e.report(-1, err)
			continue
		}

		e.stats.rebalances.Add(1)
		a := e.newAssignment(gen.Assignments[e.cfg.Topic], gen)
		a.lead = lead
		done := make(chan struct{})
		// kafka-go does not rejoin before this function has returned, and
		// until then the broker takes commits of this generation.
		gen.Start(func(ended context.Context) {
			defer close(done)
			a.run(ctx, ended)
			if ctx.Err() != nil || e.knownPartitions() == 0 {
				m.leaveNow()
			}
		})
		<-done
		if ctx.Err() != nil || e.knownPartitions() == 0 {
			return
		}
	}
}

// leaveNow tells the coordinator that this member goes, so that the others need
// not wait for its session to time out. kafka-go would first join the rebalance
// that is under way, if there is one, and wait for all the others; and it
// forgets to leave if another rebalance catches it there. It must not be in a
// join already.
func (m *membership) leaveNow() {
	e := m.engine
	if err := m.leave(e.abandoned, m.id); err != nil {
		e.log.progress("the group was not left", append(logAttrs{}.group(e.cfg.GroupID).err(err), slog.String("member", m.id)))
		return // kafka-go tries in its own way
	}
	m.left = true
	m.dialer.close() // it has no business there any more
}

// leave asks the coordinator once.
func (m *membership) leave(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, coordinatorTimeout)
	defer cancel()
	res, err := m.client.LeaveGroup(ctx, &kafka.LeaveGroupRequest{
		GroupID: m.cfg.GroupID,
		Members: []kafka.LeaveGroupRequestMember{{ID: id}},
	})
	if err != nil {
		return err
	}
	// kafka-go takes the fields of the answer in the wrong order: the error
	// code is in the lower half of the throttle time.
	if code := kafka.Error(int16(res.Throttle.Milliseconds())); code != 0 {
		return code
	}
	for _, member := range res.Members {
		if member.Error != nil && !errors.Is(member.Error, kafka.UnknownMemberId) {
			return member.Error
		}
	}
	return res.Error
}

// forget has the coordinator drop a member that kafka-go gave up: it joins as
// another after any failure, and if it cannot reach the coordinator to leave,
// the group waits for the old one until its session times out.
func (m *membership) forget(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.SessionTimeout)
	m.ghosts.Go(func() {
		defer cancel()
		for failures := 1; ctx.Err() == nil; failures++ {
			if m.leave(ctx, id) == nil {
				return
			}
			_ = brokerBackoff.wait(ctx, failures) // fails when ctx ends
		}
	})
}

// end leaves the group, if that is not done, and closes its connections.
func (m *membership) end(ctx context.Context) {
	defer m.ghosts.Wait()
	defer m.dialer.close()
	abandoned := m.abandoned
	if ctx.Err() == nil { // the topic is gone, nobody is waiting
		var cancel context.CancelFunc
		abandoned, cancel = context.WithTimeout(m.abandoned, requestTimeout)
		defer cancel()
	}
	// Between two generations there is no connection for a moment, and without
	// one the group would not learn that a member left.
	joining := !m.left && (m.id != "" || m.dialer.connected() > 0)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if joining {
			m.finishJoin(abandoned)
		} else {
			m.dialer.close() // ends a dial that nobody waits for
		}
		_ = m.group.Close() // always nil
	}()
	select {
	case <-ended:
	case <-abandoned.Done():
		m.dialer.close() // a join or a silent coordinator ends with its connection
		<-ended
	}
}

// finishJoin sees a join through that was under way when the stop came, then
// leaves. Under a known name it also leaves if that takes long.
func (m *membership) finishJoin(ctx context.Context) {
	if m.id != "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, coordinatorTimeout)
		defer cancel()
	}
	for {
		gen, err := m.group.Next(ctx)
		switch {
		case errors.Is(err, kafka.RebalanceInProgress):
			continue
		case gen != nil:
			m.id = gen.MemberID
		case ctx.Err() == nil:
			m.id = "" // kafka-go has left
		}
		break
	}
	if m.id != "" {
		m.leaveNow()
	}
}

// awaitTopic waits until the topic exists; false if the run ended first.
func (e *engine) awaitTopic(ctx context.Context) bool {
	for failures := 0; ; {
		n, err := e.countPartitions(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			e.sawPartitions(n)
		}
		if n > 0 {
			return true
		}
		e.settled()
		switch {
		case err != nil && isRefused(err):
			e.fail(err)
			return false
		case err == nil:
			if failures == 0 {
				e.report(-1, fmt.Errorf("topic %s does not exist; waiting for it: %w", e.cfg.Topic, kafka.UnknownTopicOrPartition))
			}
			failures++
			if sleep(ctx, min(missingTopicInterval, e.cfg.PartitionWatchInterval)) != nil {
				return false
			}
		default:
			failures++
			e.report(-1, err)
			if brokerBackoff.wait(ctx, failures) != nil {
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

// sawPartitions takes the topic's number of partitions. A topic that is missing
// has none that are older than this run, also when it comes back.
func (e *engine) sawPartitions(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.partitions = n
	if e.initial < 0 || n == 0 {
		e.initial = n
	}
}

// isNew says whether a partition without a committed offset came after the run
// began. It did, too, if it had an offset before: those of a deleted topic are
// deleted, and it may be back before anybody has noticed.
func (e *engine) isNew(partition int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return partition >= e.initial || e.placed[partition]
}

func (e *engine) place(partition int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.placed[partition] = true
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
