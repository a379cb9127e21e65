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
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/internal/budget"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

const (
	markerAbort  = 0
	markerCommit = 1
)

func dataBatch(base int64, attrs protocol.Attributes, producer int64, offsets ...int64) *protocol.RecordBatch {
	records := make([]protocol.Record, len(offsets))
	for i, o := range offsets {
		records[i] = protocol.Record{Offset: o, Time: time.UnixMilli(1000 + o), Value: protocol.NewBytes(fmt.Appendf(nil, "v%d", o))}
	}
	return &protocol.RecordBatch{Attributes: attrs, BaseOffset: base, ProducerID: producer, Records: protocol.NewRecordReader(records...)}
}

func marker(offset, producer int64, kind int16) *protocol.ControlBatch {
	b := protocol.NewControlBatch(protocol.ControlRecord{Offset: offset, Type: kind, Data: []byte{0}})
	b.BaseOffset, b.ProducerID, b.Attributes = offset, producer, protocol.Control|protocol.Transactional
	return b
}

func testFetcher(offset int64, isolation IsolationLevel) *fetcher {
	return &fetcher{
		partition: &partition{topic: "t", id: 3, tracker: newOffsetTracker(offset, -1, unknownOrigin), chunks: make(chan *chunk), stats: new(consumerStats)},
		cfg:       &ConsumerConfig{IsolationLevel: isolation, MaxWait: time.Millisecond, OffsetReset: ResetEarliest},
		log:       newLoggers(nil, nil),
		allowance: newAllowance(budget.New(1 << 20)),
		report:    func(*partition, error) {},
		secondTry: func(error) bool { return false },
		located:   func(int, int64) {},
		share:     1 << 20,
		offset:    offset,
		limit:     64 << 10,
	}
}

