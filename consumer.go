package kafkax

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
)

// Consumer reads one topic: as a member of a group, or a single partition
// without one. It is used through one loop (Consume, ConsumeWithManualCommit,
// ConsumeBatch) at a time, or through FetchMessage and ReadMessage. All methods
// are safe for concurrent use.
type Consumer struct {
	cfg    ConsumerConfig
	log    *loggers
	stats  consumerStats
	dlq    deadLetterTopic
	dialer *dialer // of certificates and credentials; every user dials with a sibling

	closing chan struct{} // closed by the first stop

	mu     sync.Mutex
	closed bool
	engine *engine            // of the loop or the pull API
	puller *puller            // of the pull API
	seek   func([]*partition) // moves the next assignment; may be nil
	reader *kafka.Reader
}

// NewConsumer makes a consumer from the defaults, the file named by
// KAFKAX_CONFIG_FILE, the KAFKAX_* environment and opts, the last of which
// wins. It does not connect; [Consumer.Ping] does. Every problem of the
// configuration is in the error, which matches [ErrInvalidConfig].
func NewConsumer(opts ...ConsumerOption) (*Consumer, error) {
	cfg, err := resolveConsumer(opts)
	if err != nil {
		return nil, err
	}
	return newConsumer(cfg)
}

// MustNewConsumer is [NewConsumer] for program start: it panics with the error.
func MustNewConsumer(opts ...ConsumerOption) *Consumer {
	c, err := NewConsumer(opts...)
	if err != nil {
		panic(err)
	}
	return c
}

func newConsumer(cfg ConsumerConfig) (*Consumer, error) {
	log := newLoggers(cfg.logger, cfg.errorLogger)
	d, err := newDialer(cfg.ConnectionConfig, cfg.MaxWait, log)
	if err != nil {
		return nil, cfg.origin.sourced(err, cfg.keys())
	}
	return &Consumer{cfg: cfg, log: log, dialer: d, closing: make(chan struct{})}, nil
}

// Config returns a copy of the resolved configuration. It prints with secrets
// masked.
func (c *Consumer) Config() ConsumerConfig {
	if c == nil {
		return ConsumerConfig{}
	}
	return c.cfg.clone()
}

// Format prints what the consumer reads. Without it, fmt would walk into the
// configuration and print its secrets.
func (c *Consumer) Format(f fmt.State, _ rune) {
	if c == nil {
		_, _ = io.WriteString(f, "kafkax.Consumer(nil)")
		return
	}
	_, _ = fmt.Fprintf(f, "kafkax.Consumer(topic %s, group %q)", c.cfg.Topic, c.cfg.GroupID)
}

// SetLogger replaces both loggers, also while the consumer runs. Nil stands for
// the default: no progress, and errors to slog's default logger.
func (c *Consumer) SetLogger(logger, errorLogger kafka.Logger) {
	if c == nil || c.log == nil {
		return
	}
	c.log.set(logger, errorLogger)
}

// Ping makes a new connection to each configured broker at once, authenticates
// and makes a round trip, and is nil as soon as one of them has answered. It
// blocks until ctx ends or dial_timeout has passed, whatever the brokers and a
// mechanism do. The error has a [ConnectError] for each broker; after a stop it
// is [ErrClosed].
func (c *Consumer) Ping(ctx context.Context) error {
	if ctx == nil {
		return errNilArgument
	}
	if c.IsShutdown() {
		return ErrClosed
	}
	return c.ping(ctx)
}

func (c *Consumer) ping(ctx context.Context) error {
	d := c.dialer.sibling()
	defer d.close()
	return d.ping(ctx)
}

// IsShutdown says whether Close or GracefulShutdown was called.
func (c *Consumer) IsShutdown() bool {
	if c == nil || c.closing == nil {
		return true // the zero value is good for nothing
	}
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

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
			c.puller.settle()
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

// begin makes e the consumer's only engine.
func (c *Consumer) begin(e *engine) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beginLocked(e)
}

