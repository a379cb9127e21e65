package kafkax

import "github.com/segmentio/kafka-go"

// What the enumerations are in kafka-go.

func (a Acks) kafka() kafka.RequiredAcks {
	switch a {
	case AcksNone:
		return kafka.RequireNone
	case AcksOne:
		return kafka.RequireOne
	default:
		return kafka.RequireAll
	}
}

func (c Compression) kafka() kafka.Compression {
	switch c {
	case CompressionGzip:
		return kafka.Gzip
	case CompressionSnappy:
		return kafka.Snappy
	case CompressionLz4:
		return kafka.Lz4
	case CompressionZstd:
		return kafka.Zstd
	default:
		return 0
	}
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

// kafka is where to start: one of the two offsets that are no offsets.
func (s StartOffset) kafka() int64 {
	if s == StartLatest {
		return kafka.LastOffset
	}
	return kafka.FirstOffset
}

func (l IsolationLevel) kafka() kafka.IsolationLevel {
	if l == ReadCommitted {
		return kafka.ReadCommitted
	}
	return kafka.ReadUncommitted
}
