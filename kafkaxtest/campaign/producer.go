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

// luck is random numbers for several goroutines.
type luck struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newLuck(r *rand.Rand) *luck { return &luck{r: rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))} }

func (l *luck) float() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Float64()
}

// sender sends messages through one producer until it is told to end, and
// records what became of each.
type sender struct {
	sim    *kafkaxtest.Sim
	mode   mode
	name   string
	client *kafkax.Producer
	luck   *luck

	mu   sync.Mutex
	sent map[string]sending // without an outcome yet, of async sends
	n    int
}

type sending struct {
	number int
	event  history.Send
}

func newSender(s *kafkaxtest.Sim, m mode, name string, r *rand.Rand) *sender {
	p := &sender{sim: s, mode: m, name: name, luck: newLuck(r), sent: map[string]sending{}}
	p.client = s.Producer(
		kafkax.WithProducerTopic(topic), kafkax.WithProducerClientID(name), kafkax.WithProducerAsync(m.async),
		kafkax.WithProducerIdempotent(m.idempotent), kafkax.WithProducerShutdownTimeout(15*time.Second),
		kafkax.WithProducerDeliveryTimeout(30*time.Second), kafkax.WithProducerWriteTimeout(5*time.Second),
		kafkax.WithProducerCompletion(p.completed),
	)
	return p
}

// run sends two messages a second on average, until ctx ends.
func (p *sender) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(p.luck.float() * float64(time.Second))):
		}
		p.send(ctx)
	}
}

func (p *sender) send(ctx context.Context) {
	p.n++
	id := fmt.Sprintf("%s-%d", p.name, p.n)
	value := id + " "
	if p.luck.float() < p.mode.handler.poison {
		value = id + " poison"
	}
	key := fmt.Sprint("key-", int(p.luck.float()*20))
	event := history.Send{
		Producer: p.name, Caller: "run", Topic: topic, ID: id, Key: key, Idempotent: p.mode.idempotent, Began: time.Now(),
	}
	p.mu.Lock()
	number := p.sim.Recorded().Add(event)
	p.sent[id] = sending{number, event}
	p.mu.Unlock()
	err := p.client.SendMessage(context.WithoutCancel(ctx), []byte(key), []byte(value))
	if err == nil && p.mode.async {
		return // the completion tells
	}
	p.outcome(id, err)
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
	stop := history.Stop{Member: p.name, Began: time.Now(), Bound: 15 * time.Second}
	n := p.sim.Recorded().Add(stop)
	err := p.client.Close()
	if stop.Returned = time.Now(); err != nil {
		stop.Err = err.Error()
	}
	p.sim.Recorded().Set(n, stop)
	return err
}
