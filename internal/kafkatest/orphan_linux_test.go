package kafkatest_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// doomed makes a run of this test binary the one that is killed.
const doomed = "KAFKATEST_DOOMED"

func TestBrokersDieWithKilledBinary(t *testing.T) {
	t.Parallel()
	if os.Getenv(doomed) != "" {
		runDoomed(t)
	}
	kafkatest.Available(t)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()

	binary := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestBrokersDieWithKilledBinary$")
	binary.Env = append(os.Environ(), doomed+"=1")
	out, err := binary.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := binary.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var addr string
	for lines.Scan() {
		if found, ok := strings.CutPrefix(lines.Text(), doomed+" "); ok {
			addr = found
		}
	}
	if err := binary.Wait(); err == nil || addr == "" {
		t.Fatalf("the doomed binary had broker %q and ended with %v", addr, err)
	}

	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil && ctx.Err() == nil {
			break
		}
		if err != nil {
			t.Fatalf("%s still listens", addr)
		}
		conn.Close()
		time.Sleep(10 * time.Millisecond)
	}
}

// runDoomed does not return.
func runDoomed(t *testing.T) {
	t.Helper()
	cluster := kafkatest.Shared(t)
	fmt.Println(doomed, cluster.Brokers()[0])
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
