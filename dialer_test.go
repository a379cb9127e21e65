package kafkax

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/twmb/franz-go/pkg/kfake"
)

// dialPaths are the ways by which a connection comes about; whatever is
// promised of one holds for each.
var dialPaths = []struct {
	name string
	try  func(context.Context, *dialer) error
}{
	{"dialer", func(ctx context.Context, d *dialer) error {
		c, err := d.kafkaDialer().DialContext(ctx, "tcp", d.brokers.configured[0])
		if err != nil {
			return err
		}
		defer c.Close()
		deadline, _ := ctx.Deadline()
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
		_, err = c.Brokers()
		return err
	}},
	{"group", func(ctx context.Context, d *dialer) error {
		c, err := d.kafkaDialer().DialContext(ctx, "tcp", d.bootstrap()[0])
		if err == nil {
			err = c.Close()
		}
		return err
	}},
	{"transport", func(ctx context.Context, d *dialer) error {
		t := d.transport()
		defer t.CloseIdleConnections()
		_, err := (&kafka.Client{Addr: d.addr(), Transport: t}).Metadata(ctx, &kafka.MetadataRequest{})
		return d.reason(err)
	}},
	{"fetch", func(ctx context.Context, d *dialer) error {
		t := d.transport("orders")
		defer t.CloseIdleConnections()
		_, err := t.RoundTrip(ctx, d.addr(), &fetch.Request{
			ReplicaID: -1, MinBytes: 1, MaxBytes: 1 << 20, MaxWaitTime: 1,
			Topics: []fetch.RequestTopic{{
				Topic: "orders", Partitions: []fetch.RequestPartition{{PartitionMaxBytes: 1 << 20}},
			}},
		})
		if errors.Is(err, protocol.ErrNoPartition) && d.reason(err) == err { //nolint:errorlint // nothing was added
			return nil // the cluster has answered, if only that it has no such topic
		}
		return d.reason(err)
	}},
	{"ping", func(ctx context.Context, d *dialer) error { return d.ping(ctx) }},
}

// eachPath runs want on the outcome of each way to connect with cfg.
func eachPath(t *testing.T, cfg ConnectionConfig, want func(*testing.T, error)) {
	t.Helper()
	for _, path := range dialPaths {
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			d := newTestDialer(t, cfg, nil)
			want(t, path.try(testContext(t), d))
		})
	}
}

func newTestDialer(t *testing.T, cfg ConnectionConfig, log *loggers) *dialer {
	t.Helper()
	if log == nil {
		log = newLoggers(nil, kafka.LoggerFunc(t.Logf))
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = time.Minute
	}
	d, err := newDialer(cfg, 0, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.close()
		// kafka-go's goroutines may fail, and log it, a moment after the test.
		log.set(nil, kafka.LoggerFunc(func(string, ...any) {}))
	})
	return d
}

