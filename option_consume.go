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

// WithOnError sets what is called for each message that this loop gives up
// (dead-letters, skips or stops at), for each failed try to write a dead letter,
// and for each failure of the loop itself. The message of the last kind has a
// zero Time, and a Partition of -1 unless the failure is about one.
//
// Default: none; the error logger is used. It is called from the loop's
// goroutines, several at once with concurrency, and blocks them: it must be
// safe for that and fast. Nil is an error matching [ErrInvalidConfig].
func WithOnError(f func(ctx context.Context, msg kafka.Message, err error)) ConsumeOption {
	return func(d *consumeDraft) {
		if d.accept("consumer.on_error", "WithOnError", f) {
			d.cfg.onError = f
		}
	}
}

// WithOnFailure sets what this loop does with a message that exhausted its
// attempts when there is no dead letter topic: [FailStop] or [FailSkip].
//
// Default: consumer.on_failure, which is empty: Consume skips, the other loops
// stop. Any other value is an error matching [ErrInvalidConfig].
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
