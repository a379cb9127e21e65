package kafkax

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// configKey is one row of the configuration table: a name, a field, and what
// the field may hold. Every layer, the validation, the explanation and all
// printing go through these rows, so none can know a key that another does not.
type configKey struct {
	name   string // as in the YAML; a shared key has no side
	list   bool   // several values
	secret bool   // never shown
	path   bool   // shown if it looks like one
	unset  bool   // may be given by no layer at all; a later rule decides

	parse func(text string) (rule string) // into the field; the rule broken, or ""
	get   func() any                      // the field: bool, int, float64, string, []string, Secret or time.Duration
}

// text is the field as a layer would spell it.
func (k configKey) text() string { return settingText(k.get()) }

// kept is the field as it may be kept to be compared with: equal for equal
// values, and not the text of a secret.
func (k configKey) kept() string {
	if s, ok := k.get().(Secret); ok {
		return s.sealed
	}
	return k.text()
}

// shown is the field as anybody may see it.
func (k configKey) shown() string { return k.mask(k.text()) }

// maxShown is the most bytes of a value or a name that are shown.
const maxShown = 200

func (k configKey) mask(text string) string {
	switch {
	case k.secret && text != "", k.path && text != "" && !looksLikePath(text), holdsCredentials(text):
		return masked
	case k.list: // An address may have been given as a URL, and a password in it may have commas.
		if at := strings.LastIndexByte(text, '@'); at >= 0 {
			text = masked + text[at:]
		}
	}
	if len(text) > maxShown {
		text = text[:maxShown] + "..."
	}
	if q := strconv.Quote(text); q != `"`+text+`"` {
		return q
	}
	return text
}

// keys is what both sides share.
func (c *ConnectionConfig) keys() []configKey {
	return slices.Concat([]configKey{
		listKey("brokers", &c.Brokers, addressRule),
		stringKey("client_id", &c.ClientID, nameRule),
		durationKey("dial_timeout", &c.DialTimeout, time.Millisecond, maxKafkaTime),
		durationKey("request_timeout", &c.RequestTimeout, time.Millisecond, maxKafkaTime),
		durationKey("shutdown_timeout", &c.ShutdownTimeout, time.Millisecond, maxKafkaTime),
	}, c.SASL.keys(), c.TLS.keys())
}

func (c *SASLConfig) keys() []configKey {
	return []configKey{
		enumKey("sasl.mechanism", &c.Mechanism, SASLNone, SASLPlain, SASLScramSHA256, SASLScramSHA512),
		stringKey("sasl.username", &c.Username, nameRule),
		secretKey("sasl.password", &c.Password),
		pathKey("sasl.password_file", &c.PasswordFile),
	}
}

func (c *TLSConfig) keys() []configKey {
	return []configKey{
		boolKey("tls.enabled", &c.Enabled),
		pathKey("tls.ca_file", &c.CAFile),
		pathKey("tls.cert_file", &c.CertFile),
		pathKey("tls.key_file", &c.KeyFile),
		stringKey("tls.server_name", &c.ServerName, nameRule),
		boolKey("tls.insecure_skip_verify", &c.InsecureSkipVerify),
	}
}

func (c *ProducerConfig) keys() []configKey {
	idempotent := boolKey("producer.idempotent", &c.Idempotent)
	idempotent.unset = true // it follows required_acks

	return append(c.ConnectionConfig.keys(),
		stringKey("producer.topic", &c.Topic, topicRule),
		intKey("producer.batch_size", &c.BatchSize, 1, 1_000_000), // 152 B each are reserved
		intKey("producer.batch_bytes", &c.BatchBytes, 1, 1<<30),
		durationKey("producer.batch_timeout", &c.BatchTimeout, 1, maxKafkaTime),
		enumKey("producer.required_acks", &c.RequiredAcks, AcksAll, AcksOne, AcksNone),
		intKey("producer.max_attempts", &c.MaxAttempts, 0, math.MaxInt32),
		idempotent,
		durationKey("producer.delivery_timeout", &c.DeliveryTimeout, time.Millisecond, maxKafkaTime),
		boolKey("producer.async", &c.Async),
		enumKey("producer.compression", &c.Compression,
			CompressionNone, CompressionGzip, CompressionSnappy, CompressionLz4, CompressionZstd),
		enumKey("producer.balancer", &c.Balancer,
			BalancerMurmur2, BalancerCRC32, BalancerHash, BalancerRoundRobin, BalancerLeastBytes),
		durationKey("producer.write_timeout", &c.WriteTimeout, time.Millisecond, maxKafkaTime),
		durationKey("producer.read_timeout", &c.ReadTimeout, time.Millisecond, maxKafkaTime),
	)
}

