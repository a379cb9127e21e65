package kafkax

import (
	"sync"

	"github.com/segmentio/kafka-go"
)

// balancers is the [kafka.Balancer] of a Writer that sends to many topics.
// kafka-go's are made for one: least_bytes forgets its counts whenever the
// number of partitions changes, and round_robin shared by two topics that are
// written in turn sends each to every second partition only.
type balancers struct {
	kind    Balancer
	byTopic sync.Map // topic to kafka.Balancer
}

func newBalancers(kind Balancer) *balancers { return &balancers{kind: kind} }

func (b *balancers) Balance(msg kafka.Message, partitions ...int) int {
	if len(partitions) == 0 {
		return 0 // kafka-go's would panic; the send fails for want of a leader.
	}
	of, ok := b.byTopic.Load(msg.Topic)
	if !ok {
		of, _ = b.byTopic.LoadOrStore(msg.Topic, b.kind.kafka())
	}
	return of.(kafka.Balancer).Balance(msg, partitions...)
}
