package kafkax

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
)

// stamp is what a broker reads of a batch's identity.
type stamp struct {
	id    int64
	epoch int16
	seq   int32
}

var unstamped = stamp{noProducer, -1, -1}

// step is how a scripted broker treats one produce request.
type step func(ctx context.Context, try *scriptedTry) (kafka.Response, error)

type scriptedTry struct {
	req   *rawproduce.Request
	topic string
	part  int32
	bytes []byte // what the connection took; nil if it did not
	stamp stamp
}

// take is the connection reading the request's bytes to send them.
func (s *scriptedTry) take() error {
	var buf bytes.Buffer
	if _, err := s.req.Topics[0].Partitions[0].RecordSet.WriteTo(&buf); err != nil {
		return err
	}
	s.bytes = buf.Bytes()
	s.stamp = stamp{
		id:    int64(binary.BigEndian.Uint64(s.bytes[producerAt:])),
		epoch: int16(binary.BigEndian.Uint16(s.bytes[epochAt:])),
		seq:   int32(binary.BigEndian.Uint32(s.bytes[sequenceAt:])),
	}
	return nil
}

func answers(code kafka.Error) step {
	return func(_ context.Context, s *scriptedTry) (kafka.Response, error) {
		if err := s.take(); err != nil {
			return nil, err
		}
		return &produce.Response{Topics: []produce.ResponseTopic{{
			Topic:      s.topic,
			Partitions: []produce.ResponsePartition{{Partition: s.part, ErrorCode: int16(code), BaseOffset: 40}},
		}}}, nil
	}
}

// breaks is a connection that is lost after the request was sent.
func breaks(_ context.Context, s *scriptedTry) (kafka.Response, error) {
	return nil, errors.Join(s.take(), io.ErrUnexpectedEOF)
}

// scriptedPatience is the connection's: after it a silence ends, and so does a
// dial.
const scriptedPatience = 10 * time.Second

// hangs is a broker that is sent the request and says nothing.
func hangs(ctx context.Context, s *scriptedTry) (kafka.Response, error) {
	if err := s.take(); err != nil {
		return nil, err
	}
	return nil, patience(ctx, &silenceError{after: scriptedPatience, err: os.ErrDeadlineExceeded})
}

// dials is a connection that does not come about.
func dials(ctx context.Context, _ *scriptedTry) (kafka.Response, error) {
	return nil, patience(ctx, &ConnectError{Broker: "broker:9092", Step: stepConnect, Err: errDialTimeout})
}

func patience(ctx context.Context, after error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(scriptedPatience): // synctest's time
		return after
	}
}

// unsent is an error ahead of the request: routing, dialling, logging in.
func unsent(err error) step {
	return func(context.Context, *scriptedTry) (kafka.Response, error) { return nil, err }
}

func acked(_ context.Context, s *scriptedTry) (kafka.Response, error) {
	if s.req.Acks == 0 {
		return nil, s.take()
	}
	return answers(0)(context.Background(), s)
}

// scriptedBroker plays steps in the order produce requests come, then
// acknowledges everything. It gives out the producer ids 100, 101, ...
type scriptedBroker struct {
	mu      sync.Mutex
	steps   []step
	tries   []*scriptedTry
	ids     int64
	idCodes []kafka.Error // answers to the first requests for an id
	lookup  func(n int) (kafka.Response, error)
	lookups int
	opened  [][]string
	closed  int
}

func (s *scriptedBroker) connect(topics ...string) transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, topics)
	return s
}

func (s *scriptedBroker) CloseIdleConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
}

