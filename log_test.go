package kafkax

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

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
			l.progress("nobody reads this", nil)
			if got, ok := (*l.err.Load()).(slogLogger); !ok {
				t.Errorf("error logger is %T, want slog's default", got)
			}

			var infos logRecord
			l.set(recordLogs(&infos), tt.logger)
			l.progress("somebody reads this", nil)
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

	l.progress("progress", nil)
	l.fail("the topic is gone", attrsOf("orders", 3))
	got := out.String()
	if !strings.Contains(got, `level=ERROR msg="kafkax: the topic is gone" topic=orders partition=3`) || strings.Contains(got, "progress") {
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
	l.progress("a handler failed", attrsOf("orders", 3).offset(42).group("billing").attempt(1, 10))
	l.fail("a commit failed", attrsOf("orders", 3).group("").err(ErrRevoked))
	l.warn("look at this", nil)
	l.infoLogger().Printf("joined group %s", "billing")
	l.errorLogger().Printf("lost it")
	want := `level=INFO msg="kafkax: a handler failed" topic=orders partition=3 offset=42 group=billing attempt=1 of=10
level=ERROR msg="kafkax: a commit failed" topic=orders partition=3 err="kafkax: partition revoked"
level=WARN msg="kafkax: look at this"
level=DEBUG msg="kafkax: kafka-go" text="joined group billing"
level=ERROR msg="kafkax: kafka-go" text="lost it"
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
	l.fail("gone", nil)
	if !strings.Contains(out.String(), "gone") {
		t.Errorf("the default logger got %q", &out)
	}
}

// A logger without attributes gets them in the text: one line, whatever a broker
// or a handler wrote.
func TestLogLineOfAPlainLogger(t *testing.T) {
	t.Parallel()
	var lines logRecord
	l := newLoggers(nil, recordLogs(&lines))
	l.fail("no connection", logAttrs{}.broker("kafka-1:9092").err(fmt.Errorf("evil\r\nfake line\x1b[31m: %s", strings.Repeat("ü", 1<<20))))
	got := lines.last()
	if want := `no connection broker=kafka-1:9092 err="evil\\r\\nfake line\\x1b[31m: üü`; !strings.HasPrefix(got, want) {
		t.Errorf("got %.100q, want it to begin with %q", got, want)
	}
	if len(got) > 5<<10 || strings.ContainsAny(got, "\r\n\x1b") || !utf8.ValidString(got) {
		t.Errorf("%d bytes, or not one valid line: %.100q", len(got), got)
	}
	l.errorLogger().Printf("kafka-go: %s", "a\nb")
	if got := lines.last(); got != `kafka-go: a\nb` {
		t.Errorf("kafka-go's line is %q", got)
	}
}

// When the next attempt is due reads the same in slog's text and in a plain line.
func TestLogSaysWhenTheNextAttemptIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var lines logRecord
		l := newLoggers(NewSlogLoggers(slog.New(slog.NewTextHandler(&out, nil))))
		attrs := logAttrs{}.attempt(1, 10).next(1500 * time.Millisecond).err(ErrRevoked)
		l.progress("failed", attrs)
		l.set(recordLogs(&lines), nil)
		l.progress("failed", attrs)
		want := "attempt=1 of=10 next=" + time.Now().Add(1500*time.Millisecond).Format("2006-01-02T15:04:05.000Z07:00") + ` err="kafkax: partition revoked"`
		if !strings.Contains(out.String(), want) || !strings.Contains(lines.last(), want) {
			t.Errorf("got %q and %q, want each with %q", &out, lines.last(), want)
		}
	})
}

// Loggers are the caller's code: none of what they may do ends the process, and
// one that does not return holds nobody up.
func TestLoggerMisbehaves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func()
	}{
		{"panics", func() { panic("no") }},
		{"exits its goroutine", runtime.Goexit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var errs logRecord
			l := newLoggers(kafka.LoggerFunc(func(string, ...any) { tt.do() }), recordLogs(&errs))
			l.progress("one", nil)
			l.progress("two", nil)
			l.flush(time.Minute)
			if got := errs.all(); len(got) != 1 || !strings.HasPrefix(got[0], "a logger failed") {
				t.Errorf("the error logger got %q, want one line about it", got)
			}
		})
	}
	t.Run("blocks", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			block := make(chan struct{})
			var got logRecord
			l := newLoggers(nil, kafka.LoggerFunc(func(format string, args ...any) {
				<-block
				recordLogs(&got).Printf(format, args...)
			}))
			start := time.Now()
			for range maxLogLines + 6 { // one is being written
				l.fail("stuck", nil)
			}
			l.flush(time.Second)
			if waited := time.Since(start); waited != loggerPatience+time.Second {
				t.Errorf("logging took %v, want %v", waited, loggerPatience+time.Second)
			}
			close(block)
			l.flush(time.Minute)
			lines := got.all()
			if len(lines) != maxLogLines+2 || lines[1] != "kafkax: 5 log lines were dropped: the logger did not return" {
				t.Errorf("%d lines, the second %q", len(lines), lines[1])
			}
			l.fail("again", nil)
			if got.last() != "again" {
				t.Errorf("the last line is %q, want the one just logged", got.last())
			}
		})
	})
}
