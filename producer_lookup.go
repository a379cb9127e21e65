package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// missingTopicPatience is how long a topic may be unknown before a send to
// it fails. A topic just made is known to every broker within a second,
// and what we know is at most a second old; a misspelt one will never be.
// Java waits for a minute (max.block.ms), kafka.Writer not at all.
const missingTopicPatience = 5 * time.Second

// lookup finds a topic's partitions. kafka.Writer asks before each message, so
// a topic that is known costs little. Nothing has been sent when it fails.
func (q *requests) lookup(ctx context.Context, r *route, addr net.Addr, req *metadata.Request) (kafka.Response, error) {
	topic := req.TopicNames[0]
	if r.known.Load() && !req.AllowAutoTopicCreation {
		res, err := r.RoundTrip(ctx, addr, req)
		if err == nil && topicCode(res, topic) == 0 {
			return res, nil
		}
	}

	ctx, cancel := q.bound(ctx)
	defer cancel()
	var missing time.Time // since when the cluster has not had it
	renewed := false
	for tries := 1; ; tries++ {
		res, err := q.ask(ctx, r, addr, req)
		if err == nil {
			code := topicCode(res, topic)
			if code == 0 {
				r.known.Store(true)
				return res, nil
			}
			if missing.IsZero() {
				missing = time.Now()
			}
			err = brokerError(int16(code))
			if what := permission(code, topic); what != "" {
				err = fmt.Errorf("%w: %s", err, what)
			}
		}
		if !renewed && ctx.Err() == nil && errors.Is(err, ErrAuthorization) {
			r.renew() // The credentials of the connection may have run out.
			renewed = true
			continue
		}
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("topic %q not found out: %w", topic, ending(ctx, err))
		case !IsRetryable(err):
			return nil, fmt.Errorf("topic %q: %w", topic, err)
		case !missing.IsZero() && time.Since(missing) >= missingTopicPatience:
			return nil, fmt.Errorf("topic %q: %w (for %s now; producers do not create topics)", topic, err, missingTopicPatience)
		}
		wait := deliveryBackoff.draw(tries)
		if told := troubleOf(ctx); told != nil {
			told(fmt.Errorf("topic %q not found out: %w", topic, err))
		}
		q.log.progress("a topic was not found out, to be retried", logAttrs{slog.String("topic", topic)}.attempt(tries, 0).next(wait).err(err))
		if sleep(ctx, wait) != nil {
			return nil, fmt.Errorf("topic %q not found out: %w", topic, ending(ctx, err))
		}
	}
}

func topicCode(res kafka.Response, topic string) kafka.Error {
	if res, ok := res.(*metadata.Response); ok {
		for i := range res.Topics {
			if res.Topics[i].Name == topic {
				return kafka.Error(res.Topics[i].ErrorCode)
			}
		}
	}
	return kafka.UnknownTopicOrPartition
}
