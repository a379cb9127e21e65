package kafkax_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
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

// protoSide is one side's message, and its resolution in an environment of the
// test's own, by key.
type protoSide struct {
	name    string
	keys    []string
	empty   func() proto.Message
	resolve func(environ []string, cfg proto.Message) (config any, explain kafkax.Explanation, warnings []string, err error)
}

// protoSides resolve without a message when cfg is nil.
var protoSides = []protoSide{
	{
		"producer", kafkax.ProducerKeys(), func() proto.Message { return new(kafkaxpb.ProducerConfig) },
		func(environ []string, cfg proto.Message) (any, kafkax.Explanation, []string, error) {
			var opts []kafkax.ProducerOption
			if cfg != nil {
				opts = kafkax.ProducerOptionsFromProto(cfg.(*kafkaxpb.ProducerConfig))
			}
			r := kafkax.ResolveProducer(environ, opts...)
			return r.Config, r.Config.Explain(), r.Warnings, r.Err
		},
	},
	{
		"consumer", kafkax.ConsumerKeys(), func() proto.Message { return new(kafkaxpb.ConsumerConfig) },
		func(environ []string, cfg proto.Message) (any, kafkax.Explanation, []string, error) {
			var opts []kafkax.ConsumerOption
			if cfg != nil {
				opts = kafkax.ConsumerOptionsFromProto(cfg.(*kafkaxpb.ConsumerConfig))
			}
			r := kafkax.ResolveConsumer(environ, opts...)
			return r.Config, r.Config.Explain(), r.Warnings, r.Err
		},
	},
}

// TestFifthSpelling goes on from TestFourSpellings: each key has its protobuf
// field, of its own kind, and each field has its key.
func TestFifthSpelling(t *testing.T) {
	t.Parallel()

	for _, side := range protoSides {
		var config any = kafkax.ProducerConfig{}
		if side.name == "consumer" {
			config = kafkax.ConsumerConfig{}
		}
		fields := protoFields(side)
		for _, key := range side.keys {
			f, ok := fields[key]
			if !ok {
				t.Errorf("%s: %T has no field for it", key, side.empty())
				continue
			}
			value := field(t, config, key)
			if want, got := protoKind(value), kindName(f); got != want {
				t.Errorf("%s is a %T, and its protobuf field a %s, want a %s", key, value, got, want)
			}
			if !f.IsList() && f.Enum() == nil && !f.HasPresence() {
				t.Errorf("%s: of its protobuf field, a zero cannot be told from nothing: make it optional", key)
			}
			delete(fields, key)
		}
		for name := range fields {
			t.Errorf("%T: its field %s is no key", side.empty(), name)
		}
	}

	// What is shared has one number, so that the messages stay alike.
	producer, consumer := protoFields(protoSides[0]), protoFields(protoSides[1])
	for key, f := range producer {
		if other, shared := consumer[key]; shared && other.Number() != f.Number() {
			t.Errorf("%s is %d and %d", key, f.Number(), other.Number())
		}
	}
	enums := kafkaxpb.File_kafkaxpb_kafkax_proto.Enums()
	for i := range enums.Len() {
		if zero := enums.Get(i).Values().Get(0); !strings.HasSuffix(string(zero.Name()), "_UNSPECIFIED") {
			t.Errorf("%s = 0 means something, and an unset field has it", zero.Name())
		}
	}
}

// protoFields is every field of a side's message, those of sections in their
// place, by the key that it should be.
func protoFields(side protoSide) map[string]protoreflect.FieldDescriptor {
	all := map[string]protoreflect.FieldDescriptor{}
	var walk func(section string, m protoreflect.MessageDescriptor)
	walk = func(section string, m protoreflect.MessageDescriptor) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			name := section + string(f.Name())
			switch {
			case kindName(f) == "message":
				walk(name+".", f.Message())
			case slices.Contains(side.keys, name):
				all[name] = f
			default:
				all[side.name+"."+name] = f
			}
		}
	}
	walk("", side.empty().ProtoReflect().Descriptor())
	return all
}

func kindName(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsList():
		return "list"
	case f.Message() != nil && f.Message().FullName() == "google.protobuf.Duration":
		return "duration"
	default:
		return f.Kind().String()
	}
}

