package kafkax

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// engine is one run of a consumer: it finds out which partitions to read, has
// them fetched and worked on, and hands them back without a message handled
// twice or a commit lost. The loops and the pull API differ only in work.
type engine struct {
	cfg       *ConsumerConfig
	log       *loggers
	stats     *consumerStats
	dialer    *dialer
	client    *kafka.Client
	transport *kafka.Transport

	// work handles an assignment's chunks. It returns soon after a.stopping
	// ended, as soon as nothing it delivered is in flight.
	work func(a *assignment)
	// chunks makes the queue of a partition.
	chunks func() chan *chunk
	// seek moves partitions that were just assigned to where a caller wants
	// them.
	seek func([]*partition)
	// settled is called when this run has got as far as it can for now: it has
	// an assignment, or its topic is missing, or something failed.
	settled func()
	// onError is told of everything that is not about one message.
	onError func(ctx context.Context, msg kafka.Message, err error)

	ctx       context.Context         // ends when run is asked to
	stop      context.CancelFunc      // asks run to end
	release   func() bool             // of the caller's context, which also asks it
	done      chan struct{}           // closed when run has returned
	cut       context.Context         // ends when a stop may not wait for handlers any longer
	cutOff    context.CancelCauseFunc // ends cut
	abandoned context.Context         // ends cutGrace later: a stop may not wait for anything

	mu         sync.Mutex
	errs       []error      // why run ends, apart from being asked to
	current    *assignment  // nil between assignments
	partitions int          // of the topic, as last seen; 0 when it is missing
	initial    int          // of them, how many are older than this run; -1 before the first look
	placed     map[int]bool // partitions that had a position in this run
	lead       *leadership  // of the generation being joined
}

// cutGrace is how long handlers whose context was ended, and the last commit,
// have to come to an end.
const cutGrace = 500 * time.Millisecond

// newEngine makes an engine that ends with ctx. Handlers see ctx's values and
// outlive its end by shutdown_timeout at most.
func newEngine(ctx context.Context, c *Consumer, cfg *ConsumerConfig) *engine {
	d := c.dialer.sibling()
	e := &engine{
		cfg:     cfg,
		log:     c.log,
		stats:   &c.stats,
		dialer:  d,
		seek:    c.takeSeek,
		settled: func() {},
		onError: func(context.Context, kafka.Message, error) {},
		done:    make(chan struct{}),
		initial: -1,
		placed:  map[int]bool{},
	}
	e.transport = d.transport(cfg.Topic)
	e.client = &kafka.Client{Addr: d.addr(), Transport: e.transport}
	// kafka-go puts a context's deadline on its connections, where it fires a
	// moment before the context ends: that would look like a broker's failure.
	e.ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.release = context.AfterFunc(ctx, e.stop)
	e.cut, e.cutOff = context.WithCancelCause(context.WithoutCancel(ctx))
	abandoned, abandon := context.WithCancel(context.WithoutCancel(ctx))
	e.abandoned = abandoned
	context.AfterFunc(e.cut, func() { time.AfterFunc(cutGrace, abandon) })
	return e
}

// run blocks until it was asked to stop and everything is drained, or until it
// cannot go on. The error is nil if nothing was cut off.
func (e *engine) run() error {
	defer close(e.done)
	defer e.stop()
	defer e.release()
	ctx := e.ctx
	defer e.dialer.close()
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(e.cfg.ShutdownTimeout, func() {
			e.cutOff(fmt.Errorf("%w: shutdown_timeout %v passed", ErrShutdown, e.cfg.ShutdownTimeout))
		})
	})()
	defer e.transport.CloseIdleConnections()
	if e.cfg.GroupID == "" {
		e.runPartition(ctx)
	} else {
		e.runGroup(ctx)
	}
	return e.err()
}

// err is why run ended; nil if it was asked to and nothing was cut off.
func (e *engine) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return errors.Join(e.errs...)
}

// cutOffErrors are those of its errors that a stop caused.
func (e *engine) cutOffErrors() []error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.errs), func(err error) bool {
		var cut *ShutdownError
		var dead *DeadLetterError
		return !errors.As(err, &cut) && !errors.As(err, &dead)
	})
}

// discard is instead of run.
func (e *engine) discard() {
	e.release()
	e.stop()
	e.transport.CloseIdleConnections()
	e.dialer.close()
	close(e.done)
}

// fail ends run with an error.
func (e *engine) fail(err error) {
	e.mu.Lock()
	e.errs = append(e.errs, err)
	e.mu.Unlock()
	e.stop()
}

// report makes a problem visible that the engine deals with by itself.
func (e *engine) report(partition int, err error) {
	e.stats.errors.Add(1)
	attrs := attrsOf(e.cfg.Topic, partition)
	if partition < 0 {
		attrs = attrs[:1] // about the topic
	}
	e.log.fail("consuming is in trouble", attrs.group(e.cfg.GroupID).err(err))
	e.onError(context.Background(), kafka.Message{Topic: e.cfg.Topic, Partition: partition}, err)
}

func (e *engine) reportPartition(p *partition, err error) {
	e.report(p.id, e.dialer.explain(err))
}

// runPartition is an assignment of one partition that nobody revokes.
func (e *engine) runPartition(ctx context.Context) {
	if !e.awaitTopic(ctx) {
		return
	}
	e.settled()
	a := e.newAssignment([]kafka.PartitionAssignment{{ID: e.cfg.Partition, Offset: e.cfg.StartOffset.kafka()}}, nil)
	a.run(ctx, ctx)
}
