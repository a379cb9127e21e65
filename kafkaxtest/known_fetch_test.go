package kafkaxtest_test

import (
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
)

// What no handler sees counts for how much is asked for next: aborted transactions
// in a row are not fetched batch by batch.
func TestD10_AbortedTransactionsCostFewFetches(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		const n, most = 250, 50
		client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...), kgo.Dialer(s.Dial), kgo.TransactionalID("billing"),
			kgo.DefaultProduceTopic("orders"), kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err != nil {
			s.T.Fatal(err)
		}
		defer client.Close()
		for i := range n {
			if err := client.BeginTransaction(); err != nil {
				s.T.Fatal(err)
			}
			if err := client.ProduceSync(s.T.Context(), kgo.StringRecord(strconv.Itoa(i))).FirstErr(); err != nil {
				s.T.Fatal(err)
			}
			if err := client.EndTransaction(s.T.Context(), kgo.TryAbort); err != nil {
				s.T.Fatal(err)
			}
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
