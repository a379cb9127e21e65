package kafkax

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/segmentio/kafka-go"
)

// dialer makes every connection of one Producer or Consumer, for kafka.Dialer
// and kafka.Transport alike: both are given a dial of its and no TLS or SASL of
// their own. It hands out a connection when TLS and SASL are done and the broker
// has answered, because kafka-go
//   - runs SASL without any deadline: Dialer sets none, Transport clears it
//     first, so a silent peer would hold it for ever;
//   - keeps the tls.Config it was given, so a rotated certificate would need a
//     restart;
//   - drops the broker's reasons for a refusal, or the list of mechanisms that
//     it offers instead;
//   - tries the brokers of a list one after the other, so that one which is
//     silent holds up a client that the next would answer.
type dialer struct {
	brokers   *candidates
	timeout   time.Duration // of a dial
	silence   time.Duration // of a broker, on a transport's connection
	given     configured
	connector *connector
	log       *loggers

	// ctx ends with close, and every dial with it.
	ctx  context.Context
	stop context.CancelFunc

	history *dialHistory

	mu         sync.Mutex
	conns      map[*conn]struct{}
	transports []weak.Pointer[kafka.Transport] // those in use, for renew
}

// anyBroker is the address of whichever of the brokers answers first. Nothing
// can be reached on port 0, so it cannot be another's.
const anyBroker = "any-broker:0"

// newDialer checks the security settings and the files they name, for at most
// dial_timeout, and dials nothing. longPoll is how long a broker may hold an
// answer back because it was asked to. Its error is a *ConfigError, or several
// joined.
func newDialer(cfg ConnectionConfig, longPoll time.Duration, log *loggers) (*dialer, error) {
	connector, err := newConnector(cfg, log)
	if err != nil {
		return nil, err
	}
	d := &dialer{
		brokers:   &candidates{configured: slices.Clone(cfg.Brokers)},
		timeout:   cfg.DialTimeout,
		silence:   cfg.RequestTimeout + longPoll,
		given:     newConfigured(cfg),
		connector: connector,
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
		timeout:   d.timeout,
		silence:   d.silence,
		given:     d.given,
		connector: d.connector,
		log:       d.log,
		ctx:       ctx,
		stop:      stop,
		history:   newDialHistory(),
		conns:     make(map[*conn]struct{}),
	}
}

// addr is the cluster, for kafka.Client and Transport.RoundTrip with a transport
// of this dialer. Nobody else can dial it.
func (d *dialer) addr() net.Addr { return kafka.TCP(anyBroker) }

// bootstrap is the same as a list of brokers, for kafka.ConsumerGroup with this
// kafkaDialer.
func (d *dialer) bootstrap() []string { return []string{anyBroker} }

// kafkaDialer is for kafka.ConsumerGroup and kafka.Reader, which set deadlines
// of their own.
func (d *dialer) kafkaDialer() *kafka.Dialer {
	return &kafka.Dialer{ClientID: d.connector.clientID, Timeout: d.patience(), DialFunc: d.dial}
}

// transport returns a new transport that keeps the metadata of these topics, or
// of all if there are none. Who asks for it calls CloseIdleConnections.
//
// A request on it ends when the broker was silent for request_timeout (and the
// longPoll of newDialer), so its context needs no deadline: with one, an answer
// that is still arriving is cut off.
func (d *dialer) transport(topics ...string) *kafka.Transport {
	return d.pooled(time.Second, topics)
}

// line returns a new transport for requests to one address, which keeps no
// metadata: kafka-go asks for some once, and for as good as none. As of transport,
// who asks for it calls CloseIdleConnections.
func (d *dialer) line() *kafka.Transport {
	return d.pooled(24*time.Hour, []string{}) // nil would be all of them
}

// pooled makes a transport with the metadata of topics, and notes it for renew.
func (d *dialer) pooled(metadataTTL time.Duration, topics []string) *kafka.Transport {
	t := &kafka.Transport{
		Dial:           d.dialPooled,
		DialTimeout:    d.patience(),
		MetadataTTL:    metadataTTL,
		MetadataTopics: topics,
		ClientID:       d.connector.clientID,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.transports = slices.DeleteFunc(d.transports, func(old weak.Pointer[kafka.Transport]) bool { return old.Value() == nil })
	d.transports = append(d.transports, weak.Make(t))
	return t
}

// patience is longer than dialling anyBroker takes, so that what ends a dial is
// the dial's own bound, which says why.
func (d *dialer) patience() time.Duration {
	return 2*d.timeout + time.Duration(d.brokers.most())*raceDelay
}

// renew makes every request that begins from now on go over a connection that
// was made, and so authenticated, after now. It is for a caller whose request
// was refused: the credentials of an old connection may have run out, or been
// given rights since, so that only a refusal on a fresh connection is final.
//
// What is under way on a transport is seen through, and its connection then
// closed. The connections of a kafkaDialer are closed at once, as kafka-go's
// group makes another only when the one it has fails. It waits for closeWait at
// most.
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
	cut(unpooled)
}

// cut closes connections, all at once: that of a caller's takes up to closeWait.
func cut(conns []*conn) {
	var closing sync.WaitGroup
	for _, c := range conns {
		closing.Go(func() { c.raw.Close() })
	}
	closing.Wait()
}

// connected is the number of established connections.
func (d *dialer) connected() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns)
}

