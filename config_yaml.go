package kafkax

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"gopkg.in/yaml.v3"
)

const (
	// These name, in errors, what the keys are read from, as configFileKey does.
	configReaderKey  = "config_reader"
	configSectionKey = "config_section"

	maxFileProblems = 100 // so that a file of another kind is not quoted whole
)

// document is the user's YAML: of the file that its text names, or of what read
// returns. Without a source there is none.
type document struct {
	setting
	read func() ([]byte, error)
}

// layer is the settings of the document or of one section of it.
func (d document) layer(section setting, warn func(warning)) (layer, []error) {
	switch {
	case d.source == "" && section.source != "":
		return nil, []error{&ConfigError{
			Key: configSectionKey, Source: section.source, Value: configKey{}.mask(section.text),
			Rule: "has no effect without a configuration file or reader: give that too",
		}}
	case d.source == "":
		return nil, nil
	case section.source != "" && strings.TrimSpace(section.text) == "":
		return nil, []error{&ConfigError{Key: configSectionKey, Source: section.source, Rule: "must be the path of a section, such as services.kafka"}}
	case d.read == nil:
		return readConfigFile(d.setting, section.text, warn)
	}
	data, err := d.read()
	problem := ConfigError{Key: configReaderKey, Source: d.source}
	switch {
	case err != nil:
		problem.Rule, problem.Err = "cannot be read: "+oneLine(fmt.Sprint(err)), err
	case len(data) > maxFileBytes:
		problem.Rule = "must give at most 1 MiB"
	default:
		return readYAML(data, d.source, section.text)
	}
	return nil, []error{&problem}
}

// documentTimeout is how long the user's YAML may take to be read. No key says: it
// would be in there.
const documentTimeout = 10 * time.Second

// readOnce returns what reads everything at its first call and gives that at
// each. It reads little more than a configuration may have, and leaves a reader
// that does not return to itself.
func readOnce(r io.Reader) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		var data []byte
		finished := callUser(func() (err error) {
			data, err = io.ReadAll(io.LimitReader(r, maxFileBytes+1))
			return err
		})
		err, ok := within(finished, documentTimeout)
		if !ok {
			return nil, fmt.Errorf("it has not come to its end within %v (%w)", documentTimeout, os.ErrDeadlineExceeded)
		}
		return data, err
	})
}

// readConfigFile reads the user's file, whose name file holds.
func readConfigFile(file setting, section string, warn func(warning)) (layer, []error) {
	file.text = strings.TrimSpace(file.text) // as every path
	shown := configKey{path: true}.mask(file.text)
	if rule := pathRule(file.text); rule != "" {
		return nil, []error{&ConfigError{Key: configFileKey, Source: file.source, Value: shown, Rule: rule}}
	}
	files := configFiles{{key: configFileKey, path: file.text}}
	read, ok := within(files.read(), documentTimeout)
	if !ok {
		read.err = files.unread(os.ErrDeadlineExceeded)
	}
	if read.err != nil {
		if problem, ok := errors.AsType[*ConfigError](read.err); ok {
			problem.Source, problem.Value = file.source, shown
		}
		return nil, []error{read.err}
	}
	if risk := read.risks[configFileKey]; risk != "" {
		warn(warning{
			msg:   "others may write the configuration file, and so say whom this client trusts",
			attrs: logAttrs{slog.String("source", file.source), slog.String("path", shown), slog.String("risk", risk)},
			about: configFileKey + " " + file.text,
		})
	}
	return readYAML(read.contents[configFileKey], file.text, section)
}

// readYAML flattens one document, or the section with that path, into dotted
// keys: what is outside is not ours. Without a name it is the embedded defaults.
// Values stay the text they were written as: a password of digits or a topic
// called "on" is not to be guessed at.
func readYAML(data []byte, name, section string) (layer, []error) {
	y := yamlReader{name: name, settings: layer{}}

	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return y.settings, nil
	case err != nil:
		y.malformed(err)
		return nil, y.problems
	}

	root := doc.Content[0]
	if section != "" {
		found := sectionsOf(root, strings.Split(section, "."))
		slices.SortFunc(found, func(a, b *yaml.Node) int { return a.Line - b.Line })
		problem := ConfigError{Key: configSectionKey, Source: y.name, Value: configKey{}.mask(section)}
		switch len(found) {
		case 0:
			problem.Rule = "there is no such section"
			return nil, []error{&problem}
		case 1:
			root = found[0]
		default:
			problem.Source = y.at(found[1].Line)
			problem.Rule = "is given twice, first at " + y.at(found[0].Line)
			return nil, []error{&problem}
		}
	}
	y.value("", root)

	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		y.fail(configFileKey, second.Line, "must hold one document, and here a second begins")
	} else if !errors.Is(err, io.EOF) {
		y.malformed(err)
	}
	return y.settings, y.problems
}

