package kafkax

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
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

// consumerStopGrace is how long a stop that ran out of time still waits for what
// it cut off to end. Everything does so within cutGrace, or a second for a dead
// letter that is being written; what does not is code of the caller's.
const consumerStopGrace = 3 * time.Second

// GracefulShutdown stops fetching, waits for the handlers in flight, commits
// what they handled and leaves the group. A message that waits for its next try is
// tried until it is handled if messages behind it are, and else left. When ctx
// ends first, the handlers' context ends with [ErrShutdown] as its cause, and half
// a second later nothing is waited for any longer. However the caller's functions
// behave, it returns within three seconds of ctx's end.
//
// After it returns, no handler runs (unless it ignored its context), nothing is
// delivered, and every call says [ErrClosed]. The error is a [ShutdownError]
// naming what was cut off and what comes again, a [DeadLetterError] for each
// message that could not be dead-lettered, or nil. It may be called twice, also
// while the first call waits: then both wait, each cuts off when its own context
// ends, and the result is the same. It may be called before any start.
//
// A handler or callback that calls it waits for itself: until ctx ends.
func (c *Consumer) GracefulShutdown(ctx context.Context) error {
	if ctx == nil {
		return errNilArgument
	}
	if c == nil || c.closing == nil {
		return nil
	}
	s := c.beginStop()
	cutOff := func() { s.cutOff(fmt.Errorf("%w: %w", ErrShutdown, context.Cause(ctx))) }
	defer context.AfterFunc(ctx, cutOff)()
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
	}
	if _, ok := within(s.done, consumerStopGrace); !ok {
		return &ShutdownError{What: []string{"the consumer's own goroutines: a callback has not returned"}, Err: context.Cause(s.cut)}
	}
	return s.err
}

// beginStop begins the stop on the first call and returns it on every one.
func (c *Consumer) beginStop() *consumerStop {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop == nil {
		s := &consumerStop{done: make(chan struct{})}
		s.cut, s.cutOff = context.WithCancelCause(context.Background())
		c.stop = s
		close(c.closing)
		go c.finishStop(s, c.engine, c.reader) // every GracefulShutdown waits for it
	}
	return c.stop
}

func (c *Consumer) finishStop(s *consumerStop, e *engine, reader *ownedReader) {
	defer close(s.done)
	defer s.cutOff(nil)
	readerClosed := make(chan error, 1)
	go func() { readerClosed <- reader.close(s.cut) }()

	var errs []error
	if e != nil {
		e.stop()
		release := context.AfterFunc(s.cut, func() { e.cutOff(context.Cause(s.cut)) })
		<-e.done
		release()
		errs = append(errs, e.cutOffErrors()...)
	}
	s.err = errors.Join(append(errs, c.dlq.close(s.cut), <-readerClosed)...)
	c.log.flush(cutGrace)
}

// RunWithGracefulShutdown calls run and, when ctx ends or the process gets
// SIGINT or SIGTERM, ends run's context and shuts the consumer down within
// shutdown_timeout. A second signal cuts the wait short. It returns what run
// and GracefulShutdown returned; a run that ends with its context's error or
// [ErrClosed] after a stop was asked for (by ctx, also by its deadline, a signal,
// or a Close elsewhere) counts as nil. A run that panics has failed with a
// [PanicError]: the consumer is shut down all the same.
func (c *Consumer) RunWithGracefulShutdown(ctx context.Context, run func(context.Context) error) error {
	if ctx == nil || run == nil {
		return errNilArgument
	}
	if c.IsShutdown() {
		return ErrClosed
	}
	return runWithGracefulShutdown(ctx, c.cfg.ShutdownTimeout, run, c)
}

// stoppable is a Consumer or a MultiTopicConsumer.
type stoppable interface {
	GracefulShutdown(ctx context.Context) error
	IsShutdown() bool
}

func runWithGracefulShutdown(ctx context.Context, timeout time.Duration, run func(context.Context) error, c stoppable) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	running, stop := context.WithCancel(ctx)
	defer stop()
	result := callUser(func() error { return run(running) })

	var err error
	returned, asked := false, false
	select {
	case err = <-result:
		returned = true
		select { // what ended run may have come here too
		case <-signals:
			asked = true
		default:
		}
	case <-signals:
		asked = true
	case <-ctx.Done():
	}
	asked = asked || ctx.Err() != nil || c.IsShutdown()
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

	shutdownErr := c.GracefulShutdown(bound)
	if !returned {
		var ok bool
		if err, ok = within(result, cutGrace); !ok {
			err = &ShutdownError{What: []string{"the function given to RunWithGracefulShutdown did not return"}, Err: ErrShutdown}
		}
	}
	if asked {
		err = withoutStop(err, running.Err(), ctx.Err(), ErrClosed)
	}
	// What was cut off is in the errors of both, once is enough.
	for _, one := range unjoin(shutdownErr) {
		if !errors.Is(err, one) {
			err = errors.Join(err, one)
		}
	}
	return err
}

// withoutStop is what a run's error says beside that it was stopped. What a loop
// reports of a message or of a stop stays, whatever ended that.
func withoutStop(err error, stopped ...error) error {
	parts := unjoin(err)
	kept := slices.DeleteFunc(slices.Clone(parts), func(part error) bool {
		_, handler := errors.AsType[*HandlerError](part)
		_, deadLetter := errors.AsType[*DeadLetterError](part)
		_, shutdown := errors.AsType[*ShutdownError](part)
		return !handler && !deadLetter && !shutdown &&
			slices.ContainsFunc(stopped, func(s error) bool { return s != nil && errors.Is(part, s) })
	})
	if len(kept) == len(parts) {
		return err
	}
	return errors.Join(kept...)
}
