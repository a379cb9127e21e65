package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
)

// A second stop waits for the first, has its own bound, and says the same.
func TestD4_SecondShutdownJoinsTheFirst(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 1)...)
	c := b.consumer(t, "g")
	started, held := make(chan struct{}, 1), newGate(t)
	run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(ctx context.Context, _ kafka.Message) error {
			started <- struct{}{}
			return held.wait(ctx)
		})
	})
	received(t, "the handler", started)

	first := make(chan error, 1)
	go func() { first <- c.GracefulShutdown(testContext(t)) }()
	eventually(t, "the stop to begin", c.IsShutdown)
	second := make(chan error, 1)
	go func() { second <- c.GracefulShutdown(testContext(t)) }()
	select {
	case err := <-second:
		t.Fatalf("the second returned (%v) while the handler ran", err)
	case err := <-first:
		t.Fatalf("the first returned (%v) while the handler ran", err)
	case <-time.After(50 * time.Millisecond): // proves nothing when it is too short, and fails never
	}

	// Its bound is its own: it ends the wait of both.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	third := c.GracefulShutdown(ctx)
	for name, err := range map[string]error{"first": received(t, "the first", first), "second": received(t, "the second", second), "third": third} {
		if _, ok := errors.AsType[*kafkax.ShutdownError](err); !ok {
			t.Errorf("the %s stop returned %v, want what was cut off", name, err)
		}
	}
}

// What a stop cut off is in the errors of the loop and of the shutdown.
// RunWithGracefulShutdown says it once.
func TestRunWithGracefulShutdownSaysOnceWhatWasCutOff(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 1)...)
	c := b.consumer(t, "g", kafkax.WithConsumerShutdownTimeout(200*time.Millisecond))
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	err := c.RunWithGracefulShutdown(ctx, func(ctx context.Context) error {
		return c.Consume(ctx, func(ctx context.Context, _ kafka.Message) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
	})
	if _, ok := errors.AsType[*kafkax.ShutdownError](err); !ok {
		t.Fatalf("returned %v, want a ShutdownError", err)
	}
	if n := strings.Count(err.Error(), "events[0]@0"); n != 1 {
		t.Errorf("the message is named %d times in %q", n, err)
	}
}

// The end of the caller's context is a stop, whether it is cancelled or its
// deadline passes: nil, as nothing was cut off.
func TestRunWithGracefulShutdownUnderADeadline(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	c := b.consumer(t, "g")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := c.RunWithGracefulShutdown(ctx, func(ctx context.Context) error {
		for {
			if _, err := c.FetchMessage(ctx); err != nil {
				return err
			}
		}
	}); err != nil {
		t.Errorf("returned %v", err)
	}
}

// A Reader is kafka-go's, and waits for a coordinator as long as kafka-go does.
// The consumer's stop does not.
func TestD4_CloseDoesNotWaitForItsReader(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	joining := make(chan struct{}, 100)
	b.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		joining <- struct{}{}
		return nil, nil, true // no answer
	})
	c := b.consumer(t, "g", kafkax.WithConsumerShutdownTimeout(200*time.Millisecond))
	if c.Reader() == nil {
		t.Fatal("no Reader")
	}
	received(t, "the Reader's join", joining)
	began := time.Now()
	_ = c.Close()
	if took := time.Since(began); took > 10*time.Second { // kafka-go alone takes a minute
		t.Errorf("Close took %v, with a shutdown_timeout of 200 ms", took)
	}
}

