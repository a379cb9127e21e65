package kafkax_test

import (
	"context"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
)

// createTopic and deleteTopic, unlike most clients, never have a broker create
// the topic because they ask about it.
func (b *broker) createTopic(t testing.TB, topic string, partitions int) {
	t.Helper()
	client, closeClient := b.client()
	defer closeClient()
	res, err := client.CreateTopics(testContext(t), &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}},
	})
	if err == nil {
		err = res.Errors[topic]
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, topic+" to take records", func() bool { return b.exists(t, topic) && b.leads(t, topic, partitions-1) })
}

func (b *broker) deleteTopic(t testing.TB, topic string) {
	t.Helper()
	client, closeClient := b.client()
	defer closeClient()
	res, err := client.DeleteTopics(testContext(t), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err == nil {
		err = res.Errors[topic]
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, topic+" to be gone", func() bool { return !b.exists(t, topic) })
}

// On brokers that create topics: of five topics one is missing and appears, one
// is deleted and comes back, one is given partitions, and another instance comes
// and goes meanwhile. Nothing is created, missed, handled twice or held up.
func TestD12_Real_TopicsComeAndGo(t *testing.T) { //nolint:tparallel // the second subtest goes on where the first ended
	t.Parallel()
	present, all := []string{"a", "b", "grows", "goes"}, []string{"a", "b", "grows", "goes", "missing"}
	cluster := kafkatest.Start(t, 1, kafkatest.WithProperty("auto.create.topics.enable", "true"))
	b := &broker{topic: "come-and-go", addrs: cluster.Brokers()}
	for _, topic := range present {
		b.createTopic(t, topic, 2)
	}
	for _, start := range []kafkax.StartOffset{kafkax.StartEarliest, kafkax.StartLatest} {
		t.Run(string(start), func(t *testing.T) {
			if start == kafkax.StartLatest { // on the same topics, so one after the other
				b.deleteTopic(t, "missing")
			}
			group := b.topic + string(start)
			instance := func() (*kafkax.MultiTopicConsumer, map[string]*journal, func() error) {
				m := b.multi(t, group, all, kafkax.WithConsumerStartOffset(start),
					kafkax.WithConsumerPartitionWatchInterval(time.Second), kafkax.WithConsumerSessionTimeout(10*time.Second))
				js, handlers := journals(all...)
				return m, js, run(t, func(ctx context.Context) error { return m.Consume(ctx, handlers) })
			}
			first, js, stop := instance()
			base := map[string]int{} // of what was there before; latest does not see it
			settle := func(topic string, partitions int) {
				t.Helper()
				eventually(t, topic+" to have positions", func() bool {
					for p := range partitions {
						if b.on(topic).position(t, group, p) < 0 {
							return false
						}
					}
					return true
				})
			}
			settle("a", 2)
			settle("b", 2)
			settle("grows", 2)
			settle("goes", 2)
			eventually(t, "nothing to be left", func() bool {
				for _, topic := range present {
					if first.Consumer(topic).Lag() != 0 {
						return false
					}
				}
				return true
			})
			for _, topic := range present {
				base[topic] = js[topic].len()
			}
			sent := map[string]int{}
			send := func(topic string, partition int) {
				t.Helper()
				b.on(topic).produce(t, &kgo.Record{Partition: int32(partition), Value: []byte(time.Now().Format(time.RFC3339Nano))})
				sent[topic]++
			}
			handled := func(what string, topics ...string) {
				t.Helper()
				for _, topic := range topics {
					eventually(t, what+": "+topic, func() bool { return js[topic].len() >= base[topic]+sent[topic] })
				}
			}
			for _, topic := range present {
				send(topic, 0)
				send(topic, 1)
			}
			handled("with a missing topic", present...)
			if b.exists(t, "missing") {
				t.Fatal("the missing topic was created")
			}

			b.createTopic(t, "missing", 2)
			send("missing", 0)
			send("missing", 1)
			handled("the missing topic appeared", "missing")

			b.deleteTopic(t, "goes")
			second, _, stopSecond := instance() // a rebalance before all have noticed
			eventually(t, "the second instance", func() bool { return second.Consumer("a").Lag() == 0 && second.Consumer("b").Lag() == 0 })
			if err := stopSecond(); err != nil {
				t.Errorf("the second instance: %v", err)
			}
			for _, topic := range []string{"a", "b", "grows"} {
				send(topic, 0)
				send(topic, 1)
			}
			handled("a topic was deleted", "a", "b", "grows")
			if b.exists(t, "goes") {
				t.Error("the deleted topic was created again")
			}
			b.createTopic(t, "goes", 2)
			send("goes", 1)
			handled("the deleted topic is back", "goes")

			partitions := 3
			if start == kafkax.StartLatest {
				partitions = 4
			}
			b.createPartitions(t, "grows", partitions)
			eventually(t, "the new partition to take records", func() bool { return b.leads(t, "grows", partitions-1) })
			send("grows", partitions-1)
			handled("a topic grew", "grows")
			for _, topic := range all {
				send(topic, 0)
			}
			handled("in the end", all...)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			for topic, j := range js {
				if d := j.duplicates(); d != nil || j.len() != base[topic]+sent[topic] {
					t.Errorf("%s: handled %d of %d, twice: %v", topic, j.len()-base[topic], sent[topic], d)
				}
			}
			for topic, s := range first.Stats() {
				// An instance that came and went, a topic that appeared, one that
				// was deleted and back, a partition: each is a few rebalances.
				if s.Rebalances > 20 {
					t.Errorf("%s: %d rebalances", topic, s.Rebalances)
				}
				t.Logf("%s: %d rebalances, %d errors", topic, s.Rebalances, s.Errors)
			}
		})
	}
}

// leads says whether the partition's leader answers for it.
func (b *broker) leads(t testing.TB, topic string, partition int) bool {
	t.Helper()
	client, closeClient := b.client()
	defer closeClient()
	res, err := client.ListOffsets(testContext(t), &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(partition)}},
	})
	return err == nil && len(res.Topics[topic]) == 1 && res.Topics[topic][0].Error == nil
}

