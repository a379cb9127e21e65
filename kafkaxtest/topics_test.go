package kafkaxtest_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// Clients give topics by their ids where a broker takes them. A fault is for the one
// that it names, and what is committed is of it.
func TestTopicsAreKnownByTheirIDs(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", nothing)
		s.Join("shipping", "parcels", nothing)
		s.Fill("orders", 1)
		s.Fill("parcels", 1)
		s.WaitCommitted("billing", "orders")
		s.WaitCommitted("shipping", "parcels")

		release := s.Hold(kafkaxtest.Target{Topic: "orders", Requests: []kmsg.Key{kmsg.Fetch}})
		s.Advance(time.Second) // what is on its way is answered
		s.Fill("orders", 1)
		s.Fill("parcels", 1)
		s.WaitCommitted("shipping", "parcels")
		s.Advance(10 * time.Second)
		if lag := s.Lag("billing", "orders"); lag != 1 {
			s.T.Errorf("a lag of %d while fetches of orders are held, want 1", lag)
		}
		release()
		s.WaitCommitted("billing", "orders")

		commits := map[string]int64{}
		for _, e := range s.Recorded().Events() {
			if c, ok := e.(history.Commit); ok {
				commits[c.Topic] = c.Offset
			}
		}
		if len(commits) != 2 || commits["orders"] != 2 || commits["parcels"] != 2 {
			s.T.Errorf("commits of %v", commits)
		}
	}, kafkaxtest.Topic("orders", 1), kafkaxtest.Topic("parcels", 1))
}