// testContext bounds a test that hangs. What is tested must end long before.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// listen serves each connection on a free port until the test ends.
func listen(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// nobody is an address where nothing listens, and nothing can until the test
// ends: the one that a connection goes out from.
func nobody(t *testing.T) (address string) {
	t.Helper()
	out, err := net.Dial("tcp", listen(t, silent))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return out.LocalAddr().String()
}

// silent reads until the client gives up and never says a word.
func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// A script answers a request; nil is silence, errHangup closes the connection.
type script func(protocol.Message) (protocol.Message, error)

var errHangup = errors.New("hang up")

// kafkaPeer is a broker that follows a script.
func kafkaPeer(t *testing.T, s script) (address string) {
	t.Helper()
	return listen(t, follow(s))
}

// kafkaPeerOf has a script for each connection, counted from 1.
func kafkaPeerOf(t *testing.T, scripts func(n int32) script) (address string) {
	t.Helper()
	var accepted atomic.Int32
	return listen(t, func(c net.Conn) { follow(scripts(accepted.Add(1)))(c) })
}

// follow serves a connection by a script. It answers ApiVersions and Metadata by
// itself if that has no answer.
func follow(s script) func(net.Conn) {
	return func(c net.Conn) {
		for {
			version, id, _, req, err := protocol.ReadRequest(c)
			if err != nil {
				return
			}
			res, err := s(req)
			if err != nil {
				return
			}
			if res == nil {
				res = welcome(req)
			}
			if res == nil {
				continue // silence
			}
			if err := protocol.WriteResponse(c, version, id, res); err != nil {
				return
			}
		}
	}
}

// welcome is the answer of a broker to whom anybody may come; nil if it has none.
func welcome(req protocol.Message) protocol.Message {
	switch req.(type) {
	case *apiversions.Request:
		return &apiversions.Response{ApiKeys: []apiversions.ApiKeyResponse{
			{ApiKey: int16(protocol.Metadata), MaxVersion: 8},
			{ApiKey: int16(protocol.ApiVersions), MaxVersion: 2},
			{ApiKey: int16(protocol.SaslHandshake), MaxVersion: 1},
			{ApiKey: int16(protocol.SaslAuthenticate), MaxVersion: 1},
		}}
	case *metadata.Request:
		return &metadata.Response{}
	}
	return nil
}

// willing is a script without an answer of its own.
func willing(protocol.Message) (protocol.Message, error) { return nil, nil }

// virtualNet is a network inside a synctest bubble: who listens, by address.
// Nothing listens where there is no entry, and packets to a nil one get lost.
type virtualNet map[string]func(net.Conn)

func (v virtualNet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	serve, ok := v[address]
	switch {
	case !ok:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case serve == nil:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	client, server := net.Pipe()
	go func() { // ends with either end
		defer server.Close()
		serve(server)
	}()
	return client, nil
}

// newVirtualDialer is newTestDialer on a virtual network.
func newVirtualDialer(t *testing.T, cfg ConnectionConfig, v virtualNet) *dialer {
	t.Helper()
	d := newTestDialer(t, cfg, nil)
	d.connector.dial = v.dial
	return d
}

func fakeCluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "orders")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// logBuffer collects what is logged as an error.
type logBuffer struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBuffer) loggers() *loggers {
	return newLoggers(nil, kafka.LoggerFunc(func(format string, args ...any) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, fmt.Sprintf(format, args...))
	}))
}

func (l *logBuffer) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

func plainUser(password string) SASLConfig {
	return SASLConfig{Mechanism: SASLPlain, Username: "alice", Password: NewSecret(password)}
}

func TestD13_HandshakeWithSilentPeerEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		serve func(net.Conn)
		cfg   ConnectionConfig
		step  string
	}{
		{name: "packets get lost", step: stepConnect},
		{name: "silent from the start", serve: silent, step: stepGreet},
		{name: "silent in TLS", serve: silent, cfg: ConnectionConfig{TLS: TLSConfig{Enabled: true}}, step: stepTLS},
		{name: "silent before SASL", serve: silent, cfg: ConnectionConfig{SASL: plainUser("right")}, step: stepGreet},
		{name: "silent at the SASL handshake", serve: follow(willing), cfg: ConnectionConfig{SASL: plainUser("right")}, step: stepHandshake},
		{
			name: "silent at the authentication",
			serve: follow(func(req protocol.Message) (protocol.Message, error) {
				if _, ok := req.(*saslhandshake.Request); ok {
					return &saslhandshake.Response{}, nil
				}
				return nil, nil
			}),
			cfg:  ConnectionConfig{SASL: plainUser("right")},
			step: stepAuthenticate,
		},
		{
			name: "one byte and then silence",
			serve: func(c net.Conn) {
				go func() { _, _ = c.Write([]byte{0}) }()
				silent(c)
			},
			step: stepGreet,
		},
	}
	for _, tt := range tests {
		for _, path := range dialPaths {
			t.Run(tt.name+"/"+path.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					cfg := tt.cfg
					cfg.Brokers, cfg.DialTimeout = []string{"broker:1"}, 10*time.Second
					d := newVirtualDialer(t, cfg, virtualNet{"broker:1": tt.serve})
					began := time.Now()
					err := path.try(testContext(t), d)
					if took := time.Since(began); took != cfg.DialTimeout {
						t.Errorf("took %v with a dial_timeout of %v", took, cfg.DialTimeout)
					}
					wantSilence(t, err, "broker:1", tt.step)
				})
			})
		}
	}
}

