package kafkax

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
)

// WithConsumerBrokers sets the addresses, host:port, of which one must answer
// to find the rest of the cluster. They replace those of other layers.
//
// No default; without any, [NewConsumer] returns an error matching
// [ErrNoBrokers]. Kafka: bootstrap.servers.
// Env: KAFKAX_BROKERS or, for consumers alone, KAFKAX_CONSUMER_BROKERS;
// addresses with commas between, such as "kafka-1:9092,kafka-2:9092".
func WithConsumerBrokers(brokers ...string) ConsumerOption {
	return consumerSetting("brokers", "WithConsumerBrokers", brokers)
}

// WithConsumerClientID sets the name that the brokers' logs, metrics and
// quotas know this client by.
//
// Default "kafkax"; more than 32767 bytes, or control characters inside, are an
// error matching [ErrInvalidConfig]. Kafka: client.id.
// Env: KAFKAX_CLIENT_ID or, for consumers alone, KAFKAX_CONSUMER_CLIENT_ID; a
// name such as "billing".
func WithConsumerClientID(id string) ConsumerOption {
	return consumerSetting("client_id", "WithConsumerClientID", id)
}

// WithConsumerDialTimeout sets how long one connection's dial, TLS handshake
// and SASL exchange may take together.
//
// Default 10s; below 1ms is an error matching [ErrInvalidConfig]. Kafka:
// socket.connection.setup.timeout.ms.
// Env: KAFKAX_DIAL_TIMEOUT or, for consumers alone,
// KAFKAX_CONSUMER_DIAL_TIMEOUT; a Go duration such as "5s".
func WithConsumerDialTimeout(d time.Duration) ConsumerOption {
	return consumerSetting("dial_timeout", "WithConsumerDialTimeout", d)
}

// WithConsumerRequestTimeout sets how long a broker may be silent while an
// answer of its is awaited. Each byte that arrives starts it anew, so it does
// not bound a large answer over a slow line. Raise it when brokers are slow to
// begin to answer; lower it to find sooner that one is gone.
//
// Default 30s; below 1ms is an error matching [ErrInvalidConfig]. Kafka:
// request.timeout.ms.
// Env: KAFKAX_REQUEST_TIMEOUT or, for consumers alone,
// KAFKAX_CONSUMER_REQUEST_TIMEOUT; a Go duration such as "10s".
func WithConsumerRequestTimeout(d time.Duration) ConsumerOption {
	return consumerSetting("request_timeout", "WithConsumerRequestTimeout", d)
}

// WithConsumerShutdownTimeout sets how long [Consumer.Close] may take before it
// cuts off what has not finished and names it in its error. Raise it when a
// handler may need longer, and what ends the process
// (terminationGracePeriodSeconds) with it.
//
// Default 30s; below 1ms is an error matching [ErrInvalidConfig].
// [Consumer.GracefulShutdown] is bounded by its context instead. Kafka has no
// such property.
// Env: KAFKAX_SHUTDOWN_TIMEOUT or, for consumers alone,
// KAFKAX_CONSUMER_SHUTDOWN_TIMEOUT; a Go duration such as "20s".
func WithConsumerShutdownTimeout(d time.Duration) ConsumerOption {
	return consumerSetting("shutdown_timeout", "WithConsumerShutdownTimeout", d)
}

// WithConsumerSASLMechanism sets how the client proves who it is: [SASLPlain],
// [SASLScramSHA256] or [SASLScramSHA512].
//
// Default none. It needs a username and either a password or a password file,
// or [NewConsumer] returns an error matching [ErrInvalidConfig]. Any other
// mechanism: [WithConsumerSASL]. Kafka: sasl.mechanism.
// Env: KAFKAX_SASL_MECHANISM or, for consumers alone,
// KAFKAX_CONSUMER_SASL_MECHANISM; a name such as "SCRAM-SHA-512".
func WithConsumerSASLMechanism(mechanism SASLMechanism) ConsumerOption {
	return consumerSetting("sasl.mechanism", "WithConsumerSASLMechanism", mechanism)
}

