// Package kafkatest runs real Apache Kafka brokers for tests: one node or
// three, on loopback, without containers. It needs Java 17 or later, and Maven
// the first time, to fetch Kafka's jars into the user's cache. KAFKATEST_VERSION
// in the environment chooses among the versions whose jars are known by their
// sums; see [VersionVariable].
//
// Most tests want a topic on the cluster that all tests of the binary share:
//
//	func TestMain(m *testing.M) { os.Exit(kafkatest.M{M: m}.Run()) }
//
//	func TestRoundTrip(t *testing.T) {
//		t.Parallel()
//		cluster := kafkatest.Shared(t)
//		topic := cluster.Topic(t, 3)
//		group := kafkatest.Name(t)
//		...
//	}
//
// A test that breaks brokers starts a cluster of its own with [Start]; a
// program or an Example that has no testing.TB uses [Run].
//
// Every cluster listens without security, with SASL, with TLS and client
// certificates, and with both; see [Listener].
package kafkatest
