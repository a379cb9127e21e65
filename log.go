package kafkax

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/segmentio/kafka-go"
)

// loggers is the pair of loggers of a Producer or Consumer. Everything below it
// (kafka-go included) logs through here, so SetLogger works while it runs.
type loggers struct {
	info atomic.Pointer[kafka.Logger]
	err  atomic.Pointer[kafka.Logger]
}

// newLoggers takes nil for the defaults: no progress, errors to slog.Default.
// A nil pointer or func in the interface counts as nil.
func newLoggers(info, err kafka.Logger) *loggers {
	l := new(loggers)
	l.set(info, err)
	return l
}

func (l *loggers) set(info, err kafka.Logger) {
	if isNilLogger(info) {
		info = kafka.LoggerFunc(func(string, ...any) {})
	}
	if isNilLogger(err) {
		_, err = NewSlogLoggers(nil)
	}
	l.info.Store(&info)
	l.err.Store(&err)
}

// isNilLogger also finds a nil *log.Logger or LoggerFunc: calling one would
// panic in whatever goroutine logs first.
func isNilLogger(l kafka.Logger) bool {
	if l == nil {
		return true
	}
	v := reflect.ValueOf(l)
	return (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil()
}

// infof and errorf write a line with attributes, which only slog shows: the text
// names the place too.
func (l *loggers) infof(attrs logAttrs, format string, args ...any) {
	logf(*l.info.Load(), attrs, format, args)
}

func (l *loggers) errorf(attrs logAttrs, format string, args ...any) {
	logf(*l.err.Load(), attrs, format, args)
}

func logf(l kafka.Logger, attrs logAttrs, format string, args []any) {
	if s, ok := l.(slogLogger); ok {
		s.log(s.level, attrs, format, args)
		return
	}
	l.Printf(format, args...)
}

// infoLogger and errorLogger are what kafka-go is given once and keeps. Its line
// for each commit is left out: there may be one for each message.
func (l *loggers) infoLogger() kafka.Logger {
	return kafka.LoggerFunc(func(format string, args ...any) {
		if !strings.HasPrefix(format, "committed offsets") {
			(*l.info.Load()).Printf(format, args...)
		}
	})
}

func (l *loggers) errorLogger() kafka.Logger {
	return kafka.LoggerFunc(func(format string, args ...any) { (*l.err.Load()).Printf(format, args...) })
}

// logAttrs say where something happened.
type logAttrs []slog.Attr

func attrsOf(topic string, partition int) logAttrs {
	return logAttrs{slog.String("topic", topic), slog.Int("partition", partition)}
}

func (a logAttrs) offset(offset int64) logAttrs { return append(a, slog.Int64("offset", offset)) }

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
// [slog.LevelDebug]. The second writes what went wrong at [slog.LevelError].
// The attributes are, as far as they apply, topic, partition, offset, group,
// member, generation and broker. A message that succeeds writes nothing.
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
	s.log(level, nil, format, args)
}

func (s slogLogger) log(level slog.Level, attrs logAttrs, format string, args []any) {
	l := s.logger
	if l == nil {
		l = slog.Default()
	}
	ctx := context.Background()
	if l.Enabled(ctx, level) {
		l.LogAttrs(ctx, level, "kafkax: "+strings.TrimPrefix(fmt.Sprintf(format, args...), "kafkax: "), attrs...)
	}
}