// sectionsOf goes down a path. A key of the file may itself have dots, so several
// may fit, as may one that is given twice.
func sectionsOf(n *yaml.Node, path []string) (found []*yaml.Node) {
	if len(path) == 0 {
		return []*yaml.Node{n}
	}
	for taken := len(path); taken > 0; taken-- {
		name := strings.Join(path[:taken], ".")
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				found = append(found, sectionsOf(n.Content[i+1], path[taken:])...)
			}
		}
	}
	return found
}

type yamlReader struct {
	name     string
	settings layer
	problems []error
}

// value takes what stands at path; "" is the whole document.
func (y *yamlReader) value(path string, n *yaml.Node) {
	key, known := knownKeys()[path]
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		// Expanding them lets a small file grow without bound.
		y.fail(path, n.Line, "must be written out: anchors and aliases are not read")
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		// "topic:" with nothing behind it says nothing.
	case n.Kind == yaml.MappingNode && !known:
		y.section(path, n)
	case !known:
		y.fail(path, n.Line, "must be a section, with its keys indented below")
	case n.Kind == yaml.ScalarNode:
		y.set(path, n.Line, n)
	case n.Kind == yaml.SequenceNode && key.list:
		y.set(path, n.Line, n.Content...)
	case n.Kind == yaml.SequenceNode:
		y.fail(path, n.Line, "must be one value, not a list")
	default:
		y.fail(path, n.Line, "must be a value, not a section")
	}
}

func (y *yamlReader) section(path string, n *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if len(y.problems) == maxFileProblems {
			y.fail(path, name.Line, "has more problems than are listed here")
		}
		if len(y.problems) > maxFileProblems {
			return
		}

		sub := name.Value
		if path != "" {
			sub = path + "." + sub
		}
		_, known := knownKeys()[sub]
		switch {
		case name.Kind == yaml.ScalarNode && (known || isSection(sub)):
			y.value(sub, value)
		case name.Kind == yaml.ScalarNode:
			sub = nameAlone(sub)
			y.fail(sub, name.Line, "is an unknown key; "+y.suggest(sub, value).String())
		default:
			y.fail(path, name.Line, "must have plain names as its keys")
		}
	}
}

// nameAlone leaves out of an unknown key what no name holds and all behind it:
// where the space behind the colon is missing, that is the value.
func nameAlone(key string) string {
	end := strings.IndexFunc(key, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-.<", r)
	})
	if end < 0 {
		return key
	}
	return key[:end]
}

// suggest says what an unknown key was probably meant to be: of one that has
// keys below it, another section.
func (y *yamlReader) suggest(path string, value *yaml.Node) suggestion {
	known := slices.Collect(maps.Keys(knownKeys()))
	if value.Kind == yaml.MappingNode {
		for i, name := range known {
			known[i] = name[:max(0, strings.LastIndexByte(name, '.'))]
		}
		known = slices.DeleteFunc(known, func(section string) bool { return section == "" })
	}
	slices.Sort(known)
	return suggest(path, slices.Compact(known))
}

// isSection says whether known keys stand below path.
func isSection(path string) bool {
	for name := range knownKeys() {
		if strings.HasPrefix(name, path+".") {
			return true
		}
	}
	return false
}

// set stores a value, or the items of a list. A key given twice has no last
// one that wins: a reader of the file could not tell.
func (y *yamlReader) set(path string, line int, values ...*yaml.Node) {
	texts := make([]string, len(values))
	for i, v := range values {
		if v.Kind != yaml.ScalarNode || v.Anchor != "" {
			y.fail(path, v.Line, "must be a list of plain values")
			return
		}
		// What such a tag stands for is up to another program. The text behind it is
		// not the value.
		if tag := v.ShortTag(); v.Style&yaml.TaggedStyle != 0 && (!strings.HasPrefix(tag, "!!") || tag == "!!binary") {
			y.fail(path, v.Line, "must be a plain value: tags, such as !env, are not read")
			return
		}
		texts[i] = v.Value
	}

	source := sourceDefault
	if y.name != "" {
		source = y.at(line)
	}
	if first, ok := y.settings[path]; ok {
		y.fail(path, line, "is given twice, first at "+first.source)
		return
	}
	y.settings[path] = setting{text: strings.Join(texts, ","), source: source}
}

func (y *yamlReader) at(line int) string { return fmt.Sprintf("%s:%d", y.name, line) }

// fail never shows a value: it may be a password in the wrong place.
func (y *yamlReader) fail(path string, line int, rule string) {
	if path == "" {
		path = configFileKey
	}
	y.problems = append(y.problems, &ConfigError{
		Key:    configKey{}.mask(path),
		Source: y.at(line),
		Rule:   rule,
	})
}

// quoted is what yaml.v3 repeats of the input in its messages.
var quoted = regexp.MustCompile("(?s)['`\"].*['`\"]")

func (y *yamlReader) malformed(err error) {
	reason := quoted.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), "...")
	y.problems = append(y.problems, &ConfigError{Key: configFileKey, Source: y.name, Rule: "must be YAML: " + reason})
}
