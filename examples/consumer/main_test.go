package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/demotest"
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
	broker := demotest.Broker(t)
	t.Setenv("KAFKAX_BROKERS", broker.ListenAddrs()[0])
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
	for _, r := range readAll(t, broker.ListenAddrs(), "dead", 28) {
		for _, h := range r.Headers {
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
	broker := demotest.Broker(t)
	t.Setenv("KAFKAX_BROKERS", broker.ListenAddrs()[0])
	t.Setenv("KAFKAX_CONSUMER_SHUTDOWN_TIMEOUT", "1s") // how long the last commit is tried
	p := demotest.Start(t, run, "-max-lag", "-2")
	url := strings.TrimPrefix(p.WaitFor("health: "), "health: ")
	waitForAnswer(t, url, http.StatusServiceUnavailable, "lag 0 is above -2")
	broker.Close()
	waitForAnswer(t, url, http.StatusServiceUnavailable, "connection refused")
	waitForAnswer(t, strings.Replace(url, "readyz", "livez", 1), http.StatusOK, "alive")
	if err := p.Stop(); err == nil {
		t.Error("no error, though nothing could be committed at the end")
	}
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

// readAll reads n records.
func readAll(t *testing.T, brokers []string, topic string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(records), n, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}
