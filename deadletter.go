package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// deadLetterWriter writes the dead letters of one loop. It is safe for
// concurrent use.
type deadLetterWriter struct {
	group  string
	topic  string // empty if writer has its own
	writer DLQWriter
	log    *loggers
}

// write returns nil when the dead letter is acknowledged. Until then it blocks,
// and so does the message's partition or key: its offset may not be committed.
// Each failed try is logged and passed to failed; as one may be long, the first
// failure within it that a [Producer] meets is logged too. Ctx bounds a try; once
// wait fails, there is no other. A dead letter that is refused for good is
// tried once more without what is not needed to find its origin. Without success
// write returns a [DeadLetterError].
//
// A try that failed may have stored the dead letter all the same: the topic has
// it at least once.
func (w *deadLetterWriter) write(ctx context.Context, wait func(time.Duration) error, msg *kafka.Message, handlerErr error, attempts int, failed func(error)) error {
	failure := &DeadLetterError{Topic: msg.Topic, Partition: msg.Partition, Offset: msg.Offset, DLQTopic: w.topic, HandlerErr: handlerErr}
	if n := timesDeadLettered(msg.Headers); n >= maxDeadLettered {
		failure.WriteErr, failure.refused = fmt.Errorf("%w: %d times, see the headers %s", errDeadLetteredTooOften, n, HeaderDeadLettered), true
		return failure
	}
	var (
		failedAt = time.Now()
		lean     = false
		writeErr error
		written  = false
	)
	trouble := &firstTrouble{say: func(err error) {
		w.log.warn("a dead letter is not stored yet, and its write goes on", w.attrs(msg, 1, err))
	}}
	writing := withTrouble(ctx, trouble.meet)
	// Each try has a dead letter of its own: the writer may change it.
	try := func() {
		dead := leanDeadLetter(msg)
		if !lean {
			dead = deadLetter(msg, w.group, handlerErr, attempts, failedAt)
		}
		dead.Topic = w.topic
		writeErr = trouble.explain(w.try(writing, dead))
		written = writeErr == nil
	}
	cause := deadLetterBackoff.run(wait, func(n int, _ bool) (again bool) {
		if ctx.Err() != nil {
			return false
		}
		try()
		if blamesRecord(writeErr) && !lean && ctx.Err() == nil {
			w.log.warn("a dead letter was refused, and is tried once more without its error", w.attrs(msg, n, writeErr))
			lean = true
			try()
		}
		failure.refused = lean && blamesRecord(writeErr)
		return !written && !failure.refused && ctx.Err() == nil
	}, func(n int, wait time.Duration) {
		err := fmt.Errorf("%s: dead letter not written, try %d: %w", at(msg.Topic, msg.Partition, msg.Offset), n, writeErr)
		trouble.end() // from here on each try has its line
		w.log.fail("a dead letter was not written, to be retried", w.attrs(msg, n, err).next(wait))
		failed(err)
	})
	if written {
		return nil
	}
	if cause == nil && !failure.refused {
		cause = context.Cause(ctx) // it may be why the try failed, and is returned with it
	}
	switch {
	case writeErr == nil:
		writeErr = cause
	case cause != nil && !errors.Is(writeErr, cause):
		writeErr = fmt.Errorf("%w (%w)", writeErr, cause)
	}
	failure.WriteErr = writeErr
	return failure
}

// firstTrouble says the first thing that goes wrong while a try goes on, and keeps
// the last.
type firstTrouble struct {
	say func(error)

	mu   sync.Mutex
	said bool
	last error // of the try under way
}

func (f *firstTrouble) meet(err error) {
	f.mu.Lock()
	first := !f.said
	f.said, f.last = true, err
	f.mu.Unlock()
	if first {
		f.say(err)
	}
}

// end has it say no more.
func (f *firstTrouble) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = true
}

// explain is the error of a try that has ended. One that its time ended may not know
// what was wrong until then.
func (f *firstTrouble) explain(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.last
	f.last = nil
	if err == nil || last == nil {
		return err
	}
	if cause := errors.Unwrap(last); cause != nil && strings.Contains(err.Error(), cause.Error()) {
		return err
	}
	return fmt.Errorf("%w, and before: %w", err, last)
}

// deadLetterGrace is how long a dead letter may hold up a rebalance. All partitions
// of the group stand still meanwhile, and one that is not stored by then tends to
// take as long as its topic is in trouble; the message comes again instead.
const deadLetterGrace = 3 * time.Second

// deadLetterContext is of a write: the handlers', but once a rebalance waits for the
// claim it ends deadLetterGrace later.
func deadLetterContext(c *claim) (ctx context.Context, release func()) {
	return endAfter(c.ctx, c.revoking, deadLetterGrace, fmt.Errorf("%w: the rebalance could not wait any longer for the dead letter", ErrRevoked))
}

func (w *deadLetterWriter) attrs(msg *kafka.Message, try int, err error) logAttrs {
	return append(attrsOf(msg.Topic, msg.Partition).offset(msg.Offset).group(w.group).attempt(try, 0).err(err), slog.String("dlq_topic", w.topic))
}

// deadLetterPatience is how long a try may take to end once its context has: it
// may have succeeded, or say more than the context does.
const deadLetterPatience = 100 * time.Millisecond

// try waits for the writer until ctx ends. It may be the caller's, and do
// whatever it likes.
func (w *deadLetterWriter) try(ctx context.Context, dead kafka.Message) error {
	result := callUser(func() error { return w.writer.WriteMessages(ctx, dead) })
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	if err, ok := within(result, deadLetterPatience); ok {
		return err
	}
	return context.Cause(ctx)
}
