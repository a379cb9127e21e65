package kafkax

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed kafkax-default.yaml
var defaultYAML []byte

// setting is one value as a layer gave it. All layers speak text, so that
// parsing and bounds are in one place: the table of keys.
type setting struct {
	text   string
	source string // "default", "file:line", "env KAFKAX_X", "option WithX" or "protobuf"
	broken string // the rule it broke before it could be spelled as text, or ""
}

// layer is what one source gives, by key.
type layer map[string]setting

// origin is what a config remembers of how it was resolved.
type origin struct {
	settings layer             // what the winning layer gave
	resolved map[string]string // what the field held then, to see later changes
	injected []Setting         // values that only code can give
}

func resolveProducer(opts []ProducerOption) (ProducerConfig, error) {
	return osSurroundings.producer(opts, true)
}

func resolveConsumer(opts []ConsumerOption) (ConsumerConfig, error) {
	return osSurroundings.consumer(opts, true)
}

// resolveConsume applies a loop's options to a copy of its consumer's
// configuration.
func resolveConsume(base ConsumerConfig, opts []ConsumeOption) (consumeConfig, error) {
	d := consumeDraft{cfg: consumeConfig{ConsumerConfig: base.clone()}}
	d.start(base.keys(), base.origin, setInCode)
	for i, opt := range opts {
		if opt == nil {
			d.rejectNilOption(i)
			continue
		}
		opt(&d)
	}

	cfg := d.cfg
	r := &resolver{keys: cfg.keys(), settings: d.settings, problems: d.problems}
	r.parse()
	cfg.check(r)
	cfg.requireBrokers(r)
	cfg.requireTopic(r)
	if err := r.err(); err != nil {
		return consumeConfig{}, err
	}
	cfg.origin = r.origin(d.injected)
	return cfg, nil
}

// producer resolves all layers. Unless it must be complete, brokers may still
// be missing.
func (s surroundings) producer(opts []ProducerOption, complete bool) (ProducerConfig, error) {
	var d producerDraft
	for i, opt := range opts {
		if opt == nil {
			d.rejectNilOption(i)
			continue
		}
		opt(&d)
	}

	cfg := d.cfg
	r := &resolver{side: "producer.", keys: cfg.keys(), problems: d.problems}
	s.merge(r, &d.draft, &cfg.ConnectionConfig)
	r.parse()
	cfg.check(r)
	if complete {
		cfg.requireBrokers(r)
	}
	if err := r.err(); err != nil {
		return ProducerConfig{}, err
	}
	cfg.origin = r.origin(d.injected)
	return cfg, nil
}

// consumer resolves all layers. Unless it must be complete, brokers and topic
// may still be missing.
func (s surroundings) consumer(opts []ConsumerOption, complete bool) (ConsumerConfig, error) {
	var d consumerDraft
	for i, opt := range opts {
		if opt == nil {
			d.rejectNilOption(i)
			continue
		}
		opt(&d)
	}

	cfg := d.cfg
	r := &resolver{side: "consumer.", keys: cfg.keys(), problems: d.problems}
	s.merge(r, &d.draft, &cfg.ConnectionConfig)
	r.parse()
	cfg.check(r)
	if complete {
		cfg.requireBrokers(r)
		cfg.requireTopic(r)
	}
	if err := r.err(); err != nil {
		return ConsumerConfig{}, err
	}
	cfg.origin = r.origin(d.injected)
	return cfg, nil
}

// merge puts the four layers over each other, the last wins.
func (s surroundings) merge(r *resolver, d *draft, conn *ConnectionConfig) {
	env, file, unknown := readEnv(s.environ())
	for _, name := range unknown {
		s.warn(conn.errorLogger, name, unknownVariable(name))
	}
	for _, message := range d.warnings {
		s.warn(conn.errorLogger, message, message)
	}
	if d.configFile.source != "" {
		file = d.configFile
	}

	defaults, problems := readYAML(defaultYAML, "")
	r.problems = append(r.problems, problems...)
	r.add(defaults)
	if file.source != "" {
		settings, problems := readConfigFile(file)
		r.problems = append(r.problems, problems...)
		r.add(settings)
	}
	r.add(env)
	r.add(d.settings)
}

// resolver turns the merged settings of one side into its config, and gathers
// every problem on the way.
type resolver struct {
	side     string // "producer." or "consumer."
	keys     []configKey
	settings layer
	problems []error
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

// sound says whether a rule about these keys can be judged.
func (r *resolver) sound(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(k string) bool { return r.broken[k] })
}

// given says whether anybody but the defaults set the key.
func (r *resolver) given(key string) bool { return r.settings[key].source != sourceDefault }

// also names the other key of a rule, with its value and where that is from.
func (r *resolver) also(key string) string {
	return fmt.Sprintf("%s, which is %s (%s)", key, r.key(key).shown(), r.settings[key].source)
}

func (r *resolver) key(name string) configKey {
	return r.keys[slices.IndexFunc(r.keys, func(k configKey) bool { return k.name == name })]
}

func (r *resolver) err() error { return errors.Join(r.problems...) }

func (r *resolver) origin(injected []Setting) *origin {
	o := &origin{settings: r.settings, resolved: make(map[string]string, len(r.keys)), injected: injected}
	for _, k := range r.keys {
		o.resolved[k.name] = k.text()
	}
	return o
}

