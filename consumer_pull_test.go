package kafkax_test

import (
	"context"
	"errors"
	"fmt"
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

// fetchN fetches n messages.
func fetchN(t testing.TB, c *kafkax.Consumer, n int) []kafka.Message {
	t.Helper()
	msgs := make([]kafka.Message, n)
	for i := range msgs {
		var err error
		if msgs[i], err = c.FetchMessage(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	return msgs
}

func TestD1_PullCommitsWhatItIsToldTo(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	commits := watchCommits(b)
	b.produce(t, numbered(1, 20)...)
	c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
	msgs := fetchN(t, c, 10)
	for i, m := range msgs {
		if m.Offset != int64(i) || m.Topic != b.topic {
			t.Fatalf("fetched %s[%d]@%d as number %d", m.Topic, m.Partition, m.Offset, i)
		}
	}
	if err := c.CommitMessages(testContext(t), msgs[4]); err != nil {
		t.Fatal(err)
	}
	if got := b.committed(t, "g", 0); got != 5 {
		t.Errorf("CommitMessages returned and %d is committed, want 5", got)
	}
	fetchN(t, c, 5)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.committed(t, "g", 0); got != 5 {
		t.Errorf("committed %d after Close, want 5", got)
	}
	commits.neverBack(t)

	// What was not committed comes again.
	if m := fetchN(t, b.consumer(t, "g"), 1)[0]; m.Offset != 5 {
		t.Errorf("the next member begins at %d", m.Offset)
	}
}

func TestD1_PullCommitsSeveralPartitions(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 3)
	b.produce(t, numbered(3, 4)...)
	c := b.consumer(t, "g")
	if err := c.CommitMessages(testContext(t), fetchN(t, c, 12)...); err != nil {
		t.Fatal(err)
	}
	for p := range 3 {
		if got := b.committed(t, "g", p); got != 4 {
			t.Errorf("partition %d: committed %d of 4", p, got)
		}
	}
}

func TestD2_PullOlderCommitDoesNothing(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	commits := watchCommits(b)
	b.produce(t, numbered(1, 10)...)
	c := b.consumer(t, "g")
	msgs := fetchN(t, c, 10)
	for _, i := range []int{7, 2, 7, 0, 8} {
		if err := c.CommitMessages(testContext(t), msgs[i]); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := c.CommitMessages(testContext(t), msgs[9], msgs[3]); err != nil {
		t.Fatal(err)
	}
	if got := b.committed(t, "g", 0); got != 10 {
		t.Errorf("committed %d, want 10", got)
	}
	commits.neverBack(t)
}

func TestD2_PullCommitOfARevokedPartition(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 2)
	commits := watchCommits(b)
	b.produce(t, numbered(2, 10)...)
	c := b.consumer(t, "g")
	last := map[int]kafka.Message{}
	for _, m := range fetchN(t, c, 20) {
		last[m.Partition] = m
	}

	// The other member takes a partition over, handles and commits it.
	other := b.consumer(t, "g")
	handled := make(chan kafka.Message, 100)
	run(t, func(ctx context.Context) error {
		return other.ConsumeWithManualCommit(ctx, func(_ context.Context, m kafka.Message) error { handled <- m; return nil })
	})
	var mu sync.Mutex
	again := map[int64]int{}
	run(t, func(ctx context.Context) error { // a call that waits lets the partitions go
		for {
			m, err := c.FetchMessage(ctx)
			if err != nil {
				return ignoreStop(err)
			}
			mu.Lock()
			again[m.Offset] = m.Partition
			mu.Unlock()
		}
	})
	gone := received(t, "a message at the other member", handled).Partition
	eventually(t, "the other member to commit", func() bool { return b.committed(t, "g", gone) == 10 })

	kept := 1 - gone
	eventually(t, "what was kept to come again", func() bool { mu.Lock(); defer mu.Unlock(); return len(again) == 10 })
	err := c.CommitMessages(testContext(t), last[gone], last[kept])
	if !errors.Is(err, kafkax.ErrRevoked) {
		t.Errorf("CommitMessages returned %v", err)
	}
	if want := fmt.Sprintf("events[%d]@9", gone); err != nil && err.Error() != want+": "+kafkax.ErrRevoked.Error() {
		t.Errorf("%q does not name %s alone", err, want)
	}
	if got := b.committed(t, "g", kept); got != 10 {
		t.Errorf("the partition that was kept is at %d, want 10", got)
	}
	if got := b.committed(t, "g", gone); got != 10 {
		t.Errorf("the partition that was revoked is at %d, want 10", got)
	}
	commits.neverBack(t)
}

func TestD2_PullCommitRefusedByTheGroup(t *testing.T) {
	t.Parallel()
	for _, code := range []*kerr.Error{kerr.IllegalGeneration, kerr.UnknownMemberID} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, 1)
			b.produce(t, numbered(1, 3)...)
			c := b.consumer(t, "g")
			msgs := fetchN(t, c, 2)
			eventually(t, "the start to be committed", func() bool { return b.committed(t, "g", 0) == 0 })
			// All of them, as one that the interval sent may come first.
			refusing := b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: code, Count: -1})
			if err := c.CommitMessages(testContext(t), msgs...); !errors.Is(err, kafkax.ErrRevoked) {
				t.Errorf("CommitMessages returned %v", err)
			}
			refusing.Remove()
			// The consumer joins again and goes on from what is committed.
			if m := fetchN(t, c, 1)[0]; m.Offset == 0 {
				if err := c.CommitMessages(testContext(t), m); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestPullCommitNeverFetched(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 10)...)
	c := b.consumer(t, "g")
	m := fetchN(t, c, 1)[0]
	tests := []struct {
		name string
		msg  kafka.Message
	}{
		{"a later offset", kafka.Message{Topic: m.Topic, Partition: 0, Offset: 9}},
		{"another partition", kafka.Message{Topic: m.Topic, Partition: 7}},
		{"another topic", kafka.Message{Topic: "other", Partition: 0}},
		{"the zero message", kafka.Message{}},
	}
	for _, tt := range tests {
		if err := c.CommitMessages(testContext(t), tt.msg); !errors.Is(err, kafkax.ErrRevoked) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := c.CommitMessages(testContext(t)); err != nil {
		t.Errorf("no message at all: %v", err)
	}
	if got := b.committed(t, "g", 0); got > 0 {
		t.Errorf("committed %d", got)
	}
}

