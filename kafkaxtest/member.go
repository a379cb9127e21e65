package kafkaxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest/history"
	"github.com/bi-common/kafkax/kafkaxtest/internal/network"
)

// Consumer makes a consumer of this cluster, with opts after
// [Sim.ConsumerOptions]. It is closed at the end of the test.
func (s *Sim) Consumer(opts ...kafkax.ConsumerOption) *kafkax.Consumer {
	s.T.Helper()
	c, err := kafkax.NewConsumer(append(s.ConsumerOptions(), opts...)...)
	if err != nil {
		s.fatalf("%v", err)
	}
	s.atEnd(func() { _ = c.Close() })
	return c
}

// Producer makes a producer of this cluster, with opts after
// [Sim.ProducerOptions]. It is closed at the end of the test.
func (s *Sim) Producer(opts ...kafkax.ProducerOption) *kafkax.Producer {
	s.T.Helper()
	p, err := kafkax.NewProducer(append(s.ProducerOptions(), opts...)...)
	if err != nil {
		s.fatalf("%v", err)
	}
	s.atEnd(func() { _ = p.Close() })
	return p
}

// Handled is one call of a handler.
type Handled struct {
	kafkax.Message
	Member string        // who handled it
	Began  time.Duration // since the simulation's begin
	Ended  time.Duration
	Err    error // what the handler returned
}

// Record returns a handler that does what h does, and whose calls are noted
// under the names of a member and its group: see [Sim.Handled]. It is for
// consumers that [Sim.Join] did not make.
func (s *Sim) Record(member, group string, h kafkax.Handler) kafkax.Handler {
	return func(ctx context.Context, msg kafkax.Message) (err error) {
		end := s.begin(ctx, member, group, copyOf(msg), 0) // the handler may change it
		err = errNoReturn
		defer func() { end(err) }()
		err = h(ctx, msg)
		return err
	}
}

