package kafkax_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

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
		{name: "not_json", value: []byte("secret"), want: "orders[3]@42: decode as kafkax_test.order"},
		{name: "empty", value: []byte{}, want: "unexpected end of JSON input"},
		{name: "tombstone", want: "unexpected end of JSON input"},
		{name: "wrong_type", value: []byte(`{"id":12345}`), want: "cannot unmarshal number into"},
		{name: "two_values", value: []byte(`{} {}`), want: "after top-level value"},
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

func TestJSONHandlerErrorIsReached(t *testing.T) {
	t.Parallel()
	handle := kafkax.JSONHandler(func(context.Context, order, kafka.Message) error { return nil })
	err := handle(context.Background(), kafka.Message{Value: []byte(`{"amount":"x"}`)})
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
		t.Errorf("errors.As does not find the cause of %v", err)
	}
}
