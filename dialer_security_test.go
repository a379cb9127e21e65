package kafkax

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// testCA signs certificates for a test.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTestCA(t *testing.T) *testCA {
	t.Helper()
	ca := &testCA{key: newTestKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return ca
}

func newTestKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What a certificate is for.
func forBroker(c *x509.Certificate)     { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }
func forOtherName(c *x509.Certificate)  { c.DNSNames = []string{"kafka.example"} }
func forYesterday(c *x509.Certificate)  { forBroker(c); c.NotAfter = time.Now().Add(-time.Hour) }
func forClientOne(c *x509.Certificate)  { c.Subject.CommonName = "one" }
func forClientTwo(c *x509.Certificate)  { c.Subject.CommonName = "two" }
func (ca *testCA) pool() *x509.CertPool { p := x509.NewCertPool(); p.AddCert(ca.cert); return p }

func (ca *testCA) issue(t *testing.T, purpose func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newTestKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	purpose(template)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (ca *testCA) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// file writes the CA's certificate.
func (ca *testCA) file(t *testing.T) string {
	t.Helper()
	return writeTestFile(t, filepath.Join(t.TempDir(), "ca.pem"), ca.pem())
}

func pairPEM(t *testing.T, pair tls.Certificate) (cert, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func pairFiles(t *testing.T, pair tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	cert, key := pairPEM(t, pair)
	dir := t.TempDir()
	return writeTestFile(t, filepath.Join(dir, "cert.pem"), cert), writeTestFile(t, filepath.Join(dir, "key.pem"), key)
}

func writeTestFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func is[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

func isCode(code kafka.Error) func(error) bool {
	return func(err error) bool { return errors.Is(err, code) }
}

func TestSecurity_Matrix(t *testing.T) {
	t.Parallel()
	ca, otherCA := newTestCA(t), newTestCA(t)
	caFile, otherCAFile := ca.file(t), otherCA.file(t)
	certFile, keyFile := pairFiles(t, ca.issue(t, forClientOne))
	otherCertFile, otherKeyFile := pairFiles(t, otherCA.issue(t, forClientOne))

	serverTLS := func(purpose func(*x509.Certificate), change ...func(*tls.Config)) kfake.Opt {
		c := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, purpose)}, ClientCAs: ca.pool()}
		for _, f := range change {
			f(c)
		}
		return kfake.TLS(c)
	}
	wantsCert := func(c *tls.Config) { c.ClientAuth = tls.RequireAndVerifyClientCert }
	onlyTLS12 := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
	onlyTLS11 := func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }
	withSASL := []kfake.Opt{
		kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "alice", "right"),
		kfake.Superuser("SCRAM-SHA-256", "alice", "right"),
		kfake.Superuser("SCRAM-SHA-512", "alice", "right"),
	}
	user := func(m SASLMechanism, name, password string) SASLConfig {
		return SASLConfig{Mechanism: m, Username: name, Password: NewSecret(password)}
	}

	tests := []struct {
		name    string
		cluster []kfake.Opt
		cfg     ConnectionConfig
		hint    string           // part of it; empty: it connects
		cause   func(error) bool // what the error also is
		refused bool
	}{
		{name: "plaintext"},
		{name: "tls", cluster: []kfake.Opt{serverTLS(forBroker)}, cfg: ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile}}},
		{
			name: "tls untrusted ca", cluster: []kfake.Opt{serverTLS(forBroker)},
			cfg:  ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: otherCAFile}},
			hint: "tls.ca_file", cause: is[x509.UnknownAuthorityError], refused: true,
		},
		{
			name: "tls system cas", cluster: []kfake.Opt{serverTLS(forBroker)},
			cfg:  ConnectionConfig{TLS: TLSConfig{Enabled: true}},
			hint: "tls.ca_file", cause: is[x509.UnknownAuthorityError], refused: true,
		},
		{
			name: "tls untrusted ca, not verified", cluster: []kfake.Opt{serverTLS(forBroker)},
			cfg: ConnectionConfig{TLS: TLSConfig{Enabled: true, InsecureSkipVerify: true}},
		},
		{
			name: "tls other host name", cluster: []kfake.Opt{serverTLS(forOtherName)},
			cfg:  ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile}},
			hint: "tls.server_name", cause: is[x509.HostnameError], refused: true,
		},
		{
			name: "tls other host name, expected", cluster: []kfake.Opt{serverTLS(forOtherName)},
			cfg: ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile, ServerName: "kafka.example"}},
		},
		{
			name: "tls expired", cluster: []kfake.Opt{serverTLS(forYesterday)},
			cfg:  ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile}},
			hint: "expired", cause: is[x509.CertificateInvalidError], refused: true,
		},
		{
			name: "tls too old", cluster: []kfake.Opt{serverTLS(forBroker, onlyTLS11)},
			cfg:  ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile}},
			hint: "TLS version",
		},
		{
			name: "mtls", cluster: []kfake.Opt{serverTLS(forBroker, wantsCert)},
			cfg: ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile, CertFile: certFile, KeyFile: keyFile}},
		},
		{
			name: "mtls 1.2", cluster: []kfake.Opt{serverTLS(forBroker, wantsCert, onlyTLS12)},
			cfg: ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile, CertFile: certFile, KeyFile: keyFile}},
		},
		{
			name: "mtls no client certificate", cluster: []kfake.Opt{serverTLS(forBroker, wantsCert)},
			cfg:  ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile}},
			hint: "tls.cert_file", cause: is[*net.OpError], refused: true,
		},
		{
			name: "mtls 1.2 no client certificate", cluster: []kfake.Opt{serverTLS(forBroker, wantsCert, onlyTLS12)},
			cfg:  ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile}},
			hint: "tls.cert_file", cause: is[*net.OpError], refused: true,
		},
		{
			name: "mtls untrusted client certificate", cluster: []kfake.Opt{serverTLS(forBroker, wantsCert)},
			cfg:  ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile, CertFile: otherCertFile, KeyFile: otherKeyFile}},
			hint: "tls.cert_file", cause: is[*net.OpError], refused: true,
		},
		{
			name: "plaintext to tls port", cluster: []kfake.Opt{serverTLS(forBroker)},
			hint: "tls.enabled",
		},
		{
			// kfake waits for the gigabyte that a ClientHello seems to announce.
			name: "tls to plaintext port", cfg: ConnectionConfig{TLS: TLSConfig{Enabled: true}, DialTimeout: 5 * time.Second},
			hint: "TLS",
		},
		{name: "plain", cluster: withSASL, cfg: ConnectionConfig{SASL: user(SASLPlain, "alice", "right")}},
		{name: "scram 256", cluster: withSASL, cfg: ConnectionConfig{SASL: user(SASLScramSHA256, "alice", "right")}},
		{name: "scram 512", cluster: withSASL, cfg: ConnectionConfig{SASL: user(SASLScramSHA512, "alice", "right")}},
		{
			// kfake refuses by hanging up, which may be anything.
			name: "plain wrong password", cluster: withSASL,
			cfg:  ConnectionConfig{SASL: user(SASLPlain, "alice", "wrong")},
			hint: "the broker hung up: it may be going down, or refuse credentials so: if it goes on, check sasl.username, sasl.password",
		},
		{
			name: "scram 256 wrong password", cluster: withSASL,
			cfg:  ConnectionConfig{SASL: user(SASLScramSHA256, "alice", "wrong")},
			hint: "sasl.password",
		},
		{
			name: "scram 512 unknown user", cluster: withSASL,
			cfg:  ConnectionConfig{SASL: user(SASLScramSHA512, "bob", "right")},
			hint: "sasl.username",
		},
		{
			name: "unsupported mechanism", cluster: withSASL,
			cfg:  ConnectionConfig{mechanism: renamed{plain.Mechanism{Username: "alice", Password: "right"}}},
			hint: "sasl.mechanism", cause: isCode(kafka.UnsupportedSASLMechanism), refused: true,
		},
		{name: "no sasl to sasl port", cluster: withSASL, hint: "sasl.mechanism"},
		{
			name: "sasl over tls", cluster: append([]kfake.Opt{serverTLS(forBroker)}, withSASL...),
			cfg: ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: caFile}, SASL: user(SASLScramSHA512, "alice", "right")},
		},
		{
			name: "injected", cluster: append([]kfake.Opt{serverTLS(forBroker)}, withSASL...),
			cfg: ConnectionConfig{
				TLS:       TLSConfig{Enabled: true, CAFile: "/none"}, // the injected ones win
				SASL:      SASLConfig{Mechanism: "none"},
				tlsConfig: hide(&tls.Config{RootCAs: ca.pool()}),
				mechanism: plain.Mechanism{Username: "alice", Password: "right"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Brokers = fakeCluster(t, tt.cluster...).ListenAddrs()
			eachPath(t, tt.cfg, func(t *testing.T, err error) {
				wantConnect(t, err, tt.hint, tt.cause, tt.refused)
			})
		})
	}
}

