package kafkax

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireBroker is a broker that a test scripts, request by request. To what it has no
// script for it answers as a broker of a cluster does.
type wireBroker struct {
	takes   map[kmsg.Key]int16 // the newest version of each request; ApiVersions and Metadata if nil
	cluster []kmsg.MetadataResponseBroker
	// script answers, or does not, and is false of what it has no say in.
	script func(c net.Conn, req kmsg.Request, id int32) (handled bool)

	mu    sync.Mutex
	asked []kmsg.Request
	conns int
}

func (b *wireBroker) serve(c net.Conn) {
	b.mu.Lock()
	b.conns++
	b.mu.Unlock()
	for {
		req, id, err := readRequest(c)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.asked = append(b.asked, req)
		b.mu.Unlock()
		if b.script != nil && b.script(c, req, id) {
			continue
		}
		res := req.ResponseKind()
		switch res := res.(type) {
		case *kmsg.ApiVersionsResponse:
			for key, newest := range b.takes {
				res.ApiKeys = append(res.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key.Int16(), MaxVersion: newest})
			}
		case *kmsg.MetadataResponse:
			res.Brokers = b.cluster
		default:
		}
		if _, err := c.Write(answerTo(id, res)); err != nil {
			return
		}
	}
}

// count is how often it was asked so.
func (b *wireBroker) count(key kmsg.Key) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, req := range b.asked {
		if req.Key() == key.Int16() {
			n++
		}
	}
	return n
}

func readRequest(r io.Reader) (req kmsg.Request, id int32, err error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, 0, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, 0, err
	}
	key, version := int16(binary.BigEndian.Uint16(body)), int16(binary.BigEndian.Uint16(body[2:]))
	id = int32(binary.BigEndian.Uint32(body[4:]))
	client := int16(binary.BigEndian.Uint16(body[8:]))
	req = kmsg.RequestForKey(key)
	req.SetVersion(version)
	body = body[10+max(client, 0):]
	if req.IsFlexible() {
		body = body[1:] // no tags
	}
	return req, id, req.ReadFrom(body)
}

// answerTo is an answer as a broker writes it.
func answerTo(id int32, res kmsg.Response) []byte {
	var body []byte
	if res.IsFlexible() && kmsg.Key(res.Key()) != kmsg.ApiVersions {
		body = append(body, 0)
	}
	return framed(uint32(id), res.AppendTo(body)...)
}

// usual is what most tests' brokers take.
func usual() map[kmsg.Key]int16 {
	return map[kmsg.Key]int16{kmsg.ApiVersions: 2, kmsg.Metadata: 12, kmsg.FindCoordinator: 4, kmsg.Heartbeat: 4, kmsg.Fetch: 16}
}

func namedBroker(id int32, host string) kmsg.MetadataResponseBroker {
	return kmsg.MetadataResponseBroker{NodeID: id, Host: host, Port: 1}
}

// newTestWire is of a dialer on a virtual network, whose first broker is configured.
func newTestWire(t *testing.T, silence time.Duration, network virtualNet, configured ...string) *cluster {
	t.Helper()
	d := newVirtualDialer(t, ConnectionConfig{Brokers: configured, DialTimeout: 10 * time.Second, RequestTimeout: silence}, network)
	c := newCluster(d)
	t.Cleanup(c.close) // before the dialer's
	return c
}

func heartbeat() *kmsg.HeartbeatRequest {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group = "g"
	return req
}

