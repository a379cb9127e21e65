package kafkax_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxpb"
)

func TestC1_ProtoProblems(t *testing.T) {
	t.Parallel()

	duration := func(seconds int64, nanos int32) *kafkaxpb.ConsumerConfig {
		return &kafkaxpb.ConsumerConfig{RetentionTime: &durationpb.Duration{Seconds: seconds, Nanos: nanos}}
	}
	tests := []struct {
		name  string
		cfg   *kafkaxpb.ConsumerConfig
		key   string
		value string
		rule  string
	}{
		{"nil", nil, "config", "nil", "must not be nil"},
		{"enum without a name", &kafkaxpb.ConsumerConfig{Ordering: 4}, "consumer.ordering", "4", "must be one of partition, key, unordered"},
		{"enum below zero", &kafkaxpb.ConsumerConfig{OnFailure: -1}, "consumer.on_failure", "-1", "must be one of stop, skip, or empty"},
		{
			"enum of a section", &kafkaxpb.ConsumerConfig{Sasl: &kafkaxpb.SASLConfig{Mechanism: math.MaxInt32}},
			"sasl.mechanism", "2147483647", "must be one of PLAIN",
		},
		{"negative duration", duration(-1, 0), "consumer.retention_time", "-1s", "must be at least 1ms, or 0"},
		{"duration out of Go's range", duration(300*365*24*3600, 0), "consumer.retention_time", "9460800000 seconds and 0 nanos", "at most 292 years"},
		{"out of range with the nanos of the last", duration(9223372037, 854775807), "consumer.retention_time", "9223372037 seconds and 854775807 nanos", "at most 292 years"},
		{"the least too late", duration(9223372036, 854775808), "consumer.retention_time", "9223372036 seconds and 854775808 nanos", "at most 292 years"},
		{"duration out of all range", duration(math.MaxInt64, math.MaxInt32), "consumer.retention_time", "9223372036854775807 seconds and 2147483647 nanos", "at most 292 years"},
		{"and below", duration(math.MinInt64, math.MinInt32), "consumer.retention_time", "-9223372036854775808 seconds and -2147483648 nanos", "at most 292 years"},
		{"too many nanos", duration(1, 1e9), "consumer.retention_time", "1 seconds and 1000000000 nanos", "below a second"},
		{"two signs", duration(1, -1), "consumer.retention_time", "1 seconds and -1 nanos", "same sign"},
		{"number below zero", &kafkaxpb.ConsumerConfig{MinBytes: new(int32(-1))}, "consumer.min_bytes", "-1", "whole number from 1 to"},
		{
			"not a number", &kafkaxpb.ConsumerConfig{Retry: &kafkaxpb.RetryConfig{Jitter: new(math.NaN())}},
			"consumer.retry.jitter", "NaN", "must be a number from 0 to 1",
		},
		{"not UTF-8", &kafkaxpb.ConsumerConfig{GroupId: new("\xff")}, "consumer.group_id", `"\xff"`, "must be valid UTF-8"},
		{"broker", &kafkaxpb.ConsumerConfig{Brokers: []string{"a:1", "b"}}, "brokers", "a:1,b", "entry 2 must be host:port"},
		{
			"rule across keys", &kafkaxpb.ConsumerConfig{SessionTimeout: durationpb.New(time.Second)},
			"consumer.heartbeat_interval", "3s", "must be below consumer.session_timeout, which is 1s (protobuf)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := kafkax.ResolveConsumer(minimal, kafkax.ConsumerOptionsFromProto(tt.cfg)...).Err
			p := problems(t, fmt.Errorf("setup: %w", err))
			if len(p) != 1 || p[0].Key != tt.key || p[0].Value != tt.value || !strings.Contains(p[0].Rule, tt.rule) ||
				p[0].Source != "protobuf" && tt.name != "rule across keys" {
				t.Errorf("got %v, want of %s = %s that it %s", err, tt.key, tt.value, tt.rule)
			}
		})
	}
}