// wantConnect checks the outcome of a way to connect; an empty hint is success.
func wantConnect(t *testing.T, err error, hint string, cause func(error) bool, refused bool) {
	t.Helper()
	if hint == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var connect *ConnectError
	if !errors.As(err, &connect) {
		t.Fatalf("got %v, want a ConnectError", err)
	}
	if !strings.Contains(connect.Hint, hint) {
		t.Errorf("hint %q does not mention %q: %v", connect.Hint, hint, err)
	}
	if cause != nil && !cause(err) {
		t.Errorf("another cause than expected: %v", err)
	}
	if errors.Is(err, ErrAuthentication) != refused || isRefused(err) != refused {
		t.Errorf("ErrAuthentication is %v, want %v: %v", errors.Is(err, ErrAuthentication), refused, err)
	}
	if refused && IsRetryable(err) {
		t.Errorf("a refusal is retryable: %v", err)
	}
	for _, password := range []string{"right", "wrong", kafkatest.Password, "open sesame"} {
		if strings.Contains(err.Error(), password) {
			t.Errorf("holds the password: %v", err)
		}
	}
}

// renamed is a mechanism the broker has never heard of.
type renamed struct{ sasl.Mechanism }

func (renamed) Name() string { return "TELEPATHY" }

func TestSecurity_BrokerCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		handshake saslhandshake.Response
		auth      saslauthenticate.Response
		code      kafka.Error
		want      []string
	}{
		{
			name:      "wrong mechanism",
			handshake: saslhandshake.Response{ErrorCode: int16(kafka.UnsupportedSASLMechanism), Mechanisms: []string{"GSSAPI", "OAUTHBEARER"}},
			code:      kafka.UnsupportedSASLMechanism,
			want:      []string{"PLAIN", "the broker offers GSSAPI, OAUTHBEARER", "sasl.mechanism"},
		},
		{
			name:      "listener without SASL",
			handshake: saslhandshake.Response{ErrorCode: int16(kafka.IllegalSASLState)},
			code:      kafka.IllegalSASLState,
			want:      []string{"does not use SASL"},
		},
		{
			name: "wrong password",
			auth: saslauthenticate.Response{ErrorCode: int16(kafka.SASLAuthenticationFailed), ErrorMessage: "Authentication failed: Invalid username or password"},
			code: kafka.SASLAuthenticationFailed,
			want: []string{"sasl.username", "Invalid username or password"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := kafkaPeer(t, func(req protocol.Message) (protocol.Message, error) {
				switch req.(type) {
				case *saslhandshake.Request:
					return &tt.handshake, nil
				case *saslauthenticate.Request:
					return &tt.auth, nil
				}
				return nil, nil
			})
			eachPath(t, ConnectionConfig{Brokers: []string{address}, SASL: plainUser("right")}, func(t *testing.T, err error) {
				if !errors.Is(err, tt.code) || !errors.Is(err, ErrAuthentication) {
					t.Fatalf("got %v", err)
				}
				for _, want := range append(tt.want, address) {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q is missing from: %v", want, err)
					}
				}
			})
		})
	}
}

