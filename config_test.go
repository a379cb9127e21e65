package kafkax_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/plain"
	"gopkg.in/yaml.v3"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxpb"
)

var updateGolden = flag.Bool("update-golden", false, "write testdata/*.golden anew")

// minimal is an environment that both sides accept.
var minimal = []string{
	"KAFKAX_BROKERS=kafka:9092", "KAFKAX_PRODUCER_TOPIC=orders", "KAFKAX_CONSUMER_TOPIC=orders", "KAFKAX_CONSUMER_GROUP_ID=billing",
}

func environ(entries ...string) []string { return append(slices.Clone(minimal), entries...) }

func TestDefaults(t *testing.T) {
	t.Parallel()

	producer, err := kafkax.LoadProducer(nil)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := kafkax.LoadConsumer(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"producer-defaults.golden": producer.Explain().String(),
		"consumer-defaults.golden": consumer.Explain().String(),
	} {
		path := filepath.Join("testdata", name)
		if *updateGolden {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; a changed default needs its line in the changelog. Got:\n%s", name, got)
		}
	}
}

// TestOverridden sets every key to something that is not its default, in each
// layer alone, and looks for it in the field and in the explanation.
func TestOverridden(t *testing.T) {
	t.Parallel()

	// Keys that exclude others are tried in a second round.
	apart := []string{"consumer.partition", "sasl.password_file"}
	rounds := map[string][]sample{
		"most": slices.DeleteFunc(samples(), func(s sample) bool { return slices.Contains(apart, s.key) }),
		"rest": slices.DeleteFunc(samples(), func(s sample) bool {
			return s.key == "consumer.group_id" || s.key == "sasl.password"
		}),
	}
	for name, round := range rounds {
		t.Run("env "+name, func(t *testing.T) {
			t.Parallel()
			var env []string
			for _, s := range round {
				env = append(env, kafkax.EnvName(s.key)+"="+s.text)
			}
			source := func(s sample) string { return "env " + kafkax.EnvName(s.key) }
			checkOverridden(t, round, kafkax.ResolveProducer(env), kafkax.ResolveConsumer(env), source, source)
		})
		t.Run("yaml "+name, func(t *testing.T) {
			t.Parallel()
			var file strings.Builder
			lines := map[string]int{}
			for i, s := range round {
				fmt.Fprintf(&file, "%s: %q\n", s.key, s.text)
				lines[s.key] = i + 1
			}
			env := []string{"KAFKAX_CONFIG_FILE=" + writeFile(t, file.String())}
			source := func(s sample) string { return fmt.Sprintf("kafkax.yaml:%d", lines[s.key]) }
			checkOverridden(t, round, kafkax.ResolveProducer(env), kafkax.ResolveConsumer(env), source, source)
		})
		t.Run("options "+name, func(t *testing.T) {
			t.Parallel()
			var producer []kafkax.ProducerOption
			var consumer []kafkax.ConsumerOption
			for _, s := range round {
				if s.producer != nil {
					producer = append(producer, s.producer)
				}
				if s.consumer != nil {
					consumer = append(consumer, s.consumer)
				}
			}
			checkOverridden(t, round, kafkax.ResolveProducer(nil, producer...), kafkax.ResolveConsumer(nil, consumer...),
				func(s sample) string { return "option WithProducer" + optionSuffix(s.key) },
				func(s sample) string { return "option WithConsumer" + optionSuffix(s.key) })
		})
	}
}

func checkOverridden(t *testing.T, round []sample,
	producer kafkax.Resolved[kafkax.ProducerConfig], consumer kafkax.Resolved[kafkax.ConsumerConfig],
	producerSource, consumerSource func(sample) string,
) {
	t.Helper()
	if err := errors.Join(producer.Err, consumer.Err); err != nil {
		t.Fatal(err)
	}
	for _, w := range slices.Concat(producer.Warnings, consumer.Warnings) {
		if !strings.Contains(w, "consumer.retention_time has no effect") {
			t.Errorf("warning: %v", w)
		}
	}
	check := func(cfg any, explanation kafkax.Explanation, s sample, source string) {
		got := field(t, cfg, s.key)
		if !reflect.DeepEqual(got, s.want) {
			t.Errorf("%T %s = %v, want %v", cfg, s.key, got, s.want)
		}
		if got := explained(explanation, s.key).Source; !strings.HasSuffix(got, source) {
			t.Errorf("%T %s comes from %q, want %q", cfg, s.key, got, source)
		}
	}
	for _, s := range round {
		if s.producer != nil {
			check(producer.Config, producer.Config.Explain(), s, producerSource(s))
		}
		if s.consumer != nil {
			check(consumer.Config, consumer.Config.Explain(), s, consumerSource(s))
		}
	}
}

func TestLayers(t *testing.T) {
	t.Parallel()

	file := writeFile(t, "client_id: file\nconsumer:\n  client_id: file-side\n  max_wait: 1s\n  min_bytes: 7\n")
	other := writeFile(t, "client_id: other\n")
	withFile := "KAFKAX_CONFIG_FILE=" + file

	tests := []struct {
		name   string
		env    []string
		opts   []kafkax.ConsumerOption
		key    string
		want   string
		source string
	}{
		{"default", nil, nil, "client_id", "kafkax", "default"},
		{"file over default", []string{withFile}, nil, "consumer.min_bytes", "7", "kafkax.yaml:5"},
		{"side over shared in a file", []string{withFile}, nil, "client_id", "file-side", "kafkax.yaml:3"},
		{"env over file", []string{withFile, "KAFKAX_CONSUMER_MAX_WAIT=2s"}, nil, "consumer.max_wait", "2s", "env KAFKAX_CONSUMER_MAX_WAIT"},
		{"shared env over a file's side", []string{withFile, "KAFKAX_CLIENT_ID=env"}, nil, "client_id", "env", "env KAFKAX_CLIENT_ID"},
		{
			"side over shared in the env",
			[]string{"KAFKAX_CONSUMER_CLIENT_ID=side", "KAFKAX_CLIENT_ID=env"},
			nil, "client_id", "side", "env KAFKAX_CONSUMER_CLIENT_ID",
		},
		{"the other side's key is not ours", []string{"KAFKAX_PRODUCER_CLIENT_ID=p"}, nil, "client_id", "kafkax", "default"},
		{
			"option over env",
			[]string{"KAFKAX_CONSUMER_CLIENT_ID=env"},
			[]kafkax.ConsumerOption{kafkax.WithConsumerClientID("opt")},
			"client_id", "opt", "option WithConsumerClientID",
		},
		{
			"the later option",
			nil,
			[]kafkax.ConsumerOption{kafkax.WithConsumerClientID("a"), kafkax.WithConsumerClientID("b")},
			"client_id", "b", "option WithConsumerClientID",
		},
		{
			"an option overrules a broken variable",
			[]string{"KAFKAX_CONSUMER_MAX_WAIT=soon"},
			[]kafkax.ConsumerOption{kafkax.WithConsumerMaxWait(time.Second)},
			"consumer.max_wait", "1s", "option WithConsumerMaxWait",
		},
		{
			"an option sets empty again",
			[]string{"KAFKAX_CONSUMER_DLQ_TOPIC=dlq"},
			[]kafkax.ConsumerOption{kafkax.WithConsumerDLQTopic("")},
			"consumer.dlq_topic", "", "option WithConsumerDLQTopic",
		},
		{
			"option for the file over its variable",
			[]string{withFile},
			[]kafkax.ConsumerOption{kafkax.WithConsumerConfigFile(other)},
			"client_id", "other", "kafkax.yaml:1",
		},
		{"an empty variable is not set", []string{withFile, "KAFKAX_CONSUMER_MIN_BYTES="}, nil, "consumer.min_bytes", "7", "kafkax.yaml:5"},
		{"a blank variable is not set", []string{withFile, "KAFKAX_CONSUMER_CLIENT_ID= \r\n"}, nil, "client_id", "file-side", "kafkax.yaml:3"},
		{"a blank variable for the file is not set", []string{"KAFKAX_CONFIG_FILE=\n"}, nil, "client_id", "kafkax", "default"},
		{"a line's end behind the file's path", []string{withFile + "\r\n"}, nil, "consumer.min_bytes", "7", "kafkax.yaml:5"},
		{
			"and in an option",
			nil,
			[]kafkax.ConsumerOption{kafkax.WithConsumerConfigFile(" " + file + "\n")},
			"consumer.min_bytes", "7", "kafkax.yaml:5",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := kafkax.ResolveConsumer(environ(tt.env...), tt.opts...)
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			got := explained(r.Config.Explain(), tt.key)
			if got.Value != tt.want || !strings.HasSuffix(got.Source, tt.source) {
				t.Errorf("got %+v, want %q from %q", got, tt.want, tt.source)
			}
		})
	}
}

