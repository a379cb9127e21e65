package kafkax_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

// A partition that the coordinator's answer leaves out, or answers with an error, is
// not one that nothing is committed of: that would be all of it again, or with
// "latest" a loss.
func TestD2_OffsetsThatAreNotAnsweredAreAskedForAgain(t *testing.T) {
	t.Parallel()
	const n = 10
	answers := []struct {
		name   string
		change func(topic *kmsg.OffsetFetchResponseGroupTopic)
		times  int32
		line   string // of each, in the log
	}{
		{"without a partition", func(topic *kmsg.OffsetFetchResponseGroupTopic) { topic.Partitions = topic.Partitions[:1] }, 2, "leaves out partitions 1"},
		{"without any", func(topic *kmsg.OffsetFetchResponseGroupTopic) { topic.Partitions = nil }, 2, "leaves out partitions 0 1"},
		{"with an error", func(topic *kmsg.OffsetFetchResponseGroupTopic) {
			topic.Partitions[1].ErrorCode = kerr.UnstableOffsetCommit.Code
		}, 2, "events[1]: "},
		{"for another topic", func(topic *kmsg.OffsetFetchResponseGroupTopic) {
			topic.Partitions[1].ErrorCode = kerr.UnknownTopicID.Code
		}, 2, "events[1]: "},
		{"as of another topic", func(topic *kmsg.OffsetFetchResponseGroupTopic) {
			topic.Partitions[1].Offset = -1 // and under the topic's name there is something
		}, 1, ""},
	}
	for _, answer := range answers {
		for _, start := range []kafkax.StartOffset{kafkax.StartEarliest, kafkax.StartLatest} {
			t.Run(answer.name+", "+string(start), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := startVirtualBroker(t, 2)
					j, errs := newJournal(), newLogLines()
					consume := func() (stop func() error) {
						c := b.consumer(t, "g", kafkax.WithConsumerStartOffset(start), kafkax.WithConsumerErrorLogger(errs))
						return run(t, func(ctx context.Context) error {
							return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
						})
					}
					stop := consume()
					eventuallyWithin(t, time.Minute, "the group to be stable", func() bool {
						info := b.GroupInfo("g")
						return info != nil && info.State == "Stable"
					})
					time.Sleep(10 * time.Second) // of the bubble's clock: "latest" knows where it is
					b.produce(t, numbered(2, n)...)
					eventuallyWithin(t, time.Minute, "the first to be handled", func() bool { return j.len() == 2*n })
					if err := stop(); err != nil {
						t.Fatal(err)
					}
					b.produce(t, numbered(2, n)...)

					var asked, answered atomic.Int32
					b.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
						b.KeepControl()
						fetch := req.(*kmsg.OffsetFetchRequest)
						if len(fetch.Groups) != 1 { // kafka-go's own
							return nil, nil, false
						}
						if asked.Add(1) > answer.times {
							return nil, nil, false
						}
						res := fetch.ResponseKind().(*kmsg.OffsetFetchResponse)
						group, topic := kmsg.NewOffsetFetchResponseGroup(), kmsg.NewOffsetFetchResponseGroupTopic()
						group.Group = "g"
						topic.Topic, topic.TopicID = fetch.Groups[0].Topics[0].Topic, fetch.Groups[0].Topics[0].TopicID
						for id := range int32(2) {
							p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
							p.Partition, p.Offset = id, n
							topic.Partitions = append(topic.Partitions, p)
						}
						answered.Add(1)
						answer.change(&topic)
						group.Topics = append(group.Topics, topic)
						res.Groups = append(res.Groups, group)
						return res, nil, true
					})
					stop = consume()
					eventuallyWithin(t, time.Minute, "the rest to be handled", func() bool { return j.len() >= 4*n })
					eventuallyWithin(t, time.Minute, "the rest to be committed", func() bool {
						commits := b.GroupInfo("g").Commits[b.topic]
						return commits[0].Offset == 2*n && commits[1].Offset == 2*n
					})
					if err := stop(); err != nil || j.len() != 4*n || asked.Load() != answered.Load()+1 {
						t.Errorf("%d handled of %d, error %v, asked %d times after %d answers", j.len(), 4*n, err, asked.Load(), answered.Load())
					}
					if text := errs.String(); answer.line != "" && strings.Count(text, answer.line) != int(answer.times) {
						t.Errorf("logged %q, want %q %d times", text, answer.line, answer.times)
					}
				})
			})
		}
	}
}
