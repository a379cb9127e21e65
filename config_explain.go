package kafkax

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Explanation is every key of a configuration with its value and the layer
// that set it. It prints as an aligned table, secrets masked.
type Explanation []Setting

// String is the table.
func (e Explanation) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(s Setting) { fmt.Fprintf(w, "%s\t%s\t%s\n", s.Key, s.Value, s.Source) } //nolint:errcheck // a Builder does not fail
	line(Setting{Key: "KEY", Value: "VALUE", Source: "SOURCE"})
	for _, s := range e {
		if s.Value == "" {
			s.Value = `""`
		}
		line(s)
	}
	w.Flush() //nolint:errcheck // a Builder does not fail
	return b.String()
}

// Explain lists each key, its effective value and the layer that set it. What
// only code can give, such as a logger, is listed when it was given.
func (c ProducerConfig) Explain() Explanation { return explain(c.keys(), c.sources) }

// Explain lists each key, its effective value and the layer that set it. What
// only code can give, such as a logger, is listed when it was given.
func (c ConsumerConfig) Explain() Explanation { return explain(c.keys(), c.sources) }

func explain(keys []configKey, from *sources) Explanation {
	var e Explanation
	for _, k := range keys {
		e = append(e, Setting{Key: k.name, Value: k.shown(), Source: from.source(k)})
	}
	if from != nil {
		e = append(e, from.injected...)
	}
	return e
}

// source is where a field's value came from; s may be nil.
func (s *sources) source(k configKey) string {
	if s == nil || s.resolved[k.name] != k.kept() {
		return setInCode
	}
	if given, ok := s.settings[k.name]; ok {
		return given.source
	}
	return sourceDefault
}

// sourced adds where the values came from to errors of what only reading a file
// could tell.
func (s *sources) sourced(err error, keys []configKey) error {
	problems := unjoin(err)
	for _, part := range problems {
		problem, ok := part.(*ConfigError) //nolint:errorlint // a wrapped one says itself what it is about
		if !ok || problem.Source != "" {
			continue
		}
		if problem.Err != nil {
			problem.Err = pathless(problem.Err) // Value decides whether the path is shown.
		}
		for _, k := range keys {
			if k.name == problem.Key {
				problem.Value, problem.Source = k.shown(), s.source(k)
			}
		}
	}
	return joinConfig(problems)
}

// The methods below write the values as their keys, to fmt, JSON, YAML and slog.
// Each type needs its own: a method that is promoted from an embedded struct
// would print that struct alone. They do not keep the secrets: [Secret] does.

// String lists all keys, secrets masked.
func (c SASLConfig) String() string { return printed("SASLConfig", c.keys()) }

// String lists all keys. What looks like the content of a file, in place of its
// path, is masked.
func (c TLSConfig) String() string { return printed("TLSConfig", c.keys()) }

// String lists all keys, secrets masked.
func (c ConnectionConfig) String() string { return printed("ConnectionConfig", c.keys()) }

// String lists all keys, secrets masked.
func (c ProducerConfig) String() string { return printed("ProducerConfig", c.keys()) }

// String lists all keys, secrets masked.
func (c ConsumerConfig) String() string { return printed("ConsumerConfig", c.keys()) }

// Format prints String for every verb.
func (c SASLConfig) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) } //nolint:errcheck // fmt keeps it

// Format prints String for every verb.
func (c TLSConfig) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) } //nolint:errcheck // fmt keeps it

// Format prints String for every verb.
func (c ConnectionConfig) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) } //nolint:errcheck // fmt keeps it

// Format prints String for every verb.
func (c ProducerConfig) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) } //nolint:errcheck // fmt keeps it

// Format prints String for every verb.
func (c ConsumerConfig) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) } //nolint:errcheck // fmt keeps it

// MarshalJSON is an object of all keys, secrets masked.
func (c SASLConfig) MarshalJSON() ([]byte, error) { return json.Marshal(values(c.keys())) }

// MarshalJSON is an object of all keys, masked as in String.
func (c TLSConfig) MarshalJSON() ([]byte, error) { return json.Marshal(values(c.keys())) }

// MarshalJSON is an object of all keys, secrets masked.
func (c ConnectionConfig) MarshalJSON() ([]byte, error) { return json.Marshal(values(c.keys())) }

// MarshalJSON is an object of all keys, secrets masked.
func (c ProducerConfig) MarshalJSON() ([]byte, error) { return json.Marshal(values(c.keys())) }

// MarshalJSON is an object of all keys, secrets masked.
func (c ConsumerConfig) MarshalJSON() ([]byte, error) { return json.Marshal(values(c.keys())) }

// MarshalYAML is a mapping of all keys, secrets masked.
func (c SASLConfig) MarshalYAML() (any, error) { return values(c.keys()), nil }

// MarshalYAML is a mapping of all keys, masked as in String.
func (c TLSConfig) MarshalYAML() (any, error) { return values(c.keys()), nil }

// MarshalYAML is a mapping of all keys, secrets masked.
func (c ConnectionConfig) MarshalYAML() (any, error) { return values(c.keys()), nil }

// MarshalYAML is a mapping of all keys, secrets masked.
func (c ProducerConfig) MarshalYAML() (any, error) { return values(c.keys()), nil }

// MarshalYAML is a mapping of all keys, secrets masked.
func (c ConsumerConfig) MarshalYAML() (any, error) { return values(c.keys()), nil }

// LogValue is a group of all keys, secrets masked.
func (c SASLConfig) LogValue() slog.Value { return logged(c.keys()) }

// LogValue is a group of all keys, masked as in String.
func (c TLSConfig) LogValue() slog.Value { return logged(c.keys()) }

// LogValue is a group of all keys, secrets masked.
func (c ConnectionConfig) LogValue() slog.Value { return logged(c.keys()) }

// LogValue is a group of all keys, secrets masked.
func (c ProducerConfig) LogValue() slog.Value { return logged(c.keys()) }

// LogValue is a group of all keys, secrets masked.
func (c ConsumerConfig) LogValue() slog.Value { return logged(c.keys()) }

func printed(name string, keys []configKey) string {
	fields := make([]string, len(keys))
	for i, k := range keys {
		fields[i] = k.name + "=" + k.shown()
	}
	return "kafkax." + name + "{" + strings.Join(fields, " ") + "}"
}

// shownValue keeps numbers and switches what they are.
func (k configKey) shownValue() any {
	switch v := k.get().(type) {
	case bool, int, float64:
		return v
	case []string:
		if strings.Contains(k.text(), "@") { // what is masked then may go over several
			return []string{k.shown()}
		}
		items := slices.Clone(v)
		for i := range items {
			items[i] = k.mask(items[i])
		}
		return items
	case time.Duration:
		return v.String()
	default:
		return k.shown()
	}
}

func values(keys []configKey) map[string]any {
	all := make(map[string]any, len(keys))
	for _, k := range keys {
		all[k.name] = k.shownValue()
	}
	return all
}

func logged(keys []configKey) slog.Value {
	attrs := make([]slog.Attr, len(keys))
	for i, k := range keys {
		attrs[i] = slog.Any(k.name, k.shownValue())
	}
	return slog.GroupValue(attrs...)
}
