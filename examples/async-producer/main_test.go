package main

import (
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/examples/internal/demotest"
	"github.com/bi-common/kafkax/kafkaxtest"
)

func TestMain(m *testing.M) { demotest.Main(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	demotest.Contains(t, demotest.Run(t, run, "-times", "2"),
		"broker: in this process",
		"handed over: 3414 messages in ",
		"; 3414 acknowledged, 0 failed\n",
	)
}

func TestHelp(t *testing.T) {
	t.Parallel()
	demotest.Help(t, run, "-times")
}

// Not parallel, as it sets the environment.
func TestRunFailure(t *testing.T) {
	s := demotest.Cluster(t)
	// One request is refused, and those behind it are not.
	s.Fail(kafkaxtest.Failure{Requests: []kmsg.Key{kmsg.Produce}, Error: kafka.PolicyViolation})
	p := demotest.Start(t, run, "-times", "1")
	err := p.Wait()
	if err == nil || !strings.Contains(err.Error(), "of 1707 messages were not acknowledged") {
		t.Errorf("error %v", err)
	}
	demotest.Contains(t, p.String(), "failed: ", "Policy Violation", " failed\n")
	if strings.Contains(p.String(), "; 0 acknowledged") {
		t.Errorf("one failure ended all:\n%s", p)
	}
}
