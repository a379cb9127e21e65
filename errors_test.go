package kafkax_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/bi-common/kafkax"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// A handler says by its error whether a retry is worth it.
func ExamplePermanent() {
	handler := func(_ context.Context, msg kafka.Message) error {
		if len(msg.Value) == 0 {
			return kafkax.Permanent(fmt.Errorf("order without a body: %w", io.ErrUnexpectedEOF))
		}
		return nil
	}
	err := handler(context.Background(), kafka.Message{Topic: "orders"})
	fmt.Println(err)
	fmt.Println(errors.Is(err, io.ErrUnexpectedEOF))
	// Output:
	// order without a body: unexpected EOF
	// true
}

func ExampleIsRetryable() {
	fmt.Println(kafkax.IsRetryable(kafka.NotLeaderForPartition))
	fmt.Println(kafkax.IsRetryable(kafka.MessageSizeTooLarge))
	fmt.Println(kafkax.IsRetryable(fmt.Errorf("send: %w", kafkax.ErrOutcomeUnknown)))
	// Output:
	// true
	// false
	// false
}

func ExampleHandlerError() {
	err := error(&kafkax.HandlerError{Topic: "orders", Partition: 3, Offset: 42, Attempts: 3, Err: io.EOF})
	if stopped, ok := errors.AsType[*kafkax.HandlerError](err); ok {
		fmt.Println(stopped.Topic, stopped.Partition, stopped.Offset)
	}
	fmt.Println(err)
	// Output:
	// orders 3 42
	// orders[3]@42: handler failed after 3 attempt(s): EOF
}

func TestSentinelsThroughAWrap(t *testing.T) {
	t.Parallel()
	sentinels := map[string]error{
		"ErrClosed":           kafkax.ErrClosed,
		"ErrInvalidConfig":    kafkax.ErrInvalidConfig,
		"ErrNoBrokers":        kafkax.ErrNoBrokers,
		"ErrNoTopic":          kafkax.ErrNoTopic,
		"ErrRevoked":          kafkax.ErrRevoked,
		"ErrShutdown":         kafkax.ErrShutdown,
		"ErrHandlerTimeout":   kafkax.ErrHandlerTimeout,
		"ErrOutcomeUnknown":   kafkax.ErrOutcomeUnknown,
		"ErrBusy":             kafkax.ErrBusy,
		"ErrAuthentication":   kafkax.ErrAuthentication,
		"ErrAuthorization":    kafkax.ErrAuthorization,
		"ErrOffsetOutOfRange": kafkax.ErrOffsetOutOfRange,
	}
	for name, sentinel := range sentinels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrapped := fmt.Errorf("around: %w", sentinel)
			for other, target := range sentinels {
				if got := errors.Is(wrapped, target); got != (other == name) {
					t.Errorf("errors.Is(%v, %s) = %v", wrapped, other, got)
				}
			}
			if !strings.HasPrefix(sentinel.Error(), "kafkax: ") {
				t.Errorf("%q does not say whose it is", sentinel)
			}
		})
	}

	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if _, isFunc := n.(*ast.FuncDecl); isFunc {
			return false
		}
		if vars, ok := n.(*ast.ValueSpec); ok {
			for _, name := range vars.Names {
				if strings.HasPrefix(name.Name, "Err") && sentinels[name.Name] == nil {
					t.Errorf("%s is missing in this test", name.Name)
				}
			}
		}
		return true
	})
}

