package kafkax

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wire exchanges requests and answers of any kind with the brokers of a cluster,
// over kafka.Transport: kafka-go dials, pools and hands over a connection, and what
// is written and read there is kmsg's. It is the only place that knows of that.
//
// kafka-go's own routes lead through the configured addresses alone, know no topic
// id and cannot be told to look again. So a request goes to an address, and which
// one that is the wire finds out by itself.
type wire struct {
	dialer *dialer
	sent   atomic.Int32 // the last correlation id

	asking chan struct{} // has an entry while somebody asks where the nodes are

	mu       sync.Mutex
	seeds    *kafka.Transport // to any broker
	nodes    map[int32]*node  // as the cluster named them last
	failures map[int32]int    // of the connections to a node
	closed   bool
}

// node is a broker of the cluster.
type node struct {
	address string
	line    *kafka.Transport // nil until it is used
	doubted bool             // a connection failed: it may be elsewhere by now
}

// anyNode is whichever broker answers.
const anyNode int32 = -1

// lookupPatience is how long a question whose answer is small may take when there is
// a connection.
const lookupPatience = 10 * time.Second

// firstCorrelation is far from kafka-go's own ids, which count from 1: an answer to
// its requests is none to ours.
const firstCorrelation = 1 << 30

// newWire is followed by close. A request ends when the broker was silent for as
// long as the dialer lets it.
func newWire(d *dialer) *wire {
	w := &wire{dialer: d, asking: make(chan struct{}, 1), seeds: d.line(), nodes: map[int32]*node{}, failures: map[int32]int{}}
	w.sent.Store(firstCorrelation)
	return w
}

// close lets no further request in, and closes the connections as they become idle.
// Those in use are the dialer's to close.
func (w *wire) close() {
	w.mu.Lock()
	lines := []*kafka.Transport{w.seeds}
	for _, n := range w.nodes {
		lines = append(lines, n.line)
	}
	w.closed = true
	w.mu.Unlock()
	closeIdle(lines)
}

func closeIdle(lines []*kafka.Transport) {
	for _, line := range lines {
		if line != nil {
			line.CloseIdleConnections()
		}
	}
}

// question is a request that knows the type of its answer.
type question[A kmsg.Response] interface {
	kmsg.Request
	RequestWith(ctx context.Context, r kmsg.Requestor) (A, error)
}

// exchange sends a request to a node, at the newest version that both sides know,
// and returns the answer. It returns as soon as ctx ends; how long an answer may take
// to arrive is bounded by nothing else, and how long nothing of it arrives by
// request_timeout. Memory is bounded by what the request can be answered with.
//
// The error is an *exchangeError, which tells whether anything was sent; codes inside
// an answer are the caller's. The request is written to by exchange, and the caller's
// again when it has returned.
func exchange[Q question[A], A kmsg.Response](ctx context.Context, w *wire, req Q, node int32) (A, error) {
	var none A
	c := &call{wire: w, req: req, answer: req.ResponseKind()}
	fail := func(broker string, err error) (A, error) {
		if reached := c.broker.Load(); reached != nil {
			broker = *reached
		}
		return none, &exchangeError{Request: requestName(req), Broker: broker, Sent: c.abandon(), Err: err}
	}
	line, address, err := w.lineTo(ctx, node)
	if err != nil {
		return fail("broker "+strconv.Itoa(int(node)), err)
	}
	// kafka-go puts a context's deadline on its connections, where it would cut off
	// an answer that is arriving, and look like the broker's failure.
	answered, err := line.RoundTrip(withoutDeadline{ctx}, kafka.TCP(address), c)
	switch {
	case err == nil && answered != nil:
		return c.answer.(A), nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil:
		err = io.ErrUnexpectedEOF // cannot be: what is given up is ctx's doing
	default:
		w.failed(node, err)
	}
	if node == anyNode {
		return fail("any broker", err)
	}
	return fail(address, err)
}

// requestName is "Fetch", "OffsetCommit".
func requestName(req kmsg.Request) string { return kmsg.NameForKey(req.Key()) }

type withoutDeadline struct{ context.Context }