// close refuses further dials, ends those under way and closes every
// connection, so that whatever kafka-go does on one returns. It waits for closeWait
// at most.
func (d *dialer) close() {
	d.stop()
	d.mu.Lock()
	conns := slices.Collect(maps.Keys(d.conns))
	clear(d.conns)
	d.mu.Unlock()
	cut(conns)
}

// ping makes a new connection to every broker at once, and a round trip on
// each. It returns nil as soon as one has answered, and not later than its
// context ends. When none has, the error holds a *ConnectError for each.
func (d *dialer) ping(ctx context.Context) error {
	if d.ctx.Err() != nil {
		return ErrClosed
	}
	quiet := d.sibling() // leaves the telling to the error
	quiet.log = newLoggers(nil, kafka.LoggerFunc(func(string, ...any) {}))
	defer context.AfterFunc(d.ctx, quiet.close)()
	defer quiet.close()

	winner, _, errs := race(ctx, d.brokers.configured, 0,
		func(ctx context.Context, broker string) (net.Conn, error) {
			return quiet.open(ctx, "tcp", broker, proof)
		},
		func(net.Conn) {}, // quiet closes it
	)
	if winner >= 0 {
		return nil
	}
	return errors.Join(errs...)
}

// reason is for an error of kafka-go. It takes a *ConnectError out of what
// kafka-go wrapped around it, and makes a refusal's code match its sentinel. It
// adds why there is no connection, if there is none: a transport whose every
// dial is refused knows no topic, and says just that ("topic not found"), or
// the caller's context ends first.
func (d *dialer) reason(err error) error {
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
	trouble := d.history.trouble()
	if d.connected() > 0 || trouble == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", trouble, err)
}

// keptOut says whether a new connection came as far as the question who this
// client is, and no farther. What was connected before may go on meanwhile.
func (d *dialer) keptOut(err error) bool {
	failure, ok := errors.AsType[*ConnectError](err)
	return ok && (failure.refused || slices.Contains([]string{stepTLS, stepHandshake, stepCredentials, stepAuthenticate, stepVerify}, failure.Step))
}

// dial is kafka.Dialer's DialFunc. Every error is a *ConnectError.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return d.openAny(ctx, network, address, direct)
}

// dialPooled is kafka.Transport's Dial.
func (d *dialer) dialPooled(ctx context.Context, network, address string) (net.Conn, error) {
	return d.openAny(ctx, network, address, pooled)
}

// usage is who a connection is for.
type usage int

const (
	direct usage = iota // kafka.Dialer
	pooled              // kafka.Transport, which closes what is idle
	proof               // ping: it ends with a request that only a client which was let in gets an answer to
)

// openAny is open, of whichever broker answers first if it may be any. When none
// does, a refusal is what is returned, if there was one.
func (d *dialer) openAny(ctx context.Context, network, address string, use usage) (net.Conn, error) {
	if address != anyBroker {
		return d.open(ctx, network, address, use)
	}
	order := d.brokers.order()
	winner, c, errs := race(ctx, order, raceDelay,
		func(ctx context.Context, broker string) (net.Conn, error) { return d.open(ctx, network, broker, use) },
		func(late net.Conn) { late.Close() },
	)
	if winner >= 0 {
		d.brokers.answered.Store(&order[winner])
		return c, nil
	}
	if i := slices.IndexFunc(errs, isRefused); i >= 0 {
		return nil, errs[i]
	}
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return nil, &ConnectError{Broker: address, Step: stepConnect, Err: ErrNoBrokers}
}

// open makes a connection within dial_timeout, and takes it into the books.
func (d *dialer) open(ctx context.Context, network, address string, use usage) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, errDialTimeout)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()

	// Without SASL, the first connection to an address must show that the
	// broker does not want it.
	prove := use == proof || !d.given.sasl && !d.history.hasServed(address)
	made, step, err := d.connector.connect(ctx, network, address, prove)
	if err == nil {
		c := &conn{connection: made, dialer: d, use: use, broker: address}
		if d.add(c) {
			if d.history.served(address) {
				d.log.progress("connected again", logAttrs{}.broker(address))
			}
			return c, nil
		}
	}
	switch {
	case d.ctx.Err() != nil:
		return nil, &ConnectError{Broker: address, Step: step, Err: ErrClosed}
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, &ConnectError{Broker: address, Step: step, Err: ctx.Err()}
	}
	failure := d.given.diagnose(address, step, err)
	if d.history.failed(failure) {
		d.log.fail("no connection", logAttrs{}.broker(address).err(failure))
	}
	return nil, failure
}

// add is false after close, and then the connection is closed.
func (d *dialer) add(c *conn) bool {
	if c.use != direct {
		c.boundSilence(d.silence)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		c.raw.Close()
		return false
	}
	d.conns[c] = struct{}{}
	return true
}

// conn is one established connection.
type conn struct {
	*connection
	dialer *dialer
	use    usage
	broker string // its address
}

// RemoteAddr is all of a connection that kafka-go lets through to an exchange: it
// leads back to it.
func (c *conn) RemoteAddr() net.Addr { return &peer{Addr: c.connection.RemoteAddr(), conn: c} }

// peer is the address of a connection's other end, and the connection.
type peer struct {
	net.Addr
	conn *conn
}

func (c *conn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	return c.connection.Close()
}
