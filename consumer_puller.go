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

// puller hands an engine's chunks to FetchMessage and ReadMessage. It lives from
// the first of them to the consumer's end, or until the engine cannot go on.
type puller struct {
	cfg     *ConsumerConfig
	engine  *engine
	closing <-chan struct{}
	chunks  chan *chunk
	turn    chan struct{} // held by the call that is served, so waiting for it obeys a context
	waiting atomic.Int32  // calls that wait for a message
	told    atomic.Bool   // a call has returned why the engine ended
	changed chan struct{} // poked when something was committed or a call waits

	chunk *chunk // being delivered, by whoever has the turn

	mu     sync.Mutex
	from   *partition // of what ReadMessage returned last; nil once that is handled
	offset int64
}

func newPuller(cfg *ConsumerConfig, closing <-chan struct{}) *puller {
	return &puller{
		cfg:     cfg,
		closing: closing,
		chunks:  make(chan *chunk),
		turn:    make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
	}
}

// ended says whether the engine has.
func (p *puller) ended() bool { return p.engine.over() }

// untold is why the engine ended, unless a call has returned that already.
func (p *puller) untold() error {
	if p.told.Swap(true) {
		return nil
	}
	return p.engine.err()
}

// queue is that of every partition.
func (p *puller) queue() chan *chunk { return p.chunks }

// read is ReadMessage.
func (p *puller) read(ctx context.Context) (kafka.Message, error) {
	p.markLast()
	m, from, err := p.fetch(ctx)
	if err == nil {
		p.mu.Lock()
		p.from, p.offset = from, m.Offset
		p.mu.Unlock()
	}
	return m, err
}

// commit is CommitMessages; a nil puller has delivered no message.
func (p *puller) commit(ctx context.Context, msgs []kafka.Message) error {
	var claim *claim
	if p != nil {
		claim = p.engine.claimed()
	}
	var errs []error
	committed := map[*partition]int64{}
	for _, m := range msgs {
		part := claim.find(m.Topic, m.Partition)
		if part == nil || !part.tracker.handledThrough(m.Offset) {
			errs = append(errs, fmt.Errorf("%s: %w", at(m.Topic, m.Partition, m.Offset), ErrRevoked))
			continue
		}
		committed[part] = max(committed[part], m.Offset)
	}
	if len(committed) > 0 {
		p.poke() // a rebalance that waits for these need not wait for the group's answer too
		if err := claim.commit(ctx); err != nil {
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
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing:
		return ErrClosed
	case <-p.engine.done:
		p.told.Store(true)
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
		stopping := c.partition.stopping
		if stopping.Err() == nil {
			m := c.next(func() {})
			// A rebalance looks at stopping, then at what was delivered; so the
			// other way round here, and it either waits for this message or it
			// is not returned.
			if m != nil && stopping.Err() == nil {
				return m
			}
			if m != nil {
				continue
			}
		}
		c.release()
		p.chunk = nil
	}
	return nil
}

// markLast marks what ReadMessage returned last as handled.
func (p *puller) markLast() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.from == nil {
		return
	}
	p.from.tracker.handledThrough(p.offset)
	if p.cfg.CommitInterval <= 0 {
		p.from.requestCommit()
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
func (p *puller) work(claim *claim) {
	<-claim.stopping.Done()
	var patience <-chan time.Time
	for claim.inFlight() > 0 {
		if patience == nil && p.waiting.Load() > 0 {
			patience = time.After(p.cfg.HeartbeatInterval)
		}
		select {
		case <-p.changed:
		case <-patience:
			return
		case <-claim.ctx.Done():
			return
		case <-p.closing:
			return
		}
	}
}
