package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"
)

// Event is what a network of stations measured.
type Event struct {
	ID       string  `json:"id"`
	Time     int64   `json:"time"` // milliseconds since 1970, UTC
	Type     string  `json:"type"` // earthquake, explosion or quarry blast
	Net      string  `json:"net"`  // who measured it
	Mag      float64 `json:"mag"`
	MagType  string  `json:"magType"`
	Place    string  `json:"place"`
	Lon      float64 `json:"lon"`
	Lat      float64 `json:"lat"`
	DepthKM  float64 `json:"depth_km"`
	Stations *int    `json:"nst"` // nil: not reported
	Status   string  `json:"status"`
	Tsunami  int     `json:"tsunami"`
}

// 1,707 events, oldest first; see README.md.
//
//go:embed usgs-earthquakes-2018-02.jsonl
var data []byte

// loadEvents returns the first n events.
func loadEvents(n int) ([]Event, error) {
	events := make([]Event, n)
	lines := json.NewDecoder(bytes.NewReader(data))
	for i := range events {
		if err := lines.Decode(&events[i]); err != nil {
			return nil, fmt.Errorf("event %d: %w", i+1, err)
		}
	}
	return events, nil
}

type options struct {
	count   int
	group   string
	brokers string
	pace    time.Duration

	help      bool
	inProcess bool // the broker is our own, and ends with the run
}

const usage = `quickstart sends a week of earthquakes through Kafka and back, and checks that
none is lost and none comes twice.

	go run ./examples/quickstart [flags]

Without flags it runs a broker of its own, in this process. With KAFKAX_BROKERS
or -broker it uses that cluster, and makes its two topics there. Ctrl-C stops
it; on a cluster, the same command again goes on from there.

`

func parseFlags(args []string, stdout io.Writer) (options, error) {
	var opts options
	all := bytes.Count(data, []byte("\n"))
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error is returned, and printed once
	flags.IntVar(&opts.count, "count", all, "send the first `n` events")
	flags.StringVar(&opts.group, "group", "quickstart", "consume as this `group`; a new one starts from the first event")
	flags.StringVar(&opts.brokers, "broker", "", "use the cluster at `host:port`, or several with commas between")
	flags.DurationVar(&opts.pace, "pace", 0, "take this `long` for each event, such as 10ms, to have time for Ctrl-C")

	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		opts.help = true
		flags.SetOutput(stdout)
		_, err = io.WriteString(stdout, usage)
		flags.PrintDefaults()
		return opts, err
	case err != nil:
		return opts, fmt.Errorf("%w (-h lists the flags)", err)
	case flags.NArg() > 0:
		return opts, fmt.Errorf("unexpected argument %q (-h lists the flags)", flags.Arg(0))
	case opts.count < 1 || opts.count > all:
		return opts, fmt.Errorf("-count %d: there are 1 to %d events", opts.count, all)
	case opts.group == "":
		return opts, errors.New("-group must not be empty")
	case opts.pace < 0:
		return opts, fmt.Errorf("-pace %s: must not be negative", opts.pace)
	}
	return opts, nil
}
