package kafkax

import (
	"net"
	"time"

	"github.com/segmentio/kafka-go"
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

// sendingWriter is w as kafkax sends with it. It is always asynchronous, and kafkax
// waits for the outcomes itself: so it knows what was handed over when a
// context ends, and Close can flush without meeting a waiting send inside the
// Writer, where the two may lock each other out. It has no topic: messages
// carry theirs, and the Writer refuses to have both.
func sendingWriter(w *kafka.Writer, completion func([]kafka.Message, error)) *kafka.Writer {
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
		Completion:             completion,
		Compression:            w.Compression,
		Transport:              w.Transport,
		Logger:                 w.Logger,
		ErrorLogger:            w.ErrorLogger,
		AllowAutoTopicCreation: w.AllowAutoTopicCreation,
	}
}
