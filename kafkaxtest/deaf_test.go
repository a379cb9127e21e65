package kafkaxtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// A stop returns at its bound whatever a handler does. When a handler that took no
// notice of its end returns after that, the next message of its key is not handled,
// though one behind it has been.
func TestNothingIsHandledAfterADeafHandler(t *testing.T) {
	t.Parallel()
	const bound = 5 * time.Second
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		h := func(_ context.Context, m kafkax.Message) error {
			if m.Offset == 0 {
				time.Sleep(4 * bound)
			}
			return nil
		}
		m := s.JoinLoop("billing", "orders", func(ctx context.Context, m *kafkaxtest.Member) error {
			return m.Consumer.Consume(ctx, m.Record(h), kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.OrderKey))
		}, kafkax.WithConsumerShutdownTimeout(bound))
		s.WaitMembers("billing", 1)
		for _, key := range []string{"ann", "ann", "bob"} {
			s.Send(kafkax.Message{Topic: "orders", Key: []byte(key), Value: []byte("1")})
		}
		s.WaitHandled(1)
		if err := m.Leave(); err == nil {
			s.T.Error("the stop does not tell of what it cut off")
		}
		s.Advance(4 * bound)
		for _, h := range s.Handled() {
			if h.Offset == 1 {
				s.T.Errorf("offset 1 was handled at %v, when the member had left", h.Began)
			}
		}
		s.Check(history.Rules{GroupRules: history.GroupRules{Ordering: history.OrderKey}, StopSlack: 5 * time.Second})
	}, kafkaxtest.Topic("orders", 1))
}
