package kafkax

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/xdg-go/scram"
)

// material is something made from files: a tls.Config, a SASL mechanism. It is
// made anew when what the files hold has changed. The contents are compared,
// not the times: a dial costs far more than reading three small files, and a
// rotation within the clock's resolution is not missed.
type material[T any] struct {
	files configFiles
	parse func(contents map[string][]byte) (T, error)
	log   *loggers

	// turn is held while files are read, so that a file system which hangs
	// holds one goroutine and not one for each dial.
	turn chan struct{}

	mu       sync.Mutex // is not held while files are read
	made     bool
	contents map[string]Secret // what value was made from
	value    func() T          // behind a function, so that nothing prints it
	problem  string            // the one logged last, so that each is logged once
	warned   map[string]bool   // keys of files that others may write
}

// fixed is material that was handed in ready made.
func fixed[T any](value T) *material[T] {
	return &material[T]{made: true, value: func() T { return value }}
}

func newMaterial[T any](files configFiles, parse func(contents map[string][]byte) (T, error), log *loggers) *material[T] {
	return &material[T]{files: files, parse: parse, log: log, turn: make(chan struct{}, 1), warned: make(map[string]bool)}
}

// staleAfter is how long a dial waits for files whose last contents it could go
// on with.
const staleAfter = time.Second

// load returns what the files hold now. Half a rotation (a new certificate
// beside the old key, a file that is gone for a moment) must not cut off a
// client that could go on with what it has, so once there is a good value, a
// problem is logged and the good value stays. Before that it is returned: a
// *ConfigError, or several joined.
//
// It blocks until the files are read, until ctx ends, or until staleAfter has
// passed where there is a good value.
func (m *material[T]) load(ctx context.Context) (T, error) {
	value, made := m.current()
	if made && len(m.files) == 0 {
		return value, nil
	}
	outer := ctx
	if made {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, staleAfter)
		defer cancel()
	}
	late := func() (T, error) {
		if made && outer.Err() != nil {
			return value, nil //nolint:nilerr // nobody waits for it, so there is nothing to complain of
		}
		return m.take(filesRead{err: m.files.unread(context.Cause(ctx))})
	}
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return late()
	}
	reading := m.files.read()
	select {
	case read := <-reading:
		defer func() { <-m.turn }()
		return m.take(read)
	case <-ctx.Done():
		go func() { // ends with the file system's answer
			<-reading
			<-m.turn
		}()
		return late()
	}
}

func (m *material[T]) current() (value T, made bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.made {
		value = m.value()
	}
	return value, m.made
}

// take makes the value of what was read, unless it is what the last one was
// made of.
func (m *material[T]) take(read filesRead) (T, error) {
	value, complaint, err := m.update(read)
	for _, key := range slices.Sorted(maps.Keys(read.risks)) {
		if m.warnOf(key) {
			m.log.warn("others may write a file that this client trusts", logAttrs{slog.String("key", key), slog.String("risk", read.risks[key])})
		}
	}
	if complaint != nil {
		m.log.fail("files changed and cannot be used; what was read before stays in use", logAttrs{}.err(complaint))
	}
	return value, err
}

// update returns as complaint what stood in the way of a new value, unless that
// was said before.
func (m *material[T]) update(read filesRead) (value T, complaint, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err = read.err
	contents := make(map[string]Secret, len(read.contents))
	for key, content := range read.contents {
		contents[key] = NewSecret(string(content))
	}
	if err == nil && m.made && maps.Equal(contents, m.contents) {
		m.problem = ""
		return m.value(), nil, nil
	}
	if err == nil {
		value, err = m.parse(read.contents)
	}
	switch {
	case err == nil:
		fresh := value
		m.made, m.contents, m.value, m.problem = true, contents, func() T { return fresh }, ""
	case !m.made:
		return value, nil, err
	case m.problem != err.Error():
		m.problem, complaint = err.Error(), err
	}
	return m.value(), complaint, nil
}

// warnOf is true the first time.
func (m *material[T]) warnOf(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := !m.warned[key]
	m.warned[key] = true
	return first
}

// The keys of the files, as [ConfigError] names them.
const (
	keyCAFile       = "tls.ca_file"
	keyCertFile     = "tls.cert_file"
	keyKeyFile      = "tls.key_file"
	keyPassword     = "sasl.password"
	keyPasswordFile = "sasl.password_file"
)

// newMaterials reads the files for the first time, for at most dial_timeout. A
// nil config is a plaintext client, a nil mechanism one without SASL. The error
// is a *ConfigError, or several joined.
func newMaterials(cfg ConnectionConfig, log *loggers) (config *material[*tls.Config], mechanism *material[sasl.Mechanism], err error) {
	ctx := context.Background()
	if cfg.DialTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.DialTimeout, errDialTimeout)
		defer cancel()
	}
	config, tlsErr := newTLSMaterial(ctx, cfg, log)
	mechanism, saslErr := newSASLMaterial(ctx, cfg, log)
	return config, mechanism, errors.Join(tlsErr, saslErr)
}