// begin notes that a handler was called, and returns what notes its end.
func (s *Sim) begin(ctx context.Context, member, group string, msg kafkax.Message, batch int) (end func(error)) {
	record := s.recordCall(ctx, member, group, msg, batch)
	seen := Handled{Message: msg, Member: member, Began: time.Since(s.began)}
	return func(err error) {
		record(err)
		seen.Ended, seen.Err = time.Since(s.began), err
		outcome := "handled"
		if err != nil {
			outcome = fmt.Sprintf("failed (%v)", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.handled = append(s.handled, seen)
		if err == nil {
			s.done[place{msg.Topic, msg.Partition, msg.Offset}] = true
		}
		s.noteLocked(fmt.Sprintf("%s %s %s[%d]@%d", member, outcome, msg.Topic, msg.Partition, msg.Offset))
	}
}

// place is where a message stands.
type place struct {
	topic     string
	partition int
	offset    int64
}

func copyOf(m kafkax.Message) kafkax.Message {
	m.Key, m.Value, m.Headers = bytes.Clone(m.Key), bytes.Clone(m.Value), slices.Clone(m.Headers)
	for i := range m.Headers {
		m.Headers[i].Value = bytes.Clone(m.Headers[i].Value)
	}
	return m
}

// Handled is every call of a recorded handler that has ended, in the order of
// their ends.
func (s *Sim) Handled() []Handled {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Handled(nil), s.handled...)
}

// Member is a consumer in a group, with a loop that runs.
type Member struct {
	// Name is its client id too: what a [Target] knows it by.
	Name  string
	Group string

	// Consumer is the client itself; nil of a member that [Sim.JoinTopics] made.
	Consumer *kafkax.Consumer
	// Topics is the client of a member that [Sim.JoinTopics] made.
	Topics *kafkax.MultiTopicConsumer

	sim    *Sim
	client client
	stop   func() error // ends the client, and waits for the loop
}

// client is what [Sim.JoinLoop] and [Sim.JoinTopics] have in common.
type client interface {
	Config() kafkax.ConsumerConfig
	Close() error
	GracefulShutdown(ctx context.Context) error
}

// Join adds a member to a group: a consumer of a topic whose [kafkax.Consumer.Consume]
// runs with this handler until the test ends, or the member leaves or crashes.
// It does not wait for the member to be in the group. An error of the loop is
// what [Member.Leave] returns, and a line of the history.
func (s *Sim) Join(group, topic string, h kafkax.Handler, opts ...kafkax.ConsumerOption) *Member {
	s.T.Helper()
	return s.JoinLoop(group, topic, func(ctx context.Context, m *Member) error {
		return m.Consumer.Consume(ctx, m.Record(h), kafkax.WithOnError(m.OnError))
	}, opts...)
}

// JoinLoop is Join with a loop of your own: another of the consumer's loops, or
// one that fetches by itself. The loop's handler should be given through
// [Member.Record] or [Member.RecordBatch], and [Member.OnError] as an option, so
// that the simulation sees what the handler does. The loop must end when the
// consumer is closed; its context ends when it has been.
func (s *Sim) JoinLoop(group, topic string, loop func(ctx context.Context, m *Member) error, opts ...kafkax.ConsumerOption) *Member {
	s.T.Helper()
	m := s.member(group)
	c, err := kafkax.NewConsumer(append(m.options(opts), kafkax.WithConsumerTopic(topic))...)
	if err != nil {
		s.fatalf("%v", err)
	}
	m.Consumer, m.client = c, c
	m.start([]string{topic}, loop)
	return m
}

// JoinTopics is [Sim.JoinLoop] for a consumer of several topics, which the loop
// finds as [Member.Topics]. It is one member here, and one for each topic to its
// group: see [kafkax.MultiTopicConsumer].
func (s *Sim) JoinTopics(group string, topics []string, loop func(ctx context.Context, m *Member) error, opts ...kafkax.ConsumerOption) *Member {
	s.T.Helper()
	m := s.member(group)
	c, err := kafkax.NewMultiTopicConsumer(topics, m.options(opts)...)
	if err != nil {
		s.fatalf("%v", err)
	}
	m.Topics, m.client = c, c
	m.start(topics, loop)
	return m
}

func (s *Sim) member(group string) *Member {
	return &Member{Name: fmt.Sprintf("%s-%d", s.options.members, s.count()), Group: group, sim: s}
}

func (m *Member) options(opts []kafkax.ConsumerOption) []kafkax.ConsumerOption {
	return append(append(append(m.sim.ConsumerOptions(), kafkax.WithConsumerGroupID(m.Group), kafkax.WithConsumerErrorLogger(m.sim.Logger(m.Name, m.Group))), opts...),
		kafkax.WithConsumerClientID(m.Name))
}

// start runs the loop until the member is stopped.
func (m *Member) start(topics []string, loop func(ctx context.Context, m *Member) error) {
	s := m.sim
	s.record(history.Start{Member: m.Name, Group: m.Group, Topics: topics, Time: time.Now()})
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() {
		err := loop(ctx, m)
		s.note("%s: its loop returned %v", m.Name, err)
		result <- err
	}()
	m.stop = sync.OnceValue(func() error {
		defer cancel()
		stop := history.Stop{Member: m.Name, Group: m.Group, Began: time.Now(), Bound: m.client.Config().ShutdownTimeout}
		n := s.record(stop)
		stopped := m.client.Close()
		if stop.Returned = time.Now(); stopped != nil {
			stop.Err = stopped.Error()
		}
		s.complete(n, stop)
		cancel()
		if err := <-result; err != nil {
			return err
		}
		return stopped
	})
	s.atEnd(func() { _ = m.stop() })
}

// Record returns a handler that does what h does, and whose calls the simulation
// sees: see [Sim.Handled].
func (m *Member) Record(h kafkax.Handler) kafkax.Handler { return m.sim.Record(m.Name, m.Group, h) }

// RecordBatch is Record for a batch handler.
func (m *Member) RecordBatch(h kafkax.BatchHandler) kafkax.BatchHandler {
	return func(ctx context.Context, msgs []kafkax.Message) (err error) {
		given := make([]kafkax.Message, len(msgs)) // the handler may change them
		for i := range msgs {
			given[i] = copyOf(msgs[i])
		}
		batch := m.sim.count()
		ends := make([]func(error), len(msgs))
		for i := range given {
			ends[i] = m.sim.begin(ctx, m.Name, m.Group, given[i], batch)
		}
		err = errNoReturn
		defer func() {
			failed := errorsOf(err, len(given))
			for i, end := range ends {
				end(failed[i])
			}
		}()
		err = h(ctx, msgs)
		return err
	}
}

// errorsOf is what became of each message of a batch.
func errorsOf(err error, n int) []error {
	each := make([]error, n)
	if some, ok := errors.AsType[*kafkax.BatchError](err); ok {
		for i, e := range some.Failed {
			if i >= 0 && i < n {
				each[i] = e
			}
		}
		return each
	}
	for i := range each {
		each[i] = err
	}
	return each
}

// OnError is for [kafkax.WithOnError]: it tells the simulation what the loop
// gave up.
func (m *Member) OnError(_ context.Context, _ kafkax.Message, err error) {
	m.sim.recordProblem(m.Name, m.Group, err)
}

// Leave closes the member as a good program does, and waits for it. It returns
// the loop's error, or else that of the close.
func (m *Member) Leave() error { return m.stop() }

// Freeze stalls all the member's connections until it is thawed: its group
// hears nothing of it, as of a machine that hangs. Its handler runs on.
func (m *Member) Freeze() (thaw func()) { return m.sim.Freeze(m.Name) }

// Crash ends the member as a kill does: see [Sim.Kill].
func (m *Member) Crash() {
	m.sim.Kill(m.Name)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // nothing can be waited for
	_ = m.client.GracefulShutdown(ctx)
	_ = m.stop()
}

// Kill ends a client as the end of its process does, which [Sim.Join] need not
// have made: from now on nothing that it says reaches a broker, no commit and no
// leave. Its group finds out when its session has timed out. To close what is
// left of it is the test's.
func (s *Sim) Kill(client string) {
	s.recordFault(history.Crash, client, "")()
	s.network.Add(func(f *network.Frame) network.Fate {
		return network.Fate{Lost: f.Client == client}
	})
	s.network.Close(func(name string, _ int32) bool { return name == client })
}
