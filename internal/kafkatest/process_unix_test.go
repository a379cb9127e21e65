//go:build unix

package kafkatest_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// Other programs end as they are told to, and at the latest with the cluster.
func TestLaunch(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Start(t, 1)
	launch := func(name string) *kafkatest.Process {
		t.Helper()
		p, err := cluster.Launch(name, exec.CommandContext(t.Context(), "sleep", "600"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	told, killed, left := launch("told"), launch("killed"), launch("left")
	for _, step := range []func() error{told.Freeze, told.Shutdown, told.Thaw} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	ends(t, "told", told)
	if err := told.Freeze(); err == nil {
		t.Error("a process that has ended was stopped in its tracks")
	}
	for range 2 { // once is enough, and twice is no failure
		if err := killed.Kill(); err != nil {
			t.Error(err)
		}
	}
	ends(t, "killed", killed)
	if err := cluster.Stop(); err != nil {
		t.Error(err)
	}
	ends(t, "left", left)
	if _, err := cluster.Launch("late", exec.CommandContext(t.Context(), "sleep", "600")); err == nil {
		t.Error("a process was started beside a cluster that is stopped")
	}
}

func ends(t *testing.T, name string, p *kafkatest.Process) {
	t.Helper()
	select {
	case <-p.Exited():
	case <-time.After(testTimeout):
		t.Fatalf("%s still runs", name)
	}
}
