package history

import (
	"cmp"
	"slices"
	"time"
)

// logIndex finds records by their offset.
type logIndex struct {
	Log

	missing, cut []Range // sorted
}

func (c *checker) indexLogs(logs []Log) {
	c.logs = map[TopicPartition]*logIndex{}
	for _, l := range logs {
		c.logs[l.TopicPartition] = &logIndex{l, sortedRanges(l.Missing), sortedRanges(l.Cut)}
	}
	c.topics = map[string][]*logIndex{}
	for _, l := range c.logs {
		l.Records = slices.Clone(l.Records)
		slices.SortFunc(l.Records, func(a, b Record) int { return cmp.Compare(a.Offset, b.Offset) })
		c.topics[l.Topic] = append(c.topics[l.Topic], l)
	}
}

// record is nil if the log has none there, or is nil itself.
func (l *logIndex) record(offset int64) *Record {
	if l == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(l.Records, offset, func(r Record, offset int64) int { return cmp.Compare(r.Offset, offset) })
	if !ok {
		return nil
	}
	return &l.Records[i]
}

// mayMiss says whether the log has a good reason for having no record there. One
// that nobody knows has none.
func (l *logIndex) mayMiss(offset int64) bool {
	return l != nil && (offset < l.Start || !l.Deleted.IsZero() || contains(l.missing, offset) || contains(l.cut, offset))
}

// mayChange says whether one offset may have had two records.
func (l *logIndex) mayChange(offset int64) bool { return l != nil && contains(l.cut, offset) }

// gaps is how many messages may have gone without a trace.
func (l *logIndex) gaps() int64 {
	n := l.Start
	for _, ranges := range [][]Range{l.missing, l.cut} {
		for _, r := range ranges {
			n += max(r.Last-max(r.First, l.Start)+1, 0)
		}
	}
	for _, r := range l.Records {
		if r.Offset < l.Start || contains(l.missing, r.Offset) {
			n-- // it left one
		}
	}
	return max(n, 0)
}

// visible says whether readers are given a record. Those with read_committed
// also stand before the first open transaction.
func (r Record) visible(isolation Isolation) bool {
	return !r.Control && (isolation != ReadCommitted || r.Transaction == Committed)
}

// readable is the records that readers can get to.
func (l *logIndex) readable(isolation Isolation) []Record {
	if isolation == ReadCommitted {
		if i := slices.IndexFunc(l.Records, func(r Record) bool { return r.Transaction == Open && !r.Control }); i >= 0 {
			return l.Records[:i]
		}
	}
	return l.Records
}

// sortedRanges makes ranges of what may overlap: of offsets, or of nanoseconds.
func sortedRanges(ranges []Range) []Range {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	merged := ranges[:0]
	for _, r := range ranges {
		if n := len(merged); n > 0 && r.First <= merged[n-1].Last {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

func contains(sorted []Range, offset int64) bool {
	i, ok := slices.BinarySearchFunc(sorted, offset, func(r Range, offset int64) int { return cmp.Compare(r.First, offset) })
	return ok || i > 0 && offset <= sorted[i-1].Last
}

// position is one place of a log.
type position struct {
	TopicPartition

	offset int64
}

// message is an id within a topic: a dead letter has that of its origin.
type message struct{ topic, id string }

// places is where each message stands in the logs.
func (c *checker) places() map[message][]position {
	found := map[message][]position{}
	for tp, l := range c.logs {
		for _, r := range l.Records {
			if r.ID != "" && !r.Control {
				m := message{tp.Topic, r.ID}
				found[m] = append(found[m], position{tp, r.Offset})
			}
		}
	}
	return found
}

// wasDeleted says whether a message given to a producer at t may have gone with
// a topic that was deleted.
func (c *checker) wasDeleted(topic string, t time.Time) bool {
	return slices.ContainsFunc(c.topics[topic], func(l *logIndex) bool { return !l.Deleted.IsZero() && !t.After(l.Deleted) })
}
