package main

import (
	"math/rand/v2"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// cleaning has nodes look for what retention and compaction may take each second,
// where they would wait for minutes.
var cleaning = []kafkatest.Option{
	kafkatest.WithProperty("log.retention.check.interval.ms", "1000"),
	kafkatest.WithProperty("log.cleaner.backoff.ms", "1000"),
}

// nodeTopicFaults are what nodes take from a topic by themselves, while its
// settings tell them to.
var nodeTopicFaults = []fault{
	{"retention", true, func(_ *rand.Rand, c *course) func() {
		return c.configure("retention.ms", "3000", "segment.ms", "1000", "file.delete.delay.ms", "0")
	}},
	{"compaction", true, func(_ *rand.Rand, c *course) func() {
		return c.configure("cleanup.policy", "compact", "segment.ms", "1000", "min.cleanable.dirty.ratio", "0.01")
	}},
}

// configure gives the topic other settings, if it has its own.
func (c *course) configure(configs ...string) (end func()) {
	if !c.settings.TryLock() {
		return nil
	}
	restore := c.sim.Configure(c.topic, configs...)
	return func() {
		defer c.settings.Unlock()
		restore()
	}
}
