package kafkax

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
)

// dribble writes b in pieces, with a pause before each.
func dribble(w io.Writer, b []byte, pieces int, pause time.Duration) {
	for n := max(len(b)/pieces, 1); len(b) > 0; b = b[min(n, len(b)):] {
		time.Sleep(pause)
		if _, err := w.Write(b[:min(n, len(b))]); err != nil {
			return
		}
	}
}

// A large answer on a slow line takes minutes, in which bytes arrive.
func TestD13_SilenceIsBoundedAndNotTheAnswer(t *testing.T) {
	t.Parallel()
	const silence = 30 * time.Second
	tests := []struct {
		name   string
		serve  func(c net.Conn, res protocol.Message, version int16, id int32)
		fails  bool
		within time.Duration
	}{
		{
			name: "bytes arrive now and then",
			serve: func(c net.Conn, res protocol.Message, version int16, id int32) {
				var b bytes.Buffer
				_ = protocol.WriteResponse(&b, version, id, res)
				dribble(c, b.Bytes(), 100, silence-time.Second)
			},
			within: 200 * silence,
		},
		{
			name:   "none arrives",
			serve:  func(net.Conn, protocol.Message, int16, int32) {},
			fails:  true,
			within: silence,
		},
		{
			name: "they stop in the middle",
			serve: func(c net.Conn, res protocol.Message, version int16, id int32) {
				var b bytes.Buffer
				_ = protocol.WriteResponse(&b, version, id, res)
				dribble(c, b.Bytes()[:b.Len()/2], 2, silence/2)
			},
			fails:  true,
			within: 2 * silence,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answer := &findcoordinator.Response{Host: string(bytes.Repeat([]byte("x"), 10000)), NodeID: 7}
				d := newVirtualDialer(t, ConnectionConfig{Brokers: []string{"a:1"}, DialTimeout: 10 * time.Second}, virtualNet{
					"a:1": func(c net.Conn) {
						for {
							version, id, _, req, err := protocol.ReadRequest(c)
							if err != nil {
								return
							}
							if _, ok := req.(*findcoordinator.Request); ok {
								tt.serve(c, answer, version, id)
							} else if err := protocol.WriteResponse(c, version, id, welcome(req)); err != nil {
								return
							}
						}
					},
				})
				d.silence = silence
				tr := d.transport()
				defer tr.CloseIdleConnections()
				began := time.Now()
				// No deadline: the connection's bound is the only one.
				res, err := tr.RoundTrip(context.Background(), d.addr(), &findcoordinator.Request{Key: "k"})
				took := time.Since(began)
				if took > tt.within {
					t.Errorf("took %v, want at most %v", took, tt.within)
				}
				if !tt.fails {
					if err != nil || res.(*findcoordinator.Response).NodeID != 7 {
						t.Fatalf("got %v after %v", err, took)
					}
					if took < 10*silence {
						t.Errorf("took %v, which shows nothing", took)
					}
					return
				}
				var timeout net.Error
				if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() || !IsRetryable(err) {
					t.Errorf("got %v, want a timeout that may be retried", err)
				}
			})
		})
	}
}

// The deadline of a caller's context holds beside the bound, and is gone with
// the request: kafka-go keeps the connection for the next.
func TestDialer_DeadlinesOfRequestsHold(t *testing.T) {
	t.Parallel()
	silent := func(err error) bool { return is[*silenceError](err) }
	plain := func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) && !silent(err) }
	after := func(d time.Duration) time.Time { return time.Now().Add(d) }
	tests := []struct {
		name  string
		set   func(c net.Conn) error
		after time.Duration
		why   func(error) bool
	}{
		{"none", func(net.Conn) error { return nil }, 30 * time.Second, silent},
		{"earlier", func(c net.Conn) error { return c.SetDeadline(after(time.Second)) }, time.Second, plain},
		{"later", func(c net.Conn) error { return c.SetDeadline(after(time.Hour)) }, 30 * time.Second, silent},
		{"gone", func(c net.Conn) error {
			return errors.Join(c.SetDeadline(after(time.Second)), c.SetDeadline(time.Time{}))
		}, 30 * time.Second, silent},
		{"set in the middle", func(c net.Conn) error {
			time.AfterFunc(5*time.Second, func() { _ = c.SetReadDeadline(after(time.Second)) })
			return nil
		}, 6 * time.Second, plain},
		{"set in the middle, and later", func(c net.Conn) error {
			time.AfterFunc(5*time.Second, func() { _ = c.SetReadDeadline(after(time.Hour)) })
			return nil
		}, 35 * time.Second, silent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer server.Close()
				c := &lively{Conn: client}
				defer c.Close()
				c.bound(30 * time.Second)
				if err := tt.set(c); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				_, err := c.Read(make([]byte, 1))
				if took := time.Since(began); took != tt.after || !tt.why(err) {
					t.Errorf("a read ended after %v with %v, want %v", took, err, tt.after)
				}
			})
		})
	}
}

