package kafkax_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

// A rebalance does not wait for a dead letter as long as one may take: all
// partitions stand still meanwhile. The message comes again, and nothing is
// committed past it before it is dead-lettered.
func TestD5_RebalanceBoundsADeadLetter(t *testing.T) {
	t.Parallel()
	for _, loop := range allLoops {
		t.Run(loop.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := startVirtualBroker(t, 2, kfake.SeedTopics(1, "events.dlq"))
				b.produce(t, numbered(2, 5)...)
				down := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events.dlq", Err: kerr.NotEnoughReplicas, Count: -1})
				j := newJournal()
				member := func(opts ...kafkax.ConsumerOption) *kafkax.Consumer {
					c := b.consumer(t, "g", append(opts, kafkax.WithConsumerDLQTopic("events.dlq"), kafkax.WithConsumerCommitInterval(time.Millisecond))...)
					run(t, func(ctx context.Context) error {
						return loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
							if string(m.Value) == "0/2" {
								return kafkax.Permanent(errHandler)
							}
							j.add(m)
							return nil
						})
					})
					return c
				}
				errs := newLogLines()
				member(kafkax.WithConsumerErrorLogger(errs))
				eventually(t, "the dead letter to be tried and all else to be committed", func() bool {
					return down.Hits() > 0 && b.committed(t, "g", 0) == 2 && b.committed(t, "g", 1) == 5
				})

				began := time.Now()
				other := member()
				eventuallyWithin(t, time.Minute, "the other member to be assigned", func() bool { return other.Stats().Rebalances > 0 })
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("the rebalance took %v", took)
				}
				if lines := errs.String(); !strings.Contains(lines, "events[0]@2: not handled (handler failed) and not dead-lettered") || !strings.Contains(lines, "could not wait any longer for the dead letter") || !strings.Contains(lines, "Not Enough Replicas") {
					t.Errorf("logged %s", lines)
				}
				if got := b.committed(t, "g", 0); got != 2 {
					t.Errorf("committed %d, 2 is not dead-lettered", got)
				}

				down.Remove()
				eventuallyWithin(t, time.Minute, "all to be committed", func() bool { return b.committed(t, "g", 0) == 5 })
				if j.count("0/3") == 0 || j.count("0/4") == 0 {
					t.Errorf("what is behind the message was not handled: %v", j.distinct())
				}
				if n := b.PartitionInfo("events.dlq", 0).HighWatermark; n == 0 {
					t.Error("the message was committed and not dead-lettered")
				}
			})
		})
	}
}

// A dead letter whose message failed while the rebalance waited for its handler has
// the same time, from then on.
func TestD5_RebalanceWaitsForADeadLetterThatBeginsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := startVirtualBroker(t, 1)
		b.produce(t, numbered(1, 1)...)
		started, fail := make(chan struct{}, 1), newGate(t)
		c := b.consumer(t, "g")
		run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(ctx context.Context, m kafka.Message) error {
				started <- struct{}{}
				if err := fail.wait(ctx); err != nil {
					return err
				}
				return kafkax.Permanent(errHandler)
			}, kafkax.WithDLQWriter(dlqFunc(func(ctx context.Context, _ ...kafka.Message) error {
				time.Sleep(2 * time.Second) // of the bubble's clock
				return ctx.Err()
			})))
		})
		received(t, "the handler", started)
		other := b.consumer(t, "g")
		run(t, func(ctx context.Context) error {
			return other.Consume(ctx, func(context.Context, kafka.Message) error { return errors.New("it is dead-lettered") })
		})
		time.Sleep(10 * time.Second) // the rebalance has begun long before
		fail.release()
		eventually(t, "the dead letter to be committed", func() bool { return b.committed(t, "g", 0) == 1 })
	})
}

// A try goes on within the producer for up to 30 s. What is wrong is said at once,
// once for each message, and from then on as each try fails.
func TestD5_FirstFailureOfADeadLetterIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		topic string // of the dead letters
		try   time.Duration
		want  string
		is    error
	}{
		{"no replicas", "events.dlq", 30 * time.Second, "events.dlq[0]: [19] Not Enough Replicas", kafka.NotEnoughReplicas},
		{"no topic", "missing.dlq", 5 * time.Second, `topic \"missing.dlq\" not found out: [3] Unknown Topic Or Partition`, kafka.UnknownTopicOrPartition},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := startVirtualBroker(t, 2, kfake.SeedTopics(1, "events.dlq"))
				b.produce(t, numbered(2, 1)...)
				b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events.dlq", Err: kerr.NotEnoughReplicas, Count: -1})
				lines := newLogLines()
				_, errs := kafkax.NewSlogLoggers(slog.New(slog.NewTextHandler(logText{lines}, nil)))
				c := b.consumer(t, "g", kafkax.WithConsumerDLQTopic(tt.topic), kafkax.WithConsumerErrorLogger(errs))
				failed := make(chan struct{}, 2)
				stop := run(t, func(ctx context.Context) error {
					return c.Consume(ctx, func(context.Context, kafka.Message) error {
						failed <- struct{}{}
						return kafkax.Permanent(errHandler)
					}, kafkax.WithConcurrency(2))
				})
				received(t, "one to fail", failed)
				received(t, "the other to fail", failed)
				time.Sleep(2 * time.Second) // of the bubble's clock, as all below
				said := func(level, msg string, partition int) (n int) {
					for line := range strings.Lines(lines.String()) {
						if strings.Contains(line, "level="+level) && strings.Contains(line, msg) &&
							strings.Contains(line, fmt.Sprintf("topic=events partition=%d offset=0", partition)) &&
							strings.Contains(line, "dlq_topic="+tt.topic) && strings.Contains(line, tt.want[strings.LastIndex(tt.want, "["):]) {
							n++
						}
					}
					return n
				}
				const first, usual = "a dead letter is not stored yet, and its write goes on", "a dead letter was not written, to be retried"
				for p := range 2 {
					if n := said("WARN", first, p); n != 1 {
						t.Errorf("partition %d: said %d times after two seconds", p, n)
					}
				}
				if !strings.Contains(lines.String(), tt.want) {
					t.Errorf("logged without %s: %s", tt.want, lines)
				}
				time.Sleep(tt.try + time.Second)
				for p := range 2 {
					if n, tries := said("WARN", first, p), said("ERROR", usual, p); n != 1 || tries == 0 {
						t.Errorf("partition %d: said %d times, and %d failed tries", p, n, tries)
					}
				}
				if err := stop(); !errors.Is(err, tt.is) {
					t.Errorf("the loop returned %v", err)
				}
			})
		})
	}
}

// logText takes lines as a writer.
type logText struct{ *logLines }

func (l logText) Write(line []byte) (int, error) {
	l.Printf("%s", bytes.TrimSpace(line))
	return len(line), nil
}