func (s *scriptedBroker) RoundTrip(ctx context.Context, _ net.Addr, req kafka.Request) (kafka.Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	switch req := req.(type) {
	case *initProducerID:
		defer s.mu.Unlock()
		if req.ProducerID != noProducer || req.ProducerEpoch != -1 {
			return nil, fmt.Errorf("resumes producer %d, epoch %d", req.ProducerID, req.ProducerEpoch)
		}
		if len(s.idCodes) > 0 {
			code := s.idCodes[0]
			s.idCodes = s.idCodes[1:]
			return &initproducerid.Response{ErrorCode: int16(code), ProducerID: -1}, nil
		}
		s.ids++
		return &initproducerid.Response{ProducerID: 99 + s.ids}, nil
	case *metadata.Request:
		s.lookups++
		n := s.lookups
		s.mu.Unlock()
		return s.lookup(n)
	case *rawproduce.Request:
		next := step(acked)
		if len(s.steps) > 0 {
			next, s.steps = s.steps[0], s.steps[1:]
		}
		try := &scriptedTry{req: req, topic: req.Topics[0].Topic, part: req.Topics[0].Partitions[0].Partition}
		s.tries = append(s.tries, try)
		s.mu.Unlock()
		return next(ctx, try)
	}
	s.mu.Unlock()
	return nil, fmt.Errorf("unexpected %T", req)
}

// stamps are those of the tries that were sent.
func (s *scriptedBroker) stamps() (stamps []stamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tries {
		if t.bytes != nil {
			stamps = append(stamps, t.stamp)
		}
	}
	return stamps
}

func testDeliveryConfig() ProducerConfig {
	return ProducerConfig{
		ConnectionConfig: ConnectionConfig{RequestTimeout: 30 * time.Second},
		RequiredAcks:     AcksAll, Idempotent: true,
		DeliveryTimeout: 2 * time.Minute, WriteTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second,
	}
}

func scriptedDelivery(t *testing.T, cfg ProducerConfig, steps ...step) (*delivery, *scriptedBroker) {
	t.Helper()
	broker := &scriptedBroker{steps: steps}
	quiet := kafka.LoggerFunc(func(string, ...any) {})
	d := newDeliveryOver(cfg, broker.connect, func(err error) error { return err }, newLoggers(quiet, quiet))
	t.Cleanup(d.close)
	return d, broker
}

// testBatch is a produce request as kafka.Writer makes it.
func testBatch(topic string, partition int32, acks kafka.RequiredAcks, values ...string) *produce.Request {
	return &produce.Request{
		Acks: int16(acks),
		Topics: []produce.RequestTopic{{
			Topic:      topic,
			Partitions: []produce.RequestPartition{testRecords(partition, values...)},
		}},
	}
}

func testRecords(partition int32, values ...string) produce.RequestPartition {
	records := make([]kafka.Record, len(values))
	for i, v := range values {
		records[i].Value = kafka.NewBytes([]byte(v))
	}
	return produce.RequestPartition{
		Partition: partition,
		RecordSet: protocol.RecordSet{Records: kafka.NewRecordReader(records...)},
	}
}

var testAddr = kafka.TCP("broker:9092")

func sendBatch(ctx context.Context, d *delivery, values ...string) (produce.ResponsePartition, error) {
	res, err := d.RoundTrip(ctx, testAddr, testBatch("orders", 3, kafka.RequireAll, values...))
	if err != nil {
		return produce.ResponsePartition{}, err
	}
	return res.(*produce.Response).Topics[0].Partitions[0], nil
}

