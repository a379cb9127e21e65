package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
)

// misbehaviors are what code of the user's may do instead of returning. The test
// waits for all of it at its end.
func misbehaviors(t *testing.T) map[string]func(c *kafkax.Consumer) {
	t.Helper()
	var running atomic.Int64
	t.Cleanup(func() { eventually(t, "the user's code to end", func() bool { return running.Load() == 0 }) })
	held := newGate(t) // opened before that
	all := map[string]func(c *kafkax.Consumer){
		"blocks": func(*kafkax.Consumer) { <-held.open },
		"panics": func(*kafkax.Consumer) { panic("in user code") },
		"Goexit": func(*kafkax.Consumer) { runtime.Goexit() },
		"closes": func(c *kafkax.Consumer) { _ = c.Close() },
		"calls back": func(c *kafkax.Consumer) {
			_ = c.CommitMessages(context.Background(), kafka.Message{Topic: "events"})
			_ = c.Consume(context.Background(), func(context.Context, kafka.Message) error { return nil })
			_, _ = c.Stats(), c.Lag()
		},
	}
	for what, misbehave := range all {
		all[what] = func(c *kafkax.Consumer) {
			running.Add(1)
			defer running.Add(-1)
			misbehave(c)
		}
	}
	return all
}

// stopsWithin stops a consumer whose loop tells its end over result.
func stopsWithin(t *testing.T, bound time.Duration, consumer *kafkax.Consumer, result <-chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	began := time.Now()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = consumer.GracefulShutdown(ctx)
		_ = consumer.Close()
	}()
	received(t, "the stop", stopped)
	_ = received(t, "the loop", result)
	if took := time.Since(began); took > bound+10*time.Second { // a busy machine needs some
		t.Errorf("the stop took %v", took)
	}
}

// A place is where the user's code is called.
type place struct {
	name string
	// handler fails so that the code is called.
	handler func(m kafka.Message) error
	opts    func(misbehave func()) []kafkax.ConsumeOption
	logger  bool // called by the loggers
	ends    bool // the loop ends after it by itself
}

func places() []place {
	poison := func(m kafka.Message) error {
		if m.Partition == 0 && m.Offset == 1 {
			return kafkax.Permanent(errHandler)
		}
		return nil
	}
	onError := func(misbehave func()) kafkax.ConsumeOption {
		return kafkax.WithOnError(func(context.Context, kafka.Message, error) { misbehave() })
	}
	dlq := func(f func() error) kafkax.ConsumeOption {
		return kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error { return f() }))
	}
	stored := func() error { return nil }
	return []place{
		{name: "OnError, dead-lettered", handler: poison, opts: func(m func()) []kafkax.ConsumeOption {
			return []kafkax.ConsumeOption{onError(m), dlq(stored)}
		}},
		{name: "OnError, skipped", handler: poison, opts: func(m func()) []kafkax.ConsumeOption {
			return []kafkax.ConsumeOption{onError(m), kafkax.WithOnFailure(kafkax.FailSkip)}
		}},
		{name: "OnError, stopping", ends: true, handler: poison, opts: func(m func()) []kafkax.ConsumeOption {
			return []kafkax.ConsumeOption{onError(m), kafkax.WithOnFailure(kafkax.FailStop)}
		}},
		{name: "OnError, trouble", handler: poison, opts: func(m func()) []kafkax.ConsumeOption {
			return []kafkax.ConsumeOption{onError(m), dlq(func() error { return errors.New("down") })}
		}},
		{name: "DLQWriter", handler: poison, opts: func(m func()) []kafkax.ConsumeOption {
			return []kafkax.ConsumeOption{dlq(func() error { m(); return errors.New("down") })}
		}},
		{name: "the loggers", logger: true, handler: poison, opts: func(func()) []kafkax.ConsumeOption {
			return []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailSkip)}
		}},
	}
}

