package kafkax

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// dependable makes of a connection of the caller's one that has deadlines and
// whose Close does not wait. What runs over another connection may have neither:
// that of an SSH client has no deadlines, and its Close sends a message.
func dependable(c net.Conn) net.Conn {
	if _, ok := c.(*net.TCPConn); ok {
		return c
	}
	own := newUnhurried(c)
	if c.SetDeadline(time.Time{}) != nil {
		return bridged(own)
	}
	return own
}

// closeWait is how long a Close may take that is waited for: longer than any
// that only tells the system.
const closeWait = 100 * time.Millisecond

// unhurried is a connection whose Close is left to itself if it takes long.
type unhurried struct {
	net.Conn
	closed func() error
}

func newUnhurried(c net.Conn) *unhurried {
	return &unhurried{Conn: c, closed: sync.OnceValue(func() error {
		err, _ := within(callUser(c.Close), closeWait)
		return err
	})}
}

func (c *unhurried) Close() error { return c.closed() }

// SyscallConn keeps what unacknowledged asks for.
func (c *unhurried) SyscallConn() (syscall.RawConn, error) {
	if socket, ok := c.Conn.(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// bridged returns one end of a pipe, which has deadlines, and carries all that
// goes through it to c and back until either is closed.
func bridged(c net.Conn) net.Conn {
	near, far := net.Pipe()
	carry := func(to, from net.Conn) {
		callUser(func() error { // ends with near's Close, unless c's does not end its calls
			defer c.Close()
			defer far.Close() // before that, which may wait
			_, err := io.Copy(to, from)
			return err
		})
	}
	carry(c, far)
	carry(far, c)
	return near
}
