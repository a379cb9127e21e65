package kafkax

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
	"weak"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/sasl"
)

// dialer makes every connection of one Producer or Consumer, for kafka.Dialer
// and kafka.Transport alike: both are given dial and no TLS or SASL of their
// own. dial hands out a connection when TLS and SASL are done and the broker
// has answered, because kafka-go
//   - runs SASL without any deadline: Dialer sets none, Transport clears it
//     first, so a silent peer would hold it for ever;
//   - keeps the tls.Config it was given, so a rotated certificate would need a
//     restart;
//   - drops the broker's reasons for a refusal, or the list of mechanisms that
//     it offers instead.
type dialer struct {
	brokers   []string
	clientID  string
	timeout   time.Duration
	tls       *material[*tls.Config]    // nil: plaintext
	mechanism *material[sasl.Mechanism] // nil: no SASL
	log       *loggers

	// ctx ends with close, and every dial with it.
	ctx  context.Context
	stop context.CancelFunc

	mu         sync.Mutex
	conns      map[*conn]struct{}
	transports []weak.Pointer[kafka.Transport] // those in use, for renew
	served     map[string]bool                 // addresses that a connection was made to
	failures   map[string]*ConnectError        // addresses whose last dial failed
	trouble    *ConnectError                   // of the dials since one succeeded; a refusal before all else
}

// newDialer checks the security settings and the files they name, for at most
// dial_timeout, and dials nothing. Its error is a *ConfigError, or several
// joined.
func newDialer(cfg ConnectionConfig, log *loggers) (*dialer, error) {
	config, mechanism, err := newMaterials(cfg, log)
	if err != nil {
		return nil, err
	}
	d := &dialer{
		brokers:   slices.Clone(cfg.Brokers),
		clientID:  cfg.ClientID,
		timeout:   cfg.DialTimeout,
		tls:       config,
		mechanism: mechanism,
		log:       log,
	}
	return d.sibling(), nil
}

// sibling returns a dialer for other connections, with a close of its own and
// the same certificates and credentials: it goes on with the last good ones
// where newDialer would find half a rotation. It works after close too.
func (d *dialer) sibling() *dialer {
	ctx, stop := context.WithCancel(context.Background())
	return &dialer{
		brokers:   d.brokers,
		clientID:  d.clientID,
		timeout:   d.timeout,
		tls:       d.tls,
		mechanism: d.mechanism,
		log:       d.log,
		ctx:       ctx,
		stop:      stop,
		conns:     make(map[*conn]struct{}),
		served:    make(map[string]bool),
		failures:  make(map[string]*ConnectError),
	}
}

// addr is the cluster, for kafka.Client, kafka.Writer and Transport.RoundTrip.
func (d *dialer) addr() net.Addr { return kafka.TCP(d.brokers...) }

// kafkaDialer is for kafka.ConsumerGroup and kafka.Reader.
func (d *dialer) kafkaDialer() *kafka.Dialer {
	return &kafka.Dialer{ClientID: d.clientID, Timeout: d.timeout, DialFunc: d.dial}
}

// transport returns a new transport that keeps the metadata of these topics, or
// of all if there are none. Who asks for it calls CloseIdleConnections.
func (d *dialer) transport(topics ...string) *kafka.Transport {
	t := &kafka.Transport{
		Dial: d.dialPooled,
		// A transport tries the brokers one after the other within one
		// DialTimeout, so one that is silent would use up the time of all.
		// dial bounds each of them.
		DialTimeout:    d.timeout * time.Duration(max(1, len(d.brokers))),
		MetadataTTL:    time.Second,
		MetadataTopics: topics,
		ClientID:       d.clientID,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.transports = slices.DeleteFunc(d.transports, func(old weak.Pointer[kafka.Transport]) bool { return old.Value() == nil })
	d.transports = append(d.transports, weak.Make(t))
	return t
}

// renew makes every request that begins from now on go over a connection that
// was made, and so authenticated, after now. It is for a caller whose request
// was refused: the credentials of an old connection may have run out, or been
// given rights since, so that only a refusal on a fresh connection is final.
//
// What is under way on a transport is seen through, and its connection then
// closed. The connections of a kafkaDialer are closed at once, as kafka-go's
// group makes another only when the one it has fails. It does not block.
func (d *dialer) renew() {
	d.mu.Lock()
	transports := slices.Clone(d.transports)
	var unpooled []*conn
	for c := range d.conns {
		if c.use == direct {
			unpooled = append(unpooled, c)
		}
	}
	d.mu.Unlock()
	for _, t := range transports {
		if t := t.Value(); t != nil {
			t.CloseIdleConnections() // The next request finds an empty pool.
		}
	}
	for _, c := range unpooled {
		c.raw.Close()
	}
}

// connected is the number of established connections.
func (d *dialer) connected() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns)
}

// close refuses further dials, ends those under way and closes every
// connection, so that whatever kafka-go does on one returns. It does not block.
func (d *dialer) close() {
	d.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.raw.Close()
	}
	clear(d.conns)
}

// ping makes a new connection to every broker at once, and a round trip on
// each. It returns nil as soon as one has answered. When none does, the error
// holds a *ConnectError for each.
func (d *dialer) ping(ctx context.Context) error {
	if d.ctx.Err() != nil {
		return ErrClosed
	}
	quiet := d.sibling() // leaves the telling to the error
	quiet.log = newLoggers(nil, kafka.LoggerFunc(func(string, ...any) {}))
	defer context.AfterFunc(d.ctx, quiet.close)()
	defer quiet.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	errs := make([]error, len(d.brokers))
	var wg sync.WaitGroup
	for i, broker := range d.brokers {
		wg.Go(func() {
			c, err := quiet.open(ctx, "tcp", broker, proof)
			if err != nil {
				errs[i] = err
				return
			}
			c.Close()
			cancel()
		})
	}
	wg.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(errs...)
}