func TestD10_DecodeFiltersTransactions(t *testing.T) {
	t.Parallel()
	const tx = protocol.Transactional
	tests := []struct {
		name      string
		isolation IsolationLevel
		offset    int64
		aborted   []fetch.ResponseTransaction
		batches   []protocol.RecordReader
		want      []int64
		next      int64
	}{
		{
			name: "markers_are_never_delivered", isolation: ReadUncommitted,
			batches: []protocol.RecordReader{dataBatch(0, tx, 7, 0, 1), marker(2, 7, markerCommit), dataBatch(3, 0, -1, 3)},
			want:    []int64{0, 1, 3}, next: 4,
		},
		{
			name: "uncommitted_reads_aborted", isolation: ReadUncommitted,
			batches: []protocol.RecordReader{dataBatch(0, tx, 7, 0, 1), marker(2, 7, markerAbort)},
			want:    []int64{0, 1}, next: 3,
		},
		{
			name: "aborted_is_filtered_up_to_its_marker", isolation: ReadCommitted,
			aborted: []fetch.ResponseTransaction{{ProducerID: 7, FirstOffset: 0}},
			batches: []protocol.RecordReader{dataBatch(0, tx, 7, 0, 1), marker(2, 7, markerAbort), dataBatch(3, tx, 7, 3), marker(4, 7, markerCommit)},
			want:    []int64{3}, next: 5,
		},
		{
			name: "interleaved_producers", isolation: ReadCommitted,
			aborted: []fetch.ResponseTransaction{{ProducerID: 8, FirstOffset: 1}, {ProducerID: 7, FirstOffset: 6}},
			batches: []protocol.RecordReader{
				dataBatch(0, tx, 7, 0), dataBatch(1, tx, 8, 1), dataBatch(2, 0, -1, 2), dataBatch(3, tx, 7, 3),
				marker(4, 7, markerCommit), marker(5, 8, markerAbort), dataBatch(6, tx, 7, 6), dataBatch(7, tx, 8, 7),
				marker(8, 7, markerAbort), marker(9, 8, markerCommit),
			},
			want: []int64{0, 2, 3, 7}, next: 10,
		},
		{
			name: "same_producer_not_transactional", isolation: ReadCommitted,
			aborted: []fetch.ResponseTransaction{{ProducerID: 7, FirstOffset: 0}},
			batches: []protocol.RecordReader{dataBatch(0, tx, 7, 0), dataBatch(1, 0, 7, 1)},
			want:    []int64{1}, next: 2,
		},
		{
			name: "transaction_that_began_before_the_fetch", isolation: ReadCommitted, offset: 5,
			aborted: []fetch.ResponseTransaction{{ProducerID: 7, FirstOffset: 1}},
			batches: []protocol.RecordReader{dataBatch(4, tx, 7, 4, 5, 6), marker(7, 7, markerAbort), dataBatch(8, 0, -1, 8)},
			want:    []int64{8}, next: 9,
		},
		{
			name: "fetch_that_begins_at_the_marker", isolation: ReadCommitted, offset: 2,
			aborted: []fetch.ResponseTransaction{{ProducerID: 7, FirstOffset: 0}},
			batches: []protocol.RecordReader{marker(2, 7, markerAbort), dataBatch(3, tx, 7, 3), marker(4, 7, markerCommit)},
			want:    []int64{3}, next: 5,
		},
		{
			name: "aborted_twice_in_a_row", isolation: ReadCommitted,
			aborted: []fetch.ResponseTransaction{{ProducerID: 7, FirstOffset: 0}, {ProducerID: 7, FirstOffset: 2}},
			batches: []protocol.RecordReader{
				dataBatch(0, tx, 7, 0), marker(1, 7, markerAbort), dataBatch(2, tx, 7, 2), marker(3, 7, markerAbort), dataBatch(4, tx, 7, 4),
			},
			want: []int64{4}, next: 5,
		},
		{
			name: "batch_begins_before_the_offset", isolation: ReadUncommitted, offset: 2,
			batches: []protocol.RecordReader{dataBatch(0, 0, -1, 0, 1, 2, 3)},
			want:    []int64{2, 3}, next: 4,
		},
		{
			name: "compacted_hole_before_a_batch", isolation: ReadUncommitted, offset: 2,
			batches: []protocol.RecordReader{dataBatch(0, 0, -1), dataBatch(9, 0, -1, 11)},
			want:    []int64{11}, next: 12,
		},
		{
			name: "batch_emptied_by_compaction_does_not_stall", isolation: ReadUncommitted, offset: 2,
			batches: []protocol.RecordReader{dataBatch(0, 0, -1)},
			next:    3,
		},
		{
			name: "last_records_of_a_batch_compacted_away", isolation: ReadUncommitted, offset: 2,
			batches: []protocol.RecordReader{dataBatch(0, 0, -1, 0, 1)},
			next:    3,
		},
		{name: "nothing", isolation: ReadUncommitted, offset: 2, next: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			res := &fetch.ResponsePartition{HighWatermark: 100, AbortedTransactions: tt.aborted}
			if tt.batches != nil {
				res.RecordSet.Records = &protocol.RecordStream{Records: tt.batches}
			}
			d, err := decode(res, "t", 3, tt.offset, tt.isolation, 0)
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, m := range d.messages {
				got = append(got, m.Offset)
				if want := fmt.Sprintf("v%d", m.Offset); string(m.Value) != want || m.Topic != "t" || m.Partition != 3 || m.HighWaterMark != 100 {
					t.Errorf("message %+v does not fit its offset", m)
				}
			}
			if !slices.Equal(got, tt.want) || d.next != tt.next {
				t.Errorf("offsets %v next %d, want %v next %d", got, d.next, tt.want, tt.next)
			}
		})
	}
}

