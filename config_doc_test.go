package kafkax_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bi-common/kafkax"
)

const configurationDoc = "docs/configuration.md"

// TestConfigurationDoc holds the table of keys to the code: it is made from the
// defaults and their comments, the rules that values are judged by, and the
// comments of the options. With -update-golden it is written anew.
func TestConfigurationDoc(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- Made by TestConfigurationDoc from here... -->\n", "<!-- ...to here. -->\n"

	got := readDoc(t, configurationDoc)
	before, rest, found := strings.Cut(got, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s: the marks of the table are gone", configurationDoc)
	}
	want := before + begin + "\n" + configurationTables(t) + "\n" + end + after
	if *updateGolden {
		if err := os.WriteFile(configurationDoc, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s is not what the code says; go test -run TestConfigurationDoc . -update-golden writes it anew", configurationDoc)
	}
}

// TestReadmeKeys holds the README's short table to the long one.
func TestReadmeKeys(t *testing.T) {
	t.Parallel()
	defaults := keyDefaults(t)
	rows := regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| (.*?) \\|").FindAllStringSubmatch(readDoc(t, "README.md"), -1)
	if len(rows) < 10 {
		t.Errorf("%d keys found", len(rows))
	}
	for _, row := range rows {
		if want, ok := defaults[row[1]]; !ok || row[2] != want {
			t.Errorf("%s: the README says %s, the defaults %q", row[1], row[2], want)
		}
	}
}

func configurationTables(t *testing.T) string {
	t.Helper()
	d := keyDoc{comments: embeddedKeys(t), options: optionDocs(t), defaults: keyDefaults(t)}
	producer, consumer := kafkax.ProducerKeys(), kafkax.ConsumerKeys()
	var b strings.Builder
	section := func(title string, keys []string, sides ...string) {
		fmt.Fprintf(&b, "## %s\n\n| Key, variable, option | Default | Takes | Meaning | Kafka's name |\n| --- | --- | --- | --- | --- |\n", title)
		for _, key := range keys {
			b.WriteString(d.row(t, key, sides))
		}
		b.WriteString("\n")
	}
	shared := func(key string) bool { return slices.Contains(producer, key) && slices.Contains(consumer, key) }
	own := func(keys []string) []string { return slices.DeleteFunc(slices.Clone(keys), shared) }
	section("Both sides", slices.DeleteFunc(slices.Clone(producer), func(k string) bool { return !shared(k) }), "Producer", "Consumer")
	section("Producer", own(producer), "Producer")
	section("Consumer", own(consumer), "Consumer")

	b.WriteString("## Names in other clients\n\nWhat the Java client and librdkafka call what a key sets, and what none does. An error or a warning of an unknown key says so too.\n\n" +
		"| There | Here |\n| --- | --- |\n")
	names := kafkax.KafkaNames()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		here := "no key"
		if len(names[name]) > 0 {
			here = "`" + strings.Join(names[name], "`, `") + "`"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, here)
	}
	b.WriteString("\n")

	b.WriteString("## Only in code\n\nWhat these take has no spelling outside of code, or holds for one run of a loop.\n\n| Option | Sets |\n| --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(d.options)) {
		if !d.listed(name) {
			fmt.Fprintf(&b, "| `%s` | %s |\n", name, d.firstSentence(name))
		}
	}
	return b.String()
}

// keyDoc is what the code says of keys and options.
type keyDoc struct {
	comments map[string]string // of the defaults, by key
	options  map[string]string // comment by name
	defaults map[string]string // by key
}

var unitOfComment = regexp.MustCompile(`\s\((duration|bytes|count|number|[0-9]+ to [0-9]+)\)\.?$`)

func (d keyDoc) row(t *testing.T, key string, sides []string) string {
	t.Helper()
	names := []string{"`" + key + "`", "`" + kafkax.EnvName(key) + "`"}
	var doc string
	for _, side := range sides {
		name := "With" + side + optionSuffix(key)
		doc = d.flat(name)
		names = append(names, "`"+name+"`")
	}

	comment := strings.Join(strings.Fields(strings.ReplaceAll(d.comments[key], "#", "")), " ")
	unit := ""
	if m := unitOfComment.FindStringSubmatch(comment); m != nil {
		unit = m[1]
		comment = strings.TrimSuffix(comment, m[0]) + "."
	}
	values := takes(t, key, unit)
	if first, _, _ := strings.Cut(values, ", "); strings.HasPrefix(comment, first) {
		// The comment begins with the values; the option says what they are for.
		what, _, _ := strings.Cut(d.firstSentence("With"+sides[0]+optionSuffix(key)), ": ")
		comment = strings.TrimSuffix(what, ".") + ": " + comment
	}
	property := ""
	if m := regexp.MustCompile(`Kafka: (.+?)\. Env:`).FindStringSubmatch(doc); m != nil {
		property = m[1]
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n",
		strings.Join(names, "<br>"), d.defaults[key], values, strings.ReplaceAll(comment, "|", `\|`), property)
}

