package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
)

// timed makes n records for each partition, a second apart from begin on.
func timed(partitions, n int, begin time.Time) []*kgo.Record {
	records := numbered(partitions, n)
	for i, r := range records {
		r.Timestamp = begin.Add(time.Duration(i/partitions) * time.Second)
	}
	return records
}

func TestSetOffset(t *testing.T) {
	t.Parallel()
	testSetOffset(t, func(t *testing.T) *broker { return startBroker(t, 2) })
}

func TestSetOffset_Real(t *testing.T) {
	t.Parallel()
	testSetOffset(t, func(t *testing.T) *broker { return realBroker(t, kafkatest.Shared(t), 2) })
}

// A loop that has handled everything is moved: back, forth, to the ends, to a
// time, and out of the log. The group has the new position at once, and it
// survives a stop without a message handled.
func testSetOffset(t *testing.T, start func(*testing.T) *broker) {
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	tests := []struct {
		name  string
		seek  func(c *kafkax.Consumer) error
		reset kafkax.OffsetReset
		want  int64 // position of both partitions, of 20 records each
	}{
		{name: "back", seek: func(c *kafkax.Consumer) error { return c.SetOffset(5) }, want: 5},
		{name: "first", seek: func(c *kafkax.Consumer) error { return c.SetOffset(kafka.FirstOffset) }, want: 0},
		{name: "time", seek: func(c *kafkax.Consumer) error { return c.SetOffsetAt(context.Background(), begin.Add(7*time.Second)) }, want: 7},
		{name: "between_times", seek: func(c *kafkax.Consumer) error {
			return c.SetOffsetAt(context.Background(), begin.Add(7*time.Second+time.Millisecond))
		}, want: 8},
		{name: "before_all_times", seek: func(c *kafkax.Consumer) error { return c.SetOffsetAt(context.Background(), begin.Add(-time.Hour)) }, want: 0},
		{name: "last", seek: func(c *kafkax.Consumer) error { return c.SetOffset(kafka.LastOffset) }, want: 20},
		{name: "after_all_times", seek: func(c *kafkax.Consumer) error { return c.SetOffsetAt(context.Background(), begin.Add(time.Hour)) }, want: 20},
		{name: "beyond_earliest", seek: func(c *kafkax.Consumer) error { return c.SetOffset(5000) }, reset: kafkax.ResetEarliest, want: 0},
		{name: "beyond_latest", seek: func(c *kafkax.Consumer) error { return c.SetOffset(5000) }, reset: kafkax.ResetLatest, want: 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			b.produce(t, timed(2, 20, begin)...)
			group := kafkatest.Name(t)
			opts := []kafkax.ConsumerOption{kafkax.WithConsumerCommitInterval(time.Hour)} // what is committed, a seek committed
			if tt.reset != "" {
				opts = append(opts, kafkax.WithConsumerOffsetReset(tt.reset))
			}
			c := b.consumer(t, group, opts...)
			j := newJournal()
			hold := make(chan struct{})
			moved := make(chan struct{})
			stop := run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(ctx context.Context, m kafka.Message) error {
					select {
					case <-moved: // nothing is handled after the seek until hold is closed
						select {
						case <-hold:
						case <-ctx.Done():
							return ctx.Err()
						}
					default:
					}
					j.add(m)
					return nil
				})
			})
			eventually(t, "all to be handled", func() bool { return j.len() == 40 })
			close(moved)
			if err := tt.seek(c); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the new position to be committed", func() bool {
				return b.committed(t, group, 0) == tt.want && b.committed(t, group, 1) == tt.want
			})
			close(hold)
			again := int(20-tt.want) * 2
			eventually(t, "what is behind it to be handled again", func() bool { return j.len() == 40+again })
			b.produce(t, &kgo.Record{Value: []byte("0/20")}, &kgo.Record{Partition: 1, Value: []byte("1/20")})
			eventually(t, "what is new", func() bool { return j.len() == 42+again })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("0/%d", tt.want)
			if i := slices.Index(j.seen[40:], want); i < 0 {
				t.Errorf("%s did not come after the seek: %v", want, j.seen[40:])
			}
			for p := range 2 {
				if got := b.committed(t, group, p); got != 21 {
					t.Errorf("partition %d: committed %d, want 21", p, got)
				}
			}
		})
	}
}