func protoKind(value any) string {
	switch value.(type) {
	case time.Duration:
		return "duration"
	case kafkax.Secret:
		return "string"
	}
	switch v := reflect.ValueOf(value); {
	case v.Kind() == reflect.Slice:
		return "list"
	case v.Kind() == reflect.Int:
		return "int32"
	case v.Kind() == reflect.Float64:
		return "double"
	case v.Kind() == reflect.String && v.Type() != reflect.TypeFor[string]():
		return "enum"
	default:
		return v.Kind().String()
	}
}

// fromTexts writes values as protobuf JSON and reads the message from that.
func fromTexts(t *testing.T, side protoSide, texts map[string]string) proto.Message {
	t.Helper()
	fields := protoFields(side)
	doc := map[string]any{}
	for key, text := range texts {
		section := doc
		path := strings.Split(strings.TrimPrefix(key, side.name+"."), ".")
		for _, name := range path[:len(path)-1] {
			if section[name] == nil {
				section[name] = map[string]any{}
			}
			section = section[name].(map[string]any)
		}
		section[path[len(path)-1]] = jsonValue(t, fields[key], text)
	}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	cfg := side.empty()
	if err := protojson.Unmarshal(data, cfg); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return cfg
}

func jsonValue(t *testing.T, f protoreflect.FieldDescriptor, text string) any {
	t.Helper()
	switch kindName(f) {
	case "list":
		return strings.Split(text, ",")
	case "duration":
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return strconv.FormatFloat(d.Seconds(), 'f', 9, 64) + "s"
	case "enum":
		return enumName(f.Enum(), text)
	case "string":
		return text
	default:
		return json.RawMessage(text)
	}
}

// enumName is FAILURE_POLICY_SKIP for skip.
func enumName(enum protoreflect.EnumDescriptor, text string) string {
	if text == "" && enum.Name() == "FailurePolicy" {
		text = "default"
	} else if text == "" {
		text = "none"
	}
	prefix := strings.TrimSuffix(string(enum.Values().Get(0).Name()), "UNSPECIFIED")
	return prefix + strings.ToUpper(strings.ReplaceAll(text, "-", "_"))
}

// TestOverriddenByProto sets every key to something that is not its default,
// and looks for it in the field and in the explanation.
func TestOverriddenByProto(t *testing.T) {
	t.Parallel()

	for name, excluded := range map[string][]string{
		"most": {"consumer.partition", "sasl.password_file"},
		"rest": {"consumer.group_id", "sasl.password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			round := slices.DeleteFunc(samples(), func(s sample) bool { return slices.Contains(excluded, s.key) })
			texts := []map[string]string{{}, {}}
			for _, s := range round {
				for i, side := range protoSides {
					if slices.Contains(side.keys, s.key) {
						texts[i][s.key] = s.text
					}
				}
			}
			producer := fromTexts(t, protoSides[0], texts[0]).(*kafkaxpb.ProducerConfig)
			consumer := fromTexts(t, protoSides[1], texts[1]).(*kafkaxpb.ConsumerConfig)
			source := func(sample) string { return "protobuf" }
			checkOverridden(t, round,
				kafkax.ResolveProducer(nil, kafkax.ProducerOptionsFromProto(producer)...),
				kafkax.ResolveConsumer(nil, kafkax.ConsumerOptionsFromProto(consumer)...), source, source)
		})
	}
}

// TestProtoIsTheYAML writes random configurations in both spellings. They must
// give the same result, or the same problems.
func TestProtoIsTheYAML(t *testing.T) {
	t.Parallel()

	for _, side := range protoSides {
		t.Run(side.name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 2))
			var valid, invalid int
			seen := map[string]bool{} // in a valid one
			for range 200 {
				texts := randomTexts(r, side)
				var file strings.Builder
				for key, text := range texts {
					fmt.Fprintf(&file, "%s: %q\n", key, text)
				}
				path := writeFile(t, file.String())

				fromYAML, _, _, yamlErr := side.resolve([]string{"KAFKAX_CONFIG_FILE=" + path}, nil)
				fromProto, _, _, protoErr := side.resolve(nil, fromTexts(t, side, texts))
				if got, want := sourceless(t, protoErr, "protobuf"), sourceless(t, yamlErr, path); !reflect.DeepEqual(got, want) {
					t.Fatalf("%v\ngot  %q\nwant %q", texts, got, want)
				}
				for _, key := range side.keys {
					if got, want := field(t, fromProto, key), field(t, fromYAML, key); !reflect.DeepEqual(got, want) {
						t.Fatalf("%v\n%s = %v, want %v", texts, key, got, want)
					}
				}
				if protoErr != nil {
					invalid++
					continue
				}
				valid++
				for key := range texts {
					seen[key] = true
				}
			}
			if valid < 20 || invalid < 20 || len(seen) != len(side.keys) {
				t.Errorf("%d valid and %d invalid ones, with %d of %d keys: too few", valid, invalid, len(seen), len(side.keys))
			}
		})
	}
}

