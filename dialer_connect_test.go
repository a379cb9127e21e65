package kafkax

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kfake"
)

// askMechanism is a mechanism whose calls a test answers.
type askMechanism struct{ ask func(call string) error }

func (m askMechanism) Name() string {
	_ = m.ask("Name")
	return "PLAIN"
}

func (m askMechanism) Start(context.Context) (sasl.StateMachine, []byte, error) {
	err := m.ask("Start")
	return m, nil, err
}

func (m askMechanism) Next(context.Context, []byte) (bool, []byte, error) {
	err := m.ask("Next")
	return true, nil, err
}

// acceptAll is a broker's script that takes any credentials.
func acceptAll(req protocol.Message) (protocol.Message, error) {
	switch req.(type) {
	case *saslhandshake.Request:
		return &saslhandshake.Response{}, nil
	case *saslauthenticate.Request:
		return &saslauthenticate.Response{}, nil
	}
	return nil, nil
}

// A mechanism is the caller's code. While it does not return, neither a
// context's end nor close waits for it, and what comes late has no connection.
func TestD13_MechanismThatBlocksHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Name", "Start", "Next"} {
		for _, path := range dialPaths {
			for _, end := range []string{"dial_timeout", "context", "close"} {
				t.Run(call+"/"+path.name+"/"+end, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						entered, release := make(chan struct{}, 100), make(chan struct{})
						served := make(chan struct{}, 100)
						m := askMechanism{ask: func(this string) error {
							if this == call {
								entered <- struct{}{}
								<-release
							}
							return nil
						}}
						d := newVirtualDialer(t, ConnectionConfig{Brokers: []string{"a:1"}, DialTimeout: 10 * time.Second, mechanism: m},
							virtualNet{"a:1": func(c net.Conn) { follow(acceptAll)(c); served <- struct{}{} }})
						defer close(release)

						ctx, cancel := context.WithCancel(testContext(t))
						defer cancel()
						result := make(chan error, 1)
						began := time.Now()
						go func() { result <- path.try(ctx, d) }()
						<-entered
						var want error
						switch end {
						case "context":
							cancel()
							want = context.Canceled
						case "close":
							d.close()
							want = ErrClosed
						default:
							want = context.DeadlineExceeded
						}
						err := <-result
						if !errors.Is(err, want) {
							t.Errorf("got %v, want %v", err, want)
						}
						switch took := time.Since(began); {
						case end == "dial_timeout" && took != d.timeout, end != "dial_timeout" && took != 0:
							t.Errorf("took %v", took)
						}
						if end == "dial_timeout" && !strings.Contains(err.Error(), "the SASL mechanism that was given by option has not returned") {
							t.Errorf("does not say what has not returned: %v", err)
						}
						d.close()
						<-served // The broker's end was closed, although the call goes on.
					})
				})
			}
		}
	}
}

// misbehaviours are what code of the caller's may do instead of returning.
var misbehaviours = []struct {
	name string
	do   func()
	want func(error) bool
}{
	{"panic", func() { panic("a password") }, is[*PanicError]},
	{"Goexit", runtime.Goexit, func(err error) bool { return errors.Is(err, errGoexit) }},
}

func wantUserCodeBlamed(t *testing.T, err error, step string, want func(error) bool) {
	t.Helper()
	var connect *ConnectError
	switch {
	case !errors.As(err, &connect) || !want(err):
		t.Errorf("got %v", err)
	case connect.Step != step || !strings.Contains(connect.Hint, "code that was given by option") || isRefused(err):
		t.Errorf("got step %q, refused %v: %v", connect.Step, isRefused(err), err)
	case strings.Contains(err.Error(), "password"):
		t.Errorf("holds what was passed to panic: %v", err)
	}
}

func TestSecurity_MechanismThatPanicsIsAnError(t *testing.T) {
	t.Parallel()
	steps := map[string]string{"Name": stepCredentials, "Start": stepCredentials, "Next": stepVerify}
	for call, step := range steps {
		for _, bad := range misbehaviours {
			t.Run(call+"/"+bad.name, func(t *testing.T) {
				t.Parallel()
				m := askMechanism{ask: func(this string) error {
					if this == call {
						bad.do()
					}
					return nil
				}}
				cfg := ConnectionConfig{Brokers: []string{kafkaPeer(t, acceptAll)}, mechanism: m}
				eachPath(t, cfg, func(t *testing.T, err error) { wantUserCodeBlamed(t, err, step, bad.want) })
			})
		}
	}
}

// A token that cannot be fetched is no answer of the broker's.
func TestSecurity_MechanismThatFailsIsNoRefusal(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Start", "Next"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			m := askMechanism{ask: func(this string) error {
				if this == call {
					return errors.New("no token")
				}
				return nil
			}}
			cfg := ConnectionConfig{Brokers: []string{kafkaPeer(t, acceptAll)}, mechanism: m}
			eachPath(t, cfg, func(t *testing.T, err error) {
				if !is[*ConnectError](err) || isRefused(err) || !strings.Contains(err.Error(), "no token") {
					t.Errorf("refused %v: %v", isRefused(err), err)
				}
			})
		})
	}
}

