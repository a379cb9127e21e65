package kafkax_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"gopkg.in/yaml.v3"

	"github.com/bi-common/kafkax"
)

// sample is a key with a value that is not its default, as text and as options
// of the sides that have it.
type sample struct {
	key, text string
	producer  kafkax.ProducerOption
	consumer  kafkax.ConsumerOption
	want      any
}

func samples() []sample {
	const tick = 1500 * time.Millisecond
	return []sample{
		{"brokers", "a:1,b:2", kafkax.WithProducerBrokers("a:1", "b:2"), kafkax.WithConsumerBrokers("a:1", "b:2"), []string{"a:1", "b:2"}},
		{"client_id", "me", kafkax.WithProducerClientID("me"), kafkax.WithConsumerClientID("me"), "me"},
		{"dial_timeout", "1.5s", kafkax.WithProducerDialTimeout(tick), kafkax.WithConsumerDialTimeout(tick), tick},
		{"request_timeout", "1.5s", kafkax.WithProducerRequestTimeout(tick), kafkax.WithConsumerRequestTimeout(tick), tick},
		{"shutdown_timeout", "1500ms", kafkax.WithProducerShutdownTimeout(tick), kafkax.WithConsumerShutdownTimeout(tick), tick},
		{
			"sasl.mechanism", "SCRAM-SHA-512",
			kafkax.WithProducerSASLMechanism("SCRAM-SHA-512"), kafkax.WithConsumerSASLMechanism("SCRAM-SHA-512"), kafkax.SASLScramSHA512,
		},
		{"sasl.username", "alice", kafkax.WithProducerSASLUsername("alice"), kafkax.WithConsumerSASLUsername("alice"), "alice"},
		{"sasl.password", " p,1 ", kafkax.WithProducerSASLPassword(" p,1 "), kafkax.WithConsumerSASLPassword(" p,1 "), kafkax.NewSecret(" p,1 ")},
		{"sasl.password_file", "/p", kafkax.WithProducerSASLPasswordFile("/p"), kafkax.WithConsumerSASLPasswordFile("/p"), "/p"},
		{"tls.enabled", "true", kafkax.WithProducerTLSEnabled(true), kafkax.WithConsumerTLSEnabled(true), true},
		{"tls.ca_file", "/ca", kafkax.WithProducerTLSCAFile("/ca"), kafkax.WithConsumerTLSCAFile("/ca"), "/ca"},
		{"tls.cert_file", "/c", kafkax.WithProducerTLSCertFile("/c"), kafkax.WithConsumerTLSCertFile("/c"), "/c"},
		{"tls.key_file", "/k", kafkax.WithProducerTLSKeyFile("/k"), kafkax.WithConsumerTLSKeyFile("/k"), "/k"},
		{"tls.server_name", "n", kafkax.WithProducerTLSServerName("n"), kafkax.WithConsumerTLSServerName("n"), "n"},
		{
			"tls.insecure_skip_verify", "true",
			kafkax.WithProducerTLSInsecureSkipVerify(true), kafkax.WithConsumerTLSInsecureSkipVerify(true), true,
		},

		{"producer.topic", "t", kafkax.WithProducerTopic("t"), nil, "t"},
		{"producer.batch_size", "7", kafkax.WithProducerBatchSize(7), nil, 7},
		{"producer.batch_bytes", "4096", kafkax.WithProducerBatchBytes(4096), nil, 4096},
		{"producer.batch_timeout", "200us", kafkax.WithProducerBatchTimeout(200 * time.Microsecond), nil, 200 * time.Microsecond},
		{"producer.required_acks", "one", kafkax.WithProducerRequiredAcks("one"), nil, kafkax.AcksOne},
		{"producer.max_attempts", "4", kafkax.WithProducerMaxAttempts(4), nil, 4},
		{"producer.idempotent", "false", kafkax.WithProducerIdempotent(false), nil, false},
		{"producer.delivery_timeout", "1m", kafkax.WithProducerDeliveryTimeout(time.Minute), nil, time.Minute},
		{"producer.async", "true", kafkax.WithProducerAsync(true), nil, true},
		{"producer.compression", "zstd", kafkax.WithProducerCompression("zstd"), nil, kafkax.CompressionZstd},
		{"producer.balancer", "crc32", kafkax.WithProducerBalancer("crc32"), nil, kafkax.BalancerCRC32},
		{"producer.write_timeout", "1.5s", kafkax.WithProducerWriteTimeout(tick), nil, tick},
		{"producer.read_timeout", "1.5s", kafkax.WithProducerReadTimeout(tick), nil, tick},

		{"consumer.topic", "t", nil, kafkax.WithConsumerTopic("t"), "t"},
		{"consumer.group_id", "g", nil, kafkax.WithConsumerGroupID("g"), "g"},
		{"consumer.partition", "3", nil, kafkax.WithConsumerPartition(3), 3},
		{"consumer.min_bytes", "2", nil, kafkax.WithConsumerMinBytes(2), 2},
		{"consumer.max_bytes", "4096", nil, kafkax.WithConsumerMaxBytes(4096), 4096},
		{"consumer.max_wait", "1.5s", nil, kafkax.WithConsumerMaxWait(tick), tick},
		{"consumer.start_offset", "latest", nil, kafkax.WithConsumerStartOffset("latest"), kafkax.StartLatest},
		{"consumer.offset_reset", "error", nil, kafkax.WithConsumerOffsetReset("error"), kafkax.ResetError},
		{"consumer.isolation_level", "read_committed", nil, kafkax.WithConsumerIsolationLevel("read_committed"), kafkax.ReadCommitted},
		{"consumer.commit_interval", "1.5s", nil, kafkax.WithConsumerCommitInterval(tick), tick},
		{"consumer.heartbeat_interval", "1.5s", nil, kafkax.WithConsumerHeartbeatInterval(tick), tick},
		{"consumer.session_timeout", "45s", nil, kafkax.WithConsumerSessionTimeout(45 * time.Second), 45 * time.Second},
		{"consumer.rebalance_timeout", "2m", nil, kafkax.WithConsumerRebalanceTimeout(2 * time.Minute), 2 * time.Minute},
		{"consumer.retention_time", "2400h", nil, kafkax.WithConsumerRetentionTime(2400 * time.Hour), 2400 * time.Hour},
		{"consumer.read_lag_interval", "1.5s", nil, kafkax.WithConsumerReadLagInterval(tick), tick},
		{"consumer.watch_partition_changes", "false", nil, kafkax.WithConsumerWatchPartitionChanges(false), false},
		{"consumer.partition_watch_interval", "1.5s", nil, kafkax.WithConsumerPartitionWatchInterval(tick), tick},
		{"consumer.on_failure", "stop", nil, kafkax.WithConsumerOnFailure("stop"), kafkax.FailStop},
		{"consumer.retry.max_attempts", "5", nil, kafkax.WithConsumerRetryMaxAttempts(5), 5},
		{"consumer.retry.initial_backoff", "1.5s", nil, kafkax.WithConsumerRetryInitialBackoff(tick), tick},
		{"consumer.retry.max_backoff", "1m", nil, kafkax.WithConsumerRetryMaxBackoff(time.Minute), time.Minute},
		{"consumer.retry.multiplier", "1.25", nil, kafkax.WithConsumerRetryMultiplier(1.25), 1.25},
		{"consumer.retry.jitter", "0.1", nil, kafkax.WithConsumerRetryJitter(0.1), 0.1},
		{"consumer.dlq_topic", "dlq", nil, kafkax.WithConsumerDLQTopic("dlq"), "dlq"},
		{"consumer.batch_size", "7", nil, kafkax.WithConsumerBatchSize(7), 7},
		{"consumer.batch_timeout", "1.5s", nil, kafkax.WithConsumerBatchTimeout(tick), tick},
		{"consumer.concurrency", "8", nil, kafkax.WithConsumerConcurrency(8), 8},
		{"consumer.ordering", "key", nil, kafkax.WithConsumerOrdering("key"), kafkax.OrderKey},
		{"consumer.handler_timeout", "1.5s", nil, kafkax.WithConsumerHandlerTimeout(tick), tick},
	}
}

