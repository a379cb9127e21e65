package kafkax

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// unreadable are files that no client may hang on, or fill its memory with. The
// result is a path in dir.
var unreadable = map[string]struct {
	put  func(t *testing.T, path string)
	rule string
}{
	"missing": {func(*testing.T, string) {}, "cannot be read: no such file"},
	"pipe": {func(t *testing.T, path string) {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}, "must be a regular file"},
	"directory": {func(t *testing.T, path string) {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}, "must be a regular file"},
	"device": {func(t *testing.T, path string) {
		if err := os.Symlink("/dev/zero", path); err != nil {
			t.Fatal(err)
		}
	}, "must be a regular file"},
	"100 MB": {func(t *testing.T, path string) {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := errors.Join(f.Chmod(0o600), f.Truncate(100<<20)); err != nil {
			t.Fatal(err)
		}
	}, "at most 1 MiB"},
	"1 MiB and a byte": {func(t *testing.T, path string) {
		writeTestFile(t, path, bytes.Repeat([]byte("x"), maxFileBytes+1))
	}, "at most 1 MiB"},
}

// withFile is a configuration of which key names path, and the other files are
// good ones.
func withFile(t *testing.T, key, path string) ConnectionConfig {
	t.Helper()
	ca := newTestCA(t)
	certFile, keyFile := pairFiles(t, ca.issue(t, forClientOne))
	cfg := ConnectionConfig{
		TLS:  TLSConfig{Enabled: true, CAFile: ca.file(t), CertFile: certFile, KeyFile: keyFile},
		SASL: SASLConfig{Mechanism: SASLPlain, Username: "alice", PasswordFile: writeTestFile(t, filepath.Join(t.TempDir(), "password"), []byte("right"))},
	}
	fields := map[string]*string{
		keyCAFile: &cfg.TLS.CAFile, keyCertFile: &cfg.TLS.CertFile, keyKeyFile: &cfg.TLS.KeyFile, keyPasswordFile: &cfg.SASL.PasswordFile,
	}
	*fields[key] = path
	return cfg
}

func TestC1_FilesThatCannotBeReadAreRefused(t *testing.T) {
	t.Parallel()
	for _, key := range []string{keyCAFile, keyCertFile, keyKeyFile, keyPasswordFile} {
		for name, bad := range unreadable {
			t.Run(key+"/"+name, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "file")
				bad.put(t, path)
				d, err := newDialer(withFile(t, key, path), 0, newLoggers(nil, nil))
				var problem *ConfigError
				if d != nil || !errors.As(err, &problem) || problem.Key != key || !strings.Contains(problem.Rule, bad.rule) {
					t.Errorf("got %v, want %s: %s", err, key, bad.rule)
				}
			})
		}
	}
}

// A file that becomes one later does not end what could go on, and the log says
// so once.
func TestSecurity_FilesThatCannotBeReadLater(t *testing.T) {
	t.Parallel()
	for _, key := range []string{keyCAFile, keyCertFile, keyKeyFile, keyPasswordFile} {
		for name, bad := range unreadable {
			t.Run(key+"/"+name, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "file")
				cfg := withFile(t, key, path)
				ca := newTestCA(t)
				certFile, keyFile := pairFiles(t, ca.issue(t, forClientOne))
				from := map[string]string{keyCAFile: ca.file(t), keyCertFile: certFile, keyKeyFile: keyFile}[key]
				switch key {
				case keyCAFile:
				case keyPasswordFile:
					from = writeTestFile(t, filepath.Join(t.TempDir(), "password"), []byte("right"))
				default: // the two belong together
					cfg.TLS.CertFile, cfg.TLS.KeyFile = certFile, keyFile
					*map[string]*string{keyCertFile: &cfg.TLS.CertFile, keyKeyFile: &cfg.TLS.KeyFile}[key] = path
				}
				content, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				writeTestFile(t, path, content)
				if key != keyCAFile {
					cfg.TLS.CAFile = ca.file(t)
				}
				opts := []kfake.Opt{
					kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(t, forBroker)}, ClientCAs: ca.pool()}),
					kfake.EnableSASL(), kfake.Superuser("PLAIN", "alice", "right"),
				}
				cfg.Brokers = fakeCluster(t, opts...).ListenAddrs()
				var log logBuffer
				d := newTestDialer(t, cfg, log.loggers())
				if err := d.ping(testContext(t)); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				bad.put(t, path)
				for range 3 {
					if err := d.ping(testContext(t)); err != nil {
						t.Fatal(err)
					}
				}
				if lines := log.all(); len(lines) != 1 || !strings.Contains(lines[0], key) || !strings.Contains(lines[0], bad.rule) {
					t.Errorf("want one line about %s: %q", key, lines)
				}
			})
		}
	}
}

