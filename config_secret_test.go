package kafkax_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"text/template"

	"github.com/segmentio/kafka-go/sasl/plain"
	"gopkg.in/yaml.v3"

	"github.com/bi-common/kafkax"
)

func TestSecret(t *testing.T) {
	t.Parallel()

	a, again, b := kafkax.NewSecret("a"), kafkax.NewSecret("a"), kafkax.NewSecret("b")
	if a != again || a == b || !reflect.DeepEqual(a, again) || reflect.DeepEqual(a, b) {
		t.Error("secrets are not equal as their texts are")
	}
	unset := kafkax.NewSecret("")
	if unset != (kafkax.Secret{}) || !unset.IsZero() || a.IsZero() || unset.Reveal() != "" || unset.String() != "" || fmt.Sprint(unset) != "" {
		t.Error("the empty secret is not the unset one")
	}
	for _, text := range []string{"a", "\x00", "\xff\xfe", " p,1 ", strings.Repeat("ü", 1000)} {
		s := kafkax.NewSecret(text)
		if s.Reveal() != text || s.String() != "***" {
			t.Errorf("%q: got %q, prints as %s", text, s.Reveal(), s)
		}
	}
}

// foreign holds secrets as structs of other packages do.
type foreign struct {
	Exported kafkax.Secret
	Pointer  *kafkax.Secret
	private  kafkax.Secret
	pointer  *kafkax.Secret
	any      any
	list     []kafkax.Secret
	byName   map[string]kafkax.Secret
	bySecret map[kafkax.Secret]bool
	config   kafkax.ConsumerConfig
}

func TestC3_NothingPrintsASecret(t *testing.T) {
	t.Parallel()

	s := kafkax.NewSecret(secret)
	env := environ("KAFKAX_SASL_MECHANISM=PLAIN", "KAFKAX_SASL_USERNAME=alice", "KAFKAX_SASL_PASSWORD="+secret)
	p, c := kafkax.ResolveProducer(env), kafkax.ResolveConsumer(env)
	injected := kafkax.ResolveProducer(environ(), kafkax.WithProducerSASL(plain.Mechanism{Username: "alice", Password: secret}))
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(secret, 5)[:ed25519.SeedSize]))
	injectedTLS := kafkax.ResolveConsumer(environ(), kafkax.WithConsumerTLSConfig(&tls.Config{Certificates: []tls.Certificate{{PrivateKey: key}}}))
	if err := errors.Join(p.Err, c.Err, injected.Err, injectedTLS.Err); err != nil {
		t.Fatal(err)
	}
	producer, err := kafkax.NewProducer(kafkax.WithProducerConfig(p.Config))
	if err != nil {
		t.Fatal(err)
	}
	scram := p.Config
	scram.SASL.Mechanism = kafkax.SASLScramSHA256
	producer2, err := kafkax.NewProducer(kafkax.WithProducerConfig(scram))
	if err != nil {
		t.Fatal(err)
	}
	fromFile := p.Config
	fromFile.SASL.Password, fromFile.SASL.PasswordFile = kafkax.Secret{}, writeFile(t, secret)
	producer3, err := kafkax.NewProducer(kafkax.WithProducerConfig(fromFile))
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := kafkax.NewConsumer(kafkax.WithConsumerConfig(c.Config))
	if err != nil {
		t.Fatal(err)
	}
	several, err := kafkax.NewMultiTopicConsumer([]string{"a", "b"}, kafkax.WithConsumerConfig(c.Config))
	if err != nil {
		t.Fatal(err)
	}
	for _, client := range []interface{ Close() error }{producer, producer2, producer3, consumer, several} {
		t.Cleanup(func() { _ = client.Close() })
	}

	holder := foreign{
		s, &s, s, &s, s,
		[]kafkax.Secret{s},
		map[string]kafkax.Secret{"s": s},
		map[kafkax.Secret]bool{s: true},
		c.Config,
	}
	for name, v := range map[string]any{
		"secret": s, "pointer": &s, "holder": holder, "pointer to holder": &holder,
		"list": []any{s, &s}, "map": map[string]any{"s": s, "p": &s}, "as an error": fmt.Errorf("x: %v", s),
		"sasl config": p.Config.SASL, "connection config": p.Config.ConnectionConfig,
		"producer config": p.Config, "consumer config": c.Config,
		"injected mechanism": injected.Config, "injected TLS": injectedTLS.Config, "in a private field": struct{ c kafkax.ProducerConfig }{injected.Config},
		"producer": producer, "producer with SCRAM": producer2, "producer with a password file": producer3, "consumer": consumer, "several topics": several,
		"producer's value": reflect.ValueOf(producer).Elem().Interface(), "consumer's value": reflect.ValueOf(consumer).Elem().Interface(),
		"producer in a private field": struct{ p *kafkax.Producer }{producer},
		"explanation":                 p.Config.Explain(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for how, text := range writings(v) {
				if strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) {
					t.Errorf("%s shows it: %s", how, text)
				}
			}
		})
	}
}