// WithConsumerSASLUsername sets the name to log in with.
//
// Default none. Without a mechanism it is an error matching
// [ErrInvalidConfig]. Kafka: sasl.jaas.config, username.
// Env: KAFKAX_SASL_USERNAME or, for consumers alone,
// KAFKAX_CONSUMER_SASL_USERNAME; a name.
func WithConsumerSASLUsername(username string) ConsumerOption {
	return consumerSetting("sasl.username", "WithConsumerSASLUsername", username)
}

// WithConsumerSASLPassword sets the password to log in with. It becomes a
// [Secret], which nothing prints.
//
// Default none. Without a mechanism, together with a password file, or with
// control characters in it, it is an error matching [ErrInvalidConfig]. Kafka: sasl.jaas.config, password.
// Env: KAFKAX_SASL_PASSWORD or, for consumers alone,
// KAFKAX_CONSUMER_SASL_PASSWORD; a password.
func WithConsumerSASLPassword(password string) ConsumerOption {
	return consumerSetting("sasl.password", "WithConsumerSASLPassword", password)
}

// WithConsumerSASLPasswordFile sets the file that holds the password. It is
// read anew for each connection, so a rotation needs no restart.
//
// Default none. Without a mechanism, or together with a password, it is an
// error matching [ErrInvalidConfig]. Kafka has no such property.
// Env: KAFKAX_SASL_PASSWORD_FILE or, for consumers alone,
// KAFKAX_CONSUMER_SASL_PASSWORD_FILE; a path such as "/run/secrets/kafka".
func WithConsumerSASLPasswordFile(path string) ConsumerOption {
	return consumerSetting("sasl.password_file", "WithConsumerSASLPasswordFile", path)
}

// WithConsumerTLSEnabled turns the encryption of connections on or off.
//
// Default false. Any other TLS value needs it, or is an error matching
// [ErrInvalidConfig]. A whole configuration of your own:
// [WithConsumerTLSConfig]. Kafka: security.protocol, SSL and SASL_SSL.
// Env: KAFKAX_TLS_ENABLED or, for consumers alone,
// KAFKAX_CONSUMER_TLS_ENABLED; "true" or "false".
func WithConsumerTLSEnabled(enabled bool) ConsumerOption {
	return consumerSetting("tls.enabled", "WithConsumerTLSEnabled", enabled)
}

// WithConsumerTLSCAFile sets the PEM file with the authorities that may sign a
// broker's certificate. It is read again when it changes.
//
// Default none: the system's authorities. Without TLS enabled it is an error
// matching [ErrInvalidConfig]. Kafka: ssl.truststore.location.
// Env: KAFKAX_TLS_CA_FILE or, for consumers alone,
// KAFKAX_CONSUMER_TLS_CA_FILE; a path such as "/etc/kafka/ca.pem".
func WithConsumerTLSCAFile(path string) ConsumerOption {
	return consumerSetting("tls.ca_file", "WithConsumerTLSCAFile", path)
}

// WithConsumerTLSCertFile sets the PEM file with the client's certificate, for
// mutual TLS. It is read again when it changes.
//
// Default none. Without a key file, or without TLS enabled, it is an error
// matching [ErrInvalidConfig]. Kafka: ssl.keystore.location.
// Env: KAFKAX_TLS_CERT_FILE or, for consumers alone,
// KAFKAX_CONSUMER_TLS_CERT_FILE; a path such as "/etc/kafka/client.pem".
func WithConsumerTLSCertFile(path string) ConsumerOption {
	return consumerSetting("tls.cert_file", "WithConsumerTLSCertFile", path)
}

// WithConsumerTLSKeyFile sets the PEM file with the key of the client's
// certificate. It is read again when it changes.
//
// Default none. Without a certificate file, or without TLS enabled, it is an
// error matching [ErrInvalidConfig]. Kafka: ssl.keystore.key.
// Env: KAFKAX_TLS_KEY_FILE or, for consumers alone,
// KAFKAX_CONSUMER_TLS_KEY_FILE; a path such as "/etc/kafka/client.key".
func WithConsumerTLSKeyFile(path string) ConsumerOption {
	return consumerSetting("tls.key_file", "WithConsumerTLSKeyFile", path)
}

