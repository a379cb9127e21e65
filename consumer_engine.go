package kafkax

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// engine is one run of a consumer: it finds out which partitions to read, has
// them fetched and worked on, and hands them back without a message handled
// twice or a commit lost. The loops and the pull API differ only in work.
type engine struct {
	*scope
	topic *topicState
	plan  runPlan
	seeks seeker

	transport *kafka.Transport

	stop    context.CancelFunc      // asks run to end
	unlink  func() bool             // from the caller's context, which also asks it
	cutOff  context.CancelCauseFunc // ends cut
	abandon context.CancelFunc      // ends abandoned
	done    chan struct{}           // closed when run has returned

	mu      sync.Mutex
	errs    []error     // why run ends, apart from being asked to
	current *assignment // nil between assignments
}

// runPlan is what differs from run to run.
type runPlan struct {
	cfg *ConsumerConfig
	// work handles a claim's chunks. It returns soon after the claim's end, as
	// soon as nothing it delivered is in flight.
	work func(*claim)
	// chunks makes the queue of a partition.
	chunks func() chan *chunk
	// arrive is the scope's; nil for nobody.
	arrive func()
	// trouble is the scope's; nil for nobody.
	trouble func(partition int, err error)
	// ended is called when all else has ended, and is waited for; nil for nobody.
	ended func()
}

// seeker knows where a caller wants the partitions. One that is moved while it
// belongs to the engine's assignment is the assignment's business.
type seeker interface {
	// takeSeek moves partitions that were just assigned.
	takeSeek(partitions []*partition)
	// keepSeek calls gone, after which the assignment is the engine's no more, and
	// keeps the moves that the group has not stored for the next one.
	keepSeek(partitions []*partition, gone func())
}

// newEngine makes an engine that ends with ctx. Handlers see ctx's values and
// outlive its end by shutdown_timeout at most.
func newEngine(ctx context.Context, d *dialer, log *loggers, stats *consumerStats, seeks seeker, plan runPlan) *engine {
	s := &scope{
		cfg:     plan.cfg,
		log:     log,
		stats:   stats,
		dialer:  d,
		arrive:  func() {},
		trouble: func(int, error) {},
	}
	if plan.arrive != nil {
		s.arrive = plan.arrive
	}
	if plan.trouble != nil {
		s.trouble = plan.trouble
	}
	e := &engine{scope: s, topic: newTopicState(s), plan: plan, seeks: seeks, done: make(chan struct{})}
	s.fail = e.failWith
	e.transport = d.transport(s.cfg.Topic)
	s.client = &kafka.Client{Addr: d.addr(), Transport: e.transport}
	s.cluster = newCluster(d)
	// kafka-go puts a context's deadline on its connections, where it fires a
	// moment before the context ends: that would look like a broker's failure.
	s.ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.unlink = context.AfterFunc(ctx, e.stop)
	s.cut, e.cutOff = context.WithCancelCause(context.WithoutCancel(ctx))
	s.abandoned, e.abandon = context.WithCancel(context.WithoutCancel(ctx))
	return e
}

// run blocks until it was asked to stop and everything is drained, or until it
// cannot go on. The error is nil if nothing was cut off.
func (e *engine) run() error {
	defer close(e.done)
	if e.plan.ended != nil {
		defer e.plan.ended()
	}
	defer e.stop()
	defer e.unlink()
	defer e.dialer.close()
	var bound sync.WaitGroup
	defer bound.Wait()
	ended := make(chan struct{})
	defer close(ended)
	bound.Go(func() { e.bound(ended) })
	defer e.transport.CloseIdleConnections()
	defer e.cluster.close()
	if e.cfg.GroupID == "" {
		e.runPartition()
	} else {
		runGroup(e.scope, e.topic, e.workOn)
	}
	return e.err()
}

