package kafkax

import (
	"context"
	"log/slog"
)

// Consume calls h for each message and commits what is handled every
// commit_interval and at the end. A message that fails for good goes to the
// dead letter topic or, without one, is logged, told to OnError and skipped:
// on_failure changes that.
//
// It blocks until ctx ends, Close or GracefulShutdown is called, or it cannot
// go on. Then it stops fetching, waits for the handlers in flight (at most
// shutdown_timeout), commits and leaves the group. The error is nil after a
// stop that cut nothing off. Otherwise it is, or joins,
//   - a [HandlerError], if on_failure is "stop",
//   - a [DeadLetterError] for each message that was not dead-lettered when the
//     loop stopped, or that the dead letter topic refused for good,
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
	dlq, err := c.deadLetters(cfg)
	if err != nil {
		return err
	}
	report := newReporter(ctx, cfg.onError, c.log)
	defer report.cancel()
	l := &loop{
		caller:  ctx,
		cfg:     cfg,
		log:     c.log,
		stats:   &c.stats,
		handler: h,
		batch:   bh,
		manual:  manual,
		dlq:     dlq,
		slots:   make(chan struct{}, cfg.Concurrency),
		report:  report,
	}
	work := l.workMessages
	if bh != nil {
		work = l.workBatches
	}
	return c.run(ctx, runPlan{
		cfg: &cfg.ConsumerConfig,
		work: func(claim *claim) {
			if start.wait(claim.stopping) {
				work(claim)
			}
		},
		chunks:  func() chan *chunk { return make(chan *chunk) },
		arrive:  start.arrive,
		trouble: l.trouble,
		ended:   func() { report.close(cutGrace) },
	}, func(fail func(error)) {
		l.fail = fail
		if dlq == nil && l.skips() {
			c.log.warn("a message that fails for good will be skipped; set consumer.dlq_topic to keep such messages, or consumer.on_failure to stop at the first",
				logAttrs{slog.String("topic", cfg.Topic)}.group(cfg.GroupID))
		}
	})
}

// deadLetters returns where a loop's dead letters go; nil for nowhere.
func (c *Consumer) deadLetters(cfg consumeConfig) (*deadLetterWriter, error) {
	writer := cfg.dlqWriter
	if writer == nil {
		if cfg.DLQTopic == "" {
			return nil, nil
		}
		var err error
		writer, err = c.dlq.open(func() (DLQWriter, func(context.Context) error, error) {
			return newDeadLetterProducer(cfg.ConnectionConfig, c.log)
		})
		if err != nil {
			return nil, err
		}
	}
	return &deadLetterWriter{group: cfg.GroupID, topic: cfg.DLQTopic, writer: writer, log: c.log}, nil
}
