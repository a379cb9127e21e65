package kafkax

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

// lookupTimeout bounds a request whose answer is small: for offsets, or for the
// partitions of a topic.
const lookupTimeout = 10 * time.Second

// listOffsets asks the leaders for one offset a partition.
func listOffsets(ctx context.Context, client *kafka.Client, topic string, isolation kafka.IsolationLevel, requests []kafka.OffsetRequest) (map[int]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	res, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics:         map[string][]kafka.OffsetRequest{topic: requests},
		IsolationLevel: isolation,
	})
	if err != nil {
		return nil, err
	}
	offsets := make(map[int]int64, len(requests))
	for _, p := range res.Topics[topic] {
		switch {
		case p.Error != nil:
			return nil, p.Error
		case p.FirstOffset >= 0:
			offsets[p.Partition] = p.FirstOffset
		case p.LastOffset >= 0:
			offsets[p.Partition] = p.LastOffset
		}
		for offset := range p.Offsets {
			if offset >= 0 {
				offsets[p.Partition] = offset
			}
		}
	}
	for _, r := range requests {
		if _, ok := offsets[r.Partition]; !ok && r.Timestamp < 0 {
			return nil, fmt.Errorf("%s[%d]: no offset in the answer: %w", topic, r.Partition, kafka.UnknownTopicOrPartition)
		}
	}
	return offsets, nil
}

// endsOf asks for one end of each partition's log.
func (s *scope) endsOf(ctx context.Context, partitions []*partition, which int64) (map[int]int64, error) {
	requests := make([]kafka.OffsetRequest, len(partitions))
	for i, p := range partitions {
		requests[i] = kafka.OffsetRequest{Partition: p.id, Timestamp: which}
	}
	return listOffsets(ctx, s.client, s.cfg.Topic, kafka.ReadUncommitted, requests)
}
