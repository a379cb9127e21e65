package kafkax

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// Sentinels, for errors.Is.
var (
	// ErrClosed is returned by every call on a Producer or Consumer after
	// Close or GracefulShutdown.
	ErrClosed = errors.New("kafkax: closed")

	// ErrInvalidConfig matches every configuration error; errors.As with
	// *[ConfigError] gives the first of them, Unwrap of the joined error all.
	ErrInvalidConfig = errors.New("kafkax: invalid configuration")

	// ErrNoBrokers also matches when no broker address is configured.
	ErrNoBrokers = errors.New("kafkax: no brokers")

	// ErrNoTopic also matches when a topic is needed and none is given: by the
	// configuration, or by a message sent through a producer without a topic.
	ErrNoTopic = errors.New("kafkax: no topic")

	// ErrRevoked is returned when a message is committed whose partition has
	// since gone to another member of the group. It is also the cause of a
	// handler's context when a rebalance could not wait for it any longer.
	ErrRevoked = errors.New("kafkax: partition revoked")

	// ErrShutdown is the cause of a handler's context when a stop could not
	// wait for it any longer.
	ErrShutdown = errors.New("kafkax: shutting down")

	// ErrHandlerTimeout is the cause of a handler's context when
	// consumer.handler_timeout has passed.
	ErrHandlerTimeout = errors.New("kafkax: handler timeout")

	// ErrOutcomeUnknown matches a send that may or may not have reached the
	// log: its context or delivery_timeout ended while it was in flight.
	// Sending it again may store it twice.
	ErrOutcomeUnknown = errors.New("kafkax: outcome unknown")

	// ErrBusy is returned when a second loop is started on a Consumer that
	// already runs one.
	ErrBusy = errors.New("kafkax: consumer already in use")

	// ErrAuthentication matches refused credentials and failed TLS
	// verification. It is never retried.
	ErrAuthentication = errors.New("kafkax: authentication refused")

	// ErrAuthorization matches an operation that the broker's ACLs forbid. It
	// is never retried.
	ErrAuthorization = errors.New("kafkax: authorization refused")

	// ErrOffsetOutOfRange ends a loop whose position is no longer, or not
	// yet, in the log, when consumer.offset_reset is "error".
	ErrOffsetOutOfRange = errors.New("kafkax: offset out of range")
)

// Sentinels of the package's own. Those that end a call are wrapped by what the
// caller sees.
var (
	errNilArgument = errors.New("kafkax: nil context or handler")

	// errNoGroup is what committing says without a group.
	errNoGroup = errors.New("kafkax: nothing to commit to without consumer.group_id")

	// errDeadLetteredTooOften is of a record that failed wherever its dead letters
	// were consumed.
	errDeadLetteredTooOften = errors.New("it was dead-lettered too often")

	// errDeleted is what committing says when the topic is gone. Trying again
	// would hold up the group, which may have other topics.
	errDeleted = fmt.Errorf("%w: the topic was deleted", ErrRevoked)

	errDeliveryTimeout = fmt.Errorf("producer.delivery_timeout has passed (%w)", context.DeadlineExceeded)

	// errStopped ends the wait of a send whose batch got no outcome even after
	// all connections were closed.
	errStopped = errors.New("the producer was closed before the answer")

	// errTryEnded is of a request that was not on the wire when its try ended.
	errTryEnded = errors.New("the try has ended")

	// errNoProgress is of fetches that are answered with nothing to go on with.
	errNoProgress = errors.New("the broker answers at once, and without a record, although there are some")

	// errNotWritten is of a batch that was given up and is not stored.
	errNotWritten = errors.New("not written")

	// errNoConnection is of a dial of the caller's that said nothing went wrong.
	errNoConnection = errors.New("the dial returned neither a connection nor an error")

	// errGoexit is of code of the caller's that ended its goroutine.
	errGoexit = errors.New("runtime.Goexit was called")

	// errDialTimeout is the cause of a dial's context.
	errDialTimeout = fmt.Errorf("dial_timeout has passed (%w)", context.DeadlineExceeded)

	// errUnproven is of a broker that does not know the password either, or of
	// one that says so.
	errUnproven = errors.New("the broker failed to prove that it knows the password")

	// errIterations is of a broker that wants the password hashed too often, or
	// too seldom.
	errIterations = errors.New("the broker names a number of SCRAM iterations that is out of bounds")

	// What a peer may turn out to be.
	errNotKafka  = errors.New("the answer is not Kafka's")
	errSpeaksTLS = fmt.Errorf("%w but a TLS alert", errNotKafka)
	errHTTP      = fmt.Errorf("%w but HTTP", errNotKafka)
	errMalformed = errors.New("the broker's answer cannot be read")
)

