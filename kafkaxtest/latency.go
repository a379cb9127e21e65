package kafkaxtest

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/kafkaxtest/internal/network"
)

// latency is from 20 to 500 microseconds, the same for the same frame: one that a
// client sends for the same purpose, in the same second, as the same of several.
// Which connection carries it, and of which broker, may be chance in the client.
// That two arrive at the same nanosecond is as good as impossible; so what is on
// its way at once arrives one after the other, in an order that is the seed's.
func (s *Sim) latency() func(*network.Frame) time.Duration {
	type kind struct {
		client    string
		key       kmsg.Key
		answer    bool
		topic     string
		partition int32
	}
	type count struct {
		second int64
		frames int
	}
	counts := map[kind]count{}
	return func(f *network.Frame) time.Duration {
		if f.Client == feedID {
			return 0 // It waits for answers under locks, which would stop the clock.
		}
		k := kind{client: f.Client, key: f.Key, answer: f.Answer}
		k.topic, k.partition = s.partitionOf(f.Request)
		n := count{second: time.Now().Unix()}
		if last := counts[k]; last.second == n.second {
			n.frames = last.frames + 1
		}
		counts[k] = n
		h := fnv.New64a()
		_, _ = fmt.Fprint(h, k, n) // a hash takes everything
		r := rand.New(rand.NewPCG(s.options.seed, h.Sum64()))
		return 20*time.Microsecond + time.Duration(r.Int64N(int64(480*time.Microsecond)))
	}
}

// partitionOf is the first partition that a request is about, if it is about any.
func (s *Sim) partitionOf(req kmsg.Request) (topic string, partition int32) {
	switch req := req.(type) {
	case *kmsg.ProduceRequest:
		if len(req.Topics) > 0 && len(req.Topics[0].Partitions) > 0 {
			return s.logNamed(req.Topics[0].Topic, req.Topics[0].TopicID, 0).Topic, req.Topics[0].Partitions[0].Partition
		}
	case *kmsg.FetchRequest:
		if len(req.Topics) > 0 && len(req.Topics[0].Partitions) > 0 {
			return s.logNamed(req.Topics[0].Topic, req.Topics[0].TopicID, 0).Topic, req.Topics[0].Partitions[0].Partition
		}
	}
	return "", -1
}
