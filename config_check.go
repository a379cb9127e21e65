package kafkax

import "log/slog"

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
	if !c.Password.IsZero() && c.PasswordFile != "" {
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
	if c.Password.IsZero() && c.PasswordFile == "" {
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

	if c.GroupID != "" && c.Partition >= 0 && r.sound("consumer.partition") {
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
	if c.RetentionTime > 0 {
		r.warnings = append(r.warnings, warning{
			msg:   "consumer.retention_time has no effect: how long offsets are kept is the brokers' offsets.retention.minutes",
			attrs: logAttrs{slog.String("source", r.settings["consumer.retention_time"].source)},
		})
	}
	if r.sound("consumer.dlq_topic") && c.DLQTopic != "" && c.DLQTopic == c.Topic {
		r.fail("consumer.dlq_topic", "must not be consumer.topic: what fails would come around for ever", nil)
	}
}

// require judges what no default can give.
func (c *ConnectionConfig) require(r *resolver) {
	if len(c.Brokers) == 0 && r.sound("brokers") {
		r.missing("brokers", "at least one host:port is needed", ErrNoBrokers)
	}
}

// require judges what no default can give. A producer may do without a topic.
func (c *ProducerConfig) require(r *resolver) { c.ConnectionConfig.require(r) }

// require judges what no default can give.
func (c *ConsumerConfig) require(r *resolver) {
	c.ConnectionConfig.require(r)
	if c.Topic == "" && r.sound("consumer.topic") {
		r.missing("consumer.topic", "is needed", ErrNoTopic)
	}
	if c.GroupID == "" && c.Partition < 0 && r.sound("consumer.group_id", "consumer.partition") {
		r.missing("consumer.group_id", "is needed, or consumer.partition to read one partition without a group", nil)
	}
}
