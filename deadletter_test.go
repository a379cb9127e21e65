package kafkax

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"
)

// What a reader of a dead letter topic finds beside the message itself.
func ExampleDLQWriter() {
	failed := kafka.Message{Topic: "orders", Partition: 3, Offset: 42, Key: []byte("k"), Value: []byte("{"), Time: time.Unix(0, 0).UTC()}
	err := fmt.Errorf("decode order: %w", json.Unmarshal(failed.Value, new(any)))

	letter := deadLetter(&failed, "billing", err, 3, time.Unix(60, 0))
	for _, h := range letter.Headers {
		fmt.Printf("%s: %s\n", h.Key, h.Value)
	}
	// Output:
	// kafkax-original-topic: orders
	// kafkax-original-partition: 3
	// kafkax-original-offset: 42
	// kafkax-original-timestamp: 1970-01-01T00:00:00.000Z
	// kafkax-dead-lettered: 1
	// kafkax-consumer-group: billing
	// kafkax-error: decode order: unexpected end of JSON input
	// kafkax-error-type: *json.SyntaxError
	// kafkax-attempts: 3
	// kafkax-failed-at: 1970-01-01T00:01:00.000Z
}

func TestDeadLetterKeepsTheMessage(t *testing.T) {
	t.Parallel()
	written := time.Date(2026, 2, 3, 4, 5, 6, 7_000_000, time.FixedZone("", 3600))
	spare := make([]kafka.Header, 2, 32) // an append in place would show in it
	spare[0] = kafka.Header{Key: "trace", Value: []byte{0xff, 0}}
	spare[1] = kafka.Header{Key: "trace", Value: nil}
	msg := kafka.Message{
		Topic: "orders", Partition: 3, Offset: 42, HighWaterMark: 50,
		Key: []byte("key"), Value: nil, Headers: spare, WriterData: "mine", Time: written,
	}
	before := slices.Clone(spare[:cap(spare)])

	got := deadLetter(&msg, "", io.EOF, 1, written)

	if string(got.Key) != "key" || got.Value != nil || !got.Time.Equal(written) {
		t.Errorf("key %q, value %v, time %v: want those of the message (a tombstone stays one)", got.Key, got.Value, got.Time)
	}
	if got.Topic != "" || got.Partition != 0 || got.Offset != 0 || got.HighWaterMark != 0 || got.WriterData != nil {
		t.Errorf("%+v carries the original's place", got)
	}
	wantHeaders(t, got.Headers,
		"trace", "\xff\x00",
		"trace", "",
		HeaderOriginalTopic, "orders",
		HeaderOriginalPartition, "3",
		HeaderOriginalOffset, "42",
		HeaderOriginalTimestamp, "2026-02-03T03:05:06.007Z",
		HeaderDeadLettered, "1",
		HeaderConsumerGroup, "",
		HeaderError, "EOF",
		HeaderErrorType, "*errors.errorString",
		HeaderAttempts, "1",
		HeaderFailedAt, "2026-02-03T03:05:06.007Z",
	)
	for i, h := range spare[:cap(spare)] {
		if h.Key != before[i].Key || !bytes.Equal(h.Value, before[i].Value) {
			t.Fatalf("header %d of the message was overwritten with %q", i, h.Key)
		}
	}
}

