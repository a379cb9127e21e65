//go:build unix

package kafkatest

import "syscall"

const supported = true

const (
	sigFreeze   = syscall.SIGSTOP
	sigThaw     = syscall.SIGCONT
	sigShutdown = syscall.SIGTERM
)