// TestFourSpellings holds field, YAML key, variable and option together, from
// every end.
func TestFourSpellings(t *testing.T) {
	t.Parallel()

	yamlKeys := embeddedKeys(t)
	options := optionDocs(t)
	sampled := map[string]sample{}
	for _, s := range samples() {
		sampled[s.key] = s
	}

	// Options that take what has no spelling outside of code.
	codeOnly := map[string][]string{
		"Producer": {"Config", "ConfigFile", "ConfigReader", "ConfigSection", "EnvPrefix", "NoEnv", "SASL", "TLSConfig", "Dial", "Logger", "ErrorLogger", "Completion", "Writer"},
		"Consumer": {"Config", "ConfigFile", "ConfigReader", "ConfigSection", "EnvPrefix", "NoEnv", "SASL", "TLSConfig", "Dial", "Logger", "ErrorLogger", "GroupConfig"},
	}
	for side, keys := range map[string][]string{"Producer": kafkax.ProducerKeys(), "Consumer": kafkax.ConsumerKeys()} {
		config := map[string]any{"Producer": kafkax.ProducerConfig{}, "Consumer": kafkax.ConsumerConfig{}}[side]
		paths := fieldPaths(reflect.TypeOf(config), "")
		for _, key := range keys {
			if !slices.Contains(paths, fieldPath(key)) {
				t.Errorf("%s: %sConfig has no field %s", key, side, fieldPath(key))
			}
			if comment, ok := yamlKeys[key]; !ok || comment == "" {
				t.Errorf("%s: not in kafkax-default.yaml, or without a comment", key)
			}
			name := "With" + side + optionSuffix(key)
			doc, ok := options[name]
			if !ok {
				t.Errorf("%s: no option %s", key, name)
			}
			flat := strings.Join(strings.Fields(doc), " ")
			if !strings.HasPrefix(flat, name+" ") || !strings.Contains(strings.ToLower(flat), "default") ||
				!strings.Contains(flat, "Env: "+kafkax.EnvName(key)+" ") && !strings.Contains(flat, "Env: "+kafkax.EnvName(key)+",") {
				t.Errorf("%s: the comment must begin with its name and give default and variable: %s", name, doc)
			}
			if s := sampled[key]; s.key == "" || side == "Producer" && s.producer == nil || side == "Consumer" && s.consumer == nil {
				t.Errorf("%s: no sample for %s", key, side)
			}
			delete(options, name)
		}
		for _, suffix := range codeOnly[side] {
			delete(options, "With"+side+suffix)
		}
		for _, path := range paths {
			if !slices.ContainsFunc(keys, func(k string) bool { return fieldPath(k) == path }) {
				t.Errorf("%sConfig.%s has no key", side, path)
			}
		}
	}
	for name := range options {
		if strings.HasPrefix(name, "WithProducer") || strings.HasPrefix(name, "WithConsumer") {
			t.Errorf("option %s has no key", name)
		}
	}
	for key := range yamlKeys {
		if !slices.Contains(kafkax.ProducerKeys(), key) && !slices.Contains(kafkax.ConsumerKeys(), key) {
			t.Errorf("kafkax-default.yaml has %s, which is no key", key)
		}
	}
}