func TestDeadLetterAgain(t *testing.T) {
	t.Parallel()
	first := deadLetter(&kafka.Message{Topic: "orders", Partition: 3, Offset: 42, Headers: header("trace", "t")}, "billing", io.EOF, 3, time.UnixMilli(1))
	failures := []string{
		HeaderConsumerGroup, "redrive",
		HeaderError, "unexpected EOF",
		HeaderErrorType, "*errors.errorString",
		HeaderAttempts, "5",
		HeaderFailedAt, "1970-01-01T00:00:00.002Z",
	}
	tests := []struct {
		name    string
		headers []kafka.Header
		want    []string
	}{
		{"a dead letter keeps its origin", first.Headers, []string{
			"trace", "t", HeaderOriginalTopic, "orders", HeaderOriginalPartition, "3",
			HeaderOriginalOffset, "42", HeaderOriginalTimestamp, "", HeaderDeadLettered, "2",
		}},
		{"the first of several origins", header(HeaderOriginalTopic, "one", HeaderOriginalTopic, "two"), []string{
			HeaderOriginalTopic, "one", HeaderDeadLettered, "1",
		}},
		{"an origin without a topic is none", header(HeaderOriginalOffset, "7", "kafkax-other", "kept"), []string{
			"kafkax-other", "kept", HeaderOriginalTopic, "orders.dlq", HeaderOriginalPartition, "0",
			HeaderOriginalOffset, "8", HeaderOriginalTimestamp, "1970-01-01T00:00:00.001Z", HeaderDeadLettered, "1",
		}},
		{"failures do not pile up", slices.Concat(first.Headers[5:], first.Headers[5:]), []string{
			HeaderOriginalTopic, "orders.dlq", HeaderOriginalPartition, "0",
			HeaderOriginalOffset, "8", HeaderOriginalTimestamp, "1970-01-01T00:00:00.001Z", HeaderDeadLettered, "2",
		}},
		{"a redrive counts anew, and is kept", header(HeaderRedriven, "2026", HeaderDeadLettered, "0"), []string{
			HeaderRedriven, "2026", HeaderOriginalTopic, "orders.dlq", HeaderOriginalPartition, "0",
			HeaderOriginalOffset, "8", HeaderOriginalTimestamp, "1970-01-01T00:00:00.001Z", HeaderDeadLettered, "1",
		}},
		{"an origin from outside is made plain text", header(HeaderOriginalTopic, "a\n\xffb"), []string{
			HeaderOriginalTopic, "a\\n\uFFFDb", HeaderDeadLettered, "1",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			msg := kafka.Message{Topic: "orders.dlq", Offset: 8, Headers: tt.headers, Time: time.UnixMilli(1)}
			got := deadLetter(&msg, "redrive", io.ErrUnexpectedEOF, 5, time.UnixMilli(2))
			wantHeaders(t, got.Headers, slices.Concat(tt.want, failures)...)
		})
	}
}

func TestDeadLetterErrorText(t *testing.T) {
	t.Parallel()
	var nilError *HandlerError // its Error method would panic
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"as it is", errors.New("naïve"), "naïve"},
		{"the mark does not show", Permanent(io.EOF), "EOF"},
		{"cut at 4 KiB", errors.New(strings.Repeat("a", 5000)), strings.Repeat("a", 4093) + "..."},
		{"not inside a rune", errors.New("a" + strings.Repeat("é", 3000)), "a" + strings.Repeat("é", 2046) + "..."},
		{"exactly 4 KiB", errors.New(strings.Repeat("é", 2048)), strings.Repeat("é", 2048)},
		{"made valid", errors.New("a\xff\xfeb"), "a\uFFFDb"},
		{"on one line", errors.New("a\r\nb\x1b[31m\u202e"), `a\r\nb\x1b[31m\u202e`},
		{"made valid, then cut", errors.New(strings.Repeat("\xffa", 2000)), strings.Repeat("\uFFFDa", 1023) + "..."},
		{"nil pointer in the interface", nilError, "<nil>"},
		{"a panic without its stack", &PanicError{Value: io.EOF, Stack: []byte("frame\nframe\n")}, "panic: EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := headerValue(t, deadLetter(&kafka.Message{}, "", tt.err, 1, time.Time{}), HeaderError)
			if got != tt.want {
				t.Errorf("%d bytes %.40q..., want %d bytes %.40q...", len(got), got, len(tt.want), tt.want)
			}
		})
	}
}

func TestDeadLetterErrorType(t *testing.T) {
	t.Parallel()
	syntax := &json.SyntaxError{}
	tests := []struct {
		err  error
		want string
	}{
		{io.EOF, "*errors.errorString"},
		{syntax, "*json.SyntaxError"},
		{Permanent(syntax), "*json.SyntaxError"},
		{Permanent(Permanent(syntax)), "*json.SyntaxError"},
		{fmt.Errorf("order: %w", Permanent(fmt.Errorf("decode: %w", syntax))), "*json.SyntaxError"},
		{errors.Join(nil, syntax, io.EOF), "*json.SyntaxError"},
		{fmt.Errorf("%w, %w", syntax, io.EOF), "*json.SyntaxError"},
		{fmt.Errorf("%w", error(nil)), "*fmt.wrapError"},
		{fmt.Errorf("%w, %w", error(nil), error(nil)), "*fmt.wrapErrors"},
		{&fs.PathError{Op: "open", Path: "p", Err: fs.ErrNotExist}, "*fs.PathError"},
		{&PanicError{Value: io.EOF}, "*kafkax.PanicError"},
		{ProduceErrors{{Err: io.EOF}}, "kafkax.ProduceErrors"}, // not comparable
		{kafka.NotLeaderForPartition, "kafka.Error"},
		{(*HandlerError)(nil), "*kafkax.HandlerError"},
	}
	for _, tt := range tests {
		got := headerValue(t, deadLetter(&kafka.Message{}, "", tt.err, 1, time.Time{}), HeaderErrorType)
		if got != tt.want {
			t.Errorf("%T %v: type %q, want %q", tt.err, tt.err, got, tt.want)
		}
	}
}

