package kafkaxtest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

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

// A line that stalls delivers a commit that the client has given up, after a later
// one that went over another connection: the committed offset goes back. Kafka
// refuses only what is of another generation, and the one that kafka-go's
// ConsumerGroup made goes on. What was acknowledged should not go back: here, 20
// should stay.
func TestD2_ACommitThatArrivesLateDoesNotTakeOffsetsBack_ExpectedToFail(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		m := s.Join("billing", "orders", nothing)
		s.Fill("orders", 5)
		s.WaitCommitted("billing", "orders")
		failed := m.Consumer.Stats().Errors

		const late = 12 * time.Second
		pass := s.Slow(kafkaxtest.Target{Requests: []kmsg.Key{kmsg.OffsetCommit}}, late, 0)
		s.Fill("orders", 10)
		s.WaitHandled(15)
		s.Advance(2 * time.Second) // longer than commit_interval
		pass()                     // for all but what is on its way
		sent := s.Elapsed()
		if got := s.Committed("billing", "orders")[0]; got != 5 {
			s.T.Fatalf("%d is committed: no commit is on its way", got)
		}
		s.Fill("orders", 5)
		s.WaitHandled(20)
		s.WaitFor(late-3*time.Second, "the later commit to overtake it", func() bool { return s.Committed("billing", "orders")[0] == 20 })
		if m.Consumer.Stats().Errors == failed {
			s.T.Fatal("the commit that is on its way was not given up")
		}
		s.Advance(late - (s.Elapsed() - sent))
		if got := s.Committed("billing", "orders")[0]; got == 20 {
			s.T.Error("20 is still committed: this is no longer expected to fail")
		} else if got != 15 {
			s.T.Errorf("%d is committed, which nobody sent late", got)
		}
	}, kafkaxtest.Topic("orders", 1))
}

// A log may be shorter than the position: its leader was lost with its last records.
// The leader epoch tells that it is the same one, and where it was cut: what came
// before is not handled again, and what came after is, whatever offset_reset says.
func TestD11_ALogThatWasCutShortIsReadFromItsEnd(t *testing.T) {
	t.Parallel()
	const n, lost, since = 100, 3, 2
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		first := s.Join("billing", "orders", nothing)
		s.Fill("orders", n)
		s.WaitCommitted("billing", "orders")
		if err := first.Leave(); err != nil {
			s.T.Fatal(err)
		}
		// The group has handled some that the log has no more, and others stand there now.
		commit(s, "billing", "orders", n+lost)
		s.MoveLeader("orders", 0, 0)
		s.Fill("orders", since)

		s.Join("billing", "orders", nothing, kafkax.WithConsumerOffsetReset(kafkax.ResetEarliest))
		s.Wait("the end to be committed", func() bool { return s.Committed("billing", "orders")[0] == n+since })
		var offsets []int64
		for _, h := range s.Handled()[n:] {
			offsets = append(offsets, h.Offset)
		}
		if !slices.Equal(offsets, []int64{n, n + 1}) {
			s.T.Errorf("handled %d, want %d and %d alone", offsets, n, n+1)
		}
	}, kafkaxtest.Topic("orders", 1))
}

// commit writes what a group without members has committed of partition 0.
func commit(s *kafkaxtest.Sim, group, topic string, offset int64) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...), kgo.Dialer(s.Dial), kgo.MaxVersions(kversion.V3_0_0()))
	if err != nil {
		s.T.Fatal(err)
	}
	defer client.Close()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	of, at := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	at.Offset, at.LeaderEpoch = offset, 0
	of.Topic, of.Partitions = topic, append(of.Partitions, at)
	req.Topics = append(req.Topics, of)
	if _, err := req.RequestWith(s.T.Context(), client); err != nil {
		s.T.Fatal(err)
	}
}
