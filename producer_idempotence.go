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
	"sync/atomic"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// A broker stores a batch once, however often it arrives, if the batch names
// its producer (an id and an epoch) and its place in that producer's sequence
// for the partition. So a batch is encoded once, stamped once, and every try
// sends the same bytes.
//
// producerState is that identity and place for one partition. Each partition has a
// producer id of its own: a reset then concerns one partition and waits for
// nobody, where one id for all would have to bring every other partition to
// rest first. It costs one small request when a partition is first written
// to; what the broker remembers is kept by partition in either case.
type producerState struct {
	// turn holds one token. Who has it owns the fields below and may have a
	// batch in flight: a second one could overtake it.
	turn chan struct{}

	id    int64 // noProducer until the first batch
	epoch int16
	next  int32 // sequence of the next record

	// inDoubt says that a batch was given up that may still reach the log, and
	// that nothing of a later epoch is in there yet.
	inDoubt bool
}

// newProducerStates forgets the identity of a partition that is not written to for a
// while: a new one is as good, unless what it wrote last may still be on its way,
// which only a later epoch of the same identity keeps out.
func newProducerStates() *lately[partitionID, *producerState] {
	return &lately[partitionID, *producerState]{
		create: func(partitionID) *producerState { return newProducerState() },
		keep:   func(s *producerState) bool { return s.inDoubt && s.id != noProducer },
	}
}

const noProducer = -1

type partitionID struct {
	topic     string
	partition int32
}

func (id partitionID) String() string { return fmt.Sprintf("%s[%d]", id.topic, id.partition) }

func newProducerState() *producerState {
	return &producerState{turn: make(chan struct{}, 1), id: noProducer}
}

// advance moves past n stored records. Sequences run from 0 to 2^31-1 and
// start again.
func (s *producerState) advance(n int32) {
	s.next = int32((int64(s.next) + int64(n)) & math.MaxInt32)
	s.inDoubt = false
}

// bump restarts the sequence under the next epoch, without asking the broker
// (KIP-360). Once a batch of the new epoch is in the log, a straggler of the
// old one, say from the socket buffer of a broker that was frozen, is refused:
// that is why an abandoned batch ends with a bump and not with a new id.
func (s *producerState) bump() {
	if s.epoch == math.MaxInt16 {
		s.renew()
		return
	}
	s.epoch++
	s.next = 0
}

// renew forgets the id; the next try asks for another one.
func (s *producerState) renew() { s.id, s.epoch, s.next = noProducer, 0, 0 }

// verdict is what one try means for its batch.
type verdict struct {
	stored  bool // acknowledged
	retry   bool
	inDoubt bool // this try may have put the batch into the log
	change  producerChange
}

// producerChange is set when the broker does not know the producer's place. This
// try has stored nothing then. If no earlier one may have, the batch is stamped
// anew and sent again; otherwise a second stamp could double it.
type producerChange int

const (
	keepProducer producerChange = iota
	bumpEpoch
	renewProducer
)

// judge reads the answer to one try; inDoubt says that an earlier one may have
// reached the log.
func judge(code kafka.Error, inDoubt bool) verdict {
	switch code {
	case 0:
		return verdict{stored: true}

	case kafka.DuplicateSequenceNumber:
		// The batch is in the log, from a try whose answer was lost. Without
		// such a try the sequence belongs to somebody else's batch: the id was
		// given out twice, and success would be a silent loss.
		if inDoubt {
			return verdict{stored: true}
		}
		return verdict{retry: true, change: renewProducer}

	case kafka.OutOfOrderSequenceNumber:
		// The log ends before our last acknowledged batch (an unclean leader
		// election lost it), or the topic was deleted and made again.
		return verdict{retry: true, change: bumpEpoch}

	case kafka.UnknownProducerId:
		// Brokers before 2.5 say so when retention took all that this producer
		// wrote. Newer ones accept any sequence then, and nothing is to be done.
		return verdict{retry: true, change: bumpEpoch}

	case kafka.InvalidProducerEpoch, kafka.ProducerFenced, kafka.InvalidProducerIDMapping:
		// Somebody wrote with our id and a later epoch (KIP-588 renamed the
		// second code to the first), or the id is not the cluster's. It was
		// ours alone, so it is given up.
		return verdict{retry: true, change: renewProducer}
	}
	// A leader that steps down while it waits for its followers answers
	// NOT_LEADER after it appended, and UNKNOWN_SERVER_ERROR may come at any
	// point, as may a code that we do not know. Like the Java client's, neither
	// of the last two is retried: they tend to come again. UNKNOWN_TOPIC_OR_PARTITION
	// after an append says that the topic was deleted, and the batch with it.
	return verdict{retry: isRetriableCode(code), inDoubt: !isBeforeAppend(code)}
}

// batch is one partition's share of a produce request.
type batch struct {
	topic     string
	partition int32
	acks      int16

	records []byte // as every try sends them, behind their 4-byte size
	count   int32
	stamped bool

	tries   int   // requests made
	inDoubt bool  // some try may have reached the log
	last    error // why the last try failed
}

func (b *batch) place() partitionID { return partitionID{b.topic, b.partition} }