func FuzzDeadLetter(f *testing.F) {
	f.Add("orders", "billing", "boom", "", "", "trace", "t")
	f.Add("orders", "billing", strings.Repeat("é", 4000), HeaderOriginalTopic, "first", HeaderError, "old")
	f.Add("\xff", "\xc3", "a\xffb", HeaderOriginalOffset, "1", HeaderOriginalOffset, "2")
	f.Add("a\nb", "g", "boom\x1b[2J", HeaderDeadLettered, "-3", HeaderDeadLettered, "99999999999999999999")
	f.Add("", "", "\xe2\x82", HeaderOriginalTopic, "one", HeaderOriginalTopic, "two")
	f.Fuzz(func(t *testing.T, topic, group, text, key1, value1, key2, value2 string) {
		in := header(key1, value1, key2, value2)
		letter := deadLetter(&kafka.Message{Topic: topic, Headers: in}, group, errors.New(text), 1, time.UnixMilli(1))

		wantHeaders(t, in, key1, value1, key2, value2) // the input is as it was
		var first *kafka.Header
		for _, h := range in {
			if first == nil && h.Key == HeaderOriginalTopic {
				first = &h
			}
			if !isOwnHeader(h.Key) && !slices.ContainsFunc(letter.Headers, func(k kafka.Header) bool {
				return k.Key == h.Key && bytes.Equal(k.Value, h.Value)
			}) {
				t.Errorf("header %q is lost", h.Key)
			}
		}
		if first != nil && headerValue(t, letter, HeaderOriginalTopic) != oneLine(string(first.Value)) {
			t.Errorf("first origin %q became %q", first.Value, headerValue(t, letter, HeaderOriginalTopic))
		}

		seen := map[string]int{}
		for _, h := range letter.Headers {
			seen[h.Key]++
			if isOwnHeader(h.Key) && seen[h.Key] > 1 {
				t.Errorf("header %q is there twice", h.Key)
			}
			if isOwnHeader(h.Key) && (len(h.Value) > 4096 || !utf8.Valid(h.Value) || bytes.ContainsFunc(h.Value, unicode.IsControl)) {
				t.Errorf("header %q: %d bytes, valid UTF-8: %v: %.100q", h.Key, len(h.Value), utf8.Valid(h.Value), h.Value)
			}
		}
		if n, err := strconv.Atoi(headerValue(t, letter, HeaderDeadLettered)); err != nil || n < 1 {
			t.Errorf("dead-lettered %d times, %v", n, err)
		}
		if got := headerValue(t, letter, HeaderError); got != oneLine(text) {
			t.Errorf("error %q became %q", text, got)
		}
	})
}

func isOwnHeader(key string) bool {
	return slices.Contains([]string{
		HeaderOriginalTopic, HeaderOriginalPartition, HeaderOriginalOffset, HeaderOriginalTimestamp,
		HeaderDeadLettered, HeaderConsumerGroup, HeaderError, HeaderErrorType, HeaderAttempts, HeaderFailedAt,
	}, key)
}