// Code of the user's that blocks, panics, ends its goroutine or calls back into
// the consumer: the other partitions go on, and a stop takes its time and no
// longer.
func TestD4_CallbacksHoldNobodyUp(t *testing.T) {
	t.Parallel()
	const bound, partitions, each = 200 * time.Millisecond, 3, 30
	loops := slices.Concat(allLoops, []asLoop{asKeys})
	if testing.Short() {
		loops = []asLoop{loopConsume, loopBatch}
	}
	for what, misbehave := range misbehaviors(t) {
		for _, place := range places() {
			for _, loop := range loops {
				t.Run(fmt.Sprintf("%s/%s/%s", place.name, what, loop.name), func(t *testing.T) {
					t.Parallel()
					b := startBroker(t, partitions)
					var consumer *kafkax.Consumer
					made, called, calls := make(chan struct{}), make(chan struct{}), new(atomic.Int64)
					userCode := func() {
						<-made
						if calls.Add(1) == 1 {
							close(called)
						}
						misbehave(consumer)
					}
					opts := []kafkax.ConsumerOption{kafkax.WithConsumerShutdownTimeout(bound), kafkax.WithConsumerCommitInterval(time.Millisecond), kafkax.WithConsumerBatchSize(3)}
					if place.logger {
						logger := kafka.LoggerFunc(func(string, ...any) { userCode() })
						opts = append(opts, kafkax.WithConsumerLogger(logger), kafkax.WithConsumerErrorLogger(logger))
					}
					consumer = b.consumer(t, "g", opts...)
					close(made)
					others := new(atomic.Int64)
					result := make(chan error, 1)
					go func() {
						result <- loop.run(consumer, context.Background(), func(_ context.Context, m kafka.Message) error {
							if m.Partition > 0 {
								others.Add(1)
							}
							return place.handler(m)
						}, place.opts(userCode)...)
					}()
					for p := range partitions {
						b.produce(t, &kgo.Record{Partition: int32(p), Key: []byte("k")}, &kgo.Record{Partition: int32(p), Key: []byte("poisoned")})
					}
					received(t, "the code to be called", called)
					if what != "closes" && !place.ends {
						b.produce(t, numbered(partitions, each)...)
						eventually(t, "the other partitions", func() bool { return others.Load() == (partitions-1)*(each+2) })
					}

					if place.ends {
						result <- received(t, "the loop to end by itself", result)
					}
					stopsWithin(t, bound, consumer, result)
				})
			}
		}
	}
}

// The same where a topic is missing: the run has no partitions yet.
func TestD4_OnErrorMayDoWhateverItLikesBeforeAnAssignment(t *testing.T) {
	t.Parallel()
	for what, misbehave := range misbehaviors(t) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			c := b.consumer(t, "g", kafkax.WithConsumerTopic("missing"), kafkax.WithConsumerShutdownTimeout(time.Second))
			called, calls := make(chan struct{}), new(atomic.Int64)
			result := make(chan error, 1)
			go func() {
				result <- c.Consume(context.Background(), func(context.Context, kafka.Message) error { return nil },
					kafkax.WithOnError(func(context.Context, kafka.Message, error) {
						if calls.Add(1) == 1 {
							close(called)
						}
						misbehave(c)
					}))
			}()
			received(t, "OnError", called)
			stopped := make(chan error, 1)
			go func() { stopped <- c.Close() }()
			_, _ = received(t, "Close", stopped), received(t, "the loop", result)
		})
	}
}

// Loggers are called on the way of FetchMessage too, and every callback of a
// MultiTopicConsumer for each of its topics.
func TestD4_CallbacksOfOtherLoops(t *testing.T) {
	t.Parallel()
	for what, misbehave := range misbehaviors(t) {
		t.Run("FetchMessage/"+what, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 5)...)
			var consumer *kafkax.Consumer
			made := make(chan struct{})
			logger := kafka.LoggerFunc(func(string, ...any) { <-made; misbehave(consumer) })
			consumer = b.consumer(t, "g", kafkax.WithConsumerLogger(logger), kafkax.WithConsumerErrorLogger(logger), kafkax.WithConsumerShutdownTimeout(200*time.Millisecond))
			close(made)
			if what != "closes" {
				fetchN(t, consumer, 5)
			} else if _, err := consumer.FetchMessage(testContext(t)); err != nil && !errors.Is(err, kafkax.ErrClosed) {
				t.Error(err)
			}
			stopped := make(chan error, 1)
			go func() { stopped <- consumer.Close() }()
			_ = received(t, "Close", stopped)
		})
		t.Run("MultiTopicConsumer/"+what, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1, kfake.SeedTopics(1, "other"))
			other := &broker{Cluster: b.Cluster, topic: "other", addrs: b.addrs}
			m, err := kafkax.NewMultiTopicConsumer([]string{"events", "other"}, kafkax.WithConsumerBrokers(b.addrs...), kafkax.WithConsumerGroupID("g"),
				kafkax.WithConsumerHeartbeatInterval(100*time.Millisecond), kafkax.WithConsumerShutdownTimeout(200*time.Millisecond), kafkax.WithConsumerErrorLogger(testLogger(t)))
			if err != nil {
				t.Fatal(err)
			}
			called, calls, others := make(chan struct{}), new(atomic.Int64), new(atomic.Int64)
			userCode := func() {
				if calls.Add(1) == 1 {
					close(called)
				}
				misbehave(m.Consumer("events"))
			}
			result := make(chan error, 1)
			go func() {
				result <- m.Consume(context.Background(), map[string]kafkax.Handler{
					"events": func(context.Context, kafka.Message) error { return kafkax.Permanent(errHandler) },
					"other":  func(context.Context, kafka.Message) error { others.Add(1); return nil },
				}, kafkax.WithOnError(func(context.Context, kafka.Message, error) { userCode() }))
			}()
			b.produce(t, numbered(1, 2)...)
			received(t, "OnError", called)
			if what != "closes" {
				other.produce(t, numbered(1, 20)...)
				eventually(t, "the other topic", func() bool { return others.Load() == 20 })
			}
			stopped := make(chan error, 1)
			go func() { stopped <- m.Close() }()
			_, _ = received(t, "Close", stopped), received(t, "the loop", result)
		})
	}
}
