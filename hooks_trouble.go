package kafkax

import "context"

type troubleKey struct{}

// withTrouble is for a call of WriteMessages that tells of what goes wrong while it
// waits and a [Producer] tries again: it may be long until the call returns. It is in
// the context as a writer of the caller's may be between the two. Told may be called
// by several goroutines at once, and for a moment after the call has returned.
func withTrouble(ctx context.Context, told func(error)) context.Context {
	return context.WithValue(ctx, troubleKey{}, told)
}

// troubleOf is what withTrouble put into the context, or nil.
func troubleOf(ctx context.Context) func(error) {
	told, _ := ctx.Value(troubleKey{}).(func(error))
	return told
}
