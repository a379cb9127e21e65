package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	out := demotest.Run(t, run)
	demotest.Contains(t, out, "broker: in this process", "consumed: 1707 messages of example-earthquakes\n")
	for _, want := range [][]string{
		{"consumer.concurrency", "4", "protobuf"},
		{"consumer.ordering", "key", "protobuf"},
		{"consumer.max_wait", "250ms", "protobuf"},
		{"consumer.retry.max_attempts", "5", "protobuf"},
	} {
		if !hasLine(out, want) {
			t.Errorf("no line %q in:\n%s", want, out)
		}
	}
}

// hasLine says whether a line has these fields.
func hasLine(out string, fields []string) bool {
	for line := range strings.Lines(out) {
		if strings.Join(strings.Fields(line), " ") == strings.Join(fields, " ") {
			return true
		}
	}
	return false
}

func TestRunConfig(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, config, want string
		invalid            bool
	}{
		{"unknown field", `{"topics": "x"}`, `unknown field "topics"`, false},
		{"bound", `{"topic": "x", "concurrency": -1}`, "consumer.concurrency", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "consumer.json")
			if err := os.WriteFile(file, []byte(tc.config), 0o600); err != nil {
				t.Fatal(err)
			}
			err := run(t.Context(), []string{"-config", file}, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, kafkax.ErrInvalidConfig) != tc.invalid {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// Not parallel, as it sets the environment.
func TestRunOnACluster(t *testing.T) {
	demotest.Cluster(t)
	t.Setenv("KAFKAX_CONSUMER_CONCURRENCY", "2") // the message goes over it
	t.Setenv("KAFKAX_CONSUMER_BATCH_SIZE", "7")
	out := demotest.Run(t, run)
	demotest.Contains(t, out, "consumed: 1707 messages of example-earthquakes\n")
	for _, want := range [][]string{
		{"consumer.concurrency", "4", "protobuf"},
		{"consumer.batch_size", "7", "env", "KAFKAX_CONSUMER_BATCH_SIZE"},
	} {
		if !hasLine(out, want) {
			t.Errorf("no line %q in:\n%s", want, out)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	demotest.Help(t, run, "-config")
}