func (c *Consumer) beginLocked(e *engine) error {
	switch {
	case c.closed:
		return ErrClosed
	case c.engine != nil:
		return ErrBusy
	}
	c.engine = e
	return nil
}

// finish makes room for the next engine. After a stop the last one stays, for
// whoever calls GracefulShutdown.
func (c *Consumer) finish(e *engine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.engine == e && !c.closed {
		c.engine = nil
	}
}

// deadLetters returns where a loop's dead letters go; nil for nowhere.
func (c *Consumer) deadLetters(cfg consumeConfig) (*deadLetterWriter, error) {
	writer := cfg.dlqWriter
	if writer == nil {
		if cfg.DLQTopic == "" {
			return nil, nil
		}
		var err error
		if writer, err = c.dlq.open(cfg.ConnectionConfig, c.log); err != nil {
			return nil, err
		}
	}
	return &deadLetterWriter{group: cfg.GroupID, topic: cfg.DLQTopic, writer: writer, log: c.log}, nil
}

// current is the assignment of the moment, or nil.
func (c *Consumer) current() *assignment {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	e := c.engine
	c.mu.Unlock()
	if e == nil {
		return nil
	}
	return e.assigned()
}

// consumerStats are the counters that outlive an assignment.
type consumerStats struct {
	fetches    atomic.Int64
	messages   atomic.Int64
	bytes      atomic.Int64
	rebalances atomic.Int64
	timeouts   atomic.Int64
	errors     atomic.Int64
}

// Stats returns kafka-go's reader statistics: Fetches, Messages, Bytes (of keys
// and values), Rebalances, Timeouts and Errors count since the consumer was
// made and never go back. Lag, QueueLength (messages fetched and not delivered)
// and, without a group, Offset are of the moment. The rest of the counters and
// summaries is not filled.
func (c *Consumer) Stats() kafka.ReaderStats {
	if c == nil {
		return kafka.ReaderStats{Offset: -1, Lag: -1}
	}
	s := kafka.ReaderStats{
		Fetches:    c.stats.fetches.Load(),
		Messages:   c.stats.messages.Load(),
		Bytes:      c.stats.bytes.Load(),
		Rebalances: c.stats.rebalances.Load(),
		Timeouts:   c.stats.timeouts.Load(),
		Errors:     c.stats.errors.Load(),
		Offset:     -1,
		Lag:        c.Lag(),
		MinBytes:   int64(c.cfg.MinBytes),
		MaxBytes:   int64(c.cfg.MaxBytes),
		MaxWait:    c.cfg.MaxWait,
		ClientID:   c.cfg.ClientID,
		Topic:      c.cfg.Topic,
	}
	if a := c.current(); a != nil {
		for _, p := range a.partitions {
			s.QueueLength += p.queued.Load()
			if c.cfg.GroupID == "" {
				s.Offset = p.tracker.position()
			}
		}
	}
	if c.cfg.GroupID == "" {
		s.Partition = fmt.Sprint(c.cfg.Partition)
	}
	return s
}

// Lag is how many offsets of the assigned partitions are not handled yet, by
// what the last fetches said (and every read_lag_interval where a slow handler
// keeps fetches from being made). It is -1 while nothing is assigned or known.
func (c *Consumer) Lag() int64 {
	var sum int64
	lags := c.PartitionLag()
	for _, lag := range lags {
		if lag < 0 {
			return -1
		}
		sum += lag
	}
	if len(lags) == 0 {
		return -1
	}
	return sum
}

// PartitionLag is [Consumer.Lag] by assigned partition; -1 where it is not
// known yet. It is empty while nothing is assigned.
func (c *Consumer) PartitionLag() map[int]int64 {
	lags := map[int]int64{}
	if a := c.current(); a != nil {
		for _, p := range a.partitions {
			lags[p.id] = p.lag()
		}
	}
	return lags
}
