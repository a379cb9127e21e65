package kafkax

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
)

func newTestReporter(t *testing.T, onError func(context.Context, kafka.Message, error)) (*reporter, *logRecord) {
	t.Helper()
	var logs logRecord
	return newReporter(t.Context(), onError, newLoggers(nil, recordLogs(&logs))), &logs
}

func countLines(lines []string, text string) (n int) {
	for _, line := range lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func TestTroubleNeverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		held, told := make(chan struct{}), 0
		r, logs := newTestReporter(t, func(context.Context, kafka.Message, error) { <-held; told++ })
		began := time.Now()
		for range maxReports + 50 {
			r.trouble(kafka.Message{}, &ConsumeError{Topic: "events", Err: io.EOF})
			synctest.Wait()
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %v for a function that does not return", waited)
		}
		close(held)
		r.close(time.Hour)
		if told != maxReports+1 {
			t.Errorf("told %d times, want what is queued and the one before", told)
		}
		if n := countLines(logs.all(), "lost=49"); n != 1 {
			t.Errorf("the log does not say how much was lost: %q", logs.all())
		}
		// Afterwards as at first.
		r, _ = newTestReporter(t, func(context.Context, kafka.Message, error) { told++ })
		r.trouble(kafka.Message{}, &ConsumeError{Err: io.EOF})
		synctest.Wait()
		r.trouble(kafka.Message{}, &ConsumeError{Err: io.EOF})
		r.close(time.Hour)
		if told != maxReports+3 {
			t.Errorf("told %d times", told)
		}
	})
}

func TestClosingTheReporterIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		held := make(chan struct{})
		defer close(held)
		contexts := make(chan context.Context, 10)
		r, logs := newTestReporter(t, func(ctx context.Context, _ kafka.Message, _ error) { contexts <- ctx; <-held })
		for range 4 {
			r.trouble(kafka.Message{}, &ConsumeError{Topic: "events", Err: io.EOF})
		}
		during := <-contexts
		if during.Err() != nil {
			t.Error("the function's context has ended before the loop")
		}
		began := time.Now()
		r.close(time.Minute)
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("waited %v, want the bound", waited)
		}
		if during.Err() == nil {
			t.Error("the function's context outlives the loop")
		}
		if n := countLines(logs.all(), "lost=3"); n != 1 {
			t.Errorf("the log does not say how much is left: %q", logs.all())
		}
	})
}

func TestTellingAnOutcomeIsBoundedByTheMessagesContext(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		f    func(held chan struct{})
		wait time.Duration
		logs string
	}{
		{"returns", func(chan struct{}) {}, 0, ""},
		{"panics", func(chan struct{}) { panic(errors.New("boom")) }, 0, "OnError failed err=\"panic: boom"},
		{"ends its goroutine", func(chan struct{}) { runtime.Goexit() }, 0, "OnError failed err=\"runtime.Goexit"},
		{"does not return", func(held chan struct{}) { <-held }, time.Second, "OnError did not return in time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				held := make(chan struct{})
				defer close(held)
				r, logs := newTestReporter(t, func(context.Context, kafka.Message, error) { tt.f(held) })
				defer r.cancel()
				ctx := endsAfter(t, time.Second, ErrShutdown)
				began := time.Now()
				r.tell(ctx, kafka.Message{}, &ConsumeError{Topic: "events", Outcome: OutcomeSkipped, Err: io.EOF})
				if waited := time.Since(began); waited != tt.wait {
					t.Errorf("waited %v, want %v", waited, tt.wait)
				}
				if lines := logs.all(); (len(lines) > 0) != (tt.logs != "") || countLines(lines, tt.logs) != len(lines) {
					t.Errorf("logged %q", lines)
				}
			})
		})
	}
}
