package kafkax

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/segmentio/kafka-go"
)

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
// The error names the place in the JSON and the Go type, and nothing of the
// value. A nil h gives a nil Handler, which the loops refuse.
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
			if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
				mismatch.Value, _, _ = strings.Cut(mismatch.Value, " ") // "number 42": the kind is enough
			}
			return Permanent(fmt.Errorf("%s: decode as %v: %w", at(msg.Topic, msg.Partition, msg.Offset), goType, err))
		}
		return h(ctx, value, msg)
	}
}
