package kafkax

import (
	"context"
	"sync"
)

const (
	// asyncBytes bounds what async mode buffers. Java: buffer.memory.
	asyncBytes = 32 << 20
	// messageOverhead is what a message costs besides its bytes, so that empty
	// ones are bounded too.
	messageOverhead = 256
)

// room is async mode's bound: bytes that may wait to be sent.
type room struct {
	turn  chan struct{} // held by the one that waits for bytes: first come, first served
	freed chan struct{} // wakes it

	mu   sync.Mutex
	size int
	used int
}

func newRoom(size int) *room {
	return &room{turn: make(chan struct{}, 1), freed: make(chan struct{}, 1), size: size}
}

// take waits until n bytes fit, or nothing else is in: a call that is larger
// than the room must pass too, and its caller holds it in memory anyway.
func (r *room) take(ctx context.Context, closing <-chan struct{}, n int) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	for !r.fits(n) {
		select {
		case <-r.freed:
		case <-closing:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *room) fits(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used > 0 && r.used+n > r.size {
		return false
	}
	r.used += n
	return true
}

func (r *room) give(n int) {
	r.mu.Lock()
	r.used -= n
	r.mu.Unlock()
	select {
	case r.freed <- struct{}{}:
	default:
	}
}