func TestIdempotentFollowsAcks(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name string
		opts []kafkax.ProducerOption
		want bool
		bad  bool
	}{
		{"unset with all", nil, true, false},
		{"unset with one", []kafkax.ProducerOption{kafkax.WithProducerRequiredAcks("one")}, false, false},
		{"off with all", []kafkax.ProducerOption{kafkax.WithProducerIdempotent(false)}, false, false},
		{"off with none", []kafkax.ProducerOption{kafkax.WithProducerIdempotent(false), kafkax.WithProducerRequiredAcks("none")}, false, false},
		{"on with one", []kafkax.ProducerOption{kafkax.WithProducerIdempotent(true), kafkax.WithProducerRequiredAcks("one")}, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := kafkax.ResolveProducer(minimal, tt.opts...)
			if bad := r.Err != nil; bad != tt.bad || r.Config.Idempotent != tt.want {
				t.Errorf("got %v and error %v, want %v and error %v", r.Config.Idempotent, r.Err, tt.want, tt.bad)
			}
		})
	}
}

func TestC1_EveryProblemAtOnce(t *testing.T) {
	t.Parallel()

	file := writeFile(t, "consumer:\n  min_bytes: -1\n  sesion_timeout: 1s\n")
	r := kafkax.ResolveConsumer(
		[]string{"KAFKAX_CONFIG_FILE=" + file, "KAFKAX_CONSUMER_MAX_WAIT=10"},
		nil, kafkax.WithConsumerConcurrency(0), kafkax.WithConsumerLogger(nil))

	want := []kafkax.ConfigError{
		{Key: "option 1", Source: "option", Value: "nil"},
		{Key: "logger", Source: "option WithConsumerLogger", Value: "nil"},
		{Key: "consumer.sesion_timeout", Source: file + ":3"},
		{Key: "consumer.min_bytes", Source: file + ":2", Value: "-1"},
		{Key: "consumer.max_wait", Source: "env KAFKAX_CONSUMER_MAX_WAIT", Value: "10"},
		{Key: "consumer.concurrency", Source: "option WithConsumerConcurrency", Value: "0"},
		{Key: "brokers", Source: "default"},
		{Key: "consumer.topic", Source: "default"},
		{Key: "consumer.group_id", Source: "default"},
	}
	got := problems(t, r.Err)
	if len(got) != len(want) {
		t.Fatalf("got %d problems, want %d:\n%v", len(got), len(want), r.Err)
	}
	for i, w := range want {
		if g := got[i]; g.Key != w.Key || g.Source != w.Source || g.Value != w.Value || g.Rule == "" {
			t.Errorf("problem %d is %+v, want %+v with a rule", i, *g, w)
		}
	}
	for _, target := range []error{kafkax.ErrInvalidConfig, kafkax.ErrNoBrokers, kafkax.ErrNoTopic} {
		if !errors.Is(fmt.Errorf("start: %w", r.Err), target) {
			t.Errorf("error does not match %v", target)
		}
	}
	if !reflect.DeepEqual(r.Config, kafkax.ConsumerConfig{}) {
		t.Error("a config came with the error")
	}
}

func TestC1_Missing(t *testing.T) {
	t.Parallel()

	const brokers, topic = "KAFKAX_BROKERS=kafka:9092", "KAFKAX_CONSUMER_TOPIC=orders"
	tests := []struct {
		name      string
		err       error
		noBrokers bool
		noTopic   bool
	}{
		{"producer with brokers needs no topic", kafkax.ResolveProducer([]string{brokers}).Err, false, false},
		{"producer without brokers", kafkax.ResolveProducer(nil).Err, true, false},
		{"producer with an empty broker", kafkax.ResolveProducer(nil, kafkax.WithProducerBrokers("")).Err, true, false},
		{"producer with an empty list", kafkax.ResolveProducer([]string{brokers}, kafkax.WithProducerBrokers()).Err, true, false},
		{"consumer without brokers", kafkax.ResolveConsumer([]string{topic}).Err, true, false},
		{"consumer without topic", kafkax.ResolveConsumer([]string{brokers}).Err, false, true},
		{"consumer without either", kafkax.ResolveConsumer(nil).Err, true, true},
		{"a bad broker is not a missing one", kafkax.ResolveConsumer([]string{"KAFKAX_BROKERS=x", topic}).Err, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := errors.Is(tt.err, kafkax.ErrNoBrokers); got != tt.noBrokers {
				t.Errorf("ErrNoBrokers: %v, want %v", got, tt.noBrokers)
			}
			if got := errors.Is(tt.err, kafkax.ErrNoTopic); got != tt.noTopic {
				t.Errorf("ErrNoTopic: %v, want %v", got, tt.noTopic)
			}
			if tt.err != nil && !errors.Is(tt.err, kafkax.ErrInvalidConfig) {
				t.Error("does not match ErrInvalidConfig")
			}
		})
	}
}

