package kafkax

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go"
)

const envPrefix = "KAFKAX_"

// surroundings is what a resolver reads beside its options. Tests bring their
// own.
type surroundings struct {
	environ func() []string
	warn    func(to kafka.Logger, w warning)
}

var osSurroundings = surroundings{environ: os.Environ, warn: warn}

// warning is what the error logger is told of a configuration that is in order.
type warning struct {
	msg   string
	attrs logAttrs
	about string // is warned of once in the process; empty: by each client
}

// warned keeps a program with many clients from saying the same of its one
// environment for each of them.
var warned sync.Map

func warn(to kafka.Logger, w warning) {
	if w.about != "" {
		if _, said := warned.LoadOrStore(w.about, nil); said {
			return
		}
	}
	newLoggers(nil, to).warn(w.msg, w.attrs)
}

// envName is a key's spelling in the environment. There is no other table.
func envName(prefix, key string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// environment is what the variables with one prefix say.
type environment struct {
	prefix   string
	settings layer
	file     setting    // names the user's YAML file
	hints    []variable // what was probably meant to be a setting
}

// variable is one that sets nothing, though its name looks as if it should.
type variable struct {
	name  string
	why   string // it sets nothing
	meant suggestion
}

// readEnv turns the environment into a layer. A variable that is set but empty
// counts as not set, as deployment tools often cannot leave one out, and so does
// one of white space alone, unless it is a password. It warns of variables that
// are ours by their prefix and by nothing else.
func readEnv(environ []string, prefix string) (env environment, warnings []warning) {
	keys := map[string]string{envName(prefix, configFileKey): configFileKey}
	for name := range knownKeys() {
		keys[envName(prefix, name)] = name
	}
	known := slices.Collect(maps.Values(keys))

	env = environment{prefix: prefix, settings: layer{}}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		key, ours := keys[name]
		given := setting{text: value, source: "env " + name}
		unknown, prefixed := strings.CutPrefix(name, prefix)
		kafkas, isKafkas := strings.CutPrefix(name, "KAFKA_")
		switch {
		case ours && (value == "" || strings.TrimSpace(value) == "" && !knownKeys()[key].secret):
			env.hints = append(env.hints, variable{name, "is empty", suggestion{keys: []string{key}, near: true}})
		case key == configFileKey:
			env.file = given
		case ours:
			env.settings[key] = given
		case prefixed:
			meant := suggest(unknown, known)
			env.hints = append(env.hints, variable{name, "is unknown", meant})
			if prefix == envPrefix || meant.near { // a prefix of the service's own may be that of other settings too
				warnings = append(warnings, env.unknown(name, meant))
			}
		case isKafkas: // as other clients are often set up
			env.hints = append(env.hints, variable{name, "is not read", suggest(kafkas, known)})
		}
	}
	slices.SortFunc(env.hints, func(a, b variable) int { return strings.Compare(a.name, b.name) })
	slices.SortFunc(warnings, func(a, b warning) int { return strings.Compare(a.about, b.about) })
	return env, warnings
}

// unknown never shows the value: it may be a password under a name that was
// mistyped.
func (env *environment) unknown(name string, meant suggestion) warning {
	keys := make([]string, len(meant.keys))
	for i, key := range meant.keys {
		keys[i] = env.name(key)
	}
	attrs := logAttrs{slog.String("variable", cutText(name, maxShown))}
	if len(keys) > 0 {
		attrs = append(attrs, slog.String("nearest", strings.Join(keys, ",")))
	}
	if meant.kafka != "" {
		attrs = append(attrs, slog.String("kafka", meant.kafka))
	}
	return warning{msg: "an environment variable is not one of ours and is ignored", attrs: attrs, about: name}
}

func (env *environment) name(key string) string { return envName(env.prefix, key) }

// hint names the variables that were probably meant for one of the keys.
func (env *environment) hint(keys ...string) string {
	var b strings.Builder
	for _, v := range env.hints {
		meant := slices.IndexFunc(v.meant.keys, func(key string) bool { return slices.Contains(keys, key) })
		if v.meant.near && meant >= 0 {
			fmt.Fprintf(&b, "; the variable %s is set, but %s", cutText(v.name, maxShown), v.why)
			if name := env.name(v.meant.keys[meant]); name != v.name {
				b.WriteString(": " + name + " was probably meant")
			}
		}
	}
	return b.String()
}
