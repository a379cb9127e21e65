package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
)

// shown is all of a message that a handler could change in place.
func shown(m kafka.Message) string {
	s := fmt.Sprintf("%s[%d]@%d %s=%s", m.Topic, m.Partition, m.Offset, m.Key, m.Value)
	for _, h := range m.Headers {
		s += fmt.Sprintf(" %s:%s", h.Key, h.Value)
	}
	return s
}

// spoil changes a message in each way that reaches beyond the caller's copy.
func spoil(m kafka.Message) {
	for _, b := range [][]byte{m.Key, m.Value} {
		for i := range b {
			b[i] = '#'
		}
	}
	for _, h := range m.Headers {
		for i := range h.Value {
			h.Value[i] = '#'
		}
	}
	slices.Reverse(m.Headers)
	m.Headers[0] = kafka.Header{Key: "spoiled", Value: make([]byte, 1000)}
	_ = append(m.Value[:0], "longer than it was, as far as there is room"...)
}

func originalRecords() []*kgo.Record {
	var records []*kgo.Record
	for i := range 4 {
		records = append(records, &kgo.Record{
			Key: fmt.Appendf(nil, "key%d", i), Value: fmt.Appendf(nil, "value%d", i),
			Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("one")}, {Key: "b", Value: []byte("two")}},
		})
	}
	return records
}

func wasShown(offset int64) string {
	return fmt.Sprintf("events[0]@%d key%d=value%d a:one b:two", offset, offset, offset)
}

// A handler may change what it is given: the next attempt, the dead letter and
// OnError have the message as it came. So have they if a DLQWriter changes what
// it is given between its tries.
func TestD5_ChangedMessagesAreRetriedAndDeadLetteredAsTheyCame(t *testing.T) {
	t.Parallel()
	loops := slices.Concat(allLoops, []asLoop{{"by key", func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler, opts ...kafkax.ConsumeOption) error {
		return c.Consume(ctx, h, append(opts, kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.OrderKey))...)
	}}})
	for _, loop := range loops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, originalRecords()...)
			c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
			seen := make(chan string, 100)
			tries := map[int64]int{} // the only partition writes one dead letter at a time, or each key its own
			lock := make(chan struct{}, 1)
			run(t, func(ctx context.Context) error {
				return loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
					seen <- shown(m)
					spoil(m)
					return errHandler
				}, kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 3, InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond}),
					kafkax.WithDLQWriter(dlqFunc(func(_ context.Context, msgs ...kafka.Message) error {
						m := msgs[0]
						var offset int64
						_, _ = fmt.Sscanf(string(m.Key), "key%d", &offset)
						m.Topic, m.Offset, m.Headers = "events", offset, m.Headers[:2]
						seen <- shown(m)
						spoil(m)
						lock <- struct{}{}
						defer func() { <-lock }()
						if tries[offset]++; tries[offset] == 1 {
							return errors.New("not yet")
						}
						return nil
					})),
					kafkax.WithOnError(func(_ context.Context, m kafka.Message, _ error) {
						if m.Key != nil { // of a message
							seen <- shown(m)
							spoil(m)
						}
					}))
			})
			got := map[string]int{}
			for range 4 * (3 + 2 + 2) { // attempts, dead letters, calls of OnError
				got[received(t, "what is seen of a message", seen)]++
			}
			for offset := range int64(4) {
				if n := got[wasShown(offset)]; n != 7 {
					t.Errorf("%d was seen as it came %d times, want 7: %v", offset, n, got)
				}
			}
			eventually(t, "all to be committed", func() bool { return b.committed(t, "g", 0) == 4 })
		})
	}
}

// The slice that a batch handler is given is its own too.
func TestD9_ChangedBatchIsRetriedAsItCame(t *testing.T) {
	t.Parallel()
	changes := map[string]func(msgs []kafka.Message){
		"sorted":      slices.Reverse[[]kafka.Message],
		"overwritten": func(msgs []kafka.Message) { clear(msgs) },
		"appended to": func(msgs []kafka.Message) { _ = append(msgs[:1], kafka.Message{}) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, originalRecords()...)
			c := b.consumer(t, "g")
			seen := make(chan []string, 10)
			n := 0
			run(t, func(ctx context.Context) error {
				return c.ConsumeBatch(ctx, func(_ context.Context, msgs []kafka.Message) error {
					var all []string
					for _, m := range msgs {
						all = append(all, shown(m))
					}
					seen <- all
					if n++; n < 3 {
						change(msgs)
						return errHandler
					}
					return nil
				}, kafkax.WithBatchSize(4), kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 5}))
			})
			for range 3 {
				got := received(t, "a batch", seen)
				if want := []string{wasShown(0), wasShown(1), wasShown(2), wasShown(3)}; !slices.Equal(got, want) {
					t.Errorf("the handler was given %v", got)
				}
			}
			eventually(t, "all to be committed", func() bool { return b.committed(t, "g", 0) == 4 })
		})
	}
}
