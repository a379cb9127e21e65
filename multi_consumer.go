package kafkax

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/segmentio/kafka-go"
)

// MultiTopicConsumer reads several topics with one configuration and one life
// cycle: each topic has a handler and a [Consumer] of its own, so what is
// promised for one topic holds for each of them, whatever the others do. All
// methods are safe for concurrent use.
//
// Bounds of the configuration (max_bytes, concurrency) are of each topic.
// Without consumer.group_id each topic is read like a Consumer without one: its
// partition consumer.partition alone, and nothing is committed.
//
// A topic that does not exist is waited for and does not keep the others from
// being read. Once it appears it is read from its first record, whatever
// start_offset says.
type MultiTopicConsumer struct {
	// Each is a member of the group that subscribes to its one topic. So a
	// member leaves when its topic is deleted and joins when it is back, and a
	// topic's order, commits and failures are its own. The price: heartbeats
	// for each topic, and a rebalance for one topic is a rebalance for all.
	// They do not add up to one for each member: those that join while a
	// rebalance is under way take part in it, so a start is one or two.
	consumers []*Consumer

	running atomic.Bool // a loop has it
	closed  atomic.Bool
}

// NewMultiTopicConsumer makes a consumer of topics from the same layers as
// [NewConsumer], with these topics in place of consumer.topic, which counts for
// nothing here. It does not connect.
//
// Every problem of the configuration and the topics is in the error, which
// matches [ErrInvalidConfig]: no topics or an empty one (also [ErrNoTopic]), one
// given twice, a name that Kafka does not allow, or one that is the dead letter
// topic.
func NewMultiTopicConsumer(topics []string, opts ...ConsumerOption) (*MultiTopicConsumer, error) {
	var m MultiTopicConsumer
	var problems problems
	if len(topics) == 0 {
		topics = []string{""} // the rest is judged all the same
	}
	for i, topic := range topics {
		same := func(other string) bool { return strings.TrimSpace(other) == strings.TrimSpace(topic) }
		if slices.ContainsFunc(topics[:i], same) {
			problems.add(&ConfigError{Key: keyTopics, Value: configKey{}.mask(topic), Rule: "is given twice"})
			continue
		}
		c, err := NewConsumer(append(slices.Clip(opts), consumerSetting("consumer.topic", "NewMultiTopicConsumer", topic))...)
		if c != nil {
			m.consumers = append(m.consumers, c)
		}
		for _, problem := range unjoin(err) {
			if topic == "" && errors.Is(problem, ErrNoTopic) {
				problem = &ConfigError{Key: keyTopics, Rule: "at least one is needed, and none may be empty", Err: ErrNoTopic}
			}
			problems.add(problem)
		}
	}
	if len(problems) > 0 {
		return nil, joinConfig(problems)
	}
	return &m, nil
}

// keyTopics and keyHandlers name arguments where a ConfigError names a key.
const (
	keyTopics   = "topics"
	keyHandlers = "handlers"
)

// problems holds each problem once: those that are not about one topic come up
// with every topic.
type problems []error

func (p *problems) add(err error) {
	if !slices.ContainsFunc(*p, func(known error) bool { return known.Error() == err.Error() }) {
		*p = append(*p, err)
	}
}

// all is nil for a nil or zero MultiTopicConsumer.
func (m *MultiTopicConsumer) all() []*Consumer {
	if m == nil {
		return nil
	}
	return m.consumers
}

// String says what is read.
func (m *MultiTopicConsumer) String() string {
	consumers := m.all()
	if len(consumers) == 0 {
		return "kafkax.MultiTopicConsumer(closed)"
	}
	topics := make([]string, len(consumers))
	for i, c := range consumers {
		topics[i] = c.cfg.Topic
	}
	return fmt.Sprintf("kafkax.MultiTopicConsumer(topics %s, group %q)", strings.Join(topics, " "), consumers[0].cfg.GroupID)
}

// Format prints String for every verb, where fmt would print every field.
func (m *MultiTopicConsumer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, m.String()) }

// Consumer returns the consumer of one topic: for its lag, its statistics, or
// to move its offset. It is nil for a topic that is not among those given to
// [NewMultiTopicConsumer]. Closing it ends that topic alone.
func (m *MultiTopicConsumer) Consumer(topic string) *Consumer {
	for _, c := range m.all() {
		if c.cfg.Topic == topic {
			return c
		}
	}
	return nil
}

// SetLogger replaces both loggers of every topic; see [Consumer.SetLogger].
func (m *MultiTopicConsumer) SetLogger(logger, errorLogger kafka.Logger) {
	for _, c := range m.all() {
		c.SetLogger(logger, errorLogger)
	}
}

// Ping connects to each configured broker anew, as [Consumer.Ping] does. It
// does not ask for the topics.
func (m *MultiTopicConsumer) Ping(ctx context.Context) error {
	switch {
	case ctx == nil:
		return errNilArgument
	case m.IsShutdown():
		return ErrClosed
	}
	return m.consumers[0].ping(ctx) // they share brokers and security
}

// Stats returns [Consumer.Stats] of each topic.
func (m *MultiTopicConsumer) Stats() map[string]kafka.ReaderStats {
	stats := make(map[string]kafka.ReaderStats, len(m.all()))
	for _, c := range m.all() {
		stats[c.cfg.Topic] = c.Stats()
	}
	return stats
}