// Whatever a broker answers, an exchange ends with an error that says so, its
// connection is not used again, and the next exchange is as if nothing had been.
func TestD13_BadAnswersEndTheExchange(t *testing.T) {
	t.Parallel()
	const silence = 30 * time.Second
	hugeCount := binary.BigEndian.AppendUint32(nil, math.MaxInt32)
	whole := func(id int32) []byte {
		res := kmsg.NewPtrHeartbeatResponse()
		res.Version = 4
		return answerTo(id, res)
	}
	type fault struct {
		name   string
		answer func(id int32) []byte // nil: none
		hangUp bool
		is     func(error) bool
		says   string
		within time.Duration
	}
	malformed := func(err error) bool { return errors.Is(err, errMalformed) }
	cut := func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }
	for _, tt := range []fault{
		{name: "cut inside the size", answer: func(id int32) []byte { return whole(id)[:2] }, hangUp: true, is: cut},
		{name: "cut behind the id", answer: func(id int32) []byte { return whole(id)[:8] }, hangUp: true, is: cut},
		{name: "cut inside", answer: func(id int32) []byte { return whole(id)[:11] }, hangUp: true, is: cut},
		{name: "hung up", hangUp: true, is: func(err error) bool { return errors.Is(err, io.EOF) }},
		{name: "half, then silence", answer: func(id int32) []byte { return whole(id)[:11] }, is: is[*silenceError], within: 2 * silence},
		{name: "silence", is: is[*silenceError], within: 2 * silence},
		{name: "negative size", answer: func(int32) []byte { return slices.Repeat([]byte{0xff}, 100) }, is: malformed, says: "4294967295 bytes"},
		{name: "size below the id", answer: func(int32) []byte { return make([]byte, 100) }, is: malformed, says: "0 bytes"},
		{name: "larger than any", answer: func(int32) []byte { return append(slices.Clone(hugeCount), make([]byte, 100)...) }, is: malformed, says: "2147483647 bytes"},
		{name: "another's answer", answer: func(id int32) []byte { return whole(id + 1) }, is: malformed, says: "it is for request"},
		{name: "kafka-go's answer", answer: func(int32) []byte { return whole(1) }, is: malformed, says: "it is for request 1,"},
		{name: "without tags", answer: func(id int32) []byte { return framed(uint32(id)) }, is: malformed, says: "tags"},
		{name: "tags without end", answer: func(id int32) []byte { return framed(uint32(id), 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0) }, is: malformed, says: "tags"},
		{name: "tag longer than all", answer: func(id int32) []byte {
			return framed(uint32(id), 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0)
		}, is: malformed, says: "tags"},
		{name: "number of tags without end", answer: func(id int32) []byte { return framed(uint32(id), slices.Repeat([]byte{0xff}, 20)...) }, is: malformed, says: "tags"},
		{name: "shorter than its fields", answer: func(id int32) []byte { return framed(uint32(id), 0, 0, 0) }, is: malformed},
		{name: "HTTP", answer: func(int32) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, is: malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &wireBroker{takes: usual(), cluster: []kmsg.MetadataResponseBroker{namedBroker(7, "a")}}
				bad, closed := true, make(chan struct{})
				b.script = func(c net.Conn, req kmsg.Request, id int32) bool {
					if _, ok := req.(*kmsg.HeartbeatRequest); !ok || !bad {
						return false
					}
					bad = false
					if tt.answer != nil {
						go func() { _, _ = c.Write(tt.answer(id)) }() // a pipe takes what is read
					}
					if tt.hangUp {
						synctest.Wait() // until it was taken
						c.Close()
					}
					_, _ = io.Copy(io.Discard, c)
					close(closed)
					return true
				}
				w := newTestWire(t, silence, virtualNet{"a:1": b.serve}, "a:1")
				began := time.Now()
				_, err := exchange(testContext(t), w.wire, heartbeat(), 7)
				failure, ok := errors.AsType[*exchangeError](err)
				switch {
				case !ok || !tt.is(err) || !strings.Contains(err.Error(), tt.says):
					t.Fatalf("got %v", err)
				case !failure.Sent || failure.Broker != "a:1" || failure.Request != "Heartbeat":
					t.Errorf("got %+v", failure)
				case time.Since(began) > tt.within:
					t.Errorf("it took %v", time.Since(began))
				case isRefused(err):
					t.Errorf("%v is a refusal", err)
				}
				<-closed
				if _, err := exchange(testContext(t), w.wire, heartbeat(), 7); err != nil {
					t.Errorf("the next exchange: %v", err)
				}
			})
		})
	}
}

