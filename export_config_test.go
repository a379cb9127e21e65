package kafkax

import (
	"reflect"
	"strings"
	"unsafe"

	"github.com/segmentio/kafka-go"
)

// Resolved is a resolution in an environment of the test's own.
type Resolved[C any] struct {
	Config   C
	Err      error
	Warnings []string
}

func ResolveProducer(environ []string, opts ...ProducerOption) Resolved[ProducerConfig] {
	var r Resolved[ProducerConfig]
	r.Config, r.Err = resolve(testSurroundings(environ, &r.Warnings), opts, true)
	return r
}

func ResolveConsumer(environ []string, opts ...ConsumerOption) Resolved[ConsumerConfig] {
	var r Resolved[ConsumerConfig]
	r.Config, r.Err = resolve(testSurroundings(environ, &r.Warnings), opts, true)
	return r
}

// LoadProducer and LoadConsumer are the LoadXFromEnv of that environment.
func LoadProducer(environ []string) (ProducerConfig, error) {
	return resolve(testSurroundings(environ, new([]string)), []ProducerOption(nil), false)
}

func LoadConsumer(environ []string) (ConsumerConfig, error) {
	return resolve(testSurroundings(environ, new([]string)), []ConsumerOption(nil), false)
}

func testSurroundings(environ []string, warnings *[]string) surroundings {
	return surroundings{
		environ: func() []string { return environ },
		warn:    func(_ kafka.Logger, w warning) { *warnings = append(*warnings, w.attrs.text(w.msg)) },
	}
}

// ResolveConsume gives back what of a loop's configuration is not in the
// ConsumerConfig as well.
func ResolveConsume(base ConsumerConfig, opts ...ConsumeOption) (cfg ConsumerConfig, hasWriter, hasOnError bool, err error) {
	return ResolveLoop("Consume", base, opts...)
}

// ResolveLoop is ResolveConsume of the loop with that name.
func ResolveLoop(loop string, base ConsumerConfig, opts ...ConsumeOption) (cfg ConsumerConfig, hasWriter, hasOnError bool, err error) {
	c, err := resolveConsume(base, loop, opts)
	return c.ConsumerConfig, c.dlqWriter != nil, c.onError != nil, err
}

// Injected names what only code could give.
func (c *ConnectionConfig) Injected() (has []string) {
	for name, given := range map[string]bool{
		"sasl": c.mechanism != nil, "tls": c.tlsConfig != nil, "dial": c.dial != nil,
		"logger": c.logger != nil, "error_logger": c.errorLogger != nil,
	} {
		if given {
			has = append(has, name)
		}
	}
	return has
}

func (c ProducerConfig) HasHooks() (completion, writer bool) {
	return c.completion != nil, c.tuneWriter != nil
}

func (c ConsumerConfig) HasHooks() (group bool) { return c.tuneGroup != nil }

func ReadYAML(data []byte) (keys []string, problems []error) {
	settings, problems := readYAML(data, "fuzz.yaml", "")
	for k := range settings {
		keys = append(keys, k)
	}
	return keys, problems
}

func DefaultYAML() []byte { return defaultYAML }

func ProducerKeys() []string { return keyNames(new(ProducerConfig).keys()) }
func ConsumerKeys() []string { return keyNames(new(ConsumerConfig).keys()) }

func keyNames(keys []configKey) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}

func EnvName(key string) string { return envName(envPrefix, key) }

// WarnOnce says msg once in the process for the same thing.
func WarnOnce(to kafka.Logger, about, msg string) { warn(to, warning{msg: msg, about: about}) }

// KafkaNames is which keys Kafka's own names stand for.
func KafkaNames() map[string][]string { return kafkaNames }

// DeepPrint follows every pointer and reads every field, exported or not, and
// calls no method.
func DeepPrint(v any) string {
	var b strings.Builder
	seen := map[unsafe.Pointer]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() && !seen[v.UnsafePointer()] {
				seen[v.UnsafePointer()] = true
				walk(v.Elem())
			}
		case reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Struct:
			for _, field := range v.Fields() {
				walk(field)
			}
		case reflect.Map:
			for entries := v.MapRange(); entries.Next(); {
				walk(entries.Key())
				walk(entries.Value())
			}
		case reflect.Slice, reflect.Array:
			if v.Type().Elem().Kind() == reflect.Uint8 {
				for i := range v.Len() {
					b.WriteByte(byte(v.Index(i).Uint()))
				}
				b.WriteByte('\n')
				return
			}
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.String:
			b.WriteString(v.String() + "\n")
		}
	}
	walk(reflect.ValueOf(v))
	return b.String()
}