// WithConsumerTLSServerName sets the name that a broker's certificate must
// have.
//
// Default none: the host that is dialled. Without TLS enabled it is an error
// matching [ErrInvalidConfig]. Kafka has no such property.
// Env: KAFKAX_TLS_SERVER_NAME or, for consumers alone,
// KAFKAX_CONSUMER_TLS_SERVER_NAME; a host name.
func WithConsumerTLSServerName(name string) ConsumerOption {
	return consumerSetting("tls.server_name", "WithConsumerTLSServerName", name)
}

// WithConsumerTLSInsecureSkipVerify accepts any certificate of a broker, so
// that anybody in the middle can read and write. It is for tests.
//
// Default false. Without TLS enabled it is an error matching
// [ErrInvalidConfig]. Kafka has no such property.
// Env: KAFKAX_TLS_INSECURE_SKIP_VERIFY or, for consumers alone,
// KAFKAX_CONSUMER_TLS_INSECURE_SKIP_VERIFY; "true" or "false".
func WithConsumerTLSInsecureSkipVerify(skip bool) ConsumerOption {
	return consumerSetting("tls.insecure_skip_verify", "WithConsumerTLSInsecureSkipVerify", skip)
}

// WithConsumerTopic sets what is consumed.
//
// No default; without one, [NewConsumer] returns an error matching
// [ErrNoTopic]. A name that Kafka does not allow is an error matching
// [ErrInvalidConfig]. [NewMultiTopicConsumer] takes its topics itself. Kafka
// has no such property.
// Env: KAFKAX_CONSUMER_TOPIC, a topic.
func WithConsumerTopic(topic string) ConsumerOption {
	return consumerSetting("consumer.topic", "WithConsumerTopic", topic)
}

// WithConsumerGroupID sets the group whose members share the topic's
// partitions and its committed offsets.
//
// No default. Without it and without a partition, or with both, [NewConsumer]
// returns an error matching [ErrInvalidConfig]. Kafka: group.id.
// Env: KAFKAX_CONSUMER_GROUP_ID, a name such as "billing".
func WithConsumerGroupID(group string) ConsumerOption {
	return consumerSetting("consumer.group_id", "WithConsumerGroupID", group)
}

// WithConsumerPartition sets the partition to read without a group. Nothing is
// committed then.
//
// Default none. Negative, or together with a group, it is an error matching
// [ErrInvalidConfig]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_PARTITION, a number such as "3".
func WithConsumerPartition(partition int) ConsumerOption {
	return consumerSetting("consumer.partition", "WithConsumerPartition", partition)
}

// WithConsumerMinBytes sets how many bytes the broker collects before it
// answers a fetch, for at most the longest wait.
//
// Default 1; below 1 or above the most bytes it is an error matching
// [ErrInvalidConfig]. Kafka: fetch.min.bytes.
// Env: KAFKAX_CONSUMER_MIN_BYTES, bytes such as "65536".
func WithConsumerMinBytes(n int) ConsumerOption {
	return consumerSetting("consumer.min_bytes", "WithConsumerMinBytes", n)
}

// WithConsumerMaxBytes sets the most memory that what is fetched and not handled
// yet may take, over all partitions. Each fetch asks for a share of it. Raise it
// when handlers wait for fetches; lower it when memory is short.
//
// Default 10485760 (10 MiB); below 1 or below the least bytes it is an error
// matching [ErrInvalidConfig]. A single batch that is larger is still
// delivered. Kafka: fetch.max.bytes.
// Env: KAFKAX_CONSUMER_MAX_BYTES, bytes such as "1048576".
func WithConsumerMaxBytes(n int) ConsumerOption {
	return consumerSetting("consumer.max_bytes", "WithConsumerMaxBytes", n)
}