// sourceless is the problems of err without the places that they are from.
func sourceless(t *testing.T, err error, source string) (all []string) {
	t.Helper()
	if err == nil {
		return nil
	}
	for _, p := range problems(t, err) {
		rule, at, found := strings.Cut(p.Rule, "("+source)
		if found {
			_, at, _ = strings.Cut(at, ")")
		}
		all = append(all, fmt.Sprintf("%s = %s: %s()%s", p.Key, p.Value, rule, at))
	}
	return all
}

// randomTexts sets each key or does not. Mostly it leaves no key beside one
// that excludes it or without one that it needs.
func randomTexts(r *rand.Rand, side protoSide) map[string]string {
	chance := []float64{0.1, 0.5, 1}[r.IntN(3)]
	texts := map[string]string{}
	fields := protoFields(side)
	for _, key := range side.keys {
		if r.Float64() < chance {
			texts[key] = randomText(r, key, fields[key])
		}
	}
	if r.IntN(5) == 0 {
		return texts
	}

	texts["brokers"] = "a:1,b:2"
	if side.name == "consumer" {
		texts["consumer.topic"] = "orders"
	}
	drop := func(prefix string, but ...string) {
		for key := range texts {
			if strings.HasPrefix(key, prefix) && !slices.Contains(but, key) {
				delete(texts, key)
			}
		}
	}
	switch {
	case texts["sasl.mechanism"] == "":
		drop("sasl.", "sasl.mechanism")
	case r.IntN(2) == 0:
		texts["sasl.username"], texts["sasl.password"] = "alice", "p"
		drop("sasl.password_file")
	default:
		texts["sasl.username"], texts["sasl.password_file"] = "alice", "/p"
		drop("sasl.password", "sasl.password_file")
	}
	if texts["tls.enabled"] != "true" {
		drop("tls.", "tls.enabled")
	} else if texts["tls.cert_file"] == "" || texts["tls.key_file"] == "" {
		drop("tls.cert_file")
		drop("tls.key_file")
	}
	if r.IntN(2) == 0 {
		drop("consumer.group_id")
	} else {
		drop("consumer.partition")
	}
	if side.name == "consumer" && texts["consumer.group_id"] == "" && texts["consumer.partition"] == "" {
		texts["consumer.partition"] = "0"
	}
	if acks := texts["producer.required_acks"]; acks != "" && acks != "all" {
		drop("producer.idempotent")
	}
	return texts
}

func randomText(r *rand.Rand, key string, f protoreflect.FieldDescriptor) string {
	between := map[string][2]time.Duration{
		"consumer.heartbeat_interval": {time.Second, 4 * time.Second}, "consumer.session_timeout": {5 * time.Second, 30 * time.Second},
		"consumer.rebalance_timeout": {30 * time.Second, time.Hour}, "producer.delivery_timeout": {time.Minute, time.Hour},
		"consumer.retry.initial_backoff": {1, time.Second}, "consumer.retry.max_backoff": {time.Second, time.Hour},
	}
	texts := map[string][]string{
		"consumer.min_bytes": {"1", "2", "10"}, "consumer.max_bytes": {"10", "4096"}, "consumer.concurrency": {"1", "8"},
		"consumer.retry.multiplier": {"1", "1.5", "2", "99.75"}, "consumer.retry.jitter": {"0", "0.125", "1"},
	}
	switch kind := kindName(f); {
	case texts[key] != nil:
		return texts[key][r.IntN(len(texts[key]))]
	case r.IntN(200) == 0 && kind == "int32":
		return "-1"
	case r.IntN(200) == 0 && kind == "duration":
		return "-1s"
	case kind == "duration":
		low, high := time.Millisecond, 20*time.Second
		if span, ok := between[key]; ok {
			low, high = span[0], span[1]
		}
		return (low + rand.N(high-low+1)).String()
	case kind == "int32":
		return strconv.Itoa(1 + r.IntN(1_000_000))
	case kind == "bool":
		return strconv.FormatBool(r.IntN(2) == 0)
	case kind == "enum":
		value := f.Enum().Values().Get(1 + r.IntN(f.Enum().Values().Len()-1))
		for _, e := range protoEnums {
			if e.value.Descriptor() == f.Enum() && e.value.Number() == value.Number() {
				return fmt.Sprint(e.want)
			}
		}
		panic(value.FullName())
	case kind == "list":
		return []string{"a:1", "a:1,b:2", "[::1]:9092,x"}[r.IntN(3)]
	default:
		return []string{"", "a", "A-b_c.d", "on", "0123", "ü"}[r.IntN(6)]
	}
}

