package kafkax

import (
	"context"
	"sync/atomic"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax/internal/budget"
)

const (
	// messageBytes is what a kafka.Message takes besides key, value and
	// headers; headerBytes the same of a header.
	messageBytes = 160
	headerBytes  = 40
)

// memorySize is how much memory a message takes.
func memorySize(m *kafka.Message) int {
	n := messageBytes + len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += headerBytes + len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return n
}

// allowance is how much a partition may hold of what is fetched and not handled:
// one fetch whatever the others hold, so that a partition which stands still
// cannot keep others from going on, and more as far as the budget of all allows.
type allowance struct {
	own    chan struct{} // has a token while the one fetch is free
	shared *budget.Budget
}

func newAllowance(shared *budget.Budget) *allowance {
	a := &allowance{own: make(chan struct{}, 1), shared: shared}
	a.own <- struct{}{}
	return a
}

// take waits until a fetch that is expected to bring n bytes may be made.
func (a *allowance) take(ctx context.Context, n int) (*holding, error) {
	select {
	case <-a.own:
		return &holding{allowance: a, own: true}, nil
	default:
	}
	own, err := a.shared.TakeOr(ctx, n, a.own)
	if err != nil {
		return nil, err
	}
	h := &holding{allowance: a, own: own}
	if !own {
		h.bytes.Store(int64(n))
	}
	return h, nil
}

// giveLump is how many bytes of a fetch are given back to the shared budget at
// once: its lock is not to be taken for each message.
const giveLump = 64 << 10

// holding is the memory of one fetch.
type holding struct {
	*allowance
	own   bool
	bytes atomic.Int64 // of messages that are not done with
	freed atomic.Int64 // of those that are, and not given back yet
}

// correct replaces what was expected by what came.
func (h *holding) correct(n int) {
	expected := h.bytes.Swap(int64(n))
	switch {
	case !h.own:
		h.shared.Adjust(n - int(expected))
	case n == 0:
		h.allowance.own <- struct{}{}
	}
}

// give gives the n bytes of messages back that are done with. A nil holding has
// none.
func (h *holding) give(n int) {
	if h == nil || n == 0 {
		return
	}
	freed := h.freed.Add(int64(n)) // before bytes: who sees the last of these sees all of those
	last := h.bytes.Add(-int64(n)) == 0
	switch {
	case h.own && last:
		h.allowance.own <- struct{}{}
	case !h.own && (last || freed >= giveLump):
		h.shared.Give(int(h.freed.Swap(0)))
	}
}

// giveAll gives back what is left.
func (h *holding) giveAll() {
	if h != nil {
		h.give(int(h.bytes.Load()))
	}
}