// A file system that hangs holds the turn; nobody may wait for it for long.
func TestD13_FileSystemThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		files := configFiles{{key: keyPasswordFile, path: "/none"}}
		var log logBuffer
		m := newMaterial(files, func(map[string][]byte) (string, error) { return "new", nil }, log.loggers())
		m.turn <- struct{}{}

		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errDialTimeout)
		defer cancel()
		began := time.Now()
		_, err := m.load(ctx)
		var problem *ConfigError
		if !errors.As(err, &problem) || problem.Key != keyPasswordFile || !errors.Is(err, errDialTimeout) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v", took)
		}

		m.made, m.value = true, func() string { return "old" }
		for range 3 {
			began = time.Now()
			if value, err := m.load(t.Context()); value != "old" || err != nil {
				t.Errorf("with a good value: got %q, %v", value, err)
			}
			if took := time.Since(began); took != staleAfter {
				t.Errorf("took %v, want %v", took, staleAfter)
			}
		}
		if lines := log.all(); len(lines) != 1 || !strings.Contains(lines[0], "file system") {
			t.Errorf("want it said once: %q", lines)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if value, err := m.load(gone); value != "old" || err != nil {
			t.Errorf("got %q, %v", value, err)
		}
	})
}

func TestSecurity_FilesOpenToOthersAreWarnedOfOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		key  string
		mode os.FileMode
		want string // "": no line
	}{
		{keyPasswordFile, 0o600, ""},
		{keyPasswordFile, 0o440, ""},
		{keyPasswordFile, 0o644, ""},
		{keyPasswordFile, 0o666, "may write it (mode 0666)"},
		{keyPasswordFile, 0o620, "may write it (mode 0620)"},
		{keyKeyFile, 0o604, ""},
		{keyKeyFile, 0o666, "may write it (mode 0666)"},
		{keyCAFile, 0o644, ""},
		{keyCAFile, 0o666, "may write it (mode 0666)"},
		{keyCertFile, 0o644, ""},
		{keyCertFile, 0o664, "may write it (mode 0664)"},
	}
	for _, tt := range tests {
		t.Run(tt.key+"/"+tt.mode.String(), func(t *testing.T) {
			t.Parallel()
			cfg := withFile(t, tt.key, "")
			ca := newTestCA(t)
			cfg.TLS.CAFile = ca.file(t)
			cfg.TLS.CertFile, cfg.TLS.KeyFile = pairFiles(t, ca.issue(t, forClientOne))
			cfg.SASL.PasswordFile = writeTestFile(t, filepath.Join(t.TempDir(), "password"), []byte("right"))
			path := map[string]string{
				keyCAFile: cfg.TLS.CAFile, keyCertFile: cfg.TLS.CertFile, keyKeyFile: cfg.TLS.KeyFile, keyPasswordFile: cfg.SASL.PasswordFile,
			}[tt.key]
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			var log logBuffer
			d, err := newDialer(cfg, 0, log.loggers())
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			for range 2 {
				_, tlsErr := d.connector.tls.load(t.Context())
				_, saslErr := d.connector.mechanism.load(t.Context())
				if err := errors.Join(tlsErr, saslErr); err != nil {
					t.Fatal(err)
				}
			}
			lines := log.all()
			if tt.want == "" {
				if len(lines) != 0 {
					t.Errorf("got %q", lines)
				}
				return
			}
			if len(lines) != 1 || !strings.Contains(lines[0], tt.key) || !strings.Contains(lines[0], tt.want) {
				t.Errorf("got %q, want one line with %q", lines, tt.want)
			}
		})
	}
}
