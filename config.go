package kafkax

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
)

// SASLConfig is the sasl.* keys: who the client says it is.
type SASLConfig struct {
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; all need Username
	// and one of Password and PasswordFile. Default none: no authentication.
	Mechanism SASLMechanism

	// Username is the name to log in with. Default none.
	Username string

	// Password is what to log in with; see [NewSecret]. Default none.
	Password Secret

	// PasswordFile names a file with the password, read anew for each
	// connection, so a rotation needs no restart. Default none.
	PasswordFile string
}

// TLSConfig is the tls.* keys: how connections are encrypted.
type TLSConfig struct {
	// Enabled turns TLS on. Default false. The other fields need it.
	Enabled bool

	// CAFile is a PEM file with the authorities that may sign a broker's
	// certificate. Default none: the system's.
	CAFile string

	// CertFile and KeyFile are the client's own certificate and its key, PEM,
	// for mutual TLS. Both or neither. Default none.
	CertFile string
	KeyFile  string

	// ServerName is the name the broker's certificate must have. Default none:
	// the host that is dialled.
	ServerName string

	// InsecureSkipVerify accepts any certificate, so anybody in the middle can
	// read and write. Default false.
	InsecureSkipVerify bool
}

// ConnectionConfig is what both sides need to reach a cluster. Its keys stand
// at the top level of the YAML ("brokers", KAFKAX_BROKERS) and can be set for
// one side alone ("producer.brokers", KAFKAX_PRODUCER_BROKERS).
type ConnectionConfig struct {
	// Brokers are the addresses, host:port, of which one must answer to find
	// the rest of the cluster. No default; required.
	Brokers []string

	// ClientID is the name the broker's logs, metrics and quotas know this
	// client by. Default "kafkax".
	ClientID string

	// DialTimeout bounds one connection's dial, TLS handshake and SASL
	// exchange together. Default 10s, from 1ms.
	DialTimeout time.Duration

	// RequestTimeout is how long a broker may be silent while a request is
	// under way; each byte that leaves or arrives starts it anew. Default 30s,
	// from 1ms.
	RequestTimeout time.Duration

	// ShutdownTimeout bounds Close: what has not finished by then is cut off
	// and named in the error. Default 30s, from 1ms.
	ShutdownTimeout time.Duration

	// SASL is the authentication. Default none.
	SASL SASLConfig

	// TLS is the encryption. Default none.
	TLS TLSConfig

	mechanism   sasl.Mechanism     // injected by option; wins over SASL
	tlsConfig   func() *tls.Config // injected by option; wins over TLS; hidden, as it may hold a key
	dial        dialFunc           // injected by option; nil: TCP
	logger      kafka.Logger       // nil: progress is not logged
	errorLogger kafka.Logger       // nil: slog.Default

	// sources says where each value came from. It is nil in a config that was
	// written as a literal, and shared by all copies, as it never changes.
	sources *sources
}

// dialFunc makes a connection, as net.Dialer's DialContext does.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// ProducerConfig is the resolved configuration of a [Producer]. It comes from
// [LoadProducerFromEnv] or [Producer.Config]; its fields may then be changed and
// the result be given to [WithProducerConfig]. It prints as the list of its
// keys, with secrets masked.
type ProducerConfig struct {
	ConnectionConfig

	// Topic is where messages go that name none themselves. Default none: each
	// message must name its own.
	Topic string

	// BatchSize is the most messages of one request to a partition. Default
	// 100, from 1 to 1000000. Room for that many is reserved in every batch,
	// 152 bytes each.
	BatchSize int

	// BatchBytes is the most bytes of one request to a partition, before
	// compression; also the largest message. Default 1048576 (1 MiB), from 1
	// to 1073741824 (1 GiB). It must not exceed the topic's max.message.bytes.
	BatchBytes int

	// BatchTimeout is how long a batch that is not full waits for more.
	// Default 1ms, above 0. A lone synchronous send waits that long too.
	BatchTimeout time.Duration

	// RequiredAcks is who must have a message before a send succeeds: all, one
	// or none. Default all.
	RequiredAcks Acks

	// MaxAttempts is how often a message is tried, counting the first.
	// Default 0: as often as DeliveryTimeout allows.
	MaxAttempts int

	// Idempotent lets brokers recognise a batch that is sent again, so a retry
	// neither doubles a message nor changes the order. It needs RequiredAcks
	// all. Default true with these, else false.
	Idempotent bool

	// DeliveryTimeout bounds a message's whole way, retries included. Default
	// 120s, at least WriteTimeout.
	DeliveryTimeout time.Duration

	// Async makes sends return before anything is sent; failures then reach
	// the completion callback or the log. Default false.
	Async bool

	// Compression is none, gzip, snappy, lz4 or zstd. Default snappy.
	Compression Compression

	// Balancer is murmur2, crc32, hash, round_robin or least_bytes. Default
	// murmur2.
	Balancer Balancer

	// WriteTimeout is RequestTimeout for a producer, if it is less. A leader
	// has half of it to hear from its replicas. Default 10s, from 1ms.
	WriteTimeout time.Duration

	// ReadTimeout bounds one look-up, of a topic or for a producer id, and the
	// connecting for it. Default 10s, from 1ms.
	ReadTimeout time.Duration

	completion func(messages []kafka.Message, err error) // nil: failures are logged
	tuneWriter func(*kafka.Writer)                       // nil: nothing to change
}