// embeddedKeys is every key of the defaults with the comment over it.
func embeddedKeys(t *testing.T) map[string]string {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(kafkax.DefaultYAML(), &doc); err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	var walk func(prefix string, n *yaml.Node)
	walk = func(prefix string, n *yaml.Node) {
		for i := 0; i < len(n.Content); i += 2 {
			name := prefix + n.Content[i].Value
			if n.Content[i+1].Kind == yaml.MappingNode {
				walk(name+".", n.Content[i+1])
				continue
			}
			keys[name] = n.Content[i].HeadComment
		}
	}
	walk("", doc.Content[0])
	return keys
}

// optionDocs is every exported option of the package with its comment.
func optionDocs(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("option*.go")
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "With") {
				docs[f.Name.Name] = f.Doc.Text()
			}
		}
	}
	return docs
}

// fieldPaths lists the exported fields, those of an embedded struct in place.
func fieldPaths(typ reflect.Type, prefix string) (paths []string) {
	for f := range typ.Fields() {
		switch {
		case f.Anonymous:
			paths = append(paths, fieldPaths(f.Type, prefix)...)
		case !f.IsExported():
		case f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[kafkax.Secret]():
			paths = append(paths, fieldPaths(f.Type, prefix+f.Name+".")...)
		default:
			paths = append(paths, prefix+f.Name)
		}
	}
	return paths
}

