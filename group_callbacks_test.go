package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
)

// userBalancer is a caller's, and as good as kafka-go's apart from what the test
// has its methods do first.
type userBalancer struct {
	kafka.RangeGroupBalancer
	protocolName, userData, assignGroups func()
}

func (b userBalancer) ProtocolName() string {
	do(b.protocolName)
	return "user"
}

func (b userBalancer) UserData() ([]byte, error) {
	do(b.userData)
	return []byte("of the user's"), nil
}

func (b userBalancer) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	do(b.assignGroups)
	return b.RangeGroupBalancer.AssignGroups(members, partitions)
}

func do(f func()) {
	if f != nil {
		f()
	}
}

// A joinPlace is where a join calls code of the user's.
type joinPlace struct {
	name  string
	again bool // the code misbehaves in a later join, not in the first
	ends  bool // a loop ends by itself where the code panics
	opt   func(misbehave func()) func(*kafka.ConsumerGroupConfig)
}

func joinPlaces() []joinPlace {
	with := func(b userBalancer) func(*kafka.ConsumerGroupConfig) {
		return func(cfg *kafka.ConsumerGroupConfig) { cfg.GroupBalancers = []kafka.GroupBalancer{b} }
	}
	userData := func(m func()) func(*kafka.ConsumerGroupConfig) { return with(userBalancer{userData: m}) }
	assignGroups := func(m func()) func(*kafka.ConsumerGroupConfig) { return with(userBalancer{assignGroups: m}) }
	return []joinPlace{
		{name: "WithConsumerGroupConfig", ends: true, opt: func(m func()) func(*kafka.ConsumerGroupConfig) {
			return func(cfg *kafka.ConsumerGroupConfig) {
				m()
				with(userBalancer{})(cfg)
			}
		}},
		{name: "ProtocolName", ends: true, opt: func(m func()) func(*kafka.ConsumerGroupConfig) {
			return with(userBalancer{protocolName: m})
		}},
		{name: "UserData", opt: userData},
		{name: "UserData", again: true, opt: userData},
		{name: "AssignGroups", opt: assignGroups},
		{name: "AssignGroups", again: true, opt: assignGroups},
	}
}

// loopFetch is the pull API as a loop.
var loopFetch = asLoop{"FetchMessage", func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler, _ ...kafkax.ConsumeOption) error {
	for {
		m, err := c.FetchMessage(ctx)
		if err != nil {
			return err
		}
		if err := h(ctx, m); err != nil {
			return err
		}
		if err := c.CommitMessages(ctx, m); err != nil && !errors.Is(err, kafkax.ErrRevoked) {
			return err
		}
	}
}}