// tlsCallbacks are the places where crypto/tls calls the caller's code.
var tlsCallbacks = map[string]func(*tls.Config, func() error){
	"GetClientCertificate": func(c *tls.Config, f func() error) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, f() }
	},
	"VerifyPeerCertificate": func(c *tls.Config, f func() error) {
		c.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { return f() }
	},
	"VerifyConnection": func(c *tls.Config, f func() error) {
		c.VerifyConnection = func(tls.ConnectionState) error { return f() }
	},
}

func TestD13_TLSCallbackThatBlocksHoldsUpNobody(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t)
	cluster := fakeCluster(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, forBroker)}, ClientAuth: tls.RequestClientCert}))
	for name, set := range tlsCallbacks {
		for _, path := range dialPaths {
			t.Run(name+"/"+path.name, func(t *testing.T) {
				t.Parallel()
				entered, release := make(chan struct{}, 100), make(chan struct{})
				t.Cleanup(func() { close(release) })
				config := &tls.Config{RootCAs: ca.pool()}
				set(config, func() error { entered <- struct{}{}; <-release; return nil })
				d := newTestDialer(t, ConnectionConfig{Brokers: cluster.ListenAddrs(), DialTimeout: time.Hour, tlsConfig: hide(config)}, nil)
				for _, end := range []string{"context", "close"} {
					ctx, cancel := context.WithCancel(testContext(t))
					result := make(chan error, 1)
					go func() { result <- path.try(ctx, d) }()
					<-entered
					want := context.Canceled
					if end == "close" {
						d.close()
						want = ErrClosed
					}
					if end == "context" {
						cancel()
					}
					if err := <-result; !errors.Is(err, want) {
						t.Errorf("%s: got %v", end, err)
					}
					cancel()
				}
			})
		}
	}
}

func TestSecurity_TLSCallbackThatPanicsIsAnError(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t)
	cluster := fakeCluster(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, forBroker)}, ClientAuth: tls.RequestClientCert}))
	for name, set := range tlsCallbacks {
		for _, bad := range misbehaviours {
			t.Run(name+"/"+bad.name, func(t *testing.T) {
				t.Parallel()
				config := &tls.Config{RootCAs: ca.pool()}
				set(config, func() error { bad.do(); return nil })
				eachPath(t, ConnectionConfig{Brokers: cluster.ListenAddrs(), tlsConfig: hide(config)}, func(t *testing.T, err error) {
					wantUserCodeBlamed(t, err, stepTLS, bad.want)
				})
			})
		}
	}
}

// Code that never returns holds a goroutine for each handshake, so their number
// is bounded.
func TestSecurity_HandshakesThatNeverReturnAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var calls atomic.Int32
		m := askMechanism{ask: func(call string) error {
			if call == "Start" {
				calls.Add(1)
				<-release
			}
			return nil
		}}
		d := newVirtualDialer(t, ConnectionConfig{Brokers: []string{"a:1"}, DialTimeout: 10 * time.Second, mechanism: m},
			virtualNet{"a:1": follow(acceptAll)})
		for range maxHandshakes {
			if _, err := d.dial(t.Context(), "tcp", "a:1"); err == nil {
				t.Fatal("no error")
			}
		}
		_, err := d.dial(t.Context(), "tcp", "a:1")
		var connect *ConnectError
		if !errors.As(err, &connect) || connect.Step != stepTurn || !strings.Contains(connect.Hint, "block") || isRefused(err) {
			t.Errorf("got %v", err)
		}
		if n := calls.Load(); n != maxHandshakes {
			t.Errorf("%d calls, want %d", n, maxHandshakes)
		}
		close(release)
		synctest.Wait()
		c, err := d.dial(t.Context(), "tcp", "a:1")
		if err != nil {
			t.Fatalf("after they have returned: %v", err)
		}
		c.Close()
	})
}

// What a broker says may be anything, and goes into logs.
func TestSecurity_TextOfABrokerIsOneShortLine(t *testing.T) {
	t.Parallel()
	noise := "line\nanother\x1b[2J\r" + strings.Repeat("x", 1<<20)
	for name, s := range map[string]script{
		"mechanisms": func(req protocol.Message) (protocol.Message, error) {
			if _, ok := req.(*saslhandshake.Request); ok {
				// kafka-go encodes no longer string.
				return &saslhandshake.Response{ErrorCode: int16(kafka.UnsupportedSASLMechanism), Mechanisms: []string{noise[:20000], noise[:20000]}}, nil
			}
			return nil, nil
		},
		"message": func(req protocol.Message) (protocol.Message, error) {
			if _, ok := req.(*saslauthenticate.Request); ok {
				return &saslauthenticate.Response{ErrorCode: int16(kafka.SASLAuthenticationFailed), ErrorMessage: noise[:30000]}, nil
			}
			return acceptAll(req)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachPath(t, ConnectionConfig{Brokers: []string{kafkaPeer(t, s)}, SASL: plainUser("right")}, func(t *testing.T, err error) {
				var connect *ConnectError
				if !errors.As(err, &connect) || !errors.Is(err, ErrAuthentication) {
					t.Fatalf("got %v", err)
				}
				if text := connect.Error(); len(text) > maxText || strings.ContainsAny(text, "\n\r\x1b") {
					t.Errorf("%d bytes: %.300q", len(text), text)
				}
				if text := connect.Err.Error(); len(text) > 2*maxText {
					t.Errorf("the cause has %d bytes", len(text))
				}
			})
		})
	}
}