// fieldPath is "consumer.retry.max_attempts" as Retry.MaxAttempts.
func fieldPath(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "producer."), "consumer.")
	parts := strings.Split(key, ".")
	for i, part := range parts {
		words := strings.Split(part, "_")
		for j, w := range words {
			if slices.Contains([]string{"id", "sasl", "tls", "ca", "dlq"}, w) {
				words[j] = strings.ToUpper(w)
			} else {
				words[j] = strings.ToUpper(w[:1]) + w[1:]
			}
		}
		parts[i] = strings.Join(words, "")
	}
	return strings.Join(parts, ".")
}

func optionSuffix(key string) string { return strings.ReplaceAll(fieldPath(key), ".", "") }

func field(t *testing.T, cfg any, key string) any {
	t.Helper()
	v := reflect.ValueOf(cfg)
	for name := range strings.SplitSeq(fieldPath(key), ".") {
		v = v.FieldByName(name)
	}
	if !v.IsValid() {
		t.Fatalf("%T has no field for %s", cfg, key)
	}
	return v.Interface()
}

func TestOptionsOnlyAssign(t *testing.T) {
	t.Parallel()

	brokers := []string{"a:1"}
	opt := kafkax.WithConsumerBrokers(brokers...)
	brokers[0] = "b:2"
	tlsConfig := &tls.Config{ServerName: "a"}
	r := kafkax.ResolveConsumer(minimal, opt, kafkax.WithConsumerTLSConfig(tlsConfig))
	if r.Err != nil || r.Config.Brokers[0] != "a:1" {
		t.Errorf("got %v and %v, want what the option was given", r.Config.Brokers, r.Err)
	}

	// One option may serve many resolutions, and they share nothing.
	r.Config.Brokers[0] = "c:3"
	if again := kafkax.ResolveConsumer(minimal, opt); again.Config.Brokers[0] != "a:1" {
		t.Errorf("got %v", again.Config.Brokers)
	}
}

type mechanism struct{ sasl.Mechanism }

type logger struct{}

func (*logger) Printf(string, ...any) {}

type dlqWriter struct{}

func (*dlqWriter) WriteMessages(context.Context, ...kafka.Message) error { return nil }

func TestC1_NilIsNoPanic(t *testing.T) {
	t.Parallel()

	producer := map[string]kafkax.ProducerOption{
		"option 1":      nil,
		"sasl":          kafkax.WithProducerSASL(nil),
		"sasl typed":    kafkax.WithProducerSASL((*mechanism)(nil)),
		"tls":           kafkax.WithProducerTLSConfig(nil),
		"dial":          kafkax.WithProducerDial(nil),
		"logger":        kafkax.WithProducerLogger(nil),
		"logger typed":  kafkax.WithProducerLogger((*logger)(nil)),
		"error_logger":  kafkax.WithProducerErrorLogger(kafka.LoggerFunc(nil)),
		"completion":    kafkax.WithProducerCompletion(nil),
		"writer":        kafkax.WithProducerWriter(nil),
		"config":        kafkax.WithProducerConfig(kafkax.ProducerConfig{}),
		"config_file":   kafkax.WithProducerConfigFile(""),
		"config_file 2": kafkax.WithProducerConfigFile("\x00"),
	}
	for name, opt := range producer {
		checkNil(t, kafkax.ResolveProducer(minimal, opt).Err, name)
	}
	consumer := map[string]kafkax.ConsumerOption{
		"option 1":     nil,
		"sasl":         kafkax.WithConsumerSASL(nil),
		"sasl typed":   kafkax.WithConsumerSASL((*mechanism)(nil)),
		"tls":          kafkax.WithConsumerTLSConfig(nil),
		"dial":         kafkax.WithConsumerDial(nil),
		"logger":       kafkax.WithConsumerLogger(nil),
		"error_logger": kafkax.WithConsumerErrorLogger(kafka.LoggerFunc(nil)),
		"group":        kafkax.WithConsumerGroupConfig(nil),
		"config":       kafkax.WithConsumerConfig(kafkax.ConsumerConfig{}),
		"config_file":  kafkax.WithConsumerConfigFile(""),
	}
	for name, opt := range consumer {
		checkNil(t, kafkax.ResolveConsumer(minimal, opt).Err, name)
	}
	consume := map[string]kafkax.ConsumeOption{
		"option 1":                  nil,
		"consumer.dlq_writer":       kafkax.WithDLQWriter(nil),
		"consumer.dlq_writer typed": kafkax.WithDLQWriter((*dlqWriter)(nil)),
		"consumer.on_error":         kafkax.WithOnError(nil),
	}
	base := kafkax.ResolveConsumer(minimal).Config
	for name, opt := range consume {
		_, _, _, err := kafkax.ResolveConsume(base, opt)
		checkNil(t, err, name)
	}
}

