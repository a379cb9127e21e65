package kafkax_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/bi-common/kafkax"
)

// The configuration file and those it names are judged alike.
func TestC1_APipeForAFileBlocksNobody(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]kafkax.ConsumerOption{
		"config_file":        kafkax.WithConsumerConfigFile(pipe),
		"sasl.password_file": kafkax.WithConsumerSASLPasswordFile(pipe),
		"tls.ca_file":        kafkax.WithConsumerTLSCAFile(pipe),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := []kafkax.ConsumerOption{
				kafkax.WithConsumerBrokers("localhost:1"), kafkax.WithConsumerTopic("t"), kafkax.WithConsumerGroupID("g"), opt,
			}
			switch name {
			case "sasl.password_file":
				opts = append(opts, kafkax.WithConsumerSASLMechanism(kafkax.SASLPlain), kafkax.WithConsumerSASLUsername("alice"))
			case "tls.ca_file":
				opts = append(opts, kafkax.WithConsumerTLSEnabled(true))
			}
			_, err := kafkax.NewConsumer(opts...)
			var problem *kafkax.ConfigError
			if !errors.As(err, &problem) || problem.Key != name || problem.Rule != "must be a regular file" || problem.Source == "" {
				t.Errorf("got %#v", problem)
			}
			if problem != nil && problem.Value != pipe {
				t.Errorf("the value is %q, want the path", problem.Value)
			}
		})
	}
}
