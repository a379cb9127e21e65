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
	*scope
	claim
	topic     *topicState
	gen       *kafka.Generation // nil without a group
	lead      *leadership       // nil for a follower
	committer *committer
	budget    *budget.Budget

	cutOff []string // what was at work when it could not be waited for any longer

	end    context.CancelFunc      // ends stopping
	cancel context.CancelCauseFunc // ends the handlers' context
}

// newAssignment takes what the group assigned, and its generation if there is
// one. chunks makes the queue of a partition.
func newAssignment(s *scope, topic *topicState, starts []start, gen *kafka.Generation, chunks func() chan *chunk) *assignment {
	handling, cancel := context.WithCancelCause(context.WithoutCancel(s.cut))
	stopping, end := context.WithCancel(context.Background())
	a := &assignment{
		scope:  s,
		claim:  claim{stopping: stopping, ctx: handling, revoking: make(chan struct{})},
		topic:  topic,
		gen:    gen,
		budget: budget.New(s.cfg.MaxBytes),
		end:    end,
		cancel: cancel,
	}
	a.commits.Store(gen != nil)
	a.claim.commit = func(ctx context.Context) error { return a.committer.commit(ctx) }
	a.requestCommit = func() { a.committer.request() }
	a.unfinished = a.leftAlone
	for _, at := range starts {
		committed := int64(-1)
		if gen != nil && at.offset >= 0 {
			committed = at.offset
			topic.hasPosition(at.partition, at.from.topic)
		}
		if at.offset == kafka.LastOffset && topic.isNew(at.partition) {
			at.offset = kafka.FirstOffset // all of it was written after the start
		}
		if at.from.topic == (topicID{}) {
			at.from.topic = topic.readAs(at.partition) // a commit that does not say so may be of the topic before
		}
		part := &partition{
			topic:         s.cfg.Topic,
			id:            at.partition,
			tracker:       newOffsetTracker(at.offset, committed, at.from),
			chunks:        chunks(),
			stats:         s.stats,
			stopping:      a.stopping,
			requestCommit: a.requestCommit,
		}
		part.highWatermark.Store(-1)
		a.partitions = append(a.partitions, part)
	}
	a.committer = newCommitter(a.partitions, s.cfg.CommitInterval, a.send, a.commitFailed)
	return a
}

// run works on the assignment until ctx (the consumer stops) or revoked (the
// group rebalances) ends: fetching stops, what is in flight finishes, what is
// handled is committed. Only then may the group go on. Work handles the claim's
// chunks, and returns soon after its end, as soon as nothing that it delivered
// is in flight.
func (a *assignment) run(ctx, revoked context.Context, work func(*claim)) {
	fetching, stopFetching := context.WithCancel(ctx)
	defer stopFetching()
	defer a.cancel(nil)
	defer a.end()
	if slices.ContainsFunc(a.partitions, func(p *partition) bool { return p.tracker.seekCount() > 0 }) {
		a.committer.request() // of where the caller wants them
	}
	a.log.progress("partitions assigned", a.attrs())

	var background, workers, commits sync.WaitGroup
	for _, p := range a.partitions {
		background.Go(func() { a.fetch(fetching, p) })
	}
	background.Go(func() { a.refreshLag(fetching) })
	stopCommitting := make(chan struct{})
	if a.gen != nil {
		background.Go(func() { a.watchPartitions(fetching) })
		commits.Go(func() { a.committer.run(stopCommitting) })
	}
	workers.Go(func() { work(&a.claim) })

	select {
	case <-ctx.Done():
	case <-revoked.Done():
	case <-a.stopping.Done():
	}
	a.end()
	stopFetching()
	limit, away, release := a.limits(ctx, revoked)
	defer release()
	finished := make(chan struct{})
	go func() { // ends with the last handler
		defer close(finished)
		workers.Wait()
	}()
	a.drain(limit, finished)
	background.Wait()
	close(stopCommitting)
	commits.Wait()
	a.finish(ctx, limit, away)
	for _, p := range a.partitions {
		if from := p.tracker.readFrom(); from.topic != (topicID{}) {
			a.topic.hasPosition(p.id, from.topic)
		}
	}
	a.log.progress("partitions revoked", a.attrs())
}

// limits end when the handlers may not be waited for any longer: with the bound
// of a stop, or with the grace of a rebalance if that ends first. A rebalance may
// begin while a stop waits, and the group is then told no more of this member. A
// coordinator that cannot be reached is waited for a session longer: one that is
// away drops nobody, and one that comes back begins every session anew.
func (a *assignment) limits(ctx, revoked context.Context) (limit, away context.Context, release func()) {
	unwatch := func() bool { return true }
	switch {
	case a.gen == nil: // no group waits
	case ctx.Err() == nil:
		close(a.revoking) // it has ended for the group's sake
	default:
		unwatch = context.AfterFunc(revoked, func() { close(a.revoking) })
	}
	limit, endLimit := endAfter(a.cut, a.revoking, a.rebalanceGrace(), nil)
	away, endAway := endAfter(a.cut, a.revoking, a.rebalanceGrace()+a.cfg.SessionTimeout, nil)
	return limit, away, func() {
		unwatch()
		endLimit()
		endAway()
	}
}

