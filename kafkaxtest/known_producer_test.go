package kafkaxtest_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
)

// kafka-go's Writer queues batches behind the one that is being delivered, and
// nobody can take a message out of it: what was never on the wire when its send has
// returned still goes out once the partition takes messages again. delivery_timeout
// should count from the send; what is then not on the wire should fail as not sent,
// and never go out.
func TestP3_WhatWasNotSentInTimeNeverGoesOut_ExpectedToFail(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		const (
			sends   = 60
			timeout = 2 * time.Second
			refuses = 10700 * time.Millisecond
		)
		p := s.Producer(kafkax.WithProducerTopic("orders"), kafkax.WithProducerDeliveryTimeout(timeout),
			kafkax.WithProducerWriteTimeout(timeout), kafkax.WithProducerReadTimeout(timeout))
		if err := p.SendMessage(s.T.Context(), nil, []byte("first")); err != nil {
			s.T.Fatal(err)
		}
		fault := s.Fail(kafkaxtest.Failure{Requests: []kmsg.Key{kmsg.Produce}, Error: kafka.NotEnoughReplicas, Count: -1})
		var (
			wg   sync.WaitGroup
			errs [sends]error
		)
		for i := range sends {
			wg.Go(func() { errs[i] = p.SendMessage(s.T.Context(), nil, []byte(strconv.Itoa(i))) })
			s.Advance(100 * time.Millisecond)
		}
		wg.Wait()
		s.Advance(refuses - s.Elapsed())
		failed := 0
		for _, err := range errs {
			if err != nil {
				failed++
			}
		}
		if written := len(s.Messages("orders")) - 1; failed != sends || written != 0 || fault.Hits() == 0 {
			s.T.Fatalf("%d of %d sends failed, and %d messages are written, after %d refusals", failed, sends, written, fault.Hits())
		}
		fault.Remove()
		s.Advance(time.Minute)
		switch late := len(s.Messages("orders")) - 1; {
		case late == 0:
			s.T.Error("nothing was written after its send had failed: this is no longer expected to fail")
		case late > sends:
			s.T.Errorf("%d messages of %d sends", late, sends)
		}
		if err := errs[sends-1]; !errors.Is(err, kafkax.ErrOutcomeUnknown) {
			s.T.Errorf("the last send, which was never on the wire, failed with %v: this is no longer expected to fail", err)
		}
	}, kafkaxtest.Topic("orders", 1))
}