// A consumer that was given neither a group nor a partition would read one
// partition of several and commit nothing, without a word.
func TestC1_GroupOrPartition(t *testing.T) {
	t.Parallel()

	group, partition := kafkax.WithConsumerGroupID, kafkax.WithConsumerPartition
	proto := func(cfg *kafkaxpb.ConsumerConfig) kafkax.ConsumerOption {
		return kafkax.ConsumerOptionsFromProto(cfg)[0]
	}
	loaded := func(change func(*kafkax.ConsumerConfig)) kafkax.ConsumerOption {
		cfg, err := kafkax.LoadConsumer(minimal[:3])
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Partition != -1 {
			t.Errorf("a partition that nobody chose is %d", cfg.Partition)
		}
		change(&cfg)
		return kafkax.WithConsumerConfig(cfg)
	}
	tests := []struct {
		name      string
		env       []string
		opts      []kafkax.ConsumerOption
		group     string
		partition int
		key       string // of the problem; "": none
	}{
		{name: "neither", key: "consumer.group_id"},
		{name: "an empty group", opts: []kafkax.ConsumerOption{group("")}, key: "consumer.group_id"},
		{name: "neither, in a config", opts: []kafkax.ConsumerOption{loaded(func(*kafkax.ConsumerConfig) {})}, key: "consumer.group_id"},
		{name: "neither, in protobuf", opts: []kafkax.ConsumerOption{proto(new(kafkaxpb.ConsumerConfig))}, key: "consumer.group_id"},
		{name: "both", opts: []kafkax.ConsumerOption{group("g"), partition(0)}, key: "consumer.partition"},
		{name: "a negative partition", opts: []kafkax.ConsumerOption{partition(-1)}, key: "consumer.partition"},
		{name: "partition 0", opts: []kafkax.ConsumerOption{partition(0)}},
		{name: "partition 0 of the environment", env: []string{"KAFKAX_CONSUMER_PARTITION=0"}},
		{name: "a partition with spaces", env: []string{"KAFKAX_CONSUMER_PARTITION= 3 "}, partition: 3},
		{name: "partition 0 of protobuf", opts: []kafkax.ConsumerOption{proto(&kafkaxpb.ConsumerConfig{Partition: new(int32(0))})}},
		{name: "partition 0 in a config", opts: []kafkax.ConsumerOption{loaded(func(c *kafkax.ConsumerConfig) { c.Partition = 0 })}},
		{name: "a group", opts: []kafkax.ConsumerOption{group("g")}, group: "g", partition: -1},
		{name: "a group in a config", opts: []kafkax.ConsumerOption{loaded(func(c *kafkax.ConsumerConfig) { c.GroupID = "g" })}, group: "g", partition: -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := kafkax.ResolveConsumer(slices.Concat(minimal[:3], tt.env), tt.opts...)
			if tt.key != "" {
				if got := problems(t, r.Err); len(got) != 1 || got[0].Key != tt.key {
					t.Errorf("got %v, want one problem, of %s", r.Err, tt.key)
				}
				return
			}
			if r.Err != nil || r.Config.GroupID != tt.group || r.Config.Partition != tt.partition {
				t.Errorf("got group %q, partition %d and %v", r.Config.GroupID, r.Config.Partition, r.Err)
			}
			if cfg, _, _, err := kafkax.ResolveConsume(r.Config); err != nil || cfg.Partition != tt.partition {
				t.Errorf("a loop has partition %d and %v", cfg.Partition, err)
			}
		})
	}

	_, err := kafkax.NewMultiTopicConsumer([]string{"a", "b"}, kafkax.WithConsumerBrokers("kafka:9092"))
	if got := problems(t, err); len(got) != 1 || got[0].Key != "consumer.group_id" {
		t.Errorf("several topics: got %v, want the problem once", err)
	}
}

