package kafkaxtest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// stored is a record as the log has it, or had.
type stored struct {
	history.Record

	producer      int64
	transactional bool
	ending        history.Transaction // of a control record
}

// standing is what a topic has now, by partition.
func (s *Sim) standing(topic string) map[int][]stored {
	s.T.Helper()
	logs := map[int][]stored{}
	s.read(topic, func(r *kgo.Record) {
		m := message(r)
		one := stored{
			Record:   history.Record{Offset: m.Offset, ID: s.identify(m), Key: string(m.Key), Control: r.Attrs.IsControl()},
			producer: r.ProducerID, transactional: r.Attrs.IsTransactional(),
		}
		if one.Control {
			one.ending = ending(r.Key)
		}
		logs[m.Partition] = append(logs[m.Partition], one)
	})
	return logs
}

// ending is what the key of a control record says: a version and a type, of which
// 0 is an abort.
func ending(key []byte) history.Transaction {
	if len(key) >= 4 && binary.BigEndian.Uint16(key[2:]) == 0 {
		return history.Aborted
	}
	return history.Committed
}

// remember keeps what a topic has, as some of it is about to go, and returns
// what notes that all before an offset of a partition went at a moment.
func (s *Sim) remember(topic string) (deleted func(partition int, before int64, at time.Time)) {
	s.T.Helper()
	standing := s.standing(topic)
	s.mu.Lock()
	defer s.mu.Unlock()
	for partition, records := range standing {
		tp := s.logLocked(topic, partition)
		if s.went[tp] == nil {
			s.went[tp] = map[int64]stored{}
		}
		for _, r := range records {
			s.went[tp][r.Offset] = r
		}
	}
	return func(partition int, before int64, at time.Time) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range standing[partition] { // what had gone before, went otherwise
			if r.Offset < before {
				r.Gone = at
				s.went[s.logLocked(topic, partition)][r.Offset] = r
			}
		}
	}
}

func (s *Sim) addLogs(topic string) {
	s.T.Helper()
	standing := s.standing(topic)
	s.mu.Lock()
	compacted, ended := s.compacted[topic], slices.Clone(s.ended[topic])
	s.mu.Unlock()
	for _, log := range ended {
		log.Records = s.all(log.TopicPartition, nil)
		s.events.AddLog(log)
	}
	for _, l := range s.logs(topic) {
		log := history.Log{TopicPartition: s.log(topic, l.partition), Start: l.start, End: l.end}
		if compacted {
			log.Missing = gapsOf(standing[l.partition], l)
		}
		log.Records = s.all(log.TopicPartition, standing[l.partition])
		s.events.AddLog(log)
	}
}

// all is what a log has, and what it had when some of it went.
func (s *Sim) all(tp history.TopicPartition, standing []stored) []history.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[int64]stored{}
	maps.Copy(all, s.went[tp])
	for _, r := range standing {
		all[r.Offset] = r
	}
	return settled(slices.SortedFunc(maps.Values(all), func(a, b stored) int { return cmp.Compare(a.Offset, b.Offset) }))
}

// logOf is the log that a message came from, which may be of a topic that was
// deleted meanwhile, as far as messages can be told apart.
func (s *Sim) logOf(m kafkax.Message) history.TopicPartition {
	id := s.identify(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.logLocked(m.Topic, m.Partition)
	for was := now; was.Incarnation > 0 && id != ""; {
		was.Incarnation--
		if s.went[was][m.Offset].ID == id {
			return was
		}
	}
	return now
}

// settled gives each record of a transaction what its producer's next control
// record says.
func settled(log []stored) []history.Record {
	records := make([]history.Record, len(log))
	open := map[int64][]int{} // of each producer, where the records of its transaction are
	for i, r := range log {
		switch {
		case r.Control:
			for _, j := range open[r.producer] {
				records[j].Transaction = r.ending
			}
			delete(open, r.producer)
		case r.transactional:
			r.Transaction = history.Open
			open[r.producer] = append(open[r.producer], i)
		}
		records[i] = r.Record
	}
	return records
}

// gapsOf is where a log has no record.
func gapsOf(log []stored, l extent) []history.Range {
	var missing []history.Range
	next := l.start
	for _, r := range log {
		if r.Offset > next {
			missing = append(missing, history.Range{First: next, Last: r.Offset - 1})
		}
		next = r.Offset + 1
	}
	if next < l.end {
		missing = append(missing, history.Range{First: next, Last: l.end - 1})
	}
	return missing
}

// Logger is what [Sim.Join] gives its consumers as the logger of errors, for
// consumers that it did not make: lines go to the history, and a position that
// offset_reset moved is recorded as a [history.Seek] of the member.
func (s *Sim) Logger(member, group string) kafka.Logger { return logger{s, member, group} }

// logger puts what clients log as failures into the history.
type logger struct {
	sim           *Sim
	member, group string // empty if nobody knows
}

func (l logger) Printf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if reset, ok := resetOf(line); ok && l.member != "" {
		reset.Member, reset.Group, reset.Time = l.member, l.group, time.Now()
		reset.TopicPartition = l.sim.log(reset.Topic, reset.Partition)
		l.sim.record(reset)
	}
	l.sim.note("log: %s", line)
}

// moved is how an error names a position that offset_reset moved.
var moved = regexp.MustCompile(`([\w.-]+)\[(\d+)\]@(\d+): ` + regexp.QuoteMeta(kafkax.ErrOffsetOutOfRange.Error()) + `: .* going on at (\d+)`)

func resetOf(line string) (history.Seek, bool) {
	found := moved.FindStringSubmatch(line)
	if found == nil {
		return history.Seek{}, false
	}
	seek := history.Seek{Reset: true, TopicPartition: history.TopicPartition{Topic: found[1]}}
	var err1, err2, err3 error
	seek.Partition, err1 = strconv.Atoi(found[2])
	seek.From, err2 = strconv.ParseInt(found[3], 10, 64)
	seek.Offset, err3 = strconv.ParseInt(found[4], 10, 64)
	return seek, err1 == nil && err2 == nil && err3 == nil
}
