package kafkax

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/bi-common/kafkax/internal/budget"
	"github.com/segmentio/kafka-go"
)

// Producer sends messages over a [kafka.Writer]. It is made by [NewProducer],
// is safe for concurrent use, and is best shared: sends that meet in a
// batch_timeout share requests. A nil or zero Producer is a closed one.
//
// Every send has these errors:
//
//   - [ErrClosed] once Close or GracefulShutdown was called: nothing was sent;
//   - the context's error, if it had ended before: nothing was sent;
//   - [ProduceErrors] otherwise, naming each message that failed and why. What
//     it does not name was acknowledged, or in async mode was buffered.
//
// A message that may or may not have reached the log, as the context, the
// delivery_timeout or the time of a stop ended while it was in flight, or as the
// broker's answer leaves it open, matches [ErrOutcomeUnknown]; with the context
// it matches the context's error too. A message without [ErrOutcomeUnknown] was
// not stored.
//
// The constructor starts nothing in the background. The first send or Ping makes
// connections; a partition that is written to has a goroutine from then on, and so
// has its completion callback while there is something to tell. All end with Close.
type Producer struct {
	cfg       ProducerConfig
	log       *loggers
	dialer    *dialer
	delivery  *delivery
	plain     *kafka.Writer // what Writer returns
	plainTold sync.Once
	sender    *sender // nil in a zero Producer
	stop      *stopping
	stats     producerStats
	callbacks *callbacks // nil without a completion callback
	tuned     *loggers   // of a Writer that the caller changed; else nil

	disconnect func() // closes every connection, once
}

// NewProducer makes a Producer from the defaults, the configuration file, the
// environment and opts, in that order; the last wins. It does not connect: see
// [Producer.Ping].
//
// An error matches [ErrInvalidConfig] and names every problem.
func NewProducer(opts ...ProducerOption) (*Producer, error) {
	cfg, err := resolveProducer(opts)
	if err != nil {
		return nil, err
	}
	return newProducer(cfg, newLoggers(cfg.logger, cfg.errorLogger))
}

// MustNewProducer is [NewProducer] for a program that cannot start without it:
// it panics with the same error.
func MustNewProducer(opts ...ProducerOption) *Producer {
	p, err := NewProducer(opts...)
	if err != nil {
		panic(err)
	}
	return p
}

func newProducer(cfg ProducerConfig, log *loggers) (*Producer, error) {
	connections := cfg.ConnectionConfig
	connections.RequestTimeout = cfg.silence()
	d, err := newDialer(connections, 0, log)
	if err != nil {
		return nil, cfg.sources.sourced(err, cfg.keys())
	}

	p := &Producer{
		log:      log,
		dialer:   d,
		delivery: newDelivery(cfg, d, log),
		stop:     newStopping(),
	}
	p.disconnect = sync.OnceFunc(func() {
		p.delivery.close()
		p.dialer.close()
	})

	p.plain = newWriter(cfg, kafka.TCP(cfg.Brokers...), p.delivery, log)
	if cfg.tuneWriter != nil {
		if err := tune(p.plain, cfg.tuneWriter); err != nil {
			p.disconnect()
			return nil, err
		}
		cfg.Topic, cfg.Async, cfg.BatchBytes = p.plain.Topic, p.plain.Async, int(p.plain.BatchBytes)
	}
	p.cfg = cfg
	p.assemble()
	return p, nil
}

// assemble makes what sends, with the settings of the plain Writer. What the
// caller changed in those is the caller's code, and is called with care.
func (p *Producer) assemble() {
	w, rt := p.plain, p.plain.Transport
	buffer := budget.New(asyncBytes)
	outcomes := &outcomes{async: p.cfg.Async, buffer: buffer, stop: p.stop, log: p.log}
	if w.Completion != nil {
		p.callbacks = newCallbacks(w.Completion, p.log, p.stop.gone)
		p.stop.untold = p.callbacks.untold
		outcomes.callbacks = p.callbacks
	}
	if rt == nil {
		rt = kafka.DefaultTransport // as kafka-go does
	}
	if rt != kafka.RoundTripper(p.delivery) {
		rt = tunedTransport{next: rt, bound: p.delivery.bound}
		outcomes.foreign = true
	}
	addr := w.Addr
	if addr != nil && addr.String() == kafka.TCP(p.cfg.Brokers...).String() {
		addr = p.dialer.addr()
	}
	w.Completion = outcomes.completePlain
	outcomes.writer = sendingWriter(w, addr, rt, outcomes.complete)
	if p.cfg.tuneWriter != nil {
		p.tuned = tunedLoggers(w)
		outcomes.writer.Logger, outcomes.writer.ErrorLogger = p.tuned.infoLogger(), p.tuned.errorLogger()
	}
	p.sender = &sender{
		cfg:       p.cfg,
		writer:    outcomes.writer,
		topics:    rt,
		create:    w.AllowAutoTopicCreation,
		balancer:  newChooser(w.Balancer, p.delivery.bound),
		callbacks: p.callbacks,
		buffer:    buffer,
		stop:      p.stop,
		waits:     &p.delivery.waits,
		failures:  &p.stats.failed,
		bound:     p.delivery.bound,
	}
	outcomes.writer.Stats() // The first snapshot's minima are always 0.
}