func wantSilence(t *testing.T, err error, broker, step string) {
	t.Helper()
	var connect *ConnectError
	if !errors.As(err, &connect) {
		t.Fatalf("got %v, want a ConnectError", err)
	}
	if connect.Step != step || connect.Broker != broker {
		t.Errorf("got step %q of %s, want %q of %s", connect.Step, connect.Broker, step, broker)
	}
	if !strings.Contains(connect.Hint, "no answer within dial_timeout") {
		t.Errorf("does not say what has passed: %v", err)
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("not a timeout: %v", err)
	}
	if isRefused(err) || !IsRetryable(err) {
		t.Errorf("refused %v, retryable %v, for a silent peer: %v", isRefused(err), IsRetryable(err), err)
	}
}

// Whichever of the brokers a client comes to first, and whether it takes the
// connection and says nothing or does not even take it: the next is tried soon.
func TestD13_SilentBrokerDoesNotUseUpTheTimeOfTheOthers(t *testing.T) {
	t.Parallel()
	for _, path := range dialPaths[1:] { // The first is of one broker alone.
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := newVirtualDialer(t, ConnectionConfig{
					Brokers:     []string{"silent:1", "lost:1", "refuses:1", "good:1"},
					DialTimeout: 10 * time.Second,
				}, virtualNet{"silent:1": silent, "lost:1": nil, "good:1": follow(answering("good", 1))})
				for n := range 10 { // They are taken in random order.
					began := time.Now()
					if err := path.try(testContext(t), d); err != nil {
						t.Fatal(err)
					}
					took := time.Since(began)
					if took > 2*raceDelay {
						t.Errorf("try %d took %v", n, took)
					}
					if n > 0 && took > 0 {
						t.Errorf("try %d took %v, although it is known who answers", n, took)
					}
				}
			})
		})
	}
}

// answering is a script of a cluster of one broker, with a topic that has no
// partitions.
func answering(host string, port int32) script {
	return func(req protocol.Message) (protocol.Message, error) {
		if _, ok := req.(*metadata.Request); ok {
			return &metadata.Response{
				Brokers: []metadata.ResponseBroker{{NodeID: 1, Host: host, Port: port}},
				Topics:  []metadata.ResponseTopic{{Name: "orders"}},
			}, nil
		}
		return nil, nil
	}
}

// What is remembered is a guess: the broker that answered last may be the next
// to fall silent.
func TestD13_TheBrokerThatAnsweredLastMayFallSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := virtualNet{"a:1": follow(willing), "b:1": silent}
		d := newVirtualDialer(t, ConnectionConfig{Brokers: []string{"a:1", "b:1"}, DialTimeout: 10 * time.Second}, net)
		reach := func(s *dialer, want string) (took time.Duration) {
			t.Helper()
			began := time.Now()
			c, err := s.dial(testContext(t), "tcp", anyBroker)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if got := *d.brokers.answered.Load(); got != want {
				t.Errorf("reached %s, want %s", got, want)
			}
			return time.Since(began)
		}
		reach(d, "a:1")
		net["a:1"], net["b:1"] = nil, follow(willing)
		if took := reach(d, "b:1"); took != raceDelay {
			t.Errorf("took %v, want %v", took, raceDelay)
		}
		sibling := d.sibling() // of the next join
		defer sibling.close()
		if took := reach(sibling, "b:1"); took != 0 {
			t.Errorf("took %v, although a sibling knows who answers", took)
		}
	})
}