// writings is a value through everything that writes values. What refuses to
// is left out.
func writings(v any) map[string]string {
	out := map[string]string{"a deep printer": kafkax.DeepPrint(v)}
	for _, flags := range []string{"", "+", "#", " ", "0", "-", "40", ".2", "+#"} {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspw" {
			format := "%" + flags + string(verb)
			out[format] = fmt.Sprintf(format, v)
		}
	}
	out["Sprintln"] = fmt.Sprintln(v, v)
	keep := func(how string, text []byte, err error) {
		if err == nil {
			out[how] = string(text)
		} else {
			out[how+", its error"] = err.Error()
		}
	}
	asJSON, err := json.Marshal(v)
	keep("json", asJSON, err)
	asXML, err := xml.Marshal(v)
	keep("xml", asXML, err)
	asYAML, err := yaml.Marshal(v)
	keep("yaml", asYAML, err)
	var asGob bytes.Buffer
	err = gob.NewEncoder(&asGob).Encode(v)
	keep("gob", asGob.Bytes(), err)

	const page = `{{.}} {{printf "%v %+v %#v %q" . . . .}} {{print .}} {{len (print .)}}`
	var text, html bytes.Buffer
	err = template.Must(template.New("").Parse(page)).Execute(&text, v)
	keep("text/template", text.Bytes(), err)
	err = htmltemplate.Must(htmltemplate.New("").Parse(page+`<script>f({{.}})</script><a href="?{{.}}" title='{{.}}'>`)).Execute(&html, v)
	keep("html/template", html.Bytes(), err)

	var lines, objects bytes.Buffer
	slog.New(slog.NewTextHandler(&lines, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&objects, nil)).Info("x", "v", v)
	out["slog text"], out["slog json"] = lines.String(), objects.String()
	return out
}

