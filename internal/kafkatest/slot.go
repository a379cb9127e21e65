package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// Slots lie below the ports that systems give to outgoing connections,
	// so a killed broker's ports are still free when it comes back.
	firstPort = 21001
	slots     = 200

	// A slot's first port is its lock, the others are the listeners'.
	portsPerSlot = 1 + MaxNodes*portsPerNode
	portsPerNode = 5
)

// slot is a range of ports and a folder that one cluster on the machine has
// for itself. The lock is a listening socket: the kernel gives it back however
// the process ends.
type slot struct {
	dir  string
	port int
	lock net.Listener
}

// takeSlot finds a slot that no other cluster has. The folder is emptied: a
// killed test binary may have left its data.
func takeSlot() (*slot, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}

	for i := range slots {
		port := firstPort + i*portsPerSlot
		lock, err := listen(port)
		if err != nil {
			continue
		}
		s := &slot{
			dir:  filepath.Join(cache, "clusters", strconv.Itoa(port)),
			port: port,
			lock: lock,
		}
		if !s.portsFree() {
			lock.Close()
			continue
		}
		if err := errors.Join(s.clear(), os.MkdirAll(s.dir, 0o755)); err != nil {
			lock.Close()
			return nil, err
		}
		return s, nil
	}
	return nil, fmt.Errorf("no free ports from %d to %d", firstPort, firstPort+slots*portsPerSlot)
}

// nodePort is the port of a node's i-th listener.
func (s *slot) nodePort(node, i int) int { return s.port + 1 + (node-1)*portsPerNode + i }

func (s *slot) release() error {
	return errors.Join(s.clear(), s.lock.Close())
}

func (s *slot) clear() error { return os.RemoveAll(s.dir) }

func (s *slot) portsFree() bool {
	for port := s.port + 1; port < s.port+portsPerSlot; port++ {
		l, err := listen(port)
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// waitForPort listens on a port as soon as no other process does.
func waitForPort(ctx context.Context, port int) (net.Listener, error) {
	for {
		l, err := listen(port)
		if err == nil {
			return l, nil
		}
		if ctxErr := pause(ctx, 100*time.Millisecond); ctxErr != nil {
			return nil, fmt.Errorf("%w: %w", ctxErr, err)
		}
	}
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

// pause waits between two polls; the error is the context's.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
