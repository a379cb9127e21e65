package kafkax

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/segmentio/kafka-go"
)

func TestLoggersSetWhileLogging(t *testing.T) {
	t.Parallel()
	l := newLoggers(nil, recordLogs(new(logRecord)))
	kafkaGos, kafkaGosErrors := l.infoLogger(), l.errorLogger() // made once, as kafka-go is given them

	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 500 {
				kafkaGos.Printf("line %d", i)
				kafkaGosErrors.Printf("line %d", i)
			}
		})
	}
	infos, errs := new(logRecord), new(logRecord)
	for range 500 {
		l.set(recordLogs(infos), recordLogs(errs))
	}
	wg.Wait()

	kafkaGos.Printf("after %s", "set")
	kafkaGosErrors.Printf("error after %s", "set")
	if got := infos.last(); got != "after set" {
		t.Errorf("last info line = %q, want the one written after set", got)
	}
	if got := errs.last(); got != "error after set" {
		t.Errorf("last error line = %q, want the one written after set", got)
	}
}

// A nil of any kind means the default; calling it would panic.
func TestLoggersNil(t *testing.T) {
	t.Parallel()
	var (
		std      *log.Logger
		function kafka.LoggerFunc
	)
	for _, tt := range []struct {
		name   string
		logger kafka.Logger
	}{
		{"nil", nil},
		{"nil pointer", std},
		{"nil function", function},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLoggers(tt.logger, tt.logger)
			l.infof(nil, "nobody reads %s", "this")
			if got, ok := (*l.err.Load()).(slogLogger); !ok {
				t.Errorf("error logger is %T, want slog's default", got)
			}

			var infos logRecord
			l.set(recordLogs(&infos), tt.logger)
			l.infof(nil, "somebody reads %s", "this")
			if got := infos.last(); got != "somebody reads this" {
				t.Errorf("info line = %q", got)
			}
		})
	}
}

// Errors go to the slog default of the moment, at level error. Not parallel: the
// default is one for the process.
func TestErrorsReachSlogDefault(t *testing.T) {
	l := newLoggers(nil, nil)
	var out bytes.Buffer
	defer slog.SetDefault(slog.Default())
	defer log.SetOutput(log.Writer()) // SetDefault redirects it
	defer log.SetFlags(log.Flags())
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))

	l.infof(nil, "progress")
	l.errorf(nil, "orders[%d]: %s", 3, "gone")
	got := out.String()
	if !strings.Contains(got, `level=ERROR msg="kafkax: orders[3]: gone"`) || strings.Contains(got, "progress") {
		t.Errorf("slog got %q, want the error alone", got)
	}
}

// logRecord keeps log lines for a test.
type logRecord struct {
	mu    sync.Mutex
	lines []string
}

func recordLogs(r *logRecord) kafka.Logger {
	return kafka.LoggerFunc(func(format string, args ...any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lines = append(r.lines, fmt.Sprintf(format, args...))
	})
}

func (r *logRecord) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

func (r *logRecord) last() string {
	lines := r.all()
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

func TestSlogLoggers(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	target := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	l := newLoggers(NewSlogLoggers(target))
	l.infof(attrsOf("orders", 3).offset(42).group("billing"), "attempt %d failed", 1)
	l.errorf(attrsOf("orders", 3).group(""), "%v", ErrRevoked)
	l.infoLogger().Printf("joined group %s", "billing")
	l.errorLogger().Printf("lost it")
	want := `level=INFO msg="kafkax: attempt 1 failed" topic=orders partition=3 offset=42 group=billing
level=ERROR msg="kafkax: partition revoked" topic=orders partition=3
level=DEBUG msg="kafkax: joined group billing"
level=ERROR msg="kafkax: lost it"
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

// Without a target it is whatever slog's default is when something happens.
func TestSlogLoggersNil(t *testing.T) { //nolint:paralleltest // replaces slog's default logger
	var out bytes.Buffer
	l := newLoggers(NewSlogLoggers(nil))
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(before)
	l.errorf(nil, "gone")
	if !strings.Contains(out.String(), "gone") {
		t.Errorf("the default logger got %q", &out)
	}
}
