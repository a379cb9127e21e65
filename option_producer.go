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

// WithProducerBrokers sets the addresses, host:port, of which one must answer
// to find the rest of the cluster. They replace those of other layers.
//
// No default; without any, [NewProducer] returns an error matching
// [ErrNoBrokers]. Kafka: bootstrap.servers.
// Env: KAFKAX_BROKERS or, for producers alone, KAFKAX_PRODUCER_BROKERS;
// addresses with commas between, such as "kafka-1:9092,kafka-2:9092".
func WithProducerBrokers(brokers ...string) ProducerOption {
	return producerSetting("brokers", "WithProducerBrokers", brokers)
}

// WithProducerClientID sets the name that the brokers' logs, metrics and
// quotas know this client by.
//
// Default "kafkax"; more than 32767 bytes, or control characters inside, are an
// error matching [ErrInvalidConfig]. Kafka: client.id.
// Env: KAFKAX_CLIENT_ID or, for producers alone, KAFKAX_PRODUCER_CLIENT_ID; a
// name such as "billing".
func WithProducerClientID(id string) ProducerOption {
	return producerSetting("client_id", "WithProducerClientID", id)
}

// WithProducerDialTimeout sets how long one connection's dial, TLS handshake
// and SASL exchange may take together.
//
// Default 10s; below 1ms is an error matching [ErrInvalidConfig]. Kafka:
// socket.connection.setup.timeout.ms.
// Env: KAFKAX_DIAL_TIMEOUT or, for producers alone,
// KAFKAX_PRODUCER_DIAL_TIMEOUT; a Go duration such as "5s".
func WithProducerDialTimeout(d time.Duration) ProducerOption {
	return producerSetting("dial_timeout", "WithProducerDialTimeout", d)
}

// WithProducerRequestTimeout sets how long a broker may be silent while a
// request is under way. Each byte that leaves or arrives starts it anew, so it
// does not bound what is large on a slow line. For a producer write_timeout
// counts if it is less, as it is by default: raise both when brokers are slow to
// answer; lower either to find sooner that one is gone.
//
// Default 30s; below 1ms is an error matching [ErrInvalidConfig]. Kafka:
// request.timeout.ms.
// Env: KAFKAX_REQUEST_TIMEOUT or, for producers alone,
// KAFKAX_PRODUCER_REQUEST_TIMEOUT; a Go duration such as "10s".
func WithProducerRequestTimeout(d time.Duration) ProducerOption {
	return producerSetting("request_timeout", "WithProducerRequestTimeout", d)
}

// WithProducerShutdownTimeout sets how long [Producer.Close] may take before it
// cuts off what has not finished and names it in its error. Raise it when what
// is buffered may need longer, and what ends the process
// (terminationGracePeriodSeconds) with it.
//
// Default 30s; below 1ms is an error matching [ErrInvalidConfig].
// [Producer.GracefulShutdown] is bounded by its context instead. Kafka has no
// such property.
// Env: KAFKAX_SHUTDOWN_TIMEOUT or, for producers alone,
// KAFKAX_PRODUCER_SHUTDOWN_TIMEOUT; a Go duration such as "20s".
func WithProducerShutdownTimeout(d time.Duration) ProducerOption {
	return producerSetting("shutdown_timeout", "WithProducerShutdownTimeout", d)
}

// WithProducerSASLMechanism sets how the client proves who it is: [SASLPlain],
// [SASLScramSHA256] or [SASLScramSHA512].
//
// Default none. It needs a username and either a password or a password file,
// or [NewProducer] returns an error matching [ErrInvalidConfig]. Any other
// mechanism: [WithProducerSASL]. Kafka: sasl.mechanism.
// Env: KAFKAX_SASL_MECHANISM or, for producers alone,
// KAFKAX_PRODUCER_SASL_MECHANISM; a name such as "SCRAM-SHA-512".
func WithProducerSASLMechanism(mechanism SASLMechanism) ProducerOption {
	return producerSetting("sasl.mechanism", "WithProducerSASLMechanism", mechanism)
}

