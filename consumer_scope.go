package kafkax

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// cutGrace is how long handlers whose context was ended, and the last commit,
// have to come to an end, and after them what leaves the group.
const cutGrace = 500 * time.Millisecond

// coordinatorTimeout bounds each request to the group's coordinator; a join waits
// for the other members on top.
const coordinatorTimeout = 5 * time.Second

// scope is what one run of a consumer shares with its parts: what they work
// with, how long they may, and whom they tell of trouble.
type scope struct {
	cfg     *ConsumerConfig
	log     *loggers
	stats   *consumerStats
	dialer  *dialer
	client  *kafka.Client
	cluster *cluster

	ctx       context.Context // ends when the run is asked to
	cut       context.Context // ends when a stop may not wait for handlers any longer
	abandoned context.Context // ends cutGrace later: a stop may not wait for anything

	// arrive is called when the run has got as far as it can for now: it has
	// an assignment, or its topic is missing, or something failed.
	arrive func()
	// trouble is told of everything that is not about one message; partition -1
	// is the whole topic.
	trouble func(partition int, err error)
	// fail ends the run with an error.
	fail func(err error)
}

// report makes a problem visible that the run deals with by itself.
func (s *scope) report(partition int, err error) {
	s.stats.errors.Add(1)
	attrs := attrsOf(s.cfg.Topic, partition)
	if partition < 0 {
		attrs = attrs[:1] // about the topic
	}
	s.log.fail("consuming is in trouble", attrs.group(s.cfg.GroupID).err(err))
	s.trouble(partition, err)
}

// joinCallPatience is how long a join waits in silence for code of the caller's.
const joinCallPatience = 5 * time.Second

// leavingCallPatience is the same after a stop, which sees a join through that is
// under way, so as to leave under the name that the group has for this member.
const leavingCallPatience = 100 * time.Millisecond

// callToJoin runs code of the caller's that a join cannot do without, and waits for
// it until ctx ends, or a moment longer. When it has not returned for
// joinCallPatience, that is reported and late is called, so that nobody else waits
// for this member.
func (s *scope) callToJoin(ctx context.Context, what string, f func() error, late func()) error {
	failed := func(err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	result := callUser(f)
	patience := time.NewTimer(joinCallPatience)
	defer patience.Stop()
	for {
		select {
		case err := <-result:
			return failed(err)
		case <-patience.C:
			s.arrive()
			s.report(-1, fmt.Errorf("group %s: %s has not returned for %v, and nothing is consumed until it does", s.cfg.GroupID, what, joinCallPatience))
			late()
		case <-ctx.Done():
			if err, ok := within(result, leavingCallPatience); ok {
				return failed(err)
			}
			return ErrClosed
		}
	}
}

// secondTry prepares for one more try of what was refused: the credentials of
// an old connection may have run out, or the permission been given since, so the
// next request goes over a fresh one. It is false if that is no use.
func (s *scope) secondTry(err error) bool {
	if !errors.Is(withSentinel(err), ErrAuthorization) {
		return false // a fresh connection was refused already
	}
	s.dialer.renew()
	return true
}