// WithConsumerMaxWait sets how long the broker may hold a fetch that has less
// than the least bytes.
//
// Default 500ms; below 1ms is an error matching [ErrInvalidConfig]. Kafka:
// fetch.max.wait.ms.
// Env: KAFKAX_CONSUMER_MAX_WAIT, a Go duration such as "250ms".
func WithConsumerMaxWait(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.max_wait", "WithConsumerMaxWait", d)
}

// WithConsumerStartOffset sets where to start without a committed offset:
// [StartEarliest] or [StartLatest].
//
// Default earliest; any other value is an error matching [ErrInvalidConfig].
// Kafka: auto.offset.reset.
// Env: KAFKAX_CONSUMER_START_OFFSET, "earliest" or "latest".
func WithConsumerStartOffset(offset StartOffset) ConsumerOption {
	return consumerSetting("consumer.start_offset", "WithConsumerStartOffset", offset)
}

// WithConsumerOffsetReset sets what to do when the position is not in the log:
// [ResetEarliest], [ResetLatest] or [ResetError].
//
// Default earliest; any other value is an error matching [ErrInvalidConfig].
// It is logged and counted each time. Kafka: auto.offset.reset.
// Env: KAFKAX_CONSUMER_OFFSET_RESET, "earliest", "latest" or "error".
func WithConsumerOffsetReset(reset OffsetReset) ConsumerOption {
	return consumerSetting("consumer.offset_reset", "WithConsumerOffsetReset", reset)
}

// WithConsumerIsolationLevel sets whether records of open and aborted
// transactions are delivered: [ReadUncommitted] or [ReadCommitted].
//
// Default read_uncommitted; any other value is an error matching
// [ErrInvalidConfig]. Kafka: isolation.level.
// Env: KAFKAX_CONSUMER_ISOLATION_LEVEL, "read_uncommitted" or
// "read_committed".
func WithConsumerIsolationLevel(level IsolationLevel) ConsumerOption {
	return consumerSetting("consumer.isolation_level", "WithConsumerIsolationLevel", level)
}

// WithConsumerCommitInterval sets how often handled offsets are committed.
// [Consumer.ConsumeWithManualCommit] does not wait for it. Raise it when
// commits load the brokers; lower it when what comes again after a crash is
// costly.
//
// Default 1s; 0 asks for a commit after each message, anything else below 1ms
// is an error matching [ErrInvalidConfig]. Kafka: auto.commit.interval.ms.
// Env: KAFKAX_CONSUMER_COMMIT_INTERVAL, a Go duration such as "5s".
func WithConsumerCommitInterval(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.commit_interval", "WithConsumerCommitInterval", d)
}

// WithConsumerHeartbeatInterval sets how often the group hears of this member.
//
// Default 3s; it must be below the session timeout, a third of it is usual, or
// it is an error matching [ErrInvalidConfig]. Kafka: heartbeat.interval.ms.
// Env: KAFKAX_CONSUMER_HEARTBEAT_INTERVAL, a Go duration such as "2s".
func WithConsumerHeartbeatInterval(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.heartbeat_interval", "WithConsumerHeartbeatInterval", d)
}

// WithConsumerSessionTimeout sets how long the group waits for a heartbeat
// before it drops this member and rebalances. Raise it when members are dropped
// though they live; lower it to have a dead one replaced sooner.
//
// Default 30s; it must exceed the heartbeat interval and not the rebalance
// timeout, or [NewConsumer] returns an error matching [ErrInvalidConfig].
// Kafka: session.timeout.ms.
// Env: KAFKAX_CONSUMER_SESSION_TIMEOUT, a Go duration such as "45s".
func WithConsumerSessionTimeout(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.session_timeout", "WithConsumerSessionTimeout", d)
}

