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

// routeIdle is how long a topic's connections outlive their last use: as long
// as Java remembers a topic (metadata.max.idle.ms).
const routeIdle = 5 * time.Minute

// transport is what delivery needs of *kafka.Transport; tests script it.
type transport interface {
	kafka.RoundTripper
	CloseIdleConnections()
}

// routes holds a transport for each topic. kafka.Transport refreshes either the
// topics it was made for or those of the whole cluster, and a list that grows
// would mean new connections, and a pause, for all topics at each new one.
type routes struct {
	connect func(topics ...string) transport

	mu      sync.RWMutex
	closed  bool
	byTopic map[string]*route // "" knows every topic
	calls   sync.WaitGroup    // raised only under mu, while not closed
}

type route struct {
	transport
	known   atomic.Bool  // the topic was found: lookups are served from memory
	users   atomic.Int64 // raised only under routes.mu
	used    atomic.Int64 // when last released, in Unix nanoseconds
	renewed atomic.Int64 // when its connections were last made anew, likewise
}

// renew has the next request go over a connection that was made, and so
// authenticated, just before. What is under way is seen through. A refusal is
// final only on such a connection.
func (r *route) renew() {
	now, last := time.Now().UnixNano(), r.renewed.Load()
	if now-last >= int64(renewInterval) && r.renewed.CompareAndSwap(last, now) {
		r.CloseIdleConnections()
	}
}

// acquire is followed by release. Its only error is ErrClosed.
func (rs *routes) acquire(topic string) (*route, error) {
	rs.mu.RLock()
	r, err := rs.use(topic)
	rs.mu.RUnlock()
	if r != nil || err != nil {
		return r, err
	}

	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byTopic[topic] == nil && !rs.closed {
		rs.dropIdle()
		r = &route{}
		if topic == "" {
			r.transport = rs.connect()
		} else {
			r.transport = rs.connect(topic)
		}
		rs.byTopic[topic] = r
	}
	return rs.use(topic)
}

// use needs mu, for reading at least. Both results are nil if there is no
// route yet.
func (rs *routes) use(topic string) (*route, error) {
	if rs.closed {
		return nil, ErrClosed
	}
	r := rs.byTopic[topic]
	if r != nil {
		rs.calls.Add(1)
		r.users.Add(1)
	}
	return r, nil
}

func (rs *routes) release(r *route) {
	r.used.Store(time.Now().UnixNano())
	r.users.Add(-1)
	rs.calls.Done()
}

// dropIdle bounds what topics cost that nobody writes to any more. It needs mu.
func (rs *routes) dropIdle() {
	limit := time.Now().Add(-routeIdle).UnixNano()
	for topic, r := range rs.byTopic {
		if r.users.Load() == 0 && r.used.Load() < limit {
			r.CloseIdleConnections()
			delete(rs.byTopic, topic)
		}
	}
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
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for topic, r := range rs.byTopic {
		r.CloseIdleConnections()
		delete(rs.byTopic, topic)
	}
}
