package kafkax

import (
	"context"
	"sync"

	"github.com/segmentio/kafka-go"
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

// ownedReader is what Reader has made, to be closed with the consumer.
type ownedReader struct {
	*kafka.Reader
	dialer *dialer // of its connections alone
	member bool    // it has the consumer's group
}

// hasGroup says whether the reader is the group's member in the consumer's place.
func (r *ownedReader) hasGroup() bool { return r != nil && r.member }

// close closes the reader. When ctx ends first, its connections end, and with
// them whatever kafka-go waits for; it does not wait for a goroutine that stays
// all the same.
func (r *ownedReader) close(ctx context.Context) error {
	if r == nil {
		return nil
	}
	defer r.dialer.close()
	result := callUser(r.Close)
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	r.dialer.close()
	err, ok := within(result, cutGrace)
	if !ok {
		err = &ShutdownError{What: []string{"the kafka.Reader that Reader returned is still closing"}, Err: context.Cause(ctx)}
	}
	return err
}
