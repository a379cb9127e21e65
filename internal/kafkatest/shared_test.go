package kafkatest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// Without Java, a developer's run skips and CI's fails. Not parallel: it
// changes the environment.
func TestAvailableWithoutJava(t *testing.T) {
	if testing.Short() {
		t.Skip("-short skips whatever is installed")
	}
	t.Setenv("PATH", t.TempDir())
	for ci, want := range map[string]string{
		"":      `skip: real Kafka: exec: "java": executable file not found in $PATH`,
		"true":  `fail: real Kafka, which CI must test against: exec: "java": executable file not found in $PATH`,
		"false": `skip: real Kafka: exec: "java": executable file not found in $PATH`,
	} {
		t.Run("CI="+ci, func(t *testing.T) {
			t.Setenv("CI", ci)
			if got := verdict(t); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// A version that nobody knows fails whoever asks for it, a developer's run too:
// a skip would look like a pass. Not parallel: it changes the environment.
func TestAvailableWithUnknownVersion(t *testing.T) {
	if testing.Short() {
		t.Skip("-short skips whatever is asked for")
	}
	t.Setenv("CI", "")
	t.Setenv(kafkatest.VersionVariable, "2.8.0")
	const want = `fail: real Kafka: KAFKATEST_VERSION is "2.8.0", and known are `
	if got := verdict(t); !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q and the versions", got, want)
	}
	if _, err := kafkatest.Run(1); err == nil || !strings.Contains(err.Error(), `"2.8.0", and known are `) {
		t.Errorf("Run: got %v, want an error that names the versions", err)
	}
}

// verdict is what Available makes of a test.
func verdict(t *testing.T) string {
	t.Helper()
	rec := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		kafkatest.Available(rec)
	}()
	<-done
	return rec.verdict
}

// recorder is a test whose end is only noted.
type recorder struct {
	testing.TB
	verdict string
}

func (r *recorder) Skip(args ...any) {
	r.verdict = "skip: " + fmt.Sprint(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.verdict = "fail: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}
