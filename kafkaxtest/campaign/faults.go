package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax/kafkaxtest"
)

// fault is one kind of trouble: do begins it, and what it returns ends it. It
// returns nil if there was no occasion for it.
type fault struct {
	name string
	calm bool // nothing breaks: see mode
	do   func(r *rand.Rand, c *course) (end func())
}

// groupKinds are what kafka-go's ConsumerGroup sends and reads by itself.
var groupKinds = []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.OffsetFetch}

// ourKinds are what kafkax sends itself.
var ourKinds = []kmsg.Key{
	kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetCommit, kmsg.FindCoordinator, kmsg.InitProducerID,
	kmsg.OffsetForLeaderEpoch,
}

// ourKindsButCommits is for what may not happen to commits: see leftOut.
var ourKindsButCommits = slices.DeleteFunc(slices.Clone(ourKinds), func(k kmsg.Key) bool { return k == kmsg.OffsetCommit })

// codes are errors that a broker may answer such a request with, and after which
// a client should go on.
var codes = map[kmsg.Key][]kafka.Error{
	kmsg.Produce: {
		kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.NotEnoughReplicas, kafka.NotEnoughReplicasAfterAppend,
		kafka.RequestTimedOut, kafka.UnknownTopicOrPartition,
	},
	kmsg.Fetch:       {kafka.NotLeaderForPartition, kafka.UnknownTopicOrPartition, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.ReplicaNotAvailable},
	kmsg.ListOffsets: {kafka.NotLeaderForPartition, kafka.UnknownTopicOrPartition, kafka.LeaderNotAvailable, kafka.RequestTimedOut},
	kmsg.OffsetForLeaderEpoch: {
		kafka.NotLeaderForPartition, kafka.UnknownTopicOrPartition, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch,
	},
	kmsg.Metadata: {kafka.LeaderNotAvailable, kafka.UnknownTopicOrPartition},
	kmsg.OffsetCommit: {
		kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup, kafka.RequestTimedOut,
		kafka.RebalanceInProgress,
	},
	kmsg.FindCoordinator: {kafka.GroupCoordinatorNotAvailable},
	kmsg.InitProducerID:  {kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.RequestTimedOut},
	kmsg.JoinGroup:       {kafka.GroupLoadInProgress, kafka.GroupCoordinatorNotAvailable, kafka.NotCoordinatorForGroup},
	kmsg.SyncGroup:       {kafka.GroupLoadInProgress, kafka.NotCoordinatorForGroup, kafka.RebalanceInProgress},
	kmsg.Heartbeat:       {kafka.NotCoordinatorForGroup, kafka.RebalanceInProgress, kafka.GroupCoordinatorNotAvailable},
	kmsg.LeaveGroup:      {kafka.NotCoordinatorForGroup, kafka.GroupCoordinatorNotAvailable},
}

