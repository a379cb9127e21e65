package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demotest"
	"github.com/bi-common/kafkax/kafkaxtest"
)

func TestMain(m *testing.M) { demotest.Main(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	out := demotest.Run(t, run)
	demotest.Contains(t, out,
		"broker: in this process",
		"stopped: at example-earthquakes[",
		", after 3 attempts: the sums cannot be stored\nrepaired: ",
		"added: 1707 messages, 0 of them more than once\n",
		"largest: magnitude 6.4, 22km NNE of Hualian, Taiwan, 6 February 2018, 15:50 UTC\n",
	)
	if n := strings.Count(out, "stopped: "); n != 1 {
		t.Errorf("stopped %d times, want once:\n%s", n, out)
	}
}

func TestRunUnbroken(t *testing.T) {
	t.Parallel()
	out := demotest.Run(t, run, "-break-at", "0")
	demotest.Contains(t, out, "added: 1707 messages, 0 of them more than once\n")
	if strings.Contains(out, "stopped: ") {
		t.Errorf("stopped:\n%s", out)
	}
}

// Not parallel, as it sets the environment: another process goes on where the
// first one stopped.
func TestRunGoesOn(t *testing.T) {
	demotest.Cluster(t)
	demotest.Contains(t, demotest.Run(t, run), "added: 1707 messages, 0 of them more than once\n")
	demotest.Contains(t, demotest.Run(t, run), "added: 0 messages, 0 of them more than once\n")
}

// What no repair mends ends the program, and the same message the next one.
func TestRunNoEvent(t *testing.T) {
	const topic = "mixed"
	s := demotest.Cluster(t, kafkaxtest.Topic(topic, 1))
	t.Setenv("KAFKAX_CONSUMER_TOPIC", topic)
	for _, v := range []string{`{"id":"a"}`, `?`, `{"id":"b"}`} {
		s.Send(kafkax.Message{Topic: topic, Value: []byte(v)})
	}
	for _, added := range []int{1, 0} {
		p := demotest.Start(t, run)
		err := p.Wait()
		failed, ok := errors.AsType[*kafkax.HandlerError](err)
		if !ok || failed.Offset != 1 || failed.Attempts != 1 {
			t.Errorf("error %v, want that of offset 1 after one attempt", err)
		}
		demotest.Contains(t, p.String(), fmt.Sprintf("added: %d messages, 0 of them", added))
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	demotest.Help(t, run, "-break-at")
}