func TestC1_Rules(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("x", 250)
	tests := []struct {
		name string
		env  string // "key=value;key=value", in the YAML's spelling
		key  string
		rule string
	}{
		{"broker without port", "brokers=kafka", "brokers", "entry 1 must be host:port: add a port"},
		{"second broker", "brokers=a:1,b", "brokers", "entry 2 must be host:port"},
		{"broker with scheme", "brokers=kafka://a:1", "brokers", "without a scheme"},
		{"broker with port 0", "brokers=a:0", "brokers", "port from 1 to 65535"},
		{"broker with port 65536", "brokers=a:65536", "brokers", "port from 1 to 65535"},
		{"broker with negative port", "brokers=a:-1", "brokers", "port from 1 to 65535"},
		{"broker with named port", "brokers=a:kafka", "brokers", "port from 1 to 65535"},
		{"broker without host", "brokers=:9092", "brokers", "must be host:port"},
		{"broker with a path", "brokers=a/b:9092", "brokers", "must be host:port"},
		{"broker with a space", "brokers=a b:9092", "brokers", "must be host:port"},
		{"bare IPv6", "brokers=::1:9092", "brokers", "must be host:port"},
		{"empty entry", "brokers=a:1,,b:2", "brokers", "entry 2 must be host:port"},
		{"trailing comma", "brokers=a:1,", "brokers", "entry 2 must be host:port"},
		{"client id too long", "client_id=" + strings.Repeat("x", 32768), "client_id", "at most 32767 bytes"},
		{"client id not UTF-8", "client_id=\xff", "client_id", "valid UTF-8"},
		{"dial timeout zero", "dial_timeout=0", "dial_timeout", "at least 1ms"},
		{"dial timeout negative", "dial_timeout=-1s", "dial_timeout", "at least 1ms"},
		{"request timeout zero", "request_timeout=0", "request_timeout", "at least 1ms"},
		{"shutdown timeout zero", "shutdown_timeout=0s", "shutdown_timeout", "at least 1ms"},
		{"duration without unit", "dial_timeout=30", "dial_timeout", "duration with its unit"},
		{"duration of words", "dial_timeout=soon", "dial_timeout", "duration with its unit"},
		{"duration over 64 bits", "dial_timeout=9999999h", "dial_timeout", "duration with its unit"},
		{"duration over 32 bits of milliseconds", "dial_timeout=600h", "dial_timeout", "at most 596h31m23.647s"},

		{"unknown mechanism", "sasl.mechanism=GSSAPI", "sasl.mechanism", "must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or empty"},
		{"mechanism without username", "sasl.mechanism=PLAIN;sasl.password=p", "sasl.username", "needed by sasl.mechanism"},
		{"mechanism without password", "sasl.mechanism=PLAIN;sasl.username=u", "sasl.password", "or sasl.password_file is needed"},
		{"both passwords", "sasl.mechanism=PLAIN;sasl.username=u;sasl.password=p;sasl.password_file=f", "sasl.password_file", "together with sasl.password"},
		{"username alone", "sasl.username=u", "sasl.username", "no effect without sasl.mechanism"},
		{"password alone", "sasl.password=p", "sasl.password", "no effect without sasl.mechanism"},
		{"password file alone", "sasl.password_file=p", "sasl.password_file", "no effect without sasl.mechanism"},

		{"tls not a switch", "tls.enabled=yes", "tls.enabled", "must be true or false"},
		{"cert without key", "tls.enabled=true;tls.cert_file=c", "tls.key_file", "is needed by tls.cert_file"},
		{"key without cert", "tls.enabled=true;tls.key_file=k", "tls.cert_file", "is needed by tls.key_file"},
		{"CA without TLS", "tls.ca_file=c", "tls.ca_file", "while tls.enabled is false: set that to true"},
		{"server name without TLS", "tls.server_name=c", "tls.server_name", "while tls.enabled is false"},
		{"skip verify without TLS", "tls.insecure_skip_verify=true", "tls.insecure_skip_verify", "while tls.enabled is false"},

		{"producer topic with a slash", "producer.topic=a/b", "producer.topic", "must be a topic name"},
		{"producer batch size zero", "producer.batch_size=0", "producer.batch_size", "from 1 to 1000000"},
		{"producer batch size of words", "producer.batch_size=many", "producer.batch_size", "whole number"},
		{"producer batch size fraction", "producer.batch_size=1.5", "producer.batch_size", "whole number"},
		{"producer batch bytes zero", "producer.batch_bytes=0", "producer.batch_bytes", "from 1 to 1073741824"},
		{"producer batch bytes too many", "producer.batch_bytes=1073741825", "producer.batch_bytes", "from 1 to 1073741824"},
		{"producer batch bytes over 64 bits", "producer.batch_bytes=99999999999999999999", "producer.batch_bytes", "from 1 to"},
		{"producer batch timeout zero", "producer.batch_timeout=0", "producer.batch_timeout", "at least 1ns"},
		{"producer acks", "producer.required_acks=two", "producer.required_acks", "must be one of all, one, none"},
		{"producer attempts negative", "producer.max_attempts=-1", "producer.max_attempts", "from 0 to"},
		{"producer idempotent without all", "producer.idempotent=true;producer.required_acks=one", "producer.idempotent", "needs all from producer.required_acks, which is one"},
		{"producer delivery below write", "producer.delivery_timeout=5s", "producer.delivery_timeout", "must not be below producer.write_timeout, which is 10s (default)"},
		{"producer compression", "producer.compression=brotli", "producer.compression", "must be one of none, gzip, snappy, lz4, zstd"},
		{"producer balancer", "producer.balancer=sticky", "producer.balancer", "must be one of murmur2, crc32, hash, round_robin, least_bytes"},
		{"producer async", "producer.async=maybe", "producer.async", "true or false"},
		{"producer write timeout", "producer.write_timeout=1us", "producer.write_timeout", "at least 1ms"},
		{"producer read timeout", "producer.read_timeout=0", "producer.read_timeout", "at least 1ms"},

		{"consumer topic dot", "consumer.topic=.", "consumer.topic", "must be a topic name"},
		{"consumer topic two dots", "consumer.topic=..", "consumer.topic", "must be a topic name"},
		{"consumer topic of 250", "consumer.topic=" + long, "consumer.topic", "must be a topic name"},
		{"consumer topic with a newline inside", "consumer.topic=orders\nx", "consumer.topic", "must be a topic name"},
		{"consumer topic umlaut", "consumer.topic=aufträge", "consumer.topic", "must be a topic name"},
		{"consumer group and partition", "consumer.group_id=g;consumer.partition=0", "consumer.partition", "together with consumer.group_id"},
		{"consumer group too long", "consumer.group_id=" + strings.Repeat("x", 32768), "consumer.group_id", "at most 32767 bytes"},
		{"consumer partition negative", "consumer.partition=-1", "consumer.partition", "from 0 to 2147483647"},
		{"consumer partition over 32 bits", "consumer.partition=2147483648", "consumer.partition", "from 0 to 2147483647"},
		{"consumer min bytes zero", "consumer.min_bytes=0", "consumer.min_bytes", "from 1 to"},
		{"consumer max bytes over 32 bits", "consumer.max_bytes=2147483648", "consumer.max_bytes", "from 1 to 2147483647"},
		{"consumer min over max", "consumer.min_bytes=2;consumer.max_bytes=1", "consumer.min_bytes", "must not exceed consumer.max_bytes, which is 1"},
		{"consumer max wait zero", "consumer.max_wait=0", "consumer.max_wait", "at least 1ms"},
		{"consumer start offset", "consumer.start_offset=first", "consumer.start_offset", "must be one of earliest, latest"},
		{"consumer offset reset", "consumer.offset_reset=none", "consumer.offset_reset", "must be one of earliest, latest, error"},
		{"consumer isolation", "consumer.isolation_level=serializable", "consumer.isolation_level", "must be one of read_uncommitted, read_committed"},
		{"consumer commit interval negative", "consumer.commit_interval=-1s", "consumer.commit_interval", "at least 1ms, or 0"},
		{"consumer heartbeat not below session", "consumer.heartbeat_interval=30s", "consumer.heartbeat_interval", "must be below consumer.session_timeout, which is 30s (default); a third"},
		{"consumer session above rebalance", "consumer.session_timeout=61s", "consumer.session_timeout", "must not exceed consumer.rebalance_timeout, which is 1m0s"},
		{"consumer session under a millisecond", "consumer.session_timeout=1us", "consumer.session_timeout", "at least 1ms"},
		{"consumer retention negative", "consumer.retention_time=-1h", "consumer.retention_time", "at least 1ms, or 0"},
		{"consumer retention under a millisecond", "consumer.retention_time=1us", "consumer.retention_time", "at least 1ms, or 0"},
		{"consumer lag interval zero", "consumer.read_lag_interval=0", "consumer.read_lag_interval", "at least 1ms"},
		{"consumer watch", "consumer.watch_partition_changes=2", "consumer.watch_partition_changes", "true or false"},
		{"consumer watch interval zero", "consumer.partition_watch_interval=0", "consumer.partition_watch_interval", "at least 1ms"},
		{"consumer on failure", "consumer.on_failure=panic", "consumer.on_failure", "must be one of stop, skip, or empty"},
		{"retry attempts zero", "consumer.retry.max_attempts=0", "consumer.retry.max_attempts", "from 1 to"},
		{"retry initial zero", "consumer.retry.initial_backoff=0", "consumer.retry.initial_backoff", "at least 1ns"},
		{"retry initial over max", "consumer.retry.initial_backoff=11s", "consumer.retry.initial_backoff", "must not exceed consumer.retry.max_backoff, which is 10s"},
		{"retry max zero", "consumer.retry.max_backoff=0", "consumer.retry.max_backoff", "at least 1ns"},
		{"retry multiplier below one", "consumer.retry.multiplier=0.9", "consumer.retry.multiplier", "from 1 to 100"},
		{"retry multiplier NaN", "consumer.retry.multiplier=NaN", "consumer.retry.multiplier", "from 1 to 100"},
		{"retry multiplier infinite", "consumer.retry.multiplier=Inf", "consumer.retry.multiplier", "from 1 to 100"},
		{"retry jitter negative", "consumer.retry.jitter=-0.1", "consumer.retry.jitter", "from 0 to 1"},
		{"retry jitter over one", "consumer.retry.jitter=1.1", "consumer.retry.jitter", "from 0 to 1"},
		{"retry jitter NaN", "consumer.retry.jitter=nan", "consumer.retry.jitter", "from 0 to 1"},
		{"dlq is the topic", "consumer.dlq_topic=orders", "consumer.dlq_topic", "must not be consumer.topic"},
		{"dlq name", "consumer.dlq_topic=a b", "consumer.dlq_topic", "must be a topic name"},
		{"consumer batch size zero", "consumer.batch_size=0", "consumer.batch_size", "from 1 to 1000000"},
		{"consumer batch timeout negative", "consumer.batch_timeout=-1s", "consumer.batch_timeout", "at least 1ns"},
		{"consumer concurrency zero", "consumer.concurrency=0", "consumer.concurrency", "from 1 to 10000"},
		{"consumer ordering", "consumer.ordering=total", "consumer.ordering", "must be one of partition, key, unordered"},
		{"consumer handler timeout negative", "consumer.handler_timeout=-1s", "consumer.handler_timeout", "at least 1ns, or 0"},
	}
	checkRule(t, kafkax.ResolveProducer(minimal, kafkax.WithProducerCompression("")).Err, "producer.compression", "must be one of") // empty is not none
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := slices.Clone(minimal)
			for pair := range strings.SplitSeq(tt.env, ";") {
				key, value, _ := strings.Cut(pair, "=")
				env = slices.DeleteFunc(env, func(s string) bool { return strings.HasPrefix(s, kafkax.EnvName(key)+"=") })
				env = append(env, kafkax.EnvName(key)+"="+value)
			}
			if !strings.HasPrefix(tt.key, "consumer.") {
				checkRule(t, kafkax.ResolveProducer(env).Err, tt.key, tt.rule)
			}
			if !strings.HasPrefix(tt.key, "producer.") {
				checkRule(t, kafkax.ResolveConsumer(env).Err, tt.key, tt.rule)
			}
		})
	}
}

