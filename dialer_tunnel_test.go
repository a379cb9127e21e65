package kafkax

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// tunnelled is a connection as golang.org/x/crypto/ssh makes them: it has no
// deadlines.
type tunnelled struct {
	net.Conn
	close func(net.Conn) error // nil: the connection's own
}

func (tunnelled) SetDeadline(time.Time) error      { return errNoDeadlines }
func (tunnelled) SetReadDeadline(time.Time) error  { return errNoDeadlines }
func (tunnelled) SetWriteDeadline(time.Time) error { return errNoDeadlines }

var errNoDeadlines = errors.New("deadline not supported")

func (c tunnelled) Close() error {
	if c.close != nil {
		return c.close(c.Conn)
	}
	return c.Conn.Close()
}

func TestDialOfTheCallersMayHaveNoDeadlines(t *testing.T) {
	t.Parallel()
	cluster := fakeCluster(t)
	cfg := ConnectionConfig{
		Brokers: cluster.ListenAddrs(),
		dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return tunnelled{Conn: c}, err
		},
		RequestTimeout: time.Minute,
	}
	eachPath(t, cfg, func(t *testing.T, err error) {
		if err != nil {
			t.Error(err)
		}
	})
}

// What it lacks is made up for: a broker that falls silent is found out, and a
// close reaches the other end.
func TestD13_TunnelWithoutDeadlinesIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		network := virtualNet{"broker:1": func(c net.Conn) {
			defer close(ended)
			follow(willing)(c)
		}}
		d := newTestDialer(t, ConnectionConfig{
			Brokers: []string{"broker:1"}, DialTimeout: 10 * time.Second, RequestTimeout: 20 * time.Second,
			dial: func(ctx context.Context, n, address string) (net.Conn, error) {
				c, err := network.dial(ctx, n, address)
				return tunnelled{Conn: c}, err
			},
		}, nil)
		c, err := d.dialPooled(t.Context(), "tcp", "broker:1")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = c.Read(make([]byte, 1))
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != 20*time.Second {
			t.Errorf("got %v after %v, want a timeout after request_timeout", err, took)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
}

// Closing a connection may wait for what it runs over.
func TestD13_ConnectionWhoseCloseBlocksHoldsUpNobody(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(net.Conn, func(net.Conn) error) net.Conn{
		"with deadlines": func(c net.Conn, shut func(net.Conn) error) net.Conn {
			return stubborn{c, shut}
		},
		"without": func(c net.Conn, shut func(net.Conn) error) net.Conn { return tunnelled{c, shut} },
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				block := func(c net.Conn) error { <-release; return c.Close() }
				network := virtualNet{"good:1": follow(willing), "silent:1": silent}
				d := newTestDialer(t, ConnectionConfig{
					Brokers: []string{"good:1"}, DialTimeout: 10 * time.Second,
					dial: func(ctx context.Context, n, address string) (net.Conn, error) {
						c, err := network.dial(ctx, n, address)
						return kind(c, block), err
					},
				}, nil)
				began := time.Now()
				if _, err := d.dial(t.Context(), "tcp", "silent:1"); !errors.Is(err, errDialTimeout) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took > 11*time.Second {
					t.Errorf("a dial took %v", took)
				}
				for range 20 {
					if _, err := d.dialPooled(t.Context(), "tcp", "good:1"); err != nil {
						t.Fatal(err)
					}
				}
				began = time.Now()
				d.close()
				if took := time.Since(began); took > time.Second {
					t.Errorf("close took %v", took)
				}
				close(release)
				synctest.Wait()
			})
		})
	}
}

// stubborn is a connection with a Close of another kind.
type stubborn struct {
	net.Conn
	close func(net.Conn) error
}

func (c stubborn) Close() error { return c.close(c.Conn) }
