package main

import (
	"context"
	"errors"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
)

// plainWriter is a kafka.Writer as kafka-go's README writes it, with the
// defaults; it puts a key where kafkax does. Without a topic its messages have one.
func plainWriter(sim *kafkaxtest.Sim, name, topic string) *kafka.Writer {
	return &kafka.Writer{
		Addr: kafka.TCP(sim.Brokers()...), Topic: topic,
		Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll,
		Transport:   &kafka.Transport{ClientID: name, Dial: sim.Dial},
		ErrorLogger: kafka.LoggerFunc(func(format string, args ...any) { sim.Log(name+": "+format, args...) }),
	}
}

func closeWriter(w *kafka.Writer) error {
	err := w.Close()
	w.Transport.(*kafka.Transport).CloseIdleConnections()
	return err
}

// writer sends with a kafka.Writer.
type writer struct{ *kafka.Writer }

// plainClient is what a sender uses in place of a kafkax producer.
func (p *sender) plainClient() client {
	w := plainWriter(p.sim, p.name, "")
	if w.Async = p.mode.async; w.Async {
		w.Completion = func(msgs []kafka.Message, err error) { p.completed(msgs, unknown(err)) }
	}
	return writer{w}
}

func (w writer) WriteMessages(ctx context.Context, msgs ...kafka.Message) error {
	return unknown(w.Writer.WriteMessages(ctx, msgs...))
}

func (w writer) Close() (err error) {
	if !within(plainStop, func() { err = closeWriter(w.Writer) }) {
		return errStuck
	}
	return err
}

// unknown is an error of kafka-go, none of which promises that a message is not
// in the log.
func unknown(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(kafkax.ErrOutcomeUnknown, err)
}
