package kafkax_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

// One topic of five does not exist: the others are read meanwhile, there is no
// storm of joins, nobody creates it, and once it is there all of it is read,
// also with start_offset=latest.
func TestD12_MissingTopicAmongSeveral(t *testing.T) {
	t.Parallel()
	for _, start := range []kafkax.StartOffset{kafkax.StartEarliest, kafkax.StartLatest} {
		t.Run(string(start), func(t *testing.T) {
			t.Parallel()
			present := []string{"a", "b", "c", "d"}
			b := startBroker(t, 2, kfake.SeedTopics(2, present...), kfake.AllowAutoTopicCreation())
			joins := b.countJoins()
			testMissingTopic(t, b, present, "e", start, func() error { return b.CreateTopic("e", 2, nil) })
			// One join for each member, and one more for each of those that
			// joined before it: far from what a loop would make of it.
			if n := joins.Load(); n > 20 {
				t.Errorf("%d joins", n)
			}
		})
	}
}

// testMissingTopic consumes topics that exist and one that create makes later.
func testMissingTopic(t *testing.T, b *broker, present []string, missing string, start kafkax.StartOffset, create func() error) {
	t.Helper()
	group := b.topic + string(start)
	m := b.multi(t, group, append(slices.Clip(present), missing),
		kafkax.WithConsumerStartOffset(start), kafkax.WithConsumerPartitionWatchInterval(time.Second))
	onError, told := collectErrors()
	js, handlers := journals(append(slices.Clip(present), missing)...)
	stop := run(t, func(ctx context.Context) error { return m.Consume(ctx, handlers, kafkax.WithOnError(onError)) })
	for _, topic := range present { // a position is committed as soon as it is known
		eventually(t, topic+" to be assigned", func() bool {
			return b.on(topic).position(t, group, 0) >= 0 && b.on(topic).position(t, group, 1) >= 0
		})
		b.on(topic).produce(t, numbered(2, 20)...)
	}
	for _, topic := range present {
		eventually(t, topic, func() bool { return js[topic].len() == 40 })
	}
	eventually(t, "the missing topic to be reported", func() bool { return told(kafka.UnknownTopicOrPartition) > 0 })
	if b.exists(t, missing) {
		t.Fatal("the consumer created the topic")
	}

	if err := create(); err != nil {
		t.Fatal(err)
	}
	b.on(missing).produce(t, numbered(2, 20)...)
	eventually(t, "the topic that was missing", func() bool { return js[missing].len() == 40 })
	for _, topic := range present {
		b.on(topic).produce(t, &kgo.Record{Value: []byte("0/20")})
		eventually(t, topic+" to go on", func() bool { return js[topic].len() == 41 })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for topic, j := range js {
		j.ordered(t)
		if d := j.duplicates(); d != nil {
			t.Errorf("%s: handled twice: %v", topic, d)
		}
	}
}

// exists asks without creating.
func (b *broker) exists(t testing.TB, topic string) bool {
	t.Helper()
	client, closeClient := b.client()
	defer closeClient()
	res, err := client.Metadata(testContext(t), &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		t.Fatal(err)
	}
	return len(res.Topics) == 1 && len(res.Topics[0].Partitions) > 0
}

// A topic is deleted, and the group rebalances while there is still a member
// for it: the leader must neither bring it back nor leave anybody without
// partitions.
func TestD12_RebalanceWithDeletedTopic(t *testing.T) {
	t.Parallel()
	topics := []string{"a", "b", "gone"}
	b := startBroker(t, 2, kfake.SeedTopics(2, topics...), kfake.AllowAutoTopicCreation())
	for _, topic := range topics {
		b.on(topic).produce(t, numbered(2, 20)...)
	}
	joins := b.countJoins()
	m := b.multi(t, "g", topics, kafkax.WithConsumerWatchPartitionChanges(false)) // nobody notices
	js, handlers := journals(topics...)
	stop := run(t, func(ctx context.Context) error { return m.Consume(ctx, handlers) })
	for _, topic := range topics {
		eventually(t, topic, func() bool { return js[topic].len() == 40 })
	}
	for p := range 2 { // with nothing left to commit, its member has no way to know
		eventually(t, "all to be committed", func() bool { return b.on("gone").position(t, "g", p) == 20 })
	}
	if err := b.DeleteTopic("gone"); err != nil {
		t.Fatal(err)
	}

	// The first time the leader asks for the topics, there is no answer.
	var refused atomic.Bool
	b.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		meta := req.(*kmsg.MetadataRequest)
		if len(meta.Topics) < 3 || meta.AllowAutoTopicCreation || !fromTransport(meta) || refused.Swap(true) {
			return nil, nil, false
		}
		res := meta.ResponseKind().(*kmsg.MetadataResponse)
		for _, topic := range meta.Topics {
			rt := kmsg.NewMetadataResponseTopic()
			rt.Topic, rt.ErrorCode = topic.Topic, kerr.LeaderNotAvailable.Code
			res.Topics = append(res.Topics, rt)
		}
		return res, nil, true
	})

	second := b.multi(t, "g", []string{"a", "b"})
	_, secondHandlers := journals()
	for _, topic := range []string{"a", "b"} {
		secondHandlers[topic] = handlers[topic]
	}
	stopSecond := run(t, func(ctx context.Context) error { return second.Consume(ctx, secondHandlers) })
	eventually(t, "the second instance to have its share", func() bool {
		return second.Consumer("a").Lag() == 0 && second.Consumer("b").Lag() == 0
	})
	if !refused.Load() {
		t.Error("no leader asked for the topics of all members")
	}
	for _, topic := range []string{"a", "b"} {
		b.on(topic).produce(t, &kgo.Record{Value: []byte("0/20")}, &kgo.Record{Partition: 1, Value: []byte("1/20")})
		eventually(t, topic+" to go on", func() bool { return js[topic].len() == 42 })
	}
	if b.exists(t, "gone") {
		t.Error("the topic is back")
	}
	if err := errors.Join(stop(), stopSecond()); err != nil {
		t.Error(err)
	}
	if n := joins.Load(); n > 40 {
		t.Errorf("%d joins", n)
	}
}

