package kafkax

import (
	"cmp"
	_ "embed"
)

//go:embed kafkax-default.yaml
var defaultYAML []byte

func resolveProducer(opts []ProducerOption) (ProducerConfig, error) {
	return resolve(osSurroundings, opts, true)
}

func resolveConsumer(opts []ConsumerOption) (ConsumerConfig, error) {
	return resolve(osSurroundings, opts, true)
}

// sideConfig is what the configurations of the two sides have in common.
type sideConfig[C any] interface {
	*C
	side() string
	connection() *ConnectionConfig
	keys() []configKey
	check(r *resolver)
	require(r *resolver)
}

// resolve puts all layers over each other. Unless it must be complete, what has
// no default may still be missing.
func resolve[C any, P sideConfig[C], O ~func(*draftOf[C])](s surroundings, opts []O, complete bool) (C, error) {
	var d draftOf[C]
	apply(&d, opts)

	cfg := d.cfg
	p := P(&cfg)
	r := &resolver{side: p.side(), keys: p.keys(), problems: d.problems}
	s.merge(r, &d.draft, p.connection())
	r.parse()
	p.check(r)
	if complete {
		p.require(r)
	}
	if err := r.err(); err != nil {
		return *new(C), err
	}
	if complete {
		for _, w := range r.warnings {
			s.warn(p.connection().errorLogger, w)
		}
	}
	p.connection().sources = r.sources(d.injected)
	return cfg, nil
}

// resolveConsume applies a loop's options to a copy of its consumer's
// configuration.
func resolveConsume(base ConsumerConfig, loop string, opts []ConsumeOption) (consumeConfig, error) {
	d := consumeDraft{cfg: consumeConfig{ConsumerConfig: base.clone()}}
	d.start(base.keys(), base.sources, setInCode)
	apply(&d, opts)

	cfg := d.cfg
	r := &resolver{keys: cfg.keys(), settings: d.settings, problems: d.problems}
	r.parse()
	cfg.check(r)
	cfg.require(r)
	checkLoop(r, loop)
	if err := r.err(); err != nil {
		return consumeConfig{}, err
	}
	cfg.sources = r.sources(d.injected)
	return cfg, nil
}

// merge puts the four layers over each other, the last wins.
func (s surroundings) merge(r *resolver, d *draft, conn *ConnectionConfig) {
	var env environment
	if !d.noEnv {
		var warnings []warning
		env, warnings = readEnv(s.environ(), cmp.Or(d.prefix, envPrefix))
		d.warnings = append(d.warnings, warnings...)
		r.env = &env
	}
	warn := func(w warning) { s.warn(conn.errorLogger, w) }
	for _, w := range d.warnings {
		warn(w)
	}
	doc := d.document
	if doc.source == "" {
		doc.setting = env.file
	}

	defaults, problems := readYAML(defaultYAML, "", "")
	r.problems = append(r.problems, problems...)
	r.add(defaults)
	settings, problems := doc.layer(d.section, warn)
	r.problems = append(r.problems, problems...)
	r.add(settings)
	r.add(env.settings)
	r.add(d.settings)
}
