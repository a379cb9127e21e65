package kafkax

import "github.com/segmentio/kafka-go"

// NewBalancer is the balancer that a producer's Writer gets.
func NewBalancer(kind Balancer) kafka.Balancer { return newBalancers(kind) }

// MessageSize is what a message counts for against batch_bytes.
func MessageSize(m kafka.Message) int { return messageSize(&m) }
