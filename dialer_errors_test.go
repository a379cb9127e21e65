package kafkax

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/plain"
)

// alertError is a TLS alert as crypto/tls reports it: an unexported uint8.
type alertError uint8

func (alertError) Error() string { return "tls: an alert" }

// A hint never says to set what is set, and names what is.
func TestSecurity_HintsKnowWhatIsConfigured(t *testing.T) {
	t.Parallel()
	var (
		none     = ConnectionConfig{}
		onlyTLS  = ConnectionConfig{TLS: TLSConfig{Enabled: true}}
		full     = ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: "ca", CertFile: "cert", KeyFile: "key", ServerName: "kafka"}}
		password = ConnectionConfig{SASL: SASLConfig{Mechanism: SASLPlain, Username: "alice", Password: NewSecret("right")}}
		file     = ConnectionConfig{SASL: SASLConfig{Mechanism: SASLPlain, Username: "alice", PasswordFile: "file"}}
		injected = ConnectionConfig{
			tlsConfig: hide(&tls.Config{Certificates: []tls.Certificate{{}}, RootCAs: x509.NewCertPool(), ServerName: "kafka"}),
			mechanism: plain.Mechanism{},
		}
		bare = ConnectionConfig{tlsConfig: hide(&tls.Config{})}

		alert     = func(n uint8) error { return &net.OpError{Op: "remote error", Err: alertError(n)} }
		authority = &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
		hostname  = &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}}
		textOf    = map[string]error{
			"plaintext": tls.RecordHeaderError{Msg: "m"},
		}
	)
	tests := []struct {
		name string
		cfg  ConnectionConfig
		step string
		err  error
		want string
		not  []string
	}{
		{"no certificate, 1.3", onlyTLS, stepGreet, alert(116), "set tls.cert_file and tls.key_file", nil},
		{"no certificate, 1.2", onlyTLS, stepTLS, alert(42), "set tls.cert_file and tls.key_file", nil},
		{"no certificate, Java", onlyTLS, stepTLS, alert(40), "set tls.cert_file and tls.key_file", nil},
		{"certificate of a wrong CA, 1.3", full, stepGreet, alert(116), "none of the CA that signed it", []string{"set tls"}},
		{"certificate of a wrong CA, 1.2", full, stepTLS, alert(42), "client certificate of tls.cert_file", []string{"set tls"}},
		{"certificate of an unknown CA", full, stepGreet, alert(48), "not signed by a CA that the broker trusts", []string{"set tls"}},
		{"certificate of an unknown CA, Java", full, stepTLS, alert(40), "tls.cert_file", []string{"set tls"}},
		{"certificate expired", full, stepGreet, alert(45), "expired", []string{"set tls"}},
		{"certificate revoked", full, stepGreet, alert(44), "revoked", []string{"set tls"}},
		{"certificate not taken", full, stepGreet, alert(46), "refused the client certificate of tls.cert_file", []string{"set tls"}},
		{"certificate injected", injected, stepGreet, alert(116), "given by option", []string{"tls.cert_file"}},
		{"none injected", bare, stepGreet, alert(116), "add one to the TLS configuration", []string{"tls.cert_file"}},

		{"authority, system", onlyTLS, stepTLS, authority, "set tls.ca_file", nil},
		{"authority, file", full, stepTLS, authority, "not signed by a CA in tls.ca_file", []string{"set tls"}},
		{"authority, injected", injected, stepTLS, authority, "given by option", []string{"tls.ca_file"}},
		{"name of the address", onlyTLS, stepTLS, hostname, "or set tls.server_name", nil},
		{"name that is set", full, stepTLS, hostname, "than tls.server_name", []string{"set tls"}},

		{"hang-up, plaintext", none, stepGreet, io.EOF, "set tls.enabled", []string{"tls.cert_file"}},
		{"hang-up, TLS", onlyTLS, stepGreet, io.EOF, "set tls.cert_file", []string{"tls.enabled"}},
		{"hang-up, with certificate", full, stepGreet, io.EOF, "the client certificate of tls.cert_file", []string{"set tls", "tls.enabled"}},
		{"hang-up, injected", injected, stepGreet, io.EOF, "given by option", []string{"tls."}},
		{"hang-up, no SASL", none, stepProve, io.EOF, "set sasl.mechanism", nil},
		{"hang-up, SASL", password, stepProve, io.EOF, "hung up", []string{"sasl."}},
		{"hang-up in SASL", password, stepAuthenticate, io.EOF, "sasl.password, and", []string{"sasl.password_file"}},
		{"hang-up in SASL, file", file, stepAuthenticate, io.EOF, "sasl.password_file", nil},
		{"hang-up in SASL, injected", injected, stepAuthenticate, io.EOF, "given by option", []string{"sasl."}},

		{"password", password, stepAuthenticate, kafka.SASLAuthenticationFailed, "sasl.username, sasl.password, and", nil},
		{"password of a file", file, stepAuthenticate, kafka.SASLAuthenticationFailed, "sasl.username, sasl.password_file, and", nil},
		{"password of a mechanism", injected, stepAuthenticate, kafka.SASLAuthenticationFailed, "given by option", []string{"sasl."}},
		{"mechanism", password, stepHandshake, kafka.UnsupportedSASLMechanism, "this sasl.mechanism", nil},
		{"mechanism injected", injected, stepHandshake, kafka.UnsupportedSASLMechanism, "given by option in place of sasl.mechanism", nil},
		{"no SASL there", password, stepHandshake, kafka.IllegalSASLState, "check sasl.mechanism", nil},
		{"no SASL there, injected", injected, stepHandshake, kafka.IllegalSASLState, "given by option", []string{"sasl."}},

		{"no TLS there", onlyTLS, stepTLS, textOf["plaintext"], "tls.enabled", nil},
		{"no TLS there, injected", injected, stepTLS, textOf["plaintext"], "option", []string{"tls.enabled"}},
		{"ours to wait", none, stepGreet, errDialTimeout, "within dial_timeout", []string{"caller"}},
		{"the caller's to wait", none, stepGreet, timeoutError{}, "caller's deadline", []string{"dial_timeout"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newConfigured(tt.cfg).diagnose("a:1", tt.step, tt.err)
			if !strings.Contains(e.Hint, tt.want) {
				t.Errorf("hint %q does not say %q", e.Hint, tt.want)
			}
			for _, not := range tt.not {
				if strings.Contains(e.Hint, not) {
					t.Errorf("hint %q says %q", e.Hint, not)
				}
			}
		})
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return false }

// Only an answer, or what this end found in it, refuses.
func TestSecurity_OnlyAnAnswerRefuses(t *testing.T) {
	t.Parallel()
	cfg := newConfigured(ConnectionConfig{TLS: TLSConfig{Enabled: true}, SASL: plainUser("right")})
	steps := []string{stepConnect, stepTurn, stepTLS, stepGreet, stepHandshake, stepCredentials, stepAuthenticate, stepVerify, stepProve}
	for _, err := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		timeoutError{},
		errDialTimeout, &PanicError{}, errGoexit, errHTTP,
		errors.New("no token"), &ConfigError{}, &silenceError{}, kafka.UnsupportedVersion, kafka.BrokerNotAvailable,
	} {
		for _, step := range steps {
			if e := cfg.diagnose("a:1", step, err); isRefused(e) {
				t.Errorf("%v at %q counts as a refusal", err, step)
			}
		}
	}
	for _, err := range []error{
		kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState, errUnproven, errIterations,
		&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
	} {
		if e := cfg.diagnose("a:1", stepAuthenticate, err); !errors.Is(e, ErrAuthentication) {
			t.Errorf("%v is no refusal", err)
		}
	}
}