// ConfigError is one problem of the merged configuration. It matches
// [ErrInvalidConfig].
type ConfigError struct {
	Key    string // as in the YAML: "consumer.session_timeout"
	Source string // "env KAFKAX_...", "file:line", "option WithX", "protobuf" or "default"
	Value  string // as given; secrets masked
	Rule   string // what it should have been
	Err    error  // a more specific sentinel or the cause; may be nil
}

func (e *ConfigError) Error() string {
	var b strings.Builder
	b.WriteString(configPrefix + e.Key)
	if e.Value != "" {
		fmt.Fprintf(&b, " = %s", e.Value)
	}
	if e.Source != "" {
		fmt.Fprintf(&b, " (%s)", e.Source)
	}
	fmt.Fprintf(&b, ": %s", e.Rule)
	return b.String()
}

// configPrefix says whose configuration an error is about.
const configPrefix = "kafkax: "

// invalidConfigErrors is every problem of a configuration, one a line.
type invalidConfigErrors []error

// joinConfig is nil if there is no problem.
func joinConfig(problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	return invalidConfigErrors(problems)
}

func (e invalidConfigErrors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = strings.TrimPrefix(err.Error(), configPrefix)
	}
	return configPrefix + strings.Join(lines, "\n")
}

func (e invalidConfigErrors) Unwrap() []error { return e }

// Is makes every ConfigError match [ErrInvalidConfig].
func (e *ConfigError) Is(target error) bool { return target == ErrInvalidConfig }

func (e *ConfigError) Unwrap() error { return e.Err }

// HandlerError says which message a loop stopped at and why: the handler
// failed Attempts times and nothing allowed to go on without the message.
// Nothing from Offset on was committed.
type HandlerError struct {
	Topic     string
	Partition int
	Offset    int64
	Attempts  int
	Err       error // what the handler returned last
}

func (e *HandlerError) Error() string {
	return fmt.Sprintf("%s: handler failed after %d attempt(s): %v", at(e.Topic, e.Partition, e.Offset), e.Attempts, e.Err)
}

func (e *HandlerError) Unwrap() error { return e.Err }

// DeadLetterError says that a message could neither be handled nor be written
// to the dead letter topic. Unless the failure policy skipped it, it was not
// committed, so it comes again.
type DeadLetterError struct {
	Topic      string
	Partition  int
	Offset     int64
	DLQTopic   string // empty for a caller's DLQWriter
	HandlerErr error
	WriteErr   error

	refused bool // for good: no other try can succeed
}

func (e *DeadLetterError) Error() string {
	return fmt.Sprintf("%s: not handled (%v) and not dead-lettered to %q: %v",
		at(e.Topic, e.Partition, e.Offset), e.HandlerErr, e.DLQTopic, e.WriteErr)
}

func (e *DeadLetterError) Unwrap() []error { return []error{e.HandlerErr, e.WriteErr} }

// Outcome is what a loop made of what it tells a function of [WithOnError].
type Outcome string

// The outcomes.
const (
	OutcomeDeadLettered Outcome = "dead-lettered" // the message is in the dead letter topic
	OutcomeSkipped      Outcome = "skipped"       // the message is given up, and the loop goes on behind it
	OutcomeStopping     Outcome = "stopping"      // the loop ends because of the message, which comes again
	OutcomeTrouble      Outcome = "trouble"       // the loop deals with it by itself, and goes on

	// Those that nobody is told of.
	outcomeHandled     Outcome = "handled"
	outcomeFailed      Outcome = "failed"      // no attempt is left, and what becomes of it is not decided
	outcomeInterrupted Outcome = "interrupted" // by a stop or a rebalance: neither handled nor failed, it comes again
)

// ConsumeError is the error that a function of [WithOnError] is given.
type ConsumeError struct {
	Topic     string
	Partition int   // -1 if it is about the whole topic
	Offset    int64 // -1 if it is not about one message
	Outcome   Outcome
	Attempts  int    // how often the handler was called; 0 if it is not about one message
	DLQTopic  string // where the message was, or should have been, dead-lettered; empty without a topic
	Err       error  // what the handler returned last, a [HandlerError], a [DeadLetterError] or the trouble
}