// explain is for an error of kafka-go. It takes a *ConnectError out of what
// kafka-go wrapped around it, and makes a refusal's code match its sentinel. It
// adds why there is no connection, if there is none: a transport whose every
// dial is refused knows no topic, and says just that ("topic not found"), or
// the caller's context ends first.
func (d *dialer) explain(err error) error {
	var known *ConnectError
	switch {
	case errors.As(err, &known):
		return known
	case err == nil, errors.Is(err, context.Canceled):
		return err
	}
	if isRefused(err) {
		return withSentinel(err)
	}
	if d.ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", ErrClosed, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.conns) > 0 || d.trouble == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", d.trouble, err)
}

// dial is kafka.Dialer's DialFunc. Every error is a *ConnectError.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return d.open(ctx, network, address, direct)
}

// dialPooled is kafka.Transport's Dial.
func (d *dialer) dialPooled(ctx context.Context, network, address string) (net.Conn, error) {
	return d.open(ctx, network, address, pooled)
}

// usage is who a connection is for.
type usage int

const (
	direct usage = iota // kafka.Dialer
	pooled              // kafka.Transport, which closes what is idle
	proof               // ping: it ends with a request that only a client which was let in gets an answer to
)

func (d *dialer) open(ctx context.Context, network, address string, use usage) (net.Conn, error) {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()

	for retried := false; ; retried = true {
		c, step, err := d.connect(ctx, network, address, use)
		switch {
		case err == nil && d.add(c, address):
			return c, nil
		case d.ctx.Err() != nil:
			return nil, &ConnectError{Broker: address, Step: step, Err: ErrClosed}
		case errors.Is(ctx.Err(), context.Canceled):
			return nil, &ConnectError{Broker: address, Step: step, Err: ctx.Err()}
		case step == stepAuthenticate && isHangup(err) && !retried:
			// Some brokers refuse credentials by closing the connection, and
			// a broker that goes down closes it too. Only the first does it
			// again to a new connection.
			continue
		}
		if deadline, ok := caller.Deadline(); ok && !time.Now().Before(deadline) && !errors.Is(err, context.DeadlineExceeded) {
			// A socket's timeout does not match the context's error by itself.
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		return nil, d.failed(address, step, err)
	}
}

// connect does what it takes to have a connection that may be used: TCP, TLS,
// and the requests of introduce. ctx bounds all of it, and nothing after. step
// is how far it came.
func (d *dialer) connect(ctx context.Context, network, address string, use usage) (c *conn, step string, err error) {
	raw, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, stepConnect, err
	}
	defer func() {
		if err != nil {
			raw.Close()
		}
	}()

	// The context's end, by its deadline too, ends the read or write it finds.
	// Nothing else does: SASL knows no deadline.
	release := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer release()

	host, port, err := splitAddress(address)
	if err != nil {
		return nil, stepConnect, err
	}
	c = &conn{Conn: raw, raw: raw, dialer: d, use: use}
	if d.tls != nil {
		config, err := d.tls.load(ctx)
		if err != nil {
			return nil, stepTLS, err
		}
		if config = config.Clone(); config.ServerName == "" {
			config.ServerName = host
		}
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, stepTLS, err
		}
		c.Conn = secure
	}

	pc := protocol.NewConn(&greeting{Conn: c.Conn}, d.clientID)
	// Without SASL, the first connection to an address must show that the
	// broker does not want it.
	prove := use == proof || d.mechanism == nil && !d.hasServed(address)
	step, err = introduce(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: port}), pc, d.mechanism, prove)
	if err != nil {
		return nil, step, err
	}
	if !release() {
		return nil, step, ctx.Err()
	}
	return c, step, nil
}

// add takes a connection into the books. It is false after close, and then the
// connection is closed.
func (d *dialer) add(c *conn, address string) bool {
	d.mu.Lock()
	if d.ctx.Err() != nil {
		d.mu.Unlock()
		c.raw.Close()
		return false
	}
	last := d.failures[address]
	delete(d.failures, address)
	d.trouble = nil
	d.conns[c] = struct{}{}
	d.served[address] = true
	d.mu.Unlock()
	if last != nil {
		d.log.progress("connected again", logAttrs{}.broker(address))
	}
	return true
}

// failed logs a failure when it is another than the last time: dials are
// repeated for ever, and a transport keeps to itself those that refresh its
// metadata.
func (d *dialer) failed(address, step string, err error) *ConnectError {
	failure := newConnectError(address, step, err)
	d.mu.Lock()
	last := d.failures[address]
	d.failures[address] = failure
	if d.trouble == nil || failure.refused || !d.trouble.refused {
		d.trouble = failure
	}
	d.mu.Unlock()
	if last == nil || last.Step != failure.Step || last.Hint != failure.Hint {
		d.log.fail("no connection", logAttrs{}.broker(address).err(failure))
	}
	return failure
}

func (d *dialer) hasServed(address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.served[address]
}

// conn is one established connection. raw is the socket under the TLS, if any:
// closing that never waits for the peer.
type conn struct {
	net.Conn
	raw    net.Conn
	dialer *dialer
	use    usage
}

func (c *conn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}

func splitAddress(address string) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(service)
	return host, port, err
}
