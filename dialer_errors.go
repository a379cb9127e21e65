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
	stepTurn         = "wait for other handshakes"
	stepTLS          = "TLS handshake"
	stepGreet        = "first request"
	stepHandshake    = "SASL handshake"
	stepCredentials  = "SASL credentials"
	stepAuthenticate = "authentication"
	stepVerify       = "SASL verification of the broker"
	stepProve        = "first request after the handshake"
)

// configured is what hints must know of the configuration, so that none says to
// set what is set. Of what was injected, the keys have no say.
type configured struct {
	tls, tlsInjected             bool
	authorities, own, serverName bool // CAs, a client certificate, the broker's name
	sasl, saslInjected           bool
	passwordKey                  string
	dialInjected                 bool
}

func newConfigured(cfg ConnectionConfig) configured {
	c := configured{
		tls:         cfg.TLS.Enabled,
		authorities: cfg.TLS.CAFile != "",
		own:         cfg.TLS.CertFile != "",
		serverName:  cfg.TLS.ServerName != "",
		sasl:        cfg.SASL.Mechanism != SASLNone,
		passwordKey: keyPassword,

		dialInjected: cfg.dial != nil,
	}
	if cfg.SASL.PasswordFile != "" {
		c.passwordKey = keyPasswordFile
	}
	if cfg.tlsConfig != nil {
		in := cfg.tlsConfig()
		c.tls, c.tlsInjected = true, true
		c.authorities, c.serverName = in.RootCAs != nil, in.ServerName != ""
		c.own = len(in.Certificates) > 0 || in.GetClientCertificate != nil
	}
	if cfg.mechanism != nil {
		c.sasl, c.saslInjected = true, true
	}
	return c
}

// diagnose finds out what an error means at this step. It goes by types and
// codes, never by an error's text. A refusal is what the broker answered, or
// what this end found in its answer (a certificate, the proof of SCRAM);
// everything else may be better at the next try.
func (c configured) diagnose(broker, step string, err error) *ConnectError {
	e := &ConnectError{Broker: broker, Step: step, Err: err}
	var (
		verification *tls.CertificateVerificationError
		plaintext    tls.RecordHeaderError
		dns          *net.DNSError
		network      net.Error
		panicked     *PanicError
	)
	code, isCode := kafkaCode(err)
	alert, isAlert := remoteAlert(err)
	switch {
	case errors.As(err, &panicked), errors.Is(err, errGoexit):
		e.Hint = "code that was given by option (" + c.injected(step) + ") failed"
	case step == stepConnect && c.dialInjected:
		e.Hint = c.dialFailed(err)
	case errors.As(err, &verification):
		e.Hint, e.refused = c.certificate(verification.Err), true
	case errors.As(err, &plaintext), errors.Is(err, io.EOF) && step == stepTLS:
		e.Hint = "this port does not speak TLS: check " + c.tlsKey() + " and the port"
	case isAlert:
		e.Hint, e.refused = c.alert(alert)
	case isCode:
		e.Hint, e.refused = c.code(code), refusal(code) != nil
	case errors.Is(err, errUnproven):
		e.Hint, e.refused = "the broker does not know this password", true
	case errors.Is(err, errIterations):
		e.Hint, e.refused = "check who answers at this address, and make the user's credentials anew", true
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
		e.Hint = c.timeout(step, errors.Is(err, errDialTimeout))
	case isHangup(err):
		e.Hint = c.hangup(step)
	case (step == stepCredentials || step == stepVerify) && c.saslInjected:
		e.Hint = "the SASL mechanism that was given by option failed"
	}
	return e
}

// dialFailed is for a dial that is the caller's, whose errors are its own.
func (c configured) dialFailed(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return c.timeout(stepConnect, errors.Is(err, errDialTimeout))
	}
	return "the dial that was given by option failed"
}

// injected names the code of the caller's that runs at a step.
func (c configured) injected(step string) string {
	switch step {
	case stepConnect:
		return "the dial"
	case stepTLS:
		return "a callback of the TLS configuration"
	}
	return "the SASL mechanism"
}

// tlsKey is what turned TLS on.
func (c configured) tlsKey() string {
	if c.tlsInjected {
		return "the option that gave a TLS configuration"
	}
	return "tls.enabled"
}

// certificateKey is what gave the client certificate.
func (c configured) certificateKey() string {
	if c.tlsInjected {
		return "the TLS configuration that was given by option"
	}
	return keyCertFile
}