func TestDialOfTheCallersMakesEveryConnection(t *testing.T) {
	t.Parallel()
	cluster := fakeCluster(t)
	calls := make(chan string, 100)
	cfg := ConnectionConfig{
		Brokers: []string{"broker.nowhere.example:9092"},
		dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			calls <- address
			if address == "broker.nowhere.example:9092" { // a name that only the other end of the tunnel knows
				address = cluster.ListenAddrs()[0]
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	eachPath(t, cfg, func(t *testing.T, err error) {
		if err != nil {
			t.Error(err)
		}
		if first := <-calls; first != "broker.nowhere.example:9092" && first != cluster.ListenAddrs()[0] {
			t.Errorf("dialled %s", first)
		}
	})
}

func TestDialOfTheCallersThatMisbehavesIsAnError(t *testing.T) {
	t.Parallel()
	for _, bad := range misbehaviours {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			cfg := ConnectionConfig{Brokers: []string{"a:1"}, dial: func(context.Context, string, string) (net.Conn, error) { bad.do(); return nil, nil }}
			eachPath(t, cfg, func(t *testing.T, err error) { wantUserCodeBlamed(t, err, stepConnect, bad.want) })
		})
	}
	failures := map[string]struct {
		conn net.Conn
		err  error
	}{
		"nothing":        {nil, nil},
		"a nil inside":   {(*tls.Conn)(nil), nil},
		"its own error":  {nil, errors.New("the bastion says no")},
		"a TLS refusal":  {nil, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}},
		"its end of all": {nil, io.EOF},
	}
	for name, f := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := ConnectionConfig{Brokers: []string{"a:1"}, dial: func(context.Context, string, string) (net.Conn, error) { return f.conn, f.err }}
			eachPath(t, cfg, func(t *testing.T, err error) {
				var connect *ConnectError
				switch {
				case !errors.As(err, &connect) || connect.Step != stepConnect || connect.Hint != "the dial that was given by option failed":
					t.Errorf("got %#v", err)
				case isRefused(err):
					t.Errorf("no broker has refused: %v", err)
				case f.err != nil && !errors.Is(err, f.err):
					t.Errorf("got %v, want one that wraps %v", err, f.err)
				}
			})
		})
	}
}

// The dial ends with its context or the dialer, and a connection that comes
// later is closed.
func TestD13_DialThatBlocksHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for _, path := range dialPaths {
		for _, end := range []string{"context", "close", "dial_timeout"} {
			t.Run(path.name+"/"+end, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					release := make(chan struct{})
					late := make(chan net.Conn, 100)
					d := newTestDialer(t, ConnectionConfig{
						Brokers:     []string{"a:1"},
						DialTimeout: time.Hour,
						dial: func(context.Context, string, string) (net.Conn, error) {
							<-release // deaf to its context
							here, there := net.Pipe()
							late <- there
							return here, nil
						},
					}, nil)
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
					defer cancel()
					result := make(chan error, 1)
					go func() { result <- path.try(ctx, d) }()
					synctest.Wait()
					want := errDialTimeout
					switch end {
					case "context":
						want = context.Canceled
						cancel()
					case "close":
						want = ErrClosed
						d.close()
					}
					if err := <-result; !errors.Is(err, want) {
						t.Errorf("got %v, want %v", err, want)
					}
					close(release)
					synctest.Wait()
					if len(late) == 0 {
						t.Fatal("the dial was not called")
					}
					for range len(late) {
						c := <-late
						if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
							t.Errorf("the late connection: %v, want it closed", err)
						}
					}
				})
			})
		}
	}
}

// A dial that never returns holds a goroutine, so their number is bounded.
func TestSecurity_DialsThatNeverReturnAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var calls atomic.Int32
		d := newTestDialer(t, ConnectionConfig{
			Brokers:     []string{"a:1"},
			DialTimeout: 10 * time.Second,
			dial: func(context.Context, string, string) (net.Conn, error) {
				calls.Add(1)
				<-release
				return nil, errors.New("late")
			},
		}, nil)
		var last error
		for range 2 * maxHandshakes {
			_, last = d.dial(t.Context(), "tcp", "a:1")
		}
		if n := calls.Load(); n != maxHandshakes {
			t.Errorf("%d calls, want %d", n, maxHandshakes)
		}
		if last == nil || !strings.Contains(last.Error(), "have not returned") {
			t.Errorf("got %v", last)
		}
		close(release)
	})
}
