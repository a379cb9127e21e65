package kafkax

// SASLMechanism names how a client proves who it is.
type SASLMechanism string

// The mechanisms that configuration can name. Any other can be injected with
// [WithProducerSASL] and [WithConsumerSASL].
const (
	SASLNone        SASLMechanism = "" // no authentication
	SASLPlain       SASLMechanism = "PLAIN"
	SASLScramSHA256 SASLMechanism = "SCRAM-SHA-256"
	SASLScramSHA512 SASLMechanism = "SCRAM-SHA-512"
)

// Acks is how many replicas must have a record before a send succeeds.
type Acks string

// The levels of acknowledgement.
const (
	AcksAll  Acks = "all"  // every in-sync replica
	AcksOne  Acks = "one"  // the leader; a record is lost if it dies before it is copied
	AcksNone Acks = "none" // nobody; loss is silent
)

// Compression is the codec of a producer's batches.
type Compression string

// The codecs Kafka knows.
const (
	CompressionNone   Compression = "none"
	CompressionGzip   Compression = "gzip"
	CompressionSnappy Compression = "snappy"
	CompressionLz4    Compression = "lz4"
	CompressionZstd   Compression = "zstd"
)

// Balancer chooses a message's partition. The ones that hash put messages of
// one key into one partition, and must be the same in every client that writes
// the topic.
type Balancer string

// The balancers that configuration can name.
const (
	BalancerMurmur2    Balancer = "murmur2"     // by key, as the Java client
	BalancerCRC32      Balancer = "crc32"       // by key, as librdkafka
	BalancerHash       Balancer = "hash"        // by key (FNV-1a), as Sarama
	BalancerRoundRobin Balancer = "round_robin" // each in turn, whatever the key
	BalancerLeastBytes Balancer = "least_bytes" // the one that was given the fewest bytes
)

// StartOffset is where a consumer starts that has no committed offset.
type StartOffset string

// The two ends of the log.
const (
	StartEarliest StartOffset = "earliest"
	StartLatest   StartOffset = "latest"
)

// OffsetReset is what happens when a position is not in the log.
type OffsetReset string

// What can happen then.
const (
	ResetEarliest OffsetReset = "earliest" // go on at the first record there is
	ResetLatest   OffsetReset = "latest"   // go on with what is written from now on
	ResetError    OffsetReset = "error"    // the loop ends with ErrOffsetOutOfRange
)

// IsolationLevel says whether records of open and aborted transactions are read.
type IsolationLevel string

// The levels Kafka knows.
const (
	ReadUncommitted IsolationLevel = "read_uncommitted"
	ReadCommitted   IsolationLevel = "read_committed"
)

// FailurePolicy is what a loop does with a message that exhausted its attempts
// when there is no dead letter topic, or that refuses it for good.
type FailurePolicy string

// The policies.
const (
	FailDefault FailurePolicy = ""     // Consume skips and the others stop; at what a dead letter topic refuses, all stop
	FailStop    FailurePolicy = "stop" // the loop returns a HandlerError, or a DeadLetterError
	FailSkip    FailurePolicy = "skip" // the log and OnError, then on
)

// Ordering is what concurrency must keep in order.
type Ordering string

// What stays in order.
const (
	OrderPartition Ordering = "partition" // all messages of a partition
	OrderKey       Ordering = "key"       // all messages of a partition that have the same key
	Unordered      Ordering = "unordered" // nothing
)
