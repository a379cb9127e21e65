package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// sender sends messages through one producer until it is told to end, and
// records what became of each.
type sender struct {
	sim    *kafkaxtest.Sim
	clocks *clocks
	mode   mode
	name   string
	client client
	topics []string
	pace   time.Duration
	luck   [callers]*rand.Rand // each caller has its own, so that none changes what another does

	mu   sync.Mutex
	sent map[string]sending // without an outcome yet
}

// client is a [kafkax.Producer], or plain kafka-go in its place.
type client interface {
	WriteMessages(ctx context.Context, msgs ...kafkax.Message) error
	Close() error
}

type sending struct {
	number int
	event  history.Send
}

func newSender(c *course, name string, r *rand.Rand) *sender {
	m := c.mode
	p := &sender{
		sim: c.sim, clocks: &c.clocks, mode: m, name: name, topics: c.of(m.topics), pace: c.stage.pace,
		sent: map[string]sending{},
	}
	for i := range p.luck {
		p.luck[i] = rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
	}
	if m.handler.slow > 0 {
		p.pace = max(p.pace, slowPace)
	}
	if c.plain {
		p.client = p.plainClient()
		return p
	}
	p.client = c.sim.Producer(
		kafkax.WithProducerClientID(name), kafkax.WithProducerAsync(m.async),
		kafkax.WithProducerIdempotent(m.idempotent), kafkax.WithProducerShutdownTimeout(shutdown),
		kafkax.WithProducerDeliveryTimeout(30*time.Second), kafkax.WithProducerWriteTimeout(5*time.Second),
		kafkax.WithProducerCompletion(p.completed),
	)
	return p
}

// callers are as many goroutines that send.
const callers = 3

// slowPace is what the slowest handlers keep up with.
const slowPace = time.Second

// run sends until ctx ends.
func (p *sender) run(ctx context.Context) {
	var all sync.WaitGroup
	for i, luck := range p.luck {
		all.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Duration(luck.Float64() * callers * float64(p.pace))):
				}
				// Now and then several at once.
				for range 1 + int(luck.Float64()*1.1)*5 {
					p.send(ctx, luck, fmt.Sprint("caller-", i), n)
					n++
				}
			}
		})
	}
	all.Wait()
}

func (p *sender) send(ctx context.Context, luck *rand.Rand, caller string, n int) {
	id := fmt.Sprintf("%s-%s-%d", p.name, caller, n)
	value := id + " "
	if luck.Float64() < p.mode.handler.poison {
		value = id + " poison"
	}
	key := fmt.Sprint("key-", int(luck.Float64()*20))
	topic := p.topics[0]
	if len(p.topics) > 1 {
		topic = p.topics[int(luck.Float64()*float64(len(p.topics)))]
	}
	event := history.Send{
		Producer: p.name, Caller: caller, Topic: topic, ID: id, Key: key, Idempotent: p.mode.idempotent, Began: time.Now(),
	}
	p.mu.Lock()
	number := p.sim.Recorded().Add(event)
	p.sent[id] = sending{number, event}
	p.mu.Unlock()
	err := p.client.WriteMessages(context.WithoutCancel(ctx), kafkax.Message{
		Topic: topic, Key: []byte(key), Value: []byte(value), Time: p.clocks.stamp(luck),
	})
	err = ofOne(err)
	if err == nil && p.mode.async {
		return // the completion tells
	}
	p.outcome(id, err)
}

// ofOne is the error of a call with one message: the message's own.
func ofOne(err error) error {
	if each, ok := errors.AsType[kafkax.ProduceErrors](err); ok && len(each) == 1 {
		return each[0]
	}
	return err
}

func (p *sender) outcome(id string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, ok := p.sent[id]
	if !ok {
		return
	}
	delete(p.sent, id)
	was.event.Returned, was.event.Outcome = time.Now(), history.Acknowledged
	switch {
	case errors.Is(err, kafkax.ErrOutcomeUnknown):
		was.event.Outcome = history.Unknown
	case err != nil:
		was.event.Outcome = history.NotSent
	}
	p.sim.Recorded().Set(was.number, was.event)
}

func (p *sender) completed(msgs []kafkax.Message, err error) {
	if !p.mode.async {
		return
	}
	if each, ok := errors.AsType[kafkax.ProduceErrors](err); ok {
		failed := map[int]error{}
		for _, e := range each {
			failed[e.Index] = e
		}
		for i, m := range msgs {
			p.outcome(identify(m), failed[i])
		}
		return
	}
	for _, m := range msgs {
		p.outcome(identify(m), err)
	}
}

// close ends the producer, and records how that went.
func (p *sender) close() error {
	stop := history.Stop{Member: p.name, Began: time.Now(), Bound: shutdown}
	n := p.sim.Recorded().Add(stop)
	err := p.client.Close()
	if errors.Is(err, errStuck) {
		return err // it has not returned
	}
	if stop.Returned = time.Now(); err != nil {
		stop.Err = err.Error()
	}
	p.sim.Recorded().Set(n, stop)
	return err
}