// WithProducerSASLUsername sets the name to log in with.
//
// Default none. Without a mechanism it is an error matching
// [ErrInvalidConfig]. Kafka: sasl.jaas.config, username.
// Env: KAFKAX_SASL_USERNAME or, for producers alone,
// KAFKAX_PRODUCER_SASL_USERNAME; a name.
func WithProducerSASLUsername(username string) ProducerOption {
	return producerSetting("sasl.username", "WithProducerSASLUsername", username)
}

// WithProducerSASLPassword sets the password to log in with. It becomes a
// [Secret], which nothing prints.
//
// Default none. Without a mechanism, together with a password file, or with
// control characters in it, it is an error matching [ErrInvalidConfig]. Kafka: sasl.jaas.config, password.
// Env: KAFKAX_SASL_PASSWORD or, for producers alone,
// KAFKAX_PRODUCER_SASL_PASSWORD; a password.
func WithProducerSASLPassword(password string) ProducerOption {
	return producerSetting("sasl.password", "WithProducerSASLPassword", password)
}

// WithProducerSASLPasswordFile sets the file that holds the password. It is
// read anew for each connection, so a rotation needs no restart.
//
// Default none. Without a mechanism, or together with a password, it is an
// error matching [ErrInvalidConfig]. Kafka has no such property.
// Env: KAFKAX_SASL_PASSWORD_FILE or, for producers alone,
// KAFKAX_PRODUCER_SASL_PASSWORD_FILE; a path such as "/run/secrets/kafka".
func WithProducerSASLPasswordFile(path string) ProducerOption {
	return producerSetting("sasl.password_file", "WithProducerSASLPasswordFile", path)
}

// WithProducerTLSEnabled turns the encryption of connections on or off.
//
// Default false. Any other TLS value needs it, or is an error matching
// [ErrInvalidConfig]. A whole configuration of your own:
// [WithProducerTLSConfig]. Kafka: security.protocol, SSL and SASL_SSL.
// Env: KAFKAX_TLS_ENABLED or, for producers alone,
// KAFKAX_PRODUCER_TLS_ENABLED; "true" or "false".
func WithProducerTLSEnabled(enabled bool) ProducerOption {
	return producerSetting("tls.enabled", "WithProducerTLSEnabled", enabled)
}

// WithProducerTLSCAFile sets the PEM file with the authorities that may sign a
// broker's certificate. It is read again when it changes.
//
// Default none: the system's authorities. Without TLS enabled it is an error
// matching [ErrInvalidConfig]. Kafka: ssl.truststore.location.
// Env: KAFKAX_TLS_CA_FILE or, for producers alone,
// KAFKAX_PRODUCER_TLS_CA_FILE; a path such as "/etc/kafka/ca.pem".
func WithProducerTLSCAFile(path string) ProducerOption {
	return producerSetting("tls.ca_file", "WithProducerTLSCAFile", path)
}

// WithProducerTLSCertFile sets the PEM file with the client's certificate, for
// mutual TLS. It is read again when it changes.
//
// Default none. Without a key file, or without TLS enabled, it is an error
// matching [ErrInvalidConfig]. Kafka: ssl.keystore.location.
// Env: KAFKAX_TLS_CERT_FILE or, for producers alone,
// KAFKAX_PRODUCER_TLS_CERT_FILE; a path such as "/etc/kafka/client.pem".
func WithProducerTLSCertFile(path string) ProducerOption {
	return producerSetting("tls.cert_file", "WithProducerTLSCertFile", path)
}

// WithProducerTLSKeyFile sets the PEM file with the key of the client's
// certificate. It is read again when it changes.
//
// Default none. Without a certificate file, or without TLS enabled, it is an
// error matching [ErrInvalidConfig]. Kafka: ssl.keystore.key.
// Env: KAFKAX_TLS_KEY_FILE or, for producers alone,
// KAFKAX_PRODUCER_TLS_KEY_FILE; a path such as "/etc/kafka/client.key".
func WithProducerTLSKeyFile(path string) ProducerOption {
	return producerSetting("tls.key_file", "WithProducerTLSKeyFile", path)
}