// The waits between the tries are those of a retry policy; the write ends when
// the dead letter is stored, and not before.
func TestD5_FailedDeadLetterIsRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("dlq down")
		fake := &fakeDLQ{fail: func(try int, _ kafka.Message) error {
			if try <= 20 {
				return down
			}
			return nil
		}}
		var logs logRecord
		w := &deadLetterWriter{group: "billing", topic: "orders.dlq", writer: fake, log: newLoggers(nil, recordLogs(&logs))}
		msg := kafka.Message{Topic: "orders", Partition: 3, Offset: 42, Key: []byte("SECRET"), Value: []byte("SECRET")}

		var reported []error
		if err := w.write(t.Context(), sleepUntil(t.Context()), &msg, io.EOF, 3, func(err error) { reported = append(reported, err) }); err != nil {
			t.Fatalf("write = %v, want nil once the dead letter is stored", err)
		}

		tries := fake.tries()
		if len(tries) != 21 {
			t.Fatalf("%d tries, want 20 failed ones and one more", len(tries))
		}
		for i := 1; i < len(tries); i++ {
			wait := tries[i].at.Sub(tries[i-1].at)
			longest := min(100*time.Millisecond<<(i-1), 10*time.Second)
			if wait < longest*8/10 || wait > longest {
				t.Errorf("wait %d is %v, want within 20%% below %v", i, wait, longest)
			}
		}
		for _, try := range tries {
			if try.msg.Topic != "orders.dlq" || headerValue(t, try.msg, HeaderOriginalOffset) != "42" ||
				headerValue(t, try.msg, HeaderFailedAt) != headerTime(tries[0].at) {
				t.Errorf("try wrote %+v, want the same dead letter each time", try.msg)
			}
		}
		lines := logs.all()
		if len(reported) != 20 || len(lines) != 20 {
			t.Fatalf("%d failures reported and %d logged, want 20 of each", len(reported), len(lines))
		}
		for i, err := range reported {
			if !errors.Is(err, down) || !strings.Contains(lines[i], fmt.Sprintf("orders[3]@42: dead letter not written, try %d: dlq down", i+1)) {
				t.Errorf("failure %d: reported %v, logged %q", i, err, lines[i])
			}
			if strings.Contains(lines[i], "SECRET") {
				t.Errorf("the log has the message's body: %q", lines[i])
			}
		}
	})
}

// A stop ends the waiting, and the try under way gets the time a handler would.
func TestD5_StopReturnsBothCauses(t *testing.T) {
	t.Parallel()
	down := errors.New("dlq down")
	fails := func(context.Context) error { return down }
	failsSlowly := func(context.Context) error {
		time.Sleep(time.Second)
		return down
	}
	hangs := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	const never = time.Hour
	tests := []struct {
		name      string
		topic     string
		fail      func(ctx context.Context) error
		stopAfter time.Duration
		cutAfter  time.Duration
		wantAfter time.Duration
		wantTries int
		reported  int
		wantIs    []error
	}{
		{"stop while it waits", "orders.dlq", fails, 350 * time.Millisecond, never, 350 * time.Millisecond, 3, 3, []error{down, ErrShutdown}},
		{"stop while it writes", "", failsSlowly, time.Millisecond, never, time.Second, 1, 1, []error{down, ErrShutdown}},
		{"stop before the first try", "", fails, 0, never, 0, 1, 1, []error{down, ErrShutdown}},
		{"cut off while it writes", "orders.dlq", hangs, time.Second, 3 * time.Second, 3 * time.Second, 1, 0, []error{context.Canceled, ErrRevoked}},
		{"cut off before the first try", "orders.dlq", fails, 0, 0, 0, 0, 0, []error{ErrRevoked}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				stopping := endsAfter(t, tt.stopAfter, ErrShutdown)
				ctx := endsAfter(t, tt.cutAfter, ErrRevoked)
				fake := &fakeDLQ{fail: func(int, kafka.Message) error { return tt.fail(ctx) }}
				w := &deadLetterWriter{topic: tt.topic, writer: fake, log: newLoggers(nil, kafka.LoggerFunc(t.Logf))}
				msg := kafka.Message{Topic: "orders", Partition: 3, Offset: 42}

				start, reported := time.Now(), 0
				err := w.write(ctx, sleepUntil(stopping), &msg, io.EOF, 3, func(error) { reported++ })
				if got := time.Since(start); got != tt.wantAfter {
					t.Errorf("write returned after %v, want %v", got, tt.wantAfter)
				}
				if got := len(fake.tries()); got != tt.wantTries || reported != tt.reported {
					t.Errorf("%d tries, %d reported, want %d and %d", got, reported, tt.wantTries, tt.reported)
				}
				var dead *DeadLetterError
				if !errors.As(err, &dead) {
					t.Fatalf("write = %v, want a DeadLetterError", err)
				}
				if dead.Topic != "orders" || dead.Partition != 3 || dead.Offset != 42 || dead.DLQTopic != tt.topic {
					t.Errorf("%+v does not name the message", dead)
				}
				if dead.HandlerErr != io.EOF { //nolint:errorlint // nothing is put around it
					t.Errorf("HandlerErr = %#v, want EOF itself", dead.HandlerErr)
				}
				for _, target := range append(tt.wantIs, io.EOF) {
					if !errors.Is(err, target) {
						t.Errorf("%v does not match %v", err, target)
					}
				}
			})
		})
	}
}

