package kafkax

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// lively bounds how long a peer may be silent, and not how long an answer may
// take: a large one on a slow line is bytes that arrive for minutes. Each read
// waits for its first byte until silence has passed, and each write for its
// next. It stands under TLS, whose records may take long too.
//
// A deadline that is set holds as well, whichever is earlier.
type lively struct {
	net.Conn

	mu       sync.Mutex
	silence  time.Duration // 0: no bound of its own
	readEnd  time.Time     // as set from outside
	writeEnd time.Time
	silent   error // not nil: it was, and nothing more is read, as kafka-go would after an error
}

// bound begins to bound the silence.
func (c *lively) bound(silence time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silence = silence
}

func (c *lively) Read(b []byte) (int, error) {
	silence, err := c.arm(c.Conn.SetReadDeadline, &c.readEnd)
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	return n, c.ended(err, silence, &c.readEnd)
}

// Write goes on as long as some bytes leave before the silence has passed.
func (c *lively) Write(b []byte) (int, error) {
	for written := 0; ; {
		silence, err := c.arm(c.Conn.SetWriteDeadline, &c.writeEnd)
		if err != nil {
			return written, err
		}
		n, err := c.Conn.Write(b[written:])
		written += n
		if n > 0 && c.timedOut(err, silence, &c.writeEnd) {
			continue
		}
		return written, c.ended(err, silence, &c.writeEnd)
	}
}

// arm sets the deadline for one call.
func (c *lively) arm(set func(time.Time) error, end *time.Time) (silence time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent != nil {
		return 0, c.silent
	}
	if c.silence > 0 {
		err = set(earlier(*end, time.Now().Add(c.silence)))
	}
	return c.silence, err
}

// timedOut says whether the silence was what ended a call.
func (c *lively) timedOut(err error, silence time.Duration, end *time.Time) bool {
	if silence == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return end.IsZero() || time.Now().Before(*end)
}

func (c *lively) ended(err error, silence time.Duration, end *time.Time) error {
	if !c.timedOut(err, silence, end) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = &silenceError{after: silence, err: err}
	return c.silent
}

func (c *lively) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *lively) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readEnd = t
	return c.Conn.SetReadDeadline(c.within(t))
}

func (c *lively) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeEnd = t
	return c.Conn.SetWriteDeadline(c.within(t))
}

// within holds for a call that is under way. It needs mu.
func (c *lively) within(t time.Time) time.Time {
	if c.silence == 0 {
		return t
	}
	return earlier(t, time.Now().Add(c.silence))
}

// earlier takes a zero a for no deadline.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