// What one key must not be above or below of another may be equal to it.
func TestC1_RulesOfPairsAtTheirLimit(t *testing.T) {
	t.Parallel()
	for _, pairs := range []string{
		"producer.delivery_timeout=10s;producer.write_timeout=10s",
		"consumer.min_bytes=7;consumer.max_bytes=7",
		"consumer.session_timeout=60s;consumer.rebalance_timeout=60s",
		"consumer.heartbeat_interval=29999ms;consumer.session_timeout=30s",
		"consumer.retry.initial_backoff=10s;consumer.retry.max_backoff=10s",
	} {
		env := slices.Clone(minimal)
		for pair := range strings.SplitSeq(pairs, ";") {
			key, value, _ := strings.Cut(pair, "=")
			env = append(env, kafkax.EnvName(key)+"="+value)
		}
		if err := errors.Join(kafkax.ResolveProducer(env).Err, kafkax.ResolveConsumer(env).Err); err != nil {
			t.Errorf("%s: %v", pairs, err)
		}
	}
}

// checkRule wants this one problem and no other.
func checkRule(t *testing.T, err error, key, rule string) {
	t.Helper()
	got := problems(t, err)
	if len(got) != 1 || got[0].Key != key || !strings.Contains(got[0].Rule, rule) || got[0].Source == "" {
		t.Errorf("got %v\nwant %s: ...%s...", err, key, rule)
	}
}

func TestC1_Accepted(t *testing.T) {
	t.Parallel()

	for _, env := range []string{
		"KAFKAX_BROKERS= a:1 , b_c.d-e:65535,[::1]:9092,10.0.0.1:1\n",
		"KAFKAX_BROKERS=[fe80::1%eth0]:9092",
		"KAFKAX_CONSUMER_TOPIC=" + strings.Repeat("x", 249),
		"KAFKAX_CONSUMER_TOPIC=...",
		"KAFKAX_CONSUMER_RETENTION_TIME=2400h",
		"KAFKAX_CONSUMER_RETENTION_TIME=0",
		"KAFKAX_CONSUMER_HANDLER_TIMEOUT=0",
		"KAFKAX_CONSUMER_COMMIT_INTERVAL=0",
		"KAFKAX_CONSUMER_SESSION_TIMEOUT=60s",
		"KAFKAX_CONSUMER_MIN_BYTES=10485760",
		"KAFKAX_CONSUMER_ORDERING=KEY",
		"KAFKAX_TLS_ENABLED=T",
		"KAFKAX_CONSUMER_GROUP_ID=any thing",
	} {
		if r := kafkax.ResolveConsumer(environ(env)); r.Err != nil {
			t.Errorf("%s: %v", env, r.Err)
		}
	}
	if r := kafkax.ResolveConsumer(environ("KAFKAX_CONSUMER_ORDERING=KEY")); r.Config.Ordering != kafkax.OrderKey {
		t.Errorf("ordering is %q, want the constant", r.Config.Ordering)
	}
}