// Where a version 2 record batch, behind its size, keeps what a stamp changes;
// the checksum covers everything from the attributes on.
const (
	checksumAt   = 4 + 17
	attributesAt = 4 + 21
	producerAt   = 4 + 43
	epochAt      = 4 + 51
	sequenceAt   = 4 + 53
	countAt      = 4 + 57
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newBatch encodes the records. Those without a timestamp get the time of now,
// and keep it through all tries.
func newBatch(topic string, p *produce.RequestPartition, acks int16) (*batch, error) {
	records := p.RecordSet
	records.Version = 2
	var buf bytes.Buffer
	if _, err := records.WriteTo(&buf); err != nil {
		return nil, fmt.Errorf("%s[%d]: %w: %w", topic, p.Partition, errNotWritten, err)
	}
	b := &batch{topic: topic, partition: p.Partition, acks: acks, records: buf.Bytes()}
	b.count = int32(binary.BigEndian.Uint32(b.records[countAt:]))
	return b, nil
}

// stamp writes the producer's identity and place into the batch. It must not be
// called while bytes stamped before may still be on their way.
func (b *batch) stamp(s *producerState) {
	binary.BigEndian.PutUint64(b.records[producerAt:], uint64(s.id))
	binary.BigEndian.PutUint16(b.records[epochAt:], uint16(s.epoch))
	binary.BigEndian.PutUint32(b.records[sequenceAt:], uint32(s.next))
	binary.BigEndian.PutUint32(b.records[checksumAt:], crc32.Checksum(b.records[attributesAt:], castagnoli))
	b.stamped = true
}

// answerIn finds the batch's answer in a response.
func (b *batch) answerIn(res kafka.Response) (answer produce.ResponsePartition, throttle int32, err error) {
	r, ok := res.(*produce.Response)
	if !ok {
		return answer, 0, fmt.Errorf("produce request answered with %T", res)
	}
	for i := range r.Topics {
		for _, p := range r.Topics[i].Partitions {
			if r.Topics[i].Topic == b.topic && p.Partition == b.partition {
				if p.ErrorMessage = oneLine(p.ErrorMessage); p.ErrorMessage == "" {
					p.ErrorMessage = permission(kafka.Error(p.ErrorCode), b.topic)
				}
				return p, r.ThrottleTimeMs, nil
			}
		}
	}
	return answer, 0, errors.New("the partition is missing in the answer")
}

// answerError is the error that an answer holds, with what the broker says to it.
func answerError(answer produce.ResponsePartition) error {
	err := brokerError(answer.ErrorCode)
	if answer.ErrorMessage == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, answer.ErrorMessage)
}

// note keeps a try's error. That of a try cut off by the end of ctx says
// nothing, and would hide the one before.
func (b *batch) note(ctx context.Context, err error) {
	if ctx.Err() == nil {
		b.last = err
	}
}

// undelivered is the error of a batch that is given up.
func (b *batch) undelivered(why error) error {
	if !b.inDoubt {
		return fmt.Errorf("%s[%d]: %w, %d tries: %w", b.topic, b.partition, errNotWritten, b.tries, why)
	}
	if errors.Is(why, ErrClosed) {
		// ErrClosed promises that nothing was sent.
		return fmt.Errorf("%w: %s[%d], %d tries: closed before the answer", ErrOutcomeUnknown, b.topic, b.partition, b.tries)
	}
	return fmt.Errorf("%w: %s[%d], %d tries: %w", ErrOutcomeUnknown, b.topic, b.partition, b.tries, why)
}

// outgoing is the bytes of one try. It knows whether the connection has taken
// them, and after revoke it never gives them out: so a try that ended before
// is known not to have been sent, although kafka.Transport may still be
// dialling for it.
type outgoing struct {
	records *bytes.Reader
	state   atomic.Int32
}

const (
	outgoingWaits = iota
	outgoingTaken
	outgoingRevoked
)

func newOutgoing(records []byte) *outgoing {
	return &outgoing{records: bytes.NewReader(records)}
}

// take and revoke exclude each other; revoke says whether it came first.
func (o *outgoing) take() bool {
	return o.state.CompareAndSwap(outgoingWaits, outgoingTaken) || o.state.Load() == outgoingTaken
}

func (o *outgoing) revoke() bool { return o.state.CompareAndSwap(outgoingWaits, outgoingRevoked) }

func (o *outgoing) Read(p []byte) (int, error) {
	if !o.take() {
		return 0, errTryEnded
	}
	return o.records.Read(p)
}

// WriteTo spares io.Copy its own buffer.
func (o *outgoing) WriteTo(w io.Writer) (int64, error) {
	if !o.take() {
		return 0, errTryEnded
	}
	return o.records.WriteTo(w)
}

// initProducerID is kafka-go's request without its Transaction method. With
// it, kafka.Transport would look for a transaction coordinator first, which
// makes the cluster create __transaction_state; any broker gives out ids.
type initProducerID initproducerid.Request

func (*initProducerID) ApiKey() protocol.ApiKey { return protocol.InitProducerId }

// begin gets the producer an id if it has none; it is for records to topic.
func (s *producerState) begin(topic string, ask func(kafka.Request) (kafka.Response, error)) error {
	if s.id != noProducer {
		return nil
	}
	// Zero values would mean: go on as producer 0.
	res, err := ask(&initProducerID{ProducerID: noProducer, ProducerEpoch: -1})
	if err != nil {
		return fmt.Errorf("asking for a producer id: %w", err)
	}
	r, ok := res.(*initproducerid.Response)
	switch {
	case !ok:
		return fmt.Errorf("asking for a producer id: answered with %T", res)
	case refusal(kafka.Error(r.ErrorCode)) != nil:
		return fmt.Errorf("asking for a producer id (%s): %w", permission(kafka.Error(r.ErrorCode), topic), brokerError(r.ErrorCode))
	case r.ErrorCode != 0:
		return fmt.Errorf("asking for a producer id: %w", brokerError(r.ErrorCode))
	case r.ProducerID < 0:
		return fmt.Errorf("asking for a producer id: got %d", r.ProducerID)
	}
	s.id, s.epoch, s.next = r.ProducerID, r.ProducerEpoch, 0
	return nil
}