func checkNil(t *testing.T, err error, name string) {
	t.Helper()
	key := strings.TrimSuffix(strings.TrimSuffix(name, " typed"), " 2")
	if name == "option 1" {
		key = name
	}
	if got := problems(t, err); len(got) != 1 || got[0].Key != key {
		t.Errorf("%s: got %v, want one problem", name, err)
	}
}

func TestInjection(t *testing.T) {
	t.Parallel()

	want := []string{"dial", "error_logger", "logger", "sasl", "tls"}
	dial := new(net.Dialer).DialContext
	// Keys that would be wrong by themselves count for nothing beside it.
	env := environ("KAFKAX_SASL_USERNAME=alice", "KAFKAX_TLS_CA_FILE=/ca")

	p := kafkax.ResolveProducer(env,
		kafkax.WithProducerSASL(plain.Mechanism{}), kafkax.WithProducerTLSConfig(new(tls.Config)), kafkax.WithProducerDial(dial),
		kafkax.WithProducerLogger(new(logger)), kafkax.WithProducerErrorLogger(new(logger)),
		kafkax.WithProducerCompletion(func([]kafka.Message, error) {}), kafkax.WithProducerWriter(func(*kafka.Writer) {}))
	c := kafkax.ResolveConsumer(env,
		kafkax.WithConsumerSASL(plain.Mechanism{}), kafkax.WithConsumerTLSConfig(new(tls.Config)), kafkax.WithConsumerDial(dial),
		kafkax.WithConsumerLogger(new(logger)), kafkax.WithConsumerErrorLogger(new(logger)),
		kafkax.WithConsumerGroupConfig(func(*kafka.ConsumerGroupConfig) {}))

	// Once as resolved, once handed on through the whole config.
	for range 2 {
		if err := errors.Join(p.Err, c.Err); err != nil {
			t.Fatal(err)
		}
		for _, got := range [][]string{p.Config.Injected(), c.Config.Injected()} {
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		if completion, writer := p.Config.HasHooks(); !completion || !writer {
			t.Errorf("completion %v, writer %v", completion, writer)
		}
		if !c.Config.HasHooks() {
			t.Error("the group's hook is lost")
		}
		if got := explained(c.Config.Explain(), "tls"); got.Source != "option WithConsumerTLSConfig" {
			t.Errorf("got %+v", got)
		}
		p = kafkax.ResolveProducer(env, kafkax.WithProducerConfig(p.Config))
		c = kafkax.ResolveConsumer(env, kafkax.WithConsumerConfig(c.Config))
	}
}

func TestWithConfig(t *testing.T) {
	t.Parallel()

	cfg, err := kafkax.LoadProducer(environ("KAFKAX_PRODUCER_BATCH_SIZE=7"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.RequiredAcks = kafkax.AcksOne
	cfg.Async = true

	// The environment of the second resolution is under the config.
	r := kafkax.ResolveProducer([]string{"KAFKAX_PRODUCER_BATCH_SIZE=9"},
		kafkax.WithProducerAsync(false), kafkax.WithProducerConfig(cfg), kafkax.WithProducerClientID("me"))
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	for _, want := range []kafkax.Setting{
		{Key: "brokers", Value: "kafka:9092", Source: "env KAFKAX_BROKERS"},
		{Key: "producer.batch_size", Value: "7", Source: "env KAFKAX_PRODUCER_BATCH_SIZE"},
		{Key: "producer.required_acks", Value: "one", Source: "option WithProducerConfig"},
		{Key: "producer.async", Value: "true", Source: "option WithProducerConfig"},
		{Key: "producer.idempotent", Value: "false", Source: "default"}, // it follows the acks
		{Key: "client_id", Value: "me", Source: "option WithProducerClientID"},
	} {
		if got := explained(r.Config.Explain(), want.Key); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}

	cfg.BatchSize = -1
	checkRule(t, kafkax.ResolveProducer(nil, kafkax.WithProducerConfig(cfg)).Err, "producer.batch_size", "from 1 to")
	if got := problems(t, kafkax.ResolveProducer(nil, kafkax.WithProducerConfig(cfg)).Err)[0]; got.Source != "option WithProducerConfig" {
		t.Errorf("got %+v", got)
	}

	// A partition that nobody chose does not contradict a group.
	group, err := kafkax.LoadConsumer(environ("KAFKAX_CONSUMER_GROUP_ID=g"))
	if err != nil {
		t.Fatal(err)
	}
	if r := kafkax.ResolveConsumer(nil, kafkax.WithConsumerConfig(group)); r.Err != nil {
		t.Error(r.Err)
	}
	group.Partition = 2
	checkRule(t, kafkax.ResolveConsumer(nil, kafkax.WithConsumerConfig(group)).Err, "consumer.partition", "together with consumer.group_id")
}

func TestConsumeOptions(t *testing.T) {
	t.Parallel()

	r := kafkax.ResolveConsumer(environ("KAFKAX_CONSUMER_HANDLER_TIMEOUT=5s", "KAFKAX_CONSUMER_RETRY_JITTER=0.5"))
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	before := r.Config.Explain().String()

	cfg, hasWriter, hasOnError, err := kafkax.ResolveConsume(r.Config,
		kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 1, InitialBackoff: time.Millisecond, MaxBackoff: time.Second, Multiplier: 3, Jitter: 0.1}),
		kafkax.WithDLQTopic("dlq"), kafkax.WithDLQWriter(new(dlqWriter)),
		kafkax.WithOnError(func(context.Context, kafka.Message, error) {}),
		kafkax.WithOnFailure(kafkax.FailSkip), kafkax.WithConcurrency(8), kafkax.WithOrdering(kafkax.Unordered), kafkax.WithHandlerTimeout(0))
	if err != nil {
		t.Fatal(err)
	}
	if !hasWriter || !hasOnError {
		t.Errorf("writer %v, on error %v", hasWriter, hasOnError)
	}
	for key, want := range map[string]any{
		"consumer.retry.max_attempts": 1, "consumer.retry.initial_backoff": time.Millisecond,
		"consumer.retry.max_backoff": time.Second, "consumer.retry.multiplier": 3.0, "consumer.retry.jitter": 0.1,
		"consumer.dlq_topic": "dlq", "consumer.on_failure": kafkax.FailSkip, "consumer.concurrency": 8, "consumer.ordering": kafkax.Unordered,
		"consumer.handler_timeout": time.Duration(0),
	} {
		if got := field(t, cfg, key); got != want {
			t.Errorf("%s = %v, want %v", key, got, want)
		}
	}
	if got := r.Config.Explain().String(); got != before {
		t.Errorf("the base changed:\n%s", got)
	}

	batch, _, _, err := kafkax.ResolveLoop("ConsumeBatch", r.Config, kafkax.WithBatchSize(7), kafkax.WithBatchTimeout(time.Minute))
	if err != nil || batch.BatchSize != 7 || batch.BatchTimeout != time.Minute {
		t.Errorf("got %d, %v and %v", batch.BatchSize, batch.BatchTimeout, err)
	}

	partial, _, _, err := kafkax.ResolveConsume(r.Config, kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 9, Jitter: 0.5}))
	want := kafkax.RetryConfig{MaxAttempts: 9, InitialBackoff: 100 * time.Millisecond, MaxBackoff: 10 * time.Second, Multiplier: 2, Jitter: 0.5}
	if err != nil || partial.Retry != want {
		t.Errorf("got %+v and %v, want %+v", partial.Retry, err, want)
	}
}