// What an answer says that it holds is not believed, and no more memory is taken
// for it than it has bytes, times the size of the smallest thing that it lists.
func TestD15_BadAnswersTakeLittleMemory(t *testing.T) { //nolint:paralleltest // counts allocations
	count := binary.AppendUvarint(nil, math.MaxUint32)
	for _, tt := range []struct {
		name   string
		answer func(id int32) []byte
	}{
		{"size", func(id int32) []byte {
			head := binary.BigEndian.AppendUint32(nil, mostAnswerBytes)
			return binary.BigEndian.AppendUint32(head, uint32(id))
		}},
		{"count of coordinators", func(id int32) []byte { return framed(uint32(id), slices.Concat([]byte{0, 0, 0, 0, 0}, count)...) }},
		{"count just below the bytes", func(id int32) []byte {
			return framed(uint32(id), slices.Concat([]byte{0, 0, 0, 0, 0}, binary.AppendUvarint(nil, 1000), make([]byte, 1000))...)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { //nolint:paralleltest // as above
			b := &wireBroker{takes: usual()}
			b.script = func(c net.Conn, req kmsg.Request, id int32) bool {
				if _, ok := req.(*kmsg.FindCoordinatorRequest); ok {
					_, _ = c.Write(tt.answer(id))
					c.Close()
					return true
				}
				return false
			}
			d := newTestDialer(t, ConnectionConfig{Brokers: []string{listen(t, b.serve)}, RequestTimeout: time.Minute}, nil)
			w := newCluster(d)
			defer w.close()
			if _, err := exchange(testContext(t), w.wire, kmsg.NewPtrApiVersionsRequest(), anyNode); err != nil {
				t.Fatal(err) // what a connection takes is taken now
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := w.coordinatorOf(testContext(t), coordinated{coordinatesGroup, "g"})
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("no error")
			}
			if taken := after.TotalAlloc - before.TotalAlloc; taken > 4<<20 {
				t.Errorf("took %d bytes of memory", taken)
			}
		})
	}
}

// A broker whose answer drips is alive, and is waited for however long it takes.
func TestD13_AnswersThatDripAreWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const silence, pieces = 10 * time.Second, 50
		b := &wireBroker{takes: usual(), cluster: []kmsg.MetadataResponseBroker{namedBroker(7, "a")}}
		b.script = func(c net.Conn, req kmsg.Request, id int32) bool {
			find, ok := req.(*kmsg.FindCoordinatorRequest)
			if !ok {
				return false
			}
			res := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
			res.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{Key: find.CoordinatorKeys[0], NodeID: 7, Host: strings.Repeat("x", 10000), Port: 1}}
			dribble(c, answerTo(id, res), pieces, silence/2)
			return true
		}
		w := newTestWire(t, silence, virtualNet{"a:1": b.serve}, "a:1")
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKeys = []string{"g"}
		began := time.Now()
		res, err := exchange(context.Background(), w.wire, req, 7)
		if err != nil || res.Coordinators[0].NodeID != 7 {
			t.Fatalf("got %v after %v", err, time.Since(began))
		}
		if took := time.Since(began); took < 10*silence {
			t.Errorf("took %v, which shows nothing", took)
		}
	})
}

// A large answer comes whole, and takes no more memory than a few times its size.
func TestWire_LargeAnswersComeWhole(t *testing.T) {
	t.Parallel()
	records := slices.Repeat([]byte("0123456789"), 1<<20)
	b := &wireBroker{takes: usual()}
	b.script = func(c net.Conn, req kmsg.Request, id int32) bool {
		if _, ok := req.(*kmsg.FetchRequest); !ok {
			return false
		}
		res := req.ResponseKind().(*kmsg.FetchResponse)
		res.Topics = []kmsg.FetchResponseTopic{{Partitions: []kmsg.FetchResponseTopicPartition{{RecordBatches: records}}}}
		_, _ = c.Write(answerTo(id, res))
		return true
	}
	d := newTestDialer(t, ConnectionConfig{Brokers: []string{listen(t, b.serve)}, RequestTimeout: time.Minute}, nil)
	w := newCluster(d)
	defer w.close()
	res, err := exchange(testContext(t), w.wire, kmsg.NewPtrFetchRequest(), anyNode)
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Topics[0].Partitions[0].RecordBatches; !slices.Equal(got, records) {
		t.Errorf("%d bytes came, want %d", len(got), len(records))
	}
}

