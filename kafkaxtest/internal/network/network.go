// Package network stands between the clients of a cluster and its brokers, and
// knows what it carries: each request and each answer passes one by one, may be
// looked at, and may be held, slowed, cut or lost.
package network

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Frame is one request, or one answer, on its way.
type Frame struct {
	Client  string // the client id of its request
	Node    int32  // the broker
	Conn    int    // of this client to this broker, counted from 1
	Answer  bool
	Key     kmsg.Key
	Request kmsg.Request // nil if it cannot be read

	// Response is of an answer; nil if it cannot be read.
	Response kmsg.Response

	Size int
}

// Fate is what becomes of a frame. The zero Fate lets it pass.
type Fate struct {
	// Held makes it wait, and what follows in its direction, until the channel
	// is closed. The connection's end does not end that: bytes that were sent
	// before arrive after, as they do when a network has stalled.
	Held <-chan struct{}

	// Delay comes before its first byte, and Rate is the bytes a second of the
	// rest; 0 is at once.
	Delay time.Duration
	Rate  int

	// Lost makes it, and all that follows in its direction, never arrive. The
	// connection stays.
	Lost bool

	// Cut closes the connection in place of its bytes from Pass on.
	Cut  bool
	Pass int
}

// Rule says what becomes of a frame. Rules run one at a time, and must not
// block.
type Rule func(*Frame) Fate

// Network is what the listeners of one cluster have in common.
type Network struct {
	// Latency is how long a frame is on its way, of a network in which nothing
	// is wrong; the delays of rules come on top. Nil: no time at all. It must be
	// set before the first Listen, and is called for one frame at a time.
	Latency func(*Frame) time.Duration

	// Observe sees each frame as it sets out, before any rule. It must be set
	// before the first Listen, must not block, and is called for one frame at
	// a time.
	Observe func(*Frame)

	// Exempt is the client id of whoever reaches a broker that is down. It must
	// be set before the first Listen.
	Exempt string

	// Spare is the kinds of requests that a connection outlives Close and
	// SetDown for, while it waits for the answer. It must be set before the
	// first Listen.
	Spare []kmsg.Key

	mu        sync.Mutex
	rules     []*Rule
	links     map[*link]struct{}
	count     map[peer]int
	nodes     int32
	down      map[int32]bool
	listeners []net.Listener // of Forward
	closed    bool
	life      context.Context // ended by Shut
	end       context.CancelFunc
	pumps     sync.WaitGroup
}

// New returns a network that lets all pass.
func New() *Network {
	life, end := context.WithCancel(context.Background())
	return &Network{
		links: map[*link]struct{}{}, count: map[peer]int{}, down: map[int32]bool{}, life: life, end: end,
	}
}

type peer struct {
	client string
	node   int32
}

// Add puts a rule to work, and returns what removes it. Of a frame that several
// rules are about, the longest delay, the lowest rate and each hold count.
func (n *Network) Add(r Rule) (remove func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = append(n.rules, &r)
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.rules = slices.DeleteFunc(n.rules, func(other *Rule) bool { return other == &r })
	}
}

// Dial refuses as a host does on whose port nobody listens, while a broker is
// down. The brokers' ports are one after the other.
func (n *Network) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error), firstPort int,
) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, text, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		port, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		down := n.closed || n.down[int32(port-firstPort)]
		n.mu.Unlock()
		if down {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return dial(ctx, network, address)
	}
}

// Close closes every connection that passes a test: of a client to a node.
func (n *Network) Close(match func(client string, node int32) bool) {
	for _, l := range n.open() {
		if client := l.clientID(); match(client, l.node) && !l.waitsFor(n.Spare) {
			l.close()
		}
	}
}

// SetDown makes a broker refuse connections, and closes those it has.
func (n *Network) SetDown(node int32, down bool) {
	n.mu.Lock()
	n.down[node] = down
	n.mu.Unlock()
	if down {
		n.Close(func(client string, of int32) bool { return of == node && (client == "" || client != n.Exempt) })
	}
}

// Shut closes every connection, refuses more, and waits for what carried them.
func (n *Network) Shut() {
	n.mu.Lock()
	n.end()
	n.closed = true
	listeners := n.listeners
	n.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close() // no more is accepted, whatever it says
	}
	for _, l := range n.open() {
		l.close()
	}
	n.pumps.Wait()
}

func (n *Network) open() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	links := make([]*link, 0, len(n.links))
	for l := range n.links {
		links = append(links, l)
	}
	return links
}

// fates is what the rules make of a frame, in their order, and how long it is on
// its way without them.
func (n *Network) fates(f *Frame) (fates []Fate, latency time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.Observe != nil {
		n.Observe(f)
	}
	if n.Latency != nil {
		latency = n.Latency(f)
	}
	for _, r := range n.rules {
		fates = append(fates, (*r)(f))
	}
	return fates, latency
}

// Listen is for the brokers: called once for each, in the order of their nodes.
func (n *Network) Listen(listen func(network, address string) (net.Listener, error)) func(network, address string) (net.Listener, error) {
	return func(network, address string) (net.Listener, error) {
		l, err := listen(network, address)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		node := n.nodes
		n.nodes++
		return &listener{Listener: l, network: n, node: node}, nil
	}
}

// listener hands the broker one end of a link, whose other end is the client's.
type listener struct {
	net.Listener
	network *Network
	node    int32
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		client, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		here, there := net.Pipe()
		if l.network.join(client, here, l.node) {
			return &endpoint{Conn: there, remote: client.RemoteAddr()}, nil
		}
		client.Close()
	}
}

// Forward is for a broker in another process: each connection to the listener
// is carried on to the broker's address, until the network is shut. Called once
// for each, in the order of their nodes.
func (n *Network) Forward(l net.Listener, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	node := n.nodes
	n.nodes++
	n.listeners = append(n.listeners, l)
	n.pumps.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			n.pumps.Go(func() { n.connect(client, address, node) })
		}
	})
}

// connectTimeout is for a broker on the same machine that is stopped: then
// nobody accepts, and a client gives up sooner.
const connectTimeout = 30 * time.Second

// connect closes the client's connection where the broker takes none.
func (n *Network) connect(client net.Conn, address string, node int32) {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)()
	broker, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		client.Close()
		return
	}
	if !n.join(client, broker, node) {
		client.Close()
		broker.Close()
	}
}

// join is false where the broker takes no connection.
func (n *Network) join(client, broker net.Conn, node int32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.down[node] && n.Exempt == "" {
		return false
	}
	l := &link{
		network: n, node: node, client: client, broker: broker,
		done: make(chan struct{}), asked: map[int32]*Frame{},
	}
	n.links[l] = struct{}{}
	n.pumps.Go(l.run)
	return true
}

// register gives a connection its number, when its first request has told whose
// it is; 0 if it may not be.
func (n *Network) register(client string, node int32) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down[node] && client != n.Exempt {
		return 0
	}
	n.count[peer{client, node}]++
	return n.count[peer{client, node}]
}

func (n *Network) remove(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.links, l)
}

// endpoint is what the broker holds. It shows who the client is.
type endpoint struct {
	net.Conn
	remote net.Addr
}

func (e *endpoint) RemoteAddr() net.Addr { return e.remote }