// WithProducerTLSServerName sets the name that a broker's certificate must
// have.
//
// Default none: the host that is dialled. Without TLS enabled it is an error
// matching [ErrInvalidConfig]. Kafka has no such property.
// Env: KAFKAX_TLS_SERVER_NAME or, for producers alone,
// KAFKAX_PRODUCER_TLS_SERVER_NAME; a host name.
func WithProducerTLSServerName(name string) ProducerOption {
	return producerSetting("tls.server_name", "WithProducerTLSServerName", name)
}

// WithProducerTLSInsecureSkipVerify accepts any certificate of a broker, so
// that anybody in the middle can read and write. It is for tests.
//
// Default false. Without TLS enabled it is an error matching
// [ErrInvalidConfig]. Kafka has no such property.
// Env: KAFKAX_TLS_INSECURE_SKIP_VERIFY or, for producers alone,
// KAFKAX_PRODUCER_TLS_INSECURE_SKIP_VERIFY; "true" or "false".
func WithProducerTLSInsecureSkipVerify(skip bool) ProducerOption {
	return producerSetting("tls.insecure_skip_verify", "WithProducerTLSInsecureSkipVerify", skip)
}

// WithProducerTopic sets where messages go that name no topic themselves.
//
// Default none: each message must name its own, or its send returns an error
// matching [ErrNoTopic]. A name that Kafka does not allow is an error matching
// [ErrInvalidConfig]. Kafka has no such property.
// Env: KAFKAX_PRODUCER_TOPIC, a topic.
func WithProducerTopic(topic string) ProducerOption {
	return producerSetting("producer.topic", "WithProducerTopic", topic)
}

// WithProducerBatchSize sets the most messages of one request to a partition.
//
// Default 100; from 1 to 1000000, or it is an error matching
// [ErrInvalidConfig]. Each batch reserves 152 bytes for every one of them.
// Kafka has no such property.
// Env: KAFKAX_PRODUCER_BATCH_SIZE, a number such as "1000".
func WithProducerBatchSize(n int) ProducerOption {
	return producerSetting("producer.batch_size", "WithProducerBatchSize", n)
}

// WithProducerBatchBytes sets the most bytes of one request to a partition,
// before compression. A larger message is not sent. Raise it when messages are
// refused for their size.
//
// Default 1048576 (1 MiB); from 1 to 1073741824, or it is an error matching
// [ErrInvalidConfig]. The topic's max.message.bytes must allow it. Kafka:
// max.request.size and batch.size.
// Env: KAFKAX_PRODUCER_BATCH_BYTES, bytes such as "524288".
func WithProducerBatchBytes(n int) ProducerOption {
	return producerSetting("producer.batch_bytes", "WithProducerBatchBytes", n)
}

// WithProducerBatchTimeout sets how long a batch that is not full waits for
// more messages. Raise it when many small requests load the brokers and a send
// may take longer.
//
// Default 1ms; 0 or below is an error matching [ErrInvalidConfig]. A lone
// synchronous send waits that long too. Kafka: linger.ms.
// Env: KAFKAX_PRODUCER_BATCH_TIMEOUT, a Go duration such as "5ms".
func WithProducerBatchTimeout(d time.Duration) ProducerOption {
	return producerSetting("producer.batch_timeout", "WithProducerBatchTimeout", d)
}

// WithProducerRequiredAcks sets who must have a message before its send
// succeeds: [AcksAll], [AcksOne] or [AcksNone].
//
// Default all; any other value is an error matching [ErrInvalidConfig].
// Idempotence needs all, and is off without unless it was asked for. Kafka:
// acks.
// Env: KAFKAX_PRODUCER_REQUIRED_ACKS, "all", "one" or "none".
func WithProducerRequiredAcks(acks Acks) ProducerOption {
	return producerSetting("producer.required_acks", "WithProducerRequiredAcks", acks)
}

// WithProducerMaxAttempts sets how often a message is tried, counting the
// first.
//
// Default 0: as often as the delivery timeout allows. Negative is an error
// matching [ErrInvalidConfig]. Kafka: retries, plus one.
// Env: KAFKAX_PRODUCER_MAX_ATTEMPTS, a number such as "5".
func WithProducerMaxAttempts(n int) ProducerOption {
	return producerSetting("producer.max_attempts", "WithProducerMaxAttempts", n)
}

