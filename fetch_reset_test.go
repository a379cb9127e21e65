package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

// readers are the ways to read a topic to its end. Each hands on what it gets until
// ctx ends.
var readers = map[string]func(ctx context.Context, c *kafkax.Consumer, got func(kafka.Message)) error{
	"loop": func(ctx context.Context, c *kafkax.Consumer, got func(kafka.Message)) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { got(m); return nil })
	},
	"batches": func(ctx context.Context, c *kafkax.Consumer, got func(kafka.Message)) error {
		return c.ConsumeBatch(ctx, func(_ context.Context, batch []kafka.Message) error {
			for _, m := range batch {
				got(m)
			}
			return nil
		}, kafkax.WithBatchTimeout(10*time.Millisecond))
	},
	"pull": func(ctx context.Context, c *kafkax.Consumer, got func(kafka.Message)) error {
		for {
			m, err := c.FetchMessage(ctx)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			if err != nil {
				return err
			}
			got(m)
			if c.Config().GroupID == "" {
				continue
			}
			// The topic may have gone, and with it what was to be committed.
			if err := c.CommitMessages(ctx, m); err != nil && !errors.Is(err, kafkax.ErrRevoked) && ctx.Err() == nil {
				return err
			}
		}
	},
}

// A topic that is made again is another log, which is read from its start: with
// fewer messages than the position, as many, and more; in a group and without; also
// where a consumer is to begin with what is latest, or to end with an error where its
// position is out of range.
func TestD12_TopicMadeAgainIsReadFromItsStart(t *testing.T) {
	t.Parallel()
	for name, read := range readers {
		for _, group := range []string{"g", ""} {
			for _, n := range []int{50, 100, 300} {
				t.Run(fmt.Sprintf("%s, group %q, %d", name, group, n), func(t *testing.T) {
					t.Parallel()
					b := startBroker(t, 1)
					warned := newLogLines()
					c := b.consumer(t, group, kafkax.WithConsumerCommitInterval(10*time.Millisecond),
						kafkax.WithConsumerPartitionWatchInterval(time.Hour), kafkax.WithConsumerErrorLogger(warned),
						kafkax.WithConsumerOffsetReset(kafkax.ResetError))
					var before, after atomic.Int64
					stop := run(t, func(ctx context.Context) error {
						return read(ctx, c, func(m kafka.Message) {
							if string(m.Key) == "new" {
								after.Add(1)
							} else {
								before.Add(1)
							}
						})
					})
					b.produce(t, numbered(1, 100)...)
					eventually(t, "the old log to be handled", func() bool { return before.Load() == 100 })
					if group != "" {
						eventually(t, "that to be committed", func() bool { return b.committed(t, group, 0) == 100 })
					}
					old := b.noteOf(b.topic)
					b.makeAgain(t, n)
					eventually(t, "the new log to be handled", func() bool { return after.Load() >= int64(n) })
					if group != "" {
						eventually(t, "that to be committed", func() bool { return b.committed(t, group, 0) == int64(n) })
						if got := b.GroupInfo(group).Commits[b.topic][0].Metadata; got != b.noteOf(b.topic) {
							t.Errorf("committed with the note %q, want %q", got, b.noteOf(b.topic))
						}
					}
					if err := stop(); err != nil {
						t.Error(err)
					}
					if got := after.Load(); got != int64(n) || before.Load() != 100 {
						t.Errorf("%d and %d handled, want 100 and %d", before.Load(), got, n)
					}
					_, was, _ := strings.Cut(old, "=")
					_, is, _ := strings.Cut(b.noteOf(b.topic), "=")
					if text := warned.String(); !strings.Contains(text, "made again") || !strings.Contains(text, was) || !strings.Contains(text, is) {
						t.Errorf("logged %q, and nothing of %s and %s", text, was, is)
					}
				})
			}
		}
	}
}

// makeAgain deletes the topic and makes it again with n messages whose key is "new".
// No fetch sees the moment without it, or with less than all of them.
func (b *broker) makeAgain(t *testing.T, n int) {
	t.Helper()
	written := newGate(t)
	held := make(chan struct{}, 1000)
	b.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		held <- struct{}{}
		b.SleepControl(func() { <-written.open })
		return nil, nil, false
	})
	received(t, "a fetch", held)
	if err := b.DeleteTopic(b.topic); err != nil {
		t.Fatal(err)
	}
	if err := b.CreateTopic(b.topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	records := numbered(1, n)
	for _, r := range records {
		r.Key = []byte("new")
	}
	b.produce(t, records...)
	written.release()
}

