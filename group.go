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

// joinBackoff is the pause before a failed join is tried again.
const joinBackoff = time.Second

// runGroup is a member of the group as long as the topic exists, and has work
// called with each assignment. kafka-go would join with a missing topic too, then
// rejoin without a pause, have the broker create the topic, and leave the whole
// group without partitions.
func runGroup(s *scope, topic *topicState, work worksOn) {
	ctx := s.ctx
	for topic.await(ctx) {
		m := &membership{scope: s, topic: topic, work: work, dialer: s.dialer.sibling()}
		if err := m.open(ctx); err != nil {
			m.dialer.close()
			if ctx.Err() != nil {
				return
			}
			s.fail(fmt.Errorf("%w: %w", ErrInvalidConfig, err))
			return
		}
		closing := context.AfterFunc(s.abandoned, m.dialer.close)
		m.generations(ctx)
		m.close(ctx)
		closing()
	}
}

// worksOn works on what was assigned in a generation until ctx or revoked ends.
// The leadership is nil for a follower.
type worksOn func(ctx, revoked context.Context, starts []start, gen *kafka.Generation, lead *leadership)

// membership is one stay in the group.
type membership struct {
	*scope
	topic   *topicState
	work    worksOn
	dialer  *dialer // of the group's connections alone
	group   *kafka.ConsumerGroup
	leading leading
	id      string // what the group calls this member; empty while that is not known
	left    bool   // the coordinator knows that this member is gone
	ghosts  sync.WaitGroup
}

// open starts to join.
func (m *membership) open(ctx context.Context) error {
	cfg := kafka.ConsumerGroupConfig{
		ID:                m.cfg.GroupID,
		Brokers:           slices.Clone(m.cfg.Brokers), // the caller may change them
		Dialer:            groupDialer(m.dialer),
		Topics:            []string{m.cfg.Topic},
		HeartbeatInterval: m.cfg.HeartbeatInterval,
		SessionTimeout:    m.cfg.SessionTimeout,
		RebalanceTimeout:  m.cfg.RebalanceTimeout,
		JoinGroupBackoff:  joinBackoff,
		StartOffset:       m.cfg.StartOffset.kafka(),
		Timeout:           coordinatorTimeout,
		Logger:            m.log.infoLogger(),
		ErrorLogger:       m.log.infoLogger(), // Next returns the same errors
	}
	if err := m.tune(&cfg); err != nil {
		return err
	}
	if slices.Equal(cfg.Brokers, m.cfg.Brokers) {
		cfg.Brokers = m.dialer.bootstrap() // kafka-go would try them in turn
	}
	m.leading.scope, m.leading.ctx, m.leading.leave = m.scope, ctx, m.leave
	var err error
	if cfg.GroupBalancers, err = m.leading.balancers(cfg.GroupBalancers); err != nil {
		return err
	}
	m.group, err = kafka.NewConsumerGroup(cfg)
	return err
}

// tune lets the caller change what kafka-go is given.
func (m *membership) tune(cfg *kafka.ConsumerGroupConfig) error {
	if m.cfg.tuneGroup == nil {
		return nil
	}
	tuned := *cfg
	err := m.callToJoin(m.scope.ctx, "the function of WithConsumerGroupConfig", func() error {
		m.cfg.tuneGroup(&tuned)
		return nil
	}, func() {}) // it is no member yet
	if err != nil {
		return err
	}
	*cfg = tuned
	return nil
}

