package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strconv"
	"time"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/examples/internal/quakes"
)

// ledger compares what the brokers hold with what this run has seen. What
// earlier runs of the group did is known from the committed offsets.
type ledger struct {
	cluster *cluster
	opts    options

	missing []quakes.Event // what the topic does not have yet
	there   int            // what it had before this run
	total   int            // what it has now
	twice   int            // of these, what it has more than once
	refused int            // of these, what is no earthquake

	before, now []position // of the group
	dead        []kafkax.Message
	deadNow     int // of these, what this run wrote
	deadTwice   int // of these, what was there already
}

func openLedger(ctx context.Context, c *cluster, opts options) (*ledger, error) {
	events := quakes.Events()[:opts.count]
	if err := c.createTopics(ctx, topic, dlqTopic); err != nil {
		return nil, err
	}
	l := &ledger{cluster: c, opts: opts}
	var err error
	if l.before, err = c.positions(ctx, topic, opts.group); err != nil {
		return nil, err
	}

	// A send that a stop cut off may have reached the log or not. The log
	// knows, so look there before sending anything again. A service that
	// forwards a table would note how far it is in that table.
	have := map[string]bool{}
	err = c.readAll(ctx, topic, func(msg kafkax.Message) {
		e, err := decode(msg)
		if have[e.ID] {
			l.twice++
		}
		if e.ID != "" { // not of somebody else
			have[e.ID] = true
		}
		l.add(err)
	})
	if err != nil {
		return nil, err
	}
	l.there = l.total
	for _, e := range events {
		if !have[e.ID] {
			l.missing = append(l.missing, e)
		}
	}
	return l, nil
}

func (l *ledger) add(refusal error) {
	l.total++
	if refusal != nil {
		l.refused++
	}
}

func (l *ledger) noteSent(events []quakes.Event) {
	for _, e := range events {
		l.add(check(e))
	}
}

// close asks the brokers where things stand now.
func (l *ledger) close(ctx context.Context) error {
	var err error
	if l.now, err = l.cluster.positions(ctx, topic, l.opts.group); err != nil {
		return err
	}
	seen := map[string]bool{}
	return l.cluster.readAll(ctx, dlqTopic, func(msg kafkax.Message) {
		if header(msg, kafkax.HeaderConsumerGroup) != l.opts.group {
			return // of another group, which had its own failures
		}
		l.dead = append(l.dead, msg)
		partition, offset := header(msg, kafkax.HeaderOriginalPartition), header(msg, kafkax.HeaderOriginalOffset)
		if origin := partition + "@" + offset; seen[origin] {
			l.deadTwice++
		} else {
			seen[origin] = true
		}
		p, _ := strconv.Atoi(partition)
		o, _ := strconv.ParseInt(offset, 10, 64)
		if p < len(l.before) && o >= l.before[p].committed {
			l.deadNow++
		}
	})
}

func header(msg kafkax.Message, key string) string {
	for _, h := range msg.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// done is how many messages a group is done with: handled or dead-lettered.
func done(all []position) int {
	n := int64(0)
	for _, p := range all {
		n += p.committed - p.first
	}
	return int(n)
}

// lag is how many it is not done with.
func lag(all []position) int {
	n := int64(0)
	for _, p := range all {
		n += p.end - p.committed
	}
	return int(n)
}

// handledBefore is how many earthquakes earlier runs of the group stored.
func (l *ledger) handledBefore() int { return done(l.before) - (len(l.dead) - l.deadNow) }

// check is nil if nothing was lost and nothing came twice.
func (l *ledger) check(s *sink) error {
	var errs []error
	expect := func(what string, got, want int) {
		if got != want {
			errs = append(errs, fmt.Errorf("%s: %s instead of %s", what, count(got), count(want)))
		}
	}
	stored := len(s.stored)
	expect("events twice in the topic", l.twice, 0)
	expect("events handled twice", s.repeated, 0)
	expect("events dead-lettered twice, as after a crash", l.deadTwice, 0)
	expect("events handled or dead-lettered by this run", stored+l.deadNow, done(l.now)-done(l.before))
	if lag(l.now) == 0 {
		expect("events in the topic", done(l.now), l.total)
		expect("earthquakes handled", l.handledBefore()+stored, l.total-l.refused)
		expect("events dead-lettered", len(l.dead), l.refused)
	}
	return errors.Join(errs...)
}

// printSent says what was sent, before anything is consumed.
func (l *ledger) printSent(out *log.Logger, took time.Duration) {
	sent := l.total - l.there
	switch {
	case len(l.missing) == 0:
		out.Printf("sent       nothing: the topic has %s events already", count(l.there))
	case sent < len(l.missing):
		out.Printf("sent       %s of %s events in %s", count(sent), count(len(l.missing)), seconds(took))
	case l.there > 0:
		out.Printf("sent       %s events in %s; the topic had %s already", count(sent), seconds(took), count(l.there))
	default:
		out.Printf("sent       %s events in %s, keyed by network", count(sent), seconds(took))
	}
}

func (l *ledger) printHandled(out *log.Logger, s *sink, took time.Duration) {
	if earlier := done(l.before); earlier > 0 {
		out.Printf("before     %s events: what group %s was done with when this run began", count(earlier), l.opts.group)
	}
	if len(s.stored) == 0 {
		out.Print("handled    nothing")
		return
	}
	out.Printf("handled    %s earthquakes in %s", count(len(s.stored)), seconds(took))
	if s.retried > 0 {
		out.Printf("retried    %s of them, which found the sink down at first", count(s.retried))
	}
	out.Printf("largest    magnitude %.1f, %s, %s", s.largest.Mag, s.largest.Place,
		time.UnixMilli(s.largest.Time).UTC().Format("2 January 2006, 15:04 MST"))
}

func (l *ledger) printDeadLetters(out *log.Logger) {
	if len(l.dead) == 0 {
		out.Print("dead       nothing")
		return
	}
	out.Printf("dead       %s explosions and quarry blasts, now in %s; one of them:", count(len(l.dead)), dlqTopic)
	letter := l.dead[0]
	out.Printf("             %-27s %s", "key", letter.Key)
	for _, h := range letter.Headers {
		out.Printf("             %-27s %s", h.Key, h.Value)
	}
}

// errBehind says that there are events the group is not done with.
var errBehind = errors.New("not all events are consumed; the same command goes on")

// printSum prints the sum if it is right.
func (l *ledger) printSum(out *log.Logger, s *sink) error {
	if err := l.check(s); err != nil {
		return fmt.Errorf("the sum is wrong:\n%w", err)
	}
	handled, dead := l.handledBefore()+len(s.stored), len(l.dead)
	if behind := lag(l.now); behind > 0 {
		out.Printf("\n%s handled + %s dead-lettered = %s of %s events; %s wait.",
			count(handled), count(dead), count(handled+dead), count(l.total), count(behind))
		return errBehind
	}
	out.Printf("\n%s handled + %s dead-lettered = %s events. Lag 0, no duplicate.", count(handled), count(dead), count(handled+dead))
	return nil
}

func printStopped(out *log.Logger, opts options) {
	if opts.inProcess {
		out.Print("Stopped. The broker went with it: only with KAFKAX_BROKERS does a next run go on from here.")
		return
	}
	out.Print("Stopped. The same command goes on from here.")
}

// count prints a number with its thousands apart.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
