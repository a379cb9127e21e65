package kafkax

import (
	"net"
	"syscall"
	"unsafe"
)

// unacknowledged is what was written to a socket and the peer's system has not
// acknowledged yet, in bytes; 0 of what is no socket.
func unacknowledged(c net.Conn) int {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	var n int32 // stays 0 if the call fails
	_ = raw.Control(func(fd uintptr) {
		// ioctl has no safe form in the standard library. TIOCOUTQ is SIOCOUTQ.
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n))) //nolint:gosec // as above
	})
	return int(n)
}
