package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
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

func headersOf(m kafka.Message) map[string]string {
	headers := map[string]string{}
	for _, h := range m.Headers {
		headers[h.Key] = string(h.Value)
	}
	return headers
}

var asKeys = asLoop{"by key", func(c *kafkax.Consumer, ctx context.Context, h kafkax.Handler, opts ...kafkax.ConsumeOption) error {
	return c.Consume(ctx, h, append(opts, kafkax.WithConcurrency(4), kafkax.WithOrdering(kafkax.OrderKey))...)
}}

// refusals are the ways in which a writer says that no try can succeed.
var refusals = map[string]error{
	"too large":       kafka.MessageSizeTooLarge,
	"batch too large": kafka.RecordListTooLarge,
	"invalid":         fmt.Errorf("wrapped: %w", kafka.InvalidRecord),
	"time":            kafka.WriteErrors{kafka.InvalidTimestamp},
	"by a Writer":     kafka.MessageTooLargeError{},
	"by a Producer":   kafkax.ProduceErrors{{Err: kafka.MessageSizeTooLarge}},
}

func TestD18_RefusedDeadLetterIsTriedOnceMoreWithoutItsError(t *testing.T) {
	t.Parallel()
	for name, refusal := range refusals {
		for _, loop := range slices.Concat(allLoops, []asLoop{asKeys}) {
			t.Run(name+"/"+loop.name, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1)
				b.produce(t, &kgo.Record{Key: []byte("k"), Value: []byte("0/0"), Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("t")}}})
				b.produce(t, numbered(1, 3)...)
				c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
				tries := make(chan kafka.Message, 100)
				run(t, func(ctx context.Context) error {
					return loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
						if m.Offset == 0 {
							return kafkax.Permanent(errHandler)
						}
						return nil
					}, kafkax.WithDLQWriter(dlqFunc(func(_ context.Context, msgs ...kafka.Message) error {
						tries <- msgs[0]
						if _, whole := headersOf(msgs[0])[kafkax.HeaderError]; whole {
							return refusal
						}
						return nil
					})))
				})
				eventually(t, "all to be committed", func() bool { return b.committed(t, "g", 0) == 4 })
				if n := len(tries); n != 2 {
					t.Fatalf("%d tries, want 2", n)
				}
				<-tries
				lean := <-tries
				want := map[string]string{
					"trace": "t", kafkax.HeaderOriginalTopic: "events", kafkax.HeaderOriginalPartition: "0", kafkax.HeaderOriginalOffset: "0",
					kafkax.HeaderDeadLettered: "1",
				}
				got := headersOf(lean)
				delete(got, kafkax.HeaderOriginalTimestamp)
				if string(lean.Key) != "k" || string(lean.Value) != "0/0" || lean.Time.IsZero() || !maps.Equal(got, want) {
					t.Errorf("the second try was %s=%s at %v with %v, want %v", lean.Key, lean.Value, lean.Time, got, want)
				}
			})
		}
	}
}

// A lean dead letter that fails for another reason was not refused.
func TestD18_ALeanDeadLetterIsRetriedAsAnyOther(t *testing.T) {
	t.Parallel()
	for _, loop := range slices.Concat(allLoops, []asLoop{asKeys}) {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 1)...)
			c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
			answers := []error{kafka.MessageSizeTooLarge, kafka.LeaderNotAvailable, kafka.NotEnoughReplicas, nil}
			var tries atomic.Int64
			stop := run(t, func(ctx context.Context) error {
				return loop.run(c, ctx, func(context.Context, kafka.Message) error { return kafkax.Permanent(errHandler) },
					kafkax.WithDLQWriter(dlqFunc(func(_ context.Context, msgs ...kafka.Message) error {
						n := tries.Add(1)
						if _, whole := headersOf(msgs[0])[kafkax.HeaderError]; whole != (n == 1) {
							t.Errorf("try %d: with its error: %v", n, whole)
						}
						return answers[min(int(n), len(answers))-1]
					})))
			})
			eventually(t, "the dead letter to be committed", func() bool { return b.committed(t, "g", 0) == 1 })
			if err := stop(); err != nil || tries.Load() != 4 {
				t.Errorf("%d tries, error %v", tries.Load(), err)
			}
		})
	}
}