func (e *ConsumeError) Error() string {
	if e.Outcome == OutcomeTrouble || e.Outcome == OutcomeStopping {
		return fmt.Sprintf("%s: %v", e.Outcome, e.Err) // which names the place
	}
	return fmt.Sprintf("%s: %s after %d attempt(s): %v", at(e.Topic, e.Partition, e.Offset), e.Outcome, e.Attempts, e.Err)
}

func (e *ConsumeError) Unwrap() error { return e.Err }

// BatchError is what a [BatchHandler] returns when only some messages of the
// batch failed: only those are retried and dead-lettered. Keys are indexes
// into the slice the handler was given, and mean what stands there when it
// returns: it may have sorted the slice. Any other error fails the whole batch,
// and so does an index with no message of the batch, or with one that another
// index has too.
type BatchError struct {
	Failed map[int]error
}

func (e *BatchError) Error() string {
	if e == nil {
		return "a nil *BatchError, which is not a nil error"
	}
	return fmt.Sprintf("%d message(s) of the batch failed: %v", len(e.Failed), errors.Join(e.Unwrap()...))
}

// Unwrap returns the errors in the order of the messages.
func (e *BatchError) Unwrap() []error {
	if e == nil {
		return nil
	}
	errs := make([]error, 0, len(e.Failed))
	for _, i := range slices.Sorted(maps.Keys(e.Failed)) {
		errs = append(errs, e.Failed[i])
	}
	return errs
}

// PanicError is a panic of the caller's code (a handler, a [DLQWriter], a
// callback), as an error.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // of the goroutine that panicked
}

// Error is one line: the value, if it is an error (anything else may hold a
// message body), and where the panic began. The whole stack is in Stack.
func (e *PanicError) Error() string {
	text := fmt.Sprintf("panic (%T)", e.Value)
	if err, ok := e.Value.(error); ok {
		text = fmt.Sprintf("panic: %v", err) // unlike err.Error, it survives a nil pointer in err
	}
	if place := panicPlace(e.Stack); place != "" {
		text += " at " + place
	}
	return text
}

// panicPlace finds the file and line that panicked in a stack of debug.Stack:
// the frame below that of panic itself.
func panicPlace(stack []byte) string {
	lines := strings.Split(string(stack), "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "panic(") {
			continue
		}
		for _, place := range lines[i+2:] {
			file, isPlace := strings.CutPrefix(place, "\t")
			if !isPlace || strings.Contains(file, "/runtime/") {
				continue // a function's name, or how Go turns a fault into a panic
			}
			file, _, _ = strings.Cut(file, " +0x")
			return file[strings.LastIndexByte(file, '/')+1:]
		}
	}
	return ""
}

// Unwrap returns the panic's value if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// ProduceError is one message that was not sent.
type ProduceError struct {
	Index     int // in the call's messages
	Topic     string
	Partition int // -1 if it was not chosen yet
	Err       error
}

func (e *ProduceError) Error() string {
	topic := oneLine(e.Topic) // It may be one that no broker would take.
	if e.Partition < 0 {
		return fmt.Sprintf("message %d to %s: %v", e.Index, topic, e.Err)
	}
	return fmt.Sprintf("message %d to %s[%d]: %v", e.Index, topic, e.Partition, e.Err)
}

func (e *ProduceError) Unwrap() error { return e.Err }

// ProduceErrors is what a send returns when messages failed: one ProduceError
// for each, by rising Index. Messages it does not name were acknowledged.
type ProduceErrors []*ProduceError

func (e ProduceErrors) Error() string {
	switch len(e) {
	case 0:
		return "no message failed"
	case 1:
		return e[0].Error()
	}
	return fmt.Sprintf("%d messages not sent, the first: %v", len(e), e[0])
}

func (e ProduceErrors) Unwrap() []error {
	errs := make([]error, len(e))
	for i := range e {
		errs[i] = e[i]
	}
	return errs
}