func TestC1_Files(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		content string
		path    string // in place of content
		rule    string // "": accepted
		line    string
		is      error
	}{
		{name: "missing", path: filepath.Join(dir, "none"), rule: "cannot be read: no such file", is: os.ErrNotExist},
		{name: "directory", path: dir, rule: "must be a regular file"},
		{name: "pipe", path: pipe, rule: "must be a regular file"},
		{name: "device", path: "/dev/zero", rule: "must be a regular file"},
		{name: "ten megabytes", content: strings.Repeat("# comment\n", 1<<20), rule: "at most 1 MiB"},
		{name: "empty"},
		{name: "comments alone", content: "# nothing\n"},
		{name: "one empty document", content: "---\n"},
		{name: "null", content: "null\n"},
		{name: "empty sections", content: "consumer:\nproducer: {}\nsasl: ~\n"},
		{name: "a byte order mark", content: "\ufeffclient_id: x\n"},
		{name: "garbage", content: "\x00\x01\x02", rule: "must be YAML"},
		{name: "unbalanced", content: "consumer: {", rule: "must be YAML"},
		{name: "tabs", content: "consumer:\n\ttopic: x\n", rule: "must be YAML"},
		{name: "a scalar", content: "hello\n", rule: "must be a section", line: ":1"},
		{name: "a list", content: "- hello\n", rule: "must be a section", line: ":1"},
		{name: "two documents", content: "client_id: a\n---\nclient_id: b\n", rule: "one document", line: ":2"},
		{name: "second is garbage", content: "client_id: a\n---\n{", rule: "must be YAML"},
		{name: "key twice", content: "client_id: a\nclient_id: b\n", rule: "given twice, first at ", line: ":2"},
		{name: "key twice, dotted", content: "sasl.username: a\nsasl:\n  username: b\n", rule: "given twice", line: ":3"},
		{name: "empty list twice", content: "brokers: []\nbrokers: []\n", rule: "given twice", line: ":2"},
		{name: "section as value", content: "consumer: yes\n", rule: "must be a section", line: ":1"},
		{name: "value as section", content: "client_id:\n  a: b\n", rule: "must be a value", line: ":2"},
		{name: "value as list", content: "client_id: [a]\n", rule: "must be one value", line: ":1"},
		{name: "list of lists", content: "brokers: [[a]]\n", rule: "list of plain values", line: ":1"},
		{name: "list as section", content: "brokers: {a: b}\n", rule: "must be a value", line: ":1"},
		{name: "odd key", content: "[a]: b\n", rule: "plain names", line: ":1"},
		{name: "alias", content: "client_id: &x a\nsasl:\n  username: *x\n", rule: "aliases are not read"},
		{name: "another program's tag", content: "sasl:\n  mechanism: PLAIN\n  username: a\n  password: !env KAFKA_PASSWORD\n", rule: "tags, such as !env, are not read", line: ":4"},
		{name: "a tag and nothing else", content: "client_id: !env\n", rule: "tags, such as !env, are not read", line: ":1"},
		{name: "a tag in a list", content: "brokers: [a:1, !env BROKER]\n", rule: "tags, such as !env, are not read", line: ":1"},
		{name: "an encoded value", content: "client_id: !!binary aGVsbG8=\n", rule: "tags, such as !env, are not read", line: ":1"},
		{name: "YAML's own tags", content: "client_id: !!str 7\nconsumer: {min_bytes: !!int 7}\n"},
		{name: "merge", content: "consumer:\n  <<: {topic: x}\n", rule: "unknown key", line: ":2"},
		{name: "wrong type", content: "consumer:\n  min_bytes: lots\n", rule: "whole number", line: ":2"},
		{name: "YAML's other numbers", content: "consumer:\n  min_bytes: 0x10\n", rule: "whole number", line: ":2"},
		{name: "deep nesting", content: strings.Repeat("[", 20000), rule: "must be YAML"},
		{name: "deep unknown keys", content: strings.Repeat("{a: ", 5000) + "b" + strings.Repeat("}", 5000), rule: "unknown key", line: ":1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := tt.path
			if path == "" {
				path = writeFile(t, tt.content)
			}
			for source, err := range map[string]error{
				"env KAFKAX_CONFIG_FILE":         kafkax.ResolveConsumer(environ("KAFKAX_CONFIG_FILE=" + path)).Err,
				"option WithConsumerConfigFile":  kafkax.ResolveConsumer(minimal, kafkax.WithConsumerConfigFile(path)).Err,
				" option WithProducerConfigFile": producerOnly(tt.content, kafkax.ResolveProducer(minimal, kafkax.WithProducerConfigFile(path)).Err),
			} {
				if tt.rule == "" {
					if err != nil {
						t.Errorf("%s: %v", source, err)
					}
					continue
				}
				if err == nil && strings.HasPrefix(source, " ") {
					continue
				}
				got := problems(t, err)
				first := got[0]
				if !strings.Contains(first.Rule, tt.rule) || first.Source == "" || !strings.HasSuffix(first.Source, tt.line) {
					t.Errorf("%s: got %v, want a rule with %q at %q", source, err, tt.rule, tt.line)
				}
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("%s: does not match %v", source, tt.is)
				}
			}
		})
	}
}

// Who may write the configuration decides whom the password goes to.
func TestSecurity_ConfigFileOpenToOthersIsWarnedOf(t *testing.T) {
	t.Parallel()

	for mode, want := range map[os.FileMode]string{0o600: "", 0o644: "", 0o444: "", 0o666: "(mode 0666)", 0o620: "(mode 0620)"} {
		file := writeFile(t, "client_id: x\n")
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		for source, warnings := range map[string][]string{
			"env KAFKAX_CONFIG_FILE":        kafkax.ResolveConsumer(environ("KAFKAX_CONFIG_FILE=" + file)).Warnings,
			"option WithProducerConfigFile": kafkax.ResolveProducer(minimal, kafkax.WithProducerConfigFile(file)).Warnings,
		} {
			if want == "" && len(warnings) == 0 {
				continue
			}
			if len(warnings) != 1 || want == "" || !strings.Contains(warnings[0], want) ||
				!strings.Contains(warnings[0], "the configuration file") || !strings.Contains(warnings[0], source) || !strings.Contains(warnings[0], file) {
				t.Errorf("%04o, %s: got %q, want one warning with %q", mode, source, warnings, want)
			}
		}
	}
}

// producerOnly drops the error for a consumer's value: a producer does not
// judge it.
func producerOnly(content string, err error) error {
	if strings.Contains(content, "min_bytes") {
		return nil
	}
	return err
}

func TestC1_NoEndOfProblems(t *testing.T) {
	t.Parallel()

	file := writeFile(t, strings.Repeat("x: 1\n", 10000))
	got := problems(t, kafkax.ResolveProducer(environ("KAFKAX_CONFIG_FILE="+file)).Err)
	if len(got) != 101 || !strings.Contains(got[100].Rule, "more problems") {
		t.Errorf("got %d problems, the last %v", len(got), got[len(got)-1])
	}
}

// An error is read among those of other packages, so it says where it is from,
// once.
func TestC1_ErrorsSayTheyAreOurs(t *testing.T) {
	t.Parallel()

	base := kafkax.ResolveConsumer(minimal).Config
	_, _, _, one := kafkax.ResolveConsume(base, kafkax.WithConcurrency(0))
	_, _, _, two := kafkax.ResolveConsume(base, kafkax.WithConcurrency(0), kafkax.WithHandlerTimeout(-1))
	_, several := kafkax.NewMultiTopicConsumer([]string{"a b", ""})
	_, unread := kafkax.NewProducer(kafkax.WithProducerBrokers("a:1"), kafkax.WithProducerTLSEnabled(true),
		kafkax.WithProducerTLSCAFile("/none"), kafkax.WithProducerTLSCertFile("/none"), kafkax.WithProducerTLSKeyFile("/none"))
	for name, err := range map[string]error{
		"producer": kafkax.ResolveProducer(nil).Err, "consumer": kafkax.ResolveConsumer(nil).Err,
		"protobuf": kafkax.ResolveConsumer(nil, kafkax.ConsumerOptionsFromProto(nil)...).Err,
		"file":     kafkax.ResolveConsumer(minimal, kafkax.WithConsumerConfigFile("/none")).Err,
		"loop":     one, "loop, two problems": two, "several topics": several, "files of keys": unread,
		"one problem alone": problems(t, one)[0],
	} {
		text := fmt.Sprint(err)
		if !strings.HasPrefix(text, "kafkax: ") || strings.Count(text, "kafkax: ") != 1 {
			t.Errorf("%s: %s", name, text)
		}
		if !errors.Is(err, kafkax.ErrInvalidConfig) {
			t.Errorf("%s: does not match ErrInvalidConfig", name)
		}
	}
}

// secret is in every place a password could be given.
const secret = "hunter2"

