package kafkax

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Close is [Consumer.GracefulShutdown] bounded by shutdown_timeout.
func (c *Consumer) Close() error {
	if c == nil || c.closing == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.ShutdownTimeout)
	defer cancel()
	return c.GracefulShutdown(ctx)
}

// GracefulShutdown stops fetching, waits for the handlers in flight, commits
// what they handled and leaves the group. When ctx ends first, the handlers'
// context ends with [ErrShutdown] as its cause, and half a second later nothing
// is waited for any longer.
//
// After it returns, no handler runs (unless it ignored its context), nothing is
// delivered, and every call says [ErrClosed]. The error is a [ShutdownError]
// naming what was cut off, a [DeadLetterError] for each message that could not
// be dead-lettered, or nil. It may be called twice, and before any start.
func (c *Consumer) GracefulShutdown(ctx context.Context) error {
	if ctx == nil {
		return errNilArgument
	}
	if c == nil || c.closing == nil {
		return nil
	}
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		if c.puller != nil {
			c.puller.markLast()
		}
		close(c.closing)
	}
	e, reader := c.engine, c.reader
	c.reader = nil
	c.mu.Unlock()

	var errs []error
	if e != nil {
		e.stop()
		release := context.AfterFunc(ctx, func() {
			e.cutOff(fmt.Errorf("%w: %w", ErrShutdown, context.Cause(ctx)))
		})
		defer release()
		<-e.done
		errs = append(errs, e.cutOffErrors()...)
	}
	errs = append(errs, c.dlq.close(ctx))
	if reader != nil {
		errs = append(errs, reader.Close())
	}
	c.log.flush(cutGrace)
	return errors.Join(errs...)
}

// RunWithGracefulShutdown calls run and, when ctx ends or the process gets
// SIGINT or SIGTERM, ends run's context and shuts the consumer down within
// shutdown_timeout. A second signal cuts the wait short. It returns what run
// and GracefulShutdown returned; a run that ends with its context's error or
// [ErrClosed] after a stop was asked for counts as nil.
func (c *Consumer) RunWithGracefulShutdown(ctx context.Context, run func(context.Context) error) error {
	if ctx == nil || run == nil {
		return errNilArgument
	}
	if c.IsShutdown() {
		return ErrClosed
	}
	return runWithGracefulShutdown(ctx, c.cfg.ShutdownTimeout, run, c.GracefulShutdown)
}

func runWithGracefulShutdown(ctx context.Context, timeout time.Duration, run, shutdown func(context.Context) error) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	running, stop := context.WithCancel(ctx)
	defer stop()
	result := make(chan error, 1)
	go func() { result <- run(running) }() // ends before this function does, unless it ignores its context

	var err error
	returned := false
	select {
	case err = <-result:
		returned = true
	case <-signals:
	case <-ctx.Done():
	}
	stop()

	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	watched := make(chan struct{})
	defer func() { <-watched }()
	stopWatching := make(chan struct{})
	defer close(stopWatching)
	go func() {
		defer close(watched)
		select {
		case <-signals:
			cancel()
		case <-stopWatching:
		}
	}()

	shutdownErr := shutdown(bound)
	if !returned {
		grace := time.NewTimer(cutGrace)
		defer grace.Stop()
		select {
		case err = <-result:
		case <-grace.C:
			err = &ShutdownError{What: []string{"the function given to RunWithGracefulShutdown did not return"}, Err: ErrShutdown}
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
			err = nil
		}
	}
	return errors.Join(err, shutdownErr)
}
