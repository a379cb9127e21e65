package kafkax

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

func TestSecurity_RealKafka(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	trust := TLSConfig{Enabled: true, CAFile: cluster.CAFile}
	withCert := TLSConfig{Enabled: true, CAFile: cluster.CAFile, CertFile: cluster.CertFile, KeyFile: cluster.KeyFile}
	user := func(m SASLMechanism, password string) SASLConfig {
		return SASLConfig{Mechanism: m, Username: kafkatest.User, Password: NewSecret(password)}
	}
	right, wrong := kafkatest.Password, "open sesame"

	tests := []struct {
		name     string
		listener kafkatest.Listener
		cfg      ConnectionConfig
		hint     string           // part of it; empty: it connects
		cause    func(error) bool // what the error also is
		refused  bool
	}{
		{name: "plaintext", listener: kafkatest.Plaintext},
		{name: "plaintext with tls", listener: kafkatest.Plaintext, cfg: ConnectionConfig{TLS: trust}, hint: "not speak TLS"},
		{
			name: "plaintext with sasl", listener: kafkatest.Plaintext, cfg: ConnectionConfig{SASL: user(SASLPlain, right)},
			hint: "does not use SASL", cause: isCode(kafka.IllegalSASLState), refused: true,
		},

		{name: "ssl", listener: kafkatest.SSL, cfg: ConnectionConfig{TLS: withCert}},
		{
			name: "ssl without client certificate", listener: kafkatest.SSL, cfg: ConnectionConfig{TLS: trust},
			hint: "tls.cert_file", cause: is[*net.OpError], refused: true,
		},
		{
			name: "ssl with untrusted client certificate", listener: kafkatest.SSL,
			cfg: ConnectionConfig{TLS: TLSConfig{
				Enabled: true, CAFile: cluster.CAFile, CertFile: cluster.OtherCertFile, KeyFile: cluster.OtherKeyFile,
			}},
			hint: "tls.cert_file", cause: is[*net.OpError], refused: true,
		},
		{
			name: "ssl 1.2 without client certificate", listener: kafkatest.SSL,
			cfg:  ConnectionConfig{tlsConfig: hide(&tls.Config{RootCAs: poolOf(t, cluster.CAFile), MaxVersion: tls.VersionTLS12})},
			hint: "it may want a client certificate: add one to the TLS configuration", cause: is[*net.OpError], refused: true,
		},
		{
			name: "ssl with untrusted ca", listener: kafkatest.SSL,
			cfg:  ConnectionConfig{TLS: TLSConfig{Enabled: true, CAFile: cluster.OtherCAFile, CertFile: cluster.CertFile, KeyFile: cluster.KeyFile}},
			hint: "tls.ca_file", cause: is[x509.UnknownAuthorityError], refused: true,
		},
		{
			name: "ssl with other server name", listener: kafkatest.SSL,
			cfg: ConnectionConfig{TLS: TLSConfig{
				Enabled: true, CAFile: cluster.CAFile, CertFile: cluster.CertFile, KeyFile: cluster.KeyFile, ServerName: "kafka.example",
			}},
			hint: "tls.server_name", cause: is[x509.HostnameError], refused: true,
		},
		{
			name: "ssl with expected server name", listener: kafkatest.SSL,
			cfg: ConnectionConfig{TLS: TLSConfig{
				Enabled: true, CAFile: cluster.CAFile, CertFile: cluster.CertFile, KeyFile: cluster.KeyFile, ServerName: "localhost",
			}},
		},
		{name: "ssl with plaintext", listener: kafkatest.SSL, hint: "tls.enabled"},
	}
	for _, l := range []kafkatest.Listener{kafkatest.SASLPlaintext, kafkatest.SASLSSL} {
		var security TLSConfig
		if l == kafkatest.SASLSSL {
			security = trust
		}
		for _, m := range []SASLMechanism{SASLPlain, SASLScramSHA256, SASLScramSHA512} {
			for _, password := range []string{right, wrong} {
				tt := tests[0]
				tt.name, tt.listener = string(l)+" "+string(m), l
				tt.cfg = ConnectionConfig{TLS: security, SASL: user(m, password)}
				if password == wrong {
					tt.name += " wrong password"
					tt.hint, tt.cause, tt.refused = "password", isCode(kafka.SASLAuthenticationFailed), true
				}
				tests = append(tests, tt)
			}
		}
		tt := tests[0]
		tt.name, tt.listener = string(l)+" unknown mechanism", l
		tt.cfg = ConnectionConfig{TLS: security, mechanism: renamed{}}
		tt.hint, tt.cause, tt.refused = "sasl.mechanism", isCode(kafka.UnsupportedSASLMechanism), true
		tests = append(tests, tt)

		tt = tests[0]
		tt.name, tt.listener = string(l)+" without sasl", l
		tt.cfg, tt.hint = ConnectionConfig{TLS: security}, "sasl.mechanism"
		tests = append(tests, tt)
	}
	plaintextToSASLSSL := tests[0]
	plaintextToSASLSSL.name, plaintextToSASLSSL.listener = "SASL_SSL with sasl in plaintext", kafkatest.SASLSSL
	plaintextToSASLSSL.cfg, plaintextToSASLSSL.hint = ConnectionConfig{SASL: user(SASLPlain, right)}, "tls.enabled"
	tests = append(tests, plaintextToSASLSSL)

	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Brokers = cluster.Addrs(tt.listener)
			eachPath(t, tt.cfg, func(t *testing.T, err error) {
				wantConnect(t, err, tt.hint, tt.cause, tt.refused)
			})
		})
	}
}

// poolOf reads a CA for a tls.Config that is handed in.
func poolOf(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		t.Fatalf("%s holds no certificate", file)
	}
	return pool
}