func TestPullCommitIsBoundedByItsContext(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 3)...)
	c := b.consumer(t, "g", kafkax.WithConsumerShutdownTimeout(100*time.Millisecond))
	msgs := fetchN(t, c, 1)
	b.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		return nil, nil, true // no answer
	})
	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	if err := c.CommitMessages(ctx, msgs...); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("CommitMessages returned %v", err)
	}
	cancel()
	if err := c.CommitMessages(ctx, msgs...); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestPullCommitsShareRequests(t *testing.T) {
	t.Parallel()
	const n = 50
	b := startBroker(t, 1)
	b.produce(t, numbered(1, n)...)
	c := b.consumer(t, "g")
	msgs := fetchN(t, c, n)
	var requests atomic.Int64
	first, answer := make(chan struct{}), newGate(t)
	b.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		if requests.Add(1) == 1 {
			close(first)
			b.SleepControl(func() { <-answer.open })
		}
		return nil, nil, false
	})
	errs := make(chan error, n)
	commit := func(m kafka.Message) { errs <- c.CommitMessages(testContext(t), m) }
	go commit(msgs[0])
	received(t, "the first request", first)
	for _, m := range msgs[1:] {
		go commit(m)
	}
	answer.release()
	for range n {
		if err := received(t, "a commit", errs); err != nil {
			t.Error(err)
		}
	}
	if got := requests.Load(); got > n/2 {
		t.Errorf("%d requests for %d commits at the same time", got, n)
	}
	if got := b.committed(t, "g", 0); got != n {
		t.Errorf("committed %d", got)
	}
}

func TestReadMessageDeliversAtLeastOnce(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	commits := watchCommits(b)
	b.produce(t, numbered(1, 5)...)
	c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
	for i := range int64(4) {
		m, err := c.ReadMessage(testContext(t))
		if err != nil || m.Offset != i {
			t.Fatalf("read %d: %v, want %d", m.Offset, err, i)
		}
		eventually(t, "what was read before to be committed", func() bool { return max(b.committed(t, "g", 0), 0) == i })
		if got := commits.highest(); got > i {
			t.Fatalf("%d committed while %d is with the caller", got, i)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// Nobody has said that the last one is handled.
	if got := b.committed(t, "g", 0); got != 3 {
		t.Errorf("committed %d after Close, want the 3 that the caller came back from", got)
	}
	if m, err := b.consumer(t, "g").ReadMessage(testContext(t)); err != nil || m.Offset != 3 {
		t.Errorf("read %d: %v, want the last one again", m.Offset, err)
	}
}

// A caller that dies with the message did not handle it.
func TestReadMessageOfACrashComesAgain(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 5)...)
	c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(time.Millisecond))
	for range 3 {
		if _, err := c.ReadMessage(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	eventually(t, "the first two", func() bool { return b.committed(t, "g", 0) == 2 })
	// Coming back with a context that has ended is coming back all the same.
	if _, err := c.ReadMessage(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadMessage returned %v", err)
	}
	eventually(t, "the third", func() bool { return b.committed(t, "g", 0) == 3 })
}

func TestFetchMessageContext(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	c := b.consumer(t, "g")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.FetchMessage(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.FetchMessage(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
	// The context of the first call is not that of the consumer.
	b.produce(t, numbered(1, 200)...)
	for want := int64(0); want < 200; {
		ctx, cancel := context.WithTimeout(testContext(t), time.Millisecond)
		m, err := c.FetchMessage(ctx)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded):
		case err != nil:
			t.Fatal(err)
		case m.Offset != want:
			t.Fatalf("fetched %d, want %d: a call whose context ended took a message with it", m.Offset, want)
		default:
			want++
		}
	}
}

func TestFetchMessageByManyAtOnce(t *testing.T) {
	t.Parallel()
	const n = 300
	b := startBroker(t, 2)
	b.produce(t, numbered(2, n/2)...)
	c := b.consumer(t, "g")
	j := newJournal()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for {
				m, err := c.FetchMessage(ctx)
				if err != nil {
					if ignoreStop(err) != nil {
						t.Error(err)
					}
					return
				}
				j.add(m)
			}
		})
	}
	eventually(t, "all to be fetched", func() bool { return j.len() >= n })
	cancel()
	callers.Wait()
	if d := j.duplicates(); d != nil || j.len() != n {
		t.Errorf("%d fetched, twice: %v", j.len(), d)
	}
}