// ShutdownError is what a stop returns when it could not finish within its
// time: what it waited for was cut off. Messages that were in flight are not
// committed and come again.
type ShutdownError struct {
	// What has an entry for each thing cut off, "orders[3]@42 since 12.3s", and for
	// each partition of which messages come again that were handled:
	// "orders[3]@42: 18 handled message(s) behind it come again".
	What []string
	Err  error // why: the context's error, the timeout, or a rebalance's, which matches ErrRevoked
}

func (e *ShutdownError) Error() string {
	return fmt.Sprintf("kafkax: shutdown cut off (%v): %s", e.Err, strings.Join(e.What, "; "))
}

func (e *ShutdownError) Unwrap() error { return e.Err }

// ConnectError is a broker that could not be reached or did not let this client
// in. It matches [ErrAuthentication] when credentials or a certificate were
// refused, by either end: that stays so until somebody changes them. Anything
// else is worth another try.
type ConnectError struct {
	Broker string // host:port
	Step   string // what was being done: "connect", "TLS handshake", "authentication", ...
	Hint   string // what that usually means and which key to look at; may be empty
	Err    error

	refused bool
}

// Error is one line of at most 4 KiB, whatever the broker said.
func (e *ConnectError) Error() string {
	if e.Hint == "" {
		return oneLine(fmt.Sprintf("broker %s: %s: %v", e.Broker, e.Step, e.Err))
	}
	return oneLine(fmt.Sprintf("broker %s: %s: %s: %v", e.Broker, e.Step, e.Hint, e.Err))
}

// Is makes a refusal match [ErrAuthentication].
func (e *ConnectError) Is(target error) bool { return e.refused && target == ErrAuthentication }

func (e *ConnectError) Unwrap() error { return e.Err }

// unprintedError stands for an error of a decoder or encoder, which may quote a
// message: errors.Is and errors.As find that, and no text shows it.
type unprintedError struct {
	text string
	err  error
}

func (e *unprintedError) Error() string { return e.text }
func (e *unprintedError) Unwrap() error { return e.err }

// exchangeError is a request that got no answer, or none that can be read.
type exchangeError struct {
	Request string // "Fetch"
	Broker  string // its address, as far as it is known
	Sent    bool   // some of it may be on the wire
	Err     error
}

func (e *exchangeError) Error() string {
	return fmt.Sprintf("%s to %s: %v", e.Request, oneLine(e.Broker), e.Err)
}

func (e *exchangeError) Unwrap() error { return e.Err }

// malformedOnPanic is deferred by what takes an answer apart: a panic there is of the
// answer. It is in the error as text, since the code of the caller's has no part in it.
func malformedOnPanic(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("%w: %s", errMalformed, (&PanicError{Value: v, Stack: debug.Stack()}).Error())
	}
}

// silenceError is of a broker that sent, or took, no byte for too long. It is a
// timeout, and matches [context.DeadlineExceeded].
type silenceError struct {
	after time.Duration
	err   error
}

func (e *silenceError) Error() string {
	return fmt.Sprintf("the broker was silent for %v (request_timeout; for a producer at most write_timeout, for a consumer max_wait more)", e.after)
}

// Timeout and Temporary make it a net.Error.
func (e *silenceError) Timeout() bool   { return true }
func (e *silenceError) Temporary() bool { return false }

func (e *silenceError) Is(target error) bool { return target == context.DeadlineExceeded }

func (e *silenceError) Unwrap() error { return e.err }

// Permanent marks an error as not worth retrying: a handler that returns it
// sends the message to the dead letter topic at once, or to the failure
// policy. Permanent(nil) is nil. The mark never shows in what kafkax reports:
// there it is err again.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// IsPermanent says whether err is marked by [Permanent], at any depth.
func IsPermanent(err error) bool {
	_, permanent := unmark(err)
	return permanent
}

// unmark splits an error into what the handler meant and whether it was marked
// Permanent at any depth. Only an outermost mark can be taken off.
//
//nolint:revive // the first error is the value, not a failure
func unmark(err error) (plain error, permanent bool) {
	if _, marked := errors.AsType[*permanentError](err); !marked {
		return err, false
	}
	for {
		outer, ok := err.(*permanentError) //nolint:errorlint // only an outermost mark is ours to remove
		if !ok {
			return err, true
		}
		err = outer.error
	}
}