func (withoutDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }

// call is one exchange, as a message that kafka-go sends. It is not asked to encode
// or decode anything: it hands over the connection.
type call struct {
	wire   *wire
	req    kmsg.Request
	answer kmsg.Response
	broker atomic.Pointer[string] // the address that was reached; nil before

	mu        sync.Mutex // held while the request is encoded
	abandoned bool       // nobody waits any more
	sent      bool       // some of it may be on the wire

	most    int  // bytes that the answer may have
	unasked bool // no answer comes
}

var _ protocol.RawExchanger = (*call)(nil)

func (c *call) ApiKey() protocol.ApiKey { return protocol.ApiKey(c.req.Key()) }

func (c *call) Required(map[protocol.ApiKey]int16) bool { return true }

// answered is what kafka-go is told of an answer. It is in the call.
type answered struct{ protocol.Message }

// RawExchange has the connection to itself. After an error kafka-go closes that:
// nobody would know what comes next on it. It runs on a goroutine of kafka-go's,
// where a panic would end the process.
func (c *call) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	p, ok := rw.(interface{ RemoteAddr() net.Addr }).RemoteAddr().(*peer)
	if !ok {
		return nil, errors.New("the connection is not of this client's dialer")
	}
	c.broker.Store(&p.conn.broker)
	id := c.wire.sent.Add(1)
	request, err := c.encode(p.conn, id)
	if err != nil || request == nil {
		return nil, err
	}
	if _, err := rw.Write(request); err != nil {
		return nil, err
	}
	if c.unasked {
		return answered{}, nil
	}
	_, body, err := readAnswer(rw, id, c.most)
	if err != nil {
		return nil, err
	}
	if err := decodeAnswer(body, c.answer); err != nil {
		return nil, err
	}
	return answered{}, nil
}

// encode is nil without an error if nobody waits for the exchange any more: it is
// not to begin then.
func (c *call) encode(on *conn, id int32) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.abandoned {
		return nil, nil
	}
	version, ok := on.offered.highest(c.req)
	if !ok {
		return nil, fmt.Errorf("%w: no version of it is known to both sides (kafkax: up to %d)", kafka.UnsupportedVersion, c.req.MaxVersion())
	}
	c.req.SetVersion(version)
	c.answer.SetVersion(version)
	c.sent = true
	c.most = mostBytes(c.req)
	produce, ok := c.req.(*kmsg.ProduceRequest)
	c.unasked = ok && produce.Acks == 0
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID(c.wire.dialer.connector.clientID)).AppendRequest(nil, c.req, id), nil
}

// abandon makes sure that nothing is sent from now on, and says whether anything
// was. It waits for an encoding that is under way.
func (c *call) abandon() (sent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandoned = true
	return c.sent
}

const (
	// mostAnswerBytes is above any answer that says how things are: it is as much
	// as ten thousand members or partitions take.
	mostAnswerBytes = 4 << 20

	// mostBatchBytes is above any batch: a broker takes no request that is larger
	// (socket.request.max.bytes), and so no producer can have written it.
	mostBatchBytes = 100 << 20
)

// mostBytes is how large the answer to a request may be. What a kmsg struct takes
// in memory is up to a hundred times as much.
func mostBytes(req kmsg.Request) int {
	fetch, ok := req.(*kmsg.FetchRequest)
	if !ok {
		return mostAnswerBytes
	}
	asked := 0
	for _, topic := range fetch.Topics {
		for _, p := range topic.Partitions {
			asked += int(p.PartitionMaxBytes)
		}
	}
	// A broker sends a batch whole, also if it is more than was asked for.
	return mostAnswerBytes + min(asked, int(fetch.MaxBytes)) + mostBatchBytes
}

