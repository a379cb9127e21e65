package kafkax_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxpb"
)

// Text that comes from a file or a variable often has a line's end.
func TestC1_NamesAreTrimmed(t *testing.T) {
	t.Parallel()

	keys := []string{
		"client_id", "sasl.username", "tls.server_name", "tls.ca_file", "tls.cert_file", "tls.key_file",
		"producer.topic", "consumer.topic", "consumer.group_id", "consumer.dlq_topic",
	}
	const trimmed = "a.b-c"
	for _, key := range keys {
		for _, text := range []string{trimmed + "\r\n", trimmed + "\n", " " + trimmed + "\t", "\u00a0" + trimmed} {
			var producer []kafkax.ProducerOption
			var consumer []kafkax.ConsumerOption
			for _, s := range samples() {
				// What the others need, and none that excludes them.
				if s.key == key || s.key == "consumer.partition" || s.key == "sasl.password_file" {
					continue
				}
				if s.producer != nil {
					producer = append(producer, s.producer)
				}
				if s.consumer != nil {
					consumer = append(consumer, s.consumer)
				}
			}
			yaml := kafkax.EnvName("config_file") + "=" + writeFile(t, fmt.Sprintf("%s: %q\n", key, text))
			variable := kafkax.EnvName(key) + "=" + text
			for layer, environ := range map[string][]string{"yaml": {yaml}, "env": {variable}} {
				if slices.Contains(kafkax.ProducerKeys(), key) {
					r := kafkax.ResolveProducer(environ, producer...)
					if r.Err != nil || field(t, r.Config, key) != trimmed {
						t.Errorf("%s %s = %q: got %v", layer, key, text, r.Err)
					}
				}
				if slices.Contains(kafkax.ConsumerKeys(), key) {
					r := kafkax.ResolveConsumer(environ, consumer...)
					if r.Err != nil || field(t, r.Config, key) != trimmed {
						t.Errorf("%s %s = %q: got %v", layer, key, text, r.Err)
					}
				}
			}
		}
	}

	// Options and protobuf too: they are given what programs have read.
	for name, opts := range map[string][]kafkax.ConsumerOption{
		"option":   {kafkax.WithConsumerGroupID("billing\r\n"), kafkax.WithConsumerClientID("me\n"), kafkax.WithConsumerTopic("orders\n")},
		"protobuf": kafkax.ConsumerOptionsFromProto(&kafkaxpb.ConsumerConfig{GroupId: new("billing\r\n"), ClientId: new("me\n"), Topic: new("orders\n")}),
	} {
		r := kafkax.ResolveConsumer(minimal, opts...)
		if r.Err != nil || r.Config.GroupID != "billing" || r.Config.ClientID != "me" || r.Config.Topic != "orders" {
			t.Errorf("%s: got %q, %q, %q and %v", name, r.Config.GroupID, r.Config.ClientID, r.Config.Topic, r.Err)
		}
	}
	changed := kafkax.ResolveConsumer(minimal).Config
	changed.GroupID = " billing2\n"
	if r := kafkax.ResolveConsumer(nil, kafkax.WithConsumerConfig(changed)); r.Err != nil || r.Config.GroupID != "billing2" {
		t.Errorf("a whole config: got %q and %v", r.Config.GroupID, r.Err)
	}
	if r := kafkax.ResolveConsumer(minimal[:3], kafkax.WithConsumerGroupID(" \n")); r.Err == nil {
		t.Errorf("a group of nothing but white space is %q", r.Config.GroupID)
	}
	_, err := kafkax.NewMultiTopicConsumer([]string{"a", "a\n"}, kafkax.WithConsumerBrokers("a:1"), kafkax.WithConsumerGroupID("g"))
	if got := problems(t, err); len(got) != 1 || got[0].Rule != "is given twice" {
		t.Errorf("several topics: got %v", err)
	}
}

