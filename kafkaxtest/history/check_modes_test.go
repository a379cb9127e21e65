package history

// soughtBy is a seek of a member.
func soughtBy(member string, offset int64, at float64) Seek {
	return Seek{Member: member, Group: "g", TopicPartition: tp, Offset: offset, Time: second(at)}
}

func by(member string, c Commit) Commit {
	c.Member = member
	return c
}

// rowsOfSeeks are of members that seek: what they asked for, and once more than
// that.
func rowsOfSeeks() []row {
	complete := Rules{GroupRules: GroupRules{Complete: true}}
	ahead := []Event{
		started(), assigned("a", 0), handled("a", 0, 1), soughtBy("a", 3, 3), handled("a", 3, 4), by("a", committed(4, 6)),
		soughtBy("a", 1, 7), by("a", committed(1, 8)), handled("a", 1, 9), by("a", committed(2, 11)),
	}
	// The seek of a, which has left, is over before b does anything.
	afterwards := []Event{
		assigned("a", 0), soughtBy("a", 0, 0.5), stop("a", 4, 5), assigned("b", 6), handled("b", 0, 27),
	}
	lostTo := func(member string, more ...Event) []Event {
		events := append(append([]Event{}, afterwards...), more...)
		return append(events, with(revoked(29), func(r *Revoke) { r.Member = "b" }), assigned(member, 29.1), handled(member, 0, 30))
	}
	whole := func(topic string) Seek {
		return with(soughtBy("a", 0, 4.5), func(s *Seek) { s.TopicPartition = TopicPartition{Topic: topic, Partition: -1} })
	}
	twice := func(topic string) []Event {
		return []Event{assigned("a", 0), handled("a", 0, 1), handled("a", 1, 3), whole(topic), handled("a", 0, 5)}
	}
	return []row{
		{
			site: "back", name: "twice after one seek", logs: []Log{logOf(2)},
			bad: []Event{assigned("a", 0), handled("a", 0, 1), handled("a", 1, 3), soughtBy("a", 0, 4.5), handled("a", 0, 5), handled("a", 0, 7)},
			good: []Event{
				assigned("a", 0), handled("a", 0, 1), handled("a", 1, 3), soughtBy("a", 0, 4.5), handled("a", 0, 5),
				soughtBy("a", 0, 6.5), handled("a", 0, 7),
			},
		},
		{
			site: "back", name: "before the position of the seek", logs: []Log{logOf(2)},
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), handled("a", 1, 3), soughtBy("a", 1, 4.5), handled("a", 0, 5)},
			good: []Event{assigned("a", 0), handled("a", 0, 1), handled("a", 1, 3), soughtBy("a", 1, 4.5), handled("a", 1, 5)},
		},
		{
			site: "back", name: "after a seek of another topic", logs: []Log{logOf(2)},
			bad: twice("others"), good: twice(tp.Topic),
		},
		{
			site: "commit back", name: "twice after one seek",
			bad: []Event{
				handled("a", 0, 1), handled("a", 1, 2), committed(2, 4), soughtBy("a", 1, 4.5), by("a", committed(1, 5)),
				handled("a", 1, 6), by("a", committed(2, 8)), by("a", committed(1, 9)),
			},
			good: []Event{
				handled("a", 0, 1), handled("a", 1, 2), committed(2, 4), soughtBy("a", 1, 4.5), by("a", committed(1, 5)),
				handled("a", 1, 6), by("a", committed(2, 8)),
			},
		},
		{
			site: "commit back", name: "of a member that did not seek",
			bad:  []Event{handled("a", 0, 1), handled("a", 1, 2), committed(2, 4), soughtBy("b", 1, 4.5), by("a", committed(1, 5))},
			good: []Event{handled("a", 0, 1), handled("a", 1, 2), committed(2, 4), soughtBy("a", 1, 4.5), by("a", committed(1, 5))},
		},
		{
			site: "commit back", name: "when the seek was over",
			bad: []Event{
				handled("a", 0, 1), handled("a", 1, 2), soughtBy("a", 1, 3), by("a", committed(2, 4)), handled("a", 2, 5),
				by("a", committed(3, 7)), by("a", committed(1, 8)),
			},
			good: []Event{ // The first commit had been on its way.
				handled("a", 0, 1), handled("a", 1, 2), soughtBy("a", 1, 3), by("a", committed(2, 4)), handled("a", 2, 5),
				by("a", committed(1, 8)),
			},
		},
		{
			site: "commit back", name: "of another, though the seek was not beyond the end",
			bad: []Event{
				handled("a", 0, 1), handled("a", 1, 2), committed(2, 4), soughtBy("a", 1, 4.5), by("a", committed(1, 5)), by("b", committed(0, 6)),
			},
			good: []Event{
				handled("a", 0, 1), handled("a", 1, 2), committed(2, 4), soughtBy("a", 9, 4.5), by("a", committed(9, 5)), by("b", committed(0, 6)),
			},
		},
		{
			site: "commit unhandled", name: "after a seek that did not go so far", logs: []Log{logOf(4)}, rules: complete,
			bad: []Event{
				started(), handled("a", 0, 1), handled("a", 1, 2), soughtBy("a", 0, 3.5), handled("a", 0, 4), by("a", committed(3, 6)),
				handled("a", 2, 7), handled("a", 3, 8),
			},
			good: []Event{started(), handled("a", 0, 1), soughtBy("a", 3, 3), handled("a", 3, 4), by("a", committed(4, 6))},
		},
		{
			site: "commit unhandled", name: "twice passed over after one seek", logs: []Log{logOf(6)},
			rules: Rules{GroupRules: GroupRules{Ordering: Unordered}},
			bad: []Event{
				handled("a", 0, 1), soughtBy("a", 3, 3), handled("a", 3, 4), by("a", committed(4, 6)), handled("a", 5, 7), by("a", committed(6, 9)),
			},
			good: []Event{
				handled("a", 0, 1), soughtBy("a", 3, 3), handled("a", 3, 4), by("a", committed(4, 6)),
				soughtBy("a", 5, 6.5), handled("a", 5, 7), by("a", committed(6, 9)),
			},
		},
		{
			site: "never handled", name: "passed over, and gone back to", logs: []Log{logOf(4)}, rules: complete,
			bad: ahead, good: append(append([]Event{}, ahead...), handled("a", 2, 12)),
		},
		{
			site: "skipped", name: "after a seek that went back", logs: []Log{logOf(3)},
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), soughtBy("a", 0, 2.5), handled("a", 0, 3), handled("a", 2, 5)},
			good: []Event{assigned("a", 0), handled("a", 0, 1), soughtBy("a", 2, 2.5), handled("a", 2, 5)},
		},
		{
			site: "duplicate", name: "when the seek was over", logs: []Log{logOf(1)},
			bad: lostTo("c"), good: lostTo("c", soughtBy("b", 0, 28.5)),
		},
	}
}

