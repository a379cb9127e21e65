package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/segmentio/kafka-go"
)

// Handler handles one message. Nil means it is handled and may be committed;
// an error is retried, then dead-lettered or dealt with by the failure policy;
// [Permanent] skips the retries. A panic counts as an error.
//
// The context carries the values of the one given to the loop. It ends when
// handler_timeout has passed, or when a stop or a rebalance can wait no longer;
// context.Cause says which. An error returned after the latter is no failure:
// the message is not committed and comes again.
type Handler func(ctx context.Context, msg kafka.Message) error

// BatchHandler handles several messages, which may be of several partitions;
// those of one partition are in order. It may return a [BatchError] to name the
// messages that failed; any other error is of the whole batch. The slice is the
// handler's only until it returns.
type BatchHandler func(ctx context.Context, msgs []kafka.Message) error

// Consume calls h for each message and commits what is handled every
// commit_interval and at the end. A message that fails for good goes to the
// dead letter topic, or is reported to OnError (or the log) and skipped:
// on_failure changes that.
//
// It blocks until ctx ends, Close or GracefulShutdown is called, or it cannot
// go on. Then it stops fetching, waits for the handlers in flight (at most
// shutdown_timeout), commits and leaves the group. The error is nil after a
// stop that cut nothing off. Otherwise it is, or joins,
//   - a [HandlerError], if on_failure is "stop",
//   - a [DeadLetterError] for each message that was not dead-lettered when the
//     loop stopped,
//   - a [ShutdownError], if handlers or the last commit did not end in time,
//   - one matching [ErrAuthentication], [ErrAuthorization] or
//     [ErrOffsetOutOfRange],
//   - one matching [ErrInvalidConfig] for bad options, [ErrBusy] or [ErrClosed].
//
// Everything else, like an unreachable cluster, is logged, counted, told to
// OnError and tried again for ever.
func (c *Consumer) Consume(ctx context.Context, h Handler, opts ...ConsumeOption) error {
	return c.consume(ctx, h, nil, false, nil, opts)
}

// ConsumeWithManualCommit is [Consumer.Consume] with a commit asked for after
// each message, and a stop instead of a skip when one fails for good: it
// returns a [HandlerError] and commits nothing from that message on. It does
// not wait for a commit before it handles the next message; those handled
// while one is under way share the next.
func (c *Consumer) ConsumeWithManualCommit(ctx context.Context, h Handler, opts ...ConsumeOption) error {
	return c.consume(ctx, h, nil, true, nil, opts)
}

// ConsumeBatch calls h with up to batch_size messages, or with fewer once
// batch_timeout has passed since the first of them arrived, and asks for a
// commit after each batch. With a [BatchError] only the messages it names are
// retried and dead-lettered. A message that fails for good without a dead letter
// topic stops the loop with a [HandlerError], as in ConsumeWithManualCommit.
func (c *Consumer) ConsumeBatch(ctx context.Context, h BatchHandler, opts ...ConsumeOption) error {
	return c.consume(ctx, nil, h, true, nil, opts)
}

func (c *Consumer) consume(ctx context.Context, h Handler, bh BatchHandler, manual bool, start *startPlace, opts []ConsumeOption) error {
	if ctx == nil || (h == nil && bh == nil) {
		return errNilArgument
	}
	if c.IsShutdown() {
		return ErrClosed
	}
	cfg, err := resolveConsume(c.cfg, loopName(bh != nil, manual), opts)
	if err != nil {
		return err
	}
	l := &loop{
		ctx:     ctx,
		cfg:     cfg,
		log:     c.log,
		stats:   &c.stats,
		handler: h,
		batch:   bh,
		manual:  manual,
		slots:   make(chan struct{}, cfg.Concurrency),
	}
	if l.dlq, err = c.deadLetters(cfg); err != nil {
		return err
	}
	e := newEngine(ctx, c, &cfg.ConsumerConfig)
	l.fail = e.fail
	e.onError = l.onError
	e.work = func(a *assignment) {
		if start.wait(a.stopping) {
			l.work(a)
		}
	}
	e.settled = start.arrive
	e.chunks = func() chan *chunk { return make(chan *chunk) }
	if err := c.begin(e); err != nil {
		e.discard()
		return err
	}
	defer c.finish(e)
	return e.run()
}

// loop takes messages from chunk to mark: handler, retry, dead letter.
type loop struct {
	ctx     context.Context // as given by the caller
	cfg     consumeConfig
	log     *loggers
	stats   *consumerStats
	handler Handler
	batch   BatchHandler
	manual  bool              // ask for a commit after each success
	dlq     *deadLetterWriter // nil without
	slots   chan struct{}     // one a handler that may run at once
	fail    func(error)       // ends the loop
}

func (l *loop) work(a *assignment) {
	if l.batch != nil {
		l.workBatches(a)
		return
	}
	var partitions sync.WaitGroup
	for _, p := range a.partitions {
		partitions.Go(func() { l.workPartition(a, p) })
	}
	partitions.Wait()
}

// item is a message on its way through the loop.
type item struct {
	*kafka.Message
	chunk *chunk
	left  *atomic.Int64 // messages of the chunk that are not done with
}

// done gives the chunk's bytes back with its last message.
func (i item) done() {
	if i.left.Add(-1) == 0 {
		i.chunk.release()
	}
}

