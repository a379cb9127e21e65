package kafkax

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/bi-common/kafkax/internal/budget"
	"github.com/segmentio/kafka-go"
)

const (
	// asyncBytes bounds what async mode buffers. Java: buffer.memory.
	asyncBytes = 32 << 20

	// messageOverhead is what a message costs besides its bytes, so that empty
	// ones are bounded too.
	messageOverhead = 256
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
// delivery_timeout or the time of a stop ended while it was in flight, matches
// [ErrOutcomeUnknown]; with the context it matches the context's error too. A
// message without [ErrOutcomeUnknown] was not stored.
type Producer struct {
	cfg        ProducerConfig
	log        *loggers
	dialer     *dialer
	delivery   *delivery
	plain      *kafka.Writer // what Writer returns
	writer     *kafka.Writer // what sends; nil in a zero Producer
	completion func([]kafka.Message, error)
	buffer     *budget.Budget // what async mode may hold

	mu     sync.Mutex
	closed bool
	why    error          // why a stop cut off; nil if none did
	lost   map[string]int // what failed since, by place

	handovers  sync.WaitGroup // calls inside writer.WriteMessages; none begins after closed
	flushed    chan struct{}  // closed when all that was accepted has an outcome
	gone       chan struct{}  // closed when a stop waits no longer for an outcome
	giveUp     func()         // closes gone, once
	disconnect func()         // closes every connection, once

	statsMu sync.Mutex
	stats   kafka.WriterStats // all that the Writer has counted so far
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
	d, err := newDialer(cfg.ConnectionConfig, 0, log)
	if err != nil {
		return nil, cfg.origin.sourced(err, cfg.keys())
	}

	p := &Producer{
		log:      log,
		dialer:   d,
		delivery: newDelivery(cfg, d, log),
		buffer:   budget.New(asyncBytes),
		flushed:  make(chan struct{}),
		gone:     make(chan struct{}),
	}
	p.giveUp = sync.OnceFunc(func() { close(p.gone) })
	p.disconnect = sync.OnceFunc(func() {
		p.delivery.close()
		p.dialer.close()
	})

	brokers := kafka.TCP(cfg.Brokers...)
	w := newWriter(cfg, brokers, p.delivery, log)
	if cfg.tuneWriter != nil {
		cfg.tuneWriter(w)
		cfg.Topic, cfg.Async, cfg.BatchBytes = w.Topic, w.Async, cmp.Or(int(w.BatchBytes), cfg.BatchBytes)
	}
	p.cfg, p.completion = cfg, w.Completion
	w.Completion = p.notify
	p.plain, p.writer = w, p.sending(w)
	if w.Addr != nil && w.Addr.String() == brokers.String() {
		p.writer.Addr = d.addr() // kafka-go would try them in turn
	}
	p.writer.Stats() // The first snapshot's minima are always 0.
	return p, nil
}

// newWriter leaves no field of kafka-go's Writer at a zero that means
// something unsafe. Retries are the delivery's, and so are the timeouts of each
// try: the Writer makes one attempt, which outlasts them.
func newWriter(cfg ProducerConfig, addr net.Addr, rt kafka.RoundTripper, log *loggers) *kafka.Writer {
	return &kafka.Writer{
		Addr:         addr,
		Topic:        cfg.Topic,
		Balancer:     newBalancers(cfg.Balancer),
		MaxAttempts:  1,
		BatchSize:    cfg.BatchSize,
		BatchBytes:   int64(cfg.BatchBytes),
		BatchTimeout: cfg.BatchTimeout,
		ReadTimeout:  cfg.ReadTimeout,
		WriteTimeout: max(cfg.DeliveryTimeout, cfg.DeliveryTimeout+time.Minute), // The sum may overflow.
		RequiredAcks: cfg.RequiredAcks.kafka(),
		Async:        cfg.Async,
		Completion:   cfg.completion,
		Compression:  cfg.Compression.kafka(),
		Transport:    rt,
		Logger:       log.infoLogger(),
		// Failures are returned, or reported by notify; kafka-go's own line
		// for a batch that is then sent in parts would be a false alarm.
		ErrorLogger: log.infoLogger(),
	}
}

// sending is w as kafkax sends with it. It is always asynchronous, and kafkax
// waits for the outcomes itself: so it knows what was handed over when a
// context ends, and Close can flush without meeting a waiting send inside the
// Writer, where the two may lock each other out. It has no topic: messages
// carry theirs, and the Writer refuses to have both.
func (p *Producer) sending(w *kafka.Writer) *kafka.Writer {
	balancer := w.Balancer
	if balancer == nil {
		balancer = new(kafka.RoundRobin)
	}
	return &kafka.Writer{
		Addr: w.Addr,
		Balancer: kafka.BalancerFunc(func(msg kafka.Message, partitions ...int) int {
			partition := balancer.Balance(msg, partitions...)
			msg.WriterData.(*slot).partition = partition // So that a failure can name it.
			return partition
		}),
		MaxAttempts:            w.MaxAttempts,
		WriteBackoffMin:        w.WriteBackoffMin,
		WriteBackoffMax:        w.WriteBackoffMax,
		BatchSize:              w.BatchSize,
		BatchBytes:             w.BatchBytes,
		BatchTimeout:           w.BatchTimeout,
		ReadTimeout:            w.ReadTimeout,
		WriteTimeout:           w.WriteTimeout,
		RequiredAcks:           w.RequiredAcks,
		Async:                  true,
		Completion:             p.complete,
		Compression:            w.Compression,
		Transport:              w.Transport,
		Logger:                 w.Logger,
		ErrorLogger:            w.ErrorLogger,
		AllowAutoTopicCreation: w.AllowAutoTopicCreation,
	}
}

func (a Acks) kafka() kafka.RequiredAcks {
	switch a {
	case AcksNone:
		return kafka.RequireNone
	case AcksOne:
		return kafka.RequireOne
	default:
		return kafka.RequireAll
	}
}

func (c Compression) kafka() kafka.Compression {
	switch c {
	case CompressionGzip:
		return kafka.Gzip
	case CompressionSnappy:
		return kafka.Snappy
	case CompressionLz4:
		return kafka.Lz4
	case CompressionZstd:
		return kafka.Zstd
	default:
		return 0
	}
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
// A payload it cannot write is an error, and nothing is sent.
func (p *Producer) SendJSON(ctx context.Context, key []byte, payload any) error {
	return p.SendJSONToTopic(ctx, "", key, payload)
}

// SendJSONToTopic is [Producer.SendJSON] to the topic it is given.
func (p *Producer) SendJSONToTopic(ctx context.Context, topic string, key []byte, payload any) error {
	value, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("kafkax: payload of type %T as JSON: %w", payload, err)
	}
	return p.SendToTopic(ctx, topic, key, value)
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
	case p.isClosed():
		return ErrClosed
	}
	return p.dialer.ping(ctx)
}