// rowsOfLatest are of groups that start at the end of the log.
func rowsOfLatest() []row {
	latest := Rules{GroupRules: GroupRules{Start: Latest, Complete: true}}
	return []row{
		{
			site: "latest, late", logs: []Log{logOf(1)}, rules: latest,
			bad:  []Event{started(), assigned("a", 0), sent("m0", 0, 30), by("a", committed(1, 32))},
			good: []Event{started(), assigned("a", 0), sent("m0", 0, 5), by("a", committed(1, 32))},
		},
		{
			site: "never handled", name: "behind the begin of the group", logs: []Log{logOf(3)}, rules: latest,
			bad:  []Event{started(), committed(1, 1), handled("a", 1, 3)},
			good: []Event{started(), committed(1, 1), handled("a", 1, 3), handled("a", 2, 5)},
		},
		{
			site: "commit unhandled", name: "behind the begin of the group", logs: []Log{logOf(3)}, rules: latest,
			bad:  []Event{started(), committed(1, 1), handled("a", 1, 3), committed(3, 5), handled("a", 2, 6)},
			good: []Event{started(), committed(1, 1), handled("a", 1, 3), committed(2, 5), handled("a", 2, 6)},
		},
		{
			site: "no progress", name: "behind the begin of the group", logs: []Log{logOf(2)}, rules: latest,
			bad:  []Event{started(), assigned("a", 0), sent("m0", 0, 1), committed(0, 2), sent("m1", 1, 3), handled("a", 0, 60), handled("a", 1, 62)},
			good: []Event{started(), assigned("a", 0), sent("m0", 0, 1), committed(1, 2), sent("m1", 1, 59), handled("a", 1, 60)},
		},
		{
			site: "duplicate", name: "behind the begin of the group", logs: []Log{logOf(2)}, rules: latest,
			bad: []Event{
				started(), assigned("a", 0), committed(1, 1), handled("a", 1, 2), revoked(4), assigned("b", 4.1), handled("b", 1, 5),
			},
			good: []Event{started(), assigned("a", 0), committed(1, 1), revoked(4), assigned("b", 4.1), handled("b", 1, 5)},
		},
	}
}

