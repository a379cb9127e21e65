package main

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"time"

	"github.com/bi-common/kafkax/kafkaxtest"
)

// dialInTurn is the simulation's dial for kafka-go's Conn. A Conn holds a lock
// while it reads an answer, and in a simulation whoever waits for that lock, as
// its heartbeat does behind a commit, stops the clock. So here it waits before
// it writes. A broker takes the requests of a connection one after the other
// too: what is written, and when it is answered, stays the same.
func dialInTurn(sim *kafkaxtest.Sim) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := sim.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return takeTurns(conn), nil
	}
}

// inTurn writes a request when the one before it was answered.
type inTurn struct {
	net.Conn
	turn   chan struct{} // holds something while no answer is due
	once   sync.Once
	closed chan struct{}

	asked, answered frames // of one writer and one reader at a time

	mu       sync.Mutex
	deadline time.Time // of writes
}

func takeTurns(conn net.Conn) *inTurn {
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	return &inTurn{Conn: conn, turn: turn, closed: make(chan struct{})}
}

func (c *inTurn) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if c.asked.between() {
			if err := c.wait(); err != nil {
				return n, err
			}
		}
		piece, _ := c.asked.next(p)
		done, err := c.Conn.Write(p[:piece])
		if n += done; err != nil {
			return n, err
		}
		p = p[piece:]
	}
	return n, nil
}

// wait takes the turn, or what ends a write otherwise.
func (c *inTurn) wait() error {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	var late <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-c.turn:
		return nil
	case <-late:
		return os.ErrDeadlineExceeded
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *inTurn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		piece, last := c.answered.next(rest)
		if rest = rest[piece:]; last {
			select {
			case c.turn <- struct{}{}:
			default: // an answer that nobody asked for
			}
		}
	}
	return n, err
}

func (c *inTurn) SetDeadline(t time.Time) error {
	c.note(t)
	return c.Conn.SetDeadline(t)
}

func (c *inTurn) SetWriteDeadline(t time.Time) error {
	c.note(t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *inTurn) note(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
}

func (c *inTurn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// frames follows a stream of frames, each with its size before it.
type frames struct {
	head []byte
	left int // of the frame's body
}

// between says whether a frame begins here.
func (f *frames) between() bool { return len(f.head) == 0 && f.left == 0 }

// next is how much of p, which is not empty, belongs together, and whether a
// frame ends there.
func (f *frames) next(p []byte) (n int, last bool) {
	if f.left == 0 {
		n = min(4-len(f.head), len(p))
		if f.head = append(f.head, p[:n]...); len(f.head) < 4 {
			return n, false
		}
		f.left = int(binary.BigEndian.Uint32(f.head))
		f.head = f.head[:0]
		p = p[n:]
	}
	body := min(f.left, len(p))
	f.left -= body
	return n + body, f.left == 0
}
