package kafkaxtest

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/kafkaxtest/internal/network"
)

// Which connection a request takes, and to which broker, may be chance in the
// client. What the seed decides does not depend on it, and no two frames that set
// out at once arrive at once.
func TestSeedDecidesInWhichOrderFramesArrive(t *testing.T) {
	t.Parallel()
	delays := func(t *testing.T, seed uint64, frame network.Frame) (all []time.Duration) {
		t.Helper()
		synctest.Test(t, func(*testing.T) {
			l := (&Sim{options: options{seed: seed}}).latency()
			for _, client := range []string{"member-1", "member-2", "producer"} {
				for partition := range int32(10) {
					f := frame
					f.Client, f.Key = client, kmsg.Fetch
					topic := kmsg.NewFetchRequestTopic()
					topic.Topic, topic.Partitions = "orders", []kmsg.FetchRequestTopicPartition{{Partition: partition}}
					f.Request = &kmsg.FetchRequest{Topics: []kmsg.FetchRequestTopic{topic}}
					all = append(all, l(&f))
				}
				for range 5 {
					f := frame
					f.Client, f.Key = client, kmsg.Heartbeat
					all = append(all, l(&f))
				}
			}
		})
		return all
	}
	first := delays(t, 1, network.Frame{Conn: 1, Node: 0})
	if again := delays(t, 1, network.Frame{Conn: 7, Node: 2}); !slices.Equal(first, again) {
		t.Errorf("over other connections:\n%v\n%v", first, again)
	}
	if other := delays(t, 2, network.Frame{Conn: 1, Node: 0}); slices.Equal(first, other) {
		t.Error("another seed changes nothing")
	}
	if answers := delays(t, 1, network.Frame{Conn: 1, Node: 0, Answer: true}); slices.Equal(first, answers) {
		t.Error("answers are as long on their way as requests")
	}
	slices.Sort(first)
	if n := len(slices.Compact(slices.Clone(first))); n != len(first) || first[0] < 20*time.Microsecond || first[n-1] > 500*time.Microsecond {
		t.Errorf("%d of %d frames arrive one by one: %v", n, len(first), first)
	}
}

// Of the cluster in memory, the seed says who leads a partition.
func TestSeedDecidesWhoLeads(t *testing.T) {
	t.Parallel()
	leaders := func(t *testing.T, seed uint64) (all []int32) {
		t.Helper()
		Run(t, func(s *Sim) {
			s.CreateTopic("refunds", 3)
			for _, topic := range []string{"orders", "refunds"} {
				for p := range int32(3) {
					all = append(all, s.backend.(memory).LeaderFor(topic, p))
				}
			}
		}, Nodes(3), Topic("orders", 3), Seed(seed))
		return all
	}
	differ := false
	for seed := range uint64(10) {
		first := leaders(t, seed)
		if again := leaders(t, seed); !slices.Equal(first, again) {
			t.Errorf("seed %d: %v and %v", seed, first, again)
		}
		for _, topic := range [][]int32{first[:3], first[3:]} {
			if slices.Sort(topic); !slices.Equal(topic, []int32{0, 1, 2}) {
				t.Errorf("seed %d: the nodes that lead: %v", seed, topic)
			}
		}
		differ = differ || !slices.Equal(leaders(t, 0), leaders(t, seed))
	}
	if !differ {
		t.Error("seeds change nothing")
	}
}
