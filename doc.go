// Package kafkax makes a Go service a Kafka producer or consumer that loses
// nothing, hides nothing and stops cleanly.
//
// It is a layer over [github.com/segmentio/kafka-go], which speaks the protocol.
// [Message] and [Header] are other names of its own types, and loggers are its
// own too; kafkax adds configuration and guarantees.
//
// # Configure
//
// A client needs brokers, a topic and, to share the work, a group. All else has
// a default that loses nothing. Four layers make the configuration, and the
// last wins: the defaults in kafkax-default.yaml, the YAML file that
// KAFKAX_CONFIG_FILE names, the environment, and options. One key has one name
// in all of them: consumer.session_timeout is KAFKAX_CONSUMER_SESSION_TIMEOUT
// and [WithConsumerSessionTimeout].
//
// [NewProducer] and [NewConsumer] report every problem at once, each a
// [ConfigError], and do not connect; [Producer.Ping] and [Consumer.Ping] do.
// [ConsumerConfig.Explain] lists each key with its value and the layer it came
// from. Nothing prints a [Secret].
//
// # Produce
//
//	producer, err := kafkax.NewProducer(kafkax.WithProducerTopic("orders"))
//	if err != nil {
//		return err
//	}
//	defer producer.Close()
//
//	err = producer.SendJSON(ctx, []byte(order.CustomerID), order)
//
// One producer serves the whole program: sends that meet share requests. Nil
// means that all in-sync replicas have the message. [ProduceErrors] names the
// messages that failed; one that may have arrived all the same matches
// [ErrOutcomeUnknown]. A caller need not retry: kafkax has, for as long as
// producer.delivery_timeout.
//
// # Consume
//
//	consumer, err := kafkax.NewConsumer(
//		kafkax.WithConsumerTopic("orders"),
//		kafkax.WithConsumerGroupID("billing"),
//		kafkax.WithConsumerDLQTopic("orders-dlq"),
//	)
//	if err != nil {
//		return err
//	}
//	return consumer.RunWithGracefulShutdown(ctx, func(ctx context.Context) error {
//		return consumer.Consume(ctx, func(ctx context.Context, msg kafkax.Message) error {
//			return bill(ctx, msg.Value)
//		})
//	})
//
// A [Handler] that returns nil is done with its message. One that returns an
// error is called again, after growing waits, as often as [RetryConfig] says;
// [Permanent] skips that. Then the message goes to the dead letter topic, with
// headers that say where it came from and why ([HeaderError] and the others).
// Without such a topic [Consumer.Consume] reports and skips it, and the other
// loops stop; [WithOnFailure] changes either. By default a message is given up
// after ten calls, which take some 33 s without the handler's own time: to
// outlast a longer outage, raise consumer.retry.max_attempts and return Permanent
// for what will never succeed.
//
// Three loops differ in when they commit. Consume does so every
// commit_interval, [Consumer.ConsumeWithManualCommit] after each message, and
// [Consumer.ConsumeBatch] after each batch. [Consumer.FetchMessage] with
// [Consumer.CommitMessages], and [Consumer.ReadMessage], are for those who want
// to pull. Handlers run one at a time unless [WithConcurrency] says more;
// [WithOrdering] says what then stays in order. [JSONHandler] decodes first, and
// a [MultiTopicConsumer] runs a handler for each of several topics.
//
// # Stop
//
// A loop ends when its context does: it fetches no more, waits for the handlers
// at work, commits what they did, and returns nil. [Consumer.GracefulShutdown]
// does the same within a bound and leaves the group;
// [Consumer.RunWithGracefulShutdown] calls it on SIGINT and SIGTERM. What did not
// end in time is cut off by its context, named in a [ShutdownError], and comes
// again. [Producer.Close] sends what was accepted first. A handler must not
// close its own consumer, which would wait for it.
//
// # Watch
//
// Failures go to slog's default logger, or to one of yours
// ([WithConsumerErrorLogger]); progress goes nowhere unless asked for
// ([WithConsumerLogger]). [NewSlogLoggers] makes both. [Consumer.Lag],
// [Consumer.PartitionLag], [Consumer.Stats] and [Producer.Stats] count, and
// [WithOnError] is told of each message that is given up and of what a loop
// lives through.
//
// # Delivery contract
//
//   - Consuming is at least once: an offset is committed only when its message
//     and all before it in the partition are handled, dead-lettered or skipped.
//   - A rebalance or a stop that is not cut off repeats nothing. After a crash,
//     what was handled since the last commit comes again: make handlers
//     idempotent.
//   - Committed offsets never go back, but by [Consumer.SetOffset] and
//     [Consumer.SetOffsetAt].
//   - A dead letter that cannot be written holds up its partition, and is never
//     committed past.
//   - A panic is a failure like any other. A context that ends is none: nothing
//     is counted, dead-lettered or committed.
//   - Messages of one partition, or of one key with [OrderKey], never run out of
//     order or at the same time.
//   - With [ReadCommitted], no record of an aborted transaction is delivered.
//   - Every wait for the network is bounded and shows in the log. Loops
//     reconnect for ever, unless credentials or permissions are refused.
//   - A send that returns nil is stored on all in-sync replicas. By default no
//     retry doubles a message or changes the order in its partition.
//   - Memory is bounded by configuration, for slow handlers and slow brokers.
//
// # More
//
// The README names the test that holds each promise, and compares with kafka-go
// alone. The pages under docs/ answer one question each: the settings, the
// loops, retries and dead letters, stopping, securing, what to watch, and what
// is wrong.
package kafkax
