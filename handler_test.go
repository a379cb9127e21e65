package kafkax_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
)

type order struct {
	ID     string `json:"id"`
	Amount int    `json:"amount"`
}

func TestJSONHandler(t *testing.T) {
	t.Parallel()
	failure := errors.New("database is down")
	handle := kafkax.JSONHandler(func(_ context.Context, o order, msg kafka.Message) error {
		if o.ID != "o-1" || msg.Offset != 42 {
			return fmt.Errorf("got %+v at %d", o, msg.Offset)
		}
		return failure
	})
	tests := []struct {
		name  string
		value []byte
		want  string // of a decode failure; "": the handler was called
	}{
		{name: "valid", value: []byte(`{"id":"o-1"}`)},
		{name: "unknown_field", value: []byte(`{"id":"o-1","x":1}`)},
		{name: "not_json", value: []byte("secret"), want: "orders[3]@42: decode as kafkax_test.order: no valid JSON at byte 1"},
		{name: "empty", value: []byte{}, want: "unexpected end of JSON input"},
		{name: "tombstone", want: "unexpected end of JSON input"},
		{name: "wrong_type", value: []byte(`{"id":12345}`), want: "cannot decode number into Go type string at byte 11 (field id)"},
		{name: "two_values", value: []byte(`{} {}`), want: "no valid JSON at byte 4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := handle(context.Background(), kafka.Message{Topic: "orders", Partition: 3, Offset: 42, Value: tt.value})
			if tt.want == "" {
				if !errors.Is(err, failure) || kafkax.IsPermanent(err) {
					t.Errorf("err = %v, want the handler's own, to be retried", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !kafkax.IsPermanent(err) {
				t.Errorf("err = %v, want a permanent one with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "12345") || strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows the message: %v", err)
			}
		})
	}
}

func TestJSONHandlerTombstoneAsNil(t *testing.T) {
	t.Parallel()
	called := false
	handle := kafkax.JSONHandler(func(_ context.Context, o *order, _ kafka.Message) error {
		called = o == nil
		return nil
	})
	if err := handle(context.Background(), kafka.Message{}); err != nil || !called {
		t.Errorf("err = %v, called with nil: %t", err, called)
	}
	if kafkax.JSONHandler[order](nil) != nil {
		t.Error("a nil function must give a nil Handler, which the loops refuse")
	}
}

// A decoder of a type's own, or of the standard library's types, may quote what
// it was given. Its error is there, and its text is nowhere.
func TestJSONHandlerShowsNothingOfTheValue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		handle kafkax.Handler
		value  string
		as     any
	}{
		{"time", jsonHandler[time.Time](), `"secret"`, new(*time.ParseError)},
		{"time_in_a_struct", jsonHandler[struct{ At time.Time }](), `{"At":"secret"}`, new(*time.ParseError)},
		{"address", jsonHandler[map[string]netip.Addr](), `{"secret":"secret"}`, nil},
		{"address_as_a_key", jsonHandler[map[netip.Addr]int](), `{"secret":1}`, nil},
		{"number", jsonHandler[json.Number](), `"secret"`, nil},
		{"bytes", jsonHandler[[]byte](), `"secret"`, new(base64.CorruptInputError)},
		{"unmarshaler", jsonHandler[quoting](), `"secret"`, nil},
		{"text_unmarshaler", jsonHandler[[]quotingText](), `["secret"]`, nil},
		{"error_of_encoding_json", jsonHandler[quotingMismatch](), `"secret"`, new(*json.UnmarshalTypeError)},
		{"number_of_another_kind", jsonHandler[map[string]uint8](), `{"secret":5555}`, new(*json.UnmarshalTypeError)},
		{"one_letter", jsonHandler[order](), `secret`, new(*json.SyntaxError)},
		{"one_letter_inside", jsonHandler[quoting](), `{"secret":secret}`, new(*json.SyntaxError)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.handle(context.Background(), kafka.Message{Topic: "orders", Partition: 3, Offset: 42, Value: []byte(tt.value)})
			if err == nil || !kafkax.IsPermanent(err) {
				t.Fatalf("err = %v, want a permanent one", err)
			}
			if tt.as != nil && !errors.As(err, tt.as) {
				t.Errorf("errors.As does not find the cause of %v", err)
			}
			for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err), err.Error()} {
				for _, part := range []string{"secret", "'s'", "5555"} {
					if strings.Contains(shown, part) {
						t.Errorf("the error shows %s: %v", part, shown)
					}
				}
			}
			if !strings.HasPrefix(err.Error(), "orders[3]@42: decode as ") {
				t.Errorf("the error does not tell its place: %v", err)
			}
		})
	}
}

func jsonHandler[T any]() kafkax.Handler {
	return kafkax.JSONHandler(func(context.Context, T, kafka.Message) error { return nil })
}

type (
	quoting         struct{}
	quotingText     struct{}
	quotingMismatch struct{}
)

func (*quoting) UnmarshalJSON(data []byte) error     { return fmt.Errorf("cannot take %s", data) }
func (*quotingText) UnmarshalText(data []byte) error { return fmt.Errorf("cannot take %s", data) }

func (*quotingMismatch) UnmarshalJSON(data []byte) error {
	return &json.UnmarshalTypeError{Value: string(data), Type: reflect.TypeFor[int](), Field: string(data)}
}

// The type that a dead letter names is that of the decoder's error.
func TestJSONHandlerKeepsTheErrorsType(t *testing.T) {
	t.Parallel()
	err := jsonHandler[order]()(context.Background(), kafka.Message{Value: []byte(`{"amount":"x"}`)})
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
		t.Errorf("errors.As does not find the cause of %v", err)
	}
	if got := fmt.Sprintf("%T", kafkax.Meaningful(err)); got != "*json.UnmarshalTypeError" {
		t.Errorf("a dead letter names the type %s", got)
	}
}
