package kafkax

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// FetchMessage returns the next message and commits nothing; for that there is
// [Consumer.CommitMessages]. The first call joins the group. It blocks until
// there is a message, ctx ends, the consumer is closed ([ErrClosed]), a loop
// has it ([ErrBusy]), or it cannot go on (with the loops' errors). An
// unreachable cluster is logged, counted and tried again meanwhile.
//
// A rebalance waits for what was fetched and not committed: as the loops do,
// but no longer than heartbeat_interval once a call waits for more.
func (c *Consumer) FetchMessage(ctx context.Context) (kafka.Message, error) {
	p, err := c.pull(ctx)
	if err != nil {
		return kafka.Message{}, err
	}
	m, _, err := p.fetch(ctx)
	return m, err
}

// ReadMessage is FetchMessage for a caller that handles one message at a time:
// when it comes back for the next one, or closes the consumer, the last is
// handled, and is committed within commit_interval. So unlike kafka-go's it
// delivers at least once. Several goroutines must not share it.
func (c *Consumer) ReadMessage(ctx context.Context) (kafka.Message, error) {
	p, err := c.pull(ctx)
	if err != nil {
		return kafka.Message{}, err
	}
	p.settle()
	m, from, err := p.fetch(ctx)
	if err == nil {
		p.mu.Lock()
		p.from, p.offset = from, m.Offset
		p.mu.Unlock()
	}
	return m, err
}

// CommitMessages commits each message and all before it in its partition. It
// waits until the group has stored that; calls at the same time share a request.
// The wait is bounded by ctx and, as each request is, by some 20 s. A message
// whose partition has been revoked since it was fetched gives an error matching
// [ErrRevoked] and changes nothing; the others are committed all the same.
// Committing an older message than the last does nothing.
func (c *Consumer) CommitMessages(ctx context.Context, msgs ...kafka.Message) error {
	p, err := c.pull(ctx)
	if err != nil {
		return err
	}
	if c.cfg.GroupID == "" {
		return errNoGroup
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a := p.engine.assigned()
	var errs []error
	committed := map[*partition]int64{}
	for _, m := range msgs {
		part := a.find(m.Topic, m.Partition)
		if part == nil || !part.tracker.handledThrough(m.Offset) {
			errs = append(errs, fmt.Errorf("%s: %w", at(m.Topic, m.Partition, m.Offset), ErrRevoked))
			continue
		}
		committed[part] = max(committed[part], m.Offset)
	}
	p.poke()
	if len(committed) > 0 {
		if err := a.committer.commit(ctx); err != nil {
			if isFenced(err) && !errors.Is(err, ErrRevoked) {
				err = fmt.Errorf("%w: %w", ErrRevoked, err)
			}
			for part, offset := range committed {
				if !part.tracker.committedPast(offset) {
					errs = append(errs, fmt.Errorf("%s: commit: %w", at(part.topic, part.id, offset), err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// find returns an assigned partition, or nil.
func (a *assignment) find(topic string, id int) *partition {
	if a == nil || topic != a.engine.cfg.Topic {
		return nil
	}
	for _, p := range a.partitions {
		if p.id == id {
			return p
		}
	}
	return nil
}

// puller hands an engine's chunks to the calls above. It lives from the first
// of them to the consumer's end.
type puller struct {
	engine  *engine
	closing <-chan struct{}
	chunks  chan *chunk
	turn    chan struct{} // held by the call that is served, so waiting for it obeys a context
	waiting atomic.Int32  // calls that wait for a message
	changed chan struct{} // poked when something was committed or a call waits

	chunk *chunk // being delivered, by whoever has the turn
	index int    // of its next message

	mu     sync.Mutex
	from   *partition // of what ReadMessage returned last; nil once that is handled
	offset int64
}

// pull returns the puller, made and started by the first call.
func (c *Consumer) pull(ctx context.Context) (*puller, error) {
	if ctx == nil {
		return nil, errNilArgument
	}
	if c.IsShutdown() {
		return nil, ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.puller != nil {
		return c.puller, nil
	}
	e := newEngine(context.WithoutCancel(ctx), c, &c.cfg)
	p := &puller{
		engine:  e,
		closing: c.closing,
		chunks:  make(chan *chunk),
		turn:    make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
	}
	e.chunks = func() chan *chunk { return p.chunks }
	e.work = p.work
	if err := c.beginLocked(e); err != nil {
		e.discard()
		return nil, err
	}
	c.puller = p
	go func() { _ = e.run() }() // GracefulShutdown waits for it; every call returns its error
	return p, nil
}

// fetch returns the next message and its partition.
func (p *puller) fetch(ctx context.Context) (kafka.Message, *partition, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return kafka.Message{}, nil, ctx.Err()
	case <-p.closing:
		return kafka.Message{}, nil, ErrClosed
	}
	for {
		if ctx.Err() != nil {
			return kafka.Message{}, nil, ctx.Err()
		}
		if m := p.pop(); m != nil {
			return *m, p.chunk.partition, nil
		}
		if err := p.await(ctx); err != nil {
			return kafka.Message{}, nil, err
		}
	}
}

// await waits for the next chunk.
func (p *puller) await(ctx context.Context) error {
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	p.poke()
	select {
	case p.chunk = <-p.chunks:
		p.index = 0
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing:
		return ErrClosed
	case <-p.engine.done:
		if err := p.engine.err(); err != nil {
			return err
		}
		return ErrClosed
	}
}

// pop takes the next message of the chunk, or is nil. Nothing of a revoked
// assignment or from before a seek is delivered.
func (p *puller) pop() *kafka.Message {
	for p.chunk != nil {
		c := p.chunk
		stopping := c.partition.assignment.stopping
		if stopping.Err() == nil && p.index == len(c.messages) {
			c.finished()
		}
		if stopping.Err() != nil || p.index == len(c.messages) {
			c.release()
			p.chunk = nil
			return nil
		}
		m := &c.messages[p.index]
		p.index++
		// A rebalance looks at stopping, then at what was delivered; so the
		// other way round here, and it either waits for this message or it
		// is not returned.
		if c.deliver(m) && stopping.Err() == nil {
			return m
		}
	}
	return nil
}

// settle marks what ReadMessage returned last as handled.
func (p *puller) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.from == nil {
		return
	}
	p.from.tracker.handledThrough(p.offset)
	if a := p.from.assignment; a.engine.cfg.CommitInterval <= 0 {
		a.committer.request()
	}
	p.from = nil
	p.poke()
}

func (p *puller) poke() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// work waits, when an assignment ends, for what was delivered of it. A call
// that waits for more does not commit what it has, so then the wait is short.
func (p *puller) work(a *assignment) {
	<-a.stopping.Done()
	var patience <-chan time.Time
	for a.inFlight() != "" {
		if patience == nil && p.waiting.Load() > 0 {
			patience = time.After(a.engine.cfg.HeartbeatInterval)
		}
		select {
		case <-p.changed:
		case <-patience:
			return
		case <-a.ctx.Done():
			return
		case <-p.closing:
			return
		}
	}
}