func TestSecurity_UnknownHost(t *testing.T) {
	t.Parallel()
	eachPath(t, ConnectionConfig{Brokers: []string{"kafkax.invalid:9092"}, DialTimeout: 30 * time.Second}, func(t *testing.T, err error) {
		if !is[*net.DNSError](err) || !is[*ConnectError](err) || isRefused(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSecurity_HostOfTheBrokerReachesTheMechanism(t *testing.T) {
	t.Parallel()
	cluster := fakeCluster(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "alice", "right"))
	m := &hostMechanism{Mechanism: plain.Mechanism{Username: "alice", Password: "right"}}
	eachPath(t, ConnectionConfig{Brokers: cluster.ListenAddrs(), mechanism: m}, func(t *testing.T, err error) {
		if err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, got := range m.seen {
			if address := fmt.Sprintf("%s:%d", got.Host, got.Port); address != cluster.ListenAddrs()[0] {
				t.Errorf("got %s", address)
			}
		}
		if len(m.seen) == 0 {
			t.Error("never asked")
		}
	})
}

type hostMechanism struct {
	sasl.Mechanism
	mu   sync.Mutex
	seen []sasl.Metadata
}

func (m *hostMechanism) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	m.mu.Lock()
	m.seen = append(m.seen, *sasl.MetadataFromContext(ctx))
	m.mu.Unlock()
	return m.Mechanism.Start(ctx)
}

func TestSecurity_CertificateRotation(t *testing.T) {
	t.Parallel()
	caOne, caTwo := newTestCA(t), newTestCA(t)
	clients := newTestCA(t)

	var mu sync.Mutex
	brokerCert := caOne.issue(t, forBroker)
	seen := make(chan string, 10)
	cluster := fakeCluster(t, kfake.TLS(&tls.Config{
		ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  clients.pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			mu.Lock()
			defer mu.Unlock()
			return &brokerCert, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			seen <- s.PeerCertificates[0].Subject.CommonName
			return nil
		},
	}))

	caFile := caOne.file(t)
	certFile, keyFile := pairFiles(t, clients.issue(t, forClientOne))
	var log logBuffer
	d := newTestDialer(t, ConnectionConfig{
		Brokers: cluster.ListenAddrs(),
		TLS:     TLSConfig{Enabled: true, CAFile: caFile, CertFile: certFile, KeyFile: keyFile},
	}, log.loggers())
	dial := func(want string) {
		t.Helper()
		c, err := d.dial(testContext(t), "tcp", d.brokers.configured[0])
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if got := <-seen; got != want {
			t.Errorf("the broker saw the certificate of %q, want %q", got, want)
		}
	}
	dial("one")

	cert, key := pairPEM(t, clients.issue(t, forClientTwo))
	writeTestFile(t, certFile, cert)
	dial("one") // half a rotation: the key does not match yet
	dial("one")
	if lines := log.all(); len(lines) != 1 || !strings.Contains(lines[0], keyCertFile) {
		t.Errorf("want half a rotation logged once, got %q", lines)
	}
	writeTestFile(t, keyFile, key)
	dial("two")

	mu.Lock()
	brokerCert = caTwo.issue(t, forBroker)
	mu.Unlock()
	writeTestFile(t, caFile, caTwo.pem())
	dial("two")

	writeTestFile(t, caFile, []byte("garbage"))
	dial("two")
	if err := os.Remove(caFile); err != nil {
		t.Fatal(err)
	}
	dial("two")
	lines := log.all()
	if len(lines) != 3 || !strings.Contains(lines[1], "PEM") || !strings.Contains(lines[2], "cannot be read") {
		t.Errorf("got %q", lines)
	}
	if strings.Contains(strings.Join(lines, ""), "garbage") {
		t.Errorf("the log quotes a file: %q", lines)
	}
}

func TestSecurity_PasswordFileIsReadForEachAuthentication(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	address := kafkaPeer(t, func(req protocol.Message) (protocol.Message, error) {
		switch req := req.(type) {
		case *saslhandshake.Request:
			return &saslhandshake.Response{}, nil
		case *saslauthenticate.Request:
			got <- string(req.AuthBytes)
			return &saslauthenticate.Response{}, nil
		}
		return nil, nil
	})
	file := writeTestFile(t, filepath.Join(t.TempDir(), "password"), []byte("first\n"))
	var log logBuffer
	d := newTestDialer(t, ConnectionConfig{
		Brokers: []string{address},
		SASL:    SASLConfig{Mechanism: SASLPlain, Username: "alice", PasswordFile: file},
	}, log.loggers())

	for _, step := range []struct{ content, want string }{
		{"first\n", "first"},
		{"second", "second"},
		{" third \r\n", " third "},
		{"fourth\n\n", " third "}, // one newline is the editor's, two are a mistake: the last good one
		{"", " third "},
	} {
		writeTestFile(t, file, []byte(step.content))
		c, err := d.dial(testContext(t), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if auth := <-got; auth != "\x00alice\x00"+step.want {
			t.Errorf("%q: got %q", step.content, auth)
		}
	}
	if lines := log.all(); len(lines) != 2 || !strings.Contains(lines[0], keyPasswordFile) || !strings.Contains(lines[1], keyPasswordFile) {
		t.Errorf("got %q", lines)
	}
}

func TestC1_SecurityProblemsAreConfigErrors(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t)
	certFile, keyFile := pairFiles(t, ca.issue(t, forClientOne))
	_, otherKeyFile := pairFiles(t, ca.issue(t, forClientTwo))
	garbage := writeTestFile(t, filepath.Join(t.TempDir(), "garbage"), []byte("s3cret garbage"))
	empty := writeTestFile(t, filepath.Join(t.TempDir(), "empty"), []byte("\n"))
	scramUser := func(password string) SASLConfig {
		return SASLConfig{Mechanism: SASLScramSHA256, Username: "alice", Password: NewSecret(password)}
	}

	tests := []struct {
		name string
		cfg  ConnectionConfig
		keys []string
	}{
		{"ca missing", ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: "/none/ca.pem"}}, []string{"tls.ca_file"}},
		{"ca a folder", ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: t.TempDir()}}, []string{"tls.ca_file"}},
		{"ca garbage", ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: garbage}}, []string{"tls.ca_file"}},
		{"cert alone", ConnectionConfig{TLS: TLSConfig{Enabled: true, CertFile: certFile}}, []string{"tls.cert_file"}},
		{"key alone", ConnectionConfig{TLS: TLSConfig{Enabled: true, KeyFile: keyFile}}, []string{"tls.key_file"}},
		{"pair garbage", ConnectionConfig{TLS: TLSConfig{Enabled: true, CertFile: certFile, KeyFile: garbage}}, []string{"tls.cert_file"}},
		{"pair of two", ConnectionConfig{TLS: TLSConfig{Enabled: true, CertFile: certFile, KeyFile: otherKeyFile}}, []string{"tls.cert_file"}},
		{"mechanism", ConnectionConfig{SASL: SASLConfig{Mechanism: "KERBEROS", Username: "alice", Password: NewSecret("s3cret")}}, []string{"sasl.mechanism"}},
		{"no credentials", ConnectionConfig{SASL: SASLConfig{Mechanism: SASLPlain}}, []string{"sasl.username", "sasl.password"}},
		{"nul", ConnectionConfig{SASL: plainUser("s3cret\x00")}, []string{"sasl.password"}},
		{"saslprep", ConnectionConfig{SASL: scramUser("s3cret\u0007")}, []string{"sasl.password"}},
		{"password file missing", ConnectionConfig{SASL: SASLConfig{Mechanism: SASLPlain, Username: "a", PasswordFile: "/none"}}, []string{"sasl.password_file"}},
		{"password file empty", ConnectionConfig{SASL: SASLConfig{Mechanism: SASLPlain, Username: "a", PasswordFile: empty}}, []string{"sasl.password_file"}},
		{
			"all of them",
			ConnectionConfig{
				SASL: SASLConfig{Mechanism: SASLPlain, Username: "a", PasswordFile: "/none"},
				TLS:  TLSConfig{Enabled: true, CAFile: "/none", CertFile: "/none", KeyFile: "/none"},
			},
			[]string{"tls.ca_file", "tls.cert_file", "tls.key_file", "sasl.password_file"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, err := newDialer(tt.cfg, 0, newLoggers(nil, nil))
			if d != nil || !errors.Is(err, ErrInvalidConfig) {
				t.Fatalf("got %v, %v", d, err)
			}
			var keys []string
			for _, e := range configErrors(err) {
				keys = append(keys, e.Key)
			}
			if !slices.Equal(keys, tt.keys) {
				t.Errorf("got keys %q, want %q: %v", keys, tt.keys, err)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("holds a secret: %v", err)
			}
		})
	}
}