// WithProducerIdempotent lets brokers recognise a batch that is sent again, so
// that a retry neither doubles a message nor changes the order.
//
// Default true with acks from all replicas, else false; asking for it without
// those is an error matching [ErrInvalidConfig]. Kafka: enable.idempotence.
// Env: KAFKAX_PRODUCER_IDEMPOTENT, "true" or "false".
func WithProducerIdempotent(idempotent bool) ProducerOption {
	return producerSetting("producer.idempotent", "WithProducerIdempotent", idempotent)
}

// WithProducerDeliveryTimeout sets how long a message may be on its way,
// retries included. A send that exceeds it fails, with an error matching
// [ErrOutcomeUnknown] if it was in flight. Raise it when an outage of the
// cluster must be outlasted; lower it when whoever waits for the send gives up
// sooner.
//
// Default 120s; below the write timeout it is an error matching
// [ErrInvalidConfig]. Kafka: delivery.timeout.ms.
// Env: KAFKAX_PRODUCER_DELIVERY_TIMEOUT, a Go duration such as "30s".
func WithProducerDeliveryTimeout(d time.Duration) ProducerOption {
	return producerSetting("producer.delivery_timeout", "WithProducerDeliveryTimeout", d)
}

// WithProducerAsync makes sends return before anything is sent. Failures then
// reach the function of [WithProducerCompletion], or the log.
//
// Default false. Kafka has no such property.
// Env: KAFKAX_PRODUCER_ASYNC, "true" or "false".
func WithProducerAsync(async bool) ProducerOption {
	return producerSetting("producer.async", "WithProducerAsync", async)
}

// WithProducerCompression sets the codec of batches: [CompressionNone],
// [CompressionGzip], [CompressionSnappy], [CompressionLz4] or
// [CompressionZstd].
//
// Default snappy; any other value is an error matching [ErrInvalidConfig].
// Kafka: compression.type.
// Env: KAFKAX_PRODUCER_COMPRESSION, a codec such as "zstd".
func WithProducerCompression(codec Compression) ProducerOption {
	return producerSetting("producer.compression", "WithProducerCompression", codec)
}

// WithProducerBalancer sets how a message's partition is chosen:
// [BalancerMurmur2], [BalancerCRC32], [BalancerHash], [BalancerRoundRobin] or
// [BalancerLeastBytes].
//
// Default murmur2, the Java client's; any other value is an error matching
// [ErrInvalidConfig]. All clients that write a topic by key must use the same.
// Kafka: partitioner.class.
// Env: KAFKAX_PRODUCER_BALANCER, a balancer such as "crc32".
func WithProducerBalancer(balancer Balancer) ProducerOption {
	return producerSetting("producer.balancer", "WithProducerBalancer", balancer)
}

// WithProducerWriteTimeout sets how long a broker may be silent to a producer,
// if that is less than request_timeout: no byte of a request leaves, and none of
// its answer arrives. Then the try has failed, and the batch is sent again. How
// long a batch takes to arrive is bounded by delivery_timeout alone. A leader has
// half of it to hear from its replicas: raise it, and request_timeout if need
// be, when these are slow.
//
// Default 10s; below 1ms is an error matching [ErrInvalidConfig], as is a
// delivery timeout below it. Kafka has no such property.
// Env: KAFKAX_PRODUCER_WRITE_TIMEOUT, a Go duration such as "5s".
func WithProducerWriteTimeout(d time.Duration) ProducerOption {
	return producerSetting("producer.write_timeout", "WithProducerWriteTimeout", d)
}

// WithProducerReadTimeout sets how long one look-up may take, of a topic or for
// a producer id, and the connecting for it. It is then made again, as long as
// delivery_timeout allows. Nothing large is bounded by it.
//
// Default 10s; below 1ms is an error matching [ErrInvalidConfig]. Kafka has no
// such property.
// Env: KAFKAX_PRODUCER_READ_TIMEOUT, a Go duration such as "5s".
func WithProducerReadTimeout(d time.Duration) ProducerOption {
	return producerSetting("producer.read_timeout", "WithProducerReadTimeout", d)
}

// The options below have no key: what they take only code can give.

