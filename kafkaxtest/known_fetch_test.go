package kafkaxtest_test

import (
	"strconv"
	"testing"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
)

// What no handler sees counts for how much is asked for next: aborted transactions
// in a row are not fetched batch by batch.
func TestD10_AbortedTransactionsCostFewFetches(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		const n, most = 250, 50
		for i := range n {
			s.Begin(kafkax.Message{Topic: "orders", Value: []byte(strconv.Itoa(i))}).Abort()
		}
		s.Fill("orders", 1)
		m := s.Join("billing", "orders", nothing, kafkax.WithConsumerIsolationLevel(kafkax.ReadCommitted))
		s.WaitCommitted("billing", "orders")
		if handled := s.Handled(); len(handled) != 1 || handled[0].Offset != 2*n {
			s.T.Errorf("handled %v", handled)
		}
		if fetches := m.Consumer.Stats().Fetches; fetches > most {
			s.T.Errorf("%d fetches for %d aborted transactions, want %d at most", fetches, n, most)
		}
	}, kafkaxtest.Topic("orders", 1))
}
