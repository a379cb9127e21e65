package kafkatest_test

import (
	"fmt"
	"runtime"
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
			rec := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				kafkatest.Available(rec)
			}()
			<-done
			if rec.verdict != want {
				t.Errorf("got %q, want %q", rec.verdict, want)
			}
		})
	}
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