func TestC3_PrintedConfigs(t *testing.T) {
	t.Parallel()

	env := environ(
		"KAFKAX_BROKERS=kafka:9092",
		"KAFKAX_SASL_MECHANISM=PLAIN", "KAFKAX_SASL_USERNAME=alice", "KAFKAX_SASL_PASSWORD="+secret)
	mechanism := plain.Mechanism{Username: "alice", Password: secret}
	p := kafkax.ResolveProducer(env, kafkax.WithProducerSASL(mechanism))
	c := kafkax.ResolveConsumer(env, kafkax.WithConsumerSASL(mechanism))
	if err := errors.Join(p.Err, c.Err); err != nil {
		t.Fatal(err)
	}
	if p.Config.SASL.Password.Reveal() != secret || c.Config.SASL.Password.Reveal() != secret {
		t.Fatal("the password did not arrive")
	}

	type embeds struct{ kafkax.ConsumerConfig }
	type holds struct {
		Producer kafkax.ProducerConfig
		Consumer *kafkax.ConsumerConfig
		SASL     kafkax.SASLConfig
		Any      any
		List     []kafkax.ProducerConfig
		Map      map[string]kafkax.SASLConfig
	}

	tests := []struct {
		name  string
		value any
	}{
		{"sasl", p.Config.SASL},
		{"sasl pointer", &p.Config.SASL},
		{"connection", p.Config.ConnectionConfig},
		{"connection pointer", &c.Config.ConnectionConfig},
		{"producer", p.Config},
		{"producer pointer", &p.Config},
		{"consumer", c.Config},
		{"consumer pointer", &c.Config},
		{"embedded", embeds{c.Config}},
		{"embedded pointer", &embeds{c.Config}},
		{"nested", holds{
			p.Config, &c.Config, c.Config.SASL, p.Config,
			[]kafkax.ProducerConfig{p.Config},
			map[string]kafkax.SASLConfig{"x": p.Config.SASL},
		}},
		{"explanation of producer", p.Config.Explain()},
		{"explanation of consumer", c.Config.Explain()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for verb, printed := range printings(t, tt.value) {
				if strings.Contains(printed, secret) {
					t.Errorf("%s shows the password: %s", verb, printed)
				}
			}
		})
	}

	literal := kafkax.ConnectionConfig{
		Brokers: []string{"kafka://alice:" + secret, "x@kafka:9092"}, ClientID: "-----BEGIN PRIVATE KEY-----" + secret,
		SASL: kafkax.SASLConfig{Username: `password="` + secret + `"`},
	}
	for verb, printed := range printings(t, literal) {
		if strings.Contains(printed, secret) || !strings.Contains(printed, "@kafka:9092") {
			t.Errorf("%s shows what stands in other places, or nothing: %s", verb, printed)
		}
	}

	// Masking must not hide the rest, nor print an embedded part alone.
	for key, config := range map[string]any{"producer.batch_size": p.Config, "consumer.session_timeout": c.Config} {
		for verb, printed := range printings(t, config) {
			for _, want := range []string{"***", "alice", "kafka:9092", "client_id", key} {
				if !strings.Contains(printed, want) {
					t.Errorf("%s of %T does not show %s: %s", verb, config, want, printed)
				}
			}
		}
	}
}

// printings is a value through everything that commonly prints one.
func printings(t *testing.T, v any) map[string]string {
	t.Helper()
	out := map[string]string{"Sprint": fmt.Sprint(v), "Errorf": fmt.Errorf("cfg: %v", v).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if verb == "%x" && reflect.TypeOf(v) == reflect.TypeFor[kafkax.Explanation]() {
			continue
		}
		out[verb] = fmt.Sprintf(verb, v)
	}
	asJSON, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out["json"] = string(asJSON)
	asYAML, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out["yaml"] = string(asYAML)
	var text, object bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("cfg", "cfg", v)
	slog.New(slog.NewJSONHandler(&object, nil)).Info("cfg", "cfg", v)
	out["slog text"], out["slog json"] = text.String(), object.String()
	return out
}

func TestC3_Errors(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name string
		env  []string
		file string
	}{
		{"password without mechanism", []string{"KAFKAX_SASL_PASSWORD=" + secret}, ""},
		{"both passwords", []string{"KAFKAX_SASL_PASSWORD=" + secret, "KAFKAX_SASL_PASSWORD_FILE=f"}, ""},
		{"mistyped variable", []string{"KAFKAX_SASL_PASSWROD=" + secret, "KAFKAX_CONSUMER_CONCURRENCY=0"}, ""},
		{"broker as a URL", []string{"KAFKAX_BROKERS=kafka://alice:" + secret + "@kafka:9092"}, ""},
		{"broker with a comma in its credentials", []string{"KAFKAX_BROKERS=kafka://alice:" + secret + ",x@kafka:9092"}, ""},
		{"broker with a query", []string{"KAFKAX_BROKERS=kafka:9092?sasl.password=" + secret}, ""},
		{"PEM for a name", []string{"KAFKAX_TLS_ENABLED=true", "KAFKAX_TLS_SERVER_NAME=-----BEGIN PRIVATE KEY-----\n" + secret}, ""},
		{"PEM in one line", []string{"KAFKAX_TLS_ENABLED=-----BEGIN PRIVATE KEY----- " + secret}, ""},
		{"JAAS for the mechanism", []string{`KAFKAX_SASL_MECHANISM=PlainLoginModule required username="a" password="` + secret + `";`}, ""},
		{"JAAS for the user", []string{"KAFKAX_SASL_MECHANISM=PLAIN", `KAFKAX_SASL_USERNAME=username="a" Password = "` + secret + `";`}, ""},
		{"JSON for the group", []string{`KAFKAX_CONSUMER_GROUP_ID={"user": "a", "password": "` + secret + `"}`, "KAFKAX_CONSUMER_PARTITION=0"}, ""},
		{"YAML for the group", []string{"KAFKAX_CONSUMER_GROUP_ID=sasl.password: " + secret, "KAFKAX_CONSUMER_PARTITION=0"}, ""},
		{"no space before the value", nil, "sasl: {username: a, password:" + secret + "}\n"},
		{"no colon before the value", nil, "sasl: {username: a, password " + secret + "}\n"},
		{"an assignment for a key", nil, "sasl:\n  password=" + secret + ":\n"},
		{"broker with credentials", []string{"KAFKAX_BROKERS=alice:" + secret + "@kafka:9092"}, ""},
		{"mistyped key", nil, "sasl:\n  passwrod: " + secret + "\n"},
		{"password as a section", nil, "sasl: " + secret + "\n"},
		{"password as a list", nil, "sasl:\n  password: [" + secret + "]\n"},
		{"password taken for an alias", nil, "sasl:\n  password: *" + secret + "\n"},
		{"password taken for a tag", nil, "sasl:\n  password: !" + secret + " {\n"},
		{"password with a quote", nil, "sasl:\n  password: \"" + secret + "\n"},
		{"password twice", nil, "sasl:\n  password: " + secret + "\n  password: " + secret + "2\n"},
		{"password before a syntax error", nil, "sasl:\n  password: " + secret + ": x\n"},
		{"password at the percent sign", nil, "%" + secret + "\n---\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := environ(tt.env...)
			if tt.file != "" {
				env = append(env, "KAFKAX_CONFIG_FILE="+writeFile(t, tt.file))
			}
			r := kafkax.ResolveConsumer(env)
			if r.Err == nil {
				t.Fatal("accepted")
			}
			shown := fmt.Sprintf("%v %+v %#v %v", r.Err, r.Err, problems(t, r.Err), r.Warnings)
			for _, p := range problems(t, r.Err) {
				shown += fmt.Sprintf("%+v", *p)
			}
			if strings.Contains(shown, secret) {
				t.Errorf("shows the password: %s", shown)
			}
		})
	}
}