// A dead letter that was refused only whole may still be taken lean. Where it was
// cut off before that, the message comes again, whatever becomes of one that is
// refused for good.
func TestD18_CutOffBeforeTheLeanTryIsNotRefusedForGood(t *testing.T) {
	t.Parallel()
	for _, policy := range []FailurePolicy{FailDefault, FailStop, FailSkip} {
		t.Run("on_failure "+string(policy), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := endsAfter(t, time.Second, ErrRevoked)
				fake := &fakeDLQ{fail: func(int, kafka.Message) error {
					<-ctx.Done()
					return kafka.MessageSizeTooLarge
				}}
				l := &loop{dlq: &deadLetterWriter{writer: fake, log: newLoggers(nil, kafka.LoggerFunc(t.Logf))}}
				l.cfg.OnFailure = policy
				r := l.giveUp(&claim{ctx: ctx, stopping: ctx}, sleep, &kafka.Message{}, result{outcome: outcomeFailed, attempts: 1, err: io.EOF})
				if r.outcome != outcomeInterrupted || len(fake.tries()) != 1 {
					t.Errorf("outcome %v after %d tries, want %v after one", r.outcome, len(fake.tries()), outcomeInterrupted)
				}
				for _, target := range []error{kafka.MessageSizeTooLarge, ErrRevoked, io.EOF} {
					if !errors.Is(r.err, target) {
						t.Errorf("%v does not match %v", r.err, target)
					}
				}
			})
		})
	}
}

// A dead letter that is acknowledged during a stop is as good as any other.
func TestD5_StopLetsTheWriteSucceed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeDLQ{fail: func(int, kafka.Message) error {
			time.Sleep(time.Second)
			return nil
		}}
		w := &deadLetterWriter{writer: fake, log: newLoggers(nil, kafka.LoggerFunc(t.Logf))}
		stopping := endsAfter(t, time.Millisecond, ErrShutdown)
		if err := w.write(t.Context(), sleepUntil(stopping), &kafka.Message{}, io.EOF, 1, func(error) {}); err != nil {
			t.Errorf("write = %v, want nil", err)
		}
	})
}

// sleepUntil waits as long as it is told to, and until ctx ends.
func sleepUntil(ctx context.Context) func(time.Duration) error {
	return func(d time.Duration) error { return sleep(ctx, d) }
}

func endsAfter(t *testing.T, d time.Duration, cause error) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	if d == 0 {
		cancel(cause)
	} else {
		timer := time.AfterFunc(d, func() { cancel(cause) })
		t.Cleanup(func() { timer.Stop() })
	}
	return ctx
}

// A dead letter that cannot be written holds up no other caller.
func TestD5_OtherPartitionsGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeDLQ{fail: func(_ int, msg kafka.Message) error {
			if string(msg.Key) == "poison" {
				return errors.New("too large")
			}
			return nil
		}}
		w := &deadLetterWriter{writer: fake, log: newLoggers(nil, kafka.LoggerFunc(func(string, ...any) {}))}

		ctx, cancel := context.WithCancel(t.Context())
		stuck := make(chan error, 1)
		go func() {
			stuck <- w.write(ctx, sleepUntil(ctx), &kafka.Message{Key: []byte("poison")}, io.EOF, 1, func(error) {})
		}()
		time.Sleep(time.Hour) // of the bubble's clock: the first is stuck for good
		start := time.Now()
		if err := w.write(ctx, sleepUntil(ctx), &kafka.Message{Partition: 1}, io.EOF, 1, func(error) {}); err != nil || time.Since(start) != 0 {
			t.Errorf("the other partition's write = %v after %v, want nil at once", err, time.Since(start))
		}
		select {
		case err := <-stuck:
			t.Errorf("the stuck write returned %v before the stop", err)
		default:
		}
		cancel()
		if err := <-stuck; !errors.Is(err, context.Canceled) {
			t.Errorf("the stuck write = %v, want the stop's cause", err)
		}
	})
}

func TestD5_DLQWriterPanicIsAFailedTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fake := &fakeDLQ{fail: func(try int, _ kafka.Message) error {
			switch try {
			case 1:
				panic("SECRET")
			case 2:
				panic(io.ErrClosedPipe)
			}
			return nil
		}}
		w := &deadLetterWriter{writer: fake, log: newLoggers(nil, kafka.LoggerFunc(func(string, ...any) {}))}
		var reported []error
		if err := w.write(t.Context(), sleepUntil(t.Context()), &kafka.Message{}, io.EOF, 1, func(err error) { reported = append(reported, err) }); err != nil {
			t.Fatal(err)
		}
		var panicked *PanicError
		if len(reported) != 2 || !errors.As(reported[0], &panicked) {
			t.Fatalf("reported %v, want two panics", reported)
		}
		if text := reported[0].Error(); strings.Contains(text, "SECRET") || !strings.Contains(text, "deadletter_test.go") {
			t.Errorf("want the stack and not the value: %s", text)
		}
		if !errors.Is(reported[1], io.ErrClosedPipe) {
			t.Errorf("%v does not match the error that was passed to panic", reported[1])
		}
	})
}

