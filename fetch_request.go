package kafkax

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// brokers is what a fetcher asks; tests script it.
type brokers interface {
	leaderOf(ctx context.Context, topic string, partition int) (leader, error)
	forgetTopic(topic string)
	fetch(ctx context.Context, node int32, req *kmsg.FetchRequest) (*kmsg.FetchResponse, error)
	listOffsets(ctx context.Context, node int32, req *kmsg.ListOffsetsRequest) (*kmsg.ListOffsetsResponse, error)
	endOfEpoch(ctx context.Context, node int32, req *kmsg.OffsetForLeaderEpochRequest) (*kmsg.OffsetForLeaderEpochResponse, error)
}

// leaders are the brokers of a cluster.
type leaders struct{ *cluster }

func (l leaders) fetch(ctx context.Context, node int32, req *kmsg.FetchRequest) (*kmsg.FetchResponse, error) {
	return exchange(ctx, l.wire, req, node)
}

func (l leaders) listOffsets(ctx context.Context, node int32, req *kmsg.ListOffsetsRequest) (*kmsg.ListOffsetsResponse, error) {
	return exchange(ctx, l.wire, req, node)
}

func (l leaders) endOfEpoch(ctx context.Context, node int32, req *kmsg.OffsetForLeaderEpochRequest) (*kmsg.OffsetForLeaderEpochResponse, error) {
	return exchange(ctx, l.wire, req, node)
}

// remoteLog is a partition's log, at the brokers.
type remoteLog struct {
	brokers
	topic string
	id    int
}

// portion is what a fetch asks for.
type portion struct {
	offset    int64
	bytes     int
	min       int
	wait      time.Duration
	isolation kafka.IsolationLevel
}

// read makes one request, of the topic that l leads: a leader that knows a later one,
// or no topic of that id any more, says so instead. With a throttle the broker wants
// to be left alone for so long; it may then have answered nothing else.
func (r remoteLog) read(ctx context.Context, l leader, ask portion) (p *kmsg.FetchResponseTopicPartition, throttle time.Duration, err error) {
	req := kmsg.NewPtrFetchRequest()
	req.SessionEpoch = -1 // each request stands alone
	req.MaxWaitMillis, req.MinBytes = int32(ask.wait.Milliseconds()), int32(ask.min)
	req.MaxBytes = math.MaxInt32 // one partition, whose own bound counts
	req.IsolationLevel = int8(ask.isolation)
	of := kmsg.NewFetchRequestTopicPartition()
	of.Partition, of.FetchOffset, of.CurrentLeaderEpoch, of.PartitionMaxBytes = int32(r.id), ask.offset, l.epoch, int32(ask.bytes)
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = r.topic, l.topic // by versions
	topic.Partitions = append(topic.Partitions, of)
	req.Topics = append(req.Topics, topic)
	// The dialer ends it when the broker is silent; a deadline would cut off an
	// answer that is still arriving.
	res, err := r.fetch(ctx, l.node, req)
	if err != nil {
		return nil, 0, err
	}
	throttle = min(time.Duration(res.ThrottleMillis)*time.Millisecond, maxThrottle)
	switch {
	case res.ErrorCode != 0:
		return nil, 0, kafka.Error(res.ErrorCode)
	case throttle > 0 && len(res.Topics) == 0:
		return nil, throttle, nil
	case len(res.Topics) != 1 || len(res.Topics[0].Partitions) != 1 || int(res.Topics[0].Partitions[0].Partition) != r.id:
		return nil, 0, fmt.Errorf("a fetch of one partition was answered with something else: %w", kafka.Unknown)
	}
	if p = &res.Topics[0].Partitions[0]; p.ErrorCode != 0 {
		return nil, 0, kafka.Error(p.ErrorCode)
	}
	return p, throttle, nil
}

// maxThrottle is the longest that a broker's word for it is taken. Quotas are
// of windows of some seconds.
const maxThrottle = time.Minute

// fetchedOf has kafka-go take the batches of an answer apart.
func fetchedOf(answered *kmsg.FetchResponseTopicPartition) (p *fetch.ResponsePartition, err error) {
	defer malformedOnPanic(&err)
	p = &fetch.ResponsePartition{
		Partition:        answered.Partition,
		HighWatermark:    answered.HighWatermark,
		LastStableOffset: answered.LastStableOffset,
		LogStartOffset:   answered.LogStartOffset,
	}
	for _, aborted := range answered.AbortedTransactions {
		p.AbortedTransactions = append(p.AbortedTransactions, fetch.ResponseTransaction{ProducerID: aborted.ProducerID, FirstOffset: aborted.FirstOffset})
	}
	if len(answered.RecordBatches) > 0 {
		size := binary.BigEndian.AppendUint32(nil, uint32(len(answered.RecordBatches)))
		_, err = p.RecordSet.ReadFrom(bufio.NewReader(io.MultiReader(bytes.NewReader(size), bytes.NewReader(answered.RecordBatches))))
	}
	return p, err
}

// offset asks the leader for one end of the log.
func (r remoteLog) offset(ctx context.Context, l leader, isolation kafka.IsolationLevel, which int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = int8(isolation)
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp, p.CurrentLeaderEpoch = int32(r.id), which, l.epoch
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic, topic.Partitions = r.topic, append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	res, err := r.listOffsets(ctx, l.node, req)
	if err != nil {
		return 0, err
	}
	for _, topic := range res.Topics {
		for _, p := range topic.Partitions {
			switch {
			case topic.Topic != r.topic || int(p.Partition) != r.id:
			case p.ErrorCode != 0:
				return 0, kafka.Error(p.ErrorCode)
			case p.Offset >= 0:
				return p.Offset, nil
			}
		}
	}
	return 0, fmt.Errorf("no offset in the answer: %w", kafka.UnknownTopicOrPartition)
}

// endOf asks the leader where the records of a leadership, or of those before it,
// end in its log; -1 if it has none.
func (r remoteLog) endOf(ctx context.Context, l leader, epoch int32) (int64, error) {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	p.Partition, p.LeaderEpoch, p.CurrentLeaderEpoch = int32(r.id), epoch, l.epoch
	topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
	topic.Topic, topic.Partitions = r.topic, append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	res, err := r.endOfEpoch(ctx, l.node, req)
	if err != nil {
		return 0, err
	}
	for _, topic := range res.Topics {
		for _, p := range topic.Partitions {
			switch {
			case topic.Topic != r.topic || int(p.Partition) != r.id:
			case p.ErrorCode != 0:
				return 0, kafka.Error(p.ErrorCode)
			default:
				return p.EndOffset, nil
			}
		}
	}
	return 0, fmt.Errorf("no end of the epoch in the answer: %w", kafka.UnknownTopicOrPartition)
}
