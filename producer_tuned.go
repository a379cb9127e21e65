package kafkax

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// tunedTransport is a RoundTripper that the caller gave the Writer. Its code
// would run on kafka-go's goroutines, where a panic ends the process and a call
// that does not return holds up Close.
type tunedTransport struct {
	next  kafka.RoundTripper
	bound func(context.Context) (context.Context, context.CancelFunc)
}

func (t tunedTransport) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	ctx, cancel := t.bound(ctx)
	defer cancel()
	var res kafka.Response
	result := callUser(func() (err error) {
		res, err = t.next.RoundTrip(ctx, addr, req)
		return err
	})
	var err error
	select {
	case err = <-result:
		if err == nil {
			return res, wrongAnswer(req, res)
		}
		if _, panicked := errors.AsType[*PanicError](err); !panicked && !errors.Is(err, errGoexit) {
			return nil, err
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	err = fmt.Errorf("the Writer's Transport: %w", err)
	if _, sends := req.(*produce.Request); !sends {
		return nil, err
	}
	if errors.Is(err, ErrClosed) {
		err = errStopped // ErrClosed promises that nothing was sent.
	}
	return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// wrongAnswer is about an answer of another type than kafka-go takes for
// granted.
func wrongAnswer(req kafka.Request, res kafka.Response) error {
	switch req := req.(type) {
	case *metadata.Request:
		if _, ok := res.(*metadata.Response); !ok {
			return fmt.Errorf("the Writer's Transport answered a metadata request with %T", res)
		}
	case *produce.Request:
		if _, ok := res.(*produce.Response); !ok && req.Acks != int16(kafka.RequireNone) {
			return fmt.Errorf("%w: the Writer's Transport answered a produce request with %T", ErrOutcomeUnknown, res)
		}
	}
	return nil
}

// tunedLoggers are the Writer's loggers, if the caller has changed the Writer.
// kafka-go calls them on goroutines of its own, without a thought of what they
// may do.
func tunedLoggers(w *kafka.Writer) *loggers {
	info, err := w.Logger, w.ErrorLogger
	if isNil(info) {
		info = noLogger{}
	}
	if isNil(err) {
		err = info // as kafka-go does
	}
	return newLoggers(info, err)
}
