//go:build !linux

package kafkatest

import "syscall"

// dieWithParent is Linux's. Elsewhere a test binary that is killed leaves its
// brokers behind.
func dieWithParent() *syscall.SysProcAttr { return nil }