func TestErrorTypesThroughAWrap(t *testing.T) {
	t.Parallel()
	cause, other := errors.New("cause"), errors.New("other cause")
	tests := []struct {
		name string
		err  error
		as   func(error) bool
		is   []error
		text string
	}{
		{
			"ConfigError",
			&kafkax.ConfigError{Key: "brokers", Source: "env KAFKAX_BROKERS", Value: "a,,b", Rule: "no address may be empty", Err: kafkax.ErrNoBrokers},
			asType[*kafkax.ConfigError],
			[]error{kafkax.ErrInvalidConfig, kafkax.ErrNoBrokers},
			"kafkax: brokers = a,,b (env KAFKAX_BROKERS): no address may be empty",
		},
		{
			"ConfigError without a cause",
			&kafkax.ConfigError{Key: "brokers", Rule: "is required"},
			asType[*kafkax.ConfigError],
			[]error{kafkax.ErrInvalidConfig},
			"kafkax: brokers: is required",
		},
		{
			"HandlerError",
			&kafkax.HandlerError{Topic: "orders", Partition: 3, Offset: 42, Attempts: 2, Err: cause},
			asType[*kafkax.HandlerError],
			[]error{cause},
			"orders[3]@42: handler failed after 2 attempt(s): cause",
		},
		{
			"DeadLetterError",
			&kafkax.DeadLetterError{Topic: "orders", Partition: 3, Offset: 42, DLQTopic: "dlq", HandlerErr: cause, WriteErr: other},
			asType[*kafkax.DeadLetterError],
			[]error{cause, other},
			`orders[3]@42: not handled (cause) and not dead-lettered to "dlq": other cause`,
		},
		{
			"ConsumeError",
			&kafkax.ConsumeError{Topic: "orders", Partition: 3, Offset: 42, Outcome: kafkax.OutcomeSkipped, Attempts: 2, Err: cause},
			asType[*kafkax.ConsumeError],
			[]error{cause},
			"orders[3]@42: skipped after 2 attempt(s): cause",
		},
		{
			"ConsumeError of trouble",
			&kafkax.ConsumeError{Topic: "orders", Partition: -1, Offset: -1, Outcome: kafkax.OutcomeTrouble, Err: cause},
			asType[*kafkax.ConsumeError],
			[]error{cause},
			"trouble: cause",
		},
		{
			"BatchError",
			&kafkax.BatchError{Failed: map[int]error{7: other, 0: cause}},
			asType[*kafkax.BatchError],
			[]error{cause, other},
			"2 message(s) of the batch failed: cause\nother cause",
		},
		{
			"PanicError with an error",
			&kafkax.PanicError{Value: cause, Stack: []byte("stack")},
			asType[*kafkax.PanicError],
			[]error{cause},
			"panic: cause",
		},
		{
			"PanicError with a message's body",
			&kafkax.PanicError{Value: []byte("SECRET"), Stack: []byte("stack")},
			asType[*kafkax.PanicError],
			nil,
			"panic ([]uint8)",
		},
		{
			"ProduceError",
			&kafkax.ProduceError{Index: 4, Topic: "orders", Partition: 3, Err: cause},
			asType[*kafkax.ProduceError],
			[]error{cause},
			"message 4 to orders[3]: cause",
		},
		{
			"ProduceError before a partition",
			&kafkax.ProduceError{Index: 4, Topic: "orders", Partition: -1, Err: cause},
			asType[*kafkax.ProduceError],
			[]error{cause},
			"message 4 to orders: cause",
		},
		{
			"ProduceErrors",
			kafkax.ProduceErrors{{Index: 1, Topic: "a", Err: cause}, {Index: 2, Topic: "b", Err: other}},
			asType[kafkax.ProduceErrors],
			[]error{cause, other},
			"2 messages not sent, the first: message 1 to a[0]: cause",
		},
		{
			"ProduceErrors of one, through ProduceError",
			kafkax.ProduceErrors{{Index: 1, Topic: "a", Err: cause}},
			asType[*kafkax.ProduceError],
			[]error{cause},
			"message 1 to a[0]: cause",
		},
		{
			"ProduceErrors of none",
			kafkax.ProduceErrors{},
			asType[kafkax.ProduceErrors],
			nil,
			"no message failed",
		},
		{
			"ShutdownError",
			&kafkax.ShutdownError{What: []string{"orders[3]@42: handler still running", "final commit"}, Err: context.DeadlineExceeded},
			asType[*kafkax.ShutdownError],
			[]error{context.DeadlineExceeded},
			"kafkax: shutdown cut off (context deadline exceeded): orders[3]@42: handler still running; final commit",
		},
		{
			"Permanent",
			kafkax.Permanent(fmt.Errorf("inner: %w", cause)),
			func(error) bool { return true },
			[]error{cause},
			"inner: cause",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wrapped := fmt.Errorf("around: %w", tt.err)
			if !tt.as(wrapped) {
				t.Errorf("errors.As does not find it in %v", wrapped)
			}
			for _, target := range tt.is {
				if !errors.Is(wrapped, target) {
					t.Errorf("%v does not match %v", wrapped, target)
				}
			}
			if errors.Is(wrapped, io.EOF) {
				t.Errorf("%v matches an error that is not in it", wrapped)
			}
			if got := tt.err.Error(); got != tt.text {
				t.Errorf("text %q, want %q", got, tt.text)
			}
		})
	}
}

