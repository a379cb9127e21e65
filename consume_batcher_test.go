package kafkax

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
)

func TestBatchTimeoutCountsFromTheFirstMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		l := &loop{cfg: consumeConfig{ConsumerConfig: ConsumerConfig{BatchSize: 1000, BatchTimeout: time.Second}}}
		w := &batcher{offers: make(chan offer)}
		p := &partition{tracker: newOffsetTracker(0, -1, unknownOrigin), stats: new(consumerStats)}
		offered := make(chan struct{})
		go func() { // ends with the stop
			defer close(offered)
			for offset := int64(0); sleep(stopping, 300*time.Millisecond) == nil; offset++ {
				usedUp := make(chan bool, 1)
				c := &chunk{partition: p, messages: []kafka.Message{{Offset: offset}}, position: offset + 1}
				select {
				case w.offers <- offer{&feed{partition: p}, c, usedUp}:
				case <-stopping.Done():
				}
			}
		}()
		began := time.Now()
		full := l.fill(&claim{stopping: stopping}, w)
		// The first comes after 300 ms, the others each before the timeout of
		// the one before.
		if took := time.Since(began); !full || took != 1300*time.Millisecond || len(w.batch) != 4 {
			t.Errorf("a batch of %d after %v, want 4 after 1.3s", len(w.batch), took)
		}
		stop()
		<-offered
	})
}

// A handler that failed may still hold the slice: one that was cut off by its
// context, say, and goes on in a goroutine of its own.
func TestBatchSliceIsUsedAgainAfterASuccessAlone(t *testing.T) {
	t.Parallel()
	f := newHandling(t, 1, nil, func(*consumeConfig) {})
	var given [][]kafka.Message
	f.batch = func(_ context.Context, msgs []kafka.Message) error {
		given = append(given, msgs)
		if len(given) == 2 {
			return Permanent(errors.New("failed"))
		}
		return nil
	}
	f.cfg.OnFailure = FailSkip
	w, p := &batcher{}, f.claim.partitions[0]
	feed := &feed{partition: p, failed: make(chan []failure, 10)}
	for range 4 {
		w.forget()
		m := kafka.Message{Offset: f.next[0], Value: []byte("v")}
		f.next[0]++
		p.tracker.delivered(0, m.Offset)
		w.batch = append(w.batch, taken{m, feed, &chunk{partition: p}})
		if !f.runBatch(f.claim, w) {
			t.Fatal("interrupted")
		}
	}
	same := func(i, j int) bool { return &given[i][0] == &given[j][0] }
	if !same(0, 1) || same(1, 2) || !same(2, 3) {
		t.Errorf("used again: %v %v %v, want all but what failed", same(0, 1), same(1, 2), same(2, 3))
	}
}
