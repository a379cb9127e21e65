package kafkax

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"
)

// locate asks where the group stands in the partitions that were assigned without
// an offset, and puts it into them. kafka-go takes a partition that the
// coordinator's answer leaves out for one that nothing is committed of; that would
// be all of it again, or with "latest" a loss. So it asks until the answer names
// each, and is false if ctx or revoked ends first.
func (s *scope) locate(ctx, revoked context.Context, assigned []kafka.PartitionAssignment) bool {
	asking, cancel := context.WithCancel(revoked)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	var open []int
	for _, p := range assigned {
		if p.Offset < 0 {
			open = append(open, p.ID)
		}
	}
	refused := false
	for failures := 0; len(open) > 0; {
		committed, err := s.committed(asking, open)
		if err == nil {
			for i, p := range assigned {
				if offset, ok := committed[p.ID]; ok && offset >= 0 {
					assigned[i].Offset = offset
				}
			}
			return true
		}
		err = fmt.Errorf("group %s: committed offsets: %w", s.cfg.GroupID, s.dialer.reason(err))
		switch {
		case asking.Err() != nil:
			return false
		case isRefused(err) && (refused || !s.secondTry(err)):
			s.fail(err)
			return false
		}
		refused = isRefused(err)
		s.report(-1, err)
		if failures++; brokerBackoff.wait(asking, failures) != nil {
			return false
		}
	}
	return true
}

// committed asks once, and is an error unless each partition is answered; -1 is of
// one that nothing is committed of.
func (s *scope) committed(ctx context.Context, partitions []int) (map[int]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, coordinatorTimeout)
	defer cancel()
	topic := s.cfg.Topic
	res, err := s.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: s.cfg.GroupID, Topics: map[string][]int{topic: partitions}})
	if err != nil {
		return nil, err
	}
	if res.Error != nil {
		return nil, res.Error
	}
	offsets := map[int]int64{}
	for _, p := range res.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("%s[%d]: %w", topic, p.Partition, p.Error)
		}
		offsets[p.Partition] = p.CommittedOffset
	}
	missing := slices.DeleteFunc(slices.Clone(partitions), func(id int) bool { _, ok := offsets[id]; return ok })
	if slices.Sort(missing); len(missing) > 0 {
		return nil, fmt.Errorf("topic %s: the coordinator's answer leaves out partitions %s", topic, strings.Trim(fmt.Sprint(missing), "[]"))
	}
	return offsets, nil
}