func TestC4_Explain(t *testing.T) {
	t.Parallel()

	file := writeFile(t, "consumer:\n  topic: orders\n")
	r := kafkax.ResolveConsumer([]string{"KAFKAX_BROKERS=kafka:9092"},
		kafkax.WithConsumerConfigFile(file),
		kafkax.WithConsumerGroupID("billing"),
		kafkax.WithConsumerTLSEnabled(true),
		kafkax.WithConsumerSASL(plain.Mechanism{Username: "alice", Password: secret}))
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	cfg := r.Config
	cfg.MaxWait = time.Second

	e := cfg.Explain()
	for _, want := range []kafkax.Setting{
		{Key: "brokers", Value: "kafka:9092", Source: "env KAFKAX_BROKERS"},
		{Key: "consumer.topic", Value: "orders", Source: file + ":2"},
		{Key: "consumer.group_id", Value: "billing", Source: "option WithConsumerGroupID"},
		{Key: "consumer.min_bytes", Value: "1", Source: "default"},
		{Key: "consumer.max_wait", Value: "1s", Source: "set in code"},
		{Key: "sasl", Value: "plain.Mechanism", Source: "option WithConsumerSASL"},
	} {
		if got := explained(e, want.Key); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if len(e) != len(kafkax.ConsumerKeys())+1 {
		t.Errorf("%d lines for %d keys and one injection", len(e), len(kafkax.ConsumerKeys()))
	}
	column := -1
	for line := range strings.Lines(e.String()) {
		at := strings.Index(line, "kafka:9092")
		if at >= 0 {
			column = at
		}
	}
	if column < 0 || !strings.HasPrefix(e.String()[strings.Index(e.String(), "VALUE")-column:], "KEY") {
		t.Errorf("not aligned:\n%s", e)
	}
	if got := explained((kafkax.ConsumerConfig{}).Explain(), "brokers"); got.Source != "set in code" { // of a literal
		t.Errorf("got %+v", got)
	}
}

func FuzzYAML(f *testing.F) {
	f.Add(kafkax.DefaultYAML())
	for _, seed := range []string{
		"", "null", "brokers: [a:1, b:2]\n", "consumer:\n  retry: {max_attempts: 3}\n", "a: &x [*x]\n", "---\n---\n",
		"sasl:\n  password: *x\n", "? [a]\n: b\n", "brokers: []\nbrokers: []\n", "{{{{", "consumer: !!binary x\n", "\xff\xfe",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, problems := kafkax.ReadYAML(data)
		for _, err := range problems {
			if !errors.Is(err, kafkax.ErrInvalidConfig) {
				t.Errorf("%v does not match ErrInvalidConfig", err)
			}
		}
		known := slices.Concat(kafkax.ProducerKeys(), kafkax.ConsumerKeys())
		for _, k := range keys {
			shared := strings.TrimPrefix(strings.TrimPrefix(k, "producer."), "consumer.")
			if !slices.Contains(known, k) && !slices.Contains(known, shared) {
				t.Errorf("took the unknown key %q", k)
			}
		}
	})
}

// problems takes the joined error apart.
func problems(t *testing.T, err error) (all []*kafkax.ConfigError) {
	t.Helper()
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("%v is no joined error", err)
	}
	for _, e := range joined.Unwrap() {
		var problem *kafkax.ConfigError
		if !errors.As(e, &problem) {
			t.Fatalf("%v is no ConfigError", e)
		}
		all = append(all, problem)
	}
	return all
}

func explained(e kafkax.Explanation, key string) kafkax.Setting {
	if i := slices.IndexFunc(e, func(s kafkax.Setting) bool { return s.Key == key }); i >= 0 {
		return e[i]
	}
	return kafkax.Setting{}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kafkax.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What only reading a file can tell still says where the file was named.
func TestC1_UnreadableCredentialsNameTheirSource(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none.pem")
	_, consumerErr := kafkax.NewConsumer(kafkax.WithConsumerBrokers("b:9092"), kafkax.WithConsumerTopic("t"), kafkax.WithConsumerPartition(0),
		kafkax.WithConsumerTLSEnabled(true), kafkax.WithConsumerTLSCAFile(missing))
	_, producerErr := kafkax.NewProducer(kafkax.WithProducerBrokers("b:9092"),
		kafkax.WithProducerTLSEnabled(true), kafkax.WithProducerTLSCAFile(missing))
	for option, err := range map[string]error{"WithConsumerTLSCAFile": consumerErr, "WithProducerTLSCAFile": producerErr} {
		var ce *kafkax.ConfigError
		if !errors.As(err, &ce) || ce.Key != "tls.ca_file" || ce.Source != "option "+option {
			t.Errorf("%s: got %v, want a ConfigError of tls.ca_file from the option", option, err)
		}
	}
}

// A key of an older protocol is accepted, and said to do nothing.
func TestRetentionTimeIsWarnedOf(t *testing.T) {
	t.Parallel()

	var mu sync.Mutex
	var lines []string
	logger := kafka.LoggerFunc(func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, fmt.Sprintf(format, args...))
	})
	for range 2 { // each client says it, whatever others said before
		c, err := kafkax.NewConsumer(kafkax.WithConsumerBrokers("a:1"), kafkax.WithConsumerTopic("t"), kafkax.WithConsumerGroupID("g"),
			kafkax.WithConsumerRetentionTime(time.Hour), kafkax.WithConsumerErrorLogger(logger))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if c.Config().RetentionTime != time.Hour {
			t.Errorf("got %v", c.Config().RetentionTime)
		}
	}
	eventually(t, "the warnings", func() bool { mu.Lock(); defer mu.Unlock(); return len(lines) == 2 })
	for _, line := range lines {
		if !strings.Contains(line, "consumer.retention_time has no effect") || !strings.Contains(line, "WithConsumerRetentionTime") {
			t.Errorf("got %q", line)
		}
	}
	if r := kafkax.ResolveConsumer(minimal, kafkax.WithConsumerRetentionTime(0)); r.Err != nil || len(r.Warnings) > 0 {
		t.Errorf("got %v and %q", r.Err, r.Warnings)
	}
}
