package kafkax

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// lively bounds how long a peer may be silent, and not how long a request or its
// answer may take: a large one on a slow line is bytes that leave or arrive for
// minutes. A call ends when no byte has moved for the time of silence. It stands
// under TLS, whose records may take long too.
//
// A deadline that is set holds as well, whichever is earlier.
type lively struct {
	net.Conn

	// unacknowledged counts the bytes that were written and are still under way:
	// the system takes megabytes at once, which leave while the answer is awaited.
	// Nil if nothing counts them.
	unacknowledged func() int

	mu       sync.Mutex
	silence  time.Duration // 0: no bound of its own
	readEnd  time.Time     // as set from outside
	writeEnd time.Time
	silent   error // not nil: it was, and nothing more is read, as kafka-go would after an error
}

// looks is how often within a silence a call looks whether bytes still leave. So
// it finds out with a delay, of that part of the silence at most.
const looks = 8

func newLively(socket net.Conn) *lively {
	return &lively{Conn: socket, unacknowledged: func() int { return unacknowledged(socket) }}
}

// bound begins to bound the silence.
func (c *lively) bound(silence time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silence = silence
}

func (c *lively) Read(b []byte) (n int, err error) {
	err = c.attend(c.Conn.SetReadDeadline, &c.readEnd, func() (moved bool, err error) {
		n, err = c.Conn.Read(b)
		return n > 0, err
	})
	return n, err
}

func (c *lively) Write(b []byte) (written int, err error) {
	err = c.attend(c.Conn.SetWriteDeadline, &c.writeEnd, func() (moved bool, err error) {
		n, err := c.Conn.Write(b[written:])
		written += n
		return n > 0, err
	})
	return written, err
}

// attend makes a call again and again until it ends by itself, by the deadline
// of outside, or because nothing moved for the time of silence.
func (c *lively) attend(set func(time.Time) error, end *time.Time, call func() (moved bool, err error)) error {
	quiet, left := time.Now(), 0
	for {
		silence, err := c.arm(set, end, quiet)
		if err != nil {
			return err
		}
		moved, err := call()
		if !c.timedOut(err, silence, end) {
			return err
		}
		now, before := time.Now(), left
		if c.unacknowledged != nil {
			left = c.unacknowledged()
		}
		switch {
		case moved || left != before:
			quiet = now
		case now.Sub(quiet) >= silence:
			return c.fallSilent(&silenceError{after: silence, err: err})
		}
	}
}

// arm sets the deadline until the next look.
func (c *lively) arm(set func(time.Time) error, end *time.Time, quiet time.Time) (silence time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent != nil {
		return 0, c.silent
	}
	if c.silence > 0 {
		look := earlier(quiet.Add(c.silence), time.Now().Add(c.silence/looks))
		err = set(earlier(*end, look))
	}
	return c.silence, err
}

// timedOut says whether it was time for a look, and not the deadline of outside,
// that ended a call.
func (c *lively) timedOut(err error, silence time.Duration, end *time.Time) bool {
	if silence == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return end.IsZero() || time.Now().Before(*end)
}

func (c *lively) fallSilent(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = err
	return err
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
