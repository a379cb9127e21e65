package kafkax

import (
	"context"
	"sync"
)

// ownedWriter is a [DLQWriter] that all loops share: made by the first of them,
// and closed with the consumer. The zero value is ready.
type ownedWriter struct {
	mu       sync.Mutex
	writer   DLQWriter
	shutdown func(ctx context.Context) error
	closed   bool
}

// open makes the writer on the first call and returns it on every one. It
// returns [ErrClosed] after close.
func (o *ownedWriter) open(newWriter func() (writer DLQWriter, shutdown func(ctx context.Context) error, err error)) (DLQWriter, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, ErrClosed
	}
	if o.writer == nil {
		writer, shutdown, err := newWriter()
		if err != nil {
			return nil, err
		}
		o.writer, o.shutdown = writer, shutdown
	}
	return o.writer, nil
}

// close sends what is under way, bounded by ctx. It is called after the loops
// have ended; again, or before open, it does nothing.
func (o *ownedWriter) close(ctx context.Context) error {
	o.mu.Lock()
	shutdown := o.shutdown
	o.writer, o.shutdown, o.closed = nil, nil, true
	o.mu.Unlock()
	if shutdown == nil {
		return nil
	}
	return shutdown(ctx)
}