func newTLSMaterial(ctx context.Context, cfg ConnectionConfig, log *loggers) (*material[*tls.Config], error) {
	var m *material[*tls.Config]
	switch {
	case cfg.tlsConfig != nil:
		m = fixed(cfg.tlsConfig().Clone())
	case cfg.TLS.Enabled:
		m = newMaterial(cfg.TLS.files(), cfg.TLS.parse, log)
	default:
		return nil, nil
	}
	first, err := m.load(ctx)
	if err != nil {
		return nil, err
	}
	if first.InsecureSkipVerify {
		log.warn("tls.insecure_skip_verify: whoever answers on a broker's address is trusted; do not use this in production", nil)
	}
	return m, nil
}

func (c TLSConfig) files() configFiles {
	files := configFiles{
		{key: keyCAFile, path: c.CAFile},
		{key: keyCertFile, path: c.CertFile},
		{key: keyKeyFile, path: c.KeyFile},
	}
	return slices.DeleteFunc(files, func(f configFile) bool { return f.path == "" })
}

func (c TLSConfig) parse(contents map[string][]byte) (*tls.Config, error) {
	var problems []error
	bad := func(key, rule string, err error) {
		problems = append(problems, &ConfigError{Key: key, Rule: rule, Err: err})
	}
	out := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // asked for by its key, off by default, and warned about
	}
	if c.CAFile != "" {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(contents[keyCAFile]) {
			bad(keyCAFile, "must hold at least one certificate in PEM", nil)
		}
	}
	switch {
	case c.CertFile == "" && c.KeyFile == "":
	case c.KeyFile == "":
		bad(keyCertFile, "needs "+keyKeyFile+" too", nil)
	case c.CertFile == "":
		bad(keyKeyFile, "needs "+keyCertFile+" too", nil)
	default:
		// crypto/tls says what is wrong with a pair without quoting any of it.
		pair, err := tls.X509KeyPair(contents[keyCertFile], contents[keyKeyFile])
		if err != nil {
			bad(keyCertFile, "must be a PEM certificate that matches "+keyKeyFile+": "+err.Error(), err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, errors.Join(problems...)
}

func newSASLMaterial(ctx context.Context, cfg ConnectionConfig, log *loggers) (*material[sasl.Mechanism], error) {
	var m *material[sasl.Mechanism]
	switch {
	case cfg.mechanism != nil:
		m = fixed(cfg.mechanism)
	case cfg.SASL.Mechanism == SASLNone:
		return nil, nil
	default:
		var files configFiles
		if cfg.SASL.PasswordFile != "" {
			files = configFiles{{key: keyPasswordFile, path: cfg.SASL.PasswordFile}}
		}
		m = newMaterial(files, cfg.SASL.parse, log)
	}
	if _, err := m.load(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

func (c SASLConfig) parse(contents map[string][]byte) (sasl.Mechanism, error) {
	key, password := keyPassword, c.Password.Reveal()
	if c.PasswordFile != "" {
		// Editors and shells end a file with a newline; a password has none.
		key, password = keyPasswordFile, string(contents[keyPasswordFile])
		password = strings.TrimSuffix(strings.TrimSuffix(password, "\n"), "\r")
	}

	var problems []error
	bad := func(key, rule string) {
		problems = append(problems, &ConfigError{Key: key, Rule: rule})
	}
	if c.Username == "" || strings.Contains(c.Username, "\x00") {
		bad("sasl.username", "must be set, without NUL")
	}
	if rule := passwordRule(password); rule != "" {
		bad(key, rule)
	} else if password == "" {
		bad(key, "must hold a password")
	}

	var mechanism sasl.Mechanism
	var err error
	switch c.Mechanism {
	case SASLPlain:
		mechanism = plain.Mechanism{Username: c.Username, Password: password}
	case SASLScramSHA256:
		mechanism, err = newSCRAM(c.Mechanism, scram.SHA256, c.Username, password)
	case SASLScramSHA512:
		mechanism, err = newSCRAM(c.Mechanism, scram.SHA512, c.Username, password)
	default:
		bad("sasl.mechanism", fmt.Sprintf("must be %s, %s or %s", SASLPlain, SASLScramSHA256, SASLScramSHA512))
	}
	if err != nil && passwordRule(password) == "" {
		// The cause is left out: it may quote what it rejects.
		bad(key, "user name and password must be valid for SCRAM (SASLprep, RFC 4013)")
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return mechanism, nil
}
