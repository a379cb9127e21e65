package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bi-common/kafkax/internal/budget"
	"github.com/segmentio/kafka-go"
)

// assignment is what this member may read and commit until the next rebalance.
type assignment struct {
	engine     *engine
	gen        *kafka.Generation // nil without a group
	lead       *leadership       // nil for a follower
	partitions []*partition
	committer  *committer
	budget     *budget.Budget

	stopping context.Context // ends when nothing more may be delivered
	end      context.CancelFunc
	ctx      context.Context // of the handlers; ends with a cause when they are cut off
	cancel   context.CancelCauseFunc
}

func (e *engine) newAssignment(assigned []kafka.PartitionAssignment, gen *kafka.Generation) *assignment {
	a := &assignment{
		engine: e,
		gen:    gen,
		budget: budget.New(e.cfg.MaxBytes),
	}
	a.ctx, a.cancel = context.WithCancelCause(context.WithoutCancel(e.cut))
	a.stopping, a.end = context.WithCancel(context.Background())
	for _, p := range assigned {
		committed := int64(-1)
		if gen != nil && p.Offset >= 0 {
			committed = p.Offset
			e.place(p.ID)
		}
		if p.Offset == kafka.LastOffset && e.isNew(p.ID) {
			p.Offset = kafka.FirstOffset // all of it was written after the start
		}
		part := &partition{
			topic:      e.cfg.Topic,
			id:         p.ID,
			assignment: a,
			tracker:    newOffsetTracker(p.Offset, committed),
			chunks:     e.chunks(),
		}
		part.highWatermark.Store(-1)
		a.partitions = append(a.partitions, part)
	}
	e.seek(a.partitions)
	a.committer = newCommitter(a.partitions, e.cfg.CommitInterval, a.commit, a.commitFailed)
	if slices.ContainsFunc(a.partitions, func(p *partition) bool { return p.tracker.currentEpoch() > 0 }) {
		a.committer.request() // of where the caller wants them
	}
	return a
}

// run works on the assignment until ctx (the consumer stops) or revoked (the
// group rebalances) ends: fetching stops, what is in flight finishes, what is
// handled is committed. Only then may the group go on.
func (a *assignment) run(ctx, revoked context.Context) {
	e := a.engine
	fetching, stopFetching := context.WithCancel(ctx)
	defer stopFetching()
	defer a.cancel(nil)
	defer a.end()
	e.setCurrent(a)
	defer e.setCurrent(nil)
	e.log.progress("partitions assigned", a.attrs())

	var background, workers, commits sync.WaitGroup
	for _, p := range a.partitions {
		background.Go(func() { a.fetch(fetching, p) })
	}
	background.Go(func() { a.refreshLag(fetching) })
	stopCommitting := make(chan struct{})
	if a.gen != nil {
		if e.cfg.WatchPartitionChanges {
			background.Go(func() { a.watchPartitions(fetching) })
		}
		commits.Go(func() { a.committer.run(stopCommitting) })
	}
	workers.Go(func() { e.work(a) })

	select {
	case <-ctx.Done():
	case <-revoked.Done():
	case <-a.stopping.Done():
	}
	a.end()
	stopFetching()
	limit := e.cut
	if ctx.Err() == nil {
		var release context.CancelFunc
		limit, release = context.WithTimeout(e.cut, e.rebalanceGrace())
		defer release()
	}
	finished := make(chan struct{})
	go func() { // ends with the last handler
		defer close(finished)
		workers.Wait()
	}()
	a.drain(limit, finished)
	background.Wait()
	close(stopCommitting)
	commits.Wait()
	a.finish(ctx, limit)
	e.log.progress("partitions revoked", a.attrs())
}

// drain waits for the handlers until limit, then ends their context, then waits
// again.
func (a *assignment) drain(limit context.Context, finished <-chan struct{}) {
	e := a.engine
	select {
	case <-finished:
		return
	case <-limit.Done():
	}
	if e.cut.Err() != nil {
		a.cancel(context.Cause(e.cut))
	} else {
		a.cancel(fmt.Errorf("%w: the rebalance could not wait any longer", ErrRevoked))
		e.report(-1, fmt.Errorf("%w: handlers were still running %v after a rebalance began: %s", ErrRevoked, e.rebalanceGrace(), a.inFlight()))
	}
	// A handler that ignores its context keeps this member out of the group:
	// the alternative is the same partition handled twice at once.
	select {
	case <-finished:
	case <-e.abandoned.Done():
	}
}

