package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// What the names of faults begin with that are not for all modes.
const (
	letterTopics = "dead letter topic"
	transactions = "transaction"
)

// fits says whether a fault has a place in a mode.
func (f fault) fits(m mode) bool {
	switch {
	case m.calm && !f.calm:
		return false
	case strings.HasPrefix(f.name, letterTopics):
		return m.deadLetters
	case strings.HasPrefix(f.name, transactions):
		return m.committed
	}
	return true
}

// topicFaults are what is done to topics and to what stands in them.
var topicFaults = []fault{
	{"partitions added", true, func(r *rand.Rand, c *course) func() { return c.addPartitions(r) }},
	{"records deleted", true, func(r *rand.Rand, c *course) func() { return c.deleteRecords(r) }},
	{"clock jumps", true, func(_ *rand.Rand, c *course) func() { return c.clocks.jump() }},
	{"transaction times out", true, func(r *rand.Rand, c *course) func() { return c.abandon(r) }},
	{letterTopics + " missing", false, func(_ *rand.Rand, c *course) func() { return c.missLetters() }},
}

// memoryTopicFaults are those that only the cluster in memory can be made to do
// when it is told to; and topics are made again where all members are in this
// process, as others cannot tell which of a name's topics their messages are of.
var memoryTopicFaults = []fault{
	{"topic made again", false, func(r *rand.Rand, c *course) func() { return c.makeAgain(r) }},
	{"retention", true, func(r *rand.Rand, c *course) func() {
		age, topic := time.Duration(r.IntN(30))*time.Second, c.anyTopic(r)
		return c.behind(r, func() { c.whole(func() { c.sim.Expire(topic, age) }) })
	}},
	{"compaction", true, func(r *rand.Rand, c *course) func() {
		topic := c.anyTopic(r)
		return c.behind(r, func() { c.whole(func() { c.sim.Compact(topic) }) })
	}},
}

// behind calls what deletes records: at once, or when the group has come to be
// behind, as nobody is given any until it is over. Where nothing may break, it is
// at once.
func (c *course) behind(r *rand.Rand, deletes func()) (end func()) {
	if r.IntN(2) == 0 || c.mode.calm {
		deletes()
		return nothing
	}
	release := c.sim.Hold(kafkaxtest.Target{Requests: []kmsg.Key{kmsg.Fetch}, Answers: true})
	return func() {
		defer release()
		deletes()
	}
}

// groupFaults are what is done to the group as a whole, and to what its members
// send by themselves. What they do not reach is in leftOut.
var groupFaults = []fault{
	{"storm", true, func(r *rand.Rand, c *course) func() { return c.storm(r) }},
	{"group's answers cut", false, func(r *rand.Rand, c *course) func() {
		return c.sim.CutAt(kafkaxtest.Target{Requests: groupKindsToCut, Answers: true}, 1+r.IntN(5), r.IntN(40))
	}},
	{"group's requests cut", false, func(r *rand.Rand, c *course) func() {
		return c.sim.CutAt(kafkaxtest.Target{Requests: groupKindsToCut}, 1+r.IntN(5), r.IntN(60))
	}},
	{"group never answered", false, func(r *rand.Rand, c *course) func() {
		over := c.sim.Lose(kafkaxtest.Target{Requests: groupKindsToLose, Answers: r.IntN(2) == 0})
		c.leave(r) // else nobody sends any
		c.join(r)
		return over
	}},
}

// groupKindsToCut are those of groupKinds that may break in their middle, and
// groupKindsToLose those that may get no answer.
var (
	groupKindsToCut  = []kmsg.Key{kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.OffsetFetch}
	groupKindsToLose = []kmsg.Key{kmsg.LeaveGroup, kmsg.OffsetFetch}
)

// mostPartitions is how many a topic comes to have in a schedule.
const mostPartitions = 12

// addPartitions adds one or two. A key may then have messages in two partitions,
// and no order between these.
func (c *course) addPartitions(r *rand.Rand) (end func()) {
	topic, more := c.anyTopic(r), 1+r.IntN(2)
	c.whole(func() {
		had := c.sim.Partitions(topic)
		if n := min(had+more, mostPartitions); n > had {
			c.sim.AddPartitions(topic, n)
			end = nothing
		}
	})
	return end
}

