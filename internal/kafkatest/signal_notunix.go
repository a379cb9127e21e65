//go:build !unix

package kafkatest

import "syscall"

// Without Unix signals a broker cannot be frozen: such tests are skipped.
const supported = false

const (
	sigFreeze   = syscall.Signal(-1)
	sigThaw     = syscall.Signal(-2)
	sigShutdown = syscall.SIGTERM
)