// WithProducerConfig starts from a whole configuration, of [LoadProducerFromEnv]
// or [Producer.Config], as it is or with fields changed. Values that were not
// changed keep their source in errors and in the explanation. It sets every
// key, so it goes over the keys of options before it, and options behind it go
// over its own. What has no key (loggers, TLS, SASL, completion, the writer's
// function) it sets where cfg has it, and leaves as it is elsewhere.
//
// No default. A configuration that was written as a literal is an error
// matching [ErrInvalidConfig].
func WithProducerConfig(cfg ProducerConfig) ProducerOption {
	cfg = cfg.clone()
	return func(d *producerDraft) {
		d.startOption(cfg.keys(), cfg.sources, "WithProducerConfig", "LoadProducerFromEnv")
		d.cfg.takeInjected(&cfg.ConnectionConfig)
		if cfg.completion != nil {
			d.cfg.completion = cfg.completion
		}
		if cfg.tuneWriter != nil {
			d.cfg.tuneWriter = cfg.tuneWriter
		}
	}
}

// WithProducerCompletion sets what is called when messages were sent or given
// up: with their partitions and offsets, or with the error. With async sends it
// is the only way to learn of either.
//
// For one partition it is called with one batch after the other, in the order
// in which their outcomes came; for several partitions at once, so it must be
// safe for concurrent use. Nothing but the calls behind it waits for it, whatever
// it does: a panic is logged, and it may send or close the producer. A
// synchronous send returns when it was called, or 100ms after the outcome if it
// has not returned by then. While 4 MiB of a partition's messages wait for it,
// sends to that partition wait too, as long as their context and
// delivery_timeout allow. Close waits for it within its bound; what it was not
// told of then is in the [ShutdownError] and in the error log.
//
// Default: none; failures of async sends go to the error logger. Nil is an error
// matching [ErrInvalidConfig]. Code only.
func WithProducerCompletion(f func(messages []kafka.Message, err error)) ProducerOption {
	return func(d *producerDraft) {
		if d.accept("completion", "WithProducerCompletion", f) {
			d.cfg.completion = f
		}
	}
}

// WithProducerWriter changes the kafka-go writer after everything else was set
// and before the first send. What kafkax promises of delivery no longer holds
// for what the function changes. The Writer's WriteTimeout, which outlasts
// delivery_timeout, bounds a whole batch, retries included. A Balancer that panics, or chooses a partition
// that does not exist, fails that message at once; while it does not return, its
// own call waits, until the context or delivery_timeout ends it.
//
// Default: none. A function that panics or has not returned after 10s, a
// BatchSize above 1000000 and nil are errors matching [ErrInvalidConfig]. Code
// only.
func WithProducerWriter(f func(*kafka.Writer)) ProducerOption {
	return func(d *producerDraft) {
		if d.accept("writer", "WithProducerWriter", f) {
			d.cfg.tuneWriter = f
		}
	}
}

// WithProducerConfigFile sets the YAML file whose keys go over the defaults and
// under the environment.
//
// Default: what KAFKAX_CONFIG_FILE names, or none. A file that is missing, not
// YAML, larger than 1 MiB or has an unknown key is an error matching
// [ErrInvalidConfig]; so is an empty path.
// Env: KAFKAX_CONFIG_FILE, a path.
func WithProducerConfigFile(path string) ProducerOption {
	return func(d *producerDraft) { d.takeFile("WithProducerConfigFile", path) }
}

// WithProducerConfigReader sets what the YAML is read from that goes over the
// defaults and under the environment, in place of a file. It is read once, by the
// first client that is made with the option, to its end or for little more than
// 1 MiB.
//
// Default: none. What is no YAML, larger than 1 MiB or has an unknown key is an
// error matching [ErrInvalidConfig]; so is nil, what the reader fails with, and one
// that has not come to its end after 10s, which is then left to itself. Code only.
func WithProducerConfigReader(r io.Reader) ProducerOption {
	read := readOnce(r)
	return func(d *producerDraft) { d.takeReader("WithProducerConfigReader", r, read) }
}

