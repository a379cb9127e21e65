package main

import (
	"testing"

	"github.com/bi-common/kafkax/examples/internal/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	demotest.Contains(t, demotest.Run(t, run),
		"broker: in this process",
		"first blast: magnitude ",
		"handled: 1679 earthquakes, 28 blasts\n",
	)
}

// Not parallel, as it sets the environment.
func TestRunGoesOn(t *testing.T) {
	demotest.Cluster(t)
	demotest.Contains(t, demotest.Run(t, run), "handled: 1679 earthquakes, 28 blasts\n")
	demotest.Contains(t, demotest.Run(t, run), "handled: 0 earthquakes, 0 blasts\n")
}

func TestHelp(t *testing.T) {
	t.Parallel()
	demotest.Help(t, run)
}