// generations works on one assignment after the other until ctx ends or the
// topic is gone.
func (m *membership) generations(ctx context.Context) {
	began, refused, resigned := time.Now(), false, false
	for {
		gen, err := m.group.Next(ctx)
		lead := m.leading.take()
		if gen != nil {
			m.id = gen.MemberID
			m.leading.joined(m.id)
		}
		switch {
		case ctx.Err() != nil:
			if gen != nil {
				m.leaveNow()
			}
			return
		case errors.Is(err, kafka.RebalanceInProgress):
			m.log.progress("another rebalance began while joining", logAttrs{}.group(m.cfg.GroupID))
			continue
		case resigned && errors.Is(err, kafka.UnknownMemberId):
			resigned = false // the group does not know it, as was asked for
			continue
		}
		m.arrive()
		resigned = false
		switch {
		case err != nil:
			if m.id != "" {
				m.forget(ctx, m.id)
				m.id = ""
			}
			err = fmt.Errorf("group %s: join: %w", m.cfg.GroupID, m.scope.dialer.reason(err))
		case lead != nil && lead.err != nil:
			// Nobody was assigned anything, so the group joins anew: under
			// another leader if the balancer is at fault, as its own may do better.
			pause := joinBackoff
			if lead.balancer && m.leave(ctx, m.id) == nil {
				m.id, pause, resigned = "", 0, true // kafka-go waits before it joins as another member
			}
			gen.Start(func(ended context.Context) { _ = sleep(ended, pause) })
			err = fmt.Errorf("group %s: assign: %w", m.cfg.GroupID, m.scope.dialer.reason(lead.err))
		}
		switch {
		case err == nil:
		case errors.Is(err, kafka.InvalidSessionTimeout), errors.Is(err, kafka.InvalidGroupId),
			isRefused(err) && (refused || !m.secondTry(err)):
			m.fail(err)
			return
		case isElecting(err) && time.Since(began) < electionPatience:
			m.log.progress("the group has no coordinator for now", logAttrs{}.group(m.cfg.GroupID).err(err))
			continue
		default:
			refused = isRefused(err)
			m.report(-1, err)
			continue
		}
		refused = false

		m.stats.rebalances.Add(1)
		done := make(chan struct{})
		// kafka-go does not rejoin before this function has returned, and
		// until then the broker takes commits of this generation.
		gen.Start(func(revoked context.Context) {
			defer close(done)
			if starts, ok := m.locate(ctx, revoked, gen.Assignments[m.cfg.Topic]); ok {
				m.work(ctx, revoked, starts, gen, lead)
			}
			if ctx.Err() != nil || m.topic.known() == 0 {
				m.leaveNow()
			}
		})
		<-done
		if ctx.Err() != nil || m.topic.known() == 0 {
			return
		}
		began = time.Now()
	}
}

// secondTry is the scope's, for the group's own connections too.
func (m *membership) secondTry(err error) bool {
	again := m.scope.secondTry(err)
	if again {
		m.dialer.renew()
	}
	return again
}

// leaveNow tells the coordinator that this member goes, so that the others need
// not wait for its session to time out. kafka-go would first join the rebalance
// that is under way, if there is one, and wait for all the others; and it
// forgets to leave if another rebalance catches it there. It must not be in a
// join already. A stop that was cut off leaves too, for which there is a moment of
// its own: the others should not wait for a handler that does not end.
func (m *membership) leaveNow() {
	ctx, release := endAfter(context.WithoutCancel(m.abandoned), m.abandoned.Done(), cutGrace, nil)
	defer release()
	if err := m.leave(ctx, m.id); err != nil {
		m.log.progress("the group was not left", append(logAttrs{}.group(m.cfg.GroupID).err(err), slog.String("member", m.id)))
		if m.abandoned.Err() != nil {
			m.id = "" // this was the last moment
		}
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

// close leaves the group, if that is not done, and closes its connections.
func (m *membership) close(ctx context.Context) {
	defer m.ghosts.Wait()
	defer m.dialer.close()
	abandoned := m.abandoned
	if ctx.Err() == nil { // the topic is gone, nobody is waiting
		var cancel context.CancelFunc
		abandoned, cancel = context.WithTimeout(m.abandoned, lookupTimeout)
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

		// Code of the caller's, such as a balancer, may not return. Leaving has one
		// cutGrace of these.
		if _, ok := within(ended, 2*cutGrace); !ok {
			m.log.warn("kafka-go's member of the group has not ended", logAttrs{}.group(m.cfg.GroupID))
		}
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
		}
		break
	}
	if m.id != "" {
		m.leaveNow()
	}
}