// Each way a send can go: what is sent, what the caller gets, and with which
// sequence the partition goes on.
func TestP9_EveryAnswer(t *testing.T) {
	t.Parallel()
	first := stamp{100, 0, 0}
	const records = 2 // in the batch under test
	next, again, bumped, renewed := stamp{100, 0, records}, first, stamp{100, 1, 0}, stamp{101, 0, 0}
	gone := &rawproduce.Error{Err: protocol.NewErrNoLeader("orders", 3)}

	type want struct {
		sent    []stamp
		code    kafka.Error // in the response
		unknown bool        // ErrOutcomeUnknown
		is      error       // and this
		next    stamp       // of the following batch
	}
	tests := []struct {
		name  string
		steps []step
		limit int // MaxAttempts
		want  want
	}{
		{name: "acknowledged", want: want{sent: []stamp{first}, next: next}},
		{
			name:  "not the leader",
			steps: []step{answers(kafka.NotLeaderForPartition)},
			want:  want{sent: []stamp{first, again}, next: next},
		},
		{
			name:  "the answer is lost",
			steps: []step{breaks, hangs, answers(kafka.NotEnoughReplicasAfterAppend)},
			want:  want{sent: []stamp{first, again, again, again}, next: next},
		},
		{
			name:  "there is no leader",
			steps: []step{unsent(gone), unsent(kafka.BrokerNotAvailable), unsent(syscall.ECONNREFUSED), dials},
			want:  want{sent: []stamp{first}, next: next},
		},
		{
			name:  "duplicate, after an answer was lost",
			steps: []step{breaks, answers(kafka.DuplicateSequenceNumber)},
			want:  want{sent: []stamp{first, again}, next: next},
		},
		{
			name:  "duplicate of somebody else's batch",
			steps: []step{answers(kafka.DuplicateSequenceNumber)},
			want:  want{sent: []stamp{first, renewed}, next: stamp{101, 0, records}},
		},
		{
			name:  "out of order",
			steps: []step{answers(kafka.OutOfOrderSequenceNumber)},
			want:  want{sent: []stamp{first, bumped}, next: stamp{100, 1, records}},
		},
		{
			name:  "out of order, after an answer was lost",
			steps: []step{breaks, answers(kafka.OutOfOrderSequenceNumber)},
			want:  want{sent: []stamp{first, again}, unknown: true, is: kafka.OutOfOrderSequenceNumber, next: bumped},
		},
		{
			name:  "producer forgotten",
			steps: []step{answers(kafka.UnknownProducerId)},
			want:  want{sent: []stamp{first, bumped}, next: stamp{100, 1, records}},
		},
		{
			name:  "producer forgotten, after an answer was lost",
			steps: []step{hangs, answers(kafka.UnknownProducerId)},
			want:  want{sent: []stamp{first, again}, unknown: true, is: kafka.UnknownProducerId, next: bumped},
		},
		{
			name:  "epoch too old",
			steps: []step{answers(kafka.InvalidProducerEpoch)},
			want:  want{sent: []stamp{first, renewed}, next: stamp{101, 0, records}},
		},
		{
			name:  "epoch too old, after an answer was lost",
			steps: []step{breaks, answers(kafka.InvalidProducerEpoch)},
			want:  want{sent: []stamp{first, again}, unknown: true, is: kafka.InvalidProducerEpoch, next: renewed},
		},
		{
			name:  "fenced",
			steps: []step{answers(kafka.ProducerFenced)},
			want:  want{sent: []stamp{first, renewed}, next: stamp{101, 0, records}},
		},
		{
			name:  "not the cluster's id",
			steps: []step{answers(kafka.InvalidProducerIDMapping)},
			want:  want{sent: []stamp{first, renewed}, next: stamp{101, 0, records}},
		},
		{
			name:  "too large",
			steps: []step{answers(kafka.MessageSizeTooLarge)},
			want:  want{sent: []stamp{first}, code: kafka.MessageSizeTooLarge, next: again},
		},
		{
			name:  "list too large",
			steps: []step{answers(kafka.RecordListTooLarge)},
			want:  want{sent: []stamp{first}, code: kafka.RecordListTooLarge, next: again},
		},
		{
			name:  "invalid record",
			steps: []step{answers(kafka.InvalidRecord)},
			want:  want{sent: []stamp{first}, code: kafka.InvalidRecord, next: again},
		},
		{
			name:  "forbidden",
			steps: []step{answers(kafka.TopicAuthorizationFailed), answers(kafka.TopicAuthorizationFailed)},
			limit: 1,
			want:  want{sent: []stamp{first, again}, code: kafka.TopicAuthorizationFailed, next: again},
		},
		{
			name:  "forbidden to a connection whose credentials ran out",
			steps: []step{answers(kafka.TopicAuthorizationFailed)},
			limit: 1,
			want:  want{sent: []stamp{first, again}, next: next},
		},
		{
			name:  "forbidden to the cluster, after an answer was lost",
			steps: []step{breaks, answers(kafka.ClusterAuthorizationFailed)},
			want:  want{sent: []stamp{first, again, again}, next: next},
		},
		{
			name:  "acks not valid",
			steps: []step{answers(kafka.InvalidRequiredAcks)},
			want:  want{sent: []stamp{first}, code: kafka.InvalidRequiredAcks, next: again},
		},
		{
			name:  "refused after it was found too few replicas",
			steps: []step{answers(kafka.NotEnoughReplicas), answers(kafka.PolicyViolation)},
			want:  want{sent: []stamp{first, again}, code: kafka.PolicyViolation, next: again},
		},
		{
			name:  "refused after an answer was lost",
			steps: []step{breaks, answers(kafka.TopicAuthorizationFailed), answers(kafka.TopicAuthorizationFailed)},
			want:  want{sent: []stamp{first, again, again}, unknown: true, is: ErrAuthorization, next: bumped},
		},
		{
			name:  "refused after the leader stepped down",
			steps: []step{answers(kafka.NotLeaderForPartition), answers(kafka.InvalidRecord)},
			want:  want{sent: []stamp{first, again}, unknown: true, is: kafka.InvalidRecord, next: bumped},
		},
		{
			name:  "refused after the broker went away",
			steps: []step{answers(kafka.BrokerNotAvailable), answers(kafka.InvalidRecord)},
			want:  want{sent: []stamp{first, again}, unknown: true, is: kafka.InvalidRecord, next: bumped},
		},
		{
			name:  "unknown server error",
			steps: []step{answers(kafka.Unknown)},
			want:  want{sent: []stamp{first}, unknown: true, is: kafka.Unknown, next: bumped},
		},
		{
			name:  "a code that nobody knows",
			steps: []step{answers(9999)},
			want:  want{sent: []stamp{first}, unknown: true, is: kafka.Error(9999), next: bumped},
		},
		{
			name:  "a code that is none of a produce request",
			steps: []step{answers(kafka.OffsetOutOfRange)},
			want:  want{sent: []stamp{first}, unknown: true, is: kafka.OffsetOutOfRange, next: bumped},
		},
		{
			name:  "compression not known",
			steps: []step{answers(kafka.UnsupportedCompressionType)},
			want:  want{sent: []stamp{first}, code: kafka.UnsupportedCompressionType, next: again},
		},
		{
			name:  "login refused",
			steps: []step{unsent(kafka.SASLAuthenticationFailed)},
			want:  want{is: kafka.SASLAuthenticationFailed, next: first},
		},
		{
			name:  "attempts used up, never sent",
			steps: []step{unsent(gone), unsent(gone)},
			limit: 2,
			want:  want{is: protocol.ErrNoLeader, next: first},
		},
		{
			name:  "attempts used up, sent",
			steps: []step{breaks, unsent(gone)},
			limit: 2,
			want:  want{sent: []stamp{first}, unknown: true, is: protocol.ErrNoLeader, next: bumped},
		},
		{
			name:  "delivery timeout, sent",
			steps: slices.Repeat([]step{hangs}, 12),
			want:  want{sent: slices.Repeat([]stamp{first}, 12), unknown: true, is: errDeliveryTimeout, next: bumped},
		},
		{
			name:  "delivery timeout, never sent",
			steps: slices.Repeat([]step{dials}, 12),
			want:  want{is: errDeliveryTimeout, next: first},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := testDeliveryConfig()
				cfg.MaxAttempts = tt.limit
				d, broker := scriptedDelivery(t, cfg, tt.steps...)

				start := time.Now()
				answer, err := sendBatch(t.Context(), d, "a", "b")
				if took := time.Since(start); took > cfg.DeliveryTimeout {
					t.Errorf("took %s", took)
				}
				if got := errors.Is(err, ErrOutcomeUnknown); got != tt.want.unknown {
					t.Errorf("error matches ErrOutcomeUnknown: %t, want %t: %v", got, tt.want.unknown, err)
				}
				if !errors.Is(err, tt.want.is) {
					t.Errorf("error %v, want one that matches %v", err, tt.want.is)
				}
				if code := kafka.Error(answer.ErrorCode); code != tt.want.code {
					t.Errorf("answered %v, want %v", code, tt.want.code)
				}
				sent := broker.stamps()
				if !slices.Equal(sent, tt.want.sent) {
					t.Errorf("sent %v\nwant %v", sent, tt.want.sent)
				}
				if _, err := sendBatch(t.Context(), d, "c"); err != nil {
					t.Fatalf("next batch: %v", err)
				}
				if got := broker.stamps()[len(sent):]; !slices.Equal(got, []stamp{tt.want.next}) {
					t.Errorf("next batch %v, want %v", got, tt.want.next)
				}
			})
		})
	}
}

