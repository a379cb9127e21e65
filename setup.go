package kafkax

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/bi-common/kafkax/kafkaxpb"
)

const sourceProto = "protobuf"

// SetupProducer is [NewProducer] with cfg over the defaults, the YAML file and
// the environment, and opts over cfg. Like that it dials nothing.
//
// A field that is not set leaves the other layers alone; a zero or an empty
// text that is set goes over them. A nil cfg, an enum number without a name and
// a duration that is invalid are errors matching [ErrInvalidConfig], together
// with all other problems of the result.
func SetupProducer(cfg *kafkaxpb.ProducerConfig, opts ...ProducerOption) (*Producer, error) {
	return NewProducer(slices.Concat(ProducerOptionsFromProto(cfg), opts)...)
}

// SetupConsumer is [NewConsumer] with cfg over the defaults, the YAML file and
// the environment, and opts over cfg. Like that it dials nothing.
//
// A field that is not set leaves the other layers alone; a zero or an empty
// text that is set goes over them. A nil cfg, an enum number without a name and
// a duration that is invalid are errors matching [ErrInvalidConfig], together
// with all other problems of the result.
func SetupConsumer(cfg *kafkaxpb.ConsumerConfig, opts ...ConsumerOption) (*Consumer, error) {
	return NewConsumer(slices.Concat(ConsumerOptionsFromProto(cfg), opts)...)
}

// ProducerOptionsFromProto turns cfg into options that set what it sets. They
// keep nothing of cfg, so it may change afterwards. Like all options they only
// assign; a nil cfg is an error of the call that they are given to.
//
// Fields that this version of kafkax does not know are named in a warning of
// the error logger, and ignored.
func ProducerOptionsFromProto(cfg *kafkaxpb.ProducerConfig) []ProducerOption {
	given := readProto("producer.", cfg.ProtoReflect())
	return []ProducerOption{func(d *producerDraft) { d.assign(given) }}
}

// ConsumerOptionsFromProto turns cfg into options that set what it sets. They
// keep nothing of cfg, so it may change afterwards. Like all options they only
// assign; a nil cfg is an error of the call that they are given to.
//
// Fields that this version of kafkax does not know are named in a warning of
// the error logger, and ignored.
func ConsumerOptionsFromProto(cfg *kafkaxpb.ConsumerConfig) []ConsumerOption {
	given := readProto("consumer.", cfg.ProtoReflect())
	return []ConsumerOption{func(d *consumerDraft) { d.assign(given) }}
}

func (d *draft) assign(given draft) {
	if d.settings == nil {
		d.settings = layer{}
	}
	maps.Copy(d.settings, given.settings)
	d.problems = append(d.problems, given.problems...)
	d.warnings = append(d.warnings, given.warnings...)
}

// readProto reads a message by its descriptor, so that a field of the .proto
// cannot be forgotten here. Its fields are named as their keys are.
func readProto(side string, m protoreflect.Message) draft {
	if !m.IsValid() {
		return draft{problems: []error{&ConfigError{
			Key: "config", Source: sourceProto, Value: "nil",
			Rule: fmt.Sprintf("must not be nil; an empty %s sets nothing", m.Descriptor().FullName()),
		}}}
	}
	d := draft{settings: layer{}}
	d.readMessage(side, "", m)
	return d
}

func (d *draft) readMessage(side, section string, m protoreflect.Message) {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		d.warnings = append(d.warnings, unknownFields(m, unknown))
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool { // over what is set
		name := section + string(f.Name())
		if f.Message() != nil {
			if _, isTime := v.Message().Interface().(*durationpb.Duration); !isTime {
				d.readMessage(side, name+".", v.Message())
				return true
			}
		}
		key := name
		if _, shared := knownKeys()[name]; !shared {
			key = side + name
		}
		d.settings[key] = protoSetting(f, v)
		return true
	})
}

func protoSetting(f protoreflect.FieldDescriptor, v protoreflect.Value) setting {
	given := setting{source: sourceProto}
	switch {
	case f.IsList():
		items := make([]string, v.List().Len())
		for i := range items {
			items[i] = v.List().Get(i).String()
		}
		given.text = settingText(items)
	case f.Enum() != nil:
		given.text = enumText(f.Enum(), v.Enum())
	case f.Message() != nil:
		given.text, given.broken = durationText(v.Message().Interface().(*durationpb.Duration))
	default: // bool, int32, double or string
		given.text = settingText(v.Interface())
	}
	return given
}

// oddEnums are the values whose YAML is not their name: a name holds no "-",
// and "none" may be empty.
var oddEnums = map[protoreflect.Name]string{
	"SASL_MECHANISM_NONE":          string(SASLNone),
	"SASL_MECHANISM_SCRAM_SHA_256": string(SASLScramSHA256),
	"SASL_MECHANISM_SCRAM_SHA_512": string(SASLScramSHA512),
	"FAILURE_POLICY_DEFAULT":       string(FailDefault),
}

// enumText spells a value as the YAML does. A number without a name stays a
// number, which no enumeration allows.
func enumText(enum protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	value := enum.Values().ByNumber(n)
	if value == nil {
		return fmt.Sprint(n)
	}
	if text, odd := oddEnums[value.Name()]; odd {
		return text
	}
	prefix := strings.TrimSuffix(string(enum.Values().ByNumber(0).Name()), "UNSPECIFIED")
	return strings.ToLower(strings.TrimPrefix(string(value.Name()), prefix))
}

// durationText also says what is wrong with a duration that Go cannot hold:
// converted, it would be another one.
func durationText(d *durationpb.Duration) (text, broken string) {
	converted := d.AsDuration()
	if back := durationpb.New(converted); back.GetSeconds() == d.GetSeconds() && back.GetNanos() == d.GetNanos() {
		return converted.String(), ""
	}
	return fmt.Sprintf("%d seconds and %d nanos", d.GetSeconds(), d.GetNanos()),
		"must be at most 292 years, with its nanos below a second and of the same sign as its seconds"
}

func unknownFields(m protoreflect.Message, raw protoreflect.RawFields) warning {
	var numbers []protowire.Number
	for len(raw) > 0 {
		number, _, size := protowire.ConsumeField(raw)
		if size < 0 {
			break
		}
		numbers = append(numbers, number)
		raw = raw[size:]
	}
	slices.Sort(numbers)
	name, all := string(m.Descriptor().FullName()), configKey{}.mask(fmt.Sprint(slices.Compact(numbers)))
	return warning{
		msg:   "a protobuf message has fields that this version does not know and ignores",
		attrs: logAttrs{slog.String("message", name), slog.String("numbers", all)},
		about: name + all,
	}
}