// WithConsumerRebalanceTimeout sets how long a rebalance waits for its members
// to finish what they hold. Raise it when handlers are cut off in rebalances.
//
// Default 60s; below the session timeout it is an error matching
// [ErrInvalidConfig]. Kafka: max.poll.interval.ms.
// Env: KAFKAX_CONSUMER_REBALANCE_TIMEOUT, a Go duration such as "2m".
func WithConsumerRebalanceTimeout(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.rebalance_timeout", "WithConsumerRebalanceTimeout", d)
}

// WithConsumerRetentionTime sets what had an effect in older protocols: how long
// the broker keeps the group's committed offsets. Now only the brokers' own
// setting does, and a value here is warned of. It will be gone in the version
// after this.
//
// Default 0. Anything else below 1ms is an error matching [ErrInvalidConfig].
// Kafka: offsets.retention.minutes, of the broker.
// Env: KAFKAX_CONSUMER_RETENTION_TIME, a Go duration such as "168h".
func WithConsumerRetentionTime(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.retention_time", "WithConsumerRetentionTime", d)
}

// WithConsumerReadLagInterval sets how often the consumer's lag is asked for.
//
// Default 1m; below 1ms is an error matching [ErrInvalidConfig]. Kafka has no
// such property.
// Env: KAFKAX_CONSUMER_READ_LAG_INTERVAL, a Go duration such as "10s".
func WithConsumerReadLagInterval(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.read_lag_interval", "WithConsumerReadLagInterval", d)
}

// WithConsumerWatchPartitionChanges makes a member of a group look for new
// partitions of its topic.
//
// Default true. How often: [WithConsumerPartitionWatchInterval]. Kafka has no
// such property.
// Env: KAFKAX_CONSUMER_WATCH_PARTITION_CHANGES, "true" or "false".
func WithConsumerWatchPartitionChanges(watch bool) ConsumerOption {
	return consumerSetting("consumer.watch_partition_changes", "WithConsumerWatchPartitionChanges", watch)
}

// WithConsumerPartitionWatchInterval sets how often a member of a group looks
// for new partitions of its topic, and for a topic that was missing.
//
// Default 30s; below 1ms is an error matching [ErrInvalidConfig]. Kafka:
// metadata.max.age.ms.
// Env: KAFKAX_CONSUMER_PARTITION_WATCH_INTERVAL, a Go duration such as "1m".
func WithConsumerPartitionWatchInterval(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.partition_watch_interval", "WithConsumerPartitionWatchInterval", d)
}

// WithConsumerOnFailure sets what a loop does with a message that exhausted
// its attempts when there is no dead letter topic: [FailStop] or [FailSkip].
//
// Default empty: [Consumer.Consume] skips it, the other loops stop. Any other
// value is an error matching [ErrInvalidConfig]. For one loop:
// [WithOnFailure]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_ON_FAILURE, "stop" or "skip".
func WithConsumerOnFailure(policy FailurePolicy) ConsumerOption {
	return consumerSetting("consumer.on_failure", "WithConsumerOnFailure", policy)
}

// WithConsumerRetryMaxAttempts sets how often the handler is called for one
// message, counting the first.
//
// Default 10, which with the default waits takes some 33 s; below 1 is an error
// matching [ErrInvalidConfig]. Raise it when what the handler calls is away for
// longer than that. For one loop: [WithRetry]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_RETRY_MAX_ATTEMPTS, a number such as "5".
func WithConsumerRetryMaxAttempts(n int) ConsumerOption {
	return consumerSetting("consumer.retry.max_attempts", "WithConsumerRetryMaxAttempts", n)
}

// WithConsumerRetryInitialBackoff sets the wait before the handler is called a
// second time.
//
// Default 100ms; it must be above 0 and not exceed the longest backoff, or it
// is an error matching [ErrInvalidConfig]. For one loop: [WithRetry]. Kafka:
// retry.backoff.ms in kind.
// Env: KAFKAX_CONSUMER_RETRY_INITIAL_BACKOFF, a Go duration such as "1s".
func WithConsumerRetryInitialBackoff(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.retry.initial_backoff", "WithConsumerRetryInitialBackoff", d)
}