// A record's bytes must be its own: appending to one must not reach the next,
// and nil is not empty.
func TestDecodeKeepsNilApartAndBytesApart(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1517363399650)
	records := protocol.NewRecordReader(
		protocol.Record{Offset: 0, Time: at, Key: protocol.NewBytes([]byte("k")), Headers: []protocol.Header{{Key: "h", Value: []byte("x")}, {Key: "h"}}},
		protocol.Record{Offset: 1, Key: protocol.NewBytes([]byte{}), Value: protocol.NewBytes([]byte("next"))},
	)
	d, err := decode(&fetch.ResponsePartition{RecordSet: protocol.RecordSet{
		Records: &protocol.RecordStream{Records: []protocol.RecordReader{&protocol.RecordBatch{Records: records}}},
	}}, "t", 3, 0, ReadUncommitted, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := d.messages[0], d.messages[1]
	if a.Value != nil || b.Key == nil || len(b.Key) != 0 {
		t.Errorf("nil and empty are mixed up: %#v %#v", a.Value, b.Key)
	}
	_ = append(a.Key, "overwritten"...)
	if string(b.Value) != "next" {
		t.Errorf("value = %q, want %q", b.Value, "next")
	}
	if !a.Time.Equal(at) || a.Time.Location() != time.UTC {
		t.Errorf("time = %v, want %v in UTC", a.Time, at)
	}
	if len(a.Headers) != 2 || string(a.Headers[0].Value) != "x" || a.Headers[1].Value != nil {
		t.Errorf("headers = %v", a.Headers)
	}
}

type brokenRecords struct{ protocol.RecordReader }

func (b brokenRecords) ReadRecord() (*protocol.Record, error) {
	r, err := b.RecordReader.ReadRecord()
	if err != nil {
		return nil, errors.New("crc32 checksum mismatch")
	}
	return r, nil
}

// What came before records that cannot be read is delivered; they themselves
// are an error, never skipped.
func TestDecodeKeepsWhatItCouldRead(t *testing.T) {
	t.Parallel()
	broken := dataBatch(0, 0, -1, 0, 1)
	broken.Records = brokenRecords{broken.Records}
	d, err := decode(&fetch.ResponsePartition{RecordSet: protocol.RecordSet{
		Records: &protocol.RecordStream{Records: []protocol.RecordReader{broken, dataBatch(2, 0, -1, 2)}},
	}}, "t", 3, 0, ReadUncommitted, 0)
	if err == nil || len(d.messages) != 2 || d.next != 2 {
		t.Errorf("got %d messages, next %d, error %v; want 2, 2 and an error", len(d.messages), d.next, err)
	}
}

// The size of the first fetch is small, grows while what it brings fits, and
// shrinks when compression was better than expected.
func TestD15_FetchSizeFollowsMemory(t *testing.T) {
	t.Parallel()
	f := testFetcher(0, ReadUncommitted)
	f.share, f.limit = 4*maxFetchBytes, firstFetchBytes
	fetches := 0
	for before := 0; f.limit != before; fetches++ {
		before = f.limit
		f.adapt(max(f.limit, 16<<10)) // a batch at least, or as large as asked for
	}
	if f.limit != maxFetchBytes || fetches > 25 {
		t.Errorf("limit = %d after %d fetches, want %d soon", f.limit, fetches, maxFetchBytes)
	}
	before := f.limit
	f.adapt(f.share * 50) // one response decompressed to 50 times the share
	if f.limit > before/40 {
		t.Errorf("limit = %d after a response of 50 shares, was %d", f.limit, before)
	}
	if f.need != f.share*50 {
		t.Errorf("need = %d, want what the last response took", f.need)
	}
	before = f.limit
	for range 100 {
		f.adapt(0)
	}
	if f.limit != before {
		t.Errorf("empty responses changed the limit from %d to %d", before, f.limit)
	}
}

// Batches that decompress to a thousand times their size: what is asked for
// stops growing before the share is passed by more than a batch.
func TestD15_FetchSizeOfCompressedBatches(t *testing.T) {
	t.Parallel()
	const batch, ratio = 1 << 20, 1000
	f := testFetcher(0, ReadUncommitted)
	f.share, f.limit = 5<<20, firstFetchBytes
	for range 100 {
		bytes := max(f.limit*ratio/batch, 1) * batch // whole batches, one at least
		if bytes > f.share+batch {
			t.Fatalf("a fetch of %d brought %d bytes, with a share of %d", f.limit, bytes, f.share)
		}
		f.adapt(bytes)
	}
}

