package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demotest"
	"github.com/bi-common/kafkax/examples/internal/quakes"
	"github.com/bi-common/kafkax/kafkaxtest"
)

func TestMain(m *testing.M) { demotest.Main(m) }

func TestRun(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, run)
	url := strings.TrimPrefix(p.WaitFor("health: "), "health: ")
	waitForAnswer(t, url, http.StatusOK, "ready, lag 0")
	waitForAnswer(t, strings.Replace(url, "readyz", "livez", 1), http.StatusOK, "alive")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	demotest.Contains(t, p.String(),
		"broker: in this process",
		"consuming: example-earthquakes as example-consumer",
		"strong: magnitude 6.4, 22km NNE of Hualian, Taiwan, 6 February 2018, 15:50 UTC",
		"problem: example-earthquakes[1]@580: dead-lettered after 1 attempt(s): not an earthquake but: quarry blast",
		"stopped: handled 1679 messages\n",
	)
}

// Not parallel, as it sets the environment; nor is the one below.
func TestRunOnACluster(t *testing.T) {
	s := demotest.Cluster(t)
	t.Setenv("KAFKAX_CONSUMER_GROUP_ID", "mine")
	t.Setenv("KAFKAX_CONSUMER_DLQ_TOPIC", "dead")

	p := demotest.Start(t, run, "-max-lag", "0")
	url := strings.TrimPrefix(p.WaitFor("health: "), "health: ")
	waitForAnswer(t, url, http.StatusOK, "ready, lag 0")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	demotest.Contains(t, p.String(), "as mine;", "stopped: handled 1679 messages\n")

	// A second run has nothing left to do, and the dead letters say why.
	p = demotest.Start(t, run)
	waitForAnswer(t, strings.TrimPrefix(p.WaitFor("health: "), "health: "), http.StatusOK, "ready, lag 0")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	demotest.Contains(t, p.String(), "stopped: handled 0 messages\n")
	reasons := map[string]int{}
	for _, m := range s.Messages("dead") {
		for _, h := range m.Headers {
			if h.Key == kafkax.HeaderError {
				reasons[string(h.Value)]++
			}
		}
	}
	if reasons["not an earthquake but: explosion"] != 15 || reasons["not an earthquake but: quarry blast"] != 13 {
		t.Errorf("dead letters: %v", reasons)
	}
}

func TestReadiness(t *testing.T) {
	s := demotest.Cluster(t)
	t.Setenv("KAFKAX_CONSUMER_SHUTDOWN_TIMEOUT", "1s") // how long the last commit is tried
	p := demotest.Start(t, run, "-max-lag", "-2")
	url := strings.TrimPrefix(p.WaitFor("health: "), "health: ")
	waitForAnswer(t, url, http.StatusServiceUnavailable, "lag 0 is above -2")
	s.Down(0)
	waitForAnswer(t, url, http.StatusServiceUnavailable, "broker "+s.Brokers()[0]+": ")
	waitForAnswer(t, strings.Replace(url, "readyz", "livez", 1), http.StatusOK, "alive")
	if err := p.Stop(); err == nil {
		t.Error("no error, though nothing could be committed at the end")
	}
}

// One of two members dies in the middle: what it had not committed, and all that
// comes after, the other one handles once the dead one's session has timed out.
func TestCrash(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		for _, m := range quakes.Messages() {
			m.Topic = "quakes"
			s.Send(m)
		}
		handler := &service{out: log.New(io.Discard, "", 0)}
		slowly := func(ctx context.Context, m kafkax.Message) error {
			time.Sleep(100 * time.Millisecond)
			return handler.handle(ctx, m)
		}
		first := s.Join("consumer", "quakes", slowly, kafkax.WithConsumerDLQTopic("dead"))
		s.Join("consumer", "quakes", slowly, kafkax.WithConsumerDLQTopic("dead"))
		s.Advance(20 * time.Second)
		first.Crash()
		s.WaitCommitted("consumer", "quakes")

		handled, again := map[string]bool{}, 0
		for _, h := range s.Handled() {
			place := fmt.Sprintf("quakes[%d]@%d", h.Partition, h.Offset)
			if handled[place] {
				again++
			}
			handled[place] = true
		}
		if len(handled) != 1707 || again == 0 || again > 30 {
			s.T.Errorf("%d handled, %d of them again; want 1707, and again what was handled since the last commit", len(handled), again)
		}
		if n := len(s.Messages("dead")); n < 28 || n > 28+again {
			s.T.Errorf("%d dead letters, want 28 and what was dead-lettered again", n)
		}
	}, kafkaxtest.Topic("quakes", 3), kafkaxtest.Topic("dead", 1))
}

func TestRunHealthAddress(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"-health", "nowhere"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "health endpoint: ") {
		t.Errorf("error %v", err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	demotest.Help(t, run, "-health", "-max-lag")
}

// waitForAnswer asks until the answer is what it should be.
func waitForAnswer(t *testing.T, url string, status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	last := ""
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("%v; the last answer was %s", err, last)
		}
		got, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if last = res.Status + ": " + string(got); res.StatusCode == status && strings.Contains(last, body) {
			return
		}
		time.Sleep(20 * time.Millisecond) // asks again; the context is the deadline
	}
}
