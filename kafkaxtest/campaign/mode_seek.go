package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
)

// seeker seeks while a member runs, back and forth, until peace comes: to either
// end of the log, to a time, and to about where the last message was. That is no
// offset of every partition, so that some of them are reset.
type seeker struct {
	luck   *rand.Rand
	topics []string
	peace  time.Time
	at     atomic.Int64 // the last offset that was handled
}

const (
	seekEvery = 40 * time.Second // on average
	seekBound = 5 * time.Second
	seekBack  = 2 * time.Minute // at most
)

func newSeeker(r *rand.Rand, topics []string, peace time.Time) *seeker {
	return &seeker{luck: rand.New(rand.NewPCG(r.Uint64(), r.Uint64())), topics: topics, peace: peace}
}

// watch is h, of which the seeker learns where it is.
func (s *seeker) watch(h kafkax.Handler) kafkax.Handler {
	return func(ctx context.Context, m kafkax.Message) error {
		s.at.Store(m.Offset)
		return h(ctx, m)
	}
}

// start returns what ends it, and waits for that.
func (s *seeker) start(ctx context.Context, member *kafkaxtest.Member) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			wait := time.Duration(s.luck.ExpFloat64() * float64(seekEvery))
			if time.Until(s.peace) < wait {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
				s.seek(ctx, member, pick(s.luck, s.topics...))
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// seek tells nobody that it failed: then the member goes on as it was.
func (s *seeker) seek(ctx context.Context, member *kafkaxtest.Member, topic string) {
	switch s.luck.IntN(6) {
	case 0:
		_ = member.SetOffset(topic, kafka.FirstOffset)
	case 1:
		_ = member.SetOffset(topic, kafka.LastOffset)
	case 2:
		ctx, cancel := context.WithTimeout(ctx, seekBound)
		defer cancel()
		_ = member.SetOffsetAt(ctx, topic, time.Now().Add(-time.Duration(s.luck.Float64()*float64(seekBack))))
	default:
		_ = member.SetOffset(topic, max(0, s.at.Load()+s.luck.Int64N(60)-40))
	}
}