func TestC1_NothingInvisibleInNames(t *testing.T) {
	t.Parallel()

	for _, key := range []string{"client_id", "sasl.username", "tls.server_name", "consumer.group_id"} {
		for _, text := range []string{"a\nb", "a\x00b", "a\x1b[31mb", "a\u200bb", "\ufeffa", "a\u00a0b", "a\u2028b"} {
			r := kafkax.ResolveConsumer(append(slices.Clone(minimal[:3]), kafkax.EnvName(key)+"="+text, "KAFKAX_TLS_ENABLED=true",
				"KAFKAX_SASL_MECHANISM=PLAIN", "KAFKAX_SASL_PASSWORD=p",
				cmp.Or(map[string]string{"sasl.username": "X=x"}[key], "KAFKAX_SASL_USERNAME=alice"),
				cmp.Or(map[string]string{"consumer.group_id": "X=x"}[key], "KAFKAX_CONSUMER_GROUP_ID=g")))
			checkRule(t, r.Err, key, "nothing else that cannot be seen")
			if strings.ContainsAny(fmt.Sprint(r.Err), "\x00\x1b\u200b\ufeff\u00a0\u2028") {
				t.Errorf("the error has it raw: %q", r.Err)
			}
		}
	}

	for _, key := range []string{"client_id", "sasl.username", "tls.server_name", "consumer.group_id"} {
		for _, text := range []string{`"quoted"`, ` 'quoted'` + "\n", `""`} {
			file := writeFile(t, fmt.Sprintf("%s: %q\n", key, text))
			r := kafkax.ResolveConsumer(append(slices.Clone(minimal[:3]), "KAFKAX_CONFIG_FILE="+file, "KAFKAX_TLS_ENABLED=true",
				"KAFKAX_SASL_MECHANISM=PLAIN", "KAFKAX_SASL_PASSWORD=p",
				cmp.Or(map[string]string{"sasl.username": "X=x"}[key], "KAFKAX_SASL_USERNAME=alice"),
				cmp.Or(map[string]string{"consumer.group_id": "X=x"}[key], "KAFKAX_CONSUMER_GROUP_ID=g")))
			checkRule(t, r.Err, key, "must not be in quotes")
		}
	}
	for key, env := range map[string]string{"config_file": `KAFKAX_CONFIG_FILE="/etc/kafkax.yaml"`, "tls.ca_file": "KAFKAX_TLS_CA_FILE='/ca.pem'"} {
		checkRule(t, kafkax.ResolveConsumer(environ("KAFKAX_TLS_ENABLED=true", env)).Err, key, "must not be in quotes")
	}
	for _, name := range []string{`"`, `a"b"`, `'tis`, `"a'`} {
		if r := kafkax.ResolveConsumer(environ("KAFKAX_CONSUMER_GROUP_ID=" + name)); r.Err != nil || r.Config.GroupID != name {
			t.Errorf("%s: got %q and %v", name, r.Config.GroupID, r.Err)
		}
	}

	// A password is not changed, but what cannot be meant is said.
	sasl := environ("KAFKAX_SASL_MECHANISM=PLAIN", "KAFKAX_SASL_USERNAME=alice")
	for _, text := range []string{secret + "\n", secret + "\r\n", "a\x00" + secret, "\t" + secret} {
		err := kafkax.ResolveConsumer(append(slices.Clone(sasl), "KAFKAX_SASL_PASSWORD="+text)).Err
		checkRule(t, err, "sasl.password", "must hold no control characters; the last one is often the line's end")
		if strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("shows the password: %v", err)
		}
	}
	for text, rule := range map[string]string{
		"\ufeff" + secret: "without a width", secret + "\u200b": "without a width", "\u00ad" + secret: "without a width", secret + "\xe4": "valid UTF-8",
	} {
		checkRule(t, kafkax.ResolveConsumer(append(slices.Clone(sasl), "KAFKAX_SASL_PASSWORD="+text)).Err, "sasl.password", rule)
		_, err := kafkax.NewConsumer(kafkax.WithConsumerBrokers("a:1"), kafkax.WithConsumerTopic("t"), kafkax.WithConsumerGroupID("g"),
			kafkax.WithConsumerSASLMechanism("PLAIN"), kafkax.WithConsumerSASLUsername("alice"), kafkax.WithConsumerSASLPasswordFile(writeFile(t, text)))
		checkRule(t, err, "sasl.password_file", rule)
		if strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("shows the password: %v", err)
		}
	}
	for _, text := range []string{" ", " p ", "pä$\"'ß", "\u00a0"} {
		r := kafkax.ResolveConsumer(append(slices.Clone(sasl), "KAFKAX_SASL_PASSWORD="+text))
		if r.Err != nil || r.Config.SASL.Password.Reveal() != text {
			t.Errorf("%q: got %q and %v", text, r.Config.SASL.Password.Reveal(), r.Err)
		}
	}
}

