package kafkatest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"testing"

	"github.com/bi-common/kafkax/internal/kafkatest"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

func TestListeners(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	var (
		trusting  = tlsConfig(t, cluster.CAFile, "", "")
		certified = tlsConfig(t, cluster.CAFile, cluster.CertFile, cluster.KeyFile)
		stranger  = tlsConfig(t, cluster.CAFile, cluster.OtherCertFile, cluster.OtherKeyFile)
		doubting  = tlsConfig(t, cluster.OtherCAFile, cluster.CertFile, cluster.KeyFile)

		refused   = func(err error) bool { return errors.Is(err, kafka.SASLAuthenticationFailed) }
		untrusted = func(err error) bool { return errors.As(err, new(*tls.CertificateVerificationError)) }
		some      = func(err error) bool { return err != nil }
		none      = func(err error) bool { return err == nil }
	)
	tests := []struct {
		name      string
		listener  kafkatest.Listener
		mechanism sasl.Mechanism
		tls       *tls.Config
		want      func(error) bool
	}{
		{"plaintext", kafkatest.Plaintext, nil, nil, none},
		{"plain", kafkatest.SASLPlaintext, plainAs(kafkatest.User, kafkatest.Password), nil, none},
		{"plain as guest", kafkatest.SASLPlaintext, plainAs(kafkatest.Guest, kafkatest.Password), nil, none},
		{"plain with a wrong password", kafkatest.SASLPlaintext, plainAs(kafkatest.User, "wrong"), nil, refused},
		{"scram 256", kafkatest.SASLPlaintext, scramAs(t, scram.SHA256, kafkatest.User), nil, none},
		{"scram 512", kafkatest.SASLPlaintext, scramAs(t, scram.SHA512, kafkatest.Guest), nil, none},
		{"scram as nobody", kafkatest.SASLPlaintext, scramAs(t, scram.SHA512, "nobody"), nil, refused},
		{"sasl listener without sasl", kafkatest.SASLPlaintext, nil, nil, some},
		{"mutual tls", kafkatest.SSL, nil, certified, none},
		{"mutual tls without a certificate", kafkatest.SSL, nil, trusting, some},
		{"mutual tls with a stranger's certificate", kafkatest.SSL, nil, stranger, some},
		{"mutual tls with another ca", kafkatest.SSL, nil, doubting, untrusted},
		{"plain over tls", kafkatest.SASLSSL, plainAs(kafkatest.User, kafkatest.Password), trusting, none},
		{"scram 256 over tls", kafkatest.SASLSSL, scramAs(t, scram.SHA256, kafkatest.Guest), trusting, none},
		{"scram 512 over tls", kafkatest.SASLSSL, scramAs(t, scram.SHA512, kafkatest.User), trusting, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dialer := &kafka.Dialer{SASLMechanism: tt.mechanism, TLS: tt.tls}
			if err := roundTrip(t, dialer, cluster.Addrs(tt.listener)[0]); !tt.want(err) {
				t.Errorf("got error %v", err)
			}
		})
	}
}

func TestDeny(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	topic := cluster.Topic(t, 1)

	cluster.Deny(t, topic)

	for user, want := range map[string]error{kafkatest.User: nil, kafkatest.Guest: kafka.TopicAuthorizationFailed} {
		dialer := &kafka.Dialer{SASLMechanism: plainAs(user, kafkatest.Password)}
		if err := roundTrip(t, dialer, cluster.Addrs(kafkatest.SASLPlaintext)[0], topic); !errors.Is(err, want) {
			t.Errorf("%s: got error %v, want %v", user, err, want)
		}
	}
	produce(t, cluster, topic, "anonymous")
}

// roundTrip connects and asks for metadata: with TLS 1.3 the broker refuses a
// client certificate only after the handshake.
func roundTrip(t *testing.T, dialer *kafka.Dialer, addr string, topics ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	_, err = conn.ReadPartitions(topics...)
	return err
}

func plainAs(user, password string) sasl.Mechanism {
	return plain.Mechanism{Username: user, Password: password}
}

func scramAs(t *testing.T, algorithm scram.Algorithm, user string) sasl.Mechanism {
	t.Helper()
	mechanism, err := scram.Mechanism(algorithm, user, kafkatest.Password)
	if err != nil {
		t.Fatal(err)
	}
	return mechanism
}

func tlsConfig(t *testing.T, caFile, certFile, keyFile string) *tls.Config {
	t.Helper()
	ca, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(ca) {
		t.Fatalf("%s holds no certificate", caFile)
	}
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config
}
