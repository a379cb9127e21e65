package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// loggers is the pair of loggers of a Producer or Consumer. Everything below it
// (kafka-go included) logs through here, so SetLogger works while it runs.
//
// A logger is the caller's code. Lines are written one after the other on a
// goroutine of their own; who logs waits for its line, so that the order is
// that of the events, but no longer than loggerPatience. A logger that does not
// return holds nobody up, and what piles up behind it is bounded.
type loggers struct {
	info atomic.Pointer[kafka.Logger]
	err  atomic.Pointer[kafka.Logger]

	blamed sync.Once // a logger that panicked was reported

	mu      sync.Mutex
	lines   []*logLine    // not written yet
	writing chan struct{} // closed when lines is empty again; nil while it is
	stuck   bool          // the line being written has used up the patience
	lost    int           // lines dropped since
}

type logLine struct {
	write   func(to kafka.Logger)
	isError bool
	written chan struct{}
}

const (
	// loggerPatience is how long a call waits for its own line.
	loggerPatience = 100 * time.Millisecond

	// maxLogLines is how many lines wait for a logger that does not return.
	maxLogLines = 1000
)

// newLoggers takes nil for the defaults: no progress, errors to slog.Default.
// A nil pointer or func in the interface counts as nil.
func newLoggers(info, err kafka.Logger) *loggers {
	l := new(loggers)
	l.set(info, err)
	return l
}

func (l *loggers) set(info, err kafka.Logger) {
	if isNil(info) {
		info = noLogger{}
	}
	if isNil(err) {
		_, err = NewSlogLoggers(nil)
	}
	l.info.Store(&info)
	l.err.Store(&err)
}

// noLogger is for progress that nobody asked for.
type noLogger struct{}

func (noLogger) Printf(string, ...any) {}

// progress, warn and fail write a line: a constant message and what differs
// from line to line as attributes. The first goes to the logger of progress, the
// others to that of errors.
func (l *loggers) progress(msg string, attrs logAttrs) { l.log(slog.LevelInfo, msg, attrs) }
func (l *loggers) warn(msg string, attrs logAttrs)     { l.log(slog.LevelWarn, msg, attrs) }
func (l *loggers) fail(msg string, attrs logAttrs)     { l.log(slog.LevelError, msg, attrs) }

func (l *loggers) log(level slog.Level, msg string, attrs logAttrs) {
	l.enqueue(level > slog.LevelInfo, func(to kafka.Logger) {
		if s, ok := to.(slogLogger); ok {
			s.log(level, msg, attrs)
			return
		}
		to.Printf("%s", attrs.text(msg))
	})
}

// target is where a line goes now.
func (l *loggers) target(isError bool) kafka.Logger {
	if isError {
		return *l.err.Load()
	}
	return *l.info.Load()
}

// enqueue has a line written, and waits for that within bounds.
func (l *loggers) enqueue(isError bool, write func(to kafka.Logger)) {
	if _, silent := l.target(isError).(noLogger); silent {
		return
	}
	line := &logLine{write: write, isError: isError, written: make(chan struct{})}
	l.mu.Lock()
	if len(l.lines) >= maxLogLines {
		l.lost++
		l.mu.Unlock()
		return
	}
	l.lines = append(l.lines, line)
	if l.writing == nil {
		l.writing = make(chan struct{})
		go l.drain() // ends when there is no line left; flush waits for it
	}
	stuck := l.stuck
	l.mu.Unlock()
	if stuck {
		return
	}
	if _, ok := within(line.written, loggerPatience); !ok {
		l.mu.Lock()
		l.stuck = l.writing != nil
		l.mu.Unlock()
	}
}

// drain writes the lines there are.
func (l *loggers) drain() {
	for {
		l.mu.Lock()
		if len(l.lines) == 0 {
			close(l.writing)
			l.writing, l.stuck, l.lines = nil, false, nil
			l.mu.Unlock()
			return
		}
		line, lost := l.lines[0], l.lost
		l.lines, l.lost = l.lines[1:], 0
		l.mu.Unlock()

		to := l.target(line.isError)
		err := <-callUser(func() error {
			if lost > 0 {
				to.Printf("kafkax: %d log lines were dropped: the logger did not return", lost)
			}
			line.write(to)
			return nil
		})
		close(line.written)
		l.mu.Lock()
		l.stuck = false
		l.mu.Unlock()
		if err != nil {
			l.blamed.Do(func() { l.blame(line.isError, err) })
		}
	}
}

// blame says once that a logger failed, where that can still be said.
func (l *loggers) blame(isError bool, err error) {
	attrs := logAttrs{}.err(err)
	_, to := NewSlogLoggers(nil)
	if !isError {
		to = l.target(true)
	}
	const msg = "a logger failed; what it was given is lost, and this is not said again"
	said := <-callUser(func() error {
		if s, ok := to.(slogLogger); ok {
			s.log(slog.LevelError, msg, attrs)
		} else {
			to.Printf("%s", attrs.text(msg))
		}
		return nil
	})
	if said != nil {
		fmt.Fprintln(os.Stderr, "kafkax:", attrs.text(msg))
	}
}

// flush waits until every line so far is written, within bounds.
func (l *loggers) flush(bound time.Duration) {
	l.mu.Lock()
	writing := l.writing
	l.mu.Unlock()
	if writing != nil {
		within(writing, bound)
	}
}

// infoLogger and errorLogger are what kafka-go is given once and keeps. Its line
// for each commit is left out: there may be one for each message.
func (l *loggers) infoLogger() kafka.Logger {
	return kafka.LoggerFunc(func(format string, args ...any) {
		if !strings.HasPrefix(format, "committed offsets") {
			l.relay(false, format, args)
		}
	})
}