// knownKeys is every path a YAML file may hold: shared keys three times.
var knownKeys = sync.OnceValue(func() map[string]configKey {
	known := make(map[string]configKey)
	for side, keys := range map[string][]configKey{
		"producer.": new(ProducerConfig).keys(),
		"consumer.": new(ConsumerConfig).keys(),
	} {
		for _, k := range keys {
			known[k.name] = k
			if !strings.HasPrefix(k.name, side) {
				known[side+k.name] = k
			}
		}
	}
	return known
})

// check judges what holds for both sides. A mechanism or TLS configuration
// that was injected leaves the keys it replaces without meaning.
func (c *ConnectionConfig) check(r *resolver) {
	if c.mechanism == nil {
		c.SASL.check(r)
	}
	if c.tlsConfig == nil {
		c.TLS.check(r)
	}
}

func (c *SASLConfig) check(r *resolver) {
	if !r.sound("sasl.mechanism") {
		return
	}
	if c.Password != "" && c.PasswordFile != "" {
		r.fail("sasl.password_file", "must not be given together with "+r.also("sasl.password"), nil)
	}
	if c.Mechanism == SASLNone {
		for _, k := range c.keys() {
			if k.text() != "" {
				r.fail(k.name, "has no effect without sasl.mechanism: set that too", nil)
			}
		}
		return
	}
	if c.Username == "" {
		r.fail("sasl.username", "is needed by "+r.also("sasl.mechanism"), nil)
	}
	if c.Password == "" && c.PasswordFile == "" {
		r.fail("sasl.password", "or sasl.password_file is needed by "+r.also("sasl.mechanism"), nil)
	}
}

func (c *TLSConfig) check(r *resolver) {
	if !r.sound("tls.enabled") {
		return
	}
	if c.CertFile != "" && c.KeyFile == "" {
		r.fail("tls.key_file", "is needed by "+r.also("tls.cert_file"), nil)
	}
	if c.KeyFile != "" && c.CertFile == "" {
		r.fail("tls.cert_file", "is needed by "+r.also("tls.key_file"), nil)
	}
	if c.Enabled {
		return
	}
	for _, k := range c.keys() {
		if v := k.get(); v != "" && v != false {
			r.fail(k.name, "has no effect while tls.enabled is false: set that to true", nil)
		}
	}
}

func (c *ConnectionConfig) requireBrokers(r *resolver) {
	if len(c.Brokers) == 0 && r.sound("brokers") {
		r.fail("brokers", "at least one host:port is needed: set KAFKAX_BROKERS, brokers in the YAML, or the option", ErrNoBrokers)
	}
}

func (c *ProducerConfig) check(r *resolver) {
	c.ConnectionConfig.check(r)

	if r.settings["producer.idempotent"].text == "" {
		c.Idempotent = c.RequiredAcks == AcksAll
	} else if c.Idempotent && c.RequiredAcks != AcksAll && r.sound("producer.required_acks") {
		r.fail("producer.idempotent", "needs all from "+r.also("producer.required_acks"), nil)
	}
	if r.sound("producer.delivery_timeout", "producer.write_timeout") && c.DeliveryTimeout < c.WriteTimeout {
		r.fail("producer.delivery_timeout", "must not be below "+r.also("producer.write_timeout"), nil)
	}
}

func (c *ConsumerConfig) check(r *resolver) {
	c.ConnectionConfig.check(r)

	if c.GroupID != "" && r.given("consumer.partition") && r.sound("consumer.partition") {
		r.fail("consumer.partition", "must not be given together with "+r.also("consumer.group_id"), nil)
	}
	if r.sound("consumer.min_bytes", "consumer.max_bytes") && c.MinBytes > c.MaxBytes {
		r.fail("consumer.min_bytes", "must not exceed "+r.also("consumer.max_bytes"), nil)
	}
	if r.sound("consumer.heartbeat_interval", "consumer.session_timeout") && c.HeartbeatInterval >= c.SessionTimeout {
		r.fail("consumer.heartbeat_interval", "must be below "+r.also("consumer.session_timeout")+"; a third of it is usual", nil)
	}
	if r.sound("consumer.session_timeout", "consumer.rebalance_timeout") && c.SessionTimeout > c.RebalanceTimeout {
		r.fail("consumer.session_timeout", "must not exceed "+r.also("consumer.rebalance_timeout"), nil)
	}
	if r.sound("consumer.retry.initial_backoff", "consumer.retry.max_backoff") && c.Retry.InitialBackoff > c.Retry.MaxBackoff {
		r.fail("consumer.retry.initial_backoff", "must not exceed "+r.also("consumer.retry.max_backoff"), nil)
	}
	if r.sound("consumer.dlq_topic") && c.DLQTopic != "" && c.DLQTopic == c.Topic {
		r.fail("consumer.dlq_topic", "must not be consumer.topic: what fails would come around for ever", nil)
	}
}

func (c *ConsumerConfig) requireTopic(r *resolver) {
	if c.Topic == "" && r.sound("consumer.topic") {
		r.fail("consumer.topic", "is needed: set KAFKAX_CONSUMER_TOPIC, consumer.topic in the YAML, or the option", ErrNoTopic)
	}
}