func TestC1_ProtoProblemsWithAllOthers(t *testing.T) {
	t.Parallel()

	cfg := &kafkaxpb.ProducerConfig{
		Compression:  77,
		BatchTimeout: &durationpb.Duration{Seconds: 1, Nanos: -1},
		BatchSize:    new(int32(0)),
		DialTimeout:  &durationpb.Duration{Nanos: 2e9},
	}
	environ := []string{"KAFKAX_PRODUCER_ASYNC=perhaps", "KAFKAX_DIAL_TIMEOUT=5s"}
	check := func(err error, want ...string) {
		t.Helper()
		var got []string
		for _, p := range problems(t, err) {
			got = append(got, p.Key+" "+p.Source)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if !errors.Is(err, kafkax.ErrInvalidConfig) || !errors.Is(err, kafkax.ErrNoBrokers) {
			t.Errorf("%v does not match", err)
		}
	}
	check(kafkax.ResolveProducer(environ, append(kafkax.ProducerOptionsFromProto(cfg), nil)...).Err,
		"brokers default", "dial_timeout protobuf", "option 2 option", "producer.async env KAFKAX_PRODUCER_ASYNC",
		"producer.batch_size protobuf", "producer.batch_timeout protobuf", "producer.compression protobuf")
	check(kafkax.ResolveProducer(environ, kafkax.ProducerOptionsFromProto(nil)...).Err,
		"brokers default", "config protobuf", "producer.async env KAFKAX_PRODUCER_ASYNC")

	// What a later option replaces is no problem any more.
	fixed := append(kafkax.ProducerOptionsFromProto(cfg), kafkax.WithProducerCompression("zstd"), kafkax.WithProducerBatchSize(1),
		kafkax.WithProducerBatchTimeout(1), kafkax.WithProducerDialTimeout(time.Second))
	if err := kafkax.ResolveProducer(minimal, fixed...).Err; err != nil {
		t.Error(err)
	}
}

func TestProtoIsReadAtOnce(t *testing.T) {
	t.Parallel()

	cfg := &kafkaxpb.ConsumerConfig{Brokers: []string{"a:1"}, Topic: new("orders"), GroupId: new("billing"), MaxWait: durationpb.New(time.Second)}
	opts := kafkax.ConsumerOptionsFromProto(cfg)
	cfg.Brokers[0], *cfg.Topic, cfg.MaxWait.Seconds = "b:2", "other", 2
	proto.Reset(cfg)

	// One that is used before and after others leaves alone what they set, and
	// keeps nothing of it.
	before := []kafkax.ConsumerOption{kafkax.WithConsumerClientID("me"), kafkax.WithConsumerTopic("lost")}
	for _, topic := range []string{"mine", "orders"} {
		all := slices.Concat(before, opts)
		if topic == "mine" {
			all = append(all, kafkax.WithConsumerTopic(topic))
		}
		r := kafkax.ResolveConsumer(nil, all...)
		if r.Err != nil || r.Config.Brokers[0] != "a:1" || r.Config.MaxWait != time.Second ||
			r.Config.Topic != topic || r.Config.ClientID != "me" {
			t.Errorf("got %v and %v, want %s", r.Config, r.Err, topic)
		}
	}
}

func TestC2_UnknownProtoFields(t *testing.T) {
	t.Parallel()

	sasl := new(kafkaxpb.SASLConfig)
	if err := proto.Unmarshal([]byte{0xa2, 0x06, 0x07, 'h', 'u', 'n', 't', 'e', 'r', '2', 0xc0, 0x0c, 0x01}, sasl); err != nil {
		t.Fatal(err) // 100: "hunter2", 200: 1
	}
	r := kafkax.ResolveProducer(minimal, kafkax.ProducerOptionsFromProto(&kafkaxpb.ProducerConfig{Sasl: sasl})...)
	want := `a protobuf message has fields that this version does not know and ignores message=kafkax.v1.SASLConfig numbers="[100 200]"`
	if r.Err != nil || !slices.Equal(r.Warnings, []string{want}) {
		t.Errorf("got %q and %v, want %q", r.Warnings, r.Err, want)
	}
}

func TestC3_ProtoPassword(t *testing.T) {
	t.Parallel()

	cfg := &kafkaxpb.ProducerConfig{Sasl: &kafkaxpb.SASLConfig{Password: new(secret), PasswordFile: new("/p")}}
	err := kafkax.ResolveProducer(minimal, kafkax.ProducerOptionsFromProto(cfg)...).Err
	if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, secret) || !strings.Contains(text, "sasl.password = *** (protobuf)") {
		t.Error(text)
	}
	cfg.Sasl.Mechanism, cfg.Sasl.Username, cfg.Sasl.PasswordFile = kafkaxpb.SASLMechanism_SASL_MECHANISM_PLAIN, new("alice"), nil
	r := kafkax.ResolveProducer(minimal, kafkax.ProducerOptionsFromProto(cfg)...)
	if text := fmt.Sprintf("%v %s", r.Config, r.Config.Explain()); r.Err != nil || r.Config.SASL.Password.Reveal() != secret || strings.Contains(text, secret) {
		t.Errorf("%v %s", r.Err, text)
	}
}