func TestD18_WhatIsRefusedForGoodFollowsOnFailure(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		policy []kafkax.ConsumeOption
		skips  bool
	}{
		{"skip", []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailSkip)}, true},
		{"stop", []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailStop)}, false},
		{"unset", nil, false},
	}
	for _, tt := range tests {
		for _, loop := range slices.Concat(allLoops, []asLoop{asKeys}) {
			t.Run(tt.name+"/"+loop.name, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1, kfake.SeedTopics(1, "events.dlq"))
				fault := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events.dlq", Err: kerr.MessageTooLarge, Count: -1})
				b.produce(t, numbered(1, 10)...)
				var lines logBook
				c := b.consumer(t, "g", kafkax.WithConsumerDLQTopic("events.dlq"), kafkax.WithConsumerCommitInterval(time.Millisecond), kafkax.WithConsumerErrorLogger(&lines))
				told := make(chan error, 100)
				ctx, cancel := context.WithCancel(testContext(t))
				defer cancel()
				result := make(chan error, 1)
				go func() {
					result <- loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
						if m.Offset == 6 {
							return kafkax.Permanent(errHandler)
						}
						return nil
					}, append(tt.policy, kafkax.WithOnError(func(_ context.Context, _ kafka.Message, err error) { told <- err }))...)
				}()
				check := func(what string, err error) {
					t.Helper()
					var dead *kafkax.DeadLetterError
					if !errors.As(err, &dead) || dead.Offset != 6 || dead.DLQTopic != "events.dlq" || !errors.Is(err, kafka.MessageSizeTooLarge) || !errors.Is(err, errHandler) {
						t.Errorf("%s: %v", what, err)
					}
				}
				var ce *kafkax.ConsumeError
				err := received(t, "OnError", told)
				want, line := kafkax.OutcomeStopping, "the loop stops"
				if tt.skips {
					want, line = kafkax.OutcomeSkipped, "skipped"
				}
				if !errors.As(err, &ce) || ce.Outcome != want {
					t.Errorf("OnError was told %v", err)
				}
				check("OnError", err)
				if len(lines.with("events[0]@6", line)) != 1 {
					t.Errorf("the log does not say it: %q", lines.lines)
				}
				if tt.skips {
					eventually(t, "the rest to be handled", func() bool { return b.committed(t, "g", 0) == 10 })
					cancel()
					if err := received(t, "the loop", result); err != nil {
						t.Errorf("the loop returned %v", err)
					}
				} else {
					check("the loop", received(t, "the loop", result))
					if got := b.committed(t, "g", 0); got > 6 {
						t.Errorf("committed %d, 6 was neither handled nor dead-lettered", got)
					}
				}
				if n := fault.Hits(); n != 2 {
					t.Errorf("tried %d times, want whole and without its error", n)
				}
			})
		}
	}
}

// bounce is a record with a count that may come from anybody.
func bounce(count ...string) *kgo.Record {
	r := &kgo.Record{Value: []byte("0/0")}
	for _, n := range count {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: kafkax.HeaderDeadLettered, Value: []byte(n)})
	}
	return r
}

func TestD18_DeadLettersAreCounted(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		had  []string
		want string // empty: it is not dead-lettered
	}{
		{"none", nil, "1"},
		{"one", []string{"1"}, "2"},
		{"four", []string{"4"}, "5"},
		{"five", []string{"5"}, ""},
		{"more", []string{"2147483648"}, ""},
		{"set back", []string{"0"}, "1"},
		{"negative", []string{"-1"}, "1"},
		{"the most negative", []string{"-9223372036854775808"}, "1"},
		{"no number", []string{"\xff many"}, "1"},
		{"empty", []string{""}, "1"},
		{"too large a number", []string{"99999999999999999999"}, "1"},
		{"the highest of several", []string{"1", "x", "3", "2"}, "4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, bounce(tt.had...))
			c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
			letters, told := make(chan string, 10), make(chan error, 10)
			run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(context.Context, kafka.Message) error { return kafkax.Permanent(errHandler) },
					kafkax.WithOnFailure(kafkax.FailSkip),
					kafkax.WithDLQWriter(dlqFunc(func(_ context.Context, msgs ...kafka.Message) error {
						letters <- headersOf(msgs[0])[kafkax.HeaderDeadLettered]
						return nil
					})),
					kafkax.WithOnError(func(_ context.Context, _ kafka.Message, err error) { told <- err }))
			})
			err := received(t, "OnError", told)
			if tt.want != "" {
				if got := received(t, "a dead letter", letters); got != tt.want {
					t.Errorf("counted %q, want %q", got, tt.want)
				}
				return
			}
			var ce *kafkax.ConsumeError
			if !errors.As(err, &ce) || ce.Outcome != kafkax.OutcomeSkipped || len(letters) != 0 {
				t.Errorf("told %v, %d dead letters", err, len(letters))
			}
			eventually(t, "it to be committed", func() bool { return b.committed(t, "g", 0) == 1 })
		})
	}
}