// lineTo is the transport for a node, and its address there.
func (w *wire) lineTo(ctx context.Context, id int32) (*kafka.Transport, string, error) {
	if id == anyNode {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.closed {
			return nil, "", ErrClosed
		}
		return w.seeds, anyBroker, nil
	}
	line, address, ok, err := w.known(id, false)
	if ok || err != nil {
		return line, address, err
	}
	select {
	case w.asking <- struct{}{}:
		defer func() { <-w.asking }()
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	if line, address, ok, err = w.known(id, false); ok || err != nil {
		return line, address, err // somebody else has asked
	}
	_, failed := w.metadata(ctx, nil)
	line, address, ok, err = w.known(id, true) // if nobody knows better, it may be where it was
	switch {
	case ok || err != nil:
		return line, address, err
	case failed != nil:
		return nil, "", failed
	}
	return nil, "", fmt.Errorf("%w: it is not among those that the cluster names", kafka.BrokerNotAvailable)
}

// known is lineTo by what is known by now, doubtful or not.
func (w *wire) known(id int32, doubtful bool) (line *kafka.Transport, address string, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[id]
	switch {
	case w.closed:
		return nil, "", false, ErrClosed
	case n == nil, n.doubted && !doubtful:
		return nil, "", false, nil
	case n.line == nil:
		n.line = w.dialer.line()
	}
	return n.line, n.address, true, nil
}

// failed is told of an exchange that got no answer. The broker may be gone, and
// others lead in its place: where it is, and what led to it, is asked for anew. One
// that does not let this client in is there, and what is connected to it may go on.
func (w *wire) failed(id int32, err error) {
	if _, answered := kafkaCode(err); answered || id == anyNode || w.dialer.keptOut(err) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.nodes[id]; n != nil {
		n.doubted = true
		w.failures[id]++
	}
}

// failuresOf counts the connections to a node that failed.
func (w *wire) failuresOf(id int32) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failures[id]
}

// metadata asks for topics, none of which it creates, and takes the brokers from
// the answer.
func (w *wire) metadata(ctx context.Context, topics []string) (*kmsg.MetadataResponse, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = make([]kmsg.MetadataRequestTopic, len(topics)) // nil would be all of them
	for i := range topics {
		req.Topics[i] = kmsg.NewMetadataRequestTopic()
		req.Topics[i].Topic = &topics[i]
	}
	ctx, cancel := w.lookup(ctx)
	defer cancel()
	res, err := exchange(ctx, w, req, anyNode)
	if err != nil {
		return nil, err
	}
	if res.ErrorCode != 0 {
		return nil, fmt.Errorf("metadata: %w", brokerError(res.ErrorCode))
	}
	w.took(res.Brokers)
	return res, nil
}

// lookup bounds a question whose answer is small, and that any broker can answer.
func (w *wire) lookup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, w.dialer.timeout+lookupPatience)
}

// took notes the brokers that an answer names. Of those that are gone or have moved
// the connections are closed.
func (w *wire) took(brokers []kmsg.MetadataResponseBroker) {
	if len(brokers) == 0 {
		return // a broker that knows of none, not even itself, is just starting
	}
	now := map[int32]*node{}
	var addresses []string
	for _, b := range brokers {
		if n := newNode(b.NodeID, b.Host, b.Port); n != nil {
			now[b.NodeID] = n
			addresses = append(addresses, n.address)
		}
	}
	w.mu.Lock()
	var gone []*kafka.Transport
	maps.DeleteFunc(w.failures, func(id int32, _ int) bool { return now[id] == nil })
	for id, old := range w.nodes {
		if n := now[id]; n != nil && n.address == old.address {
			n.line = old.line
		} else {
			gone = append(gone, old.line)
		}
	}
	if !w.closed {
		w.nodes = now
	}
	w.mu.Unlock()
	closeIdle(gone)
	w.dialer.brokers.learn(addresses)
}

// found notes a broker that an answer leads to, and that may not be known yet.
func (w *wire) found(id int32, host string, port int32) {
	n := newNode(id, host, port)
	w.mu.Lock()
	defer w.mu.Unlock()
	if n != nil && w.nodes[id] == nil && !w.closed {
		w.nodes[id] = n
	}
}

// newNode is nil of what is no broker.
func newNode(id int32, host string, port int32) *node {
	if id < 0 || host == "" || port <= 0 || port > math.MaxUint16 {
		return nil
	}
	return &node{address: net.JoinHostPort(host, strconv.Itoa(int(port)))}
}