func asType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestSeveralErrorsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	batch := &kafkax.BatchError{Failed: map[int]error{}}
	var want []error
	for i := range 100 {
		err := fmt.Errorf("message %d", i)
		want = append(want, err)
		batch.Failed[i] = err
	}
	if got := batch.Unwrap(); !slices.Equal(got, want) {
		t.Errorf("BatchError unwraps to %v, want the order of the messages", got)
	}

	sends := kafkax.ProduceErrors{{Index: 2, Err: io.EOF}, {Index: 5, Err: io.ErrClosedPipe}}
	got := sends.Unwrap()
	if len(got) != 2 || got[0] != error(sends[0]) || got[1] != error(sends[1]) { //nolint:errorlint // the very values
		t.Errorf("ProduceErrors unwraps to %v, want each ProduceError in place", got)
	}
}

func TestPermanentMark(t *testing.T) {
	t.Parallel()
	if err := kafkax.Permanent(nil); err != nil {
		t.Errorf("Permanent(nil) = %v, want nil", err)
	}
	cause := errors.New("cause")
	around := fmt.Errorf("around: %w", kafkax.Permanent(cause))
	tests := []struct {
		name      string
		err       error
		plain     error
		permanent bool
	}{
		{"nil", nil, nil, false},
		{"no mark", cause, cause, false},
		{"marked", kafkax.Permanent(cause), cause, true},
		{"marked twice", kafkax.Permanent(kafkax.Permanent(cause)), cause, true},
		{"marked inside", around, around, true},
		{"marked inside and outside", kafkax.Permanent(around), around, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plain, permanent := kafkax.Unmark(tt.err)
			if plain != tt.plain || permanent != tt.permanent { //nolint:errorlint // the very value
				t.Errorf("unmark = %#v, %v, want %#v, %v", plain, permanent, tt.plain, tt.permanent)
			}
		})
	}
	if _, permanent := kafkax.Unmark(errors.Join(io.EOF, kafkax.Permanent(cause))); !permanent {
		t.Error("a mark among joined errors is not found")
	}
}

