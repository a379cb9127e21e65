package kafkax

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
)

// WithRetry sets how often and when this loop calls a failed handler again.
//
// Default: the consumer.retry.* keys. A zero MaxAttempts, InitialBackoff,
// MaxBackoff or Multiplier keeps what they say; Jitter is taken as it is, as 0
// is a value of its own. The result must obey their bounds, or the loop returns
// an error matching [ErrInvalidConfig].
func WithRetry(retry RetryConfig) ConsumeOption {
	return func(d *consumeDraft) {
		set := func(key string, value any) { d.set("consumer.retry."+key, "WithRetry", settingText(value)) }
		if retry.MaxAttempts != 0 {
			set("max_attempts", retry.MaxAttempts)
		}
		if retry.InitialBackoff != 0 {
			set("initial_backoff", retry.InitialBackoff)
		}
		if retry.MaxBackoff != 0 {
			set("max_backoff", retry.MaxBackoff)
		}
		if retry.Multiplier != 0 {
			set("multiplier", retry.Multiplier)
		}
		set("jitter", retry.Jitter)
	}
}

// WithDLQTopic sets where this loop sends messages that exhausted their
// attempts.
//
// Default: consumer.dlq_topic. It must not be the topic that is consumed, or
// the loop returns an error matching [ErrInvalidConfig]. Empty turns the dead
// letter topic off for this loop.
func WithDLQTopic(topic string) ConsumeOption {
	return consumeSetting("consumer.dlq_topic", "WithDLQTopic", topic)
}

// WithDLQWriter sets what writes this loop's dead letters, in place of the
// writer kafkax makes with acks from all replicas and the consumer's security.
//
// Default: none. Its WriteMessages must return nil only when the message is
// safe, as its offset is committed then. With a topic from consumer.dlq_topic
// or [WithDLQTopic] messages name it; else the writer decides. The caller
// closes it. Nil is an error matching [ErrInvalidConfig].
func WithDLQWriter(w DLQWriter) ConsumeOption {
	return func(d *consumeDraft) {
		if d.accept("consumer.dlq_writer", "WithDLQWriter", w) {
			d.cfg.dlqWriter = w
		}
	}
}

// WithOnError sets what is called for each message that this loop gives up, for
// each failed try to write a dead letter, and for each failure of the loop
// itself. The error is, or wraps, a [ConsumeError], whose Outcome says which:
//   - [OutcomeDeadLettered], [OutcomeSkipped] or [OutcomeStopping], once for a
//     message that failed for good. Its partition (or key, with that ordering)
//     waits until the function returns, or until its handler could not be waited
//     for any longer: a stop or a rebalance has taken its time. Nothing else waits.
//   - [OutcomeTrouble], for what the loop deals with by itself. These calls are
//     made one after the other, and nothing waits for them; of those that pile up
//     beyond 100 the log says how many are left out. The message is the one whose
//     dead letter was not written; or it has a zero Time, and a Partition of -1
//     unless the trouble is about one.
//
// The message is a copy, as it was fetched. The context carries the values of the
// one given to the loop, and ends when the call is not waited for any longer. A
// loop that ends waits for these calls no longer than for handlers, and then half
// a second; the log names those that have not returned.
//
// Default: none. What is logged does not depend on it. It is called by several
// goroutines at once, and may call the consumer, also Close. A panic is logged.
// Nil is an error matching [ErrInvalidConfig].
func WithOnError(f func(ctx context.Context, msg kafka.Message, err error)) ConsumeOption {
	return func(d *consumeDraft) {
		if d.accept("consumer.on_error", "WithOnError", f) {
			d.cfg.onError = f
		}
	}
}

