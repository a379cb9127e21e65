package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
	"github.com/bi-common/kafkax/kafkaxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(kafkatest.M{M: m}) }

// Not parallel: it sets the environment.
func TestRunInProcess(t *testing.T) {
	t.Setenv("KAFKAX_BROKERS", "")
	t.Setenv("KAFKAX_CONFIG_FILE", "")
	out := mustRun(t)
	for _, want := range []string{
		"broker     in this process",
		"sent       1,707 events in ",
		"handled    1,679 earthquakes in ",
		"retried    16 of them",
		"largest    magnitude 6.4, 22km NNE of Hualian, Taiwan, 6 February 2018, 15:50 UTC",
		"dead       28 explosions and quarry blasts",
		"kafkax-original-topic       quickstart-earthquakes\n",
		"kafkax-error-type           main.NotEarthquakeError\n",
		"kafkax-attempts             1\n",
		"\n1,679 handled + 28 dead-lettered = 1,707 events. Lag 0, no duplicate.\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

func TestRunBrokerFromEnvironment(t *testing.T) {
	brokers := kafkaxtest.Start(t).Brokers()
	t.Setenv("KAFKAX_BROKERS", strings.Join(brokers, ","))
	out := mustRun(t, "-count", "50")
	if want := "broker     " + brokers[0] + " (env KAFKAX_BROKERS)\n"; !strings.HasPrefix(out, want) {
		t.Errorf("does not begin with %q:\n%s", want, out)
	}
}

func TestRunGoesOn(t *testing.T) {
	t.Parallel()
	goesOn(t, kafkaxtest.Start(t).Brokers())
}

func TestReal_RunGoesOn(t *testing.T) {
	t.Parallel()
	goesOn(t, kafkatest.Shared(t).Brokers())
}

// goesOn stops a run in the middle, and has it continued by others.
func goesOn(t *testing.T, brokers []string) {
	args := []string{"-broker", strings.Join(brokers, ",")}

	ctx, cancel := context.WithCancel(t.Context())
	out := &output{trigger: "200 ...", then: cancel}
	err := run(ctx, append(args, "-pace", "1ms"), out)
	if !errors.Is(err, errStopped) {
		t.Fatalf("error of the stopped run: %v\n%s", err, out)
	}
	first := out.String()
	if !strings.HasSuffix(first, "Stopped. The same command goes on from here.\n") {
		t.Errorf("does not say how to go on:\n%s", first)
	}
	handled := number(t, first, `handled +([\d,]+) earthquakes`)
	done := number(t, first, `= ([\d,]+) of 1,707 events; `)
	if handled < 200 || done < handled || done == 1707 {
		t.Fatalf("stopped after %d events, %d of them handled; not in the middle:\n%s", done, handled, first)
	}

	const sum = "\n1,679 handled + 28 dead-lettered = 1,707 events. Lag 0, no duplicate.\n"
	second := mustRun(t, args...)
	if got := number(t, second, `handled +([\d,]+) earthquakes`); got != 1679-handled {
		t.Errorf("handled %d, then %d; want 1679 together", handled, got)
	}
	if got := number(t, second, `before +([\d,]+) events`); got != done {
		t.Errorf("the second run found %d events done, the first had done %d", got, done)
	}

	again := mustRun(t, args...)
	other := mustRun(t, append(args, "-group", "another")...)
	for name, tc := range map[string]struct {
		out  string
		want []string
	}{
		"second": {second, []string{"sent       nothing: the topic has 1,707 events already\n", sum}},
		"again":  {again, []string{"sent       nothing", "before     1,707 events", "handled    nothing\n", sum}},
		"other":  {other, []string{"sent       nothing", "handled    1,679 earthquakes", "kafkax-consumer-group       another\n", sum}},
	} {
		for _, want := range tc.want {
			if !strings.Contains(tc.out, want) {
				t.Errorf("%s run: no %q in:\n%s", name, want, tc.out)
			}
		}
	}
}

func TestRunStoppedWhileSending(t *testing.T) {
	t.Parallel()
	s := kafkaxtest.Start(t)
	args := []string{"-broker", s.Brokers()[0]}

	fast := s.Slow(kafkaxtest.Target{Requests: []kmsg.Key{kmsg.Produce}}, 5*time.Millisecond, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out output
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, args, &out) }()
	s.Wait("some events", func() bool { return len(s.Messages(topic)) >= 20 })
	cancel()
	if err := <-ended; !errors.Is(err, errStopped) {
		t.Fatalf("error of the stopped run: %v\n%s", err, &out)
	}
	fast()
	sent := number(t, out.String(), `sent +([\d,]+) of 1,707 events`)

	second := mustRun(t, args...)
	// What was in flight may have arrived, one event a network.
	there := number(t, second, `the topic had ([\d,]+) already`)
	if there < sent || there > sent+12 {
		t.Errorf("%d events acknowledged, and %d there", sent, there)
	}
	if got := number(t, second, `sent +([\d,]+) events`); got != 1707-there {
		t.Errorf("%d were there, and %d sent", there, got)
	}
}

func TestRunCount(t *testing.T) {
	t.Parallel()
	args := []string{"-broker", kafkaxtest.Start(t).Brokers()[0], "-count"}
	if out := mustRun(t, append(args, "100")...); !strings.Contains(out, "= 100 events. Lag 0") {
		t.Errorf("the first hundred:\n%s", out)
	}
	out := mustRun(t, append(args, "250")...)
	for _, want := range []string{"sent       150 events", "before     100 events", "= 250 events. Lag 0"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if out = mustRun(t, append(args, "10")...); !strings.Contains(out, "= 250 events. Lag 0") {
		t.Errorf("less than there is:\n%s", out)
	}
}

func TestRunStrangeTopics(t *testing.T) {
	t.Parallel()
	const line = `{"id":"ak18247005","type":"earthquake","net":"ak"}`
	for _, tc := range []struct {
		name   string
		values []string
		want   string // in the output, or of the error
	}{
		{"not ours", []string{"?", `{"type":"earthquake"}`, "?"}, "101 handled + 2 dead-lettered = 103 events. Lag 0"},
		{"an event of the data", []string{line}, "sent       99 events"},
		{"an event twice", []string{line, line}, "events twice in the topic: 1 instead of 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := kafkaxtest.Start(t, kafkaxtest.Topic(topic, 1))
			for _, v := range tc.values {
				s.Send(kafkax.Message{Topic: topic, Value: []byte(v)})
			}
			var out output
			err := run(t.Context(), []string{"-broker", s.Brokers()[0], "-count", "100"}, &out)
			if got := fmt.Sprint(&out, err); !strings.Contains(got, tc.want) {
				t.Errorf("no %q in:\n%s", tc.want, got)
			}
		})
	}
}

func TestRunFlags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		args []string
		want string // of the error
	}{
		{"unknown", []string{"-x"}, "flag provided but not defined: -x"},
		{"argument", []string{"x"}, `unexpected argument "x"`},
		{"no events", []string{"-count", "0"}, "there are 1 to 1707 events"},
		{"too many events", []string{"-count", "1708"}, "there are 1 to 1707 events"},
		{"no group", []string{"-group", ""}, "-group must not be empty"},
		{"back in time", []string{"-pace", "-1s"}, "must not be negative"},
		{"broker without port", []string{"-broker", "localhost"}, "brokers = localhost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := run(t.Context(), tc.args, new(output))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestRunHelp(t *testing.T) {
	t.Parallel()
	out := mustRun(t, "-h")
	for _, want := range []string{"go run ./examples/quickstart", "KAFKAX_BROKERS", "-broker", "-count", "-group", "-pace"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

func TestRunStoppedBeforeItBegins(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out output
	err := run(ctx, []string{"-broker", kafkaxtest.Start(t).Brokers()[0]}, &out)
	if !errors.Is(err, errStopped) || !strings.Contains(out.String(), "Stopped.") {
		t.Errorf("error %v\n%s", err, &out)
	}
}

// mustRun returns what a run printed that must end well.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out output
	if err := run(ctx, args, &out); err != nil {
		t.Fatalf("run %q: %v\n%s", args, err, &out)
	}
	return out.String()
}

// number finds a number with commas in the output.
func number(t *testing.T, out, pattern string) int {
	t.Helper()
	match := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if match == nil {
		t.Fatalf("no %s in:\n%s", pattern, out)
	}
	n, err := strconv.Atoi(strings.ReplaceAll(match[1], ",", ""))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// output keeps what is printed, and calls a function at a certain line.
type output struct {
	trigger string
	then    func()

	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.then != nil && bytes.Contains(p, []byte(o.trigger)) {
		o.then()
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