var protoEnums = []struct {
	value protoreflect.Enum
	want  any
}{
	{kafkaxpb.SASLMechanism_SASL_MECHANISM_NONE, kafkax.SASLNone},
	{kafkaxpb.SASLMechanism_SASL_MECHANISM_PLAIN, kafkax.SASLPlain},
	{kafkaxpb.SASLMechanism_SASL_MECHANISM_SCRAM_SHA_256, kafkax.SASLScramSHA256},
	{kafkaxpb.SASLMechanism_SASL_MECHANISM_SCRAM_SHA_512, kafkax.SASLScramSHA512},
	{kafkaxpb.Acks_ACKS_ALL, kafkax.AcksAll},
	{kafkaxpb.Acks_ACKS_ONE, kafkax.AcksOne},
	{kafkaxpb.Acks_ACKS_NONE, kafkax.AcksNone},
	{kafkaxpb.Compression_COMPRESSION_NONE, kafkax.CompressionNone},
	{kafkaxpb.Compression_COMPRESSION_GZIP, kafkax.CompressionGzip},
	{kafkaxpb.Compression_COMPRESSION_SNAPPY, kafkax.CompressionSnappy},
	{kafkaxpb.Compression_COMPRESSION_LZ4, kafkax.CompressionLz4},
	{kafkaxpb.Compression_COMPRESSION_ZSTD, kafkax.CompressionZstd},
	{kafkaxpb.Balancer_BALANCER_MURMUR2, kafkax.BalancerMurmur2},
	{kafkaxpb.Balancer_BALANCER_CRC32, kafkax.BalancerCRC32},
	{kafkaxpb.Balancer_BALANCER_HASH, kafkax.BalancerHash},
	{kafkaxpb.Balancer_BALANCER_ROUND_ROBIN, kafkax.BalancerRoundRobin},
	{kafkaxpb.Balancer_BALANCER_LEAST_BYTES, kafkax.BalancerLeastBytes},
	{kafkaxpb.StartOffset_START_OFFSET_EARLIEST, kafkax.StartEarliest},
	{kafkaxpb.StartOffset_START_OFFSET_LATEST, kafkax.StartLatest},
	{kafkaxpb.OffsetReset_OFFSET_RESET_EARLIEST, kafkax.ResetEarliest},
	{kafkaxpb.OffsetReset_OFFSET_RESET_LATEST, kafkax.ResetLatest},
	{kafkaxpb.OffsetReset_OFFSET_RESET_ERROR, kafkax.ResetError},
	{kafkaxpb.IsolationLevel_ISOLATION_LEVEL_READ_UNCOMMITTED, kafkax.ReadUncommitted},
	{kafkaxpb.IsolationLevel_ISOLATION_LEVEL_READ_COMMITTED, kafkax.ReadCommitted},
	{kafkaxpb.FailurePolicy_FAILURE_POLICY_DEFAULT, kafkax.FailDefault},
	{kafkaxpb.FailurePolicy_FAILURE_POLICY_STOP, kafkax.FailStop},
	{kafkaxpb.FailurePolicy_FAILURE_POLICY_SKIP, kafkax.FailSkip},
	{kafkaxpb.Ordering_ORDERING_PARTITION, kafkax.OrderPartition},
	{kafkaxpb.Ordering_ORDERING_KEY, kafkax.OrderKey},
	{kafkaxpb.Ordering_ORDERING_UNORDERED, kafkax.Unordered},
}