func TestP9_TextOfTheBrokerIsOneLine(t *testing.T) {
	t.Parallel()
	says := func(code kafka.Error) step {
		return func(ctx context.Context, s *scriptedTry) (kafka.Response, error) {
			res, err := answers(code)(ctx, s)
			if err == nil {
				res.(*produce.Response).Topics[0].Partitions[0].ErrorMessage = "because\n\x1b[31m" + strings.Repeat("x", 1<<20)
			}
			return res, err
		}
	}
	for name, code := range map[string]kafka.Error{"refused": kafka.PolicyViolation, "unknown": kafka.Unknown} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, _ := scriptedDelivery(t, testDeliveryConfig(), says(code))
				answer, err := sendBatch(t.Context(), d, "a")
				text := answer.ErrorMessage + fmt.Sprint(err)
				if !strings.Contains(text, "because") || strings.ContainsAny(text, "\n\x1b") || len(text) > 2*maxText {
					t.Errorf("%d bytes of text: %.100q", len(text), text)
				}
			})
		})
	}
}

func TestP9_RetriesSendTheSameBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, broker := scriptedDelivery(t, testDeliveryConfig(), breaks, answers(kafka.NotLeaderForPartition))
		// Without a timestamp of their own records get that of the encoding,
		// which a second one would change.
		if _, err := sendBatch(t.Context(), d, "a", "b"); err != nil {
			t.Fatal(err)
		}
		if n := len(broker.tries); n != 3 {
			t.Fatalf("%d tries, want 3", n)
		}
		want := broker.tries[0].bytes
		if got := binary.BigEndian.Uint32(want[checksumAt:]); got != crc32.Checksum(want[attributesAt:], castagnoli) {
			t.Errorf("checksum %x is not that of the batch", got)
		}
		for _, try := range broker.tries[1:] {
			if !bytes.Equal(try.bytes, want) {
				t.Errorf("a retry differs from the first try:\n%x\n%x", try.bytes, want)
			}
		}
		var back protocol.RecordSet
		if _, err := back.ReadFrom(bytes.NewReader(want)); err != nil {
			t.Fatalf("kafka-go cannot read the batch back: %v", err)
		}
		if d.retries.Load() != 2 {
			t.Errorf("%d retries counted, want 2", d.retries.Load())
		}
	})
}