// deleteRecords deletes what stands before a place in a partition: one that the
// group has left behind, one ahead of it, or the end. It does not while the topic
// has settings for which it would have to wait.
func (c *course) deleteRecords(r *rand.Rand) (end func()) {
	topic := c.anyTopic(r)
	partition, which, share := r.IntN(c.mode.partitions), r.IntN(3), r.Float64()
	return c.behind(r, func() {
		if !c.settings.TryLock() {
			return
		}
		defer c.settings.Unlock()
		c.whole(func() {
			first, next := c.sim.Offsets(topic, partition)
			position := min(max(c.sim.Committed(c.group, topic)[partition], first), next)
			before := next
			switch which {
			case 0:
				before = first + int64(share*float64(position-first))
			case 1:
				before = position + int64(share*float64(next-position))
			}
			c.sim.DeleteRecords(topic, partition, before)
		})
	})
}

// abandon begins a transaction whose producer is gone at once. It is over when
// brokers have aborted it.
func (c *course) abandon(r *rand.Rand) func() {
	if !c.there.TryRLock() {
		return nil
	}
	timeout := time.Duration(5+r.IntN(15)) * time.Second
	c.sim.BeginFor(timeout, c.together(r)...).Abandon()
	began := time.Now()
	return func() {
		defer c.there.RUnlock()
		time.Sleep(timeout - time.Since(began))
	}
}

// mostAgain is how many messages of a topic that is made again slow handlers are
// done with before the check takes those that wait for forgotten.
const mostAgain = 1000

// makeAgain deletes the topic, and makes it again: with fewer records than it had,
// which are those that are sent from then on, or at once with more.
func (c *course) makeAgain(r *rand.Rand) (end func()) {
	if !c.there.TryLock() {
		return nil
	}
	number, more := c.transactions.Add(1), 0
	if r.IntN(2) == 0 {
		for partition := range c.mode.partitions {
			_, next := c.sim.Offsets(c.topic, partition)
			more += int(next)
		}
		more += more/2 + 100
	}
	if more > mostAgain {
		more = 0
	}
	over := c.fault(history.Refused, "", "no topic "+c.topic)
	c.sim.DeleteTopic(c.topic)
	return func() {
		defer c.there.Unlock()
		c.sim.CreateTopic(c.topic, c.mode.partitions)
		over()
		msgs := make([]kafkax.Message, more)
		for i := range msgs {
			msgs[i] = kafkax.Message{Topic: c.topic, Partition: i % c.mode.partitions, Value: fmt.Appendf(nil, "again-%d-%d ", number, i)}
		}
		c.sim.Send(msgs...)
	}
}

// missLetters takes the dead letter topic away, and makes it again.
func (c *course) missLetters() (end func()) {
	if !c.letters.TryLock() {
		return nil // it is away
	}
	c.sim.DeleteTopic(c.dead)
	over := c.fault(history.Refused, "", "no topic "+c.dead)
	return func() {
		defer c.letters.Unlock()
		c.sim.CreateTopic(c.dead, 1)
		over()
	}
}

// storm has many members come at once and leave at once, again and again.
func (c *course) storm(r *rand.Rand) (end func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() { // end waits for it
		defer close(done)
		for round := 0; ; round++ {
			c.gust(r, over)
			if round == stormRounds || closed(over) {
				return
			}
		}
	}()
	return func() {
		close(over)
		<-done
	}
}

const (
	stormRounds = 2 // more than the first
	gustAtMost  = 5 * time.Second
)

// gust is one round of a storm: it is over when all have left.
func (c *course) gust(r *rand.Rand, over <-chan struct{}) {
	var crowd []*member
	for range 5 + r.IntN(6) {
		if m := c.joinHere(r); m != nil {
			crowd = append(crowd, m)
		}
	}
	select {
	case <-over:
	case <-time.After(time.Duration(r.Int64N(int64(gustAtMost)))):
	}
	var leaving sync.WaitGroup
	for _, m := range crowd {
		leaving.Go(m.leave)
	}
	leaving.Wait()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