// A topic is deleted before what was handled of it is committed: its last
// commit, which can only fail, does not hold up the others.
func TestD12_LastCommitOfDeletedTopicHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.SeedTopics(1, "a", "gone"))
	m := b.multi(t, "g", []string{"a", "gone"}, kafkax.WithConsumerCommitInterval(time.Hour))
	js, handlers := journals("a", "gone")
	onError, told := collectErrors()
	stop := run(t, func(ctx context.Context) error { return m.Consume(ctx, handlers, kafkax.WithOnError(onError)) })
	b.on("gone").produce(t, numbered(1, 20)...)
	eventually(t, "the topic", func() bool { return js["gone"].len() == 20 })
	if err := b.DeleteTopic("gone"); err != nil {
		t.Fatal(err)
	}
	second := b.on("a").consumer(t, "g")
	stopSecond := run(t, func(ctx context.Context) error { return second.Consume(ctx, handlers["a"]) })
	eventuallyWithin(t, 10*time.Second, "the other member to be assigned", func() bool { return second.Stats().Rebalances > 0 })
	eventually(t, "the deletion to be reported", func() bool { return told(kafkax.ErrRevoked) > 0 })
	b.on("a").produce(t, numbered(1, 20)...)
	eventually(t, "the other topic", func() bool { return js["a"].len() == 20 })
	if err := errors.Join(stop(), stopSecond()); err != nil {
		t.Error(err)
	}
}

// fromTransport tells the requests of a kafka.Transport from a group's.
func fromTransport(r *kmsg.MetadataRequest) bool { return r.Version > 6 }

// Partitions that are added while a consumer runs are new, so they are read
// from their first record, also with start_offset=latest.
func TestD12_NewPartitionsAreReadFromTheirStart(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.SeedTopics(1, "a", "b"))
	for _, topic := range []string{"a", "b"} {
		b.on(topic).produce(t, numbered(1, 10)...)
	}
	m := b.multi(t, "g", []string{"a", "b"},
		kafkax.WithConsumerStartOffset(kafkax.StartLatest), kafkax.WithConsumerPartitionWatchInterval(2*time.Second))
	js, handlers := journals("a", "b")
	stop := run(t, func(ctx context.Context) error { return m.Consume(ctx, handlers) })
	for _, topic := range []string{"a", "b"} {
		eventually(t, topic, func() bool { return b.on(topic).position(t, "g", 0) == 10 })
	}
	b.createPartitions(t, "a", 3)
	b.on("a").produce(t, &kgo.Record{Partition: 1, Value: []byte("1/0")}, &kgo.Record{Partition: 2, Value: []byte("2/0")})
	eventually(t, "the new partitions", func() bool { return js["a"].len() == 2 })
	b.on("b").produce(t, &kgo.Record{Value: []byte("0/10")})
	eventually(t, "the other topic", func() bool { return js["b"].len() == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// Without a group, too, a topic that appears is read from its start.
func TestD12_MissingTopicWithoutGroup(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.AllowAutoTopicCreation())
	m := b.multi(t, "", []string{"events", "later"}, kafkax.WithConsumerStartOffset(kafkax.StartLatest))
	onError, told := collectErrors()
	js, handlers := journals("events", "later")
	stop := run(t, func(ctx context.Context) error { return m.Consume(ctx, handlers, kafkax.WithOnError(onError)) })
	eventually(t, "the missing topic to be reported", func() bool { return told(kafka.UnknownTopicOrPartition) > 0 })
	eventually(t, "a position", func() bool { return m.Stats()["events"].Offset == 0 })
	b.produce(t, numbered(1, 5)...)
	eventually(t, "the topic that is there", func() bool { return js["events"].len() == 5 })
	if b.exists(t, "later") {
		t.Fatal("the consumer created the topic")
	}
	if err := b.CreateTopic("later", 1, nil); err != nil {
		t.Fatal(err)
	}
	b.on("later").produce(t, numbered(1, 5)...)
	eventually(t, "the topic that was missing", func() bool { return js["later"].len() == 5 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
