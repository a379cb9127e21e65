package kafkax

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"
)

// Message is what is consumed and produced: kafka-go's own type under another
// name, so that a handler need not import kafka-go, and what was written for one
// of the two names takes the other.
type Message = kafka.Message

// Header is a key and a value beside a [Message]'s own, and kafka-go's type too.
type Header = kafka.Header

// Handler handles one message. Nil means it is handled and may be committed;
// an error is retried, then dead-lettered or dealt with by the failure policy;
// [Permanent] skips the retries. A panic counts as an error. The message is the
// handler's to change: each attempt has it as it was fetched.
//
// The context carries the values of the one given to the loop. It ends when
// handler_timeout has passed, or when a stop or a rebalance can wait no longer;
// context.Cause says which. An error returned after the latter is no failure:
// the message is not committed and comes again.
type Handler func(ctx context.Context, msg kafka.Message) error

// BatchHandler handles several messages, which may be of several partitions;
// those of one partition are in order. It may return a [BatchError] to name the
// messages that failed; any other error is of the whole batch. The slice is the
// handler's, to sort or change, until it returns; then it is used again. The
// messages in it are the handler's for good.
type BatchHandler func(ctx context.Context, msgs []kafka.Message) error

// JSONHandler makes a [Handler] of a function that takes a message's value
// decoded from JSON. A value that is not JSON for T is a [Permanent] error, as
// it will not be at the next try either: the message is dead-lettered at once,
// or left to the failure policy. A tombstone (a nil value) is such an error too,
// unless T is a pointer, slice, map or interface: then h gets nil.
//
// The error's text names the place in the log and in the JSON and the Go type,
// and shows nothing of the value. What the decoder said, which may quote it, is
// there for errors.As alone. A nil h gives a nil Handler, which the loops refuse.
func JSONHandler[T any](h func(ctx context.Context, value T, msg kafka.Message) error) Handler {
	if h == nil {
		return nil
	}
	goType := reflect.TypeFor[T]()
	var nullable bool
	switch goType.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		nullable = true
	}
	return func(ctx context.Context, msg kafka.Message) error {
		var value T
		if msg.Value == nil && nullable {
			return h(ctx, value, msg)
		}
		if err := json.Unmarshal(msg.Value, &value); err != nil {
			place := at(msg.Topic, msg.Partition, msg.Offset)
			text := fmt.Sprintf("%s: decode as %v: %s", place, goType, decodeProblem(err, msg.Value, goType))
			return Permanent(&unprintedError{text: text, err: err})
		}
		return h(ctx, value, msg)
	}
}

// decodeProblem says why data is not JSON for a type. It takes over nothing that
// may be of data, whichever decoder wrote the error: one of the type's own may
// quote what it likes, also in an error of encoding/json's types.
func decodeProblem(err error, data []byte, goType reflect.Type) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && !json.Valid(data) {
		if syntax.Offset >= int64(len(data)) {
			return "unexpected end of JSON input"
		}
		return fmt.Sprintf("no valid JSON at byte %d", syntax.Offset)
	}
	mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok || mismatch.Type == nil {
		return "a decoder of the type, or of one in it, refused the value"
	}
	kind, _, _ := strings.Cut(mismatch.Value, " ") // "number 42": the kind is enough
	if !slices.Contains([]string{"array", "bool", "null", "number", "object", "string"}, kind) {
		kind = "this value"
	}
	text := fmt.Sprintf("cannot decode %s into Go type %v at byte %d", kind, mismatch.Type, mismatch.Offset)
	if mismatch.Field != "" && isPathOfFields(mismatch.Field, goType) {
		text += " (field " + mismatch.Field + ")"
	}
	return text
}

// isPathOfFields says whether a path has nothing but names that the type gives
// its fields: anything else may be a key of the data.
func isPathOfFields(path string, goType reflect.Type) bool {
	names := map[string]bool{}
	addFieldNames(goType, names, map[reflect.Type]bool{})
	for name := range strings.SplitSeq(path, ".") {
		if !names[name] {
			return false
		}
	}
	return true
}

// addFieldNames collects how JSON names the fields of a type and of those in it.
func addFieldNames(goType reflect.Type, names map[string]bool, seen map[reflect.Type]bool) {
	if seen[goType] {
		return
	}
	seen[goType] = true
	switch goType.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		addFieldNames(goType.Elem(), names, seen)
	case reflect.Struct:
		for field := range goType.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" {
				name = field.Name
			}
			names[name] = true
			addFieldNames(field.Type, names, seen)
		}
	}
}