// Consume runs [Consumer.Consume] for every topic at once, with the handler of
// that name. Handlers of different topics run at the same time; so must
// whatever they and the options share be able to, as a function given to
// [WithOnError] or a writer given to [WithDLQWriter].
//
// It blocks until ctx ends, Close or GracefulShutdown is called, or one topic
// cannot go on. Then all topics stop as Consume does: handlers in flight finish
// and are committed. The error joins those of all topics, which say what they
// are about; it is nil after a stop that cut nothing off.
//
// A topic without a handler, a handler without a topic, a nil handler and bad
// options are in one error matching [ErrInvalidConfig], before anything begins.
// The error matches [ErrBusy] if a loop runs already, here or on the Consumer
// of a topic, and [ErrClosed] after a stop.
func (m *MultiTopicConsumer) Consume(ctx context.Context, handlers map[string]Handler, opts ...ConsumeOption) error {
	return m.consume(ctx, handlers, false, opts)
}

// ConsumeWithManualCommit is [MultiTopicConsumer.Consume] with
// [Consumer.ConsumeWithManualCommit] for every topic. A message that fails for
// good stops all topics; nothing of its partition from it on is committed.
func (m *MultiTopicConsumer) ConsumeWithManualCommit(ctx context.Context, handlers map[string]Handler, opts ...ConsumeOption) error {
	return m.consume(ctx, handlers, true, opts)
}

func (m *MultiTopicConsumer) consume(ctx context.Context, handlers map[string]Handler, manual bool, opts []ConsumeOption) error {
	switch {
	case ctx == nil:
		return errNilArgument
	case m.IsShutdown():
		return ErrClosed
	}
	if err := m.check(handlers, loopName(false, manual), opts); err != nil {
		return err
	}
	if !m.running.CompareAndSwap(false, true) {
		return ErrBusy
	}
	defer m.running.Store(false)

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(m.consumers))
	start := startLine(len(m.consumers))
	var loops sync.WaitGroup
	for i, c := range m.consumers {
		h := handlers[c.cfg.Topic]
		loops.Go(func() {
			defer start[i].arrive()
			errs[i] = c.consume(ctx, h, nil, manual, start[i], opts)
			if errs[i] != nil {
				stop()
			}
		})
	}
	loops.Wait()
	return errors.Join(errs...)
}

// startPlace is a topic's place in a start line, where handlers wait until every
// topic is assigned, found missing or in trouble. Members join one after the
// other, and each join waits for the handlers of those before it: without the
// line, a slow handler of the first topic keeps the others from starting.
//
// A nil startPlace waits for nobody.
type startPlace struct {
	missing *atomic.Int64 // how many have not arrived
	open    chan struct{} // closed when all have
	once    sync.Once
}

func startLine(n int) []*startPlace {
	missing, open := new(atomic.Int64), make(chan struct{})
	missing.Store(int64(n))
	places := make([]*startPlace, n)
	for i := range places {
		places[i] = &startPlace{missing: missing, open: open}
	}
	return places
}

func (p *startPlace) arrive() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		if p.missing.Add(-1) == 0 {
			close(p.open)
		}
	})
}

// wait is false if stopping ended first.
func (p *startPlace) wait(stopping context.Context) bool {
	if p == nil {
		return true
	}
	select {
	case <-p.open:
		return true
	case <-stopping.Done():
		return false
	}
}

// check judges what a loop was given, for all topics, before any of them
// begins.
func (m *MultiTopicConsumer) check(handlers map[string]Handler, loop string, opts []ConsumeOption) error {
	var problems problems
	for _, c := range m.consumers {
		topic := c.cfg.Topic
		switch h, ok := handlers[topic]; {
		case !ok:
			problems.add(&ConfigError{Key: keyHandlers, Value: configKey{}.mask(topic), Rule: "the topic has no handler"})
		case h == nil:
			problems.add(&ConfigError{Key: keyHandlers, Value: configKey{}.mask(topic), Rule: "the handler is nil"})
		}
		_, err := resolveConsume(c.cfg, loop, opts)
		for _, problem := range unjoin(err) {
			problems.add(problem)
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(handlers)) {
		if m.Consumer(topic) == nil {
			problems.add(&ConfigError{Key: keyHandlers, Value: configKey{}.mask(topic), Rule: "is not one of the consumer's topics"})
		}
	}
	return joinConfig(problems)
}

// IsShutdown says whether Close or GracefulShutdown was called.
func (m *MultiTopicConsumer) IsShutdown() bool {
	return len(m.all()) == 0 || m.closed.Load()
}

// Close is [MultiTopicConsumer.GracefulShutdown] bounded by shutdown_timeout.
func (m *MultiTopicConsumer) Close() error {
	if len(m.all()) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.consumers[0].cfg.ShutdownTimeout)
	defer cancel()
	return m.GracefulShutdown(ctx)
}

// GracefulShutdown is [Consumer.GracefulShutdown] of all topics at once, within
// the same ctx. The error joins theirs. It may be called twice, and before any
// start.
func (m *MultiTopicConsumer) GracefulShutdown(ctx context.Context) error {
	if ctx == nil {
		return errNilArgument
	}
	if len(m.all()) == 0 {
		return nil
	}
	m.closed.Store(true)
	errs := make([]error, len(m.consumers))
	var stops sync.WaitGroup
	for i, c := range m.consumers {
		stops.Go(func() { errs[i] = c.GracefulShutdown(ctx) })
	}
	stops.Wait()
	return errors.Join(errs...)
}

// RunWithGracefulShutdown is [Consumer.RunWithGracefulShutdown] for all topics:
// run is called once, and they are shut down together.
func (m *MultiTopicConsumer) RunWithGracefulShutdown(ctx context.Context, run func(context.Context) error) error {
	switch {
	case ctx == nil || run == nil:
		return errNilArgument
	case m.IsShutdown():
		return ErrClosed
	}
	return runWithGracefulShutdown(ctx, m.consumers[0].cfg.ShutdownTimeout, run, m.GracefulShutdown)
}