// drain waits for the handlers until limit, then ends their context, then waits
// again.
func (a *assignment) drain(limit context.Context, finished <-chan struct{}) {
	select {
	case <-finished:
		return
	case <-limit.Done():
	}
	a.cutOff = a.atWork()
	if a.cut.Err() != nil {
		a.cancel(context.Cause(a.cut))
	} else {
		a.cancel(fmt.Errorf("%w: the rebalance could not wait any longer", ErrRevoked))
		a.report(-1, fmt.Errorf("%w: handlers were still running %v after a rebalance began: %s", ErrRevoked, a.rebalanceGrace(), strings.Join(a.cutOff, "; ")))
	}
	// A handler that ignores its context keeps this member out of the group:
	// the alternative is the same partition handled twice at once.
	select {
	case <-finished:
	case <-a.abandoned.Done():
	}
}

// rebalanceGrace is how long a rebalance may wait for handlers. Heartbeats
// pause meanwhile, so the broker drops a member that takes longer than its
// session or than the group waits for a join.
func (a *assignment) rebalanceGrace() time.Duration {
	return min(a.cfg.ShutdownTimeout, min(a.cfg.SessionTimeout, a.cfg.RebalanceTimeout)-a.cfg.HeartbeatInterval)
}

// finish sends the last commit and says what a stop cut off.
func (a *assignment) finish(ctx, limit, away context.Context) {
	reason := ErrRevoked
	if ctx.Err() != nil {
		reason = ErrClosed
	}
	var err error
	deleted := false
	if a.gen != nil {
		if err = a.committer.finish(limit, away, reason); errors.Is(err, errDeleted) {
			a.report(-1, fmt.Errorf("last commit of %s: %w", a, err))
			err, deleted = nil, true // no message comes again
		} else if err != nil {
			err = fmt.Errorf("last commit of %s, handled messages come again: %w", a, err)
		}
	} else {
		a.committer.close(errNoGroup)
	}
	var what []string
	if a.inFlight() > 0 {
		what = a.cutOff
	}
	if a.gen != nil && !deleted {
		what = append(what, a.comesAgain(ctx.Err() != nil)...)
	}
	switch {
	case ctx.Err() != nil && len(what) > 0:
		cause := context.Cause(a.claim.ctx)
		if cause == nil {
			cause = ErrShutdown // a handler minded another context
		}
		a.fail(&ShutdownError{What: what, Err: errors.Join(cause, err)})
	case err != nil && ctx.Err() != nil:
		a.fail(&ShutdownError{What: []string{"commit of " + a.String()}, Err: err})
	case err != nil:
		a.report(-1, err)
	}
}

// comesAgain names what was handled and comes again, as a message before it is not.
// A stop returns it. What it does not return is in the log: after a rebalance, and
// where the run ends at that message, whose own error says so.
func (a *assignment) comesAgain(stopped bool) (returned []string) {
	var logged []string
	for _, p := range a.partitions {
		first, n := p.tracker.handledAhead()
		if n == 0 {
			continue
		}
		what := fmt.Sprintf("%s: %d handled message(s) behind it come again", at(p.topic, p.id, first), n)
		if stopped && !p.stopsHere.Load() {
			returned = append(returned, what)
		} else {
			logged = append(logged, what)
		}
	}
	if len(logged) > 0 {
		a.log.warn("handled messages come again", append(a.attrs(), slog.String("what", strings.Join(logged, "; "))))
	}
	return returned
}

// leftAlone takes the error of a message that was left unfinished. A stop
// returns it; after a rebalance the message comes again, here or elsewhere.
func (a *assignment) leftAlone(partition int, err error) {
	if a.scope.ctx.Err() != nil {
		a.fail(err)
		return
	}
	a.report(partition, err)
}

func (a *assignment) String() string {
	ids := make([]string, len(a.partitions))
	for i, p := range a.partitions {
		ids[i] = fmt.Sprint(p.id)
	}
	s := fmt.Sprintf("%s[%s]", a.cfg.Topic, strings.Join(ids, " "))
	if a.gen != nil {
		s += fmt.Sprintf(" (group %s, generation %d, member %s)", a.gen.GroupID, a.gen.ID, a.gen.MemberID)
	}
	return s
}