// How long an answer may take is not bounded, only how long nothing of it comes:
// that is the connection's part.
func TestD13_FetchHasNoDeadlineOfItsOwn(t *testing.T) {
	t.Parallel()
	f := testFetcher(0, ReadUncommitted)
	f.seeks = -1
	f.brokers = fetching(func(ctx context.Context, _ *kmsg.FetchRequest) (*kmsg.FetchResponse, error) {
		if _, ok := ctx.Deadline(); ok {
			t.Error("a fetch has a deadline")
		}
		return nil, &silenceError{after: time.Second}
	})
	if err := f.step(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
	if f.limit != 64<<10 || len(f.allowance.own) != 1 || f.stats.timeouts.Load() != 1 {
		t.Errorf("limit %d, own allowance free %d, timeouts %d", f.limit, len(f.allowance.own), f.stats.timeouts.Load())
	}
}

// fetching is brokers of which one leads, and answers fetches as a script says.
type fetching func(ctx context.Context, req *kmsg.FetchRequest) (*kmsg.FetchResponse, error)

func (f fetching) fetch(ctx context.Context, _ int32, req *kmsg.FetchRequest) (*kmsg.FetchResponse, error) {
	return f(ctx, req)
}

func (fetching) leaderOf(context.Context, string, int) (leader, error) {
	return leader{node: 1, epoch: 5, topic: topicID{1}}, nil
}
func (fetching) forgetTopic(string) {}

func (fetching) listOffsets(context.Context, int32, *kmsg.ListOffsetsRequest) (*kmsg.ListOffsetsResponse, error) {
	return nil, io.ErrUnexpectedEOF
}

func (fetching) endOfEpoch(context.Context, int32, *kmsg.OffsetForLeaderEpochRequest) (*kmsg.OffsetForLeaderEpochResponse, error) {
	return nil, io.ErrUnexpectedEOF
}

// fetchScript scripts the answers to a fetcher's requests; the last is repeated.
type fetchScript struct {
	requests []kmsg.FetchRequestTopicPartition
	minBytes []int32
	answers  []func() (*kmsg.FetchResponse, error)
}

func (s *fetchScript) brokers() brokers {
	return fetching(func(_ context.Context, r *kmsg.FetchRequest) (*kmsg.FetchResponse, error) {
		s.requests = append(s.requests, r.Topics[0].Partitions[0])
		s.minBytes = append(s.minBytes, r.MinBytes)
		return s.answers[min(len(s.requests), len(s.answers))-1]()
	})
}

func answer(p kmsg.FetchResponseTopicPartition) func() (*kmsg.FetchResponse, error) {
	p.Partition = 3
	return func() (*kmsg.FetchResponse, error) {
		return &kmsg.FetchResponse{Topics: []kmsg.FetchResponseTopic{{Topic: "t", Partitions: []kmsg.FetchResponseTopicPartition{p}}}}, nil
	}
}

// runFor lets a fetcher run for a while of virtual time, and returns what it
// reported.
func runFor(t *testing.T, f *fetcher, d time.Duration) (reported []error, err error) {
	t.Helper()
	f.report = func(_ *partition, err error) { reported = append(reported, err) }
	f.queued.Store(0)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return reported, f.run(ctx)
}

// A broker, or what stands before it, that answers at once and with nothing is
// not asked thousands of times a second. Where there is something to be had, that
// is trouble, and more is asked for.
func TestD13_AnswersWithoutProgressAreNoStorm(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		isolation IsolationLevel
		answer    kmsg.FetchResponseTopicPartition
		trouble   bool
	}{
		{"at the end of the log", ReadUncommitted, kmsg.FetchResponseTopicPartition{HighWatermark: 5}, false},
		{"before the end of the log", ReadUncommitted, kmsg.FetchResponseTopicPartition{HighWatermark: 9}, true},
		{"before an open transaction", ReadCommitted, kmsg.FetchResponseTopicPartition{HighWatermark: 9, LastStableOffset: 5}, false},
		{"before the last committed one", ReadCommitted, kmsg.FetchResponseTopicPartition{HighWatermark: 9, LastStableOffset: 9}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := testFetcher(5, tt.isolation)
				f.cfg.MaxWait = 500 * time.Millisecond
				script := &fetchScript{answers: []func() (*kmsg.FetchResponse, error){answer(tt.answer)}}
				f.brokers = script.brokers()
				reported, err := runFor(t, f, 10*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				if n := len(script.requests); n > 25 {
					t.Errorf("%d fetches in 10 s, want about one each max_wait", n)
				}
				last := script.requests[len(script.requests)-1].PartitionMaxBytes
				if tt.trouble && (len(reported) == 0 || !errors.Is(reported[0], errNoProgress) || last <= firstFetchBytes) {
					t.Errorf("reported %v, asked for %d bytes at last; want the trouble, and more bytes", reported, last)
				}
				if !tt.trouble && len(reported) > 0 {
					t.Errorf("reported %v", reported)
				}
			})
		})
	}
}

