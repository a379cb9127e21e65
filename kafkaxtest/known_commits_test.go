package kafkaxtest_test

import (
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// A commit that is answered REBALANCE_IN_PROGRESS is not of another generation: it
// is tried again in the same one, and nothing is handled twice.
func TestD3_CommitsInARebalanceAreTriedAgain(t *testing.T) {
	t.Parallel()
	const n = 50
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", nothing)
		s.WaitMembers("billing", 1)
		fault := s.Fail(kafkaxtest.Failure{Requests: []kmsg.Key{kmsg.OffsetCommit}, Error: kafka.RebalanceInProgress, Count: -1})
		s.Fill("orders", n)
		s.Wait("commits to be answered so", func() bool { return fault.Hits() > 5 })
		fault.Remove()
		s.WaitCommitted("billing", "orders")
		s.Fill("orders", n)
		s.WaitCommitted("billing", "orders")
		if got := len(s.Handled()); got != 2*n {
			s.T.Errorf("%d calls for %d messages", got, 2*n)
		}
		s.Check(history.Rules{Grace: time.Minute})
	}, kafkaxtest.Topic("orders", 1))
}

// The last commit waits for a coordinator that is away, for as long as nobody can
// have been given the partitions.
func TestD3_LastCommitWaitsForTheCoordinator(t *testing.T) {
	t.Parallel()
	const n = 50
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", nothing, kafkax.WithConsumerCommitInterval(time.Hour),
			// A rebalance waits for 2 s, less than the broker is away.
			kafkax.WithConsumerSessionTimeout(20*time.Second), kafkax.WithConsumerShutdownTimeout(2*time.Second))
		s.Fill("orders", n)
		s.WaitHandled(n)
		if got := s.Committed("billing", "orders"); len(got) > 0 && got[0] > 0 {
			s.T.Errorf("%v committed before the last commit", got)
		}
		up := s.Down(0)
		s.Advance(7500 * time.Millisecond)
		up()
		s.WaitCommitted("billing", "orders")
		s.WaitMembers("billing", 1)
		if got := len(s.Handled()); got != n {
			s.T.Errorf("%d calls for %d messages", got, n)
		}
		s.Check(history.Rules{Grace: time.Minute})
	}, kafkaxtest.Topic("orders", 1))
}