// IsRetryable says whether the same call may succeed later without any change:
// a Kafka error that Kafka calls retriable, a network error, or a deadline that
// passed. A canceled context, refused credentials and invalid input are not,
// and neither is [ErrOutcomeUnknown], where a second try may store twice. Of
// several errors in one, all that carry a Kafka code must be retriable.
func IsRetryable(err error) bool {
	_, permanent := errors.AsType[*permanentError](err)
	switch {
	case permanent,
		err == nil,
		errors.Is(err, context.Canceled),
		errors.Is(err, ErrClosed),
		errors.Is(err, ErrInvalidConfig),
		errors.Is(err, ErrNoTopic),
		errors.Is(err, ErrOutcomeUnknown),
		isRefused(err):
		return false
	}

	if codes := kafkaCodes(err); len(codes) > 0 {
		return !slices.ContainsFunc(codes, func(code kafka.Error) bool { return !isRetriableCode(code) })
	}

	return isNetworkError(err) ||
		errors.Is(err, protocol.ErrNoTopic) ||
		errors.Is(err, protocol.ErrNoPartition) ||
		errors.Is(err, protocol.ErrNoLeader) ||
		errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.ErrClosedPipe)
}

func isRetriableCode(code kafka.Error) bool {
	switch code {
	// Kafka retries the last two, and the next metadata answer may name again
	// the broker of the first; kafka-go calls all three permanent.
	case kafka.BrokerNotAvailable, kafka.ReplicaNotAvailable, kafka.ConcurrentTransactions:
		return true
	default:
		return code.Temporary()
	}
}

// isNetworkError covers context.DeadlineExceeded and net.ErrClosed too: both
// are a net.Error. So is every syscall.Errno, even that of a missing file;
// of those that no net.OpError vouches for, only a broken connection counts.
func isNetworkError(err error) bool {
	netErr, found := errors.AsType[net.Error](err)
	if !found {
		return false
	}
	errno, ok := netErr.(syscall.Errno)
	return !ok || errno.Timeout() || slices.Contains([]syscall.Errno{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH,
	}, errno)
}

// isRefused says whether the broker will keep saying no until somebody changes
// credentials, certificates or ACLs.
func isRefused(err error) bool {
	if errors.Is(err, ErrAuthentication) || errors.Is(err, ErrAuthorization) {
		return true
	}
	return slices.ContainsFunc(kafkaCodes(err), func(code kafka.Error) bool { return refusal(code) != nil })
}

// refusal maps the broker's codes to the two sentinels; nil for any other.
func refusal(code kafka.Error) error {
	switch code {
	case kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState, kafka.SecurityDisabled:
		return ErrAuthentication
	case kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed,
		kafka.TransactionalIDAuthorizationFailed, kafka.DelegationTokenAuthorizationFailed:
		return ErrAuthorization
	default:
		return nil
	}
}

// brokerError is the error of a code in a broker's answer.
func brokerError(code int16) error { return withSentinel(kafka.Error(code)) }

// withSentinel makes an error with a broker's refusal in it match its sentinel.
func withSentinel(err error) error {
	for _, code := range kafkaCodes(err) {
		if sentinel := refusal(code); sentinel != nil && !errors.Is(err, sentinel) {
			return fmt.Errorf("%w: %w", sentinel, err)
		}
	}
	return err
}

// isElecting says whether what a partition or a group needs is being found, which
// takes a moment.
func isElecting(err error) bool {
	code, _ := kafkaCode(err)
	switch code {
	case kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.OffsetNotAvailable,
		kafka.UnknownTopicID, kafka.InconsistentTopicID, kafka.BrokerNotAvailable,
		kafka.GroupCoordinatorNotAvailable, kafka.GroupLoadInProgress, kafka.NotCoordinatorForGroup:
		return true
	}
	return errors.Is(err, protocol.ErrNoLeader)
}

// isAway says whether no coordinator of the group has answered.
func isAway(err error) bool {
	_, answered := kafkaCode(err)
	return isElecting(err) || !answered && IsRetryable(err)
}

// isFenced says whether the group no longer takes commits of the generation.
func isFenced(err error) bool {
	return errors.Is(err, kafka.IllegalGeneration) ||
		errors.Is(err, kafka.UnknownMemberId) ||
		errors.Is(err, ErrRevoked)
}

// isRebalancing says whether the group takes no commit of the generation for now:
// another begins, and until it has, this one may commit still.
func isRebalancing(err error) bool { return errors.Is(err, kafka.RebalanceInProgress) }

