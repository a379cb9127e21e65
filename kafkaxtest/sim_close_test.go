package kafkaxtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// Nothing is left of clients that are closed before they have connected: what is
// still dialling then ends at once, and not with the next tick of a clock.
func TestD4_ClientsThatAreClosedAtOnceLeaveNothing(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
				p := s.Producer(kafkax.WithProducerTopic("orders"))
				var members []*kafkaxtest.Member
				for range 3 {
					members = append(members, s.Join("billing", "orders", func(context.Context, kafkax.Message) error { return nil }))
				}
				for _, m := range members {
					if err := m.Leave(); err != nil && !errors.Is(err, kafkax.ErrClosed) { // its loop may not have begun
						t.Error(err)
					}
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}, kafkaxtest.Nodes(3), kafkaxtest.Topic("orders", 1), kafkaxtest.Seed(seed))
		})
	}
}

// A handler that takes no notice of its end is recorded as told, while it runs.
func TestD4_AHandlerThatGoesOnHasBeenTold(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		began, release := make(chan struct{}), make(chan struct{})
		m := s.Join("billing", "orders", func(context.Context, kafkax.Message) error {
			close(began)
			<-release
			return nil
		}, kafkax.WithConsumerShutdownTimeout(time.Second))
		s.Send(kafkax.Message{Topic: "orders", Value: []byte("a")})
		<-began
		if err := m.Leave(); err == nil {
			s.T.Error("the stop has cut nothing off")
		}
		s.Check(history.Rules{StopSlack: 5 * time.Second})
		close(release)
	}, kafkaxtest.Topic("orders", 1))
}
