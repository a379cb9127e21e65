package kafkax

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

const (
	// missingTopicPatience is how long a topic may be unknown before a send to
	// it fails. A topic just made is known to every broker within a second,
	// and what we know is at most a second old; a misspelt one will never be.
	// Java waits for a minute (max.block.ms), kafka.Writer not at all.
	missingTopicPatience = 5 * time.Second

	// routeIdle is how long a topic's connections outlive their last use: as
	// long as Java remembers a topic (metadata.max.idle.ms).
	routeIdle = 5 * time.Minute
)

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
	known atomic.Bool  // the topic was found: lookups are served from memory
	users atomic.Int64 // raised only under routes.mu
	used  atomic.Int64 // when last released, in Unix nanoseconds
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

// lookup finds a topic's partitions. kafka.Writer asks before each message, so
// a topic that is known costs little. Nothing has been sent when it fails.
func (d *delivery) lookup(ctx context.Context, addr net.Addr, req *metadata.Request) (kafka.Response, error) {
	topic := req.TopicNames[0]
	r, err := d.routes.acquire(topic)
	if err != nil {
		return nil, err
	}
	defer d.routes.release(r)

	if r.known.Load() && !req.AllowAutoTopicCreation {
		res, err := r.RoundTrip(ctx, addr, req)
		if err == nil && topicCode(res, topic) == 0 {
			return res, nil
		}
	}

	ctx, cancel := d.bound(ctx)
	defer cancel()
	var missing time.Time // since when the cluster has not had it
	for tries := 1; ; tries++ {
		res, err := d.once(ctx, r, addr, req, d.cfg.ReadTimeout)
		if err == nil {
			code := topicCode(res, topic)
			if code == 0 {
				r.known.Store(true)
				return res, nil
			}
			if missing.IsZero() {
				missing = time.Now()
			}
			err = brokerError(int16(code))
		}
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("topic %q not found out: %w", topic, ending(ctx, err))
		case !IsRetryable(err):
			return nil, fmt.Errorf("topic %q: %w", topic, err)
		case !missing.IsZero() && time.Since(missing) >= missingTopicPatience:
			return nil, fmt.Errorf("topic %q: %w (for %s now; producers do not create topics)", topic, err, missingTopicPatience)
		}
		d.log.progress("a topic was not found out, to be retried", logAttrs{slog.String("topic", topic)}.attempt(tries, 0).err(err))
		if deliveryBackoff.wait(ctx, tries) != nil {
			return nil, fmt.Errorf("topic %q not found out: %w", topic, ending(ctx, err))
		}
	}
}

func topicCode(res kafka.Response, topic string) kafka.Error {
	if res, ok := res.(*metadata.Response); ok {
		for i := range res.Topics {
			if res.Topics[i].Name == topic {
				return kafka.Error(res.Topics[i].ErrorCode)
			}
		}
	}
	return kafka.UnknownTopicOrPartition
}
