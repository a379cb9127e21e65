package kafkax

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/segmentio/kafka-go"
)

// requests is how a delivery asks the cluster: each request ends, whatever the
// broker does, and says why it did.
type requests struct {
	cfg    ProducerConfig
	log    *loggers
	reason func(error) error

	life context.Context // ends with the delivery's close
	end  context.CancelCauseFunc
}

// once is a single request. What ends it is dial_timeout, the silence of its
// connection, or ctx, which is one of bound: a time for the whole of it would be
// a bound on the size of what it carries.
func (q *requests) once(ctx context.Context, t kafka.RoundTripper, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	res, err := t.RoundTrip(ctx, addr, req)
	if err != nil {
		err = q.reason(err)
	}
	return res, err
}

// ask is once within read_timeout, for questions of a few bytes. It bounds what
// kafka.Transport waits for besides the answer: dials, and the metadata that it
// asks for by itself.
func (q *requests) ask(ctx context.Context, t kafka.RoundTripper, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.ReadTimeout)
	defer cancel()
	return q.once(ctx, t, addr, req)
}

// permission says what to allow. A broker names what it refused the request for,
// and not the operation. Since KIP-679 (Kafka 3.0) Write on any topic is enough to
// get a producer id.
func permission(code kafka.Error, topic string) string {
	switch code {
	case kafka.TopicAuthorizationFailed:
		return fmt.Sprintf("allow Write on the topic %q", topic)
	case kafka.ClusterAuthorizationFailed:
		return fmt.Sprintf("allow Write on the topic %q; before Kafka 3.0 also IdempotentWrite on the cluster, unless producer.idempotent is false", topic)
	}
	return ""
}

// bound ends with the caller's context, with the delivery timeout, or with
// close; context.Cause says with which.
func (q *requests) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	unlink := context.AfterFunc(q.life, func() { end(ErrClosed) })
	ctx, cancel := context.WithTimeoutCause(ctx, q.cfg.DeliveryTimeout, errDeliveryTimeout)
	return ctx, func() {
		unlink()
		cancel()
		end(nil)
	}
}

// ending says why ctx ended, and what was wrong until then.
func ending(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if last == nil || errors.Is(last, ctx.Err()) {
		return cause
	}
	return fmt.Errorf("%w, and before: %w", cause, last)
}