// Of each request the newest version that both sides know is spoken, and with a
// broker that was exchanged for another what that one knows.
func TestWire_VersionsAreThoseOfTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &wireBroker{takes: usual(), cluster: []kmsg.MetadataResponseBroker{namedBroker(7, "a")}}
		w := newTestWire(t, time.Minute, virtualNet{"a:1": b.serve}, "a:1")
		for _, tt := range []struct {
			newest int16
			want   int16 // -1: none
		}{{1, 1}, {3, 3}, {99, 4}, {-1, -1}, {2, 2}} {
			b.mu.Lock()
			if b.takes[kmsg.Heartbeat] = tt.newest; tt.newest < 0 {
				delete(b.takes, kmsg.Heartbeat)
			}
			b.asked = nil
			b.mu.Unlock()
			w.dialer.renew() // the broker is upgraded: its connections end
			_, err := exchange(testContext(t), w.wire, heartbeat(), 7)
			if tt.want < 0 {
				if failure, ok := errors.AsType[*exchangeError](err); !ok || failure.Sent || !errors.Is(err, kafka.UnsupportedVersion) || b.count(kmsg.Heartbeat) > 0 {
					t.Errorf("a request that the broker does not know: %v, sent %d times", err, b.count(kmsg.Heartbeat))
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			b.mu.Lock()
			last := b.asked[len(b.asked)-1]
			b.mu.Unlock()
			if last.Key() != kmsg.Heartbeat.Int16() || last.GetVersion() != tt.want {
				t.Errorf("%T of version %d was sent to a broker that takes up to %d", last, last.GetVersion(), tt.newest)
			}
		}
	})
}

// A context that ends is heeded at once, and the error tells whether the broker may
// have been told already. What was not told to it then never will be.
func TestWire_ContextsEndTheExchangeAtOnce(t *testing.T) {
	t.Parallel()
	for _, sent := range []bool{true, false} {
		t.Run(fmt.Sprintf("sent %v", sent), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const patience = 3 * time.Second
				b := &wireBroker{takes: usual(), cluster: []kmsg.MetadataResponseBroker{namedBroker(7, "a")}}
				greet, silent := make(chan struct{}), atomic.Bool{}
				b.script = func(_ net.Conn, req kmsg.Request, _ int32) bool {
					switch req.(type) {
					case *kmsg.HeartbeatRequest:
						return true // no answer
					case *kmsg.ApiVersionsRequest:
						if silent.Load() {
							<-greet
						}
					}
					return false
				}
				w := newTestWire(t, time.Minute, virtualNet{"a:1": b.serve}, "a:1")
				if _, err := w.metadata(testContext(t), nil); err != nil {
					t.Fatal(err)
				}
				silent.Store(!sent)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				began := time.Now()
				_, err := exchange(ctx, w.wire, heartbeat(), 7)
				if failure, ok := errors.AsType[*exchangeError](err); !ok || !errors.Is(err, context.DeadlineExceeded) || failure.Sent != sent {
					t.Errorf("got %+v, want sent %v", err, sent)
				}
				if took := time.Since(began); took != patience {
					t.Errorf("took %v", took)
				}
				close(greet)
				time.Sleep(time.Second)
				if n := b.count(kmsg.Heartbeat); n > 0 != sent {
					t.Errorf("the broker was asked %d times", n)
				}
			})
		})
	}
}

// What panics in a decoder is an error of the exchange: it runs on a goroutine of
// kafka-go's, where it would end the process.
func TestD13_ADecoderThatPanicsEndsTheExchange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &wireBroker{takes: usual()}
		w := newTestWire(t, time.Minute, virtualNet{"a:1": b.serve}, "a:1")
		_, err := exchange(testContext(t), w.wire, panics{heartbeat()}, anyNode)
		if !errors.Is(err, errMalformed) || !strings.Contains(err.Error(), "panic") {
			t.Errorf("got %v", err)
		}
		if is[*PanicError](err) {
			t.Errorf("%v looks like a panic of the caller's code", err)
		}
	})
}

type panics struct{ *kmsg.HeartbeatRequest }

func (p panics) ResponseKind() kmsg.Response {
	return panicking{p.HeartbeatRequest.ResponseKind().(*kmsg.HeartbeatResponse)}
}

func (panics) RequestWith(context.Context, kmsg.Requestor) (panicking, error) {
	return panicking{}, nil
}

type panicking struct{ *kmsg.HeartbeatResponse }

func (panicking) ReadFrom([]byte) error { panic("index out of range") }

