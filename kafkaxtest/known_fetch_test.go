package kafkaxtest_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/twmb/franz-go/pkg/kmsg"
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

// Records are deleted that come after those at work. What is at work is still to be
// handled, and is committed when it has been.
func TestD1_AResetCommitsNothingThatIsAtWork(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		const slow, fetched, deleted = 5, 10, 30
		goOn := make(chan struct{})
		m := s.JoinLoop("billing", "orders", func(ctx context.Context, m *kafkaxtest.Member) error {
			return m.Consumer.Consume(ctx, m.Record(func(_ context.Context, msg kafkax.Message) error {
				if msg.Offset == slow {
					<-goOn
				}
				return nil
			}), kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.Unordered))
		}, kafkax.WithConsumerOffsetReset(kafkax.ResetEarliest))
		s.Fill("orders", fetched)
		s.WaitHandled(fetched - 1)
		release := s.Hold(kafkaxtest.Target{Requests: []kmsg.Key{kmsg.Fetch}})
		s.Advance(time.Second) // what is on its way is answered
		s.Fill("orders", deleted-fetched+1)
		s.DeleteRecords("orders", 0, deleted)
		release()
		s.Wait("the reset", func() bool { return m.Consumer.Stats().Errors > 0 })
		s.Advance(10 * time.Second)
		if at := s.Committed("billing", "orders")[0]; at != slow {
			s.T.Errorf("%d is committed while %d is at work", at, slow)
		}
		close(goOn)
		s.WaitCommitted("billing", "orders")
		if n := len(s.Handled()); n != fetched+1 {
			s.T.Errorf("%d were handled, want %d", n, fetched+1)
		}
	}, kafkaxtest.Topic("orders", 1))
}
