package kafkax

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// stopGrace is how long a stop that ran out of time still waits for what it cut
// off to fail. Everything does so at once, a stuck completion callback apart.
const stopGrace = time.Second

// Close stops accepting messages, sends what was accepted, async messages
// included, and closes the connections. It blocks until that is done, at most
// shutdown_timeout and a second; then it returns a [ShutdownError] that says
// what was cut off. Twice is safe, and so is Close while others send.
//
// It must not be called from a completion callback, which it waits for.
func (p *Producer) Close() error {
	if !p.made() {
		return nil
	}
	timeout := p.cfg.ShutdownTimeout
	ctx, cancel := context.WithTimeoutCause(context.Background(), timeout,
		fmt.Errorf("shutdown_timeout of %s passed: %w", timeout, context.DeadlineExceeded))
	defer cancel()
	return p.GracefulShutdown(ctx)
}

// GracefulShutdown is [Producer.Close] with ctx as the bound in place of
// shutdown_timeout. When ctx ends, what is in flight fails at once, and sends
// that wait for it return: with [ErrOutcomeUnknown] where it may have reached
// the log, else with [ErrClosed].
func (p *Producer) GracefulShutdown(ctx context.Context) error {
	if ctx == nil {
		return errNilArgument
	}
	if !p.made() {
		return nil
	}
	p.startStop()

	select {
	case <-p.flushed:
		return p.cutOff()
	case <-ctx.Done():
	}

	p.cut(ctx)

	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-p.flushed:
	case <-grace.C:
		p.giveUp()
	}
	return p.cutOff()
}

// cut makes what is in flight fail, and from now on counts it.
func (p *Producer) cut(ctx context.Context) {
	why := context.Cause(ctx)
	if !errors.Is(why, ctx.Err()) {
		why = fmt.Errorf("%w: %w", ctx.Err(), why)
	}
	p.mu.Lock()
	if p.why == nil {
		p.why, p.lost = why, make(map[string]int)
	}
	p.mu.Unlock()
	p.disconnect()
}

// startStop refuses what comes from now on and begins to flush. Its goroutine
// ends with flushed, which every stop waits for.
func (p *Producer) startStop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.buffer.Close()

	go func() {
		defer close(p.flushed)
		// The Writer's Close must not meet a WriteMessages: a partition it
		// then adds is never closed, and Close waits for it for ever.
		p.handovers.Wait()
		_ = p.writer.Close() // Neither has an error to return.
		_ = p.plain.Close()
		p.disconnect()
		p.log.flush(stopGrace)
	}()
}

// cutOff is what a stop returns: nil unless one ran out of time and that cost
// something.
func (p *Producer) cutOff() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	what := make([]string, 0, len(p.lost)+1)
	for _, place := range slices.Sorted(maps.Keys(p.lost)) {
		what = append(what, fmt.Sprintf("%s: %d message(s) not acknowledged", place, p.lost[place]))
	}
	select {
	case <-p.flushed:
	default:
		what = append(what, "messages in flight: no outcome yet; a completion callback, or a WriteMessages of Writer, has not returned")
	}
	if len(what) == 0 {
		return nil
	}
	return &ShutdownError{What: what, Err: p.why}
}

// noteLost counts messages that failed because a stop ran out of time.
func (p *Producer) noteLost(place string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost != nil {
		p.lost[place] += n
	}
}
