// Package kafkaxtest is a Kafka cluster for tests of programs that use kafkax:
// in memory and on a virtual clock, so that a rebalance, a day, or an outage of
// an hour takes milliseconds, and what can go wrong can be made to.
//
//	func TestOrdersAreBilled(t *testing.T) {
//		kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
//			s.Join("billing", "orders", handle)
//			s.Fill("orders", 100)
//			up := s.Down(0)
//			s.Advance(time.Hour)
//			up()
//			s.WaitCommitted("billing", "orders")
//		}, kafkaxtest.Topic("orders", 3))
//	}
//
// # Making things
//
// [Run] is a test inside the simulation, [Start] the same cluster on loopback and
// the wall clock, or, with [Brokers], a Kafka that runs already.
// [Sim.Consumer] and [Sim.Producer] make clients, [Sim.Join] a member of a group
// whose loop runs, [Sim.CreateTopic] a topic. Code that makes its clients itself
// is given [Sim.ConsumerOptions] and [Sim.ProducerOptions]. [Sim.Send] and
// [Sim.Fill] write messages.
//
// # Seeing things
//
// [Sim.Handled] is what was handled, in which order, when and by whom;
// [Sim.Committed] and [Sim.Lag] are what a group has committed, [Sim.Messages]
// what stands in a topic, such as dead letters with their headers. [Sim.Wait] and
// its kin wait for something, and fail the test with what led there:
// [Sim.History].
//
// # Breaking things
//
// Members leave, freeze and crash: [Member]. Groups rebalance: [Sim.Rebalance].
// Brokers answer with errors, [Sim.Fail], or go away, [Sim.Down]; leaders move,
// [Sim.MoveLeader]. The network holds, slows, loses and cuts what a [Target]
// names: a client, a node, a kind of request, a topic.
//
// # What to know
//
// The cluster is franz-go's kfake, pinned by this module: one replica of
// everything, no quotas, no TLS. In a [Run] all clients must be closed by the
// end, and nothing may wait for what is outside: a real connection, a lock that is
// held while the clock must go on, or a signal: RunWithGracefulShutdown ends the
// process there, so test what is given to it. Compression with zstd works: this
// package makes kafka-go use no coder twice, in the whole process.
package kafkaxtest
