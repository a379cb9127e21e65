package kafkax

import (
	"fmt"
	"slices"
)

// resolver turns the merged settings of one side into its config, and gathers
// every problem on the way.
type resolver struct {
	side     string       // "producer." or "consumer."
	env      *environment // nil where it plays no part
	keys     []configKey
	settings layer
	problems []error
	warnings []warning
	broken   map[string]bool // keys that have their problem already
}

// add puts a layer on top. Within one layer a shared key that is given for the
// side goes before the one that is given for both.
func (r *resolver) add(settings layer) {
	if r.settings == nil {
		r.settings = layer{}
	}
	for _, k := range r.keys {
		for _, name := range []string{k.name, r.side + k.name} {
			if given, ok := settings[name]; ok {
				r.settings[k.name] = given
			}
		}
	}
}

func (r *resolver) parse() {
	for _, k := range r.keys {
		given, ok := r.settings[k.name]
		if !ok || k.unset && given.text == "" {
			continue
		}
		rule := given.broken
		if rule == "" {
			rule = k.parse(given.text)
		}
		if rule != "" {
			r.fail(k.name, rule, nil)
		}
	}
}

// fail reports the value of a key.
func (r *resolver) fail(key, rule string, cause error) {
	if r.broken == nil {
		r.broken = map[string]bool{}
	}
	r.broken[key] = true
	problem := &ConfigError{Key: key, Rule: rule, Err: cause}
	if given, ok := r.settings[key]; ok {
		problem.Source = given.source
		problem.Value = r.key(key).mask(given.text)
	}
	r.problems = append(r.problems, problem)
}

// missing reports a key that no layer gave, with all ways to give it and what
// looks like an attempt.
func (r *resolver) missing(key, need string, cause error) {
	variable, hint := "", ""
	if r.env != nil {
		variable = r.env.name(key) + ", "
		hint = r.env.hint(key, r.side+key)
	}
	r.fail(key, need+": set "+variable+key+" in the YAML, or the option"+hint, cause)
}

// sound says whether a rule about these keys can be judged.
func (r *resolver) sound(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(k string) bool { return r.broken[k] })
}

// also names the other key of a rule, with its value and where that is from.
func (r *resolver) also(key string) string {
	return fmt.Sprintf("%s, which is %s (%s)", key, r.key(key).shown(), r.settings[key].source)
}

func (r *resolver) key(name string) configKey {
	return r.keys[slices.IndexFunc(r.keys, func(k configKey) bool { return k.name == name })]
}

func (r *resolver) err() error { return joinConfig(r.problems) }

func (r *resolver) sources(injected []Setting) *sources {
	from := &sources{settings: r.settings, resolved: make(map[string]string, len(r.keys)), injected: injected}
	for _, k := range r.keys {
		from.resolved[k.name] = k.kept()
		if given, ok := from.settings[k.name]; ok && k.secret {
			given.text = "" // the field has it
			from.settings[k.name] = given
		}
	}
	return from
}
