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

// kafka says where a message goes that has no key:
//
//   - murmur2: nil to a random partition; empty is a key.
//   - crc32: nil and empty to a random partition.
//   - hash: nil to each partition in turn; empty is a key.
//   - round_robin and least_bytes do not look at the key.
func (b Balancer) kafka() kafka.Balancer {
	switch b {
	case BalancerCRC32:
		return kafka.CRC32Balancer{}
	case BalancerHash:
		return new(kafka.Hash)
	case BalancerRoundRobin:
		return new(kafka.RoundRobin)
	case BalancerLeastBytes:
		return new(kafka.LeastBytes)
	default:
		return kafka.Murmur2Balancer{}
	}
}