// WithConsumerRetryMaxBackoff sets the longest wait between two calls of the
// handler.
//
// Default 10s; below the first backoff it is an error matching
// [ErrInvalidConfig]. For one loop: [WithRetry]. Kafka: retry.backoff.max.ms
// in kind.
// Env: KAFKAX_CONSUMER_RETRY_MAX_BACKOFF, a Go duration such as "1m".
func WithConsumerRetryMaxBackoff(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.retry.max_backoff", "WithConsumerRetryMaxBackoff", d)
}

// WithConsumerRetryMultiplier sets how many times the wait before it each wait
// is.
//
// Default 2; from 1 to 100, or it is an error matching [ErrInvalidConfig]. For
// one loop: [WithRetry]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_RETRY_MULTIPLIER, a number such as "1.5".
func WithConsumerRetryMultiplier(factor float64) ConsumerOption {
	return consumerSetting("consumer.retry.multiplier", "WithConsumerRetryMultiplier", factor)
}

// WithConsumerRetryJitter sets the share of each wait that is random, so that
// consumers which failed together do not retry together.
//
// Default 0.2; from 0 to 1, or it is an error matching [ErrInvalidConfig]. For
// one loop: [WithRetry]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_RETRY_JITTER, a number such as "0.5".
func WithConsumerRetryJitter(share float64) ConsumerOption {
	return consumerSetting("consumer.retry.jitter", "WithConsumerRetryJitter", share)
}

// WithConsumerDLQTopic sets where messages go that exhausted their attempts.
//
// Default none: the failure policy decides. The consumed topic, or a name that
// Kafka does not allow, is an error matching [ErrInvalidConfig]. For one loop:
// [WithDLQTopic]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_DLQ_TOPIC, a topic such as "orders.dlq".
func WithConsumerDLQTopic(topic string) ConsumerOption {
	return consumerSetting("consumer.dlq_topic", "WithConsumerDLQTopic", topic)
}

// WithConsumerBatchSize sets the most messages that [Consumer.ConsumeBatch]
// hands over at once. Raise it when each call of the handler costs much,
// whatever the batch holds.
//
// Default 100; from 1 to 1000000, or it is an error matching
// [ErrInvalidConfig]. For one loop: [WithBatchSize]. Kafka: max.poll.records
// in kind.
// Env: KAFKAX_CONSUMER_BATCH_SIZE, a number such as "500".
func WithConsumerBatchSize(n int) ConsumerOption {
	return consumerSetting("consumer.batch_size", "WithConsumerBatchSize", n)
}

// WithConsumerBatchTimeout sets how long [Consumer.ConsumeBatch] waits to fill
// a batch.
//
// Default 1s; 0 or below is an error matching [ErrInvalidConfig]. For one
// loop: [WithBatchTimeout]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_BATCH_TIMEOUT, a Go duration such as "200ms".
func WithConsumerBatchTimeout(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.batch_timeout", "WithConsumerBatchTimeout", d)
}

// WithConsumerConcurrency sets how many handlers run at once. Raise it when
// handlers wait for something else most of their time.
//
// Default 1; from 1 to 10000, or it is an error matching [ErrInvalidConfig].
// For one loop: [WithConcurrency]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_CONCURRENCY, a number such as "8".
func WithConsumerConcurrency(n int) ConsumerOption {
	return consumerSetting("consumer.concurrency", "WithConsumerConcurrency", n)
}

// WithConsumerOrdering sets what stays in order when handlers run at once:
// [OrderPartition], [OrderKey] or [Unordered].
//
// Default partition; any other value is an error matching [ErrInvalidConfig].
// For one loop: [WithOrdering]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_ORDERING, "partition", "key" or "unordered".
func WithConsumerOrdering(ordering Ordering) ConsumerOption {
	return consumerSetting("consumer.ordering", "WithConsumerOrdering", ordering)
}