// rebalanceGrace is how long a rebalance may wait for handlers. Heartbeats
// pause meanwhile, so the broker drops a member that takes longer than its
// session or than the group waits for a join.
func (e *engine) rebalanceGrace() time.Duration {
	return min(e.cfg.ShutdownTimeout, min(e.cfg.SessionTimeout, e.cfg.RebalanceTimeout)-e.cfg.HeartbeatInterval)
}

// finish sends the last commit and says what a stop cut off.
func (a *assignment) finish(ctx, limit context.Context) {
	e := a.engine
	reason := ErrRevoked
	if ctx.Err() != nil {
		reason = ErrClosed
	}
	var err error
	if a.gen != nil {
		if err = a.committer.finish(limit, reason); errors.Is(err, errDeleted) {
			e.report(-1, fmt.Errorf("last commit of %s: %w", a, err))
			err = nil // no message comes again
		} else if err != nil {
			err = fmt.Errorf("last commit of %s, handled messages come again: %w", a, err)
		}
	} else {
		a.committer.close(errNoGroup)
	}
	cut := e.cut.Err() != nil && ctx.Err() != nil
	switch inFlight := a.inFlight(); {
	case cut && inFlight != "":
		e.fail(&ShutdownError{What: []string{inFlight}, Err: errors.Join(context.Cause(e.cut), err)})
	case err != nil && ctx.Err() != nil:
		e.fail(&ShutdownError{What: []string{"commit of " + a.String()}, Err: err})
	case err != nil:
		e.report(-1, err)
	}
}

// stopped takes the error of a message that was left unfinished. A stop returns
// it; after a rebalance the message comes again, here or elsewhere.
func (a *assignment) stopped(partition int, err error) {
	if a.engine.ctx.Err() != nil {
		a.engine.fail(err)
		return
	}
	a.engine.report(partition, err)
}

// inFlight names what was delivered and not handled.
func (a *assignment) inFlight() string {
	var parts []string
	for _, p := range a.partitions {
		if n := p.tracker.inFlight(); n > 0 {
			parts = append(parts, fmt.Sprintf("%s (%d in flight)", at(p.topic, p.id, p.tracker.position()), n))
		}
	}
	return strings.Join(parts, ", ")
}

func (a *assignment) String() string {
	ids := make([]string, len(a.partitions))
	for i, p := range a.partitions {
		ids[i] = fmt.Sprint(p.id)
	}
	s := fmt.Sprintf("%s[%s]", a.engine.cfg.Topic, strings.Join(ids, " "))
	if a.gen != nil {
		s += fmt.Sprintf(" (group %s, generation %d, member %s)", a.gen.GroupID, a.gen.ID, a.gen.MemberID)
	}
	return s
}

func (a *assignment) attrs() logAttrs {
	attrs := logAttrs{slog.String("topic", a.engine.cfg.Topic)}.group(a.engine.cfg.GroupID)
	if a.gen != nil {
		attrs = append(attrs, slog.String("member", a.gen.MemberID), slog.Int("generation", int(a.gen.ID)))
	}
	ids := make([]int, len(a.partitions))
	for i, p := range a.partitions {
		ids[i] = p.id
	}
	attrs = append(attrs, slog.Any("partitions", ids))
	return attrs
}

func (e *engine) setCurrent(a *assignment) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current = a
}

// assigned is the current assignment, or nil.
func (e *engine) assigned() *assignment {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current
}

func (a *assignment) fetch(ctx context.Context, p *partition) {
	e := a.engine
	f := &fetcher{
		partition: p,
		cfg:       e.cfg,
		client:    e.client,
		budget:    a.budget,
		stats:     e.stats,
		report:    e.reportPartition,
		// One chunk is worked on while the next is fetched.
		share: max(e.cfg.MaxBytes/(2*len(a.partitions)), 1),
		located: func(epoch int, name int64) {
			e.place(p.id)
			// "latest" is a different place at each start until it is
			// committed, and a seek is to survive a rebalance.
			if name == kafka.LastOffset || epoch > 0 {
				a.committer.request()
			}
		},
	}
	if err := f.run(ctx); err != nil {
		e.fail(e.dialer.explain(err))
	}
}