// workPartition delivers a partition's messages in order to its lanes. With
// partition order there is a single lane: this goroutine.
func (l *loop) workPartition(a *assignment, p *partition) {
	lanes := l.openLanes(a)
	defer lanes.close()
	for {
		var c *chunk
		select {
		case <-a.stopping.Done():
			return
		case c = <-p.chunks:
		}
		left := new(atomic.Int64)
		left.Store(int64(len(c.messages)))
		if len(c.messages) == 0 {
			c.release()
		}
		for i := range c.messages {
			lanes.wait(p)
			if a.stopping.Err() != nil {
				return
			}
			it := item{&c.messages[i], c, left}
			if !c.deliver(it.Message) {
				it.done() // a seek went elsewhere
				continue
			}
			if !lanes.deliver(it) {
				return
			}
		}
		c.finished()
		lanes.idle()
	}
}

// handle sees one message through. It is false if the partition may not go on
// behind it.
func (l *loop) handle(a *assignment, slot *handlerSlot, it item) bool {
	attempts, err := l.try(a, slot, it)
	if err != nil {
		slot.release() // a dead letter topic that is down must not keep other partitions from their handlers
		if errors.Is(err, errInterrupted) || !l.giveUp(a, *it.Message, err, attempts) {
			return false
		}
	}
	it.chunk.partition.tracker.handled(it.chunk.epoch, it.Offset)
	l.handled(a)
	return true
}

// handled asks for a commit when it is time for one.
func (l *loop) handled(a *assignment) {
	if l.manual || l.cfg.CommitInterval <= 0 {
		a.committer.request()
	}
}

// try calls the handler until it succeeds or no attempt is left. The slot is
// held for the first.
func (l *loop) try(a *assignment, slot *handlerSlot, it item) (attempts int, err error) {
	for attempts = 1; ; attempts++ {
		err = l.call(a.ctx, func(ctx context.Context) error { return l.handler(ctx, *it.Message) })
		if err == nil {
			return attempts, nil
		}
		if l.interrupted(a, err) {
			return attempts, errInterrupted
		}
		err, permanent := unmark(err)
		if permanent || attempts >= l.cfg.Retry.MaxAttempts {
			return attempts, err
		}
		slot.release()
		l.log.progress("a handler failed, to be retried", l.attrs(it.Message).attempt(attempts, l.cfg.Retry.MaxAttempts).err(err))
		if l.cfg.Retry.wait(a.stopping, attempts) != nil || !slot.acquire(a.stopping) {
			return attempts, errInterrupted
		}
	}
}

// interrupted says whether a stop or a rebalance made the handler fail. A
// handler may also use the context it closes over, which is the caller's.
func (l *loop) interrupted(a *assignment, err error) bool {
	return a.ctx.Err() != nil || (l.ctx.Err() != nil && errors.Is(err, l.ctx.Err()))
}

// call runs a handler once, within handler_timeout, and turns a panic into an
// error.
func (l *loop) call(ctx context.Context, h func(context.Context) error) (err error) {
	if l.cfg.HandlerTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, l.cfg.HandlerTimeout, ErrHandlerTimeout)
		defer cancel()
	}
	returned := false
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		} else if !returned {
			// runtime.Goexit ends this goroutine, and nothing can keep it.
			l.fail(errors.New("kafkax: a handler called runtime.Goexit; its partition cannot go on"))
		}
	}()
	err = h(ctx)
	returned = true
	if err != nil && errors.Is(context.Cause(ctx), ErrHandlerTimeout) && !errors.Is(err, ErrHandlerTimeout) {
		err = fmt.Errorf("%w (%v): %w", ErrHandlerTimeout, l.cfg.HandlerTimeout, err)
	}
	return err
}

// giveUp deals with a message that failed for good. It is true if that is as
// good as handled.
func (l *loop) giveUp(a *assignment, msg kafka.Message, err error, attempts int) bool {
	l.stats.errors.Add(1)
	switch {
	case l.dlq != nil:
		failed := func(err error) {
			l.stats.errors.Add(1)
			l.onError(a.ctx, msg, err)
		}
		if err := l.dlq.write(a.ctx, a.stopping, msg, err, attempts, failed); err != nil {
			a.stopped(msg.Partition, err)
			return false
		}
		l.log.progress("a message was dead-lettered", append(l.attrs(&msg).attempt(attempts, l.cfg.Retry.MaxAttempts).err(err), slog.String("dlq_topic", l.cfg.DLQTopic)))
		l.onError(a.ctx, msg, err)
		return true

	case l.skips():
		if l.cfg.onError == nil {
			l.log.fail("a message was skipped", l.attrs(&msg).attempt(attempts, l.cfg.Retry.MaxAttempts).err(err))
		}
		l.onError(a.ctx, msg, err)
		return true

	default:
		l.onError(a.ctx, msg, err)
		l.fail(&HandlerError{Topic: msg.Topic, Partition: msg.Partition, Offset: msg.Offset, Attempts: attempts, Err: err})
		return false
	}
}

func (l *loop) skips() bool {
	return l.cfg.OnFailure == FailSkip || (l.cfg.OnFailure == FailDefault && !l.manual)
}

// onError calls the user's function, which must not take the loop down: neither
// by a panic nor, so on a goroutine of its own, by runtime.Goexit.
func (l *loop) onError(ctx context.Context, msg kafka.Message, err error) {
	if l.cfg.onError == nil {
		return
	}
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		defer func() {
			if v := recover(); v != nil {
				l.log.fail("OnError panicked", l.attrs(&msg).err(&PanicError{Value: v, Stack: debug.Stack()}))
			}
		}()
		l.cfg.onError(ctx, msg, err)
	}()
	<-returned
}

func (l *loop) attrs(msg *kafka.Message) logAttrs {
	return attrsOf(msg.Topic, msg.Partition).offset(msg.Offset).group(l.cfg.GroupID)
}
