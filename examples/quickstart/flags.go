package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/bi-common/kafkax/examples/internal/quakes"
)

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
	all := len(quakes.Events())
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
