package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// reader is a member of the group as kafka-go's README writes one: a
// kafka.Reader, and a loop around it that handles one message after the other.
type reader struct {
	names

	sim     *kafkaxtest.Sim
	name    string
	mode    mode
	handle  kafkax.Handler
	client  *kafka.Reader
	letters *kafka.Writer // nil without a dead letter topic
	ended   chan struct{} // closed with the loop
}

// plainStop is how long a plain client is waited for. It has no bound of its
// own; the one that the check judges by is kafkax's.
const plainStop = 5 * time.Minute

func (c *course) joinPlain(r *rand.Rand, m mode) *member {
	p := &reader{
		names: c.names, sim: c.sim, name: fmt.Sprint("member-", c.plains.Add(1)), mode: m, ended: make(chan struct{}),
	}
	p.handle = recovered(timed(m.handler.timeout, c.sim.Record(p.name, c.group, m.handler.handle(r, c.peace))))
	isolation, start := kafka.ReadUncommitted, kafka.FirstOffset
	if m.committed {
		isolation = kafka.ReadCommitted
	}
	if m.latest {
		start = kafka.LastOffset
	}
	topics := c.of(m.topics)
	p.client = kafka.NewReader(kafka.ReaderConfig{
		IsolationLevel: isolation, StartOffset: start,
		Brokers: c.sim.Brokers(), GroupID: c.group, GroupTopics: topics, GroupBalancers: m.tuning.balancers(),
		Dialer:         &kafka.Dialer{ClientID: p.name, Timeout: 10 * time.Second, DualStack: true, DialFunc: dialInTurn(c.sim)},
		SessionTimeout: session, RebalanceTimeout: rebalance,
		ErrorLogger: kafka.LoggerFunc(p.logged),
	})
	if m.deadLetters {
		p.letters = plainWriter(c.sim, p.name, c.dead)
	}
	c.sim.Recorded().Add(history.Start{Member: p.name, Group: c.group, Topics: topics, Time: time.Now()})
	alive, die := context.WithCancel(context.Background())
	on, quit := context.WithCancel(alive)
	go func() {
		defer close(p.ended)
		p.run(alive, on)
	}()
	return &member{
		name: p.name,
		leave: func() {
			defer die()
			stop := history.Stop{Member: p.name, Group: c.group, Began: time.Now(), Bound: shutdown}
			n := c.sim.Recorded().Add(stop)
			quit()
			if c.ends(p) {
				stop.Returned = time.Now()
				c.sim.Recorded().Set(n, stop)
			}
		},
		crash: func() {
			c.sim.Kill(p.name)
			die()
			c.ends(p)
		},
	}
}

// skipping is how kafka-go names a position that it moved: the partition, the
// topic, and the offsets from and to.
var skipping = regexp.MustCompile(`before the first offset for partition (\d+) of (\S+), skipping from offset (\d+) to (\d+)`)

// logged is the logger of errors. What it is told of a position counts as kafkax's
// word for it does.
func (p *reader) logged(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	p.sim.Log("%s: %s", p.name, line)
	found := skipping.FindStringSubmatch(line)
	if found == nil {
		return
	}
	var numbers [3]int64
	for i, text := range []string{found[1], found[3], found[4]} {
		numbers[i], _ = strconv.ParseInt(text, 10, 64)
	}
	p.sim.Recorded().Add(history.Seek{
		Member: p.name, Group: p.group, TopicPartition: history.TopicPartition{Topic: found[2], Partition: int(numbers[0])},
		Reset: true, From: numbers[1], Offset: numbers[2], Time: time.Now(),
	})
}

// errStuck is of a client that did not end in plainStop.
var errStuck = fmt.Errorf("a stop has not returned in %v", plainStop)

// ends counts a member that does not.
func (c *course) ends(p *reader) bool {
	ok := within(plainStop, p.close)
	if !ok {
		c.sum.trouble(errStuck.Error())
	}
	return ok
}