func (a *assignment) attrs() logAttrs {
	attrs := logAttrs{slog.String("topic", a.cfg.Topic)}.group(a.cfg.GroupID)
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

// share is how much a fetch of one partition may bring: one of its own and one
// of the budget can then be held by each.
func (a *assignment) share() int { return max(a.cfg.MaxBytes/(2*len(a.partitions)), 1) }

func (a *assignment) fetch(ctx context.Context, p *partition) {
	f := &fetcher{
		partition: p,
		cfg:       a.cfg,
		brokers:   leaders{a.cluster},
		log:       a.log,
		allowance: newAllowance(a.budget),
		report:    func(p *partition, err error) { a.report(p.id, a.dialer.reason(err)) },
		share:     a.share(),
		secondTry: a.secondTry,
		located: func(seeks int, name int64) {
			a.topic.hasPosition(p.id, topicID{})
			// "latest" is a different place at each start until it is
			// committed, and a seek is to survive a rebalance.
			if name == kafka.LastOffset || seeks > 0 {
				a.committer.request()
			}
		},
	}
	if err := f.run(ctx); err != nil {
		a.fail(a.dialer.reason(err))
	}
}

// refreshLag asks for the ends of the log where nothing is fetched, because a
// handler is slow.
func (a *assignment) refreshLag(ctx context.Context) {
	for sleep(ctx, a.cfg.ReadLagInterval) == nil {
		ends, err := a.endsOf(ctx, a.partitions, kafka.LastOffset)
		if err != nil {
			if ctx.Err() == nil {
				a.report(-1, fmt.Errorf("topic %s: lag: %w", a.cfg.Topic, a.dialer.reason(err)))
			}
			continue
		}
		for _, p := range a.partitions {
			p.highWatermark.Store(max(ends[p.id], p.highWatermark.Load()))
		}
	}
}

// freshLook is when the partitions are looked at first after an assignment; each
// look after that is twice as far away, up to partition_watch_interval. What was
// assigned may be short: brokers do not know at once how many partitions a new
// topic has, and a partition that was left out is read by nobody.
const freshLook = 250 * time.Millisecond

// watchPartitions ends the assignment when the topic is gone or, for the
// leader, when a topic of the group gained partitions. Where changes are not to
// be watched, only the leader looks, until what it assigned can be trusted.
func (a *assignment) watchPartitions(ctx context.Context) {
	watch, began := a.cfg.WatchPartitionChanges, time.Now()
	wait := min(freshLook, a.cfg.PartitionWatchInterval)
	for watch || a.lead != nil && time.Since(began) < electionPatience {
		if sleep(ctx, wait) != nil {
			return
		}
		wait = min(2*wait, a.cfg.PartitionWatchInterval)
		n, err := a.topic.count(ctx)
		if err == nil && watch {
			a.topic.saw(n)
		}
		changed := err == nil && watch && n == 0
		if err == nil && n > 0 && a.lead != nil {
			changed, err = a.lead.changed(ctx, a.scope, n)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.report(-1, err)
		case changed:
			a.log.progress("the partitions of a topic changed, rejoining", a.attrs())
			if n == 0 {
				a.commits.Store(false)
			}
			a.end()
			return
		}
	}
}

func (a *assignment) send(all []commitment) error {
	err := a.sendOffsets(all)
	switch {
	case errors.Is(err, kafka.UnknownTopicID), errors.Is(err, kafka.InconsistentTopicID):
		return errDeleted // one of the same name may be in its place
	case errors.Is(err, kafka.UnknownTopicOrPartition):
		if n, lookupErr := a.topic.count(a.abandoned); lookupErr == nil && n == 0 {
			a.topic.saw(0)
			return errDeleted
		}
	}
	return err
}

// sendOffsets commits as a member of this generation; the broker refuses
// offsets from any other. It goes over a connection of its own, not the
// generation's, on which one request that is not answered holds up heartbeats.
func (a *assignment) sendOffsets(all []commitment) error {
	err := a.exchangeOffsets(all)
	if isRefused(err) && a.secondTry(err) {
		err = a.exchangeOffsets(all)
	}
	if a.dialer.keptOut(err) {
		// Credentials may be being exchanged. The generation's connection was let in.
		offsets := map[int]int64{}
		for _, c := range all {
			offsets[c.id] = c.offset
		}
		return a.gen.CommitOffsets(map[string]map[int]int64{a.cfg.Topic: offsets})
	}
	return err
}

func (a *assignment) exchangeOffsets(all []commitment) error {
	ctx, cancel := context.WithTimeout(a.abandoned, coordinatorTimeout)
	defer cancel()
	var now topicID // for what was not read yet
	if slices.ContainsFunc(all, func(c commitment) bool { return c.from.topic == (topicID{}) }) {
		l, err := a.cluster.leaderOf(ctx, a.cfg.Topic, all[0].id)
		if err != nil && !isElecting(err) {
			return err
		}
		now = l.topic
	}
	res, err := exchangeWithCoordinator(ctx, a.scope, offsetCommit(a.gen, a.cfg.Topic, now, all))
	if err != nil {
		return err
	}
	for _, topic := range res.Topics {
		for _, p := range topic.Partitions {
			if p.ErrorCode != 0 {
				return a.checkCoordinator(kafka.Error(p.ErrorCode))
			}
		}
	}
	return nil
}

// commitFailed is told of commits that nobody waits for.
func (a *assignment) commitFailed(err error) {
	err = fmt.Errorf("commit of %s: %w", a, a.dialer.reason(err))
	switch {
	case isRefused(err):
		a.fail(err)
	case isRebalancing(err):
		a.log.progress("a rebalance began while offsets were committed", a.attrs())
		a.end()
	case isFenced(err):
		// The group went on without this member: what is in flight will be
		// handled again elsewhere. Rejoin at once.
		a.report(-1, err)
		a.commits.Store(false)
		a.end()
	default:
		a.report(-1, err)
	}
}
