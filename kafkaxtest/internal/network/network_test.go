package network_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/kafkaxtest/internal/network"
)

// echo is a broker that answers each request with 100 bytes, after its
// correlation id.
func echo(t *testing.T, n *network.Network) (dial func() net.Conn, received func() int) {
	t.Helper()
	var v kfake.VirtualNetwork
	l, err := n.Listen(v.Listen)("tcp", "localhost:9092")
	if err != nil {
		t.Fatal(err)
	}
	count := make(chan int, 1)
	count <- 0
	serve := func(c net.Conn) {
		defer c.Close()
		for {
			head := make([]byte, 4)
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head))
			if _, err := io.ReadFull(c, body); err != nil {
				return
			}
			count <- 1 + <-count
			answer := make([]byte, 4+104)
			binary.BigEndian.PutUint32(answer, 104)
			copy(answer[4:8], body[min(4, len(body)):])
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	t.Cleanup(func() { l.Close(); n.Shut() })
	dialer := n.Dial(v.DialContext, 9092)
	return func() net.Conn {
			t.Helper()
			c, err := dialer(t.Context(), "tcp", "localhost:9092")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}, func() int {
			synctest.Wait()
			n := <-count
			count <- n
			return n
		}
}

// ask sends one heartbeat.
func ask(t *testing.T, c net.Conn, correlation int32) {
	t.Helper()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group = "g"
	if _, err := c.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("me")).AppendRequest(nil, req, correlation)); err != nil {
		t.Fatal(err)
	}
}

// answered reads an answer, and returns how much of it came within a minute.
func answered(t *testing.T, c net.Conn) (n int, err error) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, err // it has ended already
	}
	return io.ReadFull(c, make([]byte, 108))
}

func TestFates(t *testing.T) {
	t.Parallel()
	requests := func(fate network.Fate) network.Rule {
		return func(f *network.Frame) network.Fate {
			if f.Answer {
				return network.Fate{}
			}
			return fate
		}
	}
	answers := func(fate network.Fate) network.Rule {
		return func(f *network.Frame) network.Fate {
			if !f.Answer {
				return network.Fate{}
			}
			return fate
		}
	}
	for name, tt := range map[string]struct {
		rule     network.Rule
		received int
		bytes    int // of the answer
		took     time.Duration
		ended    bool // the connection
	}{
		"passes":           {requests(network.Fate{}), 1, 108, 0, false},
		"late request":     {requests(network.Fate{Delay: time.Second}), 1, 108, time.Second, false},
		"late answer":      {answers(network.Fate{Delay: time.Second}), 1, 108, time.Second, false},
		"slow answer":      {answers(network.Fate{Rate: 10}), 1, 108, 10800 * time.Millisecond, false},
		"lost request":     {requests(network.Fate{Lost: true}), 0, 0, time.Minute, false},
		"lost answer":      {answers(network.Fate{Lost: true}), 1, 0, time.Minute, false},
		"cut request":      {requests(network.Fate{Cut: true}), 0, 0, 0, true},
		"cut in a request": {requests(network.Fate{Cut: true, Pass: 7}), 0, 0, 0, true},
		"cut answer":       {answers(network.Fate{Cut: true}), 1, 0, 0, true},
		"cut in an answer": {answers(network.Fate{Cut: true, Pass: 50}), 1, 50, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := network.New()
				dial, received := echo(t, n)
				n.Add(tt.rule)
				c, began := dial(), time.Now()
				ask(t, c, 1)
				got, err := answered(t, c)
				if got != tt.bytes || time.Since(began) != tt.took || received() != tt.received {
					t.Errorf("%d bytes after %v, %d requests received, want %+v", got, time.Since(began), received(), tt)
				}
				if ended := err != nil && !errors.Is(err, os.ErrDeadlineExceeded); ended != tt.ended {
					t.Errorf("ended: %v", err)
				}
			})
		})
	}
}

// What a line that stalled held arrives after its client has gone.
func TestHeldBytesArriveLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := network.New()
		dial, received := echo(t, n)
		gate := make(chan struct{})
		remove := n.Add(func(*network.Frame) network.Fate { return network.Fate{Held: gate} })
		c := dial()
		ask(t, c, 1)
		c.Close()
		time.Sleep(time.Hour)
		if got := received(); got != 0 {
			t.Errorf("%d requests passed a line that is stalled", got)
		}
		remove()
		close(gate)
		if got := received(); got != 1 {
			t.Errorf("%d requests arrived, want the one that was on its way", got)
		}
	})
}

func TestFramesAreKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := network.New()
		var seen []network.Frame
		n.Observe = func(f *network.Frame) { seen = append(seen, *f) }
		dial, received := echo(t, n)
		for range 2 {
			c := dial()
			ask(t, c, 7)
			if _, err := answered(t, c); err != nil {
				t.Fatal(err)
			}
		}
		received()
		if len(seen) != 4 {
			t.Fatalf("%d frames", len(seen))
		}
		for i, f := range seen {
			if f.Client != "me" || f.Node != 0 || f.Conn != 1+i/2 || f.Answer != (i%2 == 1) || f.Key != kmsg.Heartbeat {
				t.Errorf("frame %d: %+v", i, f)
			}
			if req, ok := f.Request.(*kmsg.HeartbeatRequest); !ok || req.Group != "g" {
				t.Errorf("frame %d: %+v", i, f.Request)
			}
		}
	})
}

func TestBrokerThatIsDownRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := network.New()
		dial, _ := echo(t, n)
		c := dial()
		ask(t, c, 1)
		n.SetDown(0, true)
		if _, err := answered(t, c); err == nil {
			t.Error("the connection goes on")
		}
		_, err := n.Dial(func(context.Context, string, string) (net.Conn, error) { return nil, nil }, 9092)(t.Context(), "tcp", "localhost:9092")
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v", err)
		}
		n.SetDown(0, false)
		c = dial()
		ask(t, c, 1)
		if _, err := answered(t, c); err != nil {
			t.Error(err)
		}
	})
}

// Bytes that are no protocol of Kafka's end the connection, and nothing else.
func TestWhatIsNoFrameEndsTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := network.New()
		dial, received := echo(t, n)
		for _, bytes := range []string{"GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff", "\x00\x00\x00\x00", "\x00\x00\x00\x05\x00\x01\x02\x03\x04"} {
			c := dial()
			if _, err := c.Write([]byte(bytes)); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Error(err)
			}
			if n, _ := answered(t, c); n != 0 && n != 108 {
				t.Errorf("%q: %d bytes", bytes, n)
			}
		}
		c := dial()
		ask(t, c, 1)
		if _, err := answered(t, c); err != nil || received() == 0 {
			t.Error(err)
		}
	})
}

// A connection to a broker that is gone, or down, ends, and Shut ends all.
func TestForwardWithoutABroker(t *testing.T) {
	t.Parallel()
	there, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	// Nobody listens at a port that a connection goes out from, or can.
	out, err := net.Dial("tcp", there.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	n := network.New()
	var ways []string
	for _, broker := range []net.Addr{out.LocalAddr(), there.Addr()} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n.Forward(l, broker.String())
		ways = append(ways, l.Addr().String())
	}
	n.SetDown(1, true)
	for _, way := range ways {
		readsEnd(t, way)
	}
	n.Shut()
	if c, err := net.Dial("tcp", ways[0]); err == nil {
		c.Close()
		t.Error("a connection was accepted after the network was shut")
	}
}

func readsEnd(t *testing.T, address string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: read %v, want the end of the connection", address, err)
	}
}
