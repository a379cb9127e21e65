package kafkax

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// material is something made from files: a tls.Config, a SASL mechanism. It is
// made anew when what the files hold has changed. The contents are compared,
// not the times: a dial costs far more than reading three small files, and a
// rotation within the clock's resolution is not missed.
type material[T any] struct {
	files map[string]string // path by configuration key
	parse func(contents map[string][]byte) (T, error)
	log   *loggers

	mu       sync.Mutex
	made     bool
	contents map[string][]byte // what value was made from
	value    T
	problem  string // the one logged last, so that each is logged once
}

// fixed is material that was handed in ready made.
func fixed[T any](value T) *material[T] {
	return &material[T]{made: true, value: value}
}

// load returns what the files hold now. Half a rotation (a new certificate
// beside the old key, a file that is gone for a moment) must not cut off a
// client that could go on with what it has, so once there is a good value, a
// problem is logged and the good value stays. Before that it is returned: a
// *ConfigError, or several joined.
func (m *material[T]) load() (T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	contents, err := m.read()
	if err == nil && m.made && maps.EqualFunc(contents, m.contents, bytes.Equal) {
		m.problem = ""
		return m.value, nil
	}
	var value T
	if err == nil {
		value, err = m.parse(contents)
	}
	switch {
	case err == nil:
		m.made, m.contents, m.value, m.problem = true, contents, value, ""
	case !m.made:
		return value, err
	case m.problem != err.Error():
		m.problem = err.Error()
		m.log.fail("files changed and cannot be used; what was read before stays in use", logAttrs{}.err(err))
	}
	return m.value, nil
}

func (m *material[T]) read() (map[string][]byte, error) {
	if len(m.files) == 0 {
		return nil, nil
	}
	var problems []error
	contents := make(map[string][]byte, len(m.files))
	for _, key := range slices.Sorted(maps.Keys(m.files)) {
		content, err := os.ReadFile(m.files[key])
		if err != nil {
			problems = append(problems, &ConfigError{
				Key: key, Value: m.files[key], Rule: "must be a readable file: " + pathless(err).Error(), Err: pathless(err),
			})
		}
		contents[key] = content
	}
	return contents, errors.Join(problems...)
}

// The keys of the files, as [ConfigError] names them.
const (
	keyCAFile       = "tls.ca_file"
	keyCertFile     = "tls.cert_file"
	keyKeyFile      = "tls.key_file"
	keyPasswordFile = "sasl.password_file"
)

// newTLSMaterial returns nil for a plaintext client.
func newTLSMaterial(cfg ConnectionConfig, log *loggers) (*material[*tls.Config], error) {
	var m *material[*tls.Config]
	switch {
	case cfg.tlsConfig != nil:
		m = fixed(cfg.tlsConfig.Clone())
	case cfg.TLS.Enabled:
		m = &material[*tls.Config]{files: cfg.TLS.files(), parse: cfg.TLS.parse, log: log}
	default:
		return nil, nil
	}
	first, err := m.load()
	if err != nil {
		return nil, err
	}
	if first.InsecureSkipVerify {
		log.warn("tls.insecure_skip_verify: whoever answers on a broker's address is trusted; do not use this in production", nil)
	}
	return m, nil
}

func (c TLSConfig) files() map[string]string {
	files := make(map[string]string)
	for key, path := range map[string]string{keyCAFile: c.CAFile, keyCertFile: c.CertFile, keyKeyFile: c.KeyFile} {
		if path != "" {
			files[key] = path
		}
	}
	return files
}

func (c TLSConfig) parse(contents map[string][]byte) (*tls.Config, error) {
	var problems []error
	bad := func(key, path, rule string, err error) {
		problems = append(problems, &ConfigError{Key: key, Value: path, Rule: rule, Err: err})
	}
	out := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // asked for by its key, off by default, and warned about
	}
	if c.CAFile != "" {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(contents[keyCAFile]) {
			bad(keyCAFile, c.CAFile, "must hold at least one certificate in PEM", nil)
		}
	}
	switch {
	case c.CertFile == "" && c.KeyFile == "":
	case c.KeyFile == "":
		bad(keyCertFile, c.CertFile, "needs "+keyKeyFile+" too", nil)
	case c.CertFile == "":
		bad(keyKeyFile, c.KeyFile, "needs "+keyCertFile+" too", nil)
	default:
		// crypto/tls says what is wrong with a pair without quoting any of it.
		pair, err := tls.X509KeyPair(contents[keyCertFile], contents[keyKeyFile])
		if err != nil {
			bad(keyCertFile, c.CertFile, "must be a PEM certificate that matches "+keyKeyFile+": "+err.Error(), err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, errors.Join(problems...)
}

// newSASLMaterial returns nil for a client that does not authenticate by SASL.
func newSASLMaterial(cfg ConnectionConfig, log *loggers) (*material[sasl.Mechanism], error) {
	var m *material[sasl.Mechanism]
	switch {
	case cfg.mechanism != nil:
		m = fixed(cfg.mechanism)
	case cfg.SASL.Mechanism == SASLNone:
		return nil, nil
	default:
		m = &material[sasl.Mechanism]{parse: cfg.SASL.parse, log: log}
		if cfg.SASL.PasswordFile != "" {
			m.files = map[string]string{keyPasswordFile: cfg.SASL.PasswordFile}
		}
	}
	if _, err := m.load(); err != nil {
		return nil, err
	}
	return m, nil
}

func (c SASLConfig) parse(contents map[string][]byte) (sasl.Mechanism, error) {
	key, password := "sasl.password", c.Password.Reveal()
	if c.PasswordFile != "" {
		// Editors and shells end a file with a newline; a password has none.
		key, password = keyPasswordFile, string(contents[keyPasswordFile])
		password = strings.TrimSuffix(strings.TrimSuffix(password, "\n"), "\r")
	}

	var problems []error
	bad := func(key, value, rule string) {
		problems = append(problems, &ConfigError{Key: key, Value: value, Rule: rule})
	}
	if c.Username == "" || strings.Contains(c.Username, "\x00") {
		bad("sasl.username", c.Username, "must be set, without NUL")
	}
	if rule := passwordRule(password); rule != "" {
		bad(key, c.PasswordFile, rule)
	} else if password == "" {
		bad(key, c.PasswordFile, "must hold a password")
	}

	var mechanism sasl.Mechanism
	var err error
	switch c.Mechanism {
	case SASLPlain:
		mechanism = plain.Mechanism{Username: c.Username, Password: password}
	case SASLScramSHA256:
		mechanism, err = scram.Mechanism(scram.SHA256, c.Username, password)
	case SASLScramSHA512:
		mechanism, err = scram.Mechanism(scram.SHA512, c.Username, password)
	default:
		bad("sasl.mechanism", string(c.Mechanism),
			fmt.Sprintf("must be %s, %s or %s", SASLPlain, SASLScramSHA256, SASLScramSHA512))
	}
	if err != nil && passwordRule(password) == "" {
		// The cause is left out: it may quote what it rejects.
		bad(key, c.PasswordFile, "user name and password must be valid for SCRAM (SASLprep, RFC 4013)")
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return hideMechanism(mechanism), nil
}