// One consumer is never two members of its group.
func TestReaderIsNoSecondMember(t *testing.T) {
	t.Parallel()
	handle := func(context.Context, kafka.Message) error { return nil }

	t.Run("of an idle consumer has the group", func(t *testing.T) {
		t.Parallel()
		b := startBroker(t, 3)
		b.produce(t, numbered(3, 1)...)
		warned := newLogLines()
		c := b.consumer(t, "g", kafkax.WithConsumerErrorLogger(warned))
		r := c.Reader()
		if got := r.Config().GroupID; got != "g" {
			t.Errorf("the Reader's group is %q", got)
		}
		if c.Reader() != r {
			t.Error("a second call made another")
		}
		if n := strings.Count(warned.String(), "a plain kafka.Reader"); n != 1 {
			t.Errorf("the log says it %d times: %q", n, warned.String())
		}
		ctx := testContext(t)
		if err := c.Consume(ctx, handle); !errors.Is(err, kafkax.ErrBusy) {
			t.Errorf("Consume returned %v", err)
		}
		if _, err := c.FetchMessage(ctx); !errors.Is(err, kafkax.ErrBusy) {
			t.Errorf("FetchMessage returned %v", err)
		}
		if err := c.CommitMessages(ctx, kafka.Message{Topic: b.topic}); !errors.Is(err, kafkax.ErrBusy) {
			t.Errorf("CommitMessages returned %v", err)
		}
		for range 3 { // all partitions are the Reader's
			if _, err := r.FetchMessage(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("of a running consumer has no group", func(t *testing.T) {
		t.Parallel()
		b := startBroker(t, 3)
		b.produce(t, numbered(3, 1)...)
		joins := b.countJoins()
		c := b.consumer(t, "g")
		j := newJournal()
		run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
		})
		eventually(t, "all to be handled", func() bool { return j.len() == 3 })
		before := joins.Load()
		r := c.Reader()
		if cfg := r.Config(); cfg.GroupID != "" || cfg.Partition != 0 {
			t.Errorf("the Reader has group %q, partition %d", cfg.GroupID, cfg.Partition)
		}
		if m, err := r.FetchMessage(testContext(t)); err != nil || m.Partition != 0 || m.Offset != 0 {
			t.Errorf("the Reader read %d@%d: %v", m.Partition, m.Offset, err)
		}
		b.produce(t, numbered(3, 1)...)
		eventually(t, "the rest to be handled by the loop", func() bool { return j.len() == 6 })
		if n := joins.Load(); n != before {
			t.Errorf("%d joins after the Reader was made", n-before)
		}
	})
}

// After an error that ends it, the pull API is as good as new, and so is the
// consumer.
func TestPullStartsAnewAfterAFatalError(t *testing.T) {
	t.Parallel()
	fatal := func(t *testing.T) (*broker, *kafkax.Consumer) {
		t.Helper()
		b := startBroker(t, 1)
		b.produce(t, numbered(1, 5)...)
		c := b.consumer(t, "g", kafkax.WithConsumerOffsetReset(kafkax.ResetError))
		if err := c.SetOffset(100); err != nil {
			t.Fatal(err)
		}
		if _, err := c.FetchMessage(testContext(t)); !errors.Is(err, kafkax.ErrOffsetOutOfRange) {
			t.Fatalf("FetchMessage returned %v", err)
		}
		return b, c
	}
	t.Run("pulls again", func(t *testing.T) {
		t.Parallel()
		_, c := fatal(t)
		if err := c.SetOffset(2); err != nil {
			t.Fatal(err)
		}
		for i := range int64(3) {
			if m, err := c.ReadMessage(testContext(t)); err != nil || m.Offset != 2+i {
				t.Fatalf("read %d: %v, want %d", m.Offset, err, 2+i)
			}
		}
	})
	t.Run("fails again for the same reason", func(t *testing.T) {
		t.Parallel()
		_, c := fatal(t)
		if err := c.SetOffset(200); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ReadMessage(testContext(t)); !errors.Is(err, kafkax.ErrOffsetOutOfRange) {
			t.Errorf("ReadMessage returned %v", err)
		}
	})
	t.Run("runs a loop", func(t *testing.T) {
		t.Parallel()
		b, c := fatal(t)
		if err := c.SetOffset(kafka.FirstOffset); err != nil {
			t.Fatal(err)
		}
		j := newJournal()
		run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
		})
		eventually(t, "all to be handled", func() bool { return j.len() == 5 })
		if _, err := c.FetchMessage(testContext(t)); !errors.Is(err, kafkax.ErrBusy) {
			t.Errorf("FetchMessage beside a loop returned %v", err)
		}
		eventually(t, "all to be committed", func() bool { return b.committed(t, "g", 0) == 5 })
	})
	t.Run("an error that nobody was told is told", func(t *testing.T) {
		t.Parallel()
		b := startBroker(t, 1)
		b.produce(t, numbered(1, 5)...)
		c := b.consumer(t, "g", kafkax.WithConsumerOffsetReset(kafkax.ResetError))
		fetchN(t, c, 5)
		if err := c.SetOffset(100); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the engine to end", func() bool { return len(c.PartitionLag()) == 0 })
		if err := c.SetOffset(2); err != nil {
			t.Fatal(err)
		}
		if _, err := c.FetchMessage(testContext(t)); !errors.Is(err, kafkax.ErrOffsetOutOfRange) {
			t.Errorf("the first call returned %v", err)
		}
		if m, err := c.FetchMessage(testContext(t)); err != nil || m.Offset != 2 {
			t.Errorf("the next fetched %d: %v", m.Offset, err)
		}
	})
}