// WriteMessages sends messages: each to its own Topic, or to producer.topic if
// that is empty. Partition, Offset and HighWaterMark are ignored, so a consumed
// message can be passed on as it is.
//
// It blocks until every message has an outcome: at most until ctx ends, or a
// second longer than delivery_timeout and batch_timeout together. nil means
// that all were acknowledged as producer.required_acks says, by default by
// every in-sync replica. Messages fail one by one, with the errors that
// [Producer] lists; a record that is too large or that the broker refuses
// fails alone.
//
// In async mode it returns once the messages are buffered. It then blocks only
// for a first look-up of the topic, while 32 MiB wait to be sent, and for a
// partition whose completion callback lags behind; ctx bounds that and not the
// sending. What fails later goes to the completion callback, or to the error
// logger if there is none.
//
// Keys, values and headers may be reused when it returns, whatever it returns.
func (p *Producer) WriteMessages(ctx context.Context, msgs ...kafka.Message) error {
	switch {
	case ctx == nil:
		p.countFailed(len(msgs))
		return errNilArgument
	case !p.made():
		return ErrClosed
	}
	return p.sender.write(ctx, msgs)
}

// SendMessage sends one message to producer.topic. A nil value is a tombstone
// and stays nil; so does a nil key, for which producer.balancer says where the
// message goes. See [Producer.WriteMessages] for what blocks and which errors.
func (p *Producer) SendMessage(ctx context.Context, key, value []byte) error {
	return p.WriteMessages(ctx, kafka.Message{Key: key, Value: value})
}

// SendToTopic is [Producer.SendMessage] to the topic it is given; an empty one
// is producer.topic.
func (p *Producer) SendToTopic(ctx context.Context, topic string, key, value []byte) error {
	return p.WriteMessages(ctx, kafka.Message{Topic: topic, Key: key, Value: value})
}

// SendMessageWithHeaders is [Producer.SendMessage] with headers, which keep
// their order and may repeat a key.
func (p *Producer) SendMessageWithHeaders(ctx context.Context, key, value []byte, headers ...kafka.Header) error {
	return p.WriteMessages(ctx, kafka.Message{Key: key, Value: value, Headers: headers})
}

// SendToTopicWithHeaders is [Producer.SendToTopic] with headers.
func (p *Producer) SendToTopicWithHeaders(ctx context.Context, topic string, key, value []byte, headers ...kafka.Header) error {
	return p.WriteMessages(ctx, kafka.Message{Topic: topic, Key: key, Value: value, Headers: headers})
}

// SendJSON is [Producer.SendMessage] with payload as encoding/json writes it.
// A payload it cannot write is an error, and nothing is sent; the error's text
// names Go types and shows nothing of the payload.
func (p *Producer) SendJSON(ctx context.Context, key []byte, payload any) error {
	return p.SendJSONToTopic(ctx, "", key, payload)
}

// SendJSONToTopic is [Producer.SendJSON] to the topic it is given.
func (p *Producer) SendJSONToTopic(ctx context.Context, topic string, key []byte, payload any) error {
	value, err := json.Marshal(payload)
	if err != nil {
		p.countFailed(1)
		return &unprintedError{text: fmt.Sprintf("kafkax: payload of type %T: %s", payload, encodeProblem(err)), err: err}
	}
	return p.SendToTopic(ctx, topic, key, value)
}

// encodeProblem says why a payload cannot be written as JSON, and shows
// nothing of it: what an encoder of its types said may quote it.
func encodeProblem(err error) string {
	switch e := err.(type) { //nolint:errorlint // what an encoder inside returns is its own
	case *json.MarshalerError:
		return fmt.Sprintf("the encoder of %v failed", e.Type)
	case *json.UnsupportedTypeError:
		return fmt.Sprintf("JSON has no form for Go type %v", e.Type)
	case *json.UnsupportedValueError:
		if e.Value.IsValid() {
			return fmt.Sprintf("JSON has no form for this value of Go type %v", e.Value.Type())
		}
	}
	return "JSON has no form for it"
}

// SetLogger replaces both loggers, also while messages are sent. nil is the
// default: no progress, and errors to [slog.Default].
func (p *Producer) SetLogger(logger, errorLogger kafka.Logger) {
	if p.made() {
		p.log.set(logger, errorLogger)
	}
}

// Ping makes a new connection to each configured broker at once, authenticates
// and makes a round trip, and is nil as soon as one of them has answered: a warm
// connection could hide that the cluster is gone. It blocks until ctx ends or
// dial_timeout has passed, whatever the brokers and a mechanism do. The error has
// a [ConnectError] for each broker; after a stop it is [ErrClosed].
func (p *Producer) Ping(ctx context.Context) error {
	switch {
	case ctx == nil:
		return errNilArgument
	case !p.made(), p.stop.isClosed():
		return ErrClosed
	}
	return p.dialer.ping(ctx)
}