// refreshLag asks for the ends of the log where nothing is fetched, because a
// handler is slow.
func (a *assignment) refreshLag(ctx context.Context) {
	e := a.engine
	for sleep(ctx, e.cfg.ReadLagInterval) == nil {
		requests := make([]kafka.OffsetRequest, len(a.partitions))
		for i, p := range a.partitions {
			requests[i] = kafka.LastOffsetOf(p.id)
		}
		ends, err := listOffsets(ctx, e.client, e.cfg.Topic, kafka.ReadUncommitted, requests)
		if err != nil {
			if ctx.Err() == nil {
				e.report(-1, fmt.Errorf("topic %s: lag: %w", e.cfg.Topic, e.dialer.explain(err)))
			}
			continue
		}
		for _, p := range a.partitions {
			p.highWatermark.Store(max(ends[p.id], p.highWatermark.Load()))
		}
	}
}

// watchPartitions ends the assignment when the topic is gone or, for the
// leader, when a topic of the group gained partitions.
func (a *assignment) watchPartitions(ctx context.Context) {
	e := a.engine
	for sleep(ctx, e.cfg.PartitionWatchInterval) == nil {
		n, err := e.countPartitions(ctx)
		if err == nil {
			e.sawPartitions(n)
		}
		changed := err == nil && n == 0
		if err == nil && !changed && a.lead != nil {
			changed, err = e.changed(ctx, a.lead, n)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			e.report(-1, err)
		case changed:
			e.log.progress("the partitions of a topic changed, rejoining", a.attrs())
			a.end()
			return
		}
	}
}

func (a *assignment) commit(offsets map[string]map[int]int64) error {
	err := a.sendOffsets(offsets)
	if errors.Is(err, kafka.UnknownTopicOrPartition) {
		e := a.engine
		if n, lookupErr := e.countPartitions(e.abandoned); lookupErr == nil && n == 0 {
			e.sawPartitions(0)
			return errDeleted
		}
	}
	return err
}

// sendOffsets commits as a member of this generation; the broker refuses
// offsets from any other.
func (a *assignment) sendOffsets(offsets map[string]map[int]int64) error {
	err := a.gen.CommitOffsets(offsets)
	if _, answered := kafkaCode(err); err == nil || (answered && !errors.Is(err, kafka.NotCoordinatorForGroup)) {
		return err
	}
	// The generation's connection is gone or leads to a broker that is no
	// longer the coordinator. Whoever is now knows the generation too.
	ctx, cancel := context.WithTimeout(a.engine.abandoned, coordinatorTimeout)
	defer cancel()
	req := &kafka.OffsetCommitRequest{
		GroupID:      a.gen.GroupID,
		GenerationID: int(a.gen.ID),
		MemberID:     a.gen.MemberID,
		Topics:       map[string][]kafka.OffsetCommit{},
	}
	for topic, partitions := range offsets {
		for id, offset := range partitions {
			req.Topics[topic] = append(req.Topics[topic], kafka.OffsetCommit{Partition: id, Offset: offset})
		}
	}
	res, retryErr := a.engine.client.OffsetCommit(ctx, req)
	if retryErr != nil {
		return errors.Join(err, retryErr)
	}
	for _, partitions := range res.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return p.Error
			}
		}
	}
	return nil
}

// commitFailed is told of commits that nobody waits for.
func (a *assignment) commitFailed(err error) {
	e := a.engine
	err = fmt.Errorf("commit of %s: %w", a, e.dialer.explain(err))
	switch {
	case isRefused(err):
		e.fail(err)
	case isFenced(err):
		// The group went on without this member: what is in flight will be
		// handled again elsewhere. Rejoin at once.
		e.report(-1, err)
		a.end()
	default:
		e.report(-1, err)
	}
}