// Dead letters of one topic that are consumed, and whose dead letters go back.
func TestD18_DeadLettersDoNotGoAroundForEver(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1, kfake.SeedTopics(1, "back"))
	b.produce(t, &kgo.Record{Value: []byte("0/0")})
	var handled atomic.Int64
	gaveUp := make(chan error, 100)
	for from, to := range map[string]string{"events": "back", "back": "events"} {
		c := b.consumer(t, "g-"+from, kafkax.WithConsumerTopic(from), kafkax.WithConsumerDLQTopic(to))
		run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(context.Context, kafka.Message) error { handled.Add(1); return kafkax.Permanent(errHandler) },
				kafkax.WithOnFailure(kafkax.FailSkip),
				kafkax.WithOnError(func(_ context.Context, _ kafka.Message, err error) {
					var ce *kafkax.ConsumeError
					if errors.As(err, &ce) && ce.Outcome == kafkax.OutcomeSkipped {
						gaveUp <- err
					}
				}))
		})
	}
	err := received(t, "somebody to give up", gaveUp)
	if n := handled.Load(); n != 6 {
		t.Errorf("handled %d times before %v, want 6", n, err)
	}
	eventually(t, "both topics to be handled", func() bool {
		other := &broker{topic: "back", addrs: b.addrs}
		return b.committed(t, "g-events", 0) == 3 && other.committed(t, "g-back", 0) == 3
	})
}

func TestD18_AWriterToTheConsumedTopicIsEnded(t *testing.T) {
	t.Parallel()
	for _, loop := range allLoops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, &kgo.Record{Value: []byte("0/0")})
			p, err := kafkax.NewProducer(kafkax.WithProducerBrokers(b.addrs...), kafkax.WithProducerTopic("events"))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			c := b.consumer(t, "g", kafkax.WithConsumerRetryMaxAttempts(1))
			var handled atomic.Int64
			err = loop.run(c, testContext(t), func(context.Context, kafka.Message) error { handled.Add(1); return errHandler },
				kafkax.WithDLQWriter(p))
			var dead *kafkax.DeadLetterError
			if !errors.As(err, &dead) || !errors.Is(err, errHandler) {
				t.Errorf("the loop returned %v", err)
			}
			if n := handled.Load(); n != 6 {
				t.Errorf("handled %d times, want 6", n)
			}
		})
	}
}

// A panic and runtime.Goexit are failed tries as any other, and one that never
// returns is left alone when the stop's time is over.
func TestD5_DLQWriterMayDoWhateverItLikes(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	for name, misbehave := range misbehaviors(t) {
		for _, loop := range slices.Concat(allLoops, []asLoop{asKeys}) {
			t.Run(name+"/"+loop.name, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1)
				b.produce(t, numbered(1, 4)...)
				c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond), kafkax.WithConsumerShutdownTimeout(500*time.Millisecond))
				tries := make(chan int, 100)
				n := 0
				stop := run(t, func(ctx context.Context) error {
					return loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
						if m.Offset == 1 {
							return kafkax.Permanent(errHandler)
						}
						return nil
					}, kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error {
						mu.Lock()
						n++
						try := n
						mu.Unlock()
						tries <- try
						if try == 1 {
							misbehave(c)
						}
						return nil
					})))
				})
				received(t, "a try", tries)
				if name == "blocks" || name == "closes" {
					err := stop()
					var dead *kafkax.DeadLetterError
					if !errors.As(err, &dead) || !errors.Is(err, kafkax.ErrShutdown) || !errors.Is(err, errHandler) {
						t.Errorf("the loop returned %v", err)
					}
					if got := b.committed(t, "g", 0); got != 1 {
						t.Errorf("committed %d, 1 is not dead-lettered", got)
					}
					return
				}
				if name != "calls back" { // and returns
					received(t, "another try", tries)
				}
				eventually(t, "the rest", func() bool { return b.committed(t, "g", 0) == 4 })
			})
		}
	}
}