// Stats returns what the producer counted since it was made: counters only
// grow, whoever else calls it. Errors are the messages that failed, whatever
// stopped them: one for each [ProduceError], for each message of a call that
// failed as a whole, and for each that failed later in async mode. Messages,
// Writes and Bytes are those of batches that were sent or given up. Retries are
// those of batches after their first try; a batch that a refused record splits
// counts once.
func (p *Producer) Stats() kafka.WriterStats {
	if !p.made() {
		return kafka.WriterStats{}
	}
	s := p.stats.add(p.sender.writer)
	// The Writer underneath is always asynchronous, without a topic, and
	// retries nothing; the producer is what was configured.
	s.Async, s.Topic, s.ClientID = p.cfg.Async, p.cfg.Topic, p.cfg.ClientID
	s.MaxAttempts, s.WriteTimeout = int64(p.cfg.MaxAttempts), p.cfg.WriteTimeout
	s.Retries = p.delivery.retries.Load()
	return s
}

// countFailed counts messages that did not come as far as the sender.
func (p *Producer) countFailed(n int) {
	if p.made() {
		p.stats.failed.Add(int64(n))
	}
}

// String says where the producer sends.
func (p *Producer) String() string {
	if !p.made() {
		return "kafkax.Producer(closed)"
	}
	return fmt.Sprintf("kafkax.Producer(topic %q, client %q)", p.cfg.Topic, p.cfg.ClientID)
}

// Format prints String for every verb, where fmt would print every field.
func (p *Producer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// Config returns a copy of the configuration in force.
func (p *Producer) Config() ProducerConfig {
	if !p.made() {
		return ProducerConfig{}
	}
	return p.cfg.clone()
}

// Writer returns a plain [kafka.Writer], and kafkax vouches for nothing that is
// done with it; the error log says so once. It has the producer's settings,
// security and retries, and is for what kafkax does not offer. It is closed with
// the producer, and nil from a nil or zero Producer.
//
// Its errors, its contexts and its Close are kafka-go's, Stats does not count
// what it sends, and its messages have no order among the producer's own. A
// WriteMessages on it that is running when the producer is closed may hang.
func (p *Producer) Writer() *kafka.Writer {
	if !p.made() {
		return nil
	}
	p.plainTold.Do(func() {
		p.log.warn("Writer was called: it is kafka-go's own, and kafkax vouches for nothing that is done with it", nil)
	})
	return p.plain
}

// Close stops accepting messages, sends what was accepted, async messages
// included, and closes the connections. It blocks until that is done, at most
// shutdown_timeout and a second; then it returns a [ShutdownError] that says
// what was cut off. Twice is safe, and so is Close while others send.
//
// Called from a completion callback, for which it waits, it blocks for all of
// that time.
func (p *Producer) Close() error {
	if !p.made() {
		return nil
	}
	timeout := p.cfg.ShutdownTimeout
	ctx, cancel := context.WithTimeoutCause(context.Background(), timeout,
		fmt.Errorf("shutdown_timeout of %s passed: %w", timeout, context.DeadlineExceeded))
	defer cancel()
	return p.GracefulShutdown(ctx)
}

// GracefulShutdown is [Producer.Close] with ctx as the bound in place of
// shutdown_timeout. When ctx ends, what is in flight fails at once, and sends
// that wait for it return: with [ErrOutcomeUnknown] where it may have reached
// the log, else with [ErrClosed].
func (p *Producer) GracefulShutdown(ctx context.Context) error {
	switch {
	case ctx == nil:
		return errNilArgument
	case !p.made():
		return nil
	}
	p.stop.begin(p.sender.buffer.Close, p.flush)
	err := p.stop.wait(ctx, p.disconnect)
	p.flushLogs(ctx)
	return err
}

// flush gives all that was accepted its outcome, when no more is accepted and
// no handover is under way: the Writer's Close must not meet a WriteMessages,
// as a partition that one then adds is never closed, and Close waits for it for
// ever.
func (p *Producer) flush() {
	_ = p.sender.writer.Close() // Neither has an error to return.
	_ = p.plain.Close()
	if p.callbacks != nil {
		p.callbacks.wait()
	}
	p.disconnect()
}

// flushLogs lets the loggers write their last lines. One that does not return
// is no reason to say that the stop failed.
func (p *Producer) flushLogs(ctx context.Context) {
	bound := stopGrace
	if ctx.Err() != nil {
		bound = lastGrace
	}
	if p.tuned != nil {
		p.tuned.flush(bound) // It writes to the other, unless the caller replaced that too.
	}
	p.log.flush(bound)
}

func (p *Producer) made() bool { return p != nil && p.sender != nil }