func TestDialer_WritesAreBoundedBySilenceToo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		read  int // bytes that the peer takes, one by one
		fails bool
	}{{"slow", 50, false}, {"stops", 20, true}, {"takes nothing", 0, true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const silence = 30 * time.Second
				client, server := net.Pipe()
				defer server.Close()
				c := &lively{Conn: client}
				defer c.Close()
				c.bound(silence)
				got := make(chan []byte, 1)
				go func() {
					var all []byte
					for range tt.read {
						time.Sleep(20 * time.Second)
						b := make([]byte, 1)
						_, _ = io.ReadFull(server, b)
						all = append(all, b...)
					}
					got <- all
				}()
				want := []byte("12345678901234567890123456789012345678901234567890")
				began := time.Now()
				n, err := c.Write(want)
				took := time.Since(began)
				all := <-got
				if !bytes.Equal(all, want[:tt.read]) || n != tt.read {
					t.Errorf("%d written, %q arrived", n, all)
				}
				if tt.fails != (err != nil) || (tt.fails && !is[*silenceError](err)) {
					t.Errorf("got %v", err)
				}
				if most := time.Duration(tt.read)*20*time.Second + 2*silence; took > most {
					t.Errorf("took %v, want at most %v", took, most)
				}
			})
		})
	}
}

// roomy takes what is written at once, as the buffer of a socket does.
type roomy struct {
	net.Conn
	left atomic.Int64
}

func (c *roomy) Write(b []byte) (int, error) {
	c.left.Add(int64(len(b)))
	return len(b), nil
}

func (c *roomy) unacknowledged() int { return int(c.left.Load()) }

// A request may be under way for long when all of it was written.
func TestD13_BytesThatStillLeaveAreNoSilence(t *testing.T) {
	t.Parallel()
	const silence = 32 * time.Second
	tests := []struct {
		name   string
		leave  int // of a hundred bytes, one every silence/2
		answer bool
	}{
		{"slow", 100, true},
		{"no answer", 100, false},
		{"they stop in the middle", 30, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer server.Close()
				socket := &roomy{Conn: client}
				c := &lively{Conn: socket, unacknowledged: socket.unacknowledged}
				defer c.Close()
				c.bound(silence)
				if _, err := c.Write(make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				var last time.Time
				var line sync.WaitGroup
				defer line.Wait()
				line.Go(func() {
					for range tt.leave {
						time.Sleep(silence / 2)
						last = time.Now()
						socket.left.Add(-1)
					}
					if tt.answer {
						time.Sleep(silence - time.Second)
						_ = server.SetDeadline(time.Now().Add(silence))
						_, _ = server.Write([]byte("x"))
					}
				})
				_, err := c.Read(make([]byte, 1))
				if tt.answer {
					if took := time.Since(began); err != nil || took < 10*silence {
						t.Errorf("got %v after %v", err, took)
					}
					return
				}
				if waited := time.Since(last); !is[*silenceError](err) || waited < silence || waited > silence+silence/looks {
					t.Errorf("got %v %v after the last byte left, want that after %v", err, waited, silence)
				}
			})
		})
	}
}

func TestDialer_WhatThePeerHasNotTakenIsKnown(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it is only on Linux")
	}
	read := make(chan struct{})
	address := listen(t, func(c net.Conn) {
		<-read
		silent(c)
	})
	release := sync.OnceFunc(func() { close(read) })
	t.Cleanup(release) // runs before the listener's, which waits for what it serves
	var written sync.WaitGroup
	defer written.Wait()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const size = 64 << 20 // more than both ends buffer
	written.Go(func() { _, _ = c.Write(make([]byte, size)) })
	overdue := time.After(time.Minute)
	until := func(ok func(n int) bool) {
		t.Helper()
		for !ok(unacknowledged(c)) {
			select {
			case <-overdue:
				t.Fatalf("%d bytes", unacknowledged(c))
			case <-time.After(time.Millisecond):
			}
		}
	}
	until(func(n int) bool { return n > 0 })
	release()
	written.Wait()
	until(func(n int) bool { return n == 0 })
}

// kafka-go's group sets deadlines of its own, for joins that wait for others.
func TestDialer_GroupConnectionsHaveNoBoundOfTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newVirtualDialer(t, ConnectionConfig{Brokers: []string{"a:1"}, DialTimeout: 10 * time.Second}, virtualNet{
			"a:1": follow(func(req protocol.Message) (protocol.Message, error) {
				if _, ok := req.(*findcoordinator.Request); ok {
					time.Sleep(time.Hour)
					return &findcoordinator.Response{}, nil
				}
				return nil, nil
			}),
		})
		c, err := d.kafkaDialer().DialFunc(t.Context(), "tcp", "a:1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := protocol.NewConn(c, "test").RoundTrip(&findcoordinator.Request{}); err != nil {
			t.Error(err)
		}
	})
}

// A consumer asks for answers to be held back, which is no silence.
func TestDialer_LongPollIsNoSilence(t *testing.T) {
	t.Parallel()
	cfg := ConnectionConfig{Brokers: []string{"a:1"}, RequestTimeout: 30 * time.Second}
	d, err := newDialer(cfg, time.Minute, newLoggers(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if d.silence != cfg.RequestTimeout+time.Minute || d.sibling().silence != d.silence {
		t.Errorf("silence is %v", d.silence)
	}
}
