package kafkax

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// reporter calls the function of WithOnError. That may block, panic, end its
// goroutine or call back into the consumer, so each call has a goroutine of its
// own: what waits for it does so only as long as it may, and then goes on.
type reporter struct {
	onError func(ctx context.Context, msg kafka.Message, err error) // nil: nobody is told
	log     *loggers

	ctx    context.Context // of the calls that are not about a message's outcome
	cancel context.CancelFunc

	mu      sync.Mutex
	queue   []report
	telling chan struct{} // closed when queue is empty again; nil while it is
	lost    int           // reports for which there was no room
}

type report struct {
	msg kafka.Message
	err *ConsumeError
}

// maxReports is how many reports wait for a function that does not return.
const maxReports = 100

func newReporter(caller context.Context, onError func(context.Context, kafka.Message, error), log *loggers) *reporter {
	r := &reporter{onError: onError, log: log}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(caller))
	return r
}

// tell reports a message's outcome, and waits until the function has returned or
// ctx ends.
func (r *reporter) tell(ctx context.Context, msg kafka.Message, err *ConsumeError) {
	if r.onError != nil {
		r.call(ctx, report{msg, err})
	}
}

// trouble reports what the loop deals with by itself. It never waits.
func (r *reporter) trouble(msg kafka.Message, err *ConsumeError) {
	if r.onError == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) >= maxReports {
		r.lost++
		return
	}
	r.queue = append(r.queue, report{msg, err})
	if r.telling == nil {
		r.telling = make(chan struct{})
		go r.tellQueued() // ends when nothing is left to tell; close waits for it
	}
}

func (r *reporter) tellQueued() {
	for {
		r.mu.Lock()
		if len(r.queue) == 0 || r.ctx.Err() != nil {
			close(r.telling)
			r.telling = nil
			r.mu.Unlock()
			return
		}
		next, lost := r.queue[0], r.lost
		r.queue, r.lost = r.queue[1:], 0
		r.mu.Unlock()
		if lost > 0 {
			r.log.warn("OnError does not keep up and was not told of some trouble", logAttrs{slog.String("topic", next.err.Topic), slog.Int("lost", lost)})
		}
		r.call(r.ctx, next)
	}
}

// call waits until the function has returned or ctx ends.
func (r *reporter) call(ctx context.Context, what report) {
	returned := callUser(func() error {
		r.onError(ctx, what.msg, what.err)
		return nil
	})
	attrs := attrsOf(what.err.Topic, what.err.Partition).offset(what.err.Offset)
	select {
	case err := <-returned:
		if err != nil {
			r.log.fail("OnError failed", attrs.err(err))
		}
	case <-ctx.Done():
		r.log.warn("OnError did not return in time and is not waited for", append(attrs, slog.String("outcome", string(what.err.Outcome))))
	}
}

// close waits until all is told, at most for bound, and says what was not.
func (r *reporter) close(bound time.Duration) {
	defer r.cancel()
	r.mu.Lock()
	telling := r.telling
	r.mu.Unlock()
	if telling == nil {
		return
	}
	if _, ok := within(telling, bound); !ok {
		r.cancel()
		<-telling
	}
	r.mu.Lock()
	left := len(r.queue) + r.lost
	r.mu.Unlock()
	if left > 0 {
		r.log.warn("OnError was not told of some trouble, as the loop has ended", logAttrs{slog.Int("lost", left)})
	}
}