// Stats returns what the producer counted since it was made: counters only
// grow, whoever else calls it. Retries are those of batches after their first
// try; a batch that a refused record splits counts once.
func (p *Producer) Stats() kafka.WriterStats {
	if !p.made() {
		return kafka.WriterStats{}
	}
	p.statsMu.Lock()
	defer p.statsMu.Unlock()

	was, s := p.stats, p.writer.Stats() // The Writer starts anew at each call.
	s.Writes += was.Writes
	s.Messages += was.Messages
	s.Bytes += was.Bytes
	s.Errors += was.Errors
	s.BatchTime = addDurations(was.BatchTime, s.BatchTime)
	s.BatchQueueTime = addDurations(was.BatchQueueTime, s.BatchQueueTime)
	s.WriteTime = addDurations(was.WriteTime, s.WriteTime)
	s.WaitTime = addDurations(was.WaitTime, s.WaitTime)
	s.BatchSize = addSummaries(was.BatchSize, s.BatchSize)
	s.BatchBytes = addSummaries(was.BatchBytes, s.BatchBytes)

	// The Writer underneath is always asynchronous, without a topic, and
	// retries nothing; the producer is what was configured.
	s.Async, s.Topic, s.ClientID = p.cfg.Async, p.cfg.Topic, p.cfg.ClientID
	s.MaxAttempts, s.WriteTimeout = int64(p.cfg.MaxAttempts), p.cfg.WriteTimeout
	s.Retries = p.delivery.retries.Load()
	p.stats = s
	return s
}

func addSummaries(a, b kafka.SummaryStats) kafka.SummaryStats {
	switch {
	case a.Count == 0:
		return b
	case b.Count == 0:
		return a
	}
	s := kafka.SummaryStats{
		Min:   min(a.Min, b.Min),
		Max:   max(a.Max, b.Max),
		Count: a.Count + b.Count,
		Sum:   a.Sum + b.Sum,
	}
	s.Avg = s.Sum / s.Count
	return s
}

func addDurations(a, b kafka.DurationStats) kafka.DurationStats {
	switch {
	case a.Count == 0:
		return b
	case b.Count == 0:
		return a
	}
	s := kafka.DurationStats{
		Min:   min(a.Min, b.Min),
		Max:   max(a.Max, b.Max),
		Count: a.Count + b.Count,
		Sum:   a.Sum + b.Sum,
	}
	s.Avg = s.Sum / time.Duration(s.Count)
	return s
}

// Config returns a copy of the configuration in force.
func (p *Producer) Config() ProducerConfig {
	if !p.made() {
		return ProducerConfig{}
	}
	return p.cfg.clone()
}

// Writer returns a plain [kafka.Writer] with the producer's settings, security
// and retries, for what kafkax does not offer. It is closed with the producer,
// and nil from a nil or zero Producer.
//
// What is sent through it is outside this package's promises: its errors, its
// contexts and its Close are kafka-go's, Stats does not count it, and its
// messages have no order among the producer's own. A WriteMessages on it that
// is running when the producer is closed may hang.
func (p *Producer) Writer() *kafka.Writer {
	if p == nil {
		return nil
	}
	return p.plain
}

func (p *Producer) made() bool { return p != nil && p.writer != nil }

func (p *Producer) isClosed() bool {
	if !p.made() {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}
