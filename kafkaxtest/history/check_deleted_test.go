package history

// rowsOfDeleted are of records that were deleted or compacted.
func rowsOfDeleted() []row {
	// gone is three records, of which the first two were deleted.
	gone := func(at float64) []Log {
		return []Log{with(logOf(3), func(l *Log) {
			l.Start, l.Records[0].Gone, l.Records[1].Gone = 2, second(at), second(at)
		})}
	}
	reset := func(from, to int64, at float64) Seek {
		return Seek{Member: "a", Group: "g", TopicPartition: tp, Reset: true, From: from, Offset: to, Time: second(at)}
	}
	again := func(d Delivery) Delivery { d.Incarnation = 1; return d } // in a topic that was made again
	complete := Rules{GroupRules: GroupRules{Complete: true}}
	// compacted has the last value of each key.
	compacted := []Log{with(logOf(3), func(l *Log) {
		l.Records[0].Key, l.Records[1].Key, l.Records[2].Key = "k", "l", "k"
		l.Missing = []Range{{0, 0}}
	})}
	return []row{
		{
			site: "deleted, untold", logs: gone(3), rules: complete,
			bad:  []Event{started(), handled("a", 0, 1), committed(1, 2.1), handled("a", 2, 5), committed(3, 7)},
			good: []Event{started(), handled("a", 0, 1), committed(1, 2.1), reset(1, 2, 4), handled("a", 2, 5), committed(3, 7)},
		},
		{
			site: "deleted, untold", name: "less than was missed", logs: gone(2.5), rules: complete,
			bad: []Event{started(), committed(0, 1), reset(1, 2, 4), handled("a", 2, 5), committed(3, 7)},
			// Before it had a position.
			good: []Event{started(), handled("a", 2, 5), committed(3, 7)},
		},
		{
			site: "deleted, untold", name: "and not by a seek to the first", logs: gone(3),
			bad: []Event{started(), handled("a", 0, 1), committed(1, 2.1), handled("a", 2, 5), committed(3, 7)},
			good: []Event{
				started(), handled("a", 0, 1), committed(1, 2.1),
				Seek{Member: "a", Group: "g", TopicPartition: tp, Time: second(4)},
				handled("a", 2, 5), committed(3, 7),
			},
		},
		{
			site: "deleted, untold", name: "after a group that starts at the latest began", logs: gone(6),
			rules: Rules{GroupRules: GroupRules{Start: Latest}},
			bad:   []Event{assigned("a", 0), committed(1, 2), committed(2, 7)},
			good:  []Event{assigned("a", 0), committed(2, 2), committed(2, 7)},
		},
		{
			site: "duplicate", name: "behind one that was deleted", rules: Rules{GroupRules: GroupRules{Ordering: Unordered}},
			logs: []Log{with(logOf(4), func(l *Log) { l.Start, l.Records[0].Gone = 1, second(3) })},
			bad: []Event{
				assigned("a", 0), handled("a", 1, 1), handled("a", 2, 4), reset(0, 1, 5.5), handled("a", 3, 6),
				revoked(8), assigned("b", 8.1), handled("b", 1, 9),
			},
			// Its handler is at it, and nothing behind it could be committed.
			good: []Event{
				assigned("a", 0), with(handled("a", 0, 1), func(d *Delivery) {
					d.Outcome, d.Ended, d.ContextEnded = Cancelled, second(8), second(7.9)
				}), handled("a", 1, 1), handled("a", 2, 4),
				revoked(8), assigned("b", 8.1), reset(0, 1, 8.5), handled("b", 1, 9), handled("b", 2, 10.5), handled("b", 3, 12),
			},
		},
		{
			site: "commit unhandled", name: "and deleted only then", logs: gone(3),
			bad:  []Event{handled("a", 0, 1), committed(2, 2.5), reset(1, 2, 4)},
			good: []Event{handled("a", 0, 1), committed(1, 2.5), reset(1, 2, 4), committed(2, 4.5)},
		},
		{
			site: "commit unhandled", name: "behind what a reset passed over", logs: gone(3),
			bad:  []Event{handled("a", 0, 1), committed(1, 2.5), reset(1, 2, 4), committed(3, 5)},
			good: []Event{handled("a", 0, 1), committed(1, 2.5), reset(1, 2, 4), handled("a", 2, 5), committed(3, 6)},
		},
		{
			site: "never handled", name: "behind what a reset passed over", logs: gone(3), rules: complete,
			bad:  []Event{started(), handled("a", 0, 1), committed(1, 2.5), reset(1, 2, 4), committed(2, 5)},
			good: []Event{started(), handled("a", 0, 1), committed(1, 2.5), reset(1, 2, 4), handled("a", 2, 6)},
		},
		{
			site: "commit unhandled", name: "of what a reset passed over, though it stood", logs: gone(3),
			bad:  []Event{handled("a", 0, 1), committed(1, 2.5), reset(1, 3, 4), committed(3, 5)},
			good: []Event{handled("a", 0, 1), committed(1, 2.5), reset(1, 2, 4), handled("a", 2, 5), committed(3, 6)},
		},
		{
			site: "commit unhandled", name: "of what a reset to the end passed over", logs: gone(3),
			rules: Rules{GroupRules: GroupRules{Reset: Latest}},
			bad:   []Event{handled("a", 0, 1), committed(1, 2.5), reset(1, 2, 4), committed(3, 5)},
			good:  []Event{handled("a", 0, 1), committed(1, 2.5), reset(1, 3, 4), committed(3, 6)},
		},
		{
			site: "never handled", name: "the last value of a key", logs: compacted, rules: complete,
			bad:  []Event{started(), handled("a", 1, 2)},
			good: []Event{started(), handled("a", 1, 2), handled("a", 2, 4)},
		},
		{
			site: "skipped", name: "the last value of a key", logs: compacted,
			bad:  []Event{assigned("a", 0), handled("a", 2, 4)},
			good: []Event{assigned("a", 0), handled("a", 1, 2), handled("a", 2, 4)},
		},
		{
			site: "skipped", name: "at the start of a topic that was made again",
			logs: []Log{
				with(logOf(2), func(l *Log) { l.Deleted = second(3) }),
				with(logOf(2), func(l *Log) { l.Incarnation = 1 }),
			},
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), again(handled("a", 1, 5))},
			good: []Event{assigned("a", 0), handled("a", 0, 1), again(handled("a", 0, 5)), again(handled("a", 1, 6))},
		},
		{
			site: "no progress", name: "until it was deleted", logs: gone(60),
			bad:  []Event{started(), assigned("a", 0), sent("m0", 0, 1), sent("m1", 1, 2), handled("a", 2, 70)},
			good: []Event{started(), assigned("a", 0), sent("m1", 1, 45), handled("a", 0, 46), handled("a", 2, 70)},
		},
		{
			site: "send lost, no place", name: "though others left the gaps", logs: compacted,
			bad:  []Event{with(sent("m7", 0, 1), func(s *Send) { s.Placed = false })},
			good: []Event{with(sent("m0", 0, 1), func(s *Send) { s.Placed, s.Key = false, "k" })},
		},
	}
}
