// Package budget bounds memory: bytes are taken before they are needed, and
// given back when they are let go.
package budget

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrClosed is what waiting for bytes says after Close.
var ErrClosed = errors.New("closed")

// Budget is a number of bytes that many share. It is safe for concurrent use.
type Budget struct {
	size int

	mu      sync.Mutex
	closed  bool
	used    int
	waiting []*claim // in the order they came, so a large one gets its turn
}

type claim struct {
	bytes   int
	decided chan struct{} // closed when it was granted, or never will be
	granted bool
}

// New returns a budget of size bytes.
func New(size int) *Budget { return &Budget{size: size} }

// Take takes n bytes, or waits until others gave theirs back. What is larger
// than the whole budget is granted when nothing else is taken: it must pass too.
// Without bytes, the error is the context's cause or ErrClosed.
func (b *Budget) Take(ctx context.Context, n int) error {
	_, err := b.TakeOr(ctx, n, nil)
	return err
}

// TakeOr is Take for who can also do with something else: it takes n bytes, or
// what comes over the channel instead, and then instead is true.
func (b *Budget) TakeOr(ctx context.Context, n int, other <-chan struct{}) (instead bool, err error) {
	c := &claim{bytes: n, decided: make(chan struct{})}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false, ErrClosed
	}
	b.waiting = append(b.waiting, c)
	b.grant()
	b.mu.Unlock()

	select {
	case <-c.decided:
	case <-other:
		instead = true
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !instead && err == nil {
		if !c.granted {
			err = ErrClosed
		}
		return false, err
	}
	// The bytes may have been granted at the same moment.
	if c.granted {
		b.used -= n
	} else {
		b.waiting = slices.DeleteFunc(b.waiting, func(other *claim) bool { return other == c })
	}
	b.grant()
	return instead, err
}

// grant serves who waits, as far as there is room. It needs mu.
func (b *Budget) grant() {
	for len(b.waiting) > 0 {
		c := b.waiting[0]
		if b.used > 0 && b.used+c.bytes > b.size {
			return
		}
		b.used += c.bytes
		c.granted = true
		close(c.decided)
		b.waiting = b.waiting[1:]
	}
}

// Adjust corrects what was taken once its real size is known.
func (b *Budget) Adjust(delta int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used += delta
	b.grant()
}

// Give gives n bytes back.
func (b *Budget) Give(n int) { b.Adjust(-n) }

// Used is how many bytes are taken now.
func (b *Budget) Used() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Close lets nobody take or wait any longer. Bytes may still be given back.
func (b *Budget) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, c := range b.waiting {
		close(c.decided)
	}
	b.waiting = nil
}
