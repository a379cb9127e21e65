package kafkax

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// missingTopicInterval is how often a topic that does not exist is looked for.
// The answer comes from a cache that is refreshed each second.
const missingTopicInterval = time.Second

// topicState is what a run knows of its topic.
type topicState struct {
	*scope

	mu         sync.Mutex
	partitions int             // as last seen; 0 when the topic is missing
	initial    int             // of them, how many are older than this run; -1 before the first look
	positioned map[int]topicID // partitions that had a position in this run, and in which topic; zero: that is unknown
}

func newTopicState(s *scope) *topicState {
	return &topicState{scope: s, initial: -1, positioned: map[int]topicID{}}
}

// await waits until the topic exists; false if the run ended first.
func (t *topicState) await(ctx context.Context) bool {
	refused := false
	for failures := 0; ; {
		n, err := t.count(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			t.saw(n)
		}
		if n > 0 {
			return true
		}
		t.arrive()
		switch {
		case err != nil && isRefused(err) && (refused || !t.secondTry(err)):
			t.fail(err)
			return false
		case err == nil:
			if failures == 0 {
				t.report(-1, fmt.Errorf("topic %s does not exist; waiting for it: %w", t.cfg.Topic, kafka.UnknownTopicOrPartition))
			}
			failures++
			if sleep(ctx, min(missingTopicInterval, t.cfg.PartitionWatchInterval)) != nil {
				return false
			}
		default:
			failures++
			refused = isRefused(err)
			t.report(-1, err)
			if brokerBackoff.wait(ctx, failures) != nil {
				return false
			}
		}
	}
}

// count asks for the number of partitions. It is 0 without an error if the
// topic does not exist.
func (t *topicState) count(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout+lookupTimeout)
	defer cancel()
	res, err := t.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{t.cfg.Topic}})
	if err != nil {
		return 0, fmt.Errorf("topic %s: metadata: %w", t.cfg.Topic, t.dialer.reason(err))
	}
	for _, topic := range res.Topics {
		switch {
		case topic.Name != t.cfg.Topic:
		case errors.Is(topic.Error, kafka.UnknownTopicOrPartition):
			return 0, nil
		case topic.Error != nil && len(topic.Partitions) == 0:
			return 0, fmt.Errorf("topic %s: metadata: %w", t.cfg.Topic, t.dialer.reason(topic.Error))
		default:
			return len(topic.Partitions), nil
		}
	}
	return 0, nil
}

// saw takes the number of partitions. A topic that is missing has none that are
// older than this run, also when it comes back.
func (t *topicState) saw(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.partitions = n
	if t.initial < 0 || n == 0 {
		t.initial = n
	}
}

// isNew says whether a partition without a committed offset came after the run
// began. It did, too, if it had an offset before: those of a deleted topic are
// deleted, and it may be back before anybody has noticed.
func (t *topicState) isNew(partition int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.positioned[partition]
	return ok || partition >= t.initial
}

// hasPosition notes that a partition has one, and in which topic if that is known.
func (t *topicState) hasPosition(partition int, in topicID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in == (topicID{}) {
		in = t.positioned[partition]
	}
	t.positioned[partition] = in
}

// readAs is the topic in which a partition had its last position; zero if that is
// unknown.
func (t *topicState) readAs(partition int) topicID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.positioned[partition]
}

// known is the number of partitions as last seen.
func (t *topicState) known() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.partitions
}
