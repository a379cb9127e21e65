package kafkatest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// say tells whoever waits what takes long or is left out. "go test" shows nothing
// of a package that passes unless it is given -v, so without that the line goes
// to the terminal, if there is one.
func say(format string, args ...any) {
	line := "kafkatest: " + fmt.Sprintf(format, args...) + "\n"
	if testing.Testing() && !testing.Verbose() {
		if terminal, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0); err == nil {
			_, _ = terminal.WriteString(line)
			_ = terminal.Close()
			return
		}
	}
	fmt.Fprint(os.Stderr, line)
}

// skips are the tests that were left out, by reason.
var skips struct {
	mu       sync.Mutex
	byReason map[string][]string
}

// skip leaves a test out and has that told with the others at the end.
func skip(t testing.TB, reason string) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Skipped() {
			return
		}
		skips.mu.Lock()
		defer skips.mu.Unlock()
		if skips.byReason == nil {
			skips.byReason = map[string][]string{}
		}
		skips.byReason[reason] = append(skips.byReason[reason], t.Name())
	})
	t.Skip(reason)
}

// saySkips tells what was left out.
func saySkips() {
	skips.mu.Lock()
	defer skips.mu.Unlock()
	for _, line := range skipLines(skips.byReason) {
		say("%s", line)
	}
	skips.byReason = nil
}

// skipLines is a line a reason, with the first few names.
func skipLines(byReason map[string][]string) (lines []string) {
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		names := slices.Sorted(slices.Values(byReason[reason]))
		count := len(names)
		if count > 3 {
			names = append(names[:3], "...")
		}
		lines = append(lines, fmt.Sprintf("%d test(s) SKIPPED (%s): %s", count, reason, strings.Join(names, ", ")))
	}
	return lines
}