func TestP9_OffsetsReachTheWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, _ := scriptedDelivery(t, testDeliveryConfig(), acked, breaks, answers(kafka.DuplicateSequenceNumber))
		answer, err := sendBatch(t.Context(), d, "a", "b")
		if err != nil || answer.BaseOffset != 40 {
			t.Errorf("offset %d, error %v, want 40", answer.BaseOffset, err)
		}
		// The Writer gives message i the offset BaseOffset+i.
		answer, err = sendBatch(t.Context(), d, "c", "d", "e")
		if err != nil || answer.ErrorCode != 0 || answer.BaseOffset+2 >= 0 {
			t.Errorf("offset %d, code %d, error %v, want three negative offsets", answer.BaseOffset, answer.ErrorCode, err)
		}
	})
}

func TestP9_SequenceWraps(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		from, want int32
		n          int32
	}{
		{name: "up to the last", from: math.MaxInt32 - 1, n: 1, want: math.MaxInt32},
		{name: "past the last", from: math.MaxInt32, n: 1, want: 0},
		{name: "across", from: math.MaxInt32 - 1, n: 5, want: 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := producerState{next: tt.from}
			if s.advance(tt.n); s.next != tt.want {
				t.Errorf("%d and %d records: %d, want %d", tt.from, tt.n, s.next, tt.want)
			}
		})
	}
}

func TestP9_LastEpochNeedsANewID(t *testing.T) {
	t.Parallel()
	s := producerState{id: 7, epoch: math.MaxInt16 - 1, next: 5}
	if s.bump(); s.id != 7 || s.epoch != math.MaxInt16 || s.next != 0 {
		t.Errorf("bumped to %+v", s)
	}
	if s.bump(); s.id != noProducer {
		t.Errorf("bumped past the last epoch: %+v", s)
	}
}