func TestC1_ConsumeOptions(t *testing.T) {
	t.Parallel()

	base := kafkax.ResolveConsumer(minimal).Config
	tests := []struct {
		name   string
		opt    kafkax.ConsumeOption
		key    string
		source string
	}{
		{"dlq is the topic", kafkax.WithDLQTopic("orders"), "consumer.dlq_topic", "WithDLQTopic"},
		{"policy", kafkax.WithOnFailure("panic"), "consumer.on_failure", "WithOnFailure"},
		{"batch size", kafkax.WithBatchSize(0), "consumer.batch_size", "WithBatchSize"},
		{"batch timeout", kafkax.WithBatchTimeout(-1), "consumer.batch_timeout", "WithBatchTimeout"},
		{"concurrency", kafkax.WithConcurrency(-1), "consumer.concurrency", "WithConcurrency"},
		{"ordering", kafkax.WithOrdering("total"), "consumer.ordering", "WithOrdering"},
		{"handler timeout", kafkax.WithHandlerTimeout(-1), "consumer.handler_timeout", "WithHandlerTimeout"},
		{"attempts", kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: -1}), "consumer.retry.max_attempts", "WithRetry"},
		{"backoff", kafkax.WithRetry(kafkax.RetryConfig{InitialBackoff: time.Minute}), "consumer.retry.initial_backoff", "WithRetry"},
		{"jitter", kafkax.WithRetry(kafkax.RetryConfig{Jitter: 2}), "consumer.retry.jitter", "WithRetry"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, _, err := kafkax.ResolveConsume(base, tt.opt)
			got := problems(t, fmt.Errorf("consume: %w", err))
			if len(got) != 1 || got[0].Key != tt.key || got[0].Source != "option "+tt.source {
				t.Errorf("got %v, want %s from %s", err, tt.key, tt.source)
			}
		})
	}
}

