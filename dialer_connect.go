package kafkax

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go/sasl"
)

// connector makes connections, one by one: TCP, TLS, SASL, and a first answer.
type connector struct {
	dial      dialFunc
	clientID  string
	tls       *material[*tls.Config]    // nil: plaintext
	mechanism *material[sasl.Mechanism] // nil: no SASL

	// handshakes has an entry for each that runs. One that runs code of the
	// caller's may never return, and then keeps its entry.
	handshakes chan struct{}
}

// maxHandshakes is how many run at once. More than that wait for a turn.
const maxHandshakes = 64

func newConnector(cfg ConnectionConfig, log *loggers) (*connector, error) {
	config, mechanism, err := newMaterials(cfg, log)
	if err != nil {
		return nil, err
	}
	dial := dialFunc(new(net.Dialer).DialContext)
	if cfg.dial != nil {
		dial = apart(cfg.dial)
	}
	return &connector{
		dial:       dial,
		clientID:   cfg.ClientID,
		tls:        config,
		mechanism:  mechanism,
		handshakes: make(chan struct{}, maxHandshakes),
	}, nil
}

// apart is for a dial that is the caller's. What it returns does so when the
// context ends, whatever the dial does; what that brings later is closed.
func apart(dial dialFunc) dialFunc {
	turns := make(chan struct{}, maxHandshakes) // as of handshakes: one that never returns keeps its own
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		select {
		case turns <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d earlier calls of the dial that was given by option have not returned: %w", cap(turns), ctx.Err())
		}
		var (
			made    net.Conn
			settled atomic.Bool // by whichever was first, the dial's return or the context's end
		)
		returned := callUser(func() error {
			defer func() { <-turns }()
			c, err := dial(ctx, network, address)
			switch {
			case err != nil:
				return err
			case isNil(c):
				return errNoConnection
			}
			c = dependable(c)
			if !settled.CompareAndSwap(false, true) {
				return c.Close()
			}
			made = c
			return nil
		})
		select {
		case err := <-returned:
			return made, err
		case <-ctx.Done():
			if settled.CompareAndSwap(false, true) {
				return nil, ctx.Err()
			}
			err := <-returned
			return made, err
		}
	}
}

// connection is one that may be used. raw is the socket under the TLS, if any:
// closing that never waits for the peer.
type connection struct {
	net.Conn
	raw     *lively
	offered *versions // by the broker, in its first answer
}

// connect blocks until the broker has let this client in, but not after ctx has
// ended, whatever the broker and the code of the caller's (a mechanism, a
// callback of a tls.Config) do: what is late then finds its socket closed. Once
// it has returned, ctx counts for nothing. step is how far it came. With prove
// it ends with a request that only a client which was let in gets an answer to.
func (k *connector) connect(ctx context.Context, network, address string, prove bool) (c *connection, step string, err error) {
	host, port, err := splitAddress(address)
	if err != nil {
		return nil, stepConnect, err
	}
	socket, err := k.dial(ctx, network, address)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, stepConnect, err
	}
	select {
	case k.handshakes <- struct{}{}:
	case <-ctx.Done():
		socket.Close()
		return nil, stepTurn, context.Cause(ctx)
	}

	h := &handshake{connection: connection{Conn: socket, raw: newLively(socket)}}
	h.Conn = h.raw
	h.reach(stepGreet)
	metadata := &sasl.Metadata{Host: host, Port: port}
	finished := callUser(func() error {
		defer func() { <-k.handshakes }()
		return k.shake(sasl.WithMetadata(ctx, metadata), h, host, prove)
	})
	select {
	case err = <-finished:
		if err == nil && ctx.Err() == nil {
			return &h.connection, h.reached(), nil
		}
	case <-ctx.Done():
	}
	socket.Close()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, h.reached(), err
}

// handshake is under way on a connection.
type handshake struct {
	connection
	step atomic.Pointer[string]
}

func (h *handshake) reach(step string) { h.step.Store(&step) }
func (h *handshake) reached() string   { return *h.step.Load() }

func (k *connector) shake(ctx context.Context, h *handshake, host string, prove bool) error {
	if k.tls != nil {
		h.reach(stepTLS)
		config, err := k.tls.load(ctx)
		if err != nil {
			return err
		}
		if config = config.Clone(); config.ServerName == "" {
			config.ServerName = host
		}
		secure := tls.Client(h.raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		h.Conn = &hiddenConn{Conn: h.raw, read: secure.Read, write: secure.Write, close: secure.Close}
	}
	h.reach(stepGreet)
	g := &greeter{conn: h.Conn, clientID: k.clientID}
	if err := introduce(ctx, g, k.mechanism, prove, h.reach); err != nil {
		return err
	}
	h.offered = g.offered
	return nil
}

// hiddenConn is a TLS connection that nothing can print: that holds the client's
// key. What it leaves to the socket, a tls.Conn does too.
type hiddenConn struct {
	net.Conn
	read, write func([]byte) (int, error)
	close       func() error
}

func (c *hiddenConn) Read(b []byte) (int, error)  { return c.read(b) }
func (c *hiddenConn) Write(b []byte) (int, error) { return c.write(b) }
func (c *hiddenConn) Close() error                { return c.close() }

// boundSilence is for after the handshake, which the context bounds.
func (c *connection) boundSilence(silence time.Duration) { c.raw.bound(silence) }

func splitAddress(address string) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(service)
	return host, port, err
}
