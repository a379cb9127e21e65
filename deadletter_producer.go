package kafkax

import (
	"context"
	"fmt"
	"math"
	"time"
)

// newDeadLetterProducer makes the producer behind consumer.dlq_topic, for any
// dead letter topic. It dials nothing, and shows what is wrong before the first
// message fails.
func newDeadLetterProducer(cfg ConnectionConfig, log *loggers) (writer DLQWriter, shutdown func(ctx context.Context) error, err error) {
	p, err := newProducer(deadLetterProducerConfig(cfg), log)
	if err != nil {
		return nil, nil, fmt.Errorf("dead letter producer: %w", err)
	}
	return p, p.GracefulShutdown, nil
}

// deadLetterProducerConfig takes nothing from the producer.* keys: what an
// application sends, and how safely, says nothing about its dead letters. The
// topic is on each message.
func deadLetterProducerConfig(cfg ConnectionConfig) ProducerConfig {
	return ProducerConfig{
		ConnectionConfig: cfg,
		// One record a batch, of any size: the broker alone decides what is too
		// large, and one that is must not keep its neighbors out.
		BatchSize:    1,
		BatchBytes:   math.MaxInt32,
		BatchTimeout: time.Millisecond,
		RequiredAcks: AcksAll,
		Idempotent:   true,
		// Longer than a leader's election takes, and short, as only a try that
		// ends shows: the next one follows anyway.
		DeliveryTimeout: 30 * time.Second,
		// A dead letter is larger than its message by its headers, and must not
		// be by its codec too.
		Compression:  CompressionZstd,
		Balancer:     BalancerMurmur2,
		WriteTimeout: 10 * time.Second,
		ReadTimeout:  10 * time.Second,
	}
}