// WithConsumerHandlerTimeout sets how long one call of the handler may take
// before its context ends with [ErrHandlerTimeout] as the cause.
//
// Default 0: no bound. Negative is an error matching [ErrInvalidConfig]. For
// one loop: [WithHandlerTimeout]. Kafka has no such property.
// Env: KAFKAX_CONSUMER_HANDLER_TIMEOUT, a Go duration such as "30s".
func WithConsumerHandlerTimeout(d time.Duration) ConsumerOption {
	return consumerSetting("consumer.handler_timeout", "WithConsumerHandlerTimeout", d)
}

// The options below have no key: what they take only code can give.

// WithConsumerConfig starts from a whole configuration, of [LoadConsumerFromEnv]
// or [Consumer.Config], as it is or with fields changed. Values that were not
// changed keep their source in errors and in the explanation. It sets every
// key, so it goes over the keys of options before it, and options behind it go
// over its own. What has no key (loggers, TLS, SASL, the group's function) it
// sets where cfg has it, and leaves as it is elsewhere.
//
// No default. A configuration that was written as a literal is an error
// matching [ErrInvalidConfig].
func WithConsumerConfig(cfg ConsumerConfig) ConsumerOption {
	cfg = cfg.clone()
	return func(d *consumerDraft) {
		d.startOption(cfg.keys(), cfg.sources, "WithConsumerConfig", "LoadConsumerFromEnv")
		d.cfg.takeInjected(&cfg.ConnectionConfig)
		if cfg.tuneGroup != nil {
			d.cfg.tuneGroup = cfg.tuneGroup
		}
	}
}

// WithConsumerGroupConfig changes the kafka-go group's configuration after
// everything else was set and before the group is joined. What kafkax promises
// of delivery no longer holds for what the function changes.
//
// If it panics, or a balancer's ProtocolName does, the loop ends with that; if
// UserData or AssignGroups of a balancer do, that is reported and the join tried
// again. What has not returned after 5s is reported: this consumer reads nothing
// until it does, other members wait for it for session_timeout at most, and a stop
// does not wait.
//
// Default: none. Without a group it is not called. Nil is an error matching
// [ErrInvalidConfig]. Code only.
func WithConsumerGroupConfig(f func(*kafka.ConsumerGroupConfig)) ConsumerOption {
	return func(d *consumerDraft) {
		if d.accept("group", "WithConsumerGroupConfig", f) {
			d.cfg.tuneGroup = f
		}
	}
}

// WithConsumerConfigFile sets the YAML file whose keys go over the defaults and
// under the environment.
//
// Default: what KAFKAX_CONFIG_FILE names, or none. A file that is missing, not
// YAML, larger than 1 MiB or has an unknown key is an error matching
// [ErrInvalidConfig]; so is an empty path.
// Env: KAFKAX_CONFIG_FILE, a path.
func WithConsumerConfigFile(path string) ConsumerOption {
	return func(d *consumerDraft) { d.takeFile("WithConsumerConfigFile", path) }
}

// WithConsumerConfigReader sets what the YAML is read from that goes over the
// defaults and under the environment, in place of a file. It is read once, by the
// first client that is made with the option, to its end or for little more than
// 1 MiB.
//
// Default: none. What is no YAML, larger than 1 MiB or has an unknown key is an
// error matching [ErrInvalidConfig]; so is nil, what the reader fails with, and one
// that has not come to its end after 10s, which is then left to itself. Code only.
func WithConsumerConfigReader(r io.Reader) ConsumerOption {
	read := readOnce(r)
	return func(d *consumerDraft) { d.takeReader("WithConsumerConfigReader", r, read) }
}

// WithConsumerConfigSection sets which section of the YAML, of the file or the
// reader, holds kafkax's keys, as a path such as "services.kafka". Within it they
// have their usual names. What is outside belongs to others and is not judged.
//
// Default: none; the document as a whole is kafkax's. A section that is not
// there, or one without a file or reader, is an error matching
// [ErrInvalidConfig]. Code only.
func WithConsumerConfigSection(path string) ConsumerOption {
	return func(d *consumerDraft) { d.takeSection("WithConsumerConfigSection", path) }
}

