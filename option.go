package kafkax

import (
	"fmt"
	"io"
	"strings"
)

// ProducerOption sets one value of a [Producer]'s configuration. Options are the
// last of the layers, and of two for one value the later wins. They only
// assign: [NewProducer] judges the merged result.
type ProducerOption func(*producerDraft)

// ConsumerOption sets one value of a [Consumer]'s configuration. Options are the
// last of the layers, and of two for one value the later wins. They only
// assign: [NewConsumer] judges the merged result.
type ConsumerOption func(*consumerDraft)

// ConsumeOption sets one value for a single run of [Consumer.Consume] or another
// loop, over the consumer's configuration. Options only assign: the loop judges
// the result before it begins.
type ConsumeOption func(*consumeDraft)

// draft is what options write: text for a key, as every other layer. What only
// code can give is assigned to the config beside it.
type draft struct {
	settings layer
	document document // in place of the file that the environment names
	section  setting  // of the document; without a source the whole
	prefix   string   // of the environment's variables; empty for the usual
	noEnv    bool
	injected []Setting
	problems []error
	warnings []warning
}

// draftOf is a draft with the config it is for.
type draftOf[C any] struct {
	draft
	cfg C
}

type (
	producerDraft = draftOf[ProducerConfig]
	consumerDraft = draftOf[ConsumerConfig]
	consumeDraft  = draftOf[consumeConfig]
)

// apply takes over what options say, in the order of the call.
func apply[C any, O ~func(*draftOf[C])](d *draftOf[C], opts []O) {
	for i, opt := range opts {
		if opt == nil {
			d.rejectNilOption(i)
			continue
		}
		opt(d)
	}
}

func (d *draft) set(key, option, text string) {
	if d.settings == nil {
		d.settings = layer{}
	}
	d.settings[key] = setting{text: text, source: "option " + option}
}

// start takes over a config that was resolved before. A value that was not
// changed since keeps its source; any other comes from changed.
func (d *draft) start(keys []configKey, from *sources, changed string) {
	if d.settings == nil {
		d.settings = layer{}
	}
	for _, k := range keys {
		given := setting{text: k.text(), source: changed}
		if source := from.source(k); source != setInCode {
			given = from.settings[k.name]
			given.source = source
			if k.secret {
				given.text = k.text()
			}
		}
		d.settings[k.name] = given
	}
	if from != nil {
		for _, s := range from.injected {
			d.inject(s.Key, s.Value, s.Source)
		}
	}
}

// startOption is start for the options that take a config from outside.
func (d *draft) startOption(keys []configKey, from *sources, option, load string) {
	if from == nil {
		d.problems = append(d.problems, &ConfigError{
			Key:    "config",
			Source: "option " + option,
			Rule:   "must come from " + load + " and be changed from there: in a literal, a zero cannot be told from a value left out",
		})
		return
	}
	d.start(keys, from, "option "+option)
}

// accept says whether an injected value is there, and notes it; a nil, also
// one inside an interface, becomes a problem.
func (d *draft) accept(key, option string, value any) bool {
	if isNil(value) {
		d.rejectNil(key, option)
		return false
	}
	d.inject(key, fmt.Sprintf("%T", value), "option "+option)
	return true
}

func (d *draft) inject(key, value, source string) {
	given := Setting{Key: key, Value: value, Source: source}
	for i := range d.injected {
		if d.injected[i].Key == key {
			d.injected[i] = given
			return
		}
	}
	d.injected = append(d.injected, given)
}

func (d *draft) rejectNil(key, option string) {
	d.problems = append(d.problems, &ConfigError{Key: key, Source: "option " + option, Value: "nil", Rule: "must not be nil"})
}

// rejectNilOption says which option of the call was nil, the first being 1.
func (d *draft) rejectNilOption(i int) {
	d.problems = append(d.problems, &ConfigError{Key: fmt.Sprintf("option %d", i+1), Source: "option", Value: "nil", Rule: "must not be nil"})
}

// takeFile, takeReader, takeSection, takePrefix and dropEnv are what the options
// of both sides do that say where values come from.

func (d *draft) takeFile(option, path string) {
	d.document = document{setting: setting{text: path, source: "option " + option}}
}

// takeReader wants what reads once, so that one option serves several clients.
func (d *draft) takeReader(option string, r io.Reader, read func() ([]byte, error)) {
	if d.accept(configReaderKey, option, r) {
		d.document = document{setting: setting{source: "option " + option}, read: read}
	}
}

func (d *draft) takeSection(option, path string) {
	d.section = setting{text: path, source: "option " + option}
}

// takePrefix leaves the underscore to us that a variable's name goes on with.
func (d *draft) takePrefix(option, prefix string) {
	odd := func(r rune) bool { return r != '_' && !isLetter(r) && !isDigit(r) }
	if prefix == "" || isDigit(rune(prefix[0])) || strings.ContainsFunc(prefix, odd) {
		d.problems = append(d.problems, &ConfigError{
			Key: "env_prefix", Source: "option " + option, Value: configKey{}.mask(prefix),
			Rule: "must be letters, digits and _, and not begin with a digit",
		})
		return
	}
	d.prefix, d.noEnv = strings.TrimSuffix(prefix, "_")+"_", false
}

func (d *draft) dropEnv() { d.prefix, d.noEnv = "", true }

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func isDigit(r rune) bool  { return r >= '0' && r <= '9' }
