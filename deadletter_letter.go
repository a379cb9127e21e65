package kafkax

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// Headers of a dead letter, all plain UTF-8 text on one line of at most 4 KiB.
// Key, value, timestamp and the other headers are those of the original message.
//
// A message that comes from a dead letter topic and is dead-lettered again
// keeps the four original headers it has: they name where it was first read.
// HeaderDeadLettered counts how often it was. From the sixth time on the record
// is refused, as it would go around for ever: what becomes of it then is said at
// [WithOnFailure]. Whoever brings a record back to its topic by hand, once its
// trouble is over, sets that header to "0" and adds HeaderRedriven.
const (
	HeaderOriginalTopic     = "kafkax-original-topic"
	HeaderOriginalPartition = "kafkax-original-partition"
	HeaderOriginalOffset    = "kafkax-original-offset"
	HeaderOriginalTimestamp = "kafkax-original-timestamp" // RFC 3339 in UTC, milliseconds; empty if it had none
	HeaderDeadLettered      = "kafkax-dead-lettered"      // "1" for the first time
	HeaderConsumerGroup     = "kafkax-consumer-group"     // empty without a group
	HeaderError             = "kafkax-error"
	HeaderErrorType         = "kafkax-error-type" // a Go type: "*json.SyntaxError"
	HeaderAttempts          = "kafkax-attempts"   // how often the handler was called
	HeaderFailedAt          = "kafkax-failed-at"  // RFC 3339 in UTC, milliseconds
	HeaderRedriven          = "kafkax-redriven"   // set by a redrive, and kept; kafkax does not read it
)

const headerTimestamp = "2006-01-02T15:04:05.000Z07:00"

// maxDeadLettered is how often a record may be dead-lettered. Where the dead
// letters of one topic are consumed and theirs go back to it, it would otherwise
// go around for ever.
const maxDeadLettered = 5

// deadLetter makes the dead letter of a message that the handler failed with
// err, in memory of its own. The caller sets its Topic.
func deadLetter(msg *kafka.Message, group string, err error, attempts int, failedAt time.Time) kafka.Message {
	letter := leanDeadLetter(msg)
	letter.Headers = append(letter.Headers,
		textHeader(HeaderConsumerGroup, group),
		textHeader(HeaderError, fmt.Sprint(err)), // unlike err.Error, it survives a nil pointer in err
		textHeader(HeaderErrorType, fmt.Sprintf("%T", meaningful(err))),
		textHeader(HeaderAttempts, strconv.Itoa(attempts)),
		textHeader(HeaderFailedAt, headerTime(failedAt)),
	)
	return letter
}

// leanDeadLetter is a dead letter that says no more than where it is from and
// how often it was dead-lettered, without which it could go around for ever.
func leanDeadLetter(msg *kafka.Message) kafka.Message {
	own := cloneMessage(msg)
	kept, origin := splitHeaders(own.Headers)
	if len(origin) == 0 {
		origin = []kafka.Header{
			textHeader(HeaderOriginalTopic, msg.Topic),
			textHeader(HeaderOriginalPartition, strconv.Itoa(msg.Partition)),
			textHeader(HeaderOriginalOffset, strconv.FormatInt(msg.Offset, 10)),
			textHeader(HeaderOriginalTimestamp, headerTime(msg.Time)),
		}
	}
	count := textHeader(HeaderDeadLettered, strconv.Itoa(min(timesDeadLettered(msg.Headers), maxDeadLettered)+1))
	return kafka.Message{
		Key:     own.Key,
		Value:   own.Value,
		Time:    own.Time,
		Headers: append(append(kept, origin...), count),
	}
}

// splitHeaders copies a message's headers into those of others and its first
// origin. The latter is empty if it does not name a topic: then what else
// there is of it says nothing. Headers of an earlier failure are left out.
func splitHeaders(headers []kafka.Header) (kept, origin []kafka.Header) {
	kept = make([]kafka.Header, 0, len(headers)+10)
	named := false
	for _, h := range headers {
		switch h.Key {
		case HeaderOriginalTopic, HeaderOriginalPartition, HeaderOriginalOffset, HeaderOriginalTimestamp:
			if !slices.ContainsFunc(origin, func(o kafka.Header) bool { return o.Key == h.Key }) {
				origin = append(origin, textHeader(h.Key, string(h.Value)))
			}
			named = named || h.Key == HeaderOriginalTopic
		case HeaderDeadLettered, HeaderConsumerGroup, HeaderError, HeaderErrorType, HeaderAttempts, HeaderFailedAt:
		default:
			kept = append(kept, h)
		}
	}
	if !named {
		origin = nil
	}
	return kept, origin
}

// timesDeadLettered is how often a record was dead-lettered so far. Whatever is
// no count says nothing; of several counts the highest stands.
func timesDeadLettered(headers []kafka.Header) (n int) {
	for _, h := range headers {
		if h.Key == HeaderDeadLettered {
			if count, err := strconv.Atoi(string(h.Value)); err == nil {
				n = max(n, count)
			}
		}
	}
	return n
}

// textHeader makes a header of a text that may come from outside.
func textHeader(key, value string) kafka.Header {
	return kafka.Header{Key: key, Value: []byte(oneLine(value))}
}

func headerTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(headerTimestamp)
}

// meaningful takes off what only adds text or a mark: fmt.Errorf's %w,
// errors.Join (the first error stands for all) and [Permanent].
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