// A broker that throttles says how long it wants to be left alone.
func TestD13_ThrottleIsWaitedOut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		said int32
		want time.Duration
	}{
		{"3 s", 3000, 3 * time.Second},
		{"longer than any quota", math.MaxInt32, maxThrottle},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := testFetcher(5, ReadUncommitted)
				began := time.Now()
				var next time.Duration
				script := &fetchScript{answers: []func() (*kmsg.FetchResponse, error){
					func() (*kmsg.FetchResponse, error) { return &kmsg.FetchResponse{ThrottleMillis: tt.said}, nil },
					func() (*kmsg.FetchResponse, error) {
						if next == 0 {
							next = time.Since(began)
						}
						return answer(kmsg.FetchResponseTopicPartition{HighWatermark: 5})()
					},
				}}
				f.brokers = script.brokers()
				reported, err := runFor(t, f, 2*maxThrottle)
				if err != nil || len(reported) > 0 {
					t.Errorf("reported %v, error %v", reported, err)
				}
				if next != tt.want {
					t.Errorf("asked again after %v, want %v", next, tt.want)
				}
			})
		})
	}
}

// Right after a topic is made, or while leaders move, a partition has no leader
// for a moment. That is trouble only if it lasts.
func TestD13_AnElectionIsNoTroubleUnlessItLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, lasts := range []time.Duration{electionPatience / 2, 3 * electionPatience} {
			f := testFetcher(5, ReadUncommitted)
			f.cfg.MaxWait = 500 * time.Millisecond
			began := time.Now()
			script := &fetchScript{answers: []func() (*kmsg.FetchResponse, error){func() (*kmsg.FetchResponse, error) {
				if time.Since(began) < lasts {
					return answer(kmsg.FetchResponseTopicPartition{ErrorCode: int16(kafka.NotLeaderForPartition)})()
				}
				return answer(kmsg.FetchResponseTopicPartition{HighWatermark: 5})()
			}}}
			f.brokers = script.brokers()
			reported, err := runFor(t, f, 2*lasts)
			if err != nil || (len(reported) > 0) != (lasts > electionPatience) {
				t.Errorf("without a leader for %v: reported %v, error %v", lasts, reported, err)
			}
		}
	})
}

