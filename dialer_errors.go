package kafkax

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"syscall"

	"github.com/segmentio/kafka-go"
)

// The steps of a connection, in order.
const (
	stepConnect      = "connect"
	stepTLS          = "TLS handshake"
	stepGreet        = "first request"
	stepHandshake    = "SASL handshake"
	stepCredentials  = "SASL credentials"
	stepAuthenticate = "authentication"
	stepVerify       = "SASL verification of the broker"
	stepProve        = "first request after the handshake"
)

// newConnectError finds out what an error means at this step. It goes by types
// and codes, never by an error's text.
func newConnectError(broker, step string, err error) *ConnectError {
	e := &ConnectError{Broker: broker, Step: step, Err: err}
	var (
		verification *tls.CertificateVerificationError
		plaintext    tls.RecordHeaderError
		dns          *net.DNSError
		network      net.Error
	)
	code, isCode := kafkaCode(err)
	alert, isAlert := remoteAlert(err)
	switch {
	case errors.As(err, &verification):
		e.Hint, e.refused = certificateHint(verification.Err), true
	case errors.As(err, &plaintext), errors.Is(err, io.EOF) && step == stepTLS:
		e.Hint = "this port does not speak TLS: check tls.enabled and the port"
	case isAlert:
		e.Hint, e.refused = alertHint(alert)
	case isCode:
		e.Hint, e.refused = codeHint(code), refusal(code) != nil
	case errors.Is(err, errSpeaksTLS):
		e.Hint = "this port speaks TLS: set tls.enabled"
	case errors.Is(err, errNotKafka):
		e.Hint = "this is not a Kafka port"
	case errors.As(err, &dns):
		e.Hint = "the host name cannot be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Hint = "nothing listens on this port"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout():
		e.Hint = "no answer within dial_timeout or the caller's deadline"
		if step == stepTLS {
			e.Hint += "; this port may not speak TLS"
		}
	case isHangup(err):
		e.Hint, e.refused = hangupHint(step)
	case step == stepVerify:
		e.Hint, e.refused = "the broker does not know this password, or the mechanism failed", true
	}
	return e
}

func hangupHint(step string) (hint string, refused bool) {
	switch step {
	case stepTLS:
		return "the broker hung up; this port may not speak TLS", false
	case stepGreet:
		return "the broker hung up; this port may want TLS (tls.enabled) or a client certificate (tls.cert_file)", false
	case stepProve:
		return "the broker hung up; unless sasl.mechanism is set, this port may want it", false
	case stepAuthenticate:
		// It did so twice, see open.
		return "the broker hung up on these credentials: check sasl.username and the password", true
	}
	return "the broker hung up", false
}

func codeHint(code kafka.Error) string {
	switch code {
	case kafka.SASLAuthenticationFailed:
		return "check sasl.username, the password, and that the user has credentials for this mechanism"
	case kafka.UnsupportedSASLMechanism:
		return "the broker does not offer this sasl.mechanism"
	case kafka.IllegalSASLState:
		return "this port does not use SASL: check sasl.mechanism and the port"
	}
	return ""
}

func certificateHint(err error) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return "the broker's certificate is signed by a CA this client does not trust: check tls.ca_file"
	case errors.As(err, &hostname):
		return "the broker's certificate is for other names: check the address or tls.server_name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the broker's certificate is expired or not valid yet"
	}
	return "the broker's certificate is not valid"
}

// remoteAlert returns the TLS alert that the peer sent, by its number in
// RFC 8446. crypto/tls has no exported type for it outside QUIC, but marks it
// by this Op and keeps the number as the value.
func remoteAlert(err error) (code uint64, ok bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return 0, false
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return v.Uint(), true
	}
	return 0, false
}

func alertHint(code uint64) (hint string, refused bool) {
	switch code {
	case 116: // certificate_required
		return "the broker wants a client certificate: set tls.cert_file and tls.key_file", true
	case 42, 43, 44, 45, 46, 48, 49: // bad, unsupported, revoked, expired or unknown certificate, unknown CA, access denied
		return "the broker refused the client certificate, or misses one: check tls.cert_file and tls.key_file", true
	case 40: // handshake_failure
		return "the broker refused the TLS handshake: it may want a client certificate (tls.cert_file)", true
	case 70: // protocol_version
		return "the broker speaks no TLS version that this client does (1.2 and up)", false
	}
	return "the broker refused the TLS handshake", false
}