// TestProtoEnums takes every value of every enumeration over one that the
// environment has set, and looks that YAML has no others.
func TestProtoEnums(t *testing.T) {
	t.Parallel()

	for _, side := range protoSides {
		for key, f := range protoFields(side) {
			if f.Enum() == nil {
				continue
			}
			var missing []string
			for i := range f.Enum().Values().Len() {
				missing = append(missing, string(f.Enum().Values().Get(i).Name()))
			}
			var covered int
			for _, e := range protoEnums {
				if e.value.Descriptor() != f.Enum() {
					continue
				}
				covered++
				cfg := withField(side, key, protoreflect.ValueOfEnum(e.value.Number()))
				environ := minimal
				if key == "sasl.mechanism" && e.want != kafkax.SASLNone {
					environ = append(slices.Clone(minimal), "KAFKAX_SASL_USERNAME=alice", "KAFKAX_SASL_PASSWORD=p")
				}
				got, _, _, err := side.resolve(environ, cfg)
				if err != nil || field(t, got, key) != e.want {
					t.Errorf("%s: %v is %v with %v, want %v", key, e.value, field(t, got, key), err, e.want)
				}
				missing = slices.DeleteFunc(missing, func(name string) bool { return name == fmt.Sprint(e.value) })
			}
			if len(missing) != 1 { // the unspecified one
				t.Errorf("%s: the table has none of %v", key, missing)
			}

			// The rule that a wrong value breaks lists all that there are.
			_, _, _, err := side.resolve(minimal, withField(side, key, protoreflect.ValueOfEnum(99)))
			if p := problems(t, err); len(p) != 1 || p[0].Key != key || p[0].Source != "protobuf" || p[0].Value != "99" ||
				strings.Count(p[0].Rule, ", ")+1 != covered {
				t.Errorf("%s: got %v, want one problem that names %d values", key, err, covered)
			}
		}
	}
}

// withField is a message with one field set, whatever it is set to.
func withField(side protoSide, key string, value protoreflect.Value) proto.Message {
	cfg := side.empty()
	m := cfg.ProtoReflect()
	path := strings.Split(strings.TrimPrefix(key, side.name+"."), ".")
	for _, name := range path[:len(path)-1] {
		m = m.Mutable(m.Descriptor().Fields().ByName(protoreflect.Name(name))).Message()
	}
	m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(path[len(path)-1])), value)
	return cfg
}

// TestProtoPresence puts a message over an environment that sets the same key.
func TestProtoPresence(t *testing.T) {
	t.Parallel()

	for _, side := range protoSides {
		fields := protoFields(side)
		for _, s := range samples() {
			if !slices.Contains(side.keys, s.key) {
				continue
			}
			environ := append(slices.Clone(minimal), kafkax.EnvName(s.key)+"="+s.text)
			if s.key == "consumer.partition" {
				environ = slices.DeleteFunc(environ, func(s string) bool { return strings.HasPrefix(s, kafkax.EnvName("consumer.group_id")) })
			}

			// Nothing is set, not even where sections are.
			config, _, _, wantErr := side.resolve(environ, nil)
			sections := side.empty()
			for i := range sections.ProtoReflect().Descriptor().Fields().Len() {
				if f := sections.ProtoReflect().Descriptor().Fields().Get(i); kindName(f) == "message" {
					sections.ProtoReflect().Mutable(f)
				}
			}
			for _, cfg := range []proto.Message{side.empty(), sections} {
				got, _, _, err := side.resolve(environ, cfg)
				if fmt.Sprint(err) != fmt.Sprint(wantErr) || !reflect.DeepEqual(got, config) {
					t.Errorf("%s: an empty message changes the result: %v, %v", s.key, got, err)
				}
			}

			// Its zero is set.
			f := fields[s.key]
			if f.IsList() || f.Enum() != nil {
				continue // theirs says nothing
			}
			zero := f.Default()
			if f.Message() != nil {
				zero = protoreflect.ValueOfMessage(new(durationpb.Duration).ProtoReflect())
			}
			got, explanation, _, err := side.resolve(environ, withField(side, s.key, zero))
			if err != nil {
				if p := problems(t, err); p[0].Key != s.key || p[0].Source != "protobuf" {
					t.Errorf("%s: got %v, want at most that a zero will not do", s.key, err)
				}
				continue
			}
			if source := explained(explanation, s.key).Source; source != "protobuf" || !reflect.ValueOf(field(t, got, s.key)).IsZero() {
				t.Errorf("%s = %v from %s, want its zero from protobuf", s.key, field(t, got, s.key), source)
			}
		}
	}
}