// When nobody answers, a refusal says more than silence.
func TestD13_OfSeveralFailuresARefusalIsTold(t *testing.T) {
	t.Parallel()
	refuse := follow(func(req protocol.Message) (protocol.Message, error) {
		if _, ok := req.(*saslhandshake.Request); ok {
			return &saslhandshake.Response{ErrorCode: int16(kafka.UnsupportedSASLMechanism)}, nil
		}
		return nil, nil
	})
	synctest.Test(t, func(t *testing.T) {
		d := newVirtualDialer(t, ConnectionConfig{
			Brokers: []string{"silent:1", "refuses:1", "lost:1"}, DialTimeout: 10 * time.Second, SASL: plainUser("right"),
		}, virtualNet{"silent:1": silent, "refuses:1": refuse, "lost:1": nil})
		for range 10 { // They are taken in random order.
			began := time.Now()
			_, err := d.dial(testContext(t), "tcp", anyBroker)
			var connect *ConnectError
			if !errors.As(err, &connect) || connect.Broker != "refuses:1" || !errors.Is(err, ErrAuthentication) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took > d.timeout+2*raceDelay {
				t.Errorf("took %v", took)
			}
		}
	})
}

func TestD13_CallerDeadlineAndCancellationEndADial(t *testing.T) {
	t.Parallel()
	accepted := make(chan struct{}, 2)
	d := newTestDialer(t, ConnectionConfig{Brokers: []string{listen(t, func(c net.Conn) {
		accepted <- struct{}{}
		silent(c)
	})}}, nil)

	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-accepted; cancel() }()
	if _, err := d.dial(ctx, "tcp", d.brokers.configured[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := d.dial(ctx, "tcp", d.brokers.configured[0]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: got %v", err)
	}
}

func TestD13_CloseEndsDialsUnderWay(t *testing.T) {
	t.Parallel()
	for _, path := range dialPaths {
		t.Run(path.name, func(t *testing.T) {
			t.Parallel()
			accepted := make(chan struct{}, 1)
			address := listen(t, func(c net.Conn) {
				select {
				case accepted <- struct{}{}:
				default:
				}
				silent(c)
			})
			d := newTestDialer(t, ConnectionConfig{Brokers: []string{address}, DialTimeout: time.Hour}, nil)
			done := make(chan error, 1)
			go func() { done <- path.try(testContext(t), d) }()
			<-accepted
			d.close()
			err := <-done
			if !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		})
	}
}

func TestD13_CloseEndsWhatWaitsOnAConnection(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			t.Parallel()
			var cfg ConnectionConfig
			var opts []kfake.Opt
			if secure {
				ca := newTestCA(t)
				opts = append(opts, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, forBroker)}}))
				cfg.TLS = TLSConfig{Enabled: true, CAFile: ca.file(t)}
			}
			cfg.Brokers = fakeCluster(t, opts...).ListenAddrs()
			d := newTestDialer(t, cfg, nil)

			c, err := d.dial(t.Context(), "tcp", d.brokers.configured[0])
			if err != nil {
				t.Fatal(err)
			}
			if n := d.connected(); n != 1 {
				t.Errorf("connected() = %d with one connection", n)
			}
			read := make(chan error, 1)
			go func() {
				_, err := c.Read(make([]byte, 1))
				read <- err
			}()
			d.close()
			d.close()
			if err := <-read; err == nil {
				t.Error("the read succeeded")
			}
			if n := d.connected(); n != 0 {
				t.Errorf("connected() = %d after close", n)
			}
			if _, err := d.dial(t.Context(), "tcp", d.brokers.configured[0]); !errors.Is(err, ErrClosed) {
				t.Errorf("dial after close: %v", err)
			}
			c.Close()
		})
	}
}

func TestDialer_NoDeadlineAfterTheHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newVirtualDialer(t, ConnectionConfig{Brokers: []string{"a:1"}, DialTimeout: 10 * time.Second}, virtualNet{
			"a:1": follow(func(req protocol.Message) (protocol.Message, error) {
				if m, ok := req.(*metadata.Request); ok && m.TopicNames == nil {
					time.Sleep(time.Hour)
				}
				return nil, nil
			}),
		})
		c, err := d.dial(t.Context(), "tcp", "a:1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := protocol.NewConn(c, "test").RoundTrip(&metadata.Request{}); err != nil {
			t.Errorf("ended with the dial's deadline: %v", err)
		}
	})
}

// findPeer answers findcoordinator requests with the number of the connection
// they came over. A request for a key in holds waits until that is closed.
func findPeer(t *testing.T, began chan<- string, holds map[string]chan struct{}) (address string) {
	t.Helper()
	return kafkaPeerOf(t, func(n int32) script {
		return func(req protocol.Message) (protocol.Message, error) {
			r, ok := req.(*findcoordinator.Request)
			if !ok {
				return nil, nil
			}
			if hold := holds[r.Key]; hold != nil {
				began <- r.Key
				<-hold
			}
			return &findcoordinator.Response{NodeID: n}, nil
		}
	})
}

func find(ctx context.Context, d *dialer, t *kafka.Transport, key string) (connection int32, err error) {
	res, err := t.RoundTrip(ctx, d.addr(), &findcoordinator.Request{Key: key})
	if err != nil {
		return 0, err
	}
	return res.(*findcoordinator.Response).NodeID, nil
}

func TestDialer_RenewedRequestsGoOverFreshConnections(t *testing.T) {
	t.Parallel()
	hold, began := make(chan struct{}), make(chan string, 1)
	d := newTestDialer(t, ConnectionConfig{Brokers: []string{findPeer(t, began, map[string]chan struct{}{"slow": hold})}}, nil)
	tr, other := d.transport(), d.transport()
	defer tr.CloseIdleConnections()
	defer other.CloseIdleConnections()
	ctx := testContext(t)
	release := sync.OnceFunc(func() { close(hold) })
	defer release()

	slow := make(chan error, 1)
	go func() { _, err := find(ctx, d, tr, "slow"); slow <- err }()
	<-began
	var newest int32
	for _, tr := range []*kafka.Transport{tr, other, tr, other} {
		n, err := find(ctx, d, tr, "quick")
		if err != nil {
			t.Fatal(err)
		}
		newest = max(newest, n)
	}
	for range 3 {
		d.renew()
		before := newest
		for _, tr := range []*kafka.Transport{tr, other} {
			n, err := find(ctx, d, tr, "quick")
			if err != nil || n <= before {
				t.Fatalf("over connection %d, %v; want one after %d", n, err, before)
			}
			newest = max(newest, n)
		}
	}
	release()
	if err := <-slow; err != nil {
		t.Errorf("what was under way: %v", err)
	}
}

