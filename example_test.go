package kafkax_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/bi-common/kafkax"
)

// Order is what the examples send and receive.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
}

func bill(context.Context, Order) error { return nil }

// A configuration is judged as a whole, before anything is dialed.
func ExampleNewConsumer_configError() {
	_, err := kafkax.NewConsumer(
		kafkax.WithConsumerTopic("orders"),
		kafkax.WithConsumerGroupID("billing"),
		kafkax.WithConsumerBrokers("kafka-1:9092"),
		kafkax.WithConsumerSessionTimeout(3*time.Second),
		kafkax.WithConsumerRetryMaxAttempts(0),
	)
	fmt.Println(errors.Is(err, kafkax.ErrInvalidConfig))
	fmt.Println(err)

	if first, ok := errors.AsType[*kafkax.ConfigError](err); ok {
		fmt.Println("first:", first.Key)
	}
	// Output:
	// true
	// kafkax: consumer.retry.max_attempts = 0 (option WithConsumerRetryMaxAttempts): must be a whole number from 1 to 2147483647
	// consumer.heartbeat_interval = 3s (default): must be below consumer.session_timeout, which is 3s (option WithConsumerSessionTimeout); a third of it is usual
	// first: consumer.retry.max_attempts
}

// The zero fields of a RetryConfig keep what the configuration says.
func ExampleWithRetry() {
	consumer, err := kafkax.NewConsumer(
		kafkax.WithConsumerTopic("orders"),
		kafkax.WithConsumerGroupID("billing"),
	)
	if err != nil {
		log.Fatal(err)
	}
	handle := func(context.Context, kafkax.Message) error { return nil }

	// Six tries, 0.5s, 1s, 2s, 4s and 8s apart.
	err = consumer.Consume(context.Background(), handle, kafkax.WithRetry(kafkax.RetryConfig{
		MaxAttempts:    6,
		InitialBackoff: 500 * time.Millisecond,
	}))
	if err != nil {
		log.Fatal(err)
	}
}

// Explain shows where each value came from.
func ExampleConsumerConfig_Explain() {
	consumer, err := kafkax.NewConsumer(
		kafkax.WithConsumerBrokers("kafka-1:9092", "kafka-2:9092"),
		kafkax.WithConsumerTopic("orders"),
		kafkax.WithConsumerGroupID("billing"),
		kafkax.WithConsumerSASLMechanism(kafkax.SASLScramSHA512),
		kafkax.WithConsumerSASLUsername("billing"),
		kafkax.WithConsumerSASLPassword("hunter2"),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer consumer.Close()

	for _, s := range consumer.Config().Explain() {
		switch s.Key {
		case "brokers", "sasl.password", "consumer.session_timeout":
			fmt.Printf("%s = %s (%s)\n", s.Key, s.Value, s.Source)
		}
	}
	// Output:
	// brokers = kafka-1:9092,kafka-2:9092 (option WithConsumerBrokers)
	// sasl.password = *** (option WithConsumerSASLPassword)
	// consumer.session_timeout = 30s (default)
}

// A dead letter says where it came from and why it is one.
func ExampleConsumer_FetchMessage_deadLetters() {
	letters, err := kafkax.NewConsumer(kafkax.WithConsumerTopic("orders-dlq"), kafkax.WithConsumerGroupID("repair"))
	if err != nil {
		log.Fatal(err)
	}
	defer letters.Close()

	ctx := context.Background()
	for {
		msg, err := letters.FetchMessage(ctx)
		if err != nil {
			log.Print(err)
			return
		}
		for _, h := range msg.Headers {
			switch h.Key {
			case kafkax.HeaderOriginalTopic, kafkax.HeaderOriginalOffset, kafkax.HeaderError, kafkax.HeaderAttempts:
				fmt.Printf("%s: %s\n", h.Key, h.Value)
			}
		}
		if err := letters.CommitMessages(ctx, msg); err != nil {
			log.Print(err)
		}
	}
}

// The environment names the brokers: KAFKAX_BROKERS=kafka-1:9092,kafka-2:9092.
func ExampleConsumer_Consume() {
	consumer, err := kafkax.NewConsumer(
		kafkax.WithConsumerTopic("orders"),
		kafkax.WithConsumerGroupID("billing"),
		kafkax.WithConsumerDLQTopic("orders-dlq"),
	)
	if err != nil {
		log.Fatal(err)
	}
	err = consumer.RunWithGracefulShutdown(context.Background(), func(ctx context.Context) error {
		return consumer.Consume(ctx, func(ctx context.Context, msg kafkax.Message) error {
			var order Order
			if err := json.Unmarshal(msg.Value, &order); err != nil {
				return kafkax.Permanent(err)
			}
			return bill(ctx, order)
		})
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A batch handler names the messages that failed; the others are done.
func ExampleConsumer_ConsumeBatch() {
	consumer := kafkax.MustNewConsumer(kafkax.WithConsumerTopic("orders"), kafkax.WithConsumerGroupID("billing"))
	defer consumer.Close()

	err := consumer.ConsumeBatch(context.Background(), func(ctx context.Context, msgs []kafkax.Message) error {
		failed := map[int]error{}
		for i, msg := range msgs {
			if err := bill(ctx, Order{ID: string(msg.Key)}); err != nil {
				failed[i] = err
			}
		}
		if len(failed) > 0 {
			return &kafkax.BatchError{Failed: failed}
		}
		return nil
	}, kafkax.WithBatchSize(500), kafkax.WithDLQTopic("orders-dlq"))
	if err != nil {
		log.Print(err)
	}
}

// OnError sees each message that is given up, and each failure of the loop.
func ExampleWithOnError() {
	consumer := kafkax.MustNewConsumer(kafkax.WithConsumerTopic("orders"), kafkax.WithConsumerGroupID("billing"))
	defer consumer.Close()

	report := func(ctx context.Context, msg kafkax.Message, err error) {
		slog.ErrorContext(ctx, "not handled", "topic", msg.Topic, "partition", msg.Partition, "offset", msg.Offset, "err", err)
	}
	handle := func(context.Context, kafkax.Message) error { return nil }
	if err := consumer.Consume(context.Background(), handle, kafkax.WithOnError(report)); err != nil {
		log.Print(err)
	}
}

// A producer is made once, and shared.
func ExampleProducer_SendJSON() {
	producer, err := kafkax.NewProducer(kafkax.WithProducerTopic("orders"))
	if err != nil {
		log.Fatal(err)
	}
	defer producer.Close()

	order := Order{ID: "o-1", Customer: "c-7"}
	// Orders of one customer keep their order.
	if err := producer.SendJSON(context.Background(), []byte(order.Customer), order); err != nil {
		log.Print(err)
	}
}

// Messages of one call fail one by one.
func ExampleProduceErrors() {
	producer := kafkax.MustNewProducer()
	defer producer.Close()

	msgs := []kafkax.Message{
		{Topic: "orders", Key: []byte("c-7"), Value: []byte("...")},
		{Topic: "audit", Value: []byte("...")},
	}
	err := producer.WriteMessages(context.Background(), msgs...)
	if failed, ok := errors.AsType[kafkax.ProduceErrors](err); ok {
		for _, f := range failed {
			unknown := errors.Is(f, kafkax.ErrOutcomeUnknown) // it may be stored
			log.Printf("message %d to %s: %v (may be stored: %t)", f.Index, msgs[f.Index].Topic, f.Err, unknown)
		}
	}
}
