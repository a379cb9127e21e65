package kafkax

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

const (
	// tunePatience is how long a function of WithProducerWriter may take.
	tunePatience = 10 * time.Second

	// maxWriterBatch is the most messages of a batch, for each of which a Writer
	// reserves memory. It is that of producer.batch_size.
	maxWriterBatch = 1_000_000
)

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

// tune lets the caller's function change the Writer, and says with a
// [ConfigError] if it did not do that.
func tune(w *kafka.Writer, f func(*kafka.Writer)) error {
	batchBytes := w.BatchBytes
	problem := func(rule string, err error) error {
		return &ConfigError{Key: "writer", Source: "option WithProducerWriter", Rule: rule, Err: err}
	}
	err, ok := within(callUser(func() error { f(w); return nil }), tunePatience)
	switch {
	case err != nil:
		return problem("the function must return: "+oneLine(err.Error()), err)
	case !ok:
		return problem(fmt.Sprintf("the function must return, which it has not done for %s", tunePatience), nil)
	}
	if w.BatchSize > maxWriterBatch {
		return problem(fmt.Sprintf("the BatchSize of %d must be at most %d", w.BatchSize, maxWriterBatch), nil)
	}
	if w.BatchBytes <= 0 {
		w.BatchBytes = batchBytes
	}
	return nil
}

// sendingWriter is w as kafkax sends with it. It is always asynchronous, and kafkax
// waits for the outcomes itself: so it knows what was handed over when a
// context ends, and Close can flush without meeting a waiting send inside the
// Writer, where the two may lock each other out. It has no topic: messages
// carry theirs, and the Writer refuses to have both. Their partition was chosen
// before.
func sendingWriter(w *kafka.Writer, addr net.Addr, rt kafka.RoundTripper, completion func([]kafka.Message, error)) *kafka.Writer {
	return &kafka.Writer{
		Addr: addr,
		Balancer: kafka.BalancerFunc(func(msg kafka.Message, _ ...int) int {
			return msg.WriterData.(*slot).partition
		}),
		MaxAttempts:     w.MaxAttempts,
		WriteBackoffMin: w.WriteBackoffMin,
		WriteBackoffMax: w.WriteBackoffMax,
		BatchSize:       w.BatchSize,
		BatchBytes:      w.BatchBytes,
		BatchTimeout:    w.BatchTimeout,
		ReadTimeout:     w.ReadTimeout,
		WriteTimeout:    w.WriteTimeout,
		RequiredAcks:    w.RequiredAcks,
		Async:           true,
		Completion:      completion,
		Compression:     w.Compression,
		Transport:       writerTransport{rt},
		Logger:          w.Logger,
		ErrorLogger:     w.ErrorLogger,
	}
}

// writerTransport answers by itself what the Writer asks before each message:
// how many partitions there are. The sender has asked, and chosen one.
type writerTransport struct{ kafka.RoundTripper }

func (t writerTransport) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	if m, ok := req.(*metadata.Request); ok && len(m.TopicNames) == 1 {
		return &metadata.Response{Topics: []metadata.ResponseTopic{{Name: m.TopicNames[0], Partitions: onePartition}}}, nil
	}
	return t.RoundTripper.RoundTrip(ctx, addr, req)
}

var onePartition = make([]metadata.ResponsePartition, 1)
