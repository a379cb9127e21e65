package kafkax

import (
	"reflect"
	"runtime/debug"
	"time"
)

// callUser runs code that is the caller's (a callback, a logger, a writer) on a
// goroutine of its own, so that whatever it does (a panic, runtime.Goexit,
// never returning) ends neither the process nor a goroutine of kafkax. The
// channel gets one value: nil, what f returned, a [PanicError], or errGoexit.
// How long to wait for it is the caller's decision.
func callUser(f func() error) <-chan error {
	result := make(chan error, 1)
	go func() { // ends with f, which nobody can end
		err := errGoexit
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
			result <- err
		}()
		err = f()
	}()
	return result
}

// isNil also finds a nil that is inside an interface, such as a *log.Logger or a
// function: calling one would panic, later and elsewhere.
func isNil(given any) bool {
	v := reflect.ValueOf(given)
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Slice, reflect.Chan:
		return v.IsNil()
	}
	return false
}

// within waits until there is something to receive, or the channel is closed; ok
// is false if that has not come to pass in the time.
func within[T any](c <-chan T, limit time.Duration) (value T, ok bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case value = <-c:
		return value, true
	case <-timer.C:
		return value, false
	}
}