// rowsOfMembers are of groups whose members promise different things.
func rowsOfMembers() []row {
	unordered := func(r MemberRules) Rules {
		return Rules{GroupRules: GroupRules{Ordering: Unordered, Members: map[string]MemberRules{"a": r}}}
	}
	aborted := []Log{with(logOf(2), func(l *Log) { l.Records[1].Transaction = Aborted })}
	// The first handler of b goes on when its partition is another's.
	deaf := func(offset, done int64) []Event {
		first := with(handled("b", offset, 1), func(d *Delivery) { d.ContextEnded, d.Ended = second(4), second(10) })
		return []Event{
			assigned("b", 0), first, handled("b", done, 2), with(revoked(5), func(r *Revoke) { r.Member = "b" }), assigned("c", 5.1),
			handled("c", done, 6),
		}
	}
	skip := func(member string) []Event {
		return []Event{
			with(handled("a", 0, 1), failed), Skip{Member: member, Group: "g", Span: Span{tp, 0, 0}, Time: second(2)}, committed(1, 3),
		}
	}
	return []row{
		{
			site: "overlap", name: "of a member that has an order", rules: unordered(MemberRules{}),
			bad:  []Event{assigned("a", 0), handled("a", 0, 1), handled("a", 1, 1.5)},
			good: []Event{assigned("b", 0), handled("b", 0, 1), handled("b", 1, 1.5)},
		},
		{
			site: "read aborted", name: "by a member that may not", logs: aborted, rules: unordered(MemberRules{Isolation: ReadCommitted}),
			bad:  []Event{handled("a", 1, 1)},
			good: []Event{handled("b", 1, 1)},
		},
		{
			site: "never handled", name: "though others may pass over it", logs: aborted,
			rules: with(unordered(MemberRules{Isolation: ReadCommitted}), func(r *Rules) { r.Complete = true }),
			bad:   []Event{started(), handled("b", 1, 1)},
			good:  []Event{started(), handled("b", 0, 1)},
		},
		{
			site: "duplicate", name: "behind a handler that takes no notice of its end", rules: unordered(MemberRules{}), logs: []Log{logOf(2)},
			bad: deaf(1, 0), good: deaf(0, 1),
		},
		{
			site: "commit unhandled", name: "skipped by a member that may not", rules: unordered(MemberRules{OnFailure: FailStop}),
			bad: skip("a"), good: skip("b"),
		},
		{
			site: "overlap", name: "beside a handler of its own that was told to end",
			bad:  []Event{with(handled("a", 0, 1), func(d *Delivery) { d.ContextEnded = second(1.2) }), handled("a", 1, 1.5)},
			good: []Event{with(handled("a", 0, 1), func(d *Delivery) { d.ContextEnded = second(1.2) }), handled("b", 1, 1.5)},
		},
	}
}