// A straggling connection must not send a try that was already given up, and
// that its caller may have been told was not written.
func TestP9_EndedTryIsNeverSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := testDeliveryConfig()
		cfg.MaxAttempts = 1
		d, broker := scriptedDelivery(t, cfg, dials)
		if _, err := sendBatch(t.Context(), d, "a"); err == nil || errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("error %v, want a plain one", err)
		}
		if err := broker.tries[0].take(); !errors.Is(err, errTryEnded) {
			t.Errorf("the connection was given the bytes after all: %v", err)
		}
	})
}

func TestP9_ProducerIDIsAskedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := testDeliveryConfig()
		cfg.MaxAttempts = 1 // a try for an id is none for the batch
		d, broker := scriptedDelivery(t, cfg)
		broker.idCodes = []kafka.Error{kafka.GroupLoadInProgress, kafka.NotCoordinatorForGroup, kafka.GroupCoordinatorNotAvailable}
		for range 3 {
			if _, err := sendBatch(t.Context(), d, "a"); err != nil {
				t.Fatal(err)
			}
		}
		want := []stamp{{100, 0, 0}, {100, 0, 1}, {100, 0, 2}}
		if got := broker.stamps(); !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
	})
}

func TestP9_ProducerIDRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, broker := scriptedDelivery(t, testDeliveryConfig())
		broker.idCodes = slices.Repeat([]kafka.Error{kafka.ClusterAuthorizationFailed}, 2)
		_, err := sendBatch(t.Context(), d, "a")
		if !errors.Is(err, ErrAuthorization) || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("error %v, want ErrAuthorization", err)
		}
		// Kafka has asked for no more than the first since 3.0.
		for _, what := range []string{`allow Write on the topic "orders"`, "before Kafka 3.0 also IdempotentWrite on the cluster", "producer.idempotent"} {
			if !strings.Contains(err.Error(), what) {
				t.Errorf("%q does not say %q", err, what)
			}
		}
		if len(broker.tries) != 0 {
			t.Errorf("%d batches sent without an id", len(broker.tries))
		}
	})
}

// A connection may be refused because its credentials ran out: a refusal is
// final on a fresh one alone.
func TestRefusalIsTriedOnAFreshConnection(t *testing.T) {
	t.Parallel()
	forbidden := kafka.TopicAuthorizationFailed
	topic := func() *metadata.Request { return &metadata.Request{TopicNames: []string{"orders"}} }
	tests := []struct {
		name   string
		refuse func(s *scriptedBroker, times int)
		send   func(t *testing.T, d *delivery) error
	}{
		{
			"records", func(s *scriptedBroker, times int) { s.steps = slices.Repeat([]step{answers(forbidden)}, times) },
			func(t *testing.T, d *delivery) error {
				answer, err := sendBatch(t.Context(), d, "a")
				if answer.ErrorCode != 0 {
					err = answerError(answer)
				}
				return err
			},
		},
		{"producer_id", func(s *scriptedBroker, times int) {
			s.idCodes = slices.Repeat([]kafka.Error{kafka.TransactionalIDAuthorizationFailed}, times)
		}, func(t *testing.T, d *delivery) error {
			_, err := sendBatch(t.Context(), d, "a")
			return err
		}},
		{"lookup", func(s *scriptedBroker, times int) {
			s.lookup = func(n int) (kafka.Response, error) {
				if n <= times {
					return topicAnswer(forbidden), nil
				}
				return topicAnswer(0), nil
			}
		}, func(t *testing.T, d *delivery) error {
			_, err := d.RoundTrip(t.Context(), testAddr, topic())
			return err
		}},
	}
	for _, tt := range tests {
		for _, times := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, times), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					d, broker := scriptedDelivery(t, testDeliveryConfig())
					tt.refuse(broker, times)
					start := time.Now()
					err := tt.send(t, d)
					if times == 1 && err != nil || times == 2 && !errors.Is(err, ErrAuthorization) {
						t.Errorf("refused %d times: %v", times, err)
					}
					if broker.closed != 1 || time.Since(start) != 0 {
						t.Errorf("connections were made anew %d times within %s, want once and at once", broker.closed, time.Since(start))
					}
					if times == 1 {
						return
					}
					// The connections are fresh for the next, and not those of a while later.
					tt.refuse(broker, 4+broker.lookups)
					_ = tt.send(t, d)
					if broker.closed != 1 {
						t.Error("fresh connections were made anew")
					}
					time.Sleep(renewInterval) // synctest's time
					_ = tt.send(t, d)
					if broker.closed != 2 {
						t.Errorf("connections were made anew %d times, want 2", broker.closed)
					}
				})
			})
		}
	}
}

