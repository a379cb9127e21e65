package kafkax

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
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
		err = slogErrors{}
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

func (l *loggers) infof(format string, args ...any)  { (*l.info.Load()).Printf(format, args...) }
func (l *loggers) errorf(format string, args ...any) { (*l.err.Load()).Printf(format, args...) }

// infoLogger and errorLogger are what kafka-go is given once and keeps.
func (l *loggers) infoLogger() kafka.Logger  { return kafka.LoggerFunc(l.infof) }
func (l *loggers) errorLogger() kafka.Logger { return kafka.LoggerFunc(l.errorf) }

// slogErrors writes to slog's default logger of the moment, so a program may
// set it after the client was made.
type slogErrors struct{}

func (slogErrors) Printf(format string, args ...any) {
	slog.Default().Log(context.Background(), slog.LevelError, "kafkax: "+fmt.Sprintf(format, args...))
}
