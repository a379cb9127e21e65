package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// resultMark comes before what a schedule came to, in what its process prints.
	resultMark = "result: "

	// apartBound is how long, of the wall clock, a process is waited for. A
	// schedule takes a second; one that waits for a lock which nobody lets go
	// takes for ever.
	apartBound = 2 * time.Minute
)

// runApart runs a schedule of plain kafka-go in a process of its own, which may
// panic, hang, or leave goroutines that never end. It returns a line about it.
func runApart(ctx context.Context, seed uint64, length time.Duration, alone string, sum *sum) (line string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, apartBound)
	defer cancel()
	var out bytes.Buffer
	//nolint:gosec // It runs itself, and its arguments are its own.
	cmd := exec.CommandContext(ctx, self, "-plain", "-apart", "-only", strconv.FormatUint(seed, 10), "-length", length.String(), "-fault", alone)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, 10*time.Second
	failed := cmd.Run()
	result, rest, ok := cutResult(out.String())
	if ok {
		sum.join(result)
	}
	if what := ending(rest, ok, failed != nil, ctx.Err() != nil); what != "" {
		sum.trouble(what)
		return what + "\n" + rest, nil
	}
	return strings.TrimSuffix(rest, "PASS\n"), nil
}

// runForAnother is the other side of runApart.
func runForAnother(t *testing.T, s schedule, sum *sum) {
	s.judged = func() {
		result, err := json.Marshal(&sum.counts)
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Printf("%s%s\n", resultMark, result)
	}
	simulate(t, s, sum, false)
}

// cutResult takes the result out of what a process printed.
func cutResult(out string) (result counts, rest string, ok bool) {
	before, after, found := strings.Cut(out, resultMark)
	if !found {
		return counts{}, out, false
	}
	text, after, _ := strings.Cut(after, "\n")
	if json.Unmarshal([]byte(text), &result) != nil {
		return counts{}, out, false
	}
	return result, before + after, true
}

// ending says what was wrong with how a process ended; nothing if nothing was.
func ending(out string, judged, failed, late bool) string {
	switch {
	case !failed && judged:
		return ""
	case judged:
		return "left goroutines that never end"
	case late, strings.Contains(out, "all goroutines in bubble are blocked"):
		return "hung"
	case strings.Contains(out, "panic: "):
		return "panicked"
	}
	return "could not be judged"
}