func TestP9_PartitionsDoNotShareASequence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, broker := scriptedDelivery(t, testDeliveryConfig())
		for _, partition := range []int32{0, 1, 0, 1} {
			_, err := d.RoundTrip(t.Context(), testAddr, testBatch("orders", partition, kafka.RequireAll, "a", "b"))
			if err != nil {
				t.Fatal(err)
			}
		}
		want := []stamp{{100, 0, 0}, {101, 0, 0}, {100, 0, 2}, {101, 0, 2}}
		if got := broker.stamps(); !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
	})
}

func TestP9_SeveralPartitionsInOneRequest(t *testing.T) {
	t.Parallel()
	by := func(steps map[int32]step) step {
		return func(ctx context.Context, try *scriptedTry) (kafka.Response, error) {
			if s := steps[try.part]; s != nil {
				return s(ctx, try)
			}
			return acked(ctx, try)
		}
	}
	request := func() *produce.Request {
		req := testBatch("orders", 0, kafka.RequireAll, "a")
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, testRecords(1, "b", "c"), testRecords(2, "d"))
		return req
	}
	t.Run("one refused", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			d, _ := scriptedDelivery(t, testDeliveryConfig(),
				slices.Repeat([]step{by(map[int32]step{1: answers(kafka.InvalidRecord)})}, 3)...)
			res, err := d.RoundTrip(t.Context(), testAddr, request())
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []kafka.Error{0, kafka.InvalidRecord, 0} {
				if p := res.(*produce.Response).Topics[0].Partitions[i]; p.Partition != int32(i) || kafka.Error(p.ErrorCode) != want {
					t.Errorf("partition %d answered %v, want %v", p.Partition, p.ErrorCode, want)
				}
			}
		})
	})
	t.Run("one refused, one unknown", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			cfg := testDeliveryConfig()
			cfg.MaxAttempts = 1
			d, _ := scriptedDelivery(t, cfg,
				slices.Repeat([]step{by(map[int32]step{1: answers(kafka.InvalidRecord), 2: breaks})}, 3)...)
			_, err := d.RoundTrip(t.Context(), testAddr, request())
			if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, kafka.InvalidRecord) {
				t.Errorf("error %v, want both failures", err)
			}
			if strings.Contains(fmt.Sprint(err), "orders[0]") {
				t.Errorf("the acknowledged partition is named: %v", err)
			}
		})
	})
}

func TestP9_OneBatchInFlightAPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		inFlight, most := 0, 0
		slow := func(ctx context.Context, try *scriptedTry) (kafka.Response, error) {
			mu.Lock()
			inFlight++
			most = max(most, inFlight)
			mu.Unlock()
			time.Sleep(time.Millisecond) // synctest's time
			mu.Lock()
			inFlight--
			mu.Unlock()
			return acked(ctx, try)
		}
		d, broker := scriptedDelivery(t, testDeliveryConfig(), slices.Repeat([]step{slow}, 50)...)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := sendBatch(t.Context(), d, "a", "b"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most != 1 {
			t.Errorf("%d batches in flight at once", most)
		}
		for i, got := range broker.stamps() {
			if want := (stamp{100, 0, int32(2 * i)}); got != want {
				t.Fatalf("batch %d has %v, want %v", i, got, want)
			}
		}
	})
}

