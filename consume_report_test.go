package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bi-common/kafkax"
)

// logBook keeps what is logged.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// with are the lines that contain each of the texts.
func (l *logBook) with(texts ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			found = append(found, line)
		}
	}
	return found
}

func TestD8_OnErrorSaysTheOutcome(t *testing.T) {
	t.Parallel()
	dlqFailsOnce := func() kafkax.ConsumeOption {
		failed := false
		return kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error {
			if !failed {
				failed = true
				return errors.New("not yet")
			}
			return nil
		}))
	}
	tests := []struct {
		name string
		opts []kafkax.ConsumeOption
		want []kafkax.ConsumeError // but for Err
		dlq  bool
	}{
		{"skipped", []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailSkip)}, []kafkax.ConsumeError{
			{Topic: "events", Offset: 1, Outcome: kafkax.OutcomeSkipped, Attempts: 2},
		}, false},
		{"stopping", []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailStop)}, []kafkax.ConsumeError{
			{Topic: "events", Offset: 1, Outcome: kafkax.OutcomeStopping, Attempts: 2},
		}, false},
		{"dead-lettered", []kafkax.ConsumeOption{kafkax.WithDLQTopic("events.dlq")}, []kafkax.ConsumeError{
			{Topic: "events", Offset: 1, Outcome: kafkax.OutcomeDeadLettered, Attempts: 2, DLQTopic: "events.dlq"},
		}, true},
		{"dead-lettered at the second try", []kafkax.ConsumeOption{kafkax.WithDLQTopic("events.dlq"), dlqFailsOnce()}, []kafkax.ConsumeError{
			{Topic: "events", Offset: 1, Outcome: kafkax.OutcomeTrouble, Attempts: 2, DLQTopic: "events.dlq"},
			{Topic: "events", Offset: 1, Outcome: kafkax.OutcomeDeadLettered, Attempts: 2, DLQTopic: "events.dlq"},
		}, false},
	}
	for _, loop := range allLoops {
		for _, tt := range tests {
			t.Run(loop.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1, kfake.SeedTopics(1, "events.dlq"))
				b.produce(t, numbered(1, 3)...)
				c := b.consumer(t, "g", kafkax.WithConsumerRetryMaxAttempts(2))
				type told struct {
					msg kafka.Message
					err error
				}
				calls := make(chan told, 100)
				opts := tt.opts
				if strings.HasSuffix(tt.name, "second try") { // of its own
					opts = []kafkax.ConsumeOption{kafkax.WithDLQTopic("events.dlq"), dlqFailsOnce()}
				}
				run(t, func(ctx context.Context) error {
					err := loop.run(c, ctx, func(_ context.Context, m kafka.Message) error {
						if m.Offset == 1 {
							return errHandler
						}
						return nil
					}, append(opts, kafkax.WithOnError(func(_ context.Context, m kafka.Message, err error) { calls <- told{m, err} }))...)
					return err
				})
				for range tt.want {
					call := received(t, "OnError", calls)
					var got *kafkax.ConsumeError
					if !errors.As(fmt.Errorf("outer: %w", call.err), &got) {
						t.Fatalf("OnError was given a %T", call.err)
					}
					if string(call.msg.Value) != "0/1" {
						t.Errorf("OnError was given the message %q", call.msg.Value)
					}
					// A failed try is told beside the message's way.
					plain := *got
					plain.Err = nil
					if !slices.Contains(tt.want, plain) {
						t.Errorf("OnError was told %+v", plain)
					}
					if got.Outcome != kafkax.OutcomeTrouble && !errors.Is(call.err, errHandler) {
						t.Errorf("%v does not match what the handler returned", call.err)
					}
					var he *kafkax.HandlerError
					if stops := got.Outcome == kafkax.OutcomeStopping; stops != errors.As(call.err, &he) {
						t.Errorf("%v: a HandlerError says that the loop stops", call.err)
					}
				}
			})
		}
	}
}

func TestD13_OnErrorIsToldOfTrouble(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	c := b.consumer(t, "g", kafkax.WithConsumerTopic("missing"), kafkax.WithConsumerDLQTopic("events.dlq"))
	told := make(chan error, 1000)
	run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(context.Context, kafka.Message) error { return nil },
			kafkax.WithOnError(func(_ context.Context, _ kafka.Message, err error) { told <- err }))
	})
	err := received(t, "OnError", told)
	var got *kafkax.ConsumeError
	if !errors.As(err, &got) || !errors.Is(err, kafka.UnknownTopicOrPartition) {
		t.Fatalf("OnError was told %T: %v", err, err)
	}
	if want := (kafkax.ConsumeError{Topic: "missing", Partition: -1, Offset: -1, Outcome: kafkax.OutcomeTrouble, Err: got.Err}); *got != want {
		t.Errorf("OnError was told %+v, want %+v", *got, want)
	}
}