func TestDeadLetterProducerIsMadeOnceAndClosed(t *testing.T) {
	t.Parallel()
	cfg := ConnectionConfig{Brokers: []string{"127.0.0.1:1"}, ClientID: "test", DialTimeout: time.Second, ShutdownTimeout: time.Second}
	var dlq ownedWriter
	open := func() (DLQWriter, error) {
		return dlq.open(func() (DLQWriter, func(context.Context) error, error) {
			return newDeadLetterProducer(cfg, newLoggers(nil, nil))
		})
	}
	one, err := open()
	if err != nil {
		t.Fatal(err)
	}
	two, err := open()
	if err != nil || one != two {
		t.Errorf("second open = %p, %v, want the first's %p", two, err, one)
	}
	for range 2 {
		if err := dlq.close(t.Context()); err != nil {
			t.Errorf("close = %v", err)
		}
	}
	if err := one.WriteMessages(t.Context(), kafka.Message{Topic: "orders.dlq"}); !errors.Is(err, ErrClosed) {
		t.Errorf("write after close = %v, want ErrClosed", err)
	}
	if _, err := open(); !errors.Is(err, ErrClosed) {
		t.Errorf("open after close = %v, want ErrClosed", err)
	}

	var unused ownedWriter
	if err := unused.close(t.Context()); err != nil {
		t.Errorf("close without open = %v", err)
	}
}

func TestDeadLetterProducerConfig(t *testing.T) {
	t.Parallel()
	conn := ConnectionConfig{
		Brokers: []string{"b:9092"}, ClientID: "billing", DialTimeout: 3 * time.Second,
		SASL: SASLConfig{Mechanism: SASLPlain, Username: "u", Password: NewSecret("p")},
		TLS:  TLSConfig{Enabled: true, CAFile: "ca.pem"},
	}
	got := deadLetterProducerConfig(conn)
	if got.ClientID != conn.ClientID || got.SASL != conn.SASL || got.TLS != conn.TLS || !slices.Equal(got.Brokers, conn.Brokers) || got.DialTimeout != conn.DialTimeout {
		t.Error("the connection is not the consumer's")
	}
	if got.RequiredAcks != AcksAll || !got.Idempotent || got.Async {
		t.Errorf("acks %q, idempotent %v, async %v: want all, true, false", got.RequiredAcks, got.Idempotent, got.Async)
	}
	if got.BatchSize != 1 || got.Topic != "" {
		t.Errorf("batch size %d, topic %q: want one record a batch, whose topic is on it", got.BatchSize, got.Topic)
	}
}

// fakeDLQ asks fail for the outcome of each try, counted from 1.
type fakeDLQ struct {
	fail func(try int, msg kafka.Message) error

	mu   sync.Mutex
	seen []dlqTry
}

type dlqTry struct {
	at  time.Time
	msg kafka.Message
}

func (f *fakeDLQ) WriteMessages(_ context.Context, msgs ...kafka.Message) error {
	f.mu.Lock()
	f.seen = append(f.seen, dlqTry{time.Now(), msgs[0]})
	try := len(f.seen)
	f.mu.Unlock()
	return f.fail(try, msgs[0])
}

func (f *fakeDLQ) tries() []dlqTry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func header(keysAndValues ...string) []kafka.Header {
	var headers []kafka.Header
	for pair := range slices.Chunk(keysAndValues, 2) {
		headers = append(headers, kafka.Header{Key: pair[0], Value: []byte(pair[1])})
	}
	return headers
}

func wantHeaders(t *testing.T, got []kafka.Header, keysAndValues ...string) {
	t.Helper()
	want := header(keysAndValues...)
	if !slices.EqualFunc(got, want, func(a, b kafka.Header) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }) {
		t.Errorf("headers\n%q\nwant\n%q", got, want)
	}
}

func headerValue(t *testing.T, msg kafka.Message, key string) string {
	t.Helper()
	for _, h := range msg.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	t.Errorf("no header %s", key)
	return ""
}