// While nobody reads, a topic may be made again too. What is committed then tells of
// which one it is, if kafkax has written it; another client's word is taken.
func TestD12_TopicMadeAgainBetweenTwoRuns(t *testing.T) {
	t.Parallel()
	for _, start := range []kafkax.StartOffset{kafkax.StartEarliest, kafkax.StartLatest} {
		for _, of := range []string{"the old topic", "the new topic", "no topic"} {
			t.Run(fmt.Sprintf("%s, %s", start, of), func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1)
				note := b.noteOf(b.topic)
				if err := b.DeleteTopic(b.topic); err != nil {
					t.Fatal(err)
				}
				if err := b.CreateTopic(b.topic, 1, nil); err != nil {
					t.Fatal(err)
				}
				b.produce(t, numbered(1, 300)...)
				want := 200
				switch of {
				case "the old topic":
					want = 300
				case "the new topic":
					note = b.noteOf(b.topic)
				default:
					note = ""
				}
				b.commitAs(t, "g", 100, -1, note)
				c, j := b.consumer(t, "g", kafkax.WithConsumerStartOffset(start)), newJournal()
				stop := run(t, func(ctx context.Context) error {
					return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
				})
				eventually(t, "the log to be read to its end", func() bool { return b.committed(t, "g", 0) == 300 })
				if err := stop(); err != nil || j.len() != want {
					t.Errorf("%d handled, want %d; error %v", j.len(), want, err)
				}
			})
		}
	}
}

// What was delivered of the old topic may be handled after the new one is there. No
// commit of the new one counts that.
func TestD12_NothingIsCommittedUnderTheOldPosition(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	const n = 30
	held, release := make(chan struct{}, 1), newGate(t)
	var after atomic.Int64
	var wrong atomic.Int64
	c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond), kafkax.WithConsumerPartitionWatchInterval(time.Hour))
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
			switch {
			case string(m.Key) == "new":
				after.Add(1)
			case m.Offset == 50:
				held <- struct{}{}
				<-release.open
			}
			return nil
		})
	})
	b.produce(t, numbered(1, 100)...)
	received(t, "the message in the middle", held)
	old := b.TopicInfo(b.topic).TopicID
	b.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		for _, topic := range req.(*kmsg.OffsetCommitRequest).Topics {
			for _, p := range topic.Partitions {
				if topic.TopicID != old && p.Offset > after.Load() {
					wrong.Store(p.Offset)
				}
			}
		}
		return nil, nil, false
	})
	b.makeAgain(t, n)
	release.release()
	eventually(t, "the new log to be handled and committed", func() bool { return after.Load() >= n && b.committed(t, "g", 0) == n })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := wrong.Load(); got > 0 || after.Load() != n {
		t.Errorf("%d was committed of the new topic too early, %d of its messages were handled, want %d", got, after.Load(), n)
	}
}

// Of several topics only the one that was made again is read anew.
func TestD12_OneOfSeveralTopicsIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	if err := b.CreateTopic("steady", 1, nil); err != nil {
		t.Fatal(err)
	}
	m, err := kafkax.NewMultiTopicConsumer([]string{b.topic, "steady"}, kafkax.WithConsumerBrokers(b.addrs...), kafkax.WithConsumerGroupID("g"),
		kafkax.WithConsumerHeartbeatInterval(100*time.Millisecond), kafkax.WithConsumerMaxWait(100*time.Millisecond),
		kafkax.WithConsumerCommitInterval(10*time.Millisecond), kafkax.WithConsumerErrorLogger(testLogger(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	var events, steady atomic.Int64
	count := func(n *atomic.Int64) kafkax.Handler {
		return func(context.Context, kafka.Message) error { n.Add(1); return nil }
	}
	stop := run(t, func(ctx context.Context) error {
		return m.Consume(ctx, map[string]kafkax.Handler{b.topic: count(&events), "steady": count(&steady)})
	})
	b.produce(t, numbered(1, 100)...)
	other := numbered(1, 10)
	for _, r := range other {
		r.Topic = "steady"
	}
	b.produce(t, other...)
	eventually(t, "both to be handled", func() bool {
		return events.Load() == 100 && steady.Load() == 10 && b.committed(t, "g", 0) == 100
	})
	if err := b.DeleteTopic(b.topic); err != nil {
		t.Fatal(err)
	}
	if err := b.CreateTopic(b.topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	b.produce(t, numbered(1, 300)...)
	eventually(t, "the new topic to be handled", func() bool { return events.Load() >= 400 && b.committed(t, "g", 0) == 300 })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if events.Load() != 400 || steady.Load() != 10 {
		t.Errorf("%d and %d handled, want 400 and 10", events.Load(), steady.Load())
	}
}
