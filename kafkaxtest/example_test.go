package kafkaxtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
)

// Order and bill are what the examples are about.
type Order struct {
	Customer string
	Amount   int
}

var errNoCustomer = errors.New("no such customer")

func bill(_ context.Context, o Order) error {
	if o.Customer == "" {
		return errNoCustomer
	}
	return nil
}

func handle(ctx context.Context, msg kafkax.Message) error {
	var o Order
	if err := json.Unmarshal(msg.Value, &o); err != nil {
		return kafkax.Permanent(err)
	}
	return bill(ctx, o)
}

func TestHandler(t *testing.T) {
	err := handle(t.Context(), kafkax.Message{Value: []byte(`{"customer": "", "amount": 5}`)})
	if !errors.Is(err, errNoCustomer) || kafkax.IsPermanent(err) {
		t.Errorf("got %v, want an error that is tried again", err)
	}
	if err := handle(t.Context(), kafkax.Message{Value: []byte("{")}); !kafkax.IsPermanent(err) {
		t.Errorf("got %v, want one that is not", err)
	}
}

func TestWhatFailsIsDeadLettered(t *testing.T) {
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", handle, kafkax.WithConsumerDLQTopic("orders.dead"))
		s.Send(
			kafkax.Message{Topic: "orders", Value: []byte(`{"customer": "ann"}`)},
			kafkax.Message{Topic: "orders", Value: []byte(`{"customer": ""}`)},
		)
		s.WaitCommitted("billing", "orders") // ten attempts, some 33 s of the virtual clock

		dead := s.Messages("orders.dead")
		if len(dead) != 1 || len(s.Handled()) != 1+10 {
			s.T.Errorf("%d dead letters after %d calls", len(dead), len(s.Handled()))
		}
		for _, h := range dead[0].Headers {
			if h.Key == kafkax.HeaderError && string(h.Value) != errNoCustomer.Error() {
				s.T.Errorf("the dead letter says %q", h.Value)
			}
		}
	}, kafkaxtest.Topic("orders", 1), kafkaxtest.Topic("orders.dead", 1))
}

func TestARebalanceDoublesNothing(t *testing.T) {
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		first := s.Join("billing", "orders", handle)
		s.WaitMembers("billing", 1)
		for range 100 {
			s.Send(kafkax.Message{Topic: "orders", Key: []byte("ann"), Value: []byte(`{"customer": "ann"}`)})
		}
		second := s.Join("billing", "orders", handle)
		s.WaitMembers("billing", 2)
		if err := first.Leave(); err != nil {
			s.T.Error(err)
		}
		s.WaitCommitted("billing", "orders")
		if n := len(s.Handled()); n != 100 {
			s.T.Errorf("%d calls for 100 messages; %s was the last", n, second.Name)
		}
	}, kafkaxtest.Topic("orders", 3))
}

func TestAnOutageOfAnHour(t *testing.T) {
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", handle)
		s.WaitMembers("billing", 1)
		up := s.Down(0)
		s.Advance(time.Hour)
		up()
		s.Send(kafkax.Message{Topic: "orders", Value: []byte(`{"customer": "ann"}`)})
		s.WaitCommitted("billing", "orders")
	}, kafkaxtest.Topic("orders", 1))
}
