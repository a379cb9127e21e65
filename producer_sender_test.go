package kafkax

import (
	"sync/atomic"
	"testing"

	"github.com/segmentio/kafka-go"
)

func TestAsyncSendHasNothingToWaitFor(t *testing.T) {
	t.Parallel()
	var failures atomic.Int64
	msgs := []kafka.Message{{Topic: "orders"}}
	for _, async := range []bool{false, true} {
		s := newSend(msgs, ProducerConfig{Async: async, BatchBytes: 1000}, &failures)
		if (s.done == nil) != async {
			t.Errorf("async=%t: a channel is made: %t", async, s.done != nil)
		}
		settle(s.ready, settled, nil)
	}
}