// bound ends what the run waits for after it was asked to end: the handlers when
// shutdown_timeout has passed or GracefulShutdown cuts them off, and everything
// cutGrace later.
func (e *engine) bound(ended <-chan struct{}) {
	select {
	case <-e.ctx.Done():
	case <-ended:
		return
	}
	timeout := time.NewTimer(e.cfg.ShutdownTimeout)
	defer timeout.Stop()
	select {
	case <-timeout.C:
		e.cutOff(fmt.Errorf("%w: shutdown_timeout %v passed", ErrShutdown, e.cfg.ShutdownTimeout))
	case <-e.cut.Done():
	case <-ended:
		return
	}
	grace := time.NewTimer(cutGrace)
	defer grace.Stop()
	select {
	case <-grace.C:
		e.abandon()
	case <-ended:
	}
}

// runPartition is an assignment of one partition that nobody revokes.
func (e *engine) runPartition() {
	if !e.topic.await(e.ctx) {
		return
	}
	e.arrive()
	e.workOn(e.ctx, e.ctx, []start{{e.cfg.Partition, e.cfg.StartOffset.kafka(), unknownOrigin}}, nil, nil)
}

// workOn has an assignment worked on until ctx or revoked ends.
func (e *engine) workOn(ctx, revoked context.Context, starts []start, gen *kafka.Generation, lead *leadership) {
	a := newAssignment(e.scope, e.topic, starts, gen, e.plan.chunks)
	a.lead = lead
	e.setCurrent(a)
	e.seeks.takeSeek(a.partitions) // not before: what is moved in between would be moved for the next one
	defer e.seeks.keepSeek(a.partitions, func() { e.setCurrent(nil) })
	a.run(ctx, revoked, e.plan.work)
}

// err is why run ended; nil if it was asked to and nothing was cut off.
func (e *engine) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return errors.Join(e.errs...)
}

// cutOffErrors are those of its errors that a stop caused.
func (e *engine) cutOffErrors() []error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.errs), func(err error) bool {
		var cut *ShutdownError
		var dead *DeadLetterError
		return !errors.As(err, &cut) && !errors.As(err, &dead)
	})
}

// discard is instead of run.
func (e *engine) discard() {
	e.unlink()
	e.stop()
	e.transport.CloseIdleConnections()
	e.dialer.close()
	close(e.done)
}

// failWith ends run with an error.
func (e *engine) failWith(err error) {
	e.mu.Lock()
	e.errs = append(e.errs, err)
	e.mu.Unlock()
	e.stop()
}

// over says whether run has returned.
func (e *engine) over() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

func (e *engine) setCurrent(a *assignment) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current = a
}

// claimed is the claim of the moment, or nil.
func (e *engine) claimed() *claim {
	if a := e.assigned(); a != nil {
		return &a.claim
	}
	return nil
}

// assigned is the assignment of the moment, or nil.
func (e *engine) assigned() *assignment {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current
}

// ends asks for one end of each assigned partition's log; none without an
// assignment.
func (e *engine) ends(ctx context.Context, which int64) (map[int]int64, error) {
	claim := e.claimed()
	if claim == nil {
		return nil, nil
	}
	ends, err := e.endsOf(ctx, claim.partitions, which)
	if err != nil {
		return nil, fmt.Errorf("topic %s: ends of the log: %w", e.cfg.Topic, e.dialer.reason(err))
	}
	return ends, nil
}

// offsetsAt asks for the first offset that is not older than t, of every
// partition; one whose messages are all older gives its end.
func (e *engine) offsetsAt(ctx context.Context, t time.Time) (map[int]int64, error) {
	n, err := e.topic.count(ctx)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, kafka.UnknownTopicOrPartition
	}
	times, ends := make([]kafka.OffsetRequest, n), make([]kafka.OffsetRequest, n)
	for id := range n {
		// kafka-go's TimeOffsetOf counts nanoseconds, and overflows in 2262.
		times[id] = kafka.OffsetRequest{Partition: id, Timestamp: t.UnixMilli()}
		ends[id] = kafka.LastOffsetOf(id)
	}
	offsets, err := listOffsets(ctx, e.client, e.cfg.Topic, kafka.ReadUncommitted, ends)
	if err != nil {
		return nil, err
	}
	found, err := listOffsets(ctx, e.client, e.cfg.Topic, kafka.ReadUncommitted, times)
	maps.Copy(offsets, found)
	return offsets, err
}
