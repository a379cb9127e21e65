package main

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/bi-common/kafkax/examples/internal/demotest"
	"github.com/bi-common/kafkax/examples/internal/quakes"
)

func TestMain(m *testing.M) { demotest.Main(m) }

// since counts the events from a time on, and finds the first.
func since(t *testing.T, from string) (count int, oldest string) {
	t.Helper()
	begin, err := time.Parse(time.RFC3339, from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range quakes.Events() {
		if e.At().Before(begin) {
			continue
		}
		if count++; count == 1 {
			oldest = e.At().Format(time.RFC3339)
		}
	}
	return count, oldest
}

func TestRun(t *testing.T) {
	t.Parallel()
	count, oldest := since(t, "2018-02-05T00:00:00Z")
	if count == 0 || count == 1707 {
		t.Fatalf("%d events since then prove nothing", count)
	}
	demotest.Contains(t, demotest.Run(t, run),
		"broker: in this process",
		fmt.Sprintf("replayed: %d messages since 2018-02-05T00:00:00Z\n", count),
		"oldest: "+oldest+"\n",
		"largest: magnitude 6.4, ",
	)
}

// Not parallel, as it sets the environment: the same group goes back again and
// again.
func TestRunGoesBack(t *testing.T) {
	demotest.Cluster(t)
	for _, from := range []string{
		"2018-02-01T12:00:00Z",
		"2018-02-06T00:00:00+01:00",
		"2018-02-03T00:00:00Z",
		"2020-01-01T00:00:00Z", // nothing is that young
		"2000-01-01T00:00:00Z", // everything is
	} {
		count, _ := since(t, from)
		out := demotest.Run(t, run, "-from", from)
		demotest.Contains(t, out, fmt.Sprintf("replayed: %d messages since %s\n", count, from))
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	demotest.Help(t, run, "-from", "2018-02-05")
	if err := run(t.Context(), []string{"-from", "yesterday"}, io.Discard); err == nil {
		t.Error("a time that is none is not refused")
	}
}