// A whole configuration goes over the keys of options before it, and over what
// has no key only where it has that itself.
func TestWholeConfigurationAfterOptions(t *testing.T) {
	t.Parallel()
	logger := kafka.LoggerFunc(func(string, ...any) {})
	tests := []struct {
		name string
		from []kafkax.ConsumerOption // of the whole configuration
		want []string
	}{
		{"without_loggers", nil, []string{"logger"}},
		{"with_one", []kafkax.ConsumerOption{kafkax.WithConsumerErrorLogger(logger)}, []string{"error_logger", "logger"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			basis := []kafkax.ConsumerOption{
				kafkax.WithConsumerBrokers("localhost:9092"), kafkax.WithConsumerTopic("whole"), kafkax.WithConsumerGroupID("g"),
			}
			whole := kafkax.ResolveConsumer(nil, append(basis, tt.from...)...)
			r := kafkax.ResolveConsumer(nil, kafkax.WithConsumerTopic("before"), kafkax.WithConsumerLogger(logger),
				kafkax.WithConsumerConfig(whole.Config), kafkax.WithConsumerMaxBytes(1<<20))
			if err := errors.Join(whole.Err, r.Err); err != nil {
				t.Fatal(err)
			}
			if r.Config.Topic != "whole" || r.Config.MaxBytes != 1<<20 {
				t.Errorf("topic %q, max_bytes %d", r.Config.Topic, r.Config.MaxBytes)
			}
			if got := slices.Sorted(slices.Values(r.Config.Injected())); !slices.Equal(got, tt.want) {
				t.Errorf("it has %v, want %v", got, tt.want)
			}
		})
	}
}

