package kafkatest

import "syscall"

// dieWithParent makes the kernel kill a broker when the test binary is gone,
// however it went.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