// Without a message that it fetched, a consumer has nothing to commit: it does
// not join for it.
func TestCommitMessagesStartsNothing(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 3)...)
	joins := b.countJoins()
	msg := kafka.Message{Topic: b.topic, Partition: 0, Offset: 1}
	ctx := testContext(t)

	alone := b.consumer(t, "", kafkax.WithConsumerPartition(0))
	err := alone.CommitMessages(ctx, msg)
	if err == nil || !strings.Contains(err.Error(), "group_id") {
		t.Errorf("without a group: %v", err)
	}
	member := b.consumer(t, "g")
	if err := member.CommitMessages(ctx, msg); !errors.Is(err, kafkax.ErrRevoked) {
		t.Errorf("of a message that was not fetched: %v", err)
	}
	if err := member.CommitMessages(ctx); err != nil {
		t.Errorf("of no message: %v", err)
	}
	if n := joins.Load(); n > 0 {
		t.Errorf("%d joins", n)
	}
	for name, c := range map[string]*kafkax.Consumer{"without a group": alone, "a member": member} {
		j := newJournal()
		run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
		})
		eventually(t, name+" to handle all", func() bool { return j.len() == 3 })
		if c == member {
			if err := c.CommitMessages(ctx, msg); !errors.Is(err, kafkax.ErrBusy) {
				t.Errorf("beside a loop: %v", err)
			}
		}
	}
}

// Credentials can run out on a connection, and permissions are given: what is
// refused is tried once more over a fresh one. Only then it is final.
func TestD13_ARefusalIsTriedOnceMore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		key  kmsg.Key
		code *kerr.Error
	}{
		{"fetch", kmsg.Fetch, kerr.TopicAuthorizationFailed},
		{"metadata", kmsg.Metadata, kerr.TopicAuthorizationFailed},
		{"join", kmsg.JoinGroup, kerr.GroupAuthorizationFailed},
		{"commit", kmsg.OffsetCommit, kerr.GroupAuthorizationFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 5)...)
			b.Fault(kfake.Fault{Keys: []kmsg.Key{tt.key}, Err: tt.code})
			c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(10*time.Millisecond))
			j := newJournal()
			stop := run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
			})
			eventually(t, "all to be handled", func() bool { return j.len() >= 5 })
			eventually(t, "all to be committed", func() bool { return b.committed(t, "g", 0) == 5 })
			if err := stop(); err != nil {
				t.Error(err)
			}
			if d := j.duplicates(); d != nil {
				t.Errorf("handled twice: %v", d)
			}
		})
	}
}

// Brokers do not know at once how many partitions a topic has that was just made.
// The leader looks again soon, and does not leave one to nobody for
// partition_watch_interval.
func TestD12_ShortAssignmentIsMendedSoon(t *testing.T) {
	t.Parallel()
	for _, watch := range []bool{true, false} {
		b := startBroker(t, 1)
		c := b.consumer(t, "g", kafkax.WithConsumerPartitionWatchInterval(time.Hour), kafkax.WithConsumerWatchPartitionChanges(watch))
		j := newJournal()
		run(t, func(ctx context.Context) error {
			return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
		})
		eventually(t, "the assignment", func() bool { return len(c.PartitionLag()) == 1 })
		b.createPartitions(t, b.topic, 3)
		b.produce(t, numbered(3, 1)...)
		eventually(t, "all partitions to be read", func() bool { return j.len() == 3 })
	}
}