// Two instances over three topics, with slow handlers, while a third comes and
// goes: nothing twice, each topic in order, each committed.
func TestD3_Real_MultiTopicRebalances(t *testing.T) {
	t.Parallel()
	const partitions, each = 3, 400
	b := &broker{addrs: kafkatest.Shared(t).Brokers()}
	var topics []string
	js := map[string]*journal{}
	for range 3 {
		topic := kafkatest.Shared(t).Topic(t, partitions)
		topics = append(topics, topic)
		b.on(topic).produce(t, numbered(partitions, each)...)
		js[topic] = newJournal()
	}
	group := kafkatest.Name(t)
	handlers := map[string]kafkax.Handler{}
	for _, topic := range topics {
		handlers[topic] = func(_ context.Context, m kafka.Message) error {
			time.Sleep(2 * time.Millisecond) // a slow handler is the point
			js[topic].add(m)
			return nil
		}
	}
	member := func(ctx context.Context) error {
		m, err := kafkax.NewMultiTopicConsumer(topics, kafkax.WithConsumerBrokers(b.addrs...), kafkax.WithConsumerGroupID(group),
			kafkax.WithConsumerHeartbeatInterval(100*time.Millisecond), kafkax.WithConsumerSessionTimeout(10*time.Second))
		if err != nil {
			return err
		}
		defer m.Close()
		return m.Consume(ctx, handlers)
	}
	handled := func() int {
		n := 0
		for _, j := range js {
			n += j.len()
		}
		return n
	}
	const total = 3 * partitions * each
	stop := run(t, member)
	for range 3 {
		stopOther := run(t, member)
		before := handled()
		eventually(t, "progress", func() bool { return handled() >= min(before+300, total) })
		began := time.Now()
		if err := stopOther(); err != nil {
			t.Errorf("an instance that left: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v to leave", took)
		}
	}
	eventuallyWithin(t, time.Minute, "all", func() bool { return handled() >= total })
	if err := stop(); err != nil {
		t.Error(err)
	}
	for topic, j := range js {
		j.ordered(t)
		if d := j.duplicates(); d != nil || j.len() != partitions*each {
			t.Errorf("%s: handled %d of %d, twice: %v", topic, j.len(), partitions*each, d)
		}
		for p := range partitions {
			if got := b.on(topic).committed(t, group, p); got != each {
				t.Errorf("%s[%d]: committed %d, want %d", topic, p, got, each)
			}
		}
	}
}
