package kafkax_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
)

// One client lives through the rotation of its certificate, key, CA bundle and
// password file, on listeners that check them: a file that is wrong at first
// and then right is enough to get in, and one that is replaced while messages
// are handled stops none of them.
func TestSecurity_Real_FilesAreReadAgain(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	tests := []struct {
		name     string
		listener kafkatest.Listener
		good     map[string]string // by the name of the file: where its right content is
		bad      map[string]string
		options  func(dir string) []kafkax.ConsumerOption
		refused  error // what Ping says with the wrong files
	}{
		{
			name:     "client_certificate",
			listener: kafkatest.SSL,
			good:     map[string]string{"ca": cluster.CAFile, "cert": cluster.CertFile, "key": cluster.KeyFile},
			bad:      map[string]string{"ca": cluster.CAFile, "cert": cluster.OtherCertFile, "key": cluster.OtherKeyFile},
			options: func(dir string) []kafkax.ConsumerOption {
				return []kafkax.ConsumerOption{
					kafkax.WithConsumerTLSEnabled(true), kafkax.WithConsumerTLSCAFile(filepath.Join(dir, "ca")),
					kafkax.WithConsumerTLSCertFile(filepath.Join(dir, "cert")), kafkax.WithConsumerTLSKeyFile(filepath.Join(dir, "key")),
				}
			},
			refused: kafkax.ErrAuthentication,
		},
		{
			name:     "ca_and_password",
			listener: kafkatest.SASLSSL,
			good:     map[string]string{"ca": cluster.CAFile, "password": write(t, kafkatest.Password+"\n")},
			bad:      map[string]string{"ca": cluster.OtherCAFile, "password": write(t, "an old one")},
			options: func(dir string) []kafkax.ConsumerOption {
				return []kafkax.ConsumerOption{
					kafkax.WithConsumerTLSEnabled(true), kafkax.WithConsumerTLSCAFile(filepath.Join(dir, "ca")),
					kafkax.WithConsumerSASLMechanism(kafkax.SASLScramSHA512), kafkax.WithConsumerSASLUsername(kafkatest.User),
					kafkax.WithConsumerSASLPasswordFile(filepath.Join(dir, "password")),
				}
			},
			refused: kafkax.ErrAuthentication,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := realBroker(t, cluster, 1)
			dir := t.TempDir()
			install(t, dir, tt.bad)
			opts := append(tt.options(dir), kafkax.WithConsumerBrokers(cluster.Addrs(tt.listener)...))
			c := b.consumer(t, kafkatest.Name(t), opts...)
			if err := c.Ping(testContext(t)); !errors.Is(err, tt.refused) {
				t.Fatalf("with the wrong files: %v, want %v", err, tt.refused)
			}
			install(t, dir, tt.good)
			if err := c.Ping(testContext(t)); err != nil {
				t.Fatalf("with the right files, in the same client: %v", err)
			}

			b.produce(t, numbered(1, 10)...)
			j := newJournal()
			began, goOn := make(chan struct{}, 100), make(chan struct{})
			stop := run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
					began <- struct{}{}
					<-goOn
					j.add(m)
					return nil
				})
			})
			<-began
			// In the middle of a handler: garbage, as a half-written rotation is,
			// then the right files again, newly written.
			garbage := map[string]string{}
			for name := range tt.good {
				garbage[name] = write(t, "half of a fi")
			}
			install(t, dir, garbage)
			close(goOn)
			eventually(t, "what was fetched to be handled", func() bool { return j.len() == 10 })
			b.produce(t, &kgo.Record{Value: []byte("0/10")})
			eventually(t, "what came during the rotation", func() bool { return j.len() == 11 })
			install(t, dir, tt.good)
			if err := c.Ping(testContext(t)); err != nil {
				t.Errorf("after the rotation: %v", err)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			if d := j.duplicates(); d != nil {
				t.Errorf("handled twice: %v", d)
			}
		})
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// install copies files into dir, each in one step as a rotation should.
func install(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, from := range files {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		next := filepath.Join(dir, name+".next")
		if err := os.WriteFile(next, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}