func TestDialer_RenewEndsTheConnectionsOfAGroup(t *testing.T) {
	t.Parallel()
	d := newTestDialer(t, ConnectionConfig{Brokers: fakeCluster(t).ListenAddrs()}, nil)
	c, err := d.dial(t.Context(), "tcp", d.brokers.configured[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d.renew()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the old connection: %v", err)
	}
	if c, err = d.dial(t.Context(), "tcp", d.brokers.configured[0]); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestDialer_SiblingGoesOnWithTheLastGoodMaterial(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t)
	caFile := ca.file(t)
	cluster := fakeCluster(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, forBroker)}}))
	var log logBuffer
	d := newTestDialer(t, ConnectionConfig{
		Brokers: cluster.ListenAddrs(),
		TLS:     TLSConfig{Enabled: true, CAFile: caFile},
	}, log.loggers())
	writeTestFile(t, caFile, []byte("half a certif"))

	d.close()
	s := d.sibling()
	defer s.close()
	if err := s.ping(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := d.ping(testContext(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("the closed one: got %v", err)
	}
	s.close()
	if err := s.ping(testContext(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("the closed sibling: got %v", err)
	}
}

func TestDialer_CountsConnections(t *testing.T) {
	t.Parallel()
	d := newTestDialer(t, ConnectionConfig{Brokers: fakeCluster(t).ListenAddrs()}, nil)
	var open []net.Conn
	for i := range 3 {
		c, err := d.dial(t.Context(), "tcp", d.brokers.configured[0])
		if err != nil {
			t.Fatal(err)
		}
		if open = append(open, c); d.connected() != i+1 {
			t.Errorf("connected() = %d, want %d", d.connected(), i+1)
		}
	}
	for _, c := range open {
		c.Close()
		c.Close()
	}
	if n := d.connected(); n != 0 {
		t.Errorf("connected() = %d after all were closed", n)
	}
}

// A client that lives for years meets any number of brokers, as their addresses
// change with each of their restarts.
func TestDialer_RemembersABoundedNumberOfAddresses(t *testing.T) {
	t.Parallel()
	h := newDialHistory()
	for i := range 3 * maxAddresses {
		if !h.failed(&ConnectError{Broker: fmt.Sprint("bad-", i), Step: stepConnect}) {
			t.Errorf("the failure of address %d is not told", i)
		}
		h.served(fmt.Sprint("good-", i))
	}
	if len(h.failures) > maxAddresses || len(h.good) > maxAddresses {
		t.Errorf("%d failures and %d good addresses are remembered", len(h.failures), len(h.good))
	}
	last := fmt.Sprint("bad-", 3*maxAddresses-1)
	if h.failed(&ConnectError{Broker: last, Step: stepConnect}) || !h.served(last) || !h.hasServed(last) {
		t.Error("the last address is forgotten")
	}
}

func TestDialer_LogsAFailureWhenItChanges(t *testing.T) {
	t.Parallel()
	var log logBuffer
	var mu sync.Mutex
	var code kafka.Error
	address := kafkaPeer(t, func(req protocol.Message) (protocol.Message, error) {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := req.(*apiversions.Request); ok && code != 0 {
			return &apiversions.Response{ErrorCode: int16(code)}, nil
		}
		if _, ok := req.(*saslhandshake.Request); ok {
			return &saslhandshake.Response{ErrorCode: int16(kafka.UnsupportedSASLMechanism)}, nil
		}
		return nil, nil
	})
	d := newTestDialer(t, ConnectionConfig{Brokers: []string{address}, SASL: plainUser("right")}, log.loggers())
	for _, c := range []kafka.Error{0, 0, kafka.UnsupportedVersion, kafka.UnsupportedVersion, 0} {
		mu.Lock()
		code = c
		mu.Unlock()
		if _, err := d.dial(t.Context(), "tcp", address); err == nil {
			t.Fatal("no error")
		}
	}
	lines := log.all()
	if len(lines) != 3 {
		t.Fatalf("got %d lines, want one for each change: %q", len(lines), lines)
	}
	for _, line := range lines {
		if !strings.Contains(line, address) {
			t.Errorf("does not name the broker: %s", line)
		}
	}
}

func TestP8_PingFailsOnceTheClusterIsGone(t *testing.T) {
	t.Parallel()
	cluster := fakeCluster(t, kfake.NumBrokers(2))
	d := newTestDialer(t, ConnectionConfig{Brokers: cluster.ListenAddrs()}, nil)
	tr := d.transport()
	defer tr.CloseIdleConnections()
	client := &kafka.Client{Addr: d.addr(), Transport: tr}

	if _, err := client.Metadata(testContext(t), &kafka.MetadataRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := d.ping(testContext(t)); err != nil {
		t.Fatal(err)
	}
	cluster.Close()
	err := d.ping(testContext(t))
	if err == nil {
		t.Fatal("no error from a cluster that is gone")
	}
	for _, broker := range d.brokers.configured {
		if !strings.Contains(err.Error(), "broker "+broker+": connect: ") {
			t.Errorf("does not say what is wrong with %s: %v", broker, err)
		}
	}
	if isRefused(err) || !IsRetryable(err) {
		t.Errorf("refused %v, retryable %v: %v", isRefused(err), IsRetryable(err), err)
	}
}

func TestP8_PingNamesEachBrokersFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		brokers := []string{"nobody:1", "silent:1", "hangs-up:1", "http:1"}
		d := newVirtualDialer(t, ConnectionConfig{Brokers: brokers, DialTimeout: 10 * time.Second}, virtualNet{
			"silent:1":   silent,
			"hangs-up:1": func(c net.Conn) { _, _, _, _, _ = protocol.ReadRequest(c) },
			"http:1": func(c net.Conn) {
				_, _, _, _, _ = protocol.ReadRequest(c)
				_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"+strings.Repeat("x", 4096))
			},
		})
		err := d.ping(testContext(t))
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != len(brokers) {
			t.Fatalf("got %v, want %d errors joined", err, len(brokers))
		}
		hints := []string{"nothing listens", "no answer", "hung up", "not a Kafka port"}
		for i, err := range joined.Unwrap() {
			var connect *ConnectError
			if !errors.As(err, &connect) || connect.Broker != brokers[i] || !strings.Contains(connect.Hint, hints[i]) {
				t.Errorf("got %v, want broker %s: %s", err, brokers[i], hints[i])
			}
		}
	})
}

