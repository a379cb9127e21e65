package kafkax_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
)

// TestLoadFromEnv is the one that uses the process's own environment.
func TestLoadFromEnv(t *testing.T) {
	t.Setenv("KAFKAX_CONFIG_FILE", writeFile(t, "consumer:\n  topic: orders\n"))
	t.Setenv("KAFKAX_PRODUCER_TOPIC", "payments")

	p, err := kafkax.LoadProducerFromEnv()
	if err != nil || p.Topic != "payments" {
		t.Errorf("got topic %q and %v", p.Topic, err)
	}
	c, err := kafkax.LoadConsumerFromEnv()
	if err != nil || c.Topic != "orders" {
		t.Errorf("got topic %q and %v", c.Topic, err)
	}

	t.Setenv("KAFKAX_DIAL_TIMEOUT", "soon")
	if _, err := kafkax.LoadProducerFromEnv(); !errors.Is(err, kafkax.ErrInvalidConfig) {
		t.Errorf("got %v", err)
	}
	if _, err := kafkax.LoadConsumerFromEnv(); !errors.Is(err, kafkax.ErrInvalidConfig) {
		t.Errorf("got %v", err)
	}
}

func TestLoadMayBeIncomplete(t *testing.T) {
	t.Parallel()

	cfg, err := kafkax.LoadConsumer(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Brokers = []string{"kafka:9092"}
	cfg.Topic = "orders"
	cfg.GroupID = "billing"
	if r := kafkax.ResolveConsumer(nil, kafkax.WithConsumerConfig(cfg)); r.Err != nil || r.Config.Topic != "orders" {
		t.Errorf("got %q and %v", r.Config.Topic, r.Err)
	}
}

func TestC2_UnknownVariable(t *testing.T) {
	t.Parallel()

	tests := []struct{ variable, nearest string }{
		{"KAFKAX_BROKER", "KAFKAX_BROKERS"},
		{"KAFKAX_CONSUMER_SESION_TIMEOUT", "KAFKAX_CONSUMER_SESSION_TIMEOUT"},
		{"KAFKAX_CONFIG", "KAFKAX_CONFIG_FILE"},
		{"KAFKAX_PRODUCER_SASL_USER", "KAFKAX_PRODUCER_SASL_USERNAME"},
		{"KAFKAX_SERVICE_PORT", "KAFKAX_TLS_SERVER_NAME"},
		{"KAFKAX_", "KAFKAX_CONSUMER_TOPIC"},
		{"KAFKAX_GROUP_ID", "KAFKAX_CONSUMER_GROUP_ID"},
		{"KAFKAX_GROUP", "KAFKAX_CONSUMER_GROUP_ID"},
		{"KAFKAX_TOPIC", "KAFKAX_CONSUMER_TOPIC,KAFKAX_PRODUCER_TOPIC"},
		{"KAFKAX_USERNAME", "KAFKAX_SASL_USERNAME"},
		{"KAFKAX_JITTER", "KAFKAX_CONSUMER_RETRY_JITTER"},
		{"KAFKAX_BOOTSTRAP_SERVERS", "KAFKAX_BROKERS kafka=bootstrap.servers"},
		{"KAFKAX_CONSUMER_AUTO_OFFSET_RESET", "KAFKAX_CONSUMER_START_OFFSET,KAFKAX_CONSUMER_OFFSET_RESET kafka=auto.offset.reset"},
		{"KAFKAX_ACKS", "KAFKAX_PRODUCER_REQUIRED_ACKS kafka=acks"},
		{"KAFKAX_LINGER_MS", "KAFKAX_PRODUCER_BATCH_TIMEOUT kafka=linger.ms"},
	}
	for _, tt := range tests {
		t.Run(tt.variable, func(t *testing.T) {
			t.Parallel()
			p := kafkax.ResolveProducer(environ(tt.variable + "=" + secret))
			c := kafkax.ResolveConsumer(environ(tt.variable + "=" + secret))
			if err := errors.Join(p.Err, c.Err); err != nil {
				t.Errorf("a variable that may be somebody else's is an error: %v", err)
			}
			for _, warnings := range [][]string{p.Warnings, c.Warnings} {
				if len(warnings) != 1 || !strings.Contains(warnings[0], " variable="+tt.variable+" ") ||
					!strings.HasSuffix(warnings[0], " nearest="+tt.nearest) || strings.Contains(warnings[0], secret) {
					t.Errorf("got %q, want one that names %s and %s but no value", warnings, tt.variable, tt.nearest)
				}
			}
		})
	}
	w := kafkax.ResolveProducer(environ("KAFKAX_ENABLE_AUTO_COMMIT=" + secret)).Warnings
	if len(w) != 1 || !strings.HasSuffix(w[0], " variable=KAFKAX_ENABLE_AUTO_COMMIT kafka=enable.auto.commit") {
		t.Errorf("got %q, want no key where there is none", w)
	}
	for _, variable := range []string{"KAFKA_BROKERS=x", "kafkax_brokers=x", "KAFKAXX_BROKERS=x", "KAFKAX=x", "=C:=x", ""} {
		if r := kafkax.ResolveProducer(environ(variable)); len(r.Warnings) > 0 || r.Err != nil {
			t.Errorf("%q: %v, %v", variable, r.Warnings, r.Err)
		}
	}
}

// What is missing was often given, under another name.
func TestC1_MissingNamesWhatWasMeant(t *testing.T) {
	t.Parallel()

	tests := []struct{ variable, key, says string }{
		{"KAFKAX_GROUP_ID=" + secret, "consumer.group_id", "; the variable KAFKAX_GROUP_ID is set, but is unknown: KAFKAX_CONSUMER_GROUP_ID was probably meant"},
		{"KAFKAX_CONSUMER_GROUP=" + secret, "consumer.group_id", "; the variable KAFKAX_CONSUMER_GROUP is set, but is unknown: KAFKAX_CONSUMER_GROUP_ID was"},
		{"KAFKAX_CONSUMER_GROUP_ID=", "consumer.group_id", "; the variable KAFKAX_CONSUMER_GROUP_ID is set, but is empty"},
		{"KAFKAX_CONSUMER_GROUP_ID= \t\r\n", "consumer.group_id", "; the variable KAFKAX_CONSUMER_GROUP_ID is set, but is empty"},
		{"KAFKA_GROUP_ID=" + secret, "consumer.group_id", "; the variable KAFKA_GROUP_ID is set, but is not read: KAFKAX_CONSUMER_GROUP_ID was"},
		{"KAFKAX_TOPIC=" + secret, "consumer.topic", "; the variable KAFKAX_TOPIC is set, but is unknown: KAFKAX_CONSUMER_TOPIC was"},
		{"KAFKAX_BROKER=" + secret, "brokers", "; the variable KAFKAX_BROKER is set, but is unknown: KAFKAX_BROKERS was"},
		{"KAFKAX_BOOTSTRAP_SERVERS=" + secret, "brokers", "; the variable KAFKAX_BOOTSTRAP_SERVERS is set, but is unknown: KAFKAX_BROKERS was"},
		{"KAFKA_BOOTSTRAP_SERVERS=" + secret, "brokers", "; the variable KAFKA_BOOTSTRAP_SERVERS is set, but is not read: KAFKAX_BROKERS was"},
		{"KAFKAX_CONSUMER_BROKER=" + secret, "brokers", "; the variable KAFKAX_CONSUMER_BROKER is set, but is unknown: KAFKAX_CONSUMER_BROKERS was"},
		{"KAFKAX_SERVICE_PORT=1", "", ""},
		{"KAFKAX_PORT=1", "", ""},
		{"KAFKA_HEAP_OPTS=1", "", ""},
		{"KAFKA_VERSION=1", "", ""},
		{"KAFKAX_PRODUCER_BROKER=a:1", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.variable, func(t *testing.T) {
			t.Parallel()
			r := kafkax.ResolveConsumer([]string{tt.variable})
			for _, p := range problems(t, r.Err) {
				_, hint, found := strings.Cut(p.Rule, "; ")
				switch {
				case p.Key == tt.key && !strings.HasPrefix("; "+hint, tt.says):
					t.Errorf("got %v, want %s", p, tt.says)
				case p.Key != tt.key && found:
					t.Errorf("%s has nothing to do with %v", tt.variable, p)
				case strings.Contains(p.Error(), secret):
					t.Errorf("shows the value: %v", p)
				}
			}
		})
	}
}

func TestC2_WarnedOnce(t *testing.T) {
	t.Parallel()

	lines := make(chan string, 10)
	logger := kafka.LoggerFunc(func(format string, args ...any) { lines <- fmt.Sprintf(format, args...) })
	about := rand.Text() // Once a process, and the test may run twice in it.
	for range 3 {
		kafkax.WarnOnce(logger, about, "100% odd")
	}
	kafkax.WarnOnce(logger, about+"2", "last")
	got := []string{received(t, "a warning", lines), received(t, "a warning", lines)}
	if slices.Sort(got); !slices.Equal(got, []string{"100% odd", "last"}) {
		t.Errorf("got %q", got)
	}
}

// Several clients of one process need not share its environment.
func TestEnvPrefix(t *testing.T) {
	t.Parallel()

	file := writeFile(t, "consumer: {max_wait: 1s}\nproducer: {batch_size: 7}\n")
	env := environ("KAFKAX_CONSUMER_MIN_BYTES=9", "KAFKAX_PRODUCER_BATCH_BYTES=9",
		"BILLING_BROKERS=billing:9092", "BILLING_CONSUMER_TOPIC=invoices", "BILLING_CONSUMER_GROUP_ID=billing-in", "BILLING_PRODUCER_BROKERS=out:9092",
		"BILLING_CONFIG_FILE="+file, "BILLING_DATABASE_URL=x", "BILLING_CONSUMER_TOPICS=x")
	for _, prefix := range []string{"BILLING_", "BILLING"} {
		c := kafkax.ResolveConsumer(env, kafkax.WithConsumerEnvPrefix(prefix))
		if c.Err != nil || !slices.Equal(c.Config.Brokers, []string{"billing:9092"}) || c.Config.Topic != "invoices" ||
			c.Config.GroupID != "billing-in" || c.Config.MaxWait != time.Second || c.Config.MinBytes != 1 {
			t.Errorf("%s: got %v and %v", prefix, c.Config, c.Err)
		}
		if got := explained(c.Config.Explain(), "consumer.topic").Source; got != "env BILLING_CONSUMER_TOPIC" {
			t.Errorf("%s: the topic comes from %s", prefix, got)
		}
		p := kafkax.ResolveProducer(env, kafkax.WithProducerEnvPrefix(prefix))
		if p.Err != nil || !slices.Equal(p.Config.Brokers, []string{"out:9092"}) || p.Config.BatchSize != 7 || p.Config.BatchBytes != 1<<20 || p.Config.Topic != "" {
			t.Errorf("%s: got %v and %v", prefix, p.Config, p.Err)
		}
		// The prefix may be that of the service's other settings.
		for _, warnings := range [][]string{c.Warnings, p.Warnings} {
			if len(warnings) != 1 || !strings.Contains(warnings[0], "variable=BILLING_CONSUMER_TOPICS nearest=BILLING_CONSUMER_TOPIC") {
				t.Errorf("%s: warnings %q", prefix, warnings)
			}
		}
	}

	// What is missing is asked for by its name there.
	err := kafkax.ResolveConsumer(minimal, kafkax.WithConsumerEnvPrefix("X_")).Err
	if text := fmt.Sprint(err); strings.Contains(text, "KAFKAX_") || !strings.Contains(text, "set X_BROKERS, ") {
		t.Errorf("got %s", text)
	}
	for _, prefix := range []string{"", "9X_", "A-B_", "A=B", "ä_", "A B"} {
		for source, err := range map[string]error{
			"option WithConsumerEnvPrefix": kafkax.ResolveConsumer(minimal, kafkax.WithConsumerEnvPrefix(prefix)).Err,
			"option WithProducerEnvPrefix": kafkax.ResolveProducer(minimal, kafkax.WithProducerEnvPrefix(prefix)).Err,
		} {
			if got := problems(t, err); len(got) != 1 || got[0].Key != "env_prefix" || got[0].Source != source {
				t.Errorf("%q: got %v", prefix, err)
			}
		}
	}
}

func TestNoEnv(t *testing.T) {
	t.Parallel()

	env := environ("KAFKAX_CLIENT_ID=env", "KAFKAX_GROUP_ID=x", "KAFKAX_CONFIG_FILE="+writeFile(t, "consumer: {max_wait: 1s}\n"))
	c := kafkax.ResolveConsumer(env, kafkax.WithConsumerNoEnv(),
		kafkax.WithConsumerBrokers("a:1"), kafkax.WithConsumerTopic("t"), kafkax.WithConsumerGroupID("g"))
	if c.Err != nil || c.Config.ClientID != "kafkax" || c.Config.MaxWait != 500*time.Millisecond || len(c.Warnings) > 0 {
		t.Errorf("got %v, %v, warnings %q", c.Config, c.Err, c.Warnings)
	}
	p := kafkax.ResolveProducer(env, kafkax.WithProducerNoEnv(), kafkax.WithProducerBrokers("a:1"))
	if p.Err != nil || p.Config.ClientID != "kafkax" || p.Config.Topic != "" || len(p.Warnings) > 0 {
		t.Errorf("got %v, %v, warnings %q", p.Config, p.Err, p.Warnings)
	}
	err := kafkax.ResolveConsumer(env, kafkax.WithConsumerNoEnv()).Err
	if text := fmt.Sprint(err); len(problems(t, err)) != 3 || strings.Contains(text, "KAFKAX_") {
		t.Errorf("got %s", text)
	}

	// Of the two, the later option wins.
	if r := kafkax.ResolveProducer(env, kafkax.WithProducerNoEnv(), kafkax.WithProducerEnvPrefix("KAFKAX_")); r.Config.ClientID != "env" {
		t.Errorf("got %q and %v", r.Config.ClientID, r.Err)
	}
	if r := kafkax.ResolveProducer(env, kafkax.WithProducerEnvPrefix("KAFKAX_"), kafkax.WithProducerNoEnv()); r.Err == nil {
		t.Error("the environment was read")
	}
}

func TestEnvNamesAreUnique(t *testing.T) {
	t.Parallel()

	seen := map[string]string{"KAFKAX_CONFIG_FILE": "the file"}
	for side, keys := range map[string][]string{"producer.": kafkax.ProducerKeys(), "consumer.": kafkax.ConsumerKeys()} {
		for _, key := range keys {
			if !strings.HasPrefix(key, side) {
				seen[kafkax.EnvName(key)] = key // shared: the same for both sides
				key = side + key
			}
			if other, ok := seen[kafkax.EnvName(key)]; ok {
				t.Errorf("%s is %s and %s", kafkax.EnvName(key), key, other)
			}
			seen[kafkax.EnvName(key)] = key
		}
	}
}

func FuzzEnv(f *testing.F) {
	for _, s := range samples() {
		f.Add(kafkax.EnvName(s.key), s.text)
	}
	for _, value := range []string{"", " ", ",", "a:1,", "-1", "NaN", "1e400", "9999999999999999999", "0s", "\xff\x00", "/dev/null"} {
		f.Add("KAFKAX_CONSUMER_MIN_BYTES", value)
		f.Add("KAFKAX_BROKERS", value)
		f.Add("KAFKAX_CONSUMER_MAX_WAIT", value)
		f.Add("KAFKAX_SERVICE_HOST", value)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if name == "KAFKAX_CONFIG_FILE" {
			return // any file of the machine
		}
		env := environ("KAFKAX_SASL_PASSWORD="+secret, name+"="+value)
		p, c := kafkax.ResolveProducer(env), kafkax.ResolveConsumer(env)
		for _, err := range []error{p.Err, c.Err} {
			if err != nil && !errors.Is(err, kafkax.ErrInvalidConfig) {
				t.Errorf("%v does not match ErrInvalidConfig", err)
			}
			if err != nil && strings.Contains(err.Error(), secret) && !strings.Contains(name+value, secret) {
				t.Errorf("%v shows the password", err)
			}
		}
		if c.Err == nil && c.Config.Explain().String() == "" {
			t.Error("no explanation")
		}
	})
}