// configErrors are all of them in a tree of joined errors.
func configErrors(err error) []*ConfigError {
	if e, ok := err.(*ConfigError); ok { //nolint:errorlint // this walks the tree itself
		return []*ConfigError{e}
	}
	var all []*ConfigError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, configErrors(e)...)
		}
	}
	return all
}

func TestSecurity_InsecureSkipVerifyIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t)
	cluster := fakeCluster(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, forBroker)}}))
	for _, tt := range []struct {
		name string
		cfg  ConnectionConfig
	}{
		{"key", ConnectionConfig{TLS: TLSConfig{Enabled: true, InsecureSkipVerify: true}}},
		{"injected", ConnectionConfig{tlsConfig: hide(&tls.Config{InsecureSkipVerify: true})}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			tt.cfg.Brokers = cluster.ListenAddrs()
			d := newTestDialer(t, tt.cfg, log.loggers())
			for range 2 {
				if err := d.ping(testContext(t)); err != nil {
					t.Fatal(err)
				}
			}
			if lines := log.all(); len(lines) != 1 || !strings.Contains(lines[0], "insecure_skip_verify") {
				t.Errorf("got %q", lines)
			}
		})
	}
}

// A connection holds the client's key as long as it lives.
func TestC3_NothingPrintsTheKeyOfAConnection(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t)
	pair := ca.issue(t, forClientOne)
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if pair.Certificate[0], err = x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key); err != nil {
		t.Fatal(err)
	}
	pair.PrivateKey = key
	certFile, keyFile := pairFiles(t, pair)
	cluster := fakeCluster(t, kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, forBroker)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
	}))
	for name, cfg := range map[string]ConnectionConfig{
		"files":    {TLS: TLSConfig{Enabled: true, CAFile: ca.file(t), CertFile: certFile, KeyFile: keyFile}},
		"injected": {tlsConfig: hide(&tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{pair}})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.Brokers = cluster.ListenAddrs()
			d := newTestDialer(t, cfg, nil)
			c, err := d.dial(testContext(t), "tcp", cfg.Brokers[0])
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if d.connected() != 1 {
				t.Fatal("the connection is not where it is looked for")
			}
			printed := DeepPrint(d)
			if strings.Contains(printed, string(key)) || strings.Contains(printed, string(key.Seed())) {
				t.Error("a printer that walks through the client finds the key")
			}
		})
	}
}