func (c *ConsumerConfig) keys() []configKey {
	return append(c.ConnectionConfig.keys(),
		stringKey("consumer.topic", &c.Topic, topicRule),
		stringKey("consumer.group_id", &c.GroupID, nameRule),
		optionalIntKey("consumer.partition", &c.Partition, 0, math.MaxInt32),
		intKey("consumer.min_bytes", &c.MinBytes, 1, math.MaxInt32),
		intKey("consumer.max_bytes", &c.MaxBytes, 1, math.MaxInt32),
		durationKey("consumer.max_wait", &c.MaxWait, time.Millisecond, maxKafkaTime),
		enumKey("consumer.start_offset", &c.StartOffset, StartEarliest, StartLatest),
		enumKey("consumer.offset_reset", &c.OffsetReset, ResetEarliest, ResetLatest, ResetError),
		enumKey("consumer.isolation_level", &c.IsolationLevel, ReadUncommitted, ReadCommitted),
		optionalDurationKey("consumer.commit_interval", &c.CommitInterval, time.Millisecond, maxKafkaTime),
		durationKey("consumer.heartbeat_interval", &c.HeartbeatInterval, time.Millisecond, maxKafkaTime),
		durationKey("consumer.session_timeout", &c.SessionTimeout, time.Millisecond, maxKafkaTime),
		durationKey("consumer.rebalance_timeout", &c.RebalanceTimeout, time.Millisecond, maxKafkaTime),
		optionalDurationKey("consumer.retention_time", &c.RetentionTime, time.Millisecond, math.MaxInt64),
		durationKey("consumer.read_lag_interval", &c.ReadLagInterval, time.Millisecond, maxKafkaTime),
		boolKey("consumer.watch_partition_changes", &c.WatchPartitionChanges),
		durationKey("consumer.partition_watch_interval", &c.PartitionWatchInterval, time.Millisecond, maxKafkaTime),
		enumKey("consumer.on_failure", &c.OnFailure, FailDefault, FailStop, FailSkip),
		intKey("consumer.retry.max_attempts", &c.Retry.MaxAttempts, 1, math.MaxInt32),
		durationKey("consumer.retry.initial_backoff", &c.Retry.InitialBackoff, 1, maxKafkaTime),
		durationKey("consumer.retry.max_backoff", &c.Retry.MaxBackoff, 1, maxKafkaTime),
		floatKey("consumer.retry.multiplier", &c.Retry.Multiplier, 1, 100),
		floatKey("consumer.retry.jitter", &c.Retry.Jitter, 0, 1),
		stringKey("consumer.dlq_topic", &c.DLQTopic, topicRule),
		intKey("consumer.batch_size", &c.BatchSize, 1, 1_000_000),
		durationKey("consumer.batch_timeout", &c.BatchTimeout, 1, maxKafkaTime),
		intKey("consumer.concurrency", &c.Concurrency, 1, 10_000),
		enumKey("consumer.ordering", &c.Ordering, OrderPartition, OrderKey, Unordered),
		optionalDurationKey("consumer.handler_timeout", &c.HandlerTimeout, 1, maxKafkaTime),
	)
}

// knownKeys is every path a YAML file may hold: shared keys three times.
var knownKeys = sync.OnceValue(func() map[string]configKey {
	known := make(map[string]configKey)
	for side, keys := range map[string][]configKey{
		"producer.": new(ProducerConfig).keys(),
		"consumer.": new(ConsumerConfig).keys(),
	} {
		for _, k := range keys {
			known[k.name] = k
			if !strings.HasPrefix(k.name, side) {
				known[side+k.name] = k
			}
		}
	}
	return known
})

// maxKafkaTime is the longest time that Kafka's 32 bits of milliseconds hold.
const maxKafkaTime = math.MaxInt32 * time.Millisecond

// stringKey is for names: the white space around one is from the file or the
// variable it was in, as is its line's end.
func stringKey(name string, p *string, rule func(string) string) configKey {
	return configKey{
		name:  name,
		get:   func() any { return *p },
		parse: func(text string) string { *p = strings.TrimSpace(text); return rule(*p) },
	}
}