// within says whether f has returned in time. If not, it is left behind.
func within(bound time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// close is for a loop that was told to end.
func (p *reader) close() {
	<-p.ended
	_ = p.client.Close()
	if p.letters != nil {
		_ = closeWriter(p.letters)
	}
}

// run goes on until it is told to stop. What it has begun it handles and
// commits, as long as it is alive.
func (p *reader) run(alive, on context.Context) {
	for on.Err() == nil {
		var err error
		switch p.mode.loop {
		case "consume", "read":
			err = p.read(alive, on)
		case "batch":
			err = p.batch(alive, on)
		default:
			err = p.fetch(alive, on)
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			p.sim.Log("%s: %v", p.name, err) // and on, as a program does that goes on whatever happens
		}
	}
}

// read is the loop of the README's "Consumer Groups".
func (p *reader) read(alive, on context.Context) error {
	m, err := p.client.ReadMessage(on)
	if err != nil {
		return err
	}
	return p.settle(alive, on, m)
}

// fetch is the loop of the README's "Explicit Commits".
func (p *reader) fetch(alive, on context.Context) error {
	m, err := p.client.FetchMessage(on)
	if err != nil {
		return err
	}
	if err := p.settle(alive, on, m); err != nil {
		return err
	}
	return p.client.CommitMessages(alive, m)
}

// batch is fetch for several messages.
func (p *reader) batch(alive, on context.Context) error {
	msgs, err := p.collect(on)
	done := 0
	for ; done < len(msgs); done++ {
		if err = p.settle(alive, on, msgs[done]); err != nil {
			break
		}
	}
	if done == 0 {
		return err
	}
	return errors.Join(err, p.client.CommitMessages(alive, msgs[:done]...))
}

// collect fetches a batch. It returns no error beside messages: they would be
// passed over.
func (p *reader) collect(on context.Context) ([]kafka.Message, error) {
	full, cancel := context.WithTimeout(on, batchTimeout)
	defer cancel()
	var msgs []kafka.Message
	for len(msgs) < p.mode.tuning.batch {
		m, err := p.client.FetchMessage(full)
		switch {
		case err == nil:
			msgs = append(msgs, m)
		case len(msgs) > 0 || full.Err() != nil:
			return msgs, nil
		default:
			return nil, err
		}
	}
	return msgs, nil
}

// settle handles a message, tries again what fails, and gives up, after as many
// attempts as kafkax is told to make, into the dead letter topic if there is one.
func (p *reader) settle(alive, on context.Context, m kafka.Message) error {
	for attempt := range attempts {
		if err := wait(on, backoff(attempt)); err != nil {
			return err
		}
		if p.handle(alive, m) == nil {
			return nil
		}
	}
	if alive.Err() != nil {
		return alive.Err()
	}
	if p.letters == nil {
		p.sim.Recorded().Add(history.Skip{
			Member: p.name, Group: p.group, Time: time.Now(),
			Span: history.Span{TopicPartition: history.TopicPartition{Topic: m.Topic, Partition: m.Partition}, First: m.Offset, Last: m.Offset},
		})
		return nil
	}
	for {
		err := p.letters.WriteMessages(on, p.letter(m))
		if err == nil || on.Err() != nil {
			return err
		}
		if wait(on, time.Second) != nil {
			return err
		}
	}
}

// backoff comes before an attempt, and none before the first.
func backoff(attempt int) time.Duration {
	if attempt == 0 {
		return 0
	}
	return firstBackoff << (attempt - 1)
}

func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// letter says where it came from, in the headers that the simulation knows dead
// letters by.
func (p *reader) letter(m kafka.Message) kafka.Message {
	return kafka.Message{Key: m.Key, Value: m.Value, Headers: []kafka.Header{
		{Key: kafkax.HeaderConsumerGroup, Value: []byte(p.group)},
		{Key: kafkax.HeaderOriginalTopic, Value: []byte(m.Topic)},
		{Key: kafkax.HeaderOriginalPartition, Value: []byte(strconv.Itoa(m.Partition))},
		{Key: kafkax.HeaderOriginalOffset, Value: []byte(strconv.FormatInt(m.Offset, 10))},
	}}
}

// timed is h with a bound for each call, as a program sets one that knows its
// handlers; without one for 0.
func timed(bound time.Duration, h kafkax.Handler) kafkax.Handler {
	if bound == 0 {
		return h
	}
	return func(ctx context.Context, m kafka.Message) error {
		ctx, cancel := context.WithTimeoutCause(ctx, bound, kafkax.ErrHandlerTimeout)
		defer cancel()
		return h(ctx, m)
	}
}

// recovered is h with its panics as errors.
func recovered(h kafkax.Handler) kafkax.Handler {
	return func(ctx context.Context, m kafka.Message) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("the handler panicked: %v", p)
			}
		}()
		return h(ctx, m)
	}
}