func TestDelivery_WithoutIdempotence(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		acks    kafka.RequiredAcks
		steps   []step
		sent    int
		unknown bool
	}{
		{name: "acks one, retried", acks: kafka.RequireOne, steps: []step{breaks, answers(kafka.NotLeaderForPartition)}, sent: 3},
		{name: "acks none", acks: kafka.RequireNone, sent: 1},
		{name: "acks none, never sent", acks: kafka.RequireNone, steps: []step{unsent(syscall.ECONNREFUSED)}, sent: 1},
		{name: "acks none, broken off", acks: kafka.RequireNone, steps: []step{breaks}, sent: 1, unknown: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := testDeliveryConfig()
				cfg.Idempotent = false
				d, broker := scriptedDelivery(t, cfg, tt.steps...)
				res, err := d.RoundTrip(t.Context(), testAddr, testBatch("orders", 3, tt.acks, "a"))
				if errors.Is(err, ErrOutcomeUnknown) != tt.unknown || !tt.unknown && err != nil {
					t.Errorf("error %v", err)
				}
				if tt.acks == kafka.RequireNone && res != nil {
					t.Errorf("answer %v to a request that has none", res)
				}
				if got := broker.stamps(); !slices.Equal(got, slices.Repeat([]stamp{unstamped}, tt.sent)) {
					t.Errorf("sent %v, want %d plain batches", got, tt.sent)
				}
				if broker.ids != 0 {
					t.Error("asked for a producer id")
				}
			})
		})
	}
}

func TestDelivery_EmptyBatchIsTheWritersError(t *testing.T) {
	t.Parallel()
	d, _ := scriptedDelivery(t, testDeliveryConfig())
	if _, err := sendBatch(t.Context(), d); !errors.Is(err, protocol.ErrNoRecord) {
		t.Errorf("error %v, want ErrNoRecord", err)
	}
}

func TestP3_ContextEndsASend(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		step    step
		unknown bool
	}{
		{name: "in flight", step: hangs, unknown: true},
		{name: "dialling", step: dials},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, _ := scriptedDelivery(t, testDeliveryConfig(), tt.step)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				start := time.Now()
				_, err := sendBatch(ctx, d, "a")
				if time.Since(start) != time.Second {
					t.Errorf("took %s, want 1s", time.Since(start))
				}
				if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) != tt.unknown {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestP5_CloseEndsSends(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		step step
		want error
	}{
		{name: "in flight", step: hangs, want: ErrOutcomeUnknown},
		{name: "dialling", step: dials, want: ErrClosed},
		{name: "between tries", step: unsent(syscall.ECONNREFUSED), want: ErrClosed},
		{name: "between tries, sent", step: breaks, want: ErrOutcomeUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, broker := scriptedDelivery(t, testDeliveryConfig(), tt.step)
				got := make(chan error, 1)
				go func() {
					_, err := sendBatch(t.Context(), d, "a")
					got <- err
				}()
				synctest.Wait()
				start := time.Now()
				d.close()
				err := <-got
				if time.Since(start) > 0 {
					t.Errorf("took %s", time.Since(start))
				}
				for _, sentinel := range []error{ErrOutcomeUnknown, ErrClosed} {
					if errors.Is(err, sentinel) != errors.Is(tt.want, sentinel) {
						t.Errorf("error %v, want %v and not the other", err, tt.want)
					}
				}
				if _, err := sendBatch(t.Context(), d, "b"); !errors.Is(err, ErrClosed) {
					t.Errorf("late send: %v", err)
				}
				if broker.closed != len(broker.opened) {
					t.Errorf("%d of %d transports released", broker.closed, len(broker.opened))
				}
				d.close()
			})
		})
	}
}

func TestP5_CloseRacingSends(t *testing.T) {
	t.Parallel()
	d, broker := scriptedDelivery(t, testDeliveryConfig())
	broker.lookup = func(int) (kafka.Response, error) { return topicAnswer(0), nil }
	var wg, started sync.WaitGroup
	for i := range 8 {
		started.Add(1)
		wg.Go(func() {
			for n := 0; ; n++ {
				req := kafka.Request(testBatch("orders", int32(i), kafka.RequireAll, "a"))
				if n%2 == 1 {
					req = &metadata.Request{TopicNames: []string{"orders"}}
				}
				_, err := d.RoundTrip(context.Background(), testAddr, req)
				if n == 1 {
					started.Done()
				}
				if err != nil {
					if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrOutcomeUnknown) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	started.Wait()
	var closing sync.WaitGroup
	for range 3 {
		closing.Go(d.close)
	}
	closing.Wait()
	wg.Wait()
	if broker.closed != len(broker.opened) {
		t.Errorf("%d of %d transports released", broker.closed, len(broker.opened))
	}
}
