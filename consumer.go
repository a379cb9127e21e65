package kafkax

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/segmentio/kafka-go"
)

// Consumer reads one topic: as a member of a group, or a single partition
// without one. It is used through one loop (Consume, ConsumeWithManualCommit,
// ConsumeBatch) at a time, or through FetchMessage and ReadMessage. All methods
// are safe for concurrent use.
//
// The constructor starts nothing in the background. A loop joins the group, connects
// and starts its goroutines when it is called, and ends them before it returns. The
// first FetchMessage or ReadMessage does the same for all that follow: the
// membership and the fetching go on between calls until Close.
type Consumer struct {
	cfg    ConsumerConfig
	log    *loggers
	stats  consumerStats
	dlq    ownedWriter
	dialer *dialer // of certificates and credentials; every user dials with a sibling

	closing chan struct{} // closed by the first stop

	mu     sync.Mutex
	stop   *consumerStop      // nil before the first stop
	engine *engine            // of the loop or the pull API
	puller *puller            // of the pull API
	seek   func([]*partition) // moves the next assignment; may be nil
	kept   map[int]int64      // where partitions of the last assignment were moved in vain; may be nil
	reader *ownedReader       // nil before Reader is called
}

// consumerStop is the one stop of a consumer, which every call of
// GracefulShutdown waits for.
type consumerStop struct {
	cut    context.Context         // ends when the stop may wait no longer
	cutOff context.CancelCauseFunc // ends cut
	done   chan struct{}           // closed when nothing is left
	err    error                   // what was cut off; to be read after done
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
		return nil, cfg.sources.sourced(err, cfg.keys())
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

// String says what the consumer reads.
func (c *Consumer) String() string {
	switch {
	case c == nil:
		return "kafkax.Consumer(nil)"
	case c.cfg.GroupID == "":
		return fmt.Sprintf("kafkax.Consumer(topic %s, partition %d)", c.cfg.Topic, c.cfg.Partition)
	}
	return fmt.Sprintf("kafkax.Consumer(topic %s, group %q)", c.cfg.Topic, c.cfg.GroupID)
}

// Format prints String for every verb, where fmt would print every field.
func (c *Consumer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

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

// begin makes e the consumer's only engine.
func (c *Consumer) begin(e *engine) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beginLocked(e)
}

func (c *Consumer) beginLocked(e *engine) error {
	switch {
	case c.stop != nil:
		return ErrClosed
	case c.engine != nil, c.reader.hasGroup():
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
	if c.engine == e && c.stop == nil {
		c.engine = nil
	}
}

// newEngine makes an engine over connections of its own.
func (c *Consumer) newEngine(ctx context.Context, plan runPlan) *engine {
	return newEngine(ctx, c.dialer.sibling(), c.log, &c.stats, c, plan)
}

// run has an engine work by plan, as the consumer's only one, until it ends.
// Before it begins, begun is given what ends it with an error.
func (c *Consumer) run(ctx context.Context, plan runPlan, begun func(fail func(error))) error {
	e := c.newEngine(ctx, plan)
	if err := c.begin(e); err != nil {
		e.discard()
		return err
	}
	defer c.finish(e)
	begun(e.fail)
	return e.run()
}

// running is the engine of the moment, or nil.
func (c *Consumer) running() *engine {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.engine
}

// claimed is the claim of the moment, or nil.
func (c *Consumer) claimed() *claim {
	if e := c.running(); e != nil {
		return e.claimed()
	}
	return nil
}