// What is logged does not depend on whether somebody listens.
func TestD8_EachOutcomeIsLoggedWithAndWithoutOnError(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		opts []kafkax.ConsumeOption
		want []string
	}{
		{"skipped", nil, []string{"skipped", "attempt=2 of=2"}},
		{"stopping", []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailStop)}, []string{"stops", "attempt=2 of=2"}},
		{"dead-lettered", []kafkax.ConsumeOption{kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error { return nil }))}, []string{"dead-lettered", "attempt=2 of=2"}},
	}
	for _, tt := range tests {
		for _, onError := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/OnError %v", tt.name, onError), func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 1)
				b.produce(t, numbered(1, 1)...)
				var lines logBook
				c := b.consumer(t, "g", kafkax.WithConsumerRetryMaxAttempts(2), kafkax.WithConsumerLogger(&lines), kafkax.WithConsumerErrorLogger(&lines))
				opts := tt.opts
				if onError {
					opts = append(slices.Clip(opts), kafkax.WithOnError(func(context.Context, kafka.Message, error) {}))
				}
				run(t, func(ctx context.Context) error {
					_ = c.Consume(ctx, func(context.Context, kafka.Message) error { return errHandler }, opts...)
					return nil
				})
				eventually(t, "the line", func() bool {
					return len(lines.with(append(tt.want, "events[0]@0", errHandler.Error())...)) == 1
				})
			})
		}
	}
}

// A line that says "to be retried" says when, and the next attempt is not before that.
func TestRetryIsLoggedWithTheTimeOfTheNext(t *testing.T) {
	t.Parallel()
	dlq := func(write func() error) kafkax.ConsumeOption {
		return kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error { return write() }))
	}
	nothing := func() error { return nil }
	tests := []struct {
		name   string
		line   string
		loop   asLoop
		handle func(attempt func() error) error        // the handler
		write  func(attempt func() error) func() error // the dead letter writer
	}{
		{
			"a message", "a handler failed, to be retried", loopConsume,
			func(attempt func() error) error { return attempt() },
			func(func() error) func() error { return nothing },
		},
		{
			"a batch", "messages of a batch failed, to be retried", loopBatch,
			func(attempt func() error) error { return attempt() },
			func(func() error) func() error { return nothing },
		},
		{
			"a dead letter", "a dead letter was not written, to be retried", loopConsume,
			func(func() error) error { return kafkax.Permanent(errHandler) },
			func(attempt func() error) func() error { return attempt },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 1)...)
			var lines logBook
			c := b.consumer(t, "g", kafkax.WithConsumerRetryInitialBackoff(20*time.Millisecond), kafkax.WithConsumerLogger(&lines), kafkax.WithConsumerErrorLogger(&lines))
			again := make(chan time.Time, 1)
			calls := 0
			attempt := func() error {
				if calls++; calls == 1 {
					return errHandler
				}
				again <- time.Now()
				return nil
			}
			began := time.Now()
			run(t, func(ctx context.Context) error {
				return tt.loop.run(c, ctx, func(context.Context, kafka.Message) error { return tt.handle(attempt) }, dlq(tt.write(attempt)))
			})
			second := received(t, "the second attempt", again)
			said := lines.with(tt.line, "attempt=1 ", errHandler.Error())
			if len(said) != 1 {
				t.Fatalf("the log has %q, want one such line", said)
			}
			checkNext(t, said[0], began, second)
		})
	}
}

// checkNext fails if the line says another time than one between two attempts.
func checkNext(t *testing.T, line string, first, second time.Time) {
	t.Helper()
	_, rest, _ := strings.Cut(line, " next=")
	text, _, _ := strings.Cut(rest, " ")
	next, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if next.Before(first.Truncate(time.Millisecond)) || next.After(second) {
		t.Errorf("%q: attempts were at %v and %v", line, first, second)
	}
}

// A loop says at its start what would surprise later.
func TestD8_SkippingIsSaidAtTheStart(t *testing.T) {
	t.Parallel()
	const line = "a message that fails for good will be skipped"
	dlq := kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error { return nil }))
	tests := []struct {
		name string
		loop asLoop
		opts []kafkax.ConsumeOption
		said int
	}{
		{"Consume", loopConsume, nil, 1},
		{"told to skip", loopManual, []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailSkip)}, 1},
		{"a batch told to skip", loopBatch, []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailSkip)}, 1},
		{"told to stop", loopConsume, []kafkax.ConsumeOption{kafkax.WithOnFailure(kafkax.FailStop)}, 0},
		{"a loop that stops", loopManual, nil, 0},
		{"a dead letter topic", loopConsume, []kafkax.ConsumeOption{dlq}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 3)
			b.produce(t, numbered(3, 1)...)
			var lines logBook
			c := b.consumer(t, "g", kafkax.WithConsumerErrorLogger(&lines))
			j := newJournal()
			stop := run(t, func(ctx context.Context) error {
				return tt.loop.run(c, ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil }, tt.opts...)
			})
			eventually(t, "all to be handled", func() bool { return j.len() == 3 })
			if err := stop(); err != nil {
				t.Error(err)
			}
			if found := lines.with(line, "events", "consumer.dlq_topic", "consumer.on_failure"); len(found) != tt.said {
				t.Errorf("said %d times, want %d", len(found), tt.said)
			}
		})
	}
}

// A loop ends although OnError does not, and says what was left.
func TestD8_OnErrorThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 1)...)
	var lines logBook
	c := b.consumer(t, "g", kafkax.WithConsumerRetryMaxAttempts(1), kafkax.WithConsumerErrorLogger(&lines),
		kafkax.WithConsumerTopic("missing"), kafkax.WithConsumerPartitionWatchInterval(100*time.Millisecond))
	held, started := newGate(t), make(chan struct{}, 1000)
	stop := run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(context.Context, kafka.Message) error { return nil },
			kafkax.WithOnError(func(context.Context, kafka.Message, error) { started <- struct{}{}; <-held.open }))
	})
	received(t, "OnError", started)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if len(lines.with("OnError did not return in time", "missing", "outcome=trouble")) != 1 {
		t.Errorf("the log does not say what was left: %q", lines.lines)
	}
}