func TestIsRetryable(t *testing.T) {
	t.Parallel()
	_, noFile := os.Open("testdata/there-is-no-such-file")
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, false},
		{"any other error", errors.New("boom"), false},
		{"missing file", noFile, false},

		{"canceled", context.Canceled, false},
		{"canceled while dialing", errors.Join(refused, context.Canceled), false},
		{"deadline", context.DeadlineExceeded, true},
		{"I/O deadline", os.ErrDeadlineExceeded, true},

		{"refused connection", refused, true},
		{"bare errno of a connection", syscall.ECONNRESET, true},
		{"bare errno, timed out", syscall.ETIMEDOUT, true},
		{"bare errno of something else", syscall.EPERM, false},
		{"unknown host", &net.DNSError{Err: "no such host", Name: "kafka", IsNotFound: true}, true},
		{"closed connection", net.ErrClosed, true},
		{"closed pipe", io.ErrClosedPipe, true},
		{"hung up", io.EOF, true},
		{"hung up inside an answer", io.ErrUnexpectedEOF, true},

		{"leader moved", kafka.NotLeaderForPartition, true},
		{"no leader in the metadata", produce.NewError(protocol.NewErrNoLeader("orders", 3)), true},
		{"no partition in the metadata", produce.NewError(protocol.NewErrNoPartition("orders", 3)), true},
		{"no topic in the metadata", produce.NewError(protocol.NewErrNoTopic("orders")), true},
		{"no record", produce.NewError(protocol.ErrNoRecord), false},
		{"too large", kafka.MessageTooLargeError{}, false},
		{"refused password", kafka.SASLAuthenticationFailed, false},
		{"forbidden topic", kafka.TopicAuthorizationFailed, false},
		{"unknown server error", kafka.Unknown, false},
		{"code nobody knows", kafka.Error(30_000), false},

		{"several, all retriable", kafkax.ProduceErrors{{Err: kafka.NotLeaderForPartition}, {Err: kafka.RequestTimedOut}}, true},
		{"several, one not", kafkax.ProduceErrors{{Err: kafka.NotLeaderForPartition}, {Err: kafka.MessageSizeTooLarge}}, false},
		{"several, one refused", errors.Join(kafka.NotLeaderForPartition, kafka.GroupAuthorizationFailed), false},
		{"several, one without a topic", kafkax.ProduceErrors{{Err: refused}, {Err: kafkax.ErrNoTopic}}, false},
		{"kafka-go's several", kafka.WriteErrors{nil, kafka.NotEnoughReplicas}, true},
		{"kafka-go's several, one not", kafka.WriteErrors{kafka.NotEnoughReplicas, kafka.InvalidRecord}, false},

		{"closed", errors.Join(kafkax.ErrClosed, io.EOF), false},
		{"configuration", &kafkax.ConfigError{Key: "tls.ca_file", Err: refused}, false},
		{"outcome unknown", errors.Join(kafkax.ErrOutcomeUnknown, context.DeadlineExceeded), false},
		{"authentication", errors.Join(kafkax.ErrAuthentication, refused), false},
		{"authorization", errors.Join(kafkax.ErrAuthorization, io.EOF), false},
		{"marked permanent", kafkax.Permanent(kafka.NotLeaderForPartition), false},
		{"busy", kafkax.ErrBusy, false},
		{"revoked", kafkax.ErrRevoked, false},
		{"in a HandlerError", &kafkax.HandlerError{Err: refused}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := kafkax.IsRetryable(tt.err); got != tt.want {
				t.Errorf("IsRetryable(%v) = %v, want %v", tt.err, got, tt.want)
			}
			if tt.err == nil {
				return
			}
			if got := kafkax.IsRetryable(fmt.Errorf("around: %w", tt.err)); got != tt.want {
				t.Errorf("through a wrap: IsRetryable(%v) = %v, want %v", tt.err, got, tt.want)
			}
		})
	}
}

// What Kafka's protocol guide marks as retriable, of the codes kafka-go knows;
// and 8, a broker that the next metadata answer may name again, and 85 and 86 of
// admin requests, as kafka-go has it.
func TestIsRetryableKafkaCodes(t *testing.T) {
	t.Parallel()
	retriable := []kafka.Error{
		2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83, 84, 85, 86, 88, 89, 100, 103, 106,
	}
	for code := kafka.Error(-1); code <= 120; code++ {
		if got, want := kafkax.IsRetryable(code), slices.Contains(retriable, code); code != 0 && got != want {
			t.Errorf("IsRetryable(%v) = %v, want %v", code, got, want)
		}
	}
}

func TestIsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, false},
		{"any other error", io.EOF, false},
		{"another code", kafka.NotLeaderForPartition, false},
		{"authentication", kafkax.ErrAuthentication, true},
		{"authorization", kafkax.ErrAuthorization, true},
		{"password", kafka.SASLAuthenticationFailed, true},
		{"mechanism", kafka.UnsupportedSASLMechanism, true},
		{"topic", kafka.TopicAuthorizationFailed, true},
		{"group", kafka.GroupAuthorizationFailed, true},
		{"cluster", kafka.ClusterAuthorizationFailed, true},
		{"behind another code", errors.Join(kafka.NotLeaderForPartition, kafka.TopicAuthorizationFailed), true},
		{"in kafka-go's several", kafka.WriteErrors{nil, kafka.NotLeaderForPartition, kafka.TopicAuthorizationFailed}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := kafkax.IsRefused(tt.err); got != tt.want {
				t.Errorf("isRefused(%v) = %v, want %v", tt.err, got, tt.want)
			}
			if tt.err != nil && kafkax.IsRefused(fmt.Errorf("around: %w", tt.err)) != tt.want {
				t.Errorf("through a wrap: isRefused(%v) = %v, want %v", tt.err, !tt.want, tt.want)
			}
		})
	}
}
