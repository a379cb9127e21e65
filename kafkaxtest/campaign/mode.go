package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// mode is a way to use kafkax.
type mode struct {
	loop        string // consume, manual, batch, fetch, read
	ordering    kafkax.Ordering
	concurrency int
	deadLetters bool
	partitions  int
	members     int
	nodes       int

	async      bool
	idempotent bool

	committed bool // consumers read what is committed alone, and there are transactions

	topics int  // as many
	seeks  bool // members seek, see seeker
	latest bool // the group starts at the end of the logs
	mixed  bool // members are unlike, see as
	tuning tuning

	// calm is a schedule in which nothing breaks, but members come and go: then
	// nothing explains a duplicate.
	calm bool

	handler handling
}

// handling is what handlers do with a message.
type handling struct {
	slow   time.Duration // at most, one time in twenty
	fails  float64       // share of calls that fail, and then do not
	poison float64       // share of messages that always fail
	panics bool          // in place of errors
	mild   bool          // poison is as good as anything: see pulls

	stuck   float64       // share of calls that wait for the end of their context
	timeout time.Duration // of the context of a call; 0 is none
	deaf    float64       // share of calls that take no notice of that end, for as long as deafness
}

// fickle is whether a handler may block all others of its member for as long as it
// likes.
func (h handling) fickle() bool { return h.stuck > 0 && h.timeout == 0 }

func newMode(r *rand.Rand, nodes ...int) mode {
	m := mode{
		loop:        pick(r, "consume", "manual", "batch", "fetch", "read"),
		ordering:    pick(r, kafkax.OrderPartition, kafkax.OrderKey, kafkax.Unordered),
		concurrency: pick(r, 1, 1, 4, 16),
		deadLetters: r.IntN(2) == 0,
		partitions:  pick(r, 1, 3, 6),
		members:     1 + r.IntN(3),
		nodes:       pick(r, nodes...),
		async:       r.IntN(3) == 0,
		idempotent:  r.IntN(5) > 0,
		calm:        r.IntN(3) == 0,
	}
	switch r.IntN(4) {
	case 0:
	case 1:
		m.handler.slow = pick(r, 100*time.Millisecond, 5*time.Second, 12*time.Second)
	case 2:
		m.handler.fails, m.handler.panics = 0.1, r.IntN(3) == 0
	case 3:
		m.handler.slow, m.handler.fails, m.handler.poison = 2*time.Second, 0.05, 0.02
	}
	if m.deadLetters {
		m.handler.poison = 0.05
	}
	m.fit()
	m.committed = r.IntN(4) == 0
	m.topics, m.tuning.batch = 1, batchSize
	return m
}

// extend draws what came to be in a mode later, of numbers of its own: what a seed
// says beside that stays as it was.
func (m *mode) extend(r *rand.Rand) {
	if r.IntN(4) == 0 {
		m.topics = 2 + r.IntN(2)
	}
	m.seeks = r.IntN(4) == 0
	m.latest = r.IntN(4) == 0
	m.mixed = r.IntN(3) == 0
	switch r.IntN(5) {
	case 0:
		m.handler.stuck, m.handler.timeout = 0.01, pick(r, 3*time.Second, 8*time.Second)
	case 1:
		m.handler.stuck = 0.003
	case 2:
		m.handler.deaf, m.handler.timeout = 0.005, pick(r, 0, 3*time.Second)
	}
	m.fit()
}

// fit takes back what is not for the loop.
func (m *mode) fit() {
	if m.pulls() {
		m.concurrency, m.ordering, m.deadLetters = 1, kafkax.OrderPartition, false
		m.handler.fails, m.handler.poison, m.handler.panics, m.handler.mild = 0, 0, false, true
		m.handler.slow = min(m.handler.slow, 3*time.Second) // nobody can end a program's own handling
		m.handler.stuck, m.handler.deaf, m.handler.timeout = 0, 0, 0
	}
	if m.loop == "batch" {
		m.ordering = kafkax.OrderPartition
	}
}

