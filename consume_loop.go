package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/segmentio/kafka-go"
)

// loop is what one call of Consume, ConsumeWithManualCommit or ConsumeBatch
// works with.
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
	report  *reporter
	fail    func(error) // ends the loop
}

// result is what became of a message.
type result struct {
	outcome  Outcome
	attempts int
	err      error // why it was not handled
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

// interrupted says whether a stop or a rebalance made the handler fail. A
// handler may also use the context it closes over, which is the caller's.
func (l *loop) interrupted(claim *claim, err error) bool {
	return claim.ctx.Err() != nil || (l.caller.Err() != nil && errors.Is(err, l.caller.Err()))
}

// giveUp decides what becomes of a message that failed for good, and writes its
// dead letter. Between two tries of that it calls wait.
func (l *loop) giveUp(claim *claim, wait nextTry, msg *kafka.Message, failed result) result {
	r := failed
	if l.dlq != nil {
		ctx, release := deadLetterContext(claim)
		defer release()
		r.err = l.dlq.write(ctx, func(d time.Duration) error { return wait(ctx, d) }, msg, failed.err, failed.attempts, func(err error) {
			l.stats.errors.Add(1)
			l.report.trouble(cloneMessage(msg), l.consumeError(msg, result{outcome: OutcomeTrouble, attempts: failed.attempts, err: err}))
		})
		dead, ok := errors.AsType[*DeadLetterError](r.err)
		switch {
		case r.err == nil:
			return result{outcome: OutcomeDeadLettered, attempts: failed.attempts, err: failed.err}
		case !ok || !dead.refused:
			r.outcome = outcomeInterrupted
		case l.cfg.OnFailure == FailSkip: // what a loop does by itself is of messages without a dead letter topic
			r.outcome = OutcomeSkipped
		default:
			r.outcome = OutcomeStopping
		}
		return r
	}
	if l.skips() {
		r.outcome = OutcomeSkipped
		return r
	}
	r.outcome = OutcomeStopping
	r.err = &HandlerError{Topic: msg.Topic, Partition: msg.Partition, Offset: msg.Offset, Attempts: failed.attempts, Err: failed.err}
	return r
}

// skips says whether a message that fails for good is skipped where there is no
// dead letter topic.
func (l *loop) skips() bool {
	return l.cfg.OnFailure == FailSkip || (l.cfg.OnFailure == FailDefault && !l.manual)
}

// conclude is where every message leaves the loop: it is counted, logged, told
// to OnError and marked. It is false if nothing may run behind it.
func (l *loop) conclude(claim *claim, c *chunk, msg *kafka.Message, r result) bool {
	switch r.outcome {
	case OutcomeDeadLettered:
		l.stats.errors.Add(1)
		l.log.progress("a message was dead-lettered", append(l.failure(msg, r), slog.String("dlq_topic", l.cfg.DLQTopic)))
		l.tell(claim, msg, r)
	case OutcomeSkipped:
		l.stats.errors.Add(1)
		l.log.fail("a message was skipped", l.failure(msg, r))
		l.tell(claim, msg, r)
	case OutcomeStopping:
		l.stats.errors.Add(1)
		l.log.fail("the loop stops at a message that failed for good", l.failure(msg, r))
		c.partition.stopsHere.Store(true)
		l.fail(r.err) // first, as OnError may not return
		l.tell(claim, msg, r)
		return false
	case outcomeInterrupted:
		if r.err != nil {
			l.stats.errors.Add(1)
			claim.unfinished(msg.Partition, r.err)
		}
		return false
	case outcomeHandled, outcomeFailed, OutcomeTrouble: // the first needs no word; the others are not the end
	}
	c.partition.tracker.handled(c.seeks, msg.Offset)
	l.handled(claim)
	return true
}

// handled asks for a commit when it is time for one.
func (l *loop) handled(claim *claim) {
	if l.manual || l.cfg.CommitInterval <= 0 {
		claim.requestCommit()
	}
}

// tell calls OnError with a message's outcome, and waits for it as long as the
// message's handler could have been waited for.
func (l *loop) tell(claim *claim, msg *kafka.Message, r result) {
	l.report.tell(claim.ctx, cloneMessage(msg), l.consumeError(msg, r))
}

// trouble is told of what is not about one message. It never waits.
func (l *loop) trouble(partition int, err error) {
	msg := kafka.Message{Topic: l.cfg.Topic, Partition: partition, Offset: -1}
	e := l.consumeError(&msg, result{outcome: OutcomeTrouble, err: err})
	e.DLQTopic = ""
	msg.Offset = 0 // as it always was
	l.report.trouble(msg, e)
}

func (l *loop) consumeError(msg *kafka.Message, r result) *ConsumeError {
	return &ConsumeError{
		Topic:     msg.Topic,
		Partition: msg.Partition,
		Offset:    msg.Offset,
		Outcome:   r.outcome,
		Attempts:  r.attempts,
		DLQTopic:  l.cfg.DLQTopic,
		Err:       r.err,
	}
}

// attrs name a message in the log.
func (l *loop) attrs(msg *kafka.Message) logAttrs {
	return attrsOf(msg.Topic, msg.Partition).offset(msg.Offset).group(l.cfg.GroupID)
}

// failure says how a message failed.
func (l *loop) failure(msg *kafka.Message, r result) logAttrs {
	return l.attrs(msg).attempt(r.attempts, l.cfg.Retry.MaxAttempts).err(r.err)
}