func TestPullWithoutAGroup(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 2)
	b.produce(t, numbered(2, 3)...)
	c, err := kafkax.NewConsumer(
		kafkax.WithConsumerBrokers(b.addrs...),
		kafkax.WithConsumerTopic(b.topic),
		kafkax.WithConsumerPartition(1),
		kafkax.WithConsumerErrorLogger(testLogger(t)),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	msgs := fetchN(t, c, 2)
	if m := msgs[1]; m.Partition != 1 || m.Offset != 1 {
		t.Errorf("fetched partition %d, offset %d", m.Partition, m.Offset)
	}
	if err := c.CommitMessages(testContext(t), msgs...); err == nil {
		t.Error("a commit without a group succeeded")
	}
	if m, err := c.ReadMessage(testContext(t)); err != nil || m.Offset != 2 {
		t.Errorf("ReadMessage returned %d, %v", m.Offset, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Tombstones and empty values are different things, and so are keys.
func TestFetchMessageKeepsNilApartFromEmpty(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t,
		&kgo.Record{Key: nil, Value: nil},
		&kgo.Record{Key: []byte{}, Value: []byte{}},
		&kgo.Record{Key: []byte("k"), Value: []byte("v"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("x")}}},
	)
	msgs := fetchN(t, b.consumer(t, "g"), 3)
	if m := msgs[0]; m.Key != nil || m.Value != nil {
		t.Errorf("nil came as %v, %v", m.Key, m.Value)
	}
	if m := msgs[1]; m.Key == nil || m.Value == nil || len(m.Key)+len(m.Value) != 0 {
		t.Errorf("empty came as %v, %v", m.Key, m.Value)
	}
	if m := msgs[2]; string(m.Key) != "k" || string(m.Value) != "v" || len(m.Headers) != 1 || string(m.Headers[0].Value) != "x" {
		t.Errorf("fetched %+v", m)
	}
}

func TestErrBusy(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, kafka.Message) error { return nil }
	t.Run("a second loop, then again", func(t *testing.T) {
		t.Parallel()
		b := startBroker(t, 1)
		b.produce(t, numbered(1, 3)...)
		c := b.consumer(t, "g")
		running := make(chan struct{}, 10)
		first := run(t, func(ctx context.Context) error {
			return c.ConsumeWithManualCommit(ctx, func(context.Context, kafka.Message) error { running <- struct{}{}; return nil })
		})
		received(t, "the loop", running)
		for _, loop := range allLoops {
			if err := loop.run(c, testContext(t), nothing); !errors.Is(err, kafkax.ErrBusy) {
				t.Errorf("%s beside a loop: %v", loop.name, err)
			}
		}
		if _, err := c.FetchMessage(testContext(t)); !errors.Is(err, kafkax.ErrBusy) {
			t.Errorf("FetchMessage beside a loop: %v", err)
		}
		if _, err := c.ReadMessage(testContext(t)); !errors.Is(err, kafkax.ErrBusy) {
			t.Errorf("ReadMessage beside a loop: %v", err)
		}
		if err := first(); err != nil {
			t.Error(err)
		}
		b.produce(t, numbered(1, 3)...)
		run(t, func(ctx context.Context) error { return c.ConsumeWithManualCommit(ctx, nothing) })
		eventually(t, "a loop after the loop", func() bool { return b.committed(t, "g", 0) == 6 })
	})
	t.Run("a loop beside FetchMessage", func(t *testing.T) {
		t.Parallel()
		b := startBroker(t, 1)
		b.produce(t, numbered(1, 3)...)
		c := b.consumer(t, "g")
		fetchN(t, c, 1)
		if err := c.Consume(testContext(t), nothing); !errors.Is(err, kafkax.ErrBusy) {
			t.Errorf("Consume returned %v", err)
		}
		fetchN(t, c, 1)
	})
}