// What was written of a secret must not become one when it is read again.
func TestC3_NoSecretIsReadBack(t *testing.T) {
	t.Parallel()

	type holder struct{ Password, Unset kafkax.Secret }
	before := holder{Password: kafkax.NewSecret(secret)}
	var asGob bytes.Buffer
	if err := gob.NewEncoder(&asGob).Encode(before); err != nil {
		t.Fatal(err)
	}
	asJSON, _ := json.Marshal(before)
	asXML, _ := xml.Marshal(before)
	asYAML, _ := yaml.Marshal(before)
	for how, read := range map[string]func(*holder) error{
		"gob":                func(h *holder) error { return gob.NewDecoder(&asGob).Decode(h) },
		"json":               func(h *holder) error { return json.Unmarshal(asJSON, h) },
		"json, a text":       func(h *holder) error { return json.Unmarshal([]byte(`{"Password":"new"}`), h) },
		"json, another type": func(h *holder) error { return json.Unmarshal([]byte(`{"Password":7}`), h) },
		"xml":                func(h *holder) error { return xml.Unmarshal(asXML, h) },
		"yaml":               func(h *holder) error { return yaml.Unmarshal(asYAML, h) },
		"yaml, another type": func(h *holder) error { return yaml.Unmarshal([]byte("password: 7"), h) },
		"text":               func(h *holder) error { return h.Password.UnmarshalText([]byte("***")) },
		"gob of a client's":  func(*holder) error { return gobAgain(t, kafkax.SASLConfig{Password: before.Password}) },
		"yaml of a client's": func(*holder) error { return yaml.Unmarshal([]byte("password: '***'"), new(kafkax.SASLConfig)) },
		"json of a client's": func(*holder) error { return json.Unmarshal([]byte(`{"Password":"***"}`), new(kafkax.SASLConfig)) },
		"json of a whole side": func(*holder) error {
			return json.Unmarshal([]byte(`{"SASL":{"Password":"***"}}`), new(kafkax.ConsumerConfig))
		},
	} {
		var after holder
		if err := read(&after); err == nil || !after.Password.IsZero() {
			t.Errorf("%s: got %v and %q, want an error", how, err, after.Password.Reveal())
		} else if !strings.Contains(how, "another type") && !strings.Contains(err.Error(), "NewSecret") {
			t.Errorf("%s: %v does not say what to do", how, err)
		}
	}

	// An unset one is nothing that could be lost.
	var after holder
	if err := json.Unmarshal([]byte(`{"Password":"","Unset":null}`), &after); err != nil || after != (holder{}) {
		t.Errorf("got %+v and %v", after, err)
	}
	if err := gobAgain(t, kafkax.SASLConfig{Username: "alice"}); err != nil {
		t.Error(err)
	}
}

func gobAgain(t *testing.T, cfg kafkax.SASLConfig) error {
	t.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(cfg); err != nil {
		t.Fatal(err)
	}
	return gob.NewDecoder(&b).Decode(new(kafkax.SASLConfig))
}

// A configuration is handed on with its secret, though it keeps no text of it.
func TestWithConfigKeepsThePassword(t *testing.T) {
	t.Parallel()

	sasl := environ("KAFKAX_SASL_MECHANISM=PLAIN", "KAFKAX_SASL_USERNAME=alice", "KAFKAX_SASL_PASSWORD="+secret)
	cfg, err := kafkax.LoadConsumer(sasl)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, password, source string
		change                 func(*kafkax.ConsumerConfig)
	}{
		{"as it is", secret, "env KAFKAX_SASL_PASSWORD", func(*kafkax.ConsumerConfig) {}},
		{"set to the same", secret, "env KAFKAX_SASL_PASSWORD", func(c *kafkax.ConsumerConfig) { c.SASL.Password = kafkax.NewSecret(secret) }},
		{"changed", "other", "option WithConsumerConfig", func(c *kafkax.ConsumerConfig) { c.SASL.Password = kafkax.NewSecret("other") }},
	} {
		changed := cfg
		tt.change(&changed)
		r := kafkax.ResolveConsumer(nil, kafkax.WithConsumerConfig(changed))
		if r.Err != nil || r.Config.SASL.Password.Reveal() != tt.password {
			t.Errorf("%s: got %q and %v", tt.name, r.Config.SASL.Password.Reveal(), r.Err)
		}
		loop, _, _, err := kafkax.ResolveConsume(r.Config)
		if err != nil || loop.SASL.Password.Reveal() != tt.password {
			t.Errorf("%s: a loop has %q and %v", tt.name, loop.SASL.Password.Reveal(), err)
		}
		want := kafkax.Setting{Key: "sasl.password", Value: "***", Source: tt.source}
		for _, e := range []kafkax.Explanation{r.Config.Explain(), loop.Explain()} {
			if got := explained(e, "sasl.password"); got != want {
				t.Errorf("%s: got %+v, want %+v", tt.name, got, want)
			}
		}
	}
}