// silence is how long a broker may be silent to a producer: no longer than it
// takes to choose another leader.
func (c *ProducerConfig) silence() time.Duration { return min(c.RequestTimeout, c.WriteTimeout) }

// ConsumerConfig is the resolved configuration of a [Consumer]. It comes from
// [LoadConsumerFromEnv] or [Consumer.Config]; its fields may then be changed and
// the result be given to [WithConsumerConfig]. It prints as the list of its
// keys, with secrets masked.
type ConsumerConfig struct {
	ConnectionConfig

	// Topic is what is consumed. No default; required.
	Topic string

	// GroupID is the group whose members share the topic's partitions and its
	// committed offsets. No default; it or Partition is required.
	GroupID string

	// Partition is the one to read without a group; nothing is committed then.
	// Default -1: none. Setting it together with GroupID is an error.
	Partition int

	// MinBytes is how much a fetch waits for, at most MaxWait. Default 1.
	MinBytes int

	// MaxBytes bounds the memory of what is fetched and not handled yet, over
	// all partitions. Default 10485760 (10 MiB), at least MinBytes. A larger
	// single batch is still delivered.
	MaxBytes int

	// MaxWait is how long the broker may hold a fetch that has less than
	// MinBytes. Default 500ms, from 1ms. A stop may have to wait for it.
	MaxWait time.Duration

	// StartOffset is where to start without a committed offset: earliest or
	// latest. Default earliest.
	StartOffset StartOffset

	// OffsetReset is what to do when the position is not in the log any more:
	// earliest, latest or error. Default earliest.
	OffsetReset OffsetReset

	// IsolationLevel is read_uncommitted or read_committed, which never
	// delivers records of an open or aborted transaction. Default
	// read_uncommitted.
	IsolationLevel IsolationLevel

	// CommitInterval is how often handled offsets are committed. Default 1s,
	// from 1ms; 0 asks for a commit after each message. After a crash what was
	// handled since the last commit is delivered again.
	CommitInterval time.Duration

	// HeartbeatInterval is how often the group hears of this member. Default
	// 3s, below SessionTimeout; a third of it is usual.
	HeartbeatInterval time.Duration

	// SessionTimeout is how long the group waits for a heartbeat before it
	// gives this member's partitions away. Default 30s, at most
	// RebalanceTimeout.
	SessionTimeout time.Duration

	// RebalanceTimeout is how long a rebalance waits for members to finish
	// what they hold. Default 60s.
	RebalanceTimeout time.Duration

	// RetentionTime has no effect, and setting it is warned of: how long offsets
	// are kept is the brokers' offsets.retention.minutes. Default 0.
	RetentionTime time.Duration

	// ReadLagInterval is how often the lag is asked for. Default 1m, from 1ms.
	ReadLagInterval time.Duration

	// WatchPartitionChanges makes a group member look for new partitions of
	// its topic. Default true.
	WatchPartitionChanges bool

	// PartitionWatchInterval is how often it looks. Default 30s, from 1ms.
	PartitionWatchInterval time.Duration

	// OnFailure is what a loop does with a message that exhausted its attempts
	// when there is no dead letter topic: stop or skip. Default empty: Consume
	// skips, the other loops stop.
	OnFailure FailurePolicy

	// Retry is how often and when a failed handler is called again.
	Retry RetryConfig

	// DLQTopic is where messages go that exhausted their attempts. Default
	// none: OnFailure decides. It must not be Topic.
	DLQTopic string

	// BatchSize is the most messages ConsumeBatch hands over at once. Default
	// 100, from 1 to 1000000.
	BatchSize int

	// BatchTimeout is how long ConsumeBatch waits to fill a batch. Default 1s,
	// above 0.
	BatchTimeout time.Duration

	// Concurrency is how many handlers run at once. Default 1, from 1 to
	// 10000.
	Concurrency int

	// Ordering is what stays in order: partition, key or unordered. Default
	// partition.
	Ordering Ordering

	// HandlerTimeout bounds one call of the handler by its context. Default 0:
	// no bound.
	HandlerTimeout time.Duration

	tuneGroup func(*kafka.ConsumerGroupConfig) // nil: nothing to change
}