// Code of the user's that a join calls and that blocks, panics, ends its
// goroutine or calls back into the consumer: another group, and the other
// members of the same, go on; a stop takes its time and no longer, and leaves
// the group; what went wrong says which code it was.
func TestD4_CodeCalledByAJoinHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	const bound, partitions, each = 200 * time.Millisecond, 2, 10
	loops := []asLoop{loopConsume, loopBatch, loopFetch}
	if testing.Short() {
		loops = []asLoop{loopConsume}
	}
	for what, misbehave := range misbehaviors(t) {
		for _, place := range joinPlaces() {
			for _, loop := range loops {
				t.Run(fmt.Sprintf("%s/again=%t/%s/%s", place.name, place.again, what, loop.name), func(t *testing.T) {
					t.Parallel()
					b := startBroker(t, partitions, kfake.GroupMinSessionTimeout(time.Second))
					session := time.Minute // longer than the test waits
					if place.name == "AssignGroups" && !place.again && what == "blocks" {
						session = 2 * time.Second // nobody knows the member's name yet, so only this ends it
					}
					opts := func(more ...kafkax.ConsumerOption) []kafkax.ConsumerOption {
						return append(more, kafkax.WithConsumerShutdownTimeout(bound), kafkax.WithConsumerSessionTimeout(session),
							kafkax.WithConsumerCommitInterval(time.Millisecond))
					}
					var consumer *kafkax.Consumer
					var misbehaves atomic.Bool
					misbehaves.Store(!place.again)
					var once sync.Once
					called, said := make(chan struct{}), newLogLines()
					consumer = b.consumer(t, "g", opts(kafkax.WithConsumerErrorLogger(said), kafkax.WithConsumerGroupConfig(place.opt(func() {
						if misbehaves.Load() {
							once.Do(func() { close(called) })
							misbehave(consumer)
						}
					})))...)
					j := newJournal()
					result := make(chan error, 1)
					go func() { result <- loop.run(consumer, context.Background(), j.handler()) }()
					if place.again {
						b.produce(t, &kgo.Record{Value: []byte("before")})
						eventually(t, "the first join", func() bool { return j.len() > 0 })
						misbehaves.Store(true)
					}

					neighbor := b.consumer(t, "g", opts(kafkax.WithConsumerGroupConfig(func(cfg *kafka.ConsumerGroupConfig) {
						cfg.GroupBalancers = []kafka.GroupBalancer{userBalancer{}}
					}))...)
					if !place.again {
						received(t, "the code to be called", called)
					}
					stopNeighbor := run(t, func(ctx context.Context) error { return neighbor.Consume(ctx, j.handler()) })
					received(t, "the code to be called", called)
					b.produce(t, numbered(partitions, each)...)
					stranger, others := b.consumer(t, "another group"), newJournal()
					stopStranger := run(t, func(ctx context.Context) error {
						return stranger.Consume(ctx, others.handler())
					})
					eventually(t, "another group", func() bool { return others.len() >= partitions*each })
					eventually(t, "the same group", func() bool { return len(j.distinct()) >= partitions*each })

					fails := what == "panics" || what == "Goexit"
					var ended error
					if fails && place.ends {
						ended = received(t, "the loop to end by itself", result)
						result <- ended
					}
					stopsWithin(t, bound, consumer, result)
					if fails {
						told := fmt.Sprint(said, ended)
						reason := map[string]string{"panics": "panic (string)", "Goexit": "runtime.Goexit"}[what]
						if !strings.Contains(told, place.name) || !strings.Contains(told, reason) {
							t.Errorf("told %q, want it to name %s and %q", told, place.name, reason)
						}
					}
					eventually(t, "the consumer to be out of the group", func() bool { return len(b.GroupInfo("g").Members) == 1 })
					if err := stopNeighbor(); err != nil {
						t.Error(err)
					}
					if err := stopStranger(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// Each topic of a MultiTopicConsumer joins for itself, and the others go on whatever
// the user's code does for one of them.
func TestD4_CodeCalledByAJoinHoldsNoOtherTopicUp(t *testing.T) {
	t.Parallel()
	for what, misbehave := range misbehaviors(t) {
		for _, place := range joinPlaces() {
			if place.again || (place.ends && (what == "panics" || what == "Goexit")) {
				continue // one topic that cannot go on ends them all
			}
			t.Run(place.name+"/"+what, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1, kfake.SeedTopics(1, "other"), kfake.GroupMinSessionTimeout(time.Second))
				other := &broker{Cluster: b.Cluster, topic: "other", addrs: b.addrs}
				var m *kafkax.MultiTopicConsumer
				var once sync.Once
				called := make(chan struct{})
				tune := place.opt(func() {
					once.Do(func() { close(called) })
					misbehave(m.Consumer("events"))
				})
				m, err := kafkax.NewMultiTopicConsumer([]string{"events", "other"}, kafkax.WithConsumerBrokers(b.addrs...), kafkax.WithConsumerGroupID("g"),
					kafkax.WithConsumerHeartbeatInterval(100*time.Millisecond), kafkax.WithConsumerSessionTimeout(2*time.Second),
					kafkax.WithConsumerShutdownTimeout(200*time.Millisecond), kafkax.WithConsumerErrorLogger(testLogger(t)),
					kafkax.WithConsumerGroupConfig(func(cfg *kafka.ConsumerGroupConfig) {
						if cfg.Topics[0] == "events" {
							tune(cfg)
						} else {
							cfg.GroupBalancers = []kafka.GroupBalancer{userBalancer{}}
						}
					}))
				if err != nil {
					t.Fatal(err)
				}
				var others atomic.Int64
				result := make(chan error, 1)
				go func() {
					result <- m.Consume(context.Background(), map[string]kafkax.Handler{
						"events": func(context.Context, kafka.Message) error { return nil },
						"other":  func(context.Context, kafka.Message) error { others.Add(1); return nil },
					})
				}()
				other.produce(t, numbered(1, 20)...)
				eventually(t, "the other topic", func() bool { return others.Load() >= 20 })
				stopped := make(chan error, 1)
				go func() { stopped <- m.Close() }()
				_, _ = received(t, "Close", stopped), received(t, "the loop", result)
			})
		}
	}
}

// handler only records.
func (j *journal) handler() kafkax.Handler {
	return func(_ context.Context, m kafka.Message) error {
		j.add(m)
		return nil
	}
}

// distinct is each value that the handler saw, once.
func (j *journal) distinct() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var values []string
	for v := range j.n {
		values = append(values, v)
	}
	return values
}
