package kafkax

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go"
)

// configFileEnv names the user's YAML file. It is the one variable that is not
// a key.
const configFileEnv = "KAFKAX_CONFIG_FILE"

// surroundings is what a resolver reads beside its options. Tests bring their
// own.
type surroundings struct {
	environ func() []string
	warn    func(to kafka.Logger, variable, message string)
}

var osSurroundings = surroundings{environ: os.Environ, warn: warnOnce}

// warnedVariables keeps a program with many clients from saying the same of
// its one environment for each of them.
var warnedVariables sync.Map

// warnOnce writes to slog's default logger unless the caller brought one.
func warnOnce(to kafka.Logger, variable, message string) {
	if _, said := warnedVariables.LoadOrStore(variable, nil); said {
		return
	}
	if to == nil {
		slog.Warn("kafkax: " + message)
		return
	}
	to.Printf("%s", message)
}

// envName is a key's spelling in the environment. There is no other table.
func envName(key string) string {
	return "KAFKAX_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// readEnv turns the environment into a layer. A variable that is set but empty
// counts as not set, as deployment tools often cannot leave one out.
func readEnv(environ []string) (settings layer, file setting, unknown []string) {
	keys := make(map[string]string)
	for name := range knownKeys() {
		keys[envName(name)] = name
	}

	settings = layer{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "KAFKAX_") {
			continue
		}
		key, known := keys[name]
		given := setting{text: value, source: "env " + name}
		switch {
		case !known && name != configFileEnv:
			unknown = append(unknown, name)
		case value == "":
		case name == configFileEnv:
			file = given
		default:
			settings[key] = given
		}
	}
	slices.Sort(unknown)
	return settings, file, unknown
}

// unknownVariable never shows the value: it may be a password under a name
// that was mistyped.
func unknownVariable(name string) string {
	known := []string{configFileEnv}
	for key := range knownKeys() {
		known = append(known, envName(key))
	}
	return fmt.Sprintf("environment variable %s is not one of ours and is ignored; the nearest is %s",
		name, nearest(name, known))
}