// RetryConfig is the retry.* keys: how often a failed handler is called again,
// and how long the waits between are.
type RetryConfig struct {
	MaxAttempts    int           // counts the first try
	InitialBackoff time.Duration // before the second try
	MaxBackoff     time.Duration // no wait is longer
	Multiplier     float64       // each wait is this many times the one before
	Jitter         float64       // 0..1, the share of the wait that is random
}

// DLQWriter takes dead letters instead of kafkax's own writer; see
// [WithDLQWriter]. [Producer] and [kafka.Writer] implement it.
//
// A nil error says that the dead letter is stored: the original is committed
// then. So a kafka.Writer needs RequiredAcks set, as its zero value waits for
// no broker, and must not be Async. An error, a panic and runtime.Goexit are
// failed tries, retried with backoff until ctx ends, and the message's partition
// (or key) waits. An error that matches [kafka.MessageSizeTooLarge],
// [kafka.RecordListTooLarge], [kafka.InvalidRecord] or [kafka.InvalidTimestamp]
// refuses the dead letter for good: see [WithOnFailure].
//
// WriteMessages is called by several goroutines at once, each on one of its own.
// Ctx ends when a stop may wait no longer, and 3 s after a rebalance began. Then
// the call is waited for no longer than a moment, and what it returns after that
// is not looked at. The messages are its to change.
//
// The Topic of a dead letter is the configured dead letter topic. Without one
// it is empty, and the writer must have its own; a kafka.Writer refuses both.
// Partition and Offset are not set. kafkax never closes a DLQWriter.
type DLQWriter interface {
	WriteMessages(ctx context.Context, msgs ...kafka.Message) error
}

// consumeConfig is what one loop runs with: the consumer's configuration with
// the loop's own options over it.
type consumeConfig struct {
	ConsumerConfig

	dlqWriter DLQWriter // nil: one is made for DLQTopic
	onError   func(ctx context.Context, msg kafka.Message, err error)
}

// clone returns a copy that shares nothing the caller could change.
func (c ProducerConfig) clone() ProducerConfig {
	c.Brokers = slices.Clone(c.Brokers)
	return c
}

// clone returns a copy that shares nothing the caller could change.
func (c ConsumerConfig) clone() ConsumerConfig {
	c.Brokers = slices.Clone(c.Brokers)
	return c
}

// takeInjected takes over what only code can give, where it was given.
func (c *ConnectionConfig) takeInjected(from *ConnectionConfig) {
	if from.mechanism != nil {
		c.mechanism = from.mechanism
	}
	if from.tlsConfig != nil {
		c.tlsConfig = from.tlsConfig
	}
	if from.dial != nil {
		c.dial = from.dial
	}
	if from.logger != nil {
		c.logger = from.logger
	}
	if from.errorLogger != nil {
		c.errorLogger = from.errorLogger
	}
}

func (c *ConnectionConfig) connection() *ConnectionConfig { return c }

func (*ProducerConfig) side() string { return "producer." }
func (*ConsumerConfig) side() string { return "consumer." }