// Min_bytes beyond what is asked for would never come, and each fetch would wait
// for max_wait.
func TestFetchMinBytesAreAtMostWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testFetcher(0, ReadUncommitted)
		f.cfg.MinBytes = 64 << 10
		f.chunks = make(chan *chunk, 1000)
		next := int64(0)
		script := &fetchScript{}
		script.answers = []func() (*kmsg.FetchResponse, error){func() (*kmsg.FetchResponse, error) {
			if next == 300 {
				return answer(kmsg.FetchResponseTopicPartition{HighWatermark: next})()
			}
			batch := encoded(t, protocol.RecordSet{Version: 2, Records: dataBatch(0, 0, -1, 0, 1, 2).Records})
			binary.BigEndian.PutUint64(batch, uint64(next)) // of its first record
			next += 3
			return answer(kmsg.FetchResponseTopicPartition{HighWatermark: 1 << 20, RecordBatches: batch})()
		}}
		f.brokers = script.brokers()
		go func() { // lets the memory go, or nothing more is fetched
			for c := range f.chunks {
				c.release()
			}
		}()
		defer close(f.chunks)
		if _, err := runFor(t, f, time.Second); err != nil {
			t.Fatal(err)
		}
		for i, r := range script.requests {
			if script.minBytes[i] > r.PartitionMaxBytes {
				t.Fatalf("fetch %d waits for %d bytes and takes %d", i, script.minBytes[i], r.PartitionMaxBytes)
			}
		}
		if len(script.requests) < 100 {
			t.Errorf("%d fetches", len(script.requests))
		}
	})
}

// epochs is brokers that know where a leadership's records end; -1 if nowhere.
type epochs struct {
	fetching
	end int64
}

func (e epochs) endOfEpoch(_ context.Context, _ int32, req *kmsg.OffsetForLeaderEpochRequest) (*kmsg.OffsetForLeaderEpochResponse, error) {
	res := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	topic, p := kmsg.NewOffsetForLeaderEpochResponseTopic(), kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
	p.Partition, p.EndOffset = req.Topics[0].Partitions[0].Partition, e.end
	topic.Topic, topic.Partitions = req.Topics[0].Topic, append(topic.Partitions, p)
	res.Topics = append(res.Topics, topic)
	return res, nil
}

// A log that was cut short below the position may have grown again under another
// leader. What that has written was read by nobody.
func TestD11_ACutLogIsReadFromWhereItWasCut(t *testing.T) {
	t.Parallel()
	here, elsewhere := topicID{1}, topicID{2}
	for _, tt := range []struct {
		name string
		from origin
		end  int64 // of the epoch
		want int64 // the log has 10 to 120, the position is 150
	}{
		{"nothing is known", unknownOrigin, -1, 10},
		{"of this topic", origin{topic: here, epoch: -1}, -1, 120},
		{"of this topic, cut at 100", origin{topic: here, epoch: 3}, 100, 100},
		{"of this topic, cut below its start", origin{topic: here, epoch: 3}, 5, 10},
		{"of this topic, and nobody knows the epoch", origin{topic: here, epoch: 3}, -1, 120},
		{"of any topic, cut at 100", origin{epoch: 3}, 100, 100},
		{"of any topic, and nobody knows the epoch", origin{epoch: 3}, -1, 10},
		{"of an epoch that is to come", origin{epoch: 9}, 100, 10},
		{"of the epoch of now", origin{epoch: 5}, 100, 10},
		{"of another topic", origin{topic: elsewhere, epoch: -1}, -1, 10},
		{"of this topic, where a caller moved", origin{topic: here, epoch: -1, asked: true}, -1, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := testFetcher(150, ReadUncommitted)
			f.tracker.reads(0, tt.from)
			f.brokers = epochs{end: tt.end}
			got, err := f.earliest(t.Context(), leader{node: 1, epoch: 5, topic: here}, 10, 120)
			if err != nil || got != tt.want {
				t.Errorf("got %d, %v, want %d", got, err, tt.want)
			}
		})
	}
}

// encoded is records as in an answer to a fetch.
func encoded(t *testing.T, records protocol.RecordSet) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := records.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()[4:] // behind their length
}

