package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demotest"
	"github.com/bi-common/kafkax/kafkaxtest"
)

func TestMain(m *testing.M) { demotest.Main(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	for _, perCall := range []string{"50", "500", "5000"} {
		t.Run(perCall, func(t *testing.T) {
			t.Parallel()
			out := demotest.Run(t, run, "-per-call", perCall)
			demotest.Contains(t, out,
				"broker: in this process",
				`refused: key "too large": `,
				"sent: 1707 messages to example-earthquakes in ",
			)
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	demotest.Help(t, run, "-per-call")
	if err := run(t.Context(), []string{"-per-call", "0"}, io.Discard); err == nil || !strings.Contains(err.Error(), "at least 1") {
		t.Errorf("-per-call 0: %v", err)
	}
}

// Not parallel, as it sets the environment; nor are the ones below.
func TestRunOnACluster(t *testing.T) {
	s := demotest.Cluster(t)
	t.Setenv("KAFKAX_PRODUCER_TOPIC", "mine")
	for range 2 { // the second finds the topic
		out := demotest.Run(t, run)
		demotest.Contains(t, out, "broker: "+s.Brokers()[0]+"\n", "sent: 1707 messages to mine in ")
	}
}

func TestRunRefused(t *testing.T) {
	s := demotest.Cluster(t)
	s.Fail(kafkaxtest.Failure{Requests: []kmsg.Key{kmsg.Produce}, Error: kafka.TopicAuthorizationFailed, Count: -1})
	p := demotest.Start(t, run)
	p.WaitFor("broker: ")
	if err := p.Wait(); !errors.Is(err, kafkax.ErrAuthorization) || !strings.Contains(err.Error(), "after 0 messages") {
		t.Errorf("error %v, want one that matches ErrAuthorization", err)
	}
}