// pulls says whether the program fetches by itself.
func (m mode) pulls() bool { return m.loop == "fetch" || m.loop == "read" }

func (m mode) String() string {
	return fmt.Sprintf("%s, ordering %s, concurrency %d, %d topics of %d partitions, %d members, %d nodes, dead letters %v, async %v, idempotent %v, committed %v, calm %v, seeks %v, latest %v, mixed %v, handler %+v",
		m.loop, m.ordering, m.concurrency, m.topics, m.partitions, m.members, m.nodes, m.deadLetters, m.async, m.idempotent, m.committed, m.calm,
		m.seeks, m.latest, m.mixed, m.handler)
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// names are those of a schedule, which may not be alone in a cluster.
type names struct{ topic, dead, group string }

// of are so many topics.
func (n names) of(topics int) []string {
	all := []string{n.topic}
	for i := 2; i <= topics; i++ {
		all = append(all, fmt.Sprint(n.topic, "-", i))
	}
	return all
}

const (
	session   = 10 * time.Second
	rebalance = 20 * time.Second
	shutdown  = 15 * time.Second

	attempts     = 4 // of a handler with a message
	firstBackoff = 50 * time.Millisecond

	batchSize    = 20
	batchTimeout = 200 * time.Millisecond
)

// identify is the value up to the first space.
func identify(m kafkax.Message) string {
	id, _, _ := strings.Cut(string(m.Value), " ")
	return id
}

// rules are what this mode promises.
func (m mode) rules() history.Rules {
	r := history.Rules{Grace: 90 * time.Second, StopSlack: 5 * time.Second, Progress: 60 * time.Second}
	r.Complete = true
	r.Pulled = m.pulls()
	r.CommitWithin = 15 * time.Second
	if m.latest {
		r.Start = history.Latest
	}
	switch {
	case m.handler.fickle():
		r.Progress = -1
	case m.handler.deaf > 0:
		r.Progress += 2 * deafness // one may follow the other
	}
	if m.deadLetters {
		r.OnFailure = history.FailStop // nothing is given up but into the dead letter topic
	}
	if m.committed {
		r.Isolation = history.ReadCommitted
	}
	switch {
	case m.loop == "batch" || m.pulls():
		r.Ordering = history.OrderPartition
	case m.ordering == kafkax.OrderKey:
		r.Ordering = history.OrderKey
	case m.ordering == kafkax.Unordered:
		r.Ordering = history.Unordered
	}
	return r
}

func (m mode) consumerOptions(dead string) []kafkax.ConsumerOption {
	opts := []kafkax.ConsumerOption{
		kafkax.WithConsumerSessionTimeout(session), kafkax.WithConsumerRebalanceTimeout(rebalance),
		kafkax.WithConsumerShutdownTimeout(shutdown),
		kafkax.WithConsumerOnFailure(kafkax.FailSkip),
		kafkax.WithConsumerRetryMaxAttempts(attempts), kafkax.WithConsumerRetryInitialBackoff(firstBackoff),
		kafkax.WithConsumerRetryMaxBackoff(time.Second),
	}
	if m.committed {
		opts = append(opts, kafkax.WithConsumerIsolationLevel(kafkax.ReadCommitted))
	}
	if m.deadLetters {
		opts = append(opts, kafkax.WithConsumerDLQTopic(dead))
	}
	if m.latest {
		opts = append(opts, kafkax.WithConsumerStartOffset(kafkax.StartLatest))
	}
	return append(opts, m.tuning.options()...)
}

// consume is a member's loop. From a time on it is left in peace: see seeker, and
// handle.
func (m mode) consume(r *rand.Rand, topics []string, peace time.Time) func(ctx context.Context, member *kafkaxtest.Member) error {
	h := m.handler.handle(r, peace)
	loop := m.loopOf
	if len(topics) > 1 {
		loop = m.loopOfTopics
	}
	if !m.seeks {
		return func(ctx context.Context, member *kafkaxtest.Member) error { return loop(ctx, member, topics, h) }
	}
	s := newSeeker(r, topics, peace)
	return func(ctx context.Context, member *kafkaxtest.Member) error {
		defer s.start(ctx, member)()
		return loop(ctx, member, topics, s.watch(h))
	}
}

func (m mode) consumeOptions(member *kafkaxtest.Member) []kafkax.ConsumeOption {
	opts := []kafkax.ConsumeOption{kafkax.WithOnError(member.OnError)}
	if !m.pulls() {
		opts = append(opts, kafkax.WithConcurrency(m.concurrency))
		if m.handler.timeout > 0 {
			opts = append(opts, kafkax.WithHandlerTimeout(m.handler.timeout))
		}
		if m.loop != "batch" {
			opts = append(opts, kafkax.WithOrdering(m.ordering))
		}
	}
	if m.loop == "batch" {
		opts = append(opts, kafkax.WithBatchSize(m.tuning.batch), kafkax.WithBatchTimeout(batchTimeout))
	}
	return opts
}

func (m mode) loopOf(ctx context.Context, member *kafkaxtest.Member, _ []string, h kafkax.Handler) error {
	c, opts := member.Consumer, m.consumeOptions(member)
	switch m.loop {
	case "consume":
		return c.Consume(ctx, member.Record(h), opts...)
	case "manual":
		return c.ConsumeWithManualCommit(ctx, member.Record(h), opts...)
	case "batch":
		return c.ConsumeBatch(ctx, member.RecordBatch(batch(h)), opts...)
	}
	return m.pullAll(ctx, member, c, h)
}

// pullAll is the loop of a program that fetches by itself.
func (m mode) pullAll(ctx context.Context, member *kafkaxtest.Member, c *kafkax.Consumer, h kafkax.Handler) error {
	for {
		msg, err := m.pull(ctx, c)
		if errors.Is(err, kafkax.ErrClosed) {
			return nil
		}
		if err != nil {
			continue // as a program does that goes on whatever happens
		}
		_ = member.Record(h)(ctx, msg)
		if m.loop == "fetch" {
			_ = c.CommitMessages(ctx, msg) // what is refused comes again
		}
	}
}

func (m mode) pull(ctx context.Context, c *kafkax.Consumer) (kafkax.Message, error) {
	if m.loop == "fetch" {
		return c.FetchMessage(ctx)
	}
	return c.ReadMessage(ctx)
}

func batch(h kafkax.Handler) kafkax.BatchHandler {
	return func(ctx context.Context, msgs []kafkax.Message) error {
		failed := map[int]error{}
		for i, msg := range msgs {
			if err := h(ctx, msg); err != nil {
				failed[i] = err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if len(failed) > 0 {
			return &kafkax.BatchError{Failed: failed}
		}
		return nil
	}
}

var errHandler = errors.New("the handler failed")

func (h handling) handle(r *rand.Rand, peace time.Time) kafkax.Handler {
	seed, calls := r.Uint64(), &calls{of: map[string]uint64{}}
	return func(ctx context.Context, msg kafkax.Message) error {
		luck := calls.luck(seed, identify(msg))
		if over, err := h.block(ctx, luck, peace); over {
			return err
		}
		if h.slow > 0 && luck.Float64() < 0.05 {
			select {
			case <-time.After(time.Duration(luck.Float64() * float64(h.slow))):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if strings.HasSuffix(string(msg.Value), " poison") && !h.mild {
			return kafkax.Permanent(errHandler)
		}
		if luck.Float64() < h.fails {
			if h.panics {
				panic("the handler panicked")
			}
			return errHandler
		}
		return nil
	}
}

// calls counts how often a member was called with each message.
type calls struct {
	mu sync.Mutex
	of map[string]uint64
}

// luck is what decides about the next call with a message, whatever was handled
// before it.
func (c *calls) luck(seed uint64, id string) *rand.Rand {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[id]++
	h := fnv.New64a()
	h.Write([]byte(id))
	return rand.New(rand.NewPCG(seed^h.Sum64(), c.of[id]))
}
