package kafkaxtest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// A consumer with read_committed waits for a transaction, and is given what was
// committed alone; the record knows which is which.
func TestD10_Transactions(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		message := func(value string) kafkax.Message { return kafkax.Message{Topic: "orders", Value: []byte(value)} }
		s.Join("billing", "orders", nothing, kafkax.WithConsumerIsolationLevel(kafkax.ReadCommitted))
		aborted, committed := s.Begin(message("a"), message("b")), s.Begin(message("c"))
		s.Send(message("d"))
		s.Advance(10 * time.Second)
		if handled := s.Handled(); len(handled) > 0 {
			s.T.Errorf("before the transactions have ended: %v", handled)
		}
		aborted.Abort()
		aborted.Commit() // too late
		committed.Commit()
		s.WaitCommitted("billing", "orders")
		var values []string
		for _, h := range s.Handled() {
			values = append(values, string(h.Value))
		}
		if !slices.Equal(values, []string{"c", "d"}) {
			s.T.Errorf("handled %q", values)
		}
		s.Begin(message("e"))
		s.Check(history.Rules{GroupRules: history.GroupRules{Isolation: history.ReadCommitted}})
		want := []history.Transaction{history.Aborted, history.Aborted, history.Committed, history.Committed, history.Open}
		var got []history.Transaction
		for _, r := range s.Recorded().Logs()[0].Records {
			if !r.Control {
				got = append(got, r.Transaction)
			}
		}
		if !slices.Equal(got, want) {
			s.T.Errorf("recorded %q, want %q", got, want)
		}
	}, kafkaxtest.Topic("orders", 1))
}

// A transaction that its producer left is aborted by the brokers in time.
func TestD10_TransactionThatTimesOut(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", nothing, kafkax.WithConsumerIsolationLevel(kafkax.ReadCommitted))
		s.BeginFor(20*time.Second, kafkax.Message{Topic: "orders", Value: []byte("a")}).Abandon()
		s.Send(kafkax.Message{Topic: "orders", Value: []byte("b")})
		s.Advance(10 * time.Second)
		if handled := s.Handled(); len(handled) > 0 {
			s.T.Errorf("before the transaction has ended: %v", handled)
		}
		s.WaitCommitted("billing", "orders")
		if handled := s.Handled(); len(handled) != 1 || string(handled[0].Value) != "b" {
			s.T.Errorf("handled %v", handled)
		}
		s.Check(history.Rules{GroupRules: history.GroupRules{Isolation: history.ReadCommitted, Complete: true}})
	}, kafkaxtest.Topic("orders", 1))
}
