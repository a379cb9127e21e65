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

// loop takes messages from chunk to mark: handler, retry, dead letter.
type loop struct {
	caller  context.Context // as given by the caller
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

func (l *loop) workPartitions(claim *claim) {
	var partitions sync.WaitGroup
	for _, p := range claim.partitions {
		partitions.Go(func() { l.workPartition(claim, p) })
	}
	partitions.Wait()
}

// workPartition delivers a partition's messages in order to its lanes.
func (l *loop) workPartition(claim *claim, p *partition) {
	ls := newLanes(l.cfg.Ordering, l.slots, claim, func(slot *handlerSlot, it item) bool { return l.handle(claim, slot, it) })
	defer ls.close()
	for {
		var c *chunk
		select {
		case <-claim.stopping.Done():
			return
		case c = <-p.chunks:
		}
		left := new(atomic.Int64)
		left.Store(int64(len(c.messages)))
		if len(c.messages) == 0 {
			c.release()
		}
		skipped := func() { item{chunk: c, left: left}.done() }
		for {
			ls.wait(p)
			if claim.stopping.Err() != nil {
				return
			}
			m := c.next(skipped)
			if m == nil {
				break
			}
			if !ls.deliver(item{m, c, left}) {
				return
			}
		}
		ls.idle()
	}
}

// handle sees one message through. It is false if the partition may not go on
// behind it.
func (l *loop) handle(claim *claim, slot *handlerSlot, it item) bool {
	attempts, err := l.try(claim, slot, it)
	if err != nil {
		slot.release() // a dead letter topic that is down must not keep other partitions from their handlers
		if errors.Is(err, errInterrupted) || !l.giveUp(claim, *it.Message, err, attempts) {
			return false
		}
	}
	it.chunk.partition.tracker.handled(it.chunk.seeks, it.Offset)
	l.handled(claim)
	return true
}

// handled asks for a commit when it is time for one.
func (l *loop) handled(claim *claim) {
	if l.manual || l.cfg.CommitInterval <= 0 {
		claim.requestCommit()
	}
}

// try calls the handler until it succeeds or no attempt is left. The slot is
// held for the first.
func (l *loop) try(claim *claim, slot *handlerSlot, it item) (attempts int, err error) {
	for attempts = 1; ; attempts++ {
		err = l.call(claim.ctx, func(ctx context.Context) error { return l.handler(ctx, *it.Message) })
		if err == nil {
			return attempts, nil
		}
		if l.interrupted(claim, err) {
			return attempts, errInterrupted
		}
		err, permanent := unmark(err)
		if permanent || attempts >= l.cfg.Retry.MaxAttempts {
			return attempts, err
		}
		slot.release()
		l.log.progress("a handler failed, to be retried", l.attrs(it.Message).attempt(attempts, l.cfg.Retry.MaxAttempts).err(err))
		if l.cfg.Retry.wait(claim.stopping, attempts) != nil || !slot.acquire(claim.stopping) {
			return attempts, errInterrupted
		}
	}
}

// interrupted says whether a stop or a rebalance made the handler fail. A
// handler may also use the context it closes over, which is the caller's.
func (l *loop) interrupted(claim *claim, err error) bool {
	return claim.ctx.Err() != nil || (l.caller.Err() != nil && errors.Is(err, l.caller.Err()))
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
func (l *loop) giveUp(claim *claim, msg kafka.Message, err error, attempts int) bool {
	l.stats.errors.Add(1)
	switch {
	case l.dlq != nil:
		handlerErr := err
		failed := func(err error) {
			l.stats.errors.Add(1)
			l.onError(claim.ctx, msg, err)
		}
		err = l.dlq.write(claim.ctx, claim.stopping, &msg, err, attempts, failed)
		dead, refused := errors.AsType[*DeadLetterError](err)
		switch {
		case err == nil:
		case !refused || !dead.refused:
			claim.unfinished(msg.Partition, err)
			return false
		case l.cfg.OnFailure == FailSkip:
			l.log.fail("a message was skipped", l.attrs(&msg).attempt(attempts, l.cfg.Retry.MaxAttempts).err(err))
			l.onError(claim.ctx, msg, err)
			return true
		default:
			l.onError(claim.ctx, msg, err)
			l.fail(err)
			return false
		}
		l.log.progress("a message was dead-lettered", append(l.attrs(&msg).attempt(attempts, l.cfg.Retry.MaxAttempts).err(handlerErr), slog.String("dlq_topic", l.cfg.DLQTopic)))
		l.onError(claim.ctx, msg, handlerErr)
		return true

	case l.skips():
		if l.cfg.onError == nil {
			l.log.fail("a message was skipped", l.attrs(&msg).attempt(attempts, l.cfg.Retry.MaxAttempts).err(err))
		}
		l.onError(claim.ctx, msg, err)
		return true

	default:
		l.onError(claim.ctx, msg, err)
		l.fail(&HandlerError{Topic: msg.Topic, Partition: msg.Partition, Offset: msg.Offset, Attempts: attempts, Err: err})
		return false
	}
}

func (l *loop) skips() bool {
	return l.cfg.OnFailure == FailSkip || (l.cfg.OnFailure == FailDefault && !l.manual)
}

// trouble is told of what is not about one message.
func (l *loop) trouble(partition int, err error) {
	l.onError(context.Background(), kafka.Message{Topic: l.cfg.Topic, Partition: partition}, err)
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