// WithConsumerEnvPrefix sets what the environment variables of this consumer begin
// with, for a process whose clients differ: with "BILLING_" the brokers are
// BILLING_BROKERS or BILLING_CONSUMER_BROKERS, and the YAML file is
// BILLING_CONFIG_FILE. An underscore at the end is added where it is missing. A
// prefix that begins with KAFKAX_ makes clients with the usual one warn of unknown
// variables.
//
// Default "KAFKAX_". Anything but letters, digits and underscores is an error
// matching [ErrInvalidConfig]. Code only.
func WithConsumerEnvPrefix(prefix string) ConsumerOption {
	return func(d *consumerDraft) { d.takePrefix("WithConsumerEnvPrefix", prefix) }
}

// WithConsumerNoEnv leaves the environment out, the variable that names the YAML
// file too.
//
// Default: the environment is read. Code only.
func WithConsumerNoEnv() ConsumerOption {
	return func(d *consumerDraft) { d.dropEnv() }
}

// WithConsumerSASL sets a mechanism of your own in place of the sasl.* keys,
// which then count for nothing. It is used for every connection, so it must be
// safe for concurrent use.
//
// Default: what the sasl.* keys say. Nil is an error matching
// [ErrInvalidConfig]. Code only.
func WithConsumerSASL(mechanism sasl.Mechanism) ConsumerOption {
	return func(d *consumerDraft) {
		if d.accept("sasl", "WithConsumerSASL", mechanism) {
			d.cfg.mechanism = hideMechanism(mechanism)
		}
	}
}

// WithConsumerTLSConfig turns TLS on with a configuration of your own in place
// of the tls.* keys, which then count for nothing. It is copied.
//
// Default: what the tls.* keys say. Nil is an error matching
// [ErrInvalidConfig]. Code only.
func WithConsumerTLSConfig(cfg *tls.Config) ConsumerOption {
	return func(d *consumerDraft) {
		if d.accept("tls", "WithConsumerTLSConfig", cfg) {
			d.cfg.tlsConfig = hide(cfg.Clone())
		}
	}
}

// WithConsumerDial sets what makes a connection to a broker, in place of a TCP dial:
// for a proxy, a tunnel, or a network in memory. It gets the address as
// brokers or the cluster name it, which this process need not be able to
// resolve; TLS and SASL run over what it returns, so that must honor deadlines
// and Close as a net.Conn does. It is called from several goroutines at once,
// and its context ends with dial_timeout and with a stop; what it does after
// that holds nobody up. It makes the connections of the dead letter
// producer too.
//
// Default: net.Dialer. Nil is an error matching [ErrInvalidConfig]. Code only.
func WithConsumerDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) ConsumerOption {
	return func(d *consumerDraft) {
		if d.accept("dial", "WithConsumerDial", dial) {
			d.cfg.dial = dial
		}
	}
}

// WithConsumerLogger sets where progress is logged. It must be safe for
// concurrent use. [Consumer.SetLogger] changes it later.
//
// Default: nowhere. Nil is an error matching [ErrInvalidConfig]. Code only.
func WithConsumerLogger(logger kafka.Logger) ConsumerOption {
	return func(d *consumerDraft) {
		if d.accept("logger", "WithConsumerLogger", logger) {
			d.cfg.logger = logger
		}
	}
}

// WithConsumerErrorLogger sets where failures are logged. It must be safe for
// concurrent use. [Consumer.SetLogger] changes it later.
//
// Default: slog's default logger. Nil is an error matching [ErrInvalidConfig].
// Code only.
func WithConsumerErrorLogger(logger kafka.Logger) ConsumerOption {
	return func(d *consumerDraft) {
		if d.accept("error_logger", "WithConsumerErrorLogger", logger) {
			d.cfg.errorLogger = logger
		}
	}
}

func consumerSetting(key, option string, value any) ConsumerOption {
	text := settingText(value)
	return func(d *consumerDraft) { d.set(key, option, text) }
}
