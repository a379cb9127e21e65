package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"
)

// Headers of a dead letter, all plain UTF-8 text. Key, value, timestamp and the
// other headers are those of the original message.
//
// A message that comes from a dead letter topic and is dead-lettered again
// keeps the four original headers it has: they name where it was first read.
const (
	HeaderOriginalTopic     = "kafkax-original-topic"
	HeaderOriginalPartition = "kafkax-original-partition"
	HeaderOriginalOffset    = "kafkax-original-offset"
	HeaderOriginalTimestamp = "kafkax-original-timestamp" // RFC 3339 in UTC, milliseconds; empty if it had none
	HeaderConsumerGroup     = "kafkax-consumer-group"     // empty without a group
	HeaderError             = "kafkax-error"              // cut to 4 KiB
	HeaderErrorType         = "kafkax-error-type"         // a Go type: "*json.SyntaxError"
	HeaderAttempts          = "kafkax-attempts"           // how often the handler was called
	HeaderFailedAt          = "kafkax-failed-at"          // RFC 3339 in UTC, milliseconds
)

const (
	maxErrorHeader  = 4 << 10
	headerTimestamp = "2006-01-02T15:04:05.000Z07:00"
)

// deadLetter makes the dead letter of a message that the handler failed with
// err. The caller sets its Topic.
func deadLetter(msg kafka.Message, group string, err error, attempts int, failedAt time.Time) kafka.Message {
	kept, origin := splitHeaders(msg.Headers)
	if len(origin) == 0 {
		origin = []kafka.Header{
			textHeader(HeaderOriginalTopic, msg.Topic),
			textHeader(HeaderOriginalPartition, strconv.Itoa(msg.Partition)),
			textHeader(HeaderOriginalOffset, strconv.FormatInt(msg.Offset, 10)),
			textHeader(HeaderOriginalTimestamp, headerTime(msg.Time)),
		}
	}
	return kafka.Message{
		Key:   msg.Key,
		Value: msg.Value,
		Time:  msg.Time,
		Headers: append(append(kept, origin...),
			textHeader(HeaderConsumerGroup, group),
			textHeader(HeaderError, fmt.Sprint(err)), // unlike err.Error, it survives a nil pointer in err
			textHeader(HeaderErrorType, fmt.Sprintf("%T", meaningful(err))),
			textHeader(HeaderAttempts, strconv.Itoa(attempts)),
			textHeader(HeaderFailedAt, headerTime(failedAt)),
		),
	}
}

// splitHeaders copies a message's headers into those of others and its first
// origin. The latter is empty if it does not name a topic: then what else
// there is of it says nothing. Headers of an earlier failure are left out.
func splitHeaders(headers []kafka.Header) (kept, origin []kafka.Header) {
	kept = make([]kafka.Header, 0, len(headers)+9)
	named := false
	for _, h := range headers {
		switch h.Key {
		case HeaderOriginalTopic, HeaderOriginalPartition, HeaderOriginalOffset, HeaderOriginalTimestamp:
			if !slices.ContainsFunc(origin, func(o kafka.Header) bool { return o.Key == h.Key }) {
				origin = append(origin, h)
			}
			named = named || h.Key == HeaderOriginalTopic
		case HeaderConsumerGroup, HeaderError, HeaderErrorType, HeaderAttempts, HeaderFailedAt:
		default:
			kept = append(kept, h)
		}
	}
	if !named {
		origin = nil
	}
	return kept, origin
}

// textHeader makes the value valid UTF-8 of at most 4 KiB, whole runes.
func textHeader(key, value string) kafka.Header {
	value = strings.ToValidUTF8(value, string(utf8.RuneError))
	if len(value) > maxErrorHeader {
		end := maxErrorHeader
		for !utf8.RuneStart(value[end]) {
			end--
		}
		value = value[:end]
	}
	return kafka.Header{Key: key, Value: []byte(value)}
}

func headerTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(headerTimestamp)
}

// meaningful takes off what only adds text or a mark, or takes text away:
// fmt.Errorf's %w, errors.Join (the first error stands for all), [Permanent] and
// what stands for an unprinted error.
func meaningful(err error) error {
	for {
		inner := unwrapStandard(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// unwrapStandard returns what a wrapper of ours, or of package fmt or errors,
// holds; nil for every other error, and for a wrapper made of nil.
func unwrapStandard(err error) error {
	switch e := err.(type) { //nolint:errorlint // one layer at a time
	case *permanentError:
		return e.error
	case *unprintedError:
		return e.err
	}
	t := reflect.TypeOf(err)
	if t == nil || t.Kind() != reflect.Pointer {
		return nil
	}
	if path := t.Elem().PkgPath(); path != "fmt" && path != "errors" {
		return nil
	}
	switch e := err.(type) { //nolint:errorlint // one layer at a time
	case interface{ Unwrap() error }:
		return e.Unwrap()
	case interface{ Unwrap() []error }:
		if inner := e.Unwrap(); len(inner) > 0 {
			return inner[0]
		}
	}
	return nil
}

// deadLetterWriter writes the dead letters of one loop. It is safe for
// concurrent use.
type deadLetterWriter struct {
	group  string
	topic  string // empty if writer has its own
	writer DLQWriter
	log    *loggers
}

// write returns nil when the dead letter is acknowledged. Until then it blocks,
// and so does the message's partition: its offset may not be committed. Each
// failed try is logged and passed to failed. Ctx bounds a try; once stopping
// ends, the try under way is the last. Without success write returns a
// [DeadLetterError].
//
// A try that failed may have stored the dead letter all the same: the topic has
// it at least once.
func (w *deadLetterWriter) write(ctx, stopping context.Context, msg kafka.Message, handlerErr error, attempts int, failed func(error)) error {
	handlerErr, _ = unmark(handlerErr)
	dead := deadLetter(msg, w.group, handlerErr, attempts, time.Now())
	dead.Topic = w.topic

	var writeErr, cause error
	for try := 1; cause == nil; try++ {
		if ctx.Err() == nil {
			if writeErr = w.try(ctx, dead); writeErr == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			cause = context.Cause(ctx) // it may be why the try failed, and is returned with it
			break
		}
		err := fmt.Errorf("%s: dead letter not written, try %d: %w", at(msg.Topic, msg.Partition, msg.Offset), try, writeErr)
		w.log.fail("a dead letter was not written, to be retried", append(attrsOf(msg.Topic, msg.Partition).offset(msg.Offset).group(w.group).attempt(try, 0).err(err), slog.String("dlq_topic", w.topic)))
		failed(err)
		cause = deadLetterBackoff.wait(stopping, try)
	}

	switch {
	case writeErr == nil:
		writeErr = cause
	case !errors.Is(writeErr, cause):
		writeErr = fmt.Errorf("%w (%w)", writeErr, cause)
	}
	return &DeadLetterError{
		Topic:      msg.Topic,
		Partition:  msg.Partition,
		Offset:     msg.Offset,
		DLQTopic:   w.topic,
		HandlerErr: handlerErr,
		WriteErr:   writeErr,
	}
}

// try turns a panic of a caller's writer into an error: it runs on kafkax's
// goroutine, where it would end the process.
func (w *deadLetterWriter) try(ctx context.Context, dead kafka.Message) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return w.writer.WriteMessages(ctx, dead)
}

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
		Compression:     CompressionSnappy,
		Balancer:        BalancerMurmur2,
		WriteTimeout:    10 * time.Second,
		ReadTimeout:     10 * time.Second,
	}
}
