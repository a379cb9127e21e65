package kafkax

import (
	"errors"
	"fmt"
	"slices"

	"github.com/segmentio/kafka-go"
)

// errorOfEach takes apart what a handler returned for messages: the result says
// it of the i-th as they came, which original gives. A BatchError that names none
// of them, or something else, says it of all.
func errorOfEach(err error, messages []kafka.Message, original func(i int) *kafka.Message) func(i int) error {
	all := func(int) error { return err }
	be, ok := errors.AsType[*BatchError](err)
	if !ok || be == nil || len(be.Failed) == 0 {
		return all
	}
	named, ok := namedBy(be, messages, original)
	if !ok {
		return all
	}
	return func(i int) error {
		e, ok := named[i]
		switch {
		case !ok:
			return nil
		case e == nil:
			return err
		}
		// What was put around the BatchError holds for each message it names.
		if errors.Is(err, ErrHandlerTimeout) && !errors.Is(e, ErrHandlerTimeout) {
			e = fmt.Errorf("%w: %w", ErrHandlerTimeout, e)
		}
		if permanentOutside(err) {
			e = Permanent(e)
		}
		return e
	}
}

// namedBy finds the messages that a BatchError names. The slice was the
// handler's, which may have sorted it: an index means what stands there now. It
// is false if that is no message of the batch, or one that is named already.
func namedBy(be *BatchError, messages []kafka.Message, original func(i int) *kafka.Message) (named map[int]error, ok bool) {
	type place struct {
		topic     string
		partition int
		offset    int64
	}
	placeOf := func(m *kafka.Message) place { return place{m.Topic, m.Partition, m.Offset} }
	var indexes map[place]int
	named = make(map[int]error, len(be.Failed))
	for j, e := range be.Failed {
		if j < 0 || j >= len(messages) {
			return nil, false
		}
		i := j
		if p := placeOf(&messages[j]); p != placeOf(original(j)) {
			if indexes == nil {
				indexes = make(map[place]int, len(messages))
				for i := range messages {
					indexes[placeOf(original(i))] = i
				}
			}
			if i, ok = indexes[p]; !ok {
				return nil, false
			}
		}
		if _, twice := named[i]; twice {
			return nil, false
		}
		named[i] = e
	}
	return named, true
}

// permanentOutside says whether err is marked Permanent as a whole, not only
// inside of its BatchError.
func permanentOutside(err error) bool {
	switch e := err.(type) { //nolint:errorlint // this walks the tree itself
	case *BatchError:
		return false
	case *permanentError:
		return true
	case interface{ Unwrap() error }:
		return permanentOutside(e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), permanentOutside)
	}
	return false
}