// Once it is known which brokers there are, the death of all that are configured
// keeps nobody from the others.
func TestD13_TheDeathOfEveryConfiguredBrokerIsSurvived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		both := []kmsg.MetadataResponseBroker{namedBroker(1, "a"), namedBroker(2, "b")}
		a, b := &wireBroker{takes: usual(), cluster: both}, &wireBroker{takes: usual(), cluster: both}
		alive, die := context.WithCancel(t.Context())
		network := virtualNet{"a:1": func(c net.Conn) {
			if alive.Err() == nil {
				defer context.AfterFunc(alive, func() { c.Close() })()
				a.serve(c)
			}
		}, "b:1": b.serve}
		w := newTestWire(t, time.Minute, network, "a:1")
		if _, err := exchange(testContext(t), w.wire, heartbeat(), 1); err != nil {
			t.Fatal(err)
		}
		die()
		synctest.Wait()
		for range 3 { // a connection may have to show first that it is dead
			_, _ = exchange(testContext(t), w.wire, kmsg.NewPtrApiVersionsRequest(), anyNode)
		}
		b.mu.Lock()
		b.cluster = both[1:]
		b.mu.Unlock()
		for _, node := range []int32{anyNode, 2} {
			if _, err := exchange(testContext(t), w.wire, heartbeat(), node); err != nil {
				t.Errorf("node %d: %v", node, err)
			}
		}
		if _, err := exchange(testContext(t), w.wire, heartbeat(), 1); !IsRetryable(err) {
			t.Errorf("node 1, which is dead: %v", err)
		}
		if _, err := exchange(testContext(t), w.wire, heartbeat(), 1); !errors.Is(err, kafka.BrokerNotAvailable) {
			t.Errorf("node 1, which the cluster no longer names: %v", err)
		}
	})
}

// A broker that has moved is found again, and the connections to where it was are
// closed.
func TestWire_ABrokerThatMovedIsFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seed := &wireBroker{takes: usual(), cluster: []kmsg.MetadataResponseBroker{namedBroker(1, "old")}}
		moved := &wireBroker{takes: usual()}
		w := newTestWire(t, time.Minute, virtualNet{"seed:1": seed.serve, "new:1": moved.serve}, "seed:1")
		if _, err := exchange(testContext(t), w.wire, heartbeat(), 1); !isNetworkError(err) {
			t.Fatalf("got %v, and nobody listens there", err)
		}
		seed.mu.Lock()
		seed.cluster = []kmsg.MetadataResponseBroker{namedBroker(1, "new"), namedBroker(-1, "x"), namedBroker(2, "")}
		seed.mu.Unlock()
		if _, err := exchange(testContext(t), w.wire, heartbeat(), 1); err != nil {
			t.Error(err)
		}
		if got := len(w.nodes); got != 1 {
			t.Errorf("%d nodes, and one was named that can be one", got)
		}
	})
}

// After close nothing is sent.
func TestD4_AClosedWireSendsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &wireBroker{takes: usual(), cluster: []kmsg.MetadataResponseBroker{namedBroker(1, "a")}}
		w := newTestWire(t, time.Minute, virtualNet{"a:1": b.serve}, "a:1")
		if _, err := exchange(testContext(t), w.wire, heartbeat(), 1); err != nil {
			t.Fatal(err)
		}
		w.close()
		for _, node := range []int32{anyNode, 1, 2} {
			if _, err := exchange(testContext(t), w.wire, heartbeat(), node); !errors.Is(err, ErrClosed) {
				t.Errorf("node %d: %v", node, err)
			}
		}
		synctest.Wait()
		if n := w.dialer.connected(); n > 0 {
			t.Errorf("%d connections are left", n)
		}
		if n := b.count(kmsg.Heartbeat); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// While an exchange is under way it has its connection to itself, and others take
// others: none waits for a long poll.
func TestWire_ExchangesRunBesideEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const polls, wait = 5, 10 * time.Second
		b := &wireBroker{takes: usual(), cluster: []kmsg.MetadataResponseBroker{namedBroker(1, "a")}}
		b.script = func(_ net.Conn, req kmsg.Request, _ int32) bool {
			if _, ok := req.(*kmsg.FetchRequest); ok {
				time.Sleep(wait)
			}
			return false
		}
		w := newTestWire(t, time.Minute, virtualNet{"a:1": b.serve}, "a:1")
		began := time.Now()
		var group sync.WaitGroup
		for range polls {
			group.Go(func() {
				if _, err := exchange(testContext(t), w.wire, kmsg.NewPtrFetchRequest(), 1); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(wait / 2)
		if _, err := exchange(testContext(t), w.wire, heartbeat(), 1); err != nil || time.Since(began) > wait/2 {
			t.Errorf("a heartbeat took %v: %v", time.Since(began)-wait/2, err)
		}
		if group.Wait(); time.Since(began) != wait {
			t.Errorf("%d long polls of %v took %v", polls, wait, time.Since(began))
		}
	})
}