// A time before 1970 is a name of Kafka's for an end of the log.
func TestSetOffsetAtRefusesTimesThatAreNone(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 3)...)
	c := b.consumer(t, "g")
	for _, at := range []time.Time{{}, time.UnixMilli(-1), time.UnixMilli(-2), time.UnixMilli(0).Add(-time.Nanosecond), time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if err := c.SetOffsetAt(testContext(t), at); err == nil {
			t.Errorf("%v was taken", at)
		}
	}
	// After the year 2262 nanoseconds overflow, but nothing is that new.
	if err := c.SetOffsetAt(testContext(t), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Error(err)
	}
	j := newJournal()
	run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
	})
	eventually(t, "the end to be committed", func() bool { return b.committed(t, "g", 0) == 3 })
	if j.len() > 0 {
		t.Errorf("%d messages are newer than the year 9999", j.len())
	}
}

// A partition whose message cannot be handled holds its own memory, and no other
// partition waits for it.
func TestD5_APartitionThatStandsStillHoldsUpItselfAlone(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 100
	b := startBroker(t, partitions)
	records := numbered(partitions, each)
	records[0].Value = make([]byte, 900<<10) // with its partition's next, more than max_bytes
	b.produce(t, records...)
	for range 3 {
		b.produce(t, numbered(1, 1)...)
	}
	c := b.consumer(t, "g", kafkax.WithConsumerMaxBytes(256<<10))
	j := newJournal()
	run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
			if m.Partition == 0 {
				return kafkax.Permanent(errHandler)
			}
			j.add(m)
			return nil
		}, kafkax.WithDLQWriter(dlqFunc(func(context.Context, ...kafka.Message) error { return errors.New("down") })))
	})
	eventually(t, "the other partitions to be handled", func() bool { return j.len() == (partitions-1)*each })
}

// The group's first join on a cluster makes the cluster choose a coordinator,
// which takes a moment: no trouble, unless it lasts.
func TestD13_AGroupWithoutACoordinatorIsNoTroubleAtFirst(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 3)...)
	b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.CoordinatorNotAvailable, Count: 2})
	errs := newLogLines()
	c := b.consumer(t, "g", kafkax.WithConsumerErrorLogger(errs))
	j := newJournal()
	began := time.Now()
	run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
	})
	eventually(t, "all to be handled", func() bool { return j.len() == 3 })
	if took := time.Since(began); took > 4*time.Second {
		t.Skipf("the join took %v on this machine: that may be trouble", took)
	}
	if n, lines := c.Stats().Errors, errs.String(); n > 0 || strings.Contains(lines, "oordinator") {
		t.Errorf("%d errors, logged %q", n, lines)
	}
}

// What a stop cut off is what ran, not what waited for its turn.
func TestD4_OnlyWhatRunsIsNamedAsCutOff(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 3)
	b.produce(t, numbered(3, 5)...)
	c := b.consumer(t, "g", kafkax.WithConsumerShutdownTimeout(300*time.Millisecond))
	started := make(chan string, 10)
	result := make(chan error, 1)
	go func() {
		result <- c.Consume(context.Background(), func(ctx context.Context, m kafka.Message) error {
			started <- fmt.Sprintf("events[%d]@%d since ", m.Partition, m.Offset)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	want := received(t, "the handler", started)
	err := c.Close()
	cut, ok := errors.AsType[*kafkax.ShutdownError](err)
	if !ok || len(cut.What) != 1 || !strings.HasPrefix(cut.What[0], want) {
		t.Errorf("Close returned %v, want the one message that ran: %s", err, want)
	}
	if err := received(t, "the loop", result); !errors.Is(err, kafkax.ErrShutdown) {
		t.Errorf("the loop returned %v", err)
	}
}
