package kafkaxtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
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
