// Package demo is what the examples need and a service does not: a broker in
// this process, topics with something in them, and an end.
package demo

import (
	"context"
	"flag"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/bi-common/kafkax"
)

// Flags returns the flags of an example, whose -h says what it does.
func Flags(name, what string, out io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		_, _ = fmt.Fprintf(out, `%s %s

	go run ./examples/%[1]s

Brokers, topic, group and all else come from the KAFKAX_* environment. Without
KAFKAX_BROKERS it runs on a broker of its own, in this process. On a cluster it
makes topics that are not there.

`, name, what)
		flags.PrintDefaults()
	}
	return flags
}

// Parse reads the flags. The error is [flag.ErrHelp] after -h.
func Parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; -h lists the flags", flags.Arg(0))
	}
	return nil
}

// UntilCaughtUp returns a context that ends when the consumers have handled all
// there is, or with ctx. A service consumes until it is stopped; an example has
// an end. The function releases what the context holds, and must be called.
func UntilCaughtUp(ctx context.Context, consumers ...*kafkax.Consumer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		defer cancel()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for !caughtUp(consumers) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() { cancel(); watch.Wait() }
}

func caughtUp(consumers []*kafkax.Consumer) bool {
	for _, c := range consumers {
		if c.Lag() != 0 { // -1: not known yet
			return false
		}
	}
	return true
}