// An option that a loop has no use for is a mistake; a key is for all loops.
func TestC1_OptionsWithoutEffect(t *testing.T) {
	t.Parallel()

	options := map[string]kafkax.ConsumeOption{
		"WithRetry": kafkax.WithRetry(kafkax.RetryConfig{MaxAttempts: 2}), "WithDLQTopic": kafkax.WithDLQTopic("dlq"),
		"WithDLQWriter": kafkax.WithDLQWriter(new(dlqWriter)), "WithOnError": kafkax.WithOnError(func(context.Context, kafka.Message, error) {}),
		"WithOnFailure": kafkax.WithOnFailure(kafkax.FailSkip), "WithBatchSize": kafkax.WithBatchSize(7), "WithBatchTimeout": kafkax.WithBatchTimeout(1),
		"WithConcurrency": kafkax.WithConcurrency(8), "WithOrdering": kafkax.WithOrdering(kafkax.OrderKey), "WithHandlerTimeout": kafkax.WithHandlerTimeout(1),
	}
	without := map[string][]string{ // by loop
		"Consume": {"WithBatchSize", "WithBatchTimeout"}, "ConsumeWithManualCommit": {"WithBatchSize", "WithBatchTimeout"},
		"ConsumeBatch": {"WithOrdering"},
	}
	for name := range optionDocs(t) {
		_, known := options[name]
		if !known && !strings.HasPrefix(name, "WithProducer") && !strings.HasPrefix(name, "WithConsumer") {
			t.Errorf("%s: say which loops have a use for it", name)
		}
	}

	// The consumer's keys say all of it, and are legal in every loop.
	keys := kafkax.ResolveConsumer(minimal, kafkax.WithConsumerBatchSize(7), kafkax.WithConsumerBatchTimeout(1), kafkax.WithConsumerOrdering("key"))
	base := kafkax.ResolveConsumer(minimal)
	if err := errors.Join(keys.Err, base.Err); err != nil {
		t.Fatal(err)
	}
	for loop, useless := range without {
		if _, _, _, err := kafkax.ResolveLoop(loop, keys.Config); err != nil {
			t.Errorf("%s: the keys are refused: %v", loop, err)
		}
		for name, option := range options {
			_, _, _, err := kafkax.ResolveLoop(loop, base.Config, option)
			if !slices.Contains(useless, name) {
				if err != nil {
					t.Errorf("%s of %s: %v", name, loop, err)
				}
				continue
			}
			got := problems(t, err)
			if len(got) != 1 || got[0].Source != "option "+name || !strings.Contains(got[0].Rule, name+" has no effect in "+loop+",") {
				t.Errorf("%s of %s: got %v", name, loop, err)
			}
		}
	}

	// The loops themselves know their names.
	c, err := kafkax.NewConsumer(kafkax.WithConsumerConfig(base.Config))
	if err != nil {
		t.Fatal(err)
	}
	m, err := kafkax.NewMultiTopicConsumer([]string{"a", "b"}, kafkax.WithConsumerConfig(base.Config))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), m.Close() })
	handle := func(context.Context, kafka.Message) error { return nil }
	handlers := map[string]kafkax.Handler{"a": handle, "b": handle}
	size, ordering := kafkax.WithBatchSize(7), kafkax.WithOrdering(kafkax.OrderKey)
	for loop, err := range map[string]error{
		"Consume,":                  c.Consume(t.Context(), handle, size),
		"ConsumeWithManualCommit,":  c.ConsumeWithManualCommit(t.Context(), handle, size),
		"ConsumeBatch,":             c.ConsumeBatch(t.Context(), func(context.Context, []kafka.Message) error { return nil }, ordering),
		"Consume, ":                 m.Consume(t.Context(), handlers, size),
		"ConsumeWithManualCommit, ": m.ConsumeWithManualCommit(t.Context(), handlers, size),
	} {
		if got := problems(t, err); len(got) != 1 || !strings.Contains(got[0].Rule, " has no effect in "+strings.TrimSpace(loop)) {
			t.Errorf("%s: got %v", loop, err)
		}
	}
}