func TestP8_PingIsContentWithOneBroker(t *testing.T) {
	t.Parallel()
	// The dial_timeout of an hour shows that it does not wait for the silent one.
	d := newTestDialer(t, ConnectionConfig{
		Brokers:     []string{listen(t, silent), fakeCluster(t).ListenAddrs()[0]},
		DialTimeout: time.Hour,
	}, nil)
	if err := d.ping(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func TestP8_PingIsBoundedByItsContext(t *testing.T) {
	t.Parallel()
	d := newTestDialer(t, ConnectionConfig{Brokers: []string{listen(t, silent)}, DialTimeout: time.Hour}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the context's error", err)
	}
}

func TestP8_PingReleasesItsConnections(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 10)
	requests := make(chan protocol.Message, 10)
	address := kafkaPeer(t, func(req protocol.Message) (protocol.Message, error) {
		requests <- req
		return nil, nil
	})
	// A relay sees the client close its side.
	relay := listen(t, func(c net.Conn) {
		upstream, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		defer upstream.Close()
		go func() { _, _ = io.Copy(c, upstream) }()
		_, _ = io.Copy(upstream, c)
		closed <- struct{}{}
	})
	d := newTestDialer(t, ConnectionConfig{Brokers: []string{relay}}, nil)
	for range 3 {
		if err := d.ping(testContext(t)); err != nil {
			t.Fatal(err)
		}
		<-closed
		<-requests // ApiVersions
		if m, ok := (<-requests).(*metadata.Request); !ok || m.TopicNames == nil || len(m.TopicNames) != 0 {
			t.Fatalf("want a round trip that asks for no topic, got %+v", m)
		}
	}
	if n := d.connected(); n != 0 {
		t.Errorf("connected() = %d", n)
	}
}

// A broker that goes down between two requests is no refusal, however far the
// connection had come.
func TestDialer_HangupIsNotARefusal(t *testing.T) {
	t.Parallel()
	at := func(step string) script {
		return func(req protocol.Message) (protocol.Message, error) {
			var this string
			switch req.(type) {
			case *apiversions.Request:
				this = stepGreet
			case *saslhandshake.Request:
				this = stepHandshake
			case *metadata.Request:
				this = stepProve
			}
			if this == step {
				return nil, errHangup
			}
			if this == stepHandshake {
				return &saslhandshake.Response{}, nil
			}
			return nil, nil
		}
	}
	for _, tt := range []struct {
		step string
		sasl SASLConfig
	}{
		{step: stepGreet},
		{step: stepProve},
		{step: stepHandshake, sasl: plainUser("right")},
	} {
		t.Run(tt.step, func(t *testing.T) {
			t.Parallel()
			cfg := ConnectionConfig{Brokers: []string{kafkaPeer(t, at(tt.step))}, SASL: tt.sasl}
			eachPath(t, cfg, func(t *testing.T, err error) {
				var connect *ConnectError
				if !errors.As(err, &connect) || connect.Step != tt.step || isRefused(err) || !IsRetryable(err) {
					t.Errorf("got %v (refused %v, retryable %v)", err, isRefused(err), IsRetryable(err))
				}
			})
		})
	}
}

// However often a broker hangs up inside SASL, it has not said no.
func TestD13_HangupDuringAuthenticationIsNotARefusal(t *testing.T) {
	t.Parallel()
	const hangups = 5
	var mu sync.Mutex
	left := hangups
	address := kafkaPeer(t, func(req protocol.Message) (protocol.Message, error) {
		mu.Lock()
		defer mu.Unlock()
		switch req.(type) {
		case *saslhandshake.Request:
			return &saslhandshake.Response{}, nil
		case *saslauthenticate.Request:
			if left--; left >= 0 {
				return nil, errHangup
			}
			return &saslauthenticate.Response{}, nil
		}
		return nil, nil
	})
	d := newTestDialer(t, ConnectionConfig{Brokers: []string{address}, SASL: plainUser("right")}, nil)
	for n := 1; n <= hangups; n++ {
		_, err := d.dial(t.Context(), "tcp", address)
		var connect *ConnectError
		if !errors.As(err, &connect) || connect.Step != stepAuthenticate || isRefused(err) || !IsRetryable(err) {
			t.Errorf("hang-up %d: got %v (refused %v, retryable %v)", n, err, isRefused(err), IsRetryable(err))
		}
	}
	c, err := d.dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestDialer_ExplainLeavesOtherErrorsAlone(t *testing.T) {
	t.Parallel()
	cluster := fakeCluster(t)
	d := newTestDialer(t, ConnectionConfig{Brokers: cluster.ListenAddrs()}, nil)
	if err := d.reason(nil); err != nil {
		t.Errorf("reason(nil) = %v", err)
	}
	if err := d.reason(io.EOF); err != io.EOF { //nolint:errorlint // it must be the very same
		t.Errorf("nothing failed, got %v", err)
	}

	c, err := d.dial(t.Context(), "tcp", d.brokers.configured[0])
	if err != nil {
		t.Fatal(err)
	}
	cluster.Close()
	if _, err := d.dial(t.Context(), "tcp", d.brokers.configured[0]); err == nil {
		t.Fatal("no error")
	}
	if err := d.reason(io.EOF); err != io.EOF { //nolint:errorlint // it must be the very same
		t.Errorf("connected, got %v", err)
	}
	c.Close()
	var connect *ConnectError
	if err := d.reason(io.EOF); !errors.As(err, &connect) || !errors.Is(err, io.EOF) {
		t.Errorf("not connected, got %v", err)
	}
	denied := d.reason(fmt.Errorf("orders[0]: %w", kafka.TopicAuthorizationFailed))
	if !errors.Is(denied, ErrAuthorization) || !errors.Is(denied, kafka.TopicAuthorizationFailed) {
		t.Errorf("a refused request: got %v", denied)
	}

	other := newTestDialer(t, ConnectionConfig{Brokers: []string{nobody(t), fakeCluster(t).ListenAddrs()[0]}}, nil)
	if _, err := other.dial(t.Context(), "tcp", other.brokers.configured[0]); err == nil {
		t.Fatal("no error")
	}
	if c, err = other.dial(t.Context(), "tcp", other.brokers.configured[1]); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := other.reason(io.EOF); err != io.EOF { //nolint:errorlint // it must be the very same
		t.Errorf("an old failure of one broker is blamed after another let us in: %v", err)
	}
	if err := d.reason(context.Canceled); err != context.Canceled { //nolint:errorlint // it must be the very same
		t.Errorf("a cancellation: got %v", err)
	}
}
