package kafkax_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bi-common/kafkax"
)

func TestC2_UnknownYAMLKey(t *testing.T) {
	t.Parallel()

	tests := []struct{ name, content, key, nearest string }{
		{"letter missing", "consumer:\n  sesion_timeout: 1s\n", "consumer.sesion_timeout", "consumer.session_timeout"},
		{"shared at a side", "producer:\n  broker: a:1\n", "producer.broker", "producer.brokers"},
		{"top level", "client-id: x\n", "client-id", "client_id"},
		{"section", "consumers:\n  topic: x\n", "consumers", "consumer"},
		{"without its side", "group_id: x\n", "group_id", "consumer.group_id"},
		{"without its section", "password_file: x\n", "password_file", "sasl.password_file"},
		{"without its section, at a side", "consumer:\n  username: x\n", "consumer.username", "consumer.sasl.username"},
		{"by capitals", "consumer: {groupId: x}\n", "consumer.groupId", "consumer.group_id"},
		{"nested", "consumer:\n  retry:\n    max_attempt: 1\n", "consumer.retry.max_attempt", "consumer.retry.max_attempts"},
		{"wrong case", "Client_ID: x\n", "Client_ID", "client_id"},
		{"very long", strings.Repeat("x", 1000) + ": x\n", strings.Repeat("x", 200) + "...", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := problems(t, kafkax.ResolveProducer(minimal, kafkax.WithProducerConfigFile(writeFile(t, tt.content))).Err)
			if len(got) != 1 || got[0].Key != tt.key || !strings.HasSuffix(got[0].Rule, "the nearest is "+tt.nearest) && tt.nearest != "" {
				t.Errorf("got %v, want %s and the nearest, %s", got, tt.key, tt.nearest)
			}
		})
	}
}

// Who knows Kafka by another client writes what it is called there.
func TestC2_KafkasNames(t *testing.T) {
	t.Parallel()

	tests := []struct{ name, content, says string }{
		{"Java's", "bootstrap.servers: a:1\n", "Kafka's bootstrap.servers is brokers here"},
		{"with dashes", "bootstrap-servers: a:1\n", "Kafka's bootstrap.servers is brokers here"},
		{"by capitals", "bootstrapServers: a:1\n", "Kafka's bootstrap.servers is brokers here"},
		{"as a key of ours", "request_timeout_ms: 1\n", "Kafka's request.timeout.ms is request_timeout here"},
		{"at the top", "group.id: x\n", "Kafka's group.id is consumer.group_id here"},
		{"at its side", "consumer: {auto.offset.reset: x}\n", "Kafka's auto.offset.reset is consumer.start_offset and consumer.offset_reset here"},
		{"another key's name", "producer: {batch.size: 1}\n", "Kafka's batch.size is producer.batch_bytes here"},
		{"one word", "producer: {acks: all}\n", "Kafka's acks is producer.required_acks here"},
		{"without a key", "consumer: {enable.auto.commit: x}\n", "Kafka's enable.auto.commit has no key here"},
		{"a password without a key", "ssl.truststore.password: x\n", "Kafka's ssl.truststore.password has no key here"},
		{"of a tool's flag", "bootstrap-server: a:1\n", "Kafka's bootstrap.server is brokers here"},
		{"mistyped", "bootstrap.severs: a:1\n", "Kafka's bootstrap.servers is brokers here"},
		{"mistyped, without a key", "enable_autocommit: true\n", "Kafka's enable.auto.commit has no key here"},
		{"librdkafka's", "producer: {queue.buffering.max.ms: 1}\n", "Kafka's queue.buffering.max.ms is producer.batch_timeout here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkUnknown := func(err error) {
				t.Helper()
				if got := problems(t, err); len(got) != 1 || got[0].Rule != "is an unknown key; "+tt.says {
					t.Errorf("got %v, want that %s", err, tt.says)
				}
			}
			file := writeFile(t, tt.content)
			checkUnknown(kafkax.ResolveProducer(minimal, kafkax.WithProducerConfigFile(file)).Err)
			checkUnknown(kafkax.ResolveConsumer(minimal, kafkax.WithConsumerConfigFile(file)).Err)
		})
	}
}

// The names that options say Kafka has for them are known, and lead to them.
func TestC2_EveryNameOfKafkaIsKnown(t *testing.T) {
	t.Parallel()

	known := kafkax.KafkaNames()
	options := optionDocs(t)
	keys := slices.Concat(kafkax.ProducerKeys(), kafkax.ConsumerKeys())
	found := 0
	for side, keys := range map[string][]string{"Producer": kafkax.ProducerKeys(), "Consumer": kafkax.ConsumerKeys()} {
		for _, key := range keys {
			doc := strings.Join(strings.Fields(options["With"+side+optionSuffix(key)]), " ")
			_, doc, _ = strings.Cut(doc, "Kafka: ")
			doc, _, _ = strings.Cut(doc, "Env: ")
			for _, name := range regexp.MustCompile(`[a-z]+(?:\.[a-z]+)+|\backs\b|\bretries\b`).FindAllString(doc, -1) {
				found++
				if !slices.Contains(known[name], key) {
					t.Errorf("%s: its option names %s, which is known as %v", key, name, known[name])
				}
			}
		}
	}
	if found < 40 {
		t.Errorf("%d names found", found)
	}
	for name, of := range known {
		for _, key := range of {
			if !slices.Contains(keys, key) {
				t.Errorf("%s: there is no key %s", name, key)
			}
		}
	}
}