func secretKey(name string, p *Secret) configKey {
	return configKey{
		name:   name,
		secret: true,
		get:    func() any { return *p },
		parse:  func(text string) string { *p = NewSecret(text); return passwordRule(text) },
	}
}

// pathKey never shows what may be the content of a file in place of its path.
func pathKey(name string, p *string) configKey {
	k := stringKey(name, p, pathRule)
	k.path = true
	return k
}

func listKey(name string, p *[]string, rule func(string) string) configKey {
	return configKey{
		name: name,
		list: true,
		get:  func() any { return *p },
		parse: func(text string) string {
			*p = nil
			if strings.TrimSpace(text) == "" {
				return "" // none; whether that will do is another rule's
			}
			for item := range strings.SplitSeq(text, ",") {
				item = strings.TrimSpace(item)
				*p = append(*p, item)
				if broken := rule(item); broken != "" {
					return fmt.Sprintf("entry %d %s", len(*p), broken)
				}
			}
			return ""
		},
	}
}

func boolKey(name string, p *bool) configKey {
	return configKey{
		name: name,
		get:  func() any { return *p },
		parse: func(text string) (rule string) {
			v, err := strconv.ParseBool(strings.TrimSpace(text))
			if err != nil {
				return "must be true or false"
			}
			*p = v
			return ""
		},
	}
}

func intKey(name string, p *int, low, high int) configKey {
	return configKey{
		name: name,
		get:  func() any { return *p },
		parse: func(text string) string {
			v, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil || v < low || v > high {
				return fmt.Sprintf("must be a whole number from %d to %d", low, high)
			}
			*p = v
			return ""
		},
	}
}

// optionalIntKey may also be empty, for "none", which the field holds as -1.
func optionalIntKey(name string, p *int, low, high int) configKey {
	k := intKey(name, p, low, high)
	bounded := k.parse
	k.parse = func(text string) string {
		if strings.TrimSpace(text) == "" {
			*p = -1
			return ""
		}
		return bounded(text)
	}
	k.get = func() any {
		if *p == -1 {
			return ""
		}
		return *p
	}
	return k
}

func floatKey(name string, p *float64, low, high float64) configKey {
	return configKey{
		name: name,
		get:  func() any { return *p },
		parse: func(text string) string {
			v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if inside := v >= low && v <= high; err != nil || !inside { // NaN is never inside
				return fmt.Sprintf("must be a number from %v to %v", low, high)
			}
			*p = v
			return ""
		},
	}
}

func durationKey(name string, p *time.Duration, low, high time.Duration) configKey {
	return configKey{
		name: name,
		get:  func() any { return *p },
		parse: func(text string) string {
			v, err := time.ParseDuration(strings.TrimSpace(text))
			switch {
			case err != nil:
				return "must be a duration with its unit, such as 500ms, 30s or 5m"
			case v < low:
				return fmt.Sprintf("must be at least %v", low)
			case v > high:
				return fmt.Sprintf("must be at most %v", high)
			}
			*p = v
			return ""
		},
	}
}

// optionalDurationKey may also be 0, for "none".
func optionalDurationKey(name string, p *time.Duration, low, high time.Duration) configKey {
	k := durationKey(name, p, low, high)
	bounded := k.parse
	k.parse = func(text string) string {
		if v, err := time.ParseDuration(strings.TrimSpace(text)); err == nil && v == 0 {
			*p = 0
			return ""
		}
		if broken := bounded(text); broken != "" {
			return broken + ", or 0"
		}
		return ""
	}
	return k
}

// enumKey takes any case and stores the spelling of the constant.
func enumKey[T ~string](name string, p *T, allowed ...T) configKey {
	return configKey{
		name: name,
		get:  func() any { return string(*p) },
		parse: func(text string) string {
			text = strings.TrimSpace(text)
			var names []string
			for _, a := range allowed {
				if strings.EqualFold(text, string(a)) {
					*p = a
					return ""
				}
				if a != "" {
					names = append(names, string(a))
				}
			}
			rule := "must be one of " + strings.Join(names, ", ")
			if len(names) < len(allowed) {
				rule += ", or empty"
			}
			return rule
		},
	}
}

// settingText spells a typed value as the YAML and the environment do.
func settingText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []string:
		return strings.Join(v, ",")
	case Secret:
		return v.Reveal()
	case int:
		return strconv.Itoa(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	default: // bool, time.Duration and the enumerations
		return fmt.Sprint(v)
	}
}