// A key or a password is pasted into the key that wants a file of it.
func TestC3_NoPathIsNotShown(t *testing.T) {
	t.Parallel()

	const pem = "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----\n"
	base64 := strings.Repeat("MIIEvQIBADANBgkqhkiG9w0"+secret+"/", 70)
	texts := map[string]string{
		"PEM": pem, "PEM in one line": strings.ReplaceAll(pem, "\n", `\n`), "PEM with spaces": strings.ReplaceAll(pem, "\n", " "),
		"PEM behind text": "Bag Attributes\n" + pem, "several lines": "user\n" + secret, "a key without its frame": base64,
		"base64 in lines": strings.Repeat(base64[:64]+"\n", 10), "one long word": strings.Repeat("x", 500) + secret,
		"a password": secret, "an odd password": "p@ss/w0rd" + secret + "!", "one with a slash first": "/9d" + secret + "==", "one with a dot": secret + ".x",
		"a phrase": "correct horse " + secret, "a NUL": "/a/b/c\x00" + secret,
	}
	keys := []string{"sasl.password_file", "tls.ca_file", "tls.cert_file", "tls.key_file", "config_file"}
	for name, text := range texts {
		for _, key := range keys {
			t.Run(name+" in "+key, func(t *testing.T) {
				t.Parallel()
				var shown strings.Builder
				logger := kafka.LoggerFunc(func(format string, args ...any) { fmt.Fprintf(&shown, format+"\n", args...) })
				opts := []kafkax.ConsumerOption{
					kafkax.WithConsumerBrokers("a:1"), kafkax.WithConsumerTopic("orders"), kafkax.WithConsumerGroupID("g"),
					kafkax.WithConsumerErrorLogger(logger), kafkax.WithConsumerLogger(logger),
				}
				cfg := kafkax.ResolveConsumer(minimal).Config
				pasted := text
				switch key {
				case "sasl.password_file":
					opts = append(opts, kafkax.WithConsumerSASLMechanism("PLAIN"), kafkax.WithConsumerSASLUsername("alice"), kafkax.WithConsumerSASLPasswordFile(pasted))
					cfg.SASL.PasswordFile = pasted
				case "tls.ca_file":
					opts = append(opts, kafkax.WithConsumerTLSEnabled(true), kafkax.WithConsumerTLSCAFile(pasted))
					cfg.TLS.CAFile = pasted
				case "tls.cert_file":
					opts = append(opts, kafkax.WithConsumerTLSEnabled(true), kafkax.WithConsumerTLSCertFile(pasted), kafkax.WithConsumerTLSKeyFile("/run/secrets/key.pem"))
					cfg.TLS.CertFile = pasted
				case "tls.key_file":
					opts = append(opts, kafkax.WithConsumerTLSEnabled(true), kafkax.WithConsumerTLSKeyFile(pasted), kafkax.WithConsumerTLSCertFile("/run/secrets/cert.pem"))
					cfg.TLS.KeyFile = pasted
				default:
					opts = append(opts, kafkax.WithConsumerConfigFile(pasted))
				}
				_, err := kafkax.NewConsumer(opts...)
				if !errors.Is(err, kafkax.ErrInvalidConfig) {
					t.Fatalf("got %v, want an error matching ErrInvalidConfig", err)
				}
				for _, p := range problems(t, err) {
					if p.Key == key && (p.Value != "***" || p.Rule == "") {
						t.Errorf("got %+v, want a masked value and a rule", p)
					}
					fmt.Fprintf(&shown, "%v %+v %#v %v %+v\n", p, *p, *p, p.Err, errors.Unwrap(p))
				}
				fmt.Fprintf(&shown, "%v %+v %#v\n%s\n%+v %#v %v %s\n", err, err, err, cfg.Explain(), cfg, cfg, cfg.TLS, cfg.SASL)
				for how, text := range printings(t, cfg.TLS) {
					shown.WriteString(how + text)
				}
				if strings.Contains(shown.String(), secret) || strings.Contains(shown.String(), "MIIE") {
					t.Errorf("shows what was pasted: %s", shown.String())
				}
			})
		}
	}
}

// Masking must not hide where a file is looked for.
func TestC4_PathsAreShown(t *testing.T) {
	t.Parallel()

	for _, path := range []string{
		"/run/secrets/kafka", "/etc/kafka/ca.pem", "ca.pem", "certs/client.key", "./secrets/kafka", "../kafka/tls.crt", "/var/run/a b/c_d-1",
		"~/.kafka/password", `C:\kafka\ca.pem`, "/password.txt",
	} {
		r := kafkax.ResolveConsumer(environ("KAFKAX_TLS_ENABLED=true", "KAFKAX_TLS_CA_FILE="+path))
		if got := explained(r.Config.Explain(), "tls.ca_file").Value; r.Err != nil || strings.Trim(got, `"`) != strings.ReplaceAll(path, `\`, `\\`) {
			t.Errorf("%s is shown as %s, with %v", path, got, r.Err)
		}
	}
}