// WithProducerConfigSection sets which section of the YAML, of the file or the
// reader, holds kafkax's keys, as a path such as "services.kafka". Within it they
// have their usual names. What is outside belongs to others and is not judged.
//
// Default: none; the document as a whole is kafkax's. A section that is not
// there, or one without a file or reader, is an error matching
// [ErrInvalidConfig]. Code only.
func WithProducerConfigSection(path string) ProducerOption {
	return func(d *producerDraft) { d.takeSection("WithProducerConfigSection", path) }
}

// WithProducerEnvPrefix sets what the environment variables of this producer begin
// with, for a process whose clients differ: with "BILLING_" the brokers are
// BILLING_BROKERS or BILLING_PRODUCER_BROKERS, and the YAML file is
// BILLING_CONFIG_FILE. An underscore at the end is added where it is missing. A
// prefix that begins with KAFKAX_ makes clients with the usual one warn of unknown
// variables.
//
// Default "KAFKAX_". Anything but letters, digits and underscores is an error
// matching [ErrInvalidConfig]. Code only.
func WithProducerEnvPrefix(prefix string) ProducerOption {
	return func(d *producerDraft) { d.takePrefix("WithProducerEnvPrefix", prefix) }
}

// WithProducerNoEnv leaves the environment out, the variable that names the YAML
// file too.
//
// Default: the environment is read. Code only.
func WithProducerNoEnv() ProducerOption {
	return func(d *producerDraft) { d.dropEnv() }
}

// WithProducerSASL sets a mechanism of your own in place of the sasl.* keys,
// which then count for nothing. It is used for every connection, so it must be
// safe for concurrent use.
//
// Default: what the sasl.* keys say. Nil is an error matching
// [ErrInvalidConfig]. Code only.
func WithProducerSASL(mechanism sasl.Mechanism) ProducerOption {
	return func(d *producerDraft) {
		if d.accept("sasl", "WithProducerSASL", mechanism) {
			d.cfg.mechanism = hideMechanism(mechanism)
		}
	}
}

// WithProducerTLSConfig turns TLS on with a configuration of your own in place
// of the tls.* keys, which then count for nothing. It is copied.
//
// Default: what the tls.* keys say. Nil is an error matching
// [ErrInvalidConfig]. Code only.
func WithProducerTLSConfig(cfg *tls.Config) ProducerOption {
	return func(d *producerDraft) {
		if d.accept("tls", "WithProducerTLSConfig", cfg) {
			d.cfg.tlsConfig = hide(cfg.Clone())
		}
	}
}

// WithProducerDial sets what makes a connection to a broker, in place of a TCP dial:
// for a proxy, a tunnel, or a network in memory. It gets the address as
// brokers or the cluster name it, which this process need not be able to
// resolve; TLS and SASL run over what it returns, so that must honor deadlines
// and Close as a net.Conn does. It is called from several goroutines at once,
// and its context ends with dial_timeout and with a stop; what it does after
// that holds nobody up.
//
// Default: net.Dialer. Nil is an error matching [ErrInvalidConfig]. Code only.
func WithProducerDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) ProducerOption {
	return func(d *producerDraft) {
		if d.accept("dial", "WithProducerDial", dial) {
			d.cfg.dial = dial
		}
	}
}

// WithProducerLogger sets where progress is logged. It must be safe for
// concurrent use. [Producer.SetLogger] changes it later.
//
// Default: nowhere. Nil is an error matching [ErrInvalidConfig]. Code only.
func WithProducerLogger(logger kafka.Logger) ProducerOption {
	return func(d *producerDraft) {
		if d.accept("logger", "WithProducerLogger", logger) {
			d.cfg.logger = logger
		}
	}
}

// WithProducerErrorLogger sets where failures are logged. It must be safe for
// concurrent use. [Producer.SetLogger] changes it later.
//
// Default: slog's default logger. Nil is an error matching [ErrInvalidConfig].
// Code only.
func WithProducerErrorLogger(logger kafka.Logger) ProducerOption {
	return func(d *producerDraft) {
		if d.accept("error_logger", "WithProducerErrorLogger", logger) {
			d.cfg.errorLogger = logger
		}
	}
}

func producerSetting(key, option string, value any) ProducerOption {
	text := settingText(value)
	return func(d *producerDraft) { d.set(key, option, text) }
}
