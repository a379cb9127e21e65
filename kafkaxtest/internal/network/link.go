package network

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// link carries one connection: frames in both directions, each through a queue,
// so that nobody's write waits for what happens to it on the way.
type link struct {
	network *Network
	node    int32
	client  net.Conn
	broker  net.Conn
	done    chan struct{} // closed when the connection is, by force
	once    sync.Once

	mu    sync.Mutex
	name  string // the client id; known with the first request
	conn  int
	asked map[int32]*Frame // the requests without an answer, by correlation id
}

func (l *link) clientID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name
}

// waitsFor says whether an answer of one of these kinds is due.
func (l *link) waitsFor(kinds []kmsg.Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.asked {
		if slices.Contains(kinds, f.Key) {
			return true
		}
	}
	return false
}

// close ends the connection for both sides at once, and whatever is on its way.
func (l *link) close() {
	l.once.Do(func() { close(l.done) })
	l.client.Close()
	l.broker.Close()
}

func (l *link) run() {
	defer l.network.remove(l)
	defer l.close()
	var directions sync.WaitGroup
	directions.Go(func() { l.carry(l.client, l.broker, l.request) })
	directions.Go(func() { l.carry(l.broker, l.client, l.answer) })
	directions.Wait()
}

// carry is one direction. When its source has ended and all has arrived, it ends
// the other side too, as a peer that has read the end of a stream does.
func (l *link) carry(from, to net.Conn, identify func(data []byte) *Frame) {
	q := newQueue()
	var reading sync.WaitGroup
	reading.Go(func() {
		defer q.end()
		for {
			data, err := readFrame(from)
			if err != nil {
				return
			}
			q.put(data)
		}
	})
	defer reading.Wait()
	defer from.Close()
	defer to.Close()

	for {
		data, ok := q.take()
		if !ok {
			return
		}
		f := identify(data)
		if f.Conn == 0 {
			l.close() // the broker is down
			return
		}
		if !l.pass(f, data, to) {
			q.drain() // what follows is read, and goes nowhere
			return
		}
	}
}

// pass brings a frame to the other side. It is false when nothing may follow.
func (l *link) pass(f *Frame, data []byte, to net.Conn) bool {
	var (
		delay time.Duration
		rate  int
		cut   bool
	)
	fates, latency := l.network.fates(f)
	for _, fate := range fates {
		if fate.Held != nil {
			select {
			case <-fate.Held:
			case <-l.network.life.Done():
				return false
			}
		}
		if fate.Lost {
			return false
		}
		delay = max(delay, fate.Delay)
		if fate.Rate > 0 && (rate == 0 || fate.Rate < rate) {
			rate = fate.Rate
		}
		if fate.Cut && !cut {
			cut = true
			data = data[:min(len(data), max(fate.Pass, 0))]
		}
	}
	if !l.sleep(latency + delay) {
		return false
	}
	if !l.write(to, data, rate) || cut {
		l.close()
		return false
	}
	return true
}

// write goes in ten pieces a second at a rate, else at once.
func (l *link) write(to net.Conn, data []byte, rate int) bool {
	for len(data) > 0 {
		piece := data
		if rate > 0 {
			piece = data[:min(len(data), max(rate/10, 1))]
			if !l.sleep(time.Duration(len(piece)) * time.Second / time.Duration(rate)) {
				return false
			}
		}
		if _, err := to.Write(piece); err != nil {
			return false
		}
		data = data[len(piece):]
	}
	return true
}

func (l *link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}

// request tells what a client's bytes are.
func (l *link) request(data []byte) *Frame {
	f := &Frame{Node: l.node, Size: len(data)}
	r := kbin.Reader{Src: data[4:]}
	key, version, correlation, id := r.Int16(), r.Int16(), r.Int32(), r.NullableString()
	f.Key = kmsg.Key(key)
	if id != nil {
		f.Client = *id
	}
	if req := kmsg.RequestForKey(key); req != nil && r.Ok() && version >= 0 && version <= req.MaxVersion() {
		req.SetVersion(version)
		if req.IsFlexible() {
			kmsg.SkipTags(&r)
		}
		if req.ReadFrom(r.Src) == nil {
			f.Request = req
		}
	}
	l.mu.Lock()
	first := l.conn == 0
	l.mu.Unlock()
	conn := 0
	if first {
		conn = l.network.register(f.Client, l.node)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if first {
		l.name, l.conn = f.Client, conn
	}
	f.Conn = l.conn
	if p, ok := f.Request.(*kmsg.ProduceRequest); !ok || p.Acks != 0 {
		l.asked[correlation] = f
	}
	return f
}

// answer tells what a broker's bytes are.
func (l *link) answer(data []byte) *Frame {
	r := kbin.Reader{Src: data[4:]}
	correlation := r.Int32()
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &Frame{Client: l.name, Node: l.node, Conn: l.conn, Answer: true, Size: len(data)}
	request, ok := l.asked[correlation]
	if !ok {
		return f
	}
	delete(l.asked, correlation)
	f.Key, f.Request = request.Key, request.Request
	if f.Request == nil {
		return f
	}
	res := f.Request.ResponseKind()
	res.SetVersion(f.Request.GetVersion())
	if res.IsFlexible() && f.Key != kmsg.ApiVersions {
		kmsg.SkipTags(&r)
	}
	if res.ReadFrom(r.Src) == nil {
		f.Response = res
	}
	return f
}

var errNoFrame = errors.New("these bytes are no frame of Kafka's protocol")

// maxFrame is Kafka's own default bound of a request, socket.request.max.bytes.
const maxFrame = 100 << 20

func readFrame(from io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	size := int(int32(binary.BigEndian.Uint32(head)))
	if size < 4 || size > maxFrame {
		return nil, errNoFrame
	}
	data := make([]byte, 4+size)
	copy(data, head)
	_, err := io.ReadFull(from, data[4:])
	return data, err
}

// queue is what has set out and not arrived.
type queue struct {
	mu     sync.Mutex
	frames [][]byte
	over   bool
	more   chan struct{} // capacity 1
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

func (q *queue) put(data []byte) {
	q.mu.Lock()
	q.frames = append(q.frames, data)
	q.mu.Unlock()
	q.wake()
}

func (q *queue) end() {
	q.mu.Lock()
	q.over = true
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// drain waits for the end.
func (q *queue) drain() {
	for {
		if _, ok := q.take(); !ok {
			return
		}
	}
}

// take waits for the next frame; it is false when there will be none.
func (q *queue) take() ([]byte, bool) {
	for {
		q.mu.Lock()
		if len(q.frames) > 0 {
			data := q.frames[0]
			q.frames = q.frames[1:]
			q.mu.Unlock()
			return data, true
		}
		over := q.over
		q.mu.Unlock()
		if over {
			return nil, false
		}
		<-q.more
	}
}
