package kafkax

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// renewInterval is how often at most a topic's connections are made anew. One
// younger than that is as good as a fresh one, and a topic that is forbidden for
// good costs no login for each send.
const renewInterval = time.Second

// transport is what delivery needs of *kafka.Transport, whose connections have to
// end a request when the broker is silent; tests script it.
type transport interface {
	kafka.RoundTripper
	CloseIdleConnections()
}

// routes holds a transport for each topic. kafka.Transport refreshes either the
// topics it was made for or those of the whole cluster, and a list that grows
// would mean new connections, and a pause, for all topics at each new one.
type routes struct {
	byTopic *lately[string, *route] // "" knows every topic

	mu     sync.RWMutex
	closed bool
	calls  sync.WaitGroup // raised only under mu, while not closed
}

type route struct {
	transport
	known   atomic.Bool  // the topic was found: lookups are served from memory
	renewed atomic.Int64 // when its connections were last made anew, in Unix nanoseconds
}

func newRoutes(connect func(topics ...string) transport) *routes {
	return &routes{byTopic: &lately[string, *route]{
		create: func(topic string) *route {
			if topic == "" {
				return &route{transport: connect()}
			}
			return &route{transport: connect(topic)}
		},
		drop: func(r *route) { r.CloseIdleConnections() },
	}}
}

// acquire is followed by release. Its only error is ErrClosed.
func (rs *routes) acquire(topic string) (*inUse[*route], error) {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if rs.closed {
		return nil, ErrClosed
	}
	rs.calls.Add(1)
	return rs.byTopic.acquire(topic), nil
}

func (rs *routes) release(u *inUse[*route]) {
	u.release()
	rs.calls.Done()
}

// shut lets no further call in.
func (rs *routes) shut() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.closed = true
}

// drain waits for the calls under way and releases the connections; before
// that it would be in vain, as a kafka.Transport that is used again starts anew.
func (rs *routes) drain() {
	rs.calls.Wait()
	rs.byTopic.clear()
}

// renew has the next request go over a connection that was made, and so
// authenticated, just before. What is under way is seen through. A refusal is
// final only on such a connection.
func (r *route) renew() {
	now, last := time.Now().UnixNano(), r.renewed.Load()
	if now-last >= int64(renewInterval) && r.renewed.CompareAndSwap(last, now) {
		r.known.Store(false) // A look-up has to wait again, and is to be bounded.
		r.CloseIdleConnections()
	}
}