func (l *loggers) errorLogger() kafka.Logger {
	return kafka.LoggerFunc(func(format string, args ...any) { l.relay(true, format, args) })
}

// relay passes a line of kafka-go's on. Its arguments may change once the call
// returns, so the text is made before.
func (l *loggers) relay(isError bool, format string, args []any) {
	if _, silent := l.target(isError).(noLogger); silent {
		return
	}
	text := oneLine(fmt.Sprintf(format, args...))
	l.enqueue(isError, func(to kafka.Logger) { to.Printf("%s", text) })
}

// logAttrs say where something happened.
type logAttrs []slog.Attr

func attrsOf(topic string, partition int) logAttrs {
	return logAttrs{slog.String("topic", topic), slog.Int("partition", partition)}
}

func (a logAttrs) offset(offset int64) logAttrs { return append(a, slog.Int64("offset", offset)) }

// err adds the error's text, and of a panic the stack.
func (a logAttrs) err(err error) logAttrs {
	if err == nil {
		return a
	}
	a = append(a, slog.String("err", oneLine(fmt.Sprint(err)))) // unlike err.Error, it survives a nil pointer in err
	if p, ok := errors.AsType[*PanicError](err); ok {
		a = append(a, slog.String("stack", string(p.Stack[:min(len(p.Stack), maxStack)])))
	}
	return a
}

// attempt adds which attempt it was, and of how many unless that is open.
func (a logAttrs) attempt(n, of int) logAttrs {
	a = append(a, slog.Int("attempt", n))
	if of > 0 {
		a = append(a, slog.Int("of", of))
	}
	return a
}

// next adds when the attempt after a wait is due.
func (a logAttrs) next(wait time.Duration) logAttrs {
	return append(a, slog.Time("next", time.Now().Add(wait)))
}

// maxStack is the most of a stack that is logged.
const maxStack = 16 << 10

func (a logAttrs) broker(address string) logAttrs { return append(a, slog.String("broker", address)) }

// text is the line for a logger that knows no attributes. The place in the log
// goes first, as errors name it.
func (a logAttrs) text(msg string) string {
	var b strings.Builder
	place, rest := a.place()
	b.WriteString(place + msg)
	for _, attr := range rest {
		value := attr.Value.String()
		if attr.Value.Kind() == slog.KindTime {
			value = attr.Value.Time().Format("2006-01-02T15:04:05.000Z07:00") // as slog's own handlers do
		}
		if quoted := strconv.Quote(value); value == "" || len(quoted) != len(value)+2 || strings.ContainsAny(value, " =") {
			value = quoted
		}
		b.WriteString(" " + attr.Key + "=" + value)
	}
	return b.String()
}

// place takes topic, partition and offset off the front, as far as they are
// there.
func (a logAttrs) place() (place string, rest logAttrs) {
	keys := []string{"topic", "partition", "offset"}
	n := 0
	for n < len(keys) && n < len(a) && a[n].Key == keys[n] {
		n++
	}
	switch n {
	case 0:
		return "", a
	case 1:
		return a[0].Value.String() + ": ", a[1:]
	case 2:
		return fmt.Sprintf("%s[%d]: ", a[0].Value.String(), a[1].Value.Int64()), a[2:]
	default:
		return at(a[0].Value.String(), int(a[1].Value.Int64()), a[2].Value.Int64()) + ": ", a[3:]
	}
}

// group adds nothing for a consumer without one.
func (a logAttrs) group(id string) logAttrs {
	if id == "" {
		return a
	}
	return append(a, slog.String("group", id))
}

// NewSlogLoggers makes the pair of loggers that write to l: for
// [Consumer.SetLogger] and [Producer.SetLogger], or one each for the options.
//
//	consumer.SetLogger(kafkax.NewSlogLoggers(slog.Default()))
//
// The first writes progress at [slog.LevelInfo] (partitions assigned and
// revoked, a retry, a dead letter) and what kafka-go tells of itself at
// [slog.LevelDebug]. The second writes what went wrong at [slog.LevelError], and
// what needs an eye at [slog.LevelWarn]. Messages are constant; what differs is
// in the attributes, as far as they apply: topic, partition, offset, group,
// member, generation, broker, err, attempt, of (attempts allowed), next (the
// time when the next one is due), dlq_topic and, of a panic, stack. A message that
// succeeds writes nothing.
//
// A nil l stands for slog's default logger at the time of each line.
func NewSlogLoggers(l *slog.Logger) (logger, errorLogger kafka.Logger) {
	return slogLogger{l, slog.LevelInfo}, slogLogger{l, slog.LevelError}
}

// slogLogger writes to slog's default logger of the moment if it has none of
// its own, so a program may set that after the client was made.
type slogLogger struct {
	logger *slog.Logger
	level  slog.Level
}

// Printf is what kafka-go calls.
func (s slogLogger) Printf(format string, args ...any) {
	level := s.level
	if level == slog.LevelInfo {
		level = slog.LevelDebug
	}
	s.log(level, "kafka-go", logAttrs{slog.String("text", oneLine(fmt.Sprintf(format, args...)))})
}

func (s slogLogger) log(level slog.Level, msg string, attrs logAttrs) {
	l := s.logger
	if l == nil {
		l = slog.Default()
	}
	ctx := context.Background()
	if l.Enabled(ctx, level) {
		l.LogAttrs(ctx, level, "kafkax: "+msg, attrs...)
	}
}