// A record whose key or value cannot be read is an error with its place, and the
// position stays before it.
func TestD15_RecordThatCannotBeReadIsNotPassedOver(t *testing.T) {
	t.Parallel()
	for _, broken := range []string{"key", "value"} {
		t.Run(broken, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				batch := func(offset int64, key, value string) []byte {
					b := encoded(t, protocol.RecordSet{Version: 2, Records: protocol.NewRecordReader(protocol.Record{
						Key: protocol.NewBytes([]byte(key)), Value: protocol.NewBytes([]byte(value)),
					})})
					binary.BigEndian.PutUint64(b, uint64(offset))
					return b
				}
				good, bad := batch(5, "key", "value"), batch(6, "key", "value")
				length := bytes.Index(bad, []byte(broken)) - 1
				bad[length] = 126 // more than there is, as a varint
				const crc, fromHere = 17, 21
				binary.BigEndian.PutUint32(bad[crc:], crc32.Checksum(bad[fromHere:], crc32.MakeTable(crc32.Castagnoli)))
				f := testFetcher(5, ReadUncommitted)
				f.chunks = make(chan *chunk, 10)
				script := &fetchScript{answers: []func() (*kmsg.FetchResponse, error){
					answer(kmsg.FetchResponseTopicPartition{HighWatermark: 9, RecordBatches: slices.Concat(good, bad)}),
					answer(kmsg.FetchResponseTopicPartition{HighWatermark: 9, RecordBatches: bad}),
				}}
				f.brokers = script.brokers()
				reported, err := runFor(t, f, 5*time.Second)
				if err != nil || len(reported) == 0 || !strings.HasPrefix(reported[0].Error(), "t[3]@6: ") {
					t.Errorf("reported %v, error %v; want the place of the record", reported, err)
				}
				c := <-f.chunks
				if len(c.messages) != 1 || c.position != 6 || len(f.chunks) > 0 {
					t.Errorf("%d messages, position %d, %d more chunks; want what came before the record alone", len(c.messages), c.position, len(f.chunks))
				}
				if last := script.requests[len(script.requests)-1]; last.FetchOffset != 6 {
					t.Errorf("fetches at %d, want 6", last.FetchOffset)
				}
			})
		})
	}
}

// Logs of large batches are fetched with small requests: what is asked for says
// nothing about how much comes.
func TestDecodeAllocatesForManyMessagesAtOnce(t *testing.T) {
	t.Parallel()
	const n = 1000
	payload := make([]byte, 200)
	records := make([]protocol.Record, n)
	for i := range records {
		records[i] = protocol.Record{Offset: int64(i), Value: protocol.NewBytes(payload)}
	}
	d, err := decode(&fetch.ResponsePartition{RecordSet: protocol.RecordSet{
		Records: &protocol.RecordStream{Records: []protocol.RecordReader{&protocol.RecordBatch{ProducerID: -1, Records: protocol.NewRecordReader(records...)}}},
	}}, "t", 3, 0, ReadUncommitted, n)
	if err != nil || len(d.messages) != n {
		t.Fatalf("%d messages, error %v", len(d.messages), err)
	}
	slabs := 0
	for i := 1; i < n; i++ {
		before, value := uintptr(unsafe.Pointer(&d.messages[i-1].Value[0])), uintptr(unsafe.Pointer(&d.messages[i].Value[0]))
		if before+uintptr(len(payload)) != value {
			slabs++
		}
	}
	if slabs > 15 {
		t.Errorf("%d allocations for %d values", slabs, n)
	}
}

// Whoever gives back, in whatever pieces, in the end all of it is there again.
func TestD15_MemoryIsGivenBackWhole(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	shared := budget.New(size)
	a := newAllowance(shared)
	take := func(own bool) *holding {
		h, err := a.take(t.Context(), 5000)
		if err != nil || h.own != own {
			t.Fatalf("own %v, error %v", h.own, err)
		}
		h.correct(size / 2)
		if used := shared.Used(); (used > 0) == own {
			t.Errorf("own %v: %d bytes of all are taken", own, used)
		}
		return h
	}
	own, ofAll := take(true), take(false) // the first fetch is the partition's own
	var givers sync.WaitGroup
	for range 8 {
		givers.Go(func() {
			for range 512 {
				ofAll.give(size / 2 / 4096)
			}
		})
	}
	givers.Wait()
	ofAll.giveAll() // none is left
	if used := shared.Used(); used != 0 {
		t.Errorf("%d bytes are still taken", used)
	}
	own.giveAll()
	if len(a.own) != 1 {
		t.Error("the partition's own fetch is not free again")
	}
}