func TestSetup(t *testing.T) {
	t.Parallel()

	producer, err := kafkax.SetupProducer(&kafkaxpb.ProducerConfig{Brokers: []string{"127.0.0.1:1"}, ClientId: new("proto")},
		kafkax.WithProducerClientID("option"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg := producer.Config(); cfg.ClientID != "option" || cfg.Brokers[0] != "127.0.0.1:1" {
		t.Errorf("got %v", cfg)
	}
	consumer, err := kafkax.SetupConsumer(&kafkaxpb.ConsumerConfig{Brokers: []string{"127.0.0.1:1"}, Topic: new("proto"), GroupId: new("proto")},
		kafkax.WithConsumerTopic("option"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg := consumer.Config(); cfg.Topic != "option" || cfg.Brokers[0] != "127.0.0.1:1" {
		t.Errorf("got %v", cfg)
	}
	if err := errors.Join(producer.Close(), consumer.Close()); err != nil {
		t.Error(err)
	}

	p, err := kafkax.SetupProducer(nil)
	if p != nil || !errors.Is(err, kafkax.ErrInvalidConfig) {
		t.Errorf("got %v and %v", p, err)
	}
	c, err := kafkax.SetupConsumer(nil)
	if c != nil || !errors.Is(err, kafkax.ErrInvalidConfig) {
		t.Errorf("got %v and %v", c, err)
	}
}

// FuzzProto takes bytes as the wire format and as JSON, of both messages.
func FuzzProto(f *testing.F) {
	for _, side := range protoSides {
		for key, field := range protoFields(side) {
			if field.IsList() || field.Kind() == protoreflect.MessageKind {
				continue
			}
			addProto(f, withField(side, key, field.Default()))
		}
		addProto(f, side.empty())
	}
	addProto(f, &kafkaxpb.ProducerConfig{
		Brokers: []string{"a:1", "", ","}, Compression: -1, Balancer: math.MaxInt32,
		Sasl:        &kafkaxpb.SASLConfig{Mechanism: 9, Password: new(secret)},
		DialTimeout: &durationpb.Duration{Seconds: math.MinInt64, Nanos: math.MinInt32},
	})
	addProto(f, &kafkaxpb.ConsumerConfig{
		Topic: new("orders"), Partition: new(int32(math.MinInt32)),
		Retry:         &kafkaxpb.RetryConfig{Multiplier: new(math.Inf(1)), Jitter: new(math.NaN())},
		RetentionTime: durationpb.New(math.MaxInt64),
	})
	for _, seed := range []string{
		`{"topic": "orders", "maxWait": "1.5s", "ordering": "ORDERING_KEY"}`, `{"compression": 99}`,
		`{"dial_timeout": "315576000000s"}`, `{"sasl": {}, "tls": null}`, "\xa2\x06\x01x", "\x08\x01", "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, side := range protoSides {
			for _, unmarshal := range []func([]byte, proto.Message) error{proto.Unmarshal, protojson.Unmarshal} {
				cfg := side.empty()
				if unmarshal(data, cfg) != nil {
					continue
				}
				_, explanation, _, err := side.resolve(append(slices.Clone(minimal), "KAFKAX_SASL_PASSWORD=opensesame"), cfg)
				if err != nil && !errors.Is(err, kafkax.ErrInvalidConfig) {
					t.Errorf("%v does not match ErrInvalidConfig", err)
				}
				if text := fmt.Sprint(err, explanation); strings.Contains(text, "opensesame") && !strings.Contains(string(data), "opensesame") {
					t.Errorf("%s shows the password", text)
				}
				for _, p := range explanation {
					if err == nil && !slices.Contains(side.keys, p.Key) {
						t.Errorf("took the unknown key %q", p.Key)
					}
				}
			}
		}
	})
}

func addProto(f *testing.F, cfg proto.Message) {
	f.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
}
