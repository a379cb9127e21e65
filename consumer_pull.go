package kafkax

import (
	"context"

	"github.com/segmentio/kafka-go"
)

// FetchMessage returns the next message and commits nothing; for that there is
// [Consumer.CommitMessages]. The first call joins the group. It blocks until
// there is a message, ctx ends, the consumer is closed ([ErrClosed]), a loop
// has it ([ErrBusy]), or it cannot go on (with the loops' errors). After such an
// error the next call starts anew. An unreachable cluster is logged, counted and
// tried again meanwhile.
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
// when it comes back for the next one, the last is handled, and is committed
// within commit_interval. So unlike kafka-go's it delivers at least once. Close
// leaves the last one uncommitted, as nobody has said that it is handled: it comes
// again. To have it committed, call [Consumer.CommitMessages] before Close.
// Several goroutines must not share it.
func (c *Consumer) ReadMessage(ctx context.Context) (kafka.Message, error) {
	p, err := c.pull(ctx)
	if err != nil {
		return kafka.Message{}, err
	}
	return p.read(ctx)
}

// CommitMessages commits each message and all before it in its partition. It
// waits until the group has stored that; calls at the same time share a request.
// The wait is bounded by ctx and, as each request is, by some 20 s. A message
// whose partition has been revoked since it was fetched gives an error matching
// [ErrRevoked] and changes nothing; the others are committed all the same.
// Committing an older message than the last does nothing. It starts nothing: of
// a consumer that fetched no message, none can be committed.
func (c *Consumer) CommitMessages(ctx context.Context, msgs ...kafka.Message) error {
	switch {
	case ctx == nil:
		return errNilArgument
	case c.IsShutdown():
		return ErrClosed
	case c.cfg.GroupID == "":
		return errNoGroup
	case ctx.Err() != nil:
		return ctx.Err()
	}
	c.mu.Lock()
	p, busy := c.puller, c.engine != nil || c.reader.hasGroup()
	c.mu.Unlock()
	if p == nil && busy {
		return ErrBusy
	}
	return p.commit(ctx, msgs)
}

// pull returns the puller. The first call makes and starts it, and so does the
// first after one that could not go on and has said why.
func (c *Consumer) pull(ctx context.Context) (*puller, error) {
	if ctx == nil {
		return nil, errNilArgument
	}
	if c.IsShutdown() {
		return nil, ErrClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.puller; p != nil {
		if !p.ended() {
			return p, nil
		}
		if err := p.untold(); err != nil {
			return nil, err
		}
		c.puller = nil
	}
	p := newPuller(&c.cfg, c.closing)
	e := c.newEngine(context.WithoutCancel(ctx), runPlan{cfg: &c.cfg, work: p.work, chunks: p.queue})
	p.engine = e
	if err := c.beginLocked(e); err != nil {
		e.discard()
		return nil, err
	}
	c.puller = p
	go func() { // GracefulShutdown waits for it; the calls return its error
		_ = e.run()
		c.finish(e)
	}()
	return p, nil
}
