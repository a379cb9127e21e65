package kafkax

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// producerStats is what a Producer counts.
type producerStats struct {
	failed atomic.Int64 // messages

	mu    sync.Mutex
	total kafka.WriterStats // of the Writer, which starts anew each time it is asked
}

// add takes in what the Writer has counted since the last time, and returns
// everything.
func (t *producerStats) add(w *kafka.Writer) kafka.WriterStats {
	t.mu.Lock()
	defer t.mu.Unlock()

	was, s := t.total, w.Stats()
	s.Writes += was.Writes
	s.Messages += was.Messages
	s.Bytes += was.Bytes
	s.Errors = t.failed.Load() // The Writer counts batches, and those alone that it was given.
	s.BatchTime = addDurations(was.BatchTime, s.BatchTime)
	s.BatchQueueTime = addDurations(was.BatchQueueTime, s.BatchQueueTime)
	s.WriteTime = addDurations(was.WriteTime, s.WriteTime)
	s.WaitTime = addDurations(was.WaitTime, s.WaitTime)
	s.BatchSize = addSummaries(was.BatchSize, s.BatchSize)
	s.BatchBytes = addSummaries(was.BatchBytes, s.BatchBytes)
	t.total = s
	return s
}

func addSummaries(a, b kafka.SummaryStats) kafka.SummaryStats {
	switch {
	case a.Count == 0:
		return b
	case b.Count == 0:
		return a
	}
	s := kafka.SummaryStats{
		Min:   min(a.Min, b.Min),
		Max:   max(a.Max, b.Max),
		Count: a.Count + b.Count,
		Sum:   a.Sum + b.Sum,
	}
	s.Avg = s.Sum / s.Count
	return s
}

func addDurations(a, b kafka.DurationStats) kafka.DurationStats {
	switch {
	case a.Count == 0:
		return b
	case b.Count == 0:
		return a
	}
	s := kafka.DurationStats{
		Min:   min(a.Min, b.Min),
		Max:   max(a.Max, b.Max),
		Count: a.Count + b.Count,
		Sum:   a.Sum + b.Sum,
	}
	s.Avg = s.Sum / time.Duration(s.Count)
	return s
}