func (c configured) timeout(step string, ours bool) string {
	hint := "no answer before the caller's deadline"
	if ours {
		hint = "no answer within dial_timeout"
	}
	switch {
	case step == stepTurn:
		return "earlier handshakes have not returned: does a callback of the TLS configuration or the SASL mechanism block?"
	case step == stepConnect && c.dialInjected:
		return "the dial that was given by option has not returned in time"
	case step == stepTLS && c.tlsInjected:
		return hint + "; this port may not speak TLS, or a callback of the TLS configuration blocks"
	case step == stepTLS:
		return hint + "; this port may not speak TLS"
	case (step == stepCredentials || step == stepVerify) && c.saslInjected:
		return "the SASL mechanism that was given by option has not returned"
	}
	return hint
}

func (c configured) hangup(step string) string {
	const hint = "the broker hung up"
	switch {
	case step == stepTLS:
		return hint + "; this port may not speak TLS"
	case step == stepGreet && !c.tls:
		return hint + "; this port may want TLS: set tls.enabled"
	case step == stepGreet && !c.own:
		return hint + "; this port may want a client certificate: " + c.setCertificate()
	case step == stepGreet:
		return hint + "; it may not accept the client certificate of " + c.certificateKey()
	case step == stepProve && !c.sasl:
		return hint + "; this port may want SASL: set sasl.mechanism"
	case step == stepAuthenticate:
		return hint + ": it may be going down, or refuse credentials so: if it goes on, " + c.checkCredentials()
	}
	return hint
}

func (c configured) setCertificate() string {
	if c.tlsInjected {
		return "add one to the TLS configuration that was given by option"
	}
	return "set tls.cert_file and tls.key_file"
}

func (c configured) checkCredentials() string {
	if c.saslInjected {
		return "check the credentials of the SASL mechanism that was given by option"
	}
	return "check sasl.username, " + c.passwordKey + ", and that the user has credentials for this mechanism"
}

func (c configured) code(code kafka.Error) string {
	switch {
	case code == kafka.SASLAuthenticationFailed:
		return c.checkCredentials()
	case code == kafka.UnsupportedSASLMechanism && c.saslInjected:
		return "the broker does not offer this mechanism, which was given by option in place of sasl.mechanism"
	case code == kafka.UnsupportedSASLMechanism:
		return "the broker does not offer this sasl.mechanism"
	case code == kafka.IllegalSASLState && c.saslInjected:
		return "this port does not use SASL, and a mechanism was given by option: check the port"
	case code == kafka.IllegalSASLState:
		return "this port does not use SASL: check sasl.mechanism and the port"
	}
	return ""
}

func (c configured) certificate(err error) string {
	var (
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority) && c.tlsInjected:
		return "the broker's certificate is not signed by a CA that the TLS configuration given by option trusts"
	case errors.As(err, &authority) && c.authorities:
		return "the broker's certificate is not signed by a CA in tls.ca_file"
	case errors.As(err, &authority):
		return "the broker's certificate is signed by a CA that this system does not trust: set tls.ca_file"
	case errors.As(err, &hostname) && c.serverName:
		return "the broker's certificate is for other names than tls.server_name"
	case errors.As(err, &hostname):
		return "the broker's certificate is for other names than this address: check that, or set tls.server_name"
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

// alert is the meaning of a peer's alert. A client whose certificate is of no CA
// that the broker names sends none, so the broker misses one that is set.
func (c configured) alert(code uint64) (hint string, refused bool) {
	refusedIt := "the broker refused the client certificate of " + c.certificateKey()
	switch code {
	case 40, 42, 43, 44, 45, 46, 48, 49, 116:
		refused = true
	case 70: // protocol_version
		return "the broker speaks no TLS version that this client does (1.2 and up)", false
	default:
		return "the broker refused the TLS handshake", false
	}
	switch {
	case code == 40 && !c.own: // handshake_failure
		return "the broker refused the TLS handshake: it may want a client certificate: " + c.setCertificate(), refused
	case !c.own:
		return "the broker wants a client certificate: " + c.setCertificate(), refused
	case code == 40:
		return "the broker refused the TLS handshake: it may accept no certificate of the CA that signed that of " + c.certificateKey(), refused
	case code == 44: // certificate_revoked
		return refusedIt + ": it is revoked", refused
	case code == 45: // certificate_expired
		return refusedIt + ": it is expired or not valid yet", refused
	case code == 48: // unknown_ca
		return refusedIt + ": it is not signed by a CA that the broker trusts", refused
	case code == 42, code == 116: // bad_certificate, certificate_required
		return refusedIt + ", or was sent none because it accepts none of the CA that signed it", refused
	}
	return refusedIt, refused // unsupported_certificate, certificate_unknown, access_denied
}
