package kafkax

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kfake"
)

// slowLine is the broker's end of one: bytes come in at a rate.
type slowLine struct {
	net.Conn
	rate int // bytes a second
}

func (c *slowLine) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), max(c.rate/100, 1))])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}

// incompressible is what no codec makes smaller.
func incompressible(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(b)
	return b
}

// slowBroker is the only one of its cluster, at the end of a slow line. It
// leads partition 0 of "orders".
type slowBroker struct {
	rate   int
	pause  time.Duration // before the answer to a batch
	refuse string        // what it does with the first batch, if not this
	done   chan struct{}

	serving sync.WaitGroup

	mu    sync.Mutex
	tries [][]byte // produce requests, from their client id on, as far as they came
}

const (
	stopsReading = "stops reading in the middle"
	neverAnswers = "never answers"
)

func (s *slowBroker) serve(c net.Conn) {
	s.serving.Add(1)
	defer s.serving.Done()
	line := &slowLine{Conn: c, rate: s.rate}
	for {
		head := make([]byte, 4+8)
		if _, err := io.ReadFull(line, head); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(head)) - 8
		key, version := protocol.ApiKey(binary.BigEndian.Uint16(head[4:])), int16(binary.BigEndian.Uint16(head[6:]))
		if key == protocol.Produce {
			answer := s.produce(line, size)
			if answer == nil {
				<-s.done
				return
			}
			if protocol.WriteResponse(c, version, int32(binary.BigEndian.Uint32(head[8:])), answer) != nil {
				return
			}
			continue
		}
		version, id, _, req, err := protocol.ReadRequest(io.MultiReader(bytes.NewReader(head), line))
		if err != nil || protocol.WriteResponse(c, version, id, s.answer(req)) != nil {
			return
		}
	}
}

// stop waits for what it serves, when the client has closed its connections.
func (s *slowBroker) stop() {
	close(s.done)
	s.serving.Wait()
}

// produce takes a batch; nil if it says nothing any more.
func (s *slowBroker) produce(line io.Reader, size int) protocol.Message {
	s.mu.Lock()
	first := len(s.tries) == 0
	s.tries = append(s.tries, nil)
	s.mu.Unlock()
	if first && s.refuse == stopsReading {
		size /= 2
	}
	body := make([]byte, size)
	_, err := io.ReadFull(line, body)
	s.mu.Lock()
	s.tries[len(s.tries)-1] = body
	s.mu.Unlock()
	if err != nil || first && s.refuse != "" {
		return nil
	}
	time.Sleep(s.pause)
	return &produce.Response{Topics: []produce.ResponseTopic{{Topic: "orders", Partitions: []produce.ResponsePartition{{}}}}}
}

func (s *slowBroker) answer(req protocol.Message) protocol.Message {
	switch req.(type) {
	case *apiversions.Request:
		return &apiversions.Response{ApiKeys: []apiversions.ApiKeyResponse{
			{ApiKey: int16(protocol.Produce), MaxVersion: 7},
			{ApiKey: int16(protocol.Metadata), MaxVersion: 8},
			{ApiKey: int16(protocol.ApiVersions), MaxVersion: 2},
			{ApiKey: int16(protocol.InitProducerId), MaxVersion: 1},
		}}
	case *metadata.Request:
		return &metadata.Response{
			Brokers: []metadata.ResponseBroker{{NodeID: 1, Host: "a", Port: 1}},
			Topics: []metadata.ResponseTopic{{Name: "orders", Partitions: []metadata.ResponsePartition{
				{LeaderID: 1, ReplicaNodes: []int32{1}, IsrNodes: []int32{1}},
			}}},
		}
	case *initproducerid.Request:
		return &initproducerid.Response{ProducerID: 100}
	}
	return nil
}

// With the defaults: a batch of 1 MiB takes 17 s at 60 KB/s, and the answer to
// it may take almost write_timeout after that.
func TestP4_SlowLineDeliversLargeBatches(t *testing.T) {
	t.Parallel()
	const (
		size   = 1_000_000
		rate   = 60_000
		way    = size * time.Second / rate
		pause  = 9 * time.Second
		bound  = 10 * time.Second // write_timeout
		spare  = bound/looks + 2*time.Second
		whole  = way + pause
		failed = bound + spare
	)
	tests := []struct {
		name   string
		refuse string
		tries  int
		least  time.Duration
		most   time.Duration
	}{
		{"slow", "", 1, whole, whole + spare},
		{stopsReading, stopsReading, 2, way/2 + bound + whole, way/2 + failed + whole + spare},
		{neverAnswers, neverAnswers, 2, way + bound + whole, way + failed + whole + spare},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &slowBroker{rate: rate, pause: pause, refuse: tt.refuse, done: make(chan struct{})}
				defer b.stop()
				p, err := NewProducer(WithProducerBrokers("a:1"), WithProducerTopic("orders"), WithProducerNoEnv())
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				p.dialer.connector.dial = virtualNet{"a:1": b.serve}.dial
				began := time.Now()
				if err := p.SendMessage(t.Context(), nil, incompressible(size)); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took < tt.least || took > tt.most {
					t.Errorf("took %v, want %v to %v", took, tt.least, tt.most)
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				if len(b.tries) != tt.tries {
					t.Fatalf("%d tries, want %d", len(b.tries), tt.tries)
				}
				for _, try := range b.tries {
					if last := b.tries[tt.tries-1]; len(try) < size/2 || !bytes.HasPrefix(last, try) {
						t.Error("a retry has other bytes")
					}
				}
			})
		})
	}
}

// The system takes a whole batch at once, and the broker reads it for many times
// write_timeout.
func TestP4_SlowBrokerDeliversLargeBatches(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("what is in a socket's buffer is known only on Linux")
	}
	const size, rate = 1_000_000, 200_000
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			return slowListener{l, rate}, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	const bound = time.Second
	p, err := NewProducer(WithProducerBrokers(cluster.ListenAddrs()...), WithProducerTopic("orders"), WithProducerNoEnv(),
		WithProducerWriteTimeout(bound))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// Wherever this machine stands still for so long there is a retry, so the
	// time is not bounded from above.
	began := time.Now()
	if err := p.SendMessage(context.Background(), nil, incompressible(size)); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 3*bound {
		t.Errorf("took %v, which shows nothing", took)
	}
}

type slowListener struct {
	net.Listener
	rate int
}

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &slowLine{Conn: c, rate: l.rate}, nil
}