// WithOnFailure sets what this loop does with a message that exhausted its
// attempts when there is no dead letter topic, or when that refuses it for good:
// [FailStop] or [FailSkip]. A dead letter is refused for good when its topic says
// that it is too large or not valid, also without the headers of its error, or
// when it was dead-lettered five times before.
//
// Default: consumer.on_failure, which is empty: without a dead letter topic
// Consume skips and the other loops stop; what a dead letter topic refuses stops
// every loop, with a [DeadLetterError]. Any other value is an error matching
// [ErrInvalidConfig].
func WithOnFailure(policy FailurePolicy) ConsumeOption {
	return consumeSetting("consumer.on_failure", "WithOnFailure", policy)
}

// WithBatchSize sets the most messages that this ConsumeBatch hands over at
// once.
//
// Default: consumer.batch_size, 100. From 1 to 1000000, or the loop returns an
// error matching [ErrInvalidConfig]; so do the other loops, which have no use
// for it.
func WithBatchSize(n int) ConsumeOption {
	return consumeSetting("consumer.batch_size", "WithBatchSize", n)
}

// WithBatchTimeout sets how long this ConsumeBatch waits to fill a batch.
//
// Default: consumer.batch_timeout, 1s. Above 0, or the loop returns an error
// matching [ErrInvalidConfig]; so do the other loops, which have no use for it.
func WithBatchTimeout(d time.Duration) ConsumeOption {
	return consumeSetting("consumer.batch_timeout", "WithBatchTimeout", d)
}

// WithConcurrency sets how many handlers this loop runs at once.
//
// Default: consumer.concurrency, 1. From 1 to 10000, or the loop returns an
// error matching [ErrInvalidConfig]. [WithOrdering] says which messages may be
// among them.
func WithConcurrency(n int) ConsumeOption {
	return consumeSetting("consumer.concurrency", "WithConcurrency", n)
}

// WithOrdering sets what this loop keeps in order: [OrderPartition], [OrderKey]
// or [Unordered].
//
// Default: consumer.ordering, partition. Any other value is an error matching
// [ErrInvalidConfig]; so is the option in [Consumer.ConsumeBatch], whose batches
// always keep the order of each partition. It matters with a concurrency above 1.
func WithOrdering(o Ordering) ConsumeOption {
	return consumeSetting("consumer.ordering", "WithOrdering", o)
}

// WithHandlerTimeout sets how long one call of this loop's handler may take
// before its context ends with [ErrHandlerTimeout] as the cause.
//
// Default: consumer.handler_timeout, 0, which is no bound. A negative one is an
// error matching [ErrInvalidConfig].
func WithHandlerTimeout(d time.Duration) ConsumeOption {
	return consumeSetting("consumer.handler_timeout", "WithHandlerTimeout", d)
}

func consumeSetting(key, option string, value any) ConsumeOption {
	text := settingText(value)
	return func(d *consumeDraft) { d.set(key, option, text) }
}

// The names of the loops, as errors give them.
const (
	loopConsume = "Consume"
	loopManual  = "ConsumeWithManualCommit"
	loopBatch   = "ConsumeBatch"
)

func loopName(batch, manual bool) string {
	switch {
	case batch:
		return loopBatch
	case manual:
		return loopManual
	default:
		return loopConsume
	}
}

// heededBy is which loops have a use for the options that not all have a use
// for.
var heededBy = map[string]struct {
	key   string
	loops []string
}{
	"WithBatchSize":    {"consumer.batch_size", []string{loopBatch}},
	"WithBatchTimeout": {"consumer.batch_timeout", []string{loopBatch}},
	"WithOrdering":     {"consumer.ordering", []string{loopConsume, loopManual}},
}

// checkLoop refuses options without effect. A key that says the same is legal,
// as it is for all of the consumer's loops.
func checkLoop(r *resolver, loop string) {
	for _, option := range slices.Sorted(maps.Keys(heededBy)) {
		of := heededBy[option]
		if r.settings[of.key].source == "option "+option && !slices.Contains(of.loops, loop) && r.sound(of.key) {
			r.fail(of.key, fmt.Sprintf("%s has no effect in %s, only in %s: leave it out", option, loop, strings.Join(of.loops, " and ")), nil)
		}
	}
}