// Before a start the move applies to the first assignment, with a group and
// without, for loops and the pull API.
func TestSetOffsetBeforeTheStart(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 20)...)
	b.commitAs(t, "g", 3, -1, "")
	for _, group := range []string{"g", ""} {
		c := b.consumer(t, group)
		if err := c.SetOffset(15); err != nil {
			t.Fatal(err)
		}
		m, err := c.FetchMessage(testContext(t))
		if err != nil || m.Offset != 15 {
			t.Errorf("group %q: first message at %d (%v), want 15", group, m.Offset, err)
		}
		// And while it runs: what was fetched before the move is not delivered.
		if err := c.SetOffset(2); err != nil {
			t.Fatal(err)
		}
		if m, err = c.FetchMessage(testContext(t)); err != nil || m.Offset != 2 {
			t.Errorf("group %q: message at %d (%v) after moving to 2", group, m.Offset, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := b.committed(t, "g", 0); got != 2 {
		t.Errorf("committed %d, want 2: nothing was committed after the move", got)
	}
}

func TestSetOffsetRefuses(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	c := b.consumer(t, "g")
	if err := c.SetOffset(-3); err == nil {
		t.Error("-3 was taken")
	}
	if err := c.SetOffsetAt(nil, time.Now()); err == nil { //nolint:staticcheck // a nil context is the point
		t.Error("a nil context was taken")
	}
	b.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := c.SetOffsetAt(ctx, time.Now()); !errors.Is(err, context.DeadlineExceeded) && !kafkax.IsRetryable(err) {
		t.Errorf("without a broker: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.SetOffset(0); !errors.Is(err, kafkax.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := c.SetOffsetAt(context.Background(), time.Now()); !errors.Is(err, kafkax.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A message that was fetched before a move is not committed after it.
func TestSetOffsetMakesFetchedMessagesStale(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 20)...)
	c := b.consumer(t, "g")
	m, err := c.FetchMessage(testContext(t))
	for err == nil && m.Offset < 10 {
		m, err = c.FetchMessage(testContext(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetOffset(5); err != nil {
		t.Fatal(err)
	}
	if err := c.CommitMessages(testContext(t), m); !errors.Is(err, kafkax.ErrRevoked) {
		t.Errorf("committing 10 after moving to 5: %v, want ErrRevoked", err)
	}
	eventually(t, "the move to be committed", func() bool { return b.committed(t, "g", 0) == 5 })
}

// A position that is set while a rebalance or a stop is at its last commit holds:
// that commit does not overwrite it, and it is not forgotten with the assignment.
func TestD2_SetOffsetHoldsWhileTheLastCommitIsUnderWay(t *testing.T) {
	t.Parallel()
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, seek := range []struct {
		name string
		to   func(c *kafkax.Consumer) error
		want int64
	}{
		{"offset", func(c *kafkax.Consumer) error { return c.SetOffset(5) }, 5},
		{"first", func(c *kafkax.Consumer) error { return c.SetOffset(kafka.FirstOffset) }, 0},
		{"time", func(c *kafkax.Consumer) error { return c.SetOffsetAt(context.Background(), begin.Add(7*time.Second)) }, 7},
	} {
		for _, rebalance := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, rebalance %v", seek.name, rebalance), func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, 2)
				b.produce(t, timed(2, 20, begin)...)
				j := newJournal()
				handle := j.handler()
				onlyAtTheEnd := kafkax.WithConsumerCommitInterval(time.Hour)
				c := b.consumer(t, "g", onlyAtTheEnd)
				stop := run(t, func(ctx context.Context) error { return c.Consume(ctx, handle) })
				eventually(t, "all to be handled", func() bool { return j.len() == 40 })

				held, let := make(chan struct{}, 1), newGate(t)
				b.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
					b.DropControl()
					held <- struct{}{}
					b.SleepControl(func() { <-let.open })
					return nil, nil, false
				})
				if rebalance {
					other := b.consumer(t, "g", onlyAtTheEnd)
					run(t, func(ctx context.Context) error { return other.Consume(ctx, handle) })
				} else {
					go func() { _ = stop() }()
				}
				received(t, "the last commit", held)
				if err := seek.to(c); err != nil {
					t.Fatal(err)
				}
				let.release()
				if !rebalance {
					if err := stop(); err != nil {
						t.Fatal(err)
					}
					for p := range 2 {
						if got := b.committed(t, "g", p); got != seek.want {
							t.Errorf("partition %d: committed %d after the stop, want %d", p, got, seek.want)
						}
					}
					run(t, func(ctx context.Context) error { return c.Consume(ctx, handle) })
				}
				again := int(20-seek.want) * 2
				eventually(t, "what is behind the position to be handled again", func() bool { return j.len() >= 40+again })
				if got := len(j.duplicates()); got != again || j.len() != 40+again {
					t.Errorf("%d messages came again, %d deliveries; want %d and %d", got, j.len(), again, 40+again)
				}
			})
		}
	}
}

// A position that the group would not take from an assignment that ends holds for
// the next one.
func TestD2_SetOffsetOutlivesARefusedCommit(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	b.produce(t, numbered(1, 20)...)
	c := b.consumer(t, "g", kafkax.WithConsumerCommitInterval(10*time.Millisecond))
	j := newJournal()
	run(t, func(ctx context.Context) error {
		return c.Consume(ctx, func(_ context.Context, m kafka.Message) error { j.add(m); return nil })
	})
	eventually(t, "all to be committed", func() bool { return b.committed(t, "g", 0) == 20 })
	// What is handled of it meanwhile is not committed either.
	b.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.IllegalGeneration, Count: 2})
	if err := c.SetOffset(15); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another assignment", func() bool { return c.Stats().Rebalances >= 2 })
	b.produce(t, &kgo.Record{Value: []byte("0/20")})
	eventually(t, "all to be committed again", func() bool { return b.committed(t, "g", 0) == 21 })
	for i := range 15 {
		if j.count(fmt.Sprintf("0/%d", i)) != 1 {
			t.Errorf("%d came again, which is before the position that was set", i)
		}
	}
	for i := 15; i < 20; i++ {
		if j.count(fmt.Sprintf("0/%d", i)) < 2 {
			t.Errorf("%d did not come again", i)
		}
	}
}