// takes is what a key's values may be, as the validation says.
func takes(t *testing.T, key, unit string) string {
	t.Helper()
	side, config := "consumer", any(kafkax.ConsumerConfig{})
	if slices.Contains(kafkax.ProducerKeys(), key) {
		side, config = "producer", any(kafkax.ProducerConfig{})
	}
	switch field(t, config, key).(type) {
	case bool:
		return "true or false"
	case []string:
		return "host:port, commas between"
	case time.Duration:
		rule := brokenRule(t, side, key, "-1h")
		if low, ok := strings.CutPrefix(rule, "must be at least "); ok {
			return "duration, from " + low
		}
		t.Errorf("%s: the rule of a negative duration is %q", key, rule)
	case int, float64:
		rule := brokenRule(t, side, key, "x")
		for _, prefix := range []string{"must be a whole number ", "must be a number "} {
			if bounds, ok := strings.CutPrefix(rule, prefix); ok {
				bounds = strings.TrimSuffix(bounds, " to 2147483647")
				if unit == "" || strings.Contains(unit, " to ") {
					unit = "number"
				}
				return unit + ", " + bounds
			}
		}
		t.Errorf("%s: the rule of a number is %q", key, rule)
	case string, kafkax.Secret:
		switch {
		case strings.HasSuffix(key, "topic"):
			return "topic"
		case strings.HasSuffix(key, "_file"):
			return "path"
		}
		return "text"
	default:
		rule := brokenRule(t, side, key, "x")
		if values, ok := strings.CutPrefix(rule, "must be one of "); ok {
			return values
		}
		t.Errorf("%s: the rule of an enumeration is %q", key, rule)
	}
	return ""
}

// brokenRule is the rule that a value of a key breaks.
func brokenRule(t *testing.T, side, key, value string) string {
	t.Helper()
	entries := environ(kafkax.EnvName(key) + "=" + value)
	err := kafkax.ResolveConsumer(entries).Err
	if side == "producer" {
		err = kafkax.ResolveProducer(entries).Err
	}
	var broken *kafkax.ConfigError
	if !errors.As(err, &broken) || broken.Key != key {
		t.Errorf("%s=%s is not refused by itself: %v", key, value, err)
		return ""
	}
	return broken.Rule
}

// keyDefaults is every key's default as the tables print it.
func keyDefaults(t *testing.T) map[string]string {
	t.Helper()
	producer, err := kafkax.LoadProducer(nil)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := kafkax.LoadConsumer(nil)
	if err != nil {
		t.Fatal(err)
	}
	defaults := map[string]string{}
	for _, s := range slices.Concat(producer.Explain(), consumer.Explain()) {
		defaults[s.Key] = "`" + s.Value + "`"
		if s.Value == "" {
			defaults[s.Key] = "none"
		}
	}
	return defaults
}

func (d keyDoc) flat(option string) string {
	return strings.Join(strings.Fields(d.options[option]), " ")
}

// listed says whether an option is that of a key, for a whole side.
func (d keyDoc) listed(option string) bool {
	for side, keys := range map[string][]string{"Producer": kafkax.ProducerKeys(), "Consumer": kafkax.ConsumerKeys()} {
		for _, key := range keys {
			if option == "With"+side+optionSuffix(key) {
				return true
			}
		}
	}
	return false
}

// firstSentence is what an option sets, without its name.
func (d keyDoc) firstSentence(option string) string {
	text := strings.TrimPrefix(d.flat(option), option+" ")
	text, _, _ = strings.Cut(text, ". ")
	text = strings.TrimSuffix(strings.TrimPrefix(text, "sets "), ".") + "."
	text = regexp.MustCompile(`\[([A-Za-z.]+)\]`).ReplaceAllString(text, "`$1`")
	return strings.ToUpper(text[:1]) + text[1:]
}
