package kafkax

import "runtime/debug"

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
