// Package history holds what a program that uses Kafka saw, and judges it.
//
// A [History] is written while a test runs: each send with its outcome, each
// call of a handler, each commit as the broker stored it, what was assigned and
// revoked, every stop and every fault. At the end the test adds a [Log] for each
// partition: what the broker has. [Check] then says which promises were broken:
//
//	var h history.History
//	n := h.Add(history.Delivery{Member: "a", Group: "g", TopicPartition: tp, Offset: 7, ID: "m7", Began: now()})
//	...
//	h.Set(n, history.Delivery{..., Ended: now(), Outcome: history.Handled})
//	...
//	if err := history.Check(&h, history.Rules{}).Err(); err != nil {
//		t.Fatal(err, h.Tail(50))
//	}
//
// The package has no clock and starts no goroutine: all times are the caller's,
// so that it works the same in a simulation with virtual time and on a real
// cluster. Events of the same instant count in the order in which they were
// added or set.
//
// # What the checker needs to know
//
// It never accuses a program of what Kafka and at-least-once delivery allow: an
// unknown send may be in the log or not, a crash may have messages handled
// twice. It can only tell such a case from a broken promise if it is told of
// the crash, so every fault that a test injects belongs into the history, and
// so does every call that moves a position. What is not recorded is taken not
// to have happened; a check whose events are missing altogether (no commits, no
// logs) accuses nobody.
package history