// faults are what the campaign does wherever it runs, and so are topicFaults and
// groupFaults; see memoryFaults, memoryTopicFaults and nodeFaults too. What is left out, and why, is in leftOut.
var faults = []fault{
	{"connections cut", false, func(r *rand.Rand, c *course) func() {
		c.sim.Cut(c.target(r))
		return nothing
	}},
	{"answers cut", false, func(r *rand.Rand, c *course) func() {
		t := kafkaxtest.Target{Requests: ourKinds, Answers: true}
		return c.sim.CutAt(t, 1+r.IntN(5), r.IntN(200))
	}},
	{"requests cut", false, func(r *rand.Rand, c *course) func() {
		return c.sim.CutAt(kafkaxtest.Target{Requests: ourKinds}, 1+r.IntN(5), r.IntN(60))
	}},
	{"late answers", false, func(r *rand.Rand, c *course) func() {
		t := c.target(r)
		t.Requests, t.Answers = ourKinds, true
		return c.sim.Slow(t, time.Duration(r.IntN(4000))*time.Millisecond, 0)
	}},
	{"slow", false, func(r *rand.Rand, c *course) func() {
		t := c.target(r)
		t.Requests, t.Answers = ourKinds, r.IntN(2) == 0
		return c.sim.Slow(t, 0, 2000+r.IntN(100_000))
	}},
	{"stalled", false, func(r *rand.Rand, c *course) func() {
		t := c.target(r)
		t.Requests, t.Answers = ourKindsButCommits, r.IntN(2) == 0
		return c.sim.Hold(t)
	}},
	{"never answered", false, func(r *rand.Rand, c *course) func() {
		t := c.target(r)
		t.Requests, t.Answers = ourKindsButCommits, r.IntN(2) == 0
		return c.sim.Lose(t)
	}},
	{"node down", false, func(r *rand.Rand, c *course) func() { return c.sim.Down(r.IntN(c.mode.nodes)) }},
	{"nodes restart in turn", false, func(_ *rand.Rand, c *course) func() {
		c.work.Go(c.restartNodes)
		return nothing
	}},
	{"leader moves", true, func(r *rand.Rand, c *course) func() { return c.moveLeader(r) }},
	{"rebalance", true, func(_ *rand.Rand, c *course) func() {
		c.stranger()
		return nothing
	}},
	{"member leaves", true, func(r *rand.Rand, c *course) func() {
		c.leave(r)
		return func() { c.join(r) }
	}},
	{"member joins", true, func(r *rand.Rand, c *course) func() {
		c.join(r)
		return func() { c.leave(r) }
	}},
	{"members replaced in turn", true, func(r *rand.Rand, c *course) func() {
		c.replace(r)
		return nothing
	}},
	{"transaction", true, func(r *rand.Rand, c *course) func() { return c.transaction(r) }},
	{"member crashes", false, func(r *rand.Rand, c *course) func() {
		return c.lose(r, func(m *member) func() { return m.crash })
	}},
	{"dead letter topic down", false, func(r *rand.Rand, c *course) func() {
		t := kafkaxtest.Target{Topic: c.dead, Requests: []kmsg.Key{kmsg.Produce}}
		if r.IntN(2) == 0 {
			return c.sim.Hold(t)
		}
		return c.sim.CutAt(t, -1, 0)
	}},
}

// memoryFaults are what only the cluster in memory can be made to do.
var memoryFaults = []fault{
	{"error codes", false, func(r *rand.Rand, c *course) func() {
		kinds := append(append([]kmsg.Key{}, ourKinds...), groupKinds[:4]...)
		kind := kinds[r.IntN(len(kinds))]
		f := kafkaxtest.Failure{Requests: []kmsg.Key{kind}, Error: pick(r, codes[kind]...), Count: 1 + r.IntN(5)}
		if r.IntN(3) == 0 {
			f.Count, f.Share = -1, 0.3
		}
		return c.sim.Fail(f).Remove
	}},
	{"coordinators move", false, func(_ *rand.Rand, c *course) func() {
		c.sim.MoveCoordinators()
		return nothing
	}},
	{"dead letter topic down", false, func(_ *rand.Rand, c *course) func() {
		return c.sim.Fail(kafkaxtest.Failure{
			Requests: []kmsg.Key{kmsg.Produce}, Topic: c.dead, Error: kafka.NotEnoughReplicas, Count: -1,
		}).Remove
	}},
}

// leftOut is what only the membership and the writer that are still kafka-go's
// would show: see the tests that are expected to fail.
var leftOut = []string{
	"joins and syncs that are cut or not answered: each leaves a member that the group waits for" +
		" (TestD16_AJoinThatIsCutLeavesNoMember_ExpectedToFail)",
	"commits that arrive late: a committed offset goes back (TestD2_ACommitThatArrivesLateDoesNotTakeOffsetsBack_ExpectedToFail)",
	"group connections that stall: handlers run on when their partition is given away" +
		" (TestD14_GraceCountsFromTheLastHeartbeat_ExpectedToFail)",
	"a delivery_timeout of less than an outage takes: what waits in the writer's queue then may still go out" +
		" (TestP3_WhatWasNotSentInTimeNeverGoesOut_ExpectedToFail)",
}

func nothing() {}
