package kafkax

import (
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

func TestBalancersForgetIdleTopics(t *testing.T) {
	t.Parallel()
	for _, kind := range []Balancer{BalancerHash, BalancerRoundRobin, BalancerLeastBytes} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBalancers(kind)
				balance := func(topic string) int { return b.Balance(kafka.Message{Topic: topic, Value: []byte("v")}, 0, 1, 2) }
				for i := range 100 {
					balance("topic-" + strconv.Itoa(i))
				}
				if first, second := balance("kept"), balance("kept"); first != 0 || second != 1 {
					t.Errorf("went to %d and %d, want 0 and 1", first, second)
				}
				time.Sleep(idleAfter) // synctest's time
				third := balance("kept")
				time.Sleep(time.Second)
				balance("new")
				if n := len(b.byTopic.values); n != 2 || third != 2 {
					t.Errorf("%d topics are remembered, want 2; the one in use went on to %d, want 2", n, third)
				}
			})
		})
	}
}