// isHangup says whether the peer closed the connection.
func isHangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isBeforeAppend says whether a broker answers a produce request with the code
// only ahead of the log: the batch is not stored then. Of any other it is
// unknown, also of one that is not known yet.
func isBeforeAppend(code kafka.Error) bool {
	switch code {
	case kafka.InvalidMessage, kafka.UnknownTopicOrPartition, kafka.MessageSizeTooLarge, kafka.InvalidTopic,
		kafka.RecordListTooLarge, kafka.NotEnoughReplicas, kafka.InvalidRequiredAcks, kafka.InvalidTimestamp,
		kafka.UnsupportedVersion, kafka.InvalidRequest, kafka.UnsupportedForMessageFormat, kafka.PolicyViolation,
		kafka.InvalidTransactionState, kafka.UnsupportedCompressionType, kafka.InvalidRecord, kafka.ThrottlingQuotaExceeded:
		return true
	}
	return refusal(code) != nil
}

// isGuess says whether nobody knows that a failed batch is not stored. The
// delivery says so of its own; what another Transport returns tells only by the
// broker's code.
func isGuess(err error) bool {
	code, answered := kafkaCode(err)
	return !errors.Is(err, errNotWritten) && !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrClosed) &&
		(!answered || !isBeforeAppend(code))
}

// blamesRecord says whether the same batch without some record may pass, and
// may be sent again in parts.
func blamesRecord(err error) bool {
	return !errors.Is(err, ErrOutcomeUnknown) && slices.ContainsFunc(kafkaCodes(err), func(code kafka.Error) bool {
		switch code {
		case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge, kafka.InvalidRecord, kafka.InvalidTimestamp:
			return true
		}
		return false
	})
}

func kafkaCode(err error) (kafka.Error, bool) {
	var code kafka.Error
	ok := errors.As(err, &code)
	return code, ok
}

// kafkaCodes is every Kafka code in err, so that no failure of several hides
// behind the first.
func kafkaCodes(err error) (codes []kafka.Error) {
	walkErrors(err, func(err error) bool {
		code, ok := err.(kafka.Error) //nolint:errorlint // the walk takes errors apart itself
		if ok {
			codes = append(codes, code)
		}
		return !ok
	})
	return codes
}

// unjoin is the errors that were joined into err, or err alone. A type that says
// more than its parts is not taken apart.
func unjoin(err error) (parts []error) {
	walkErrors(err, func(err error) bool {
		_, joined := err.(interface{ Unwrap() []error })
		switch err.(type) { //nolint:errorlint // the walk takes errors apart itself
		case *DeadLetterError, *BatchError, ProduceErrors:
			joined = false
		}
		if !joined {
			parts = append(parts, err)
		}
		return joined
	})
	return parts
}

// walkErrors visits err and what it wraps, the outer before the inner. Below
// an error for which visit is false it does not go.
func walkErrors(err error, visit func(error) bool) {
	if err == nil || !visit(err) {
		return
	}
	switch e := err.(type) { //nolint:errorlint // this takes errors apart itself
	case kafka.WriteErrors: // has no Unwrap
		for _, inner := range e {
			walkErrors(inner, visit)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			walkErrors(inner, visit)
		}
	case interface{ Unwrap() error }:
		walkErrors(e.Unwrap(), visit)
	}
}

// at is how every error, log line and header names a place in the log.
func at(topic string, partition int, offset int64) string {
	return topic + "[" + strconv.Itoa(partition) + "]@" + strconv.FormatInt(offset, 10)
}

// maxText is the most of a text from outside that a log line, an error's
// summary or a header takes.
const maxText = 4 << 10

// oneLine makes a text from outside (a broker's, a handler's) fit for a log line
// or a header: at most 4 KiB of valid UTF-8, with what would break the line or
// steer a terminal escaped.
func oneLine(text string) string {
	line := strings.ToValidUTF8(cutText(text, maxText), string(utf8.RuneError))
	if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		var b strings.Builder
		for _, r := range line {
			if unicode.IsPrint(r) {
				b.WriteRune(r)
			} else {
				b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
			}
		}
		line = b.String()
	}
	if len(text) > maxText || len(line) > maxText {
		line = cutText(line, maxText-len("...")) + "..."
	}
	return line
}

// cutText is the first n bytes of a text at most, in whole runes.
func cutText(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
