package kafkax_test

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bi-common/kafkax"
)

// counted counts its reads, and may fail, panic or exit.
type counted struct {
	io.Reader
	reads int
	end   func() error
}

func (c *counted) Read(p []byte) (int, error) {
	c.reads++
	if c.Reader != nil {
		return c.Reader.Read(p)
	}
	return 0, c.end()
}

func TestConfigReader(t *testing.T) {
	t.Parallel()

	const content = "client_id: read\nconsumer:\n  topic: orders\n  group_id: g\n"
	env := []string{"KAFKAX_BROKERS=a:1", "KAFKAX_CONFIG_FILE=" + writeFile(t, "client_id: file\n")}
	c := kafkax.ResolveConsumer(env, kafkax.WithConsumerConfigReader(strings.NewReader(content)))
	want := kafkax.Setting{Key: "consumer.topic", Value: "orders", Source: "option WithConsumerConfigReader:3"}
	if got := explained(c.Config.Explain(), "consumer.topic"); c.Err != nil || got != want || c.Config.ClientID != "read" {
		t.Errorf("got %+v and %v, want %+v", got, c.Err, want)
	}
	p := kafkax.ResolveProducer(env, kafkax.WithProducerConfigReader(strings.NewReader(content)))
	if p.Err != nil || p.Config.ClientID != "read" {
		t.Errorf("got %q and %v", p.Config.ClientID, p.Err)
	}
	// Of file and reader, the later option wins.
	both := kafkax.ResolveProducer(nil, kafkax.WithProducerConfigFile("/none"), kafkax.WithProducerConfigReader(strings.NewReader("brokers: [a:1]")))
	if both.Err != nil {
		t.Error(both.Err)
	}

	// One reader serves each topic of several, and is read once.
	r := &counted{Reader: strings.NewReader("brokers: [a:1]\nconsumer: {group_id: g}\n")}
	m, err := kafkax.NewMultiTopicConsumer([]string{"a", "b", "c"}, kafkax.WithConsumerConfigReader(r))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	if r.reads > 3 || m.Consumer("c").Config().GroupID != "g" {
		t.Errorf("%d reads", r.reads)
	}

	errRead := errors.New("no such luck")
	endless := &counted{Reader: zeroes{}}
	for name, tt := range map[string]struct {
		reader io.Reader
		rule   string
		is     error
	}{
		"nil":         {nil, "must not be nil", nil},
		"a nil file":  {(*os.File)(nil), "must not be nil", nil},
		"fails":       {&counted{end: func() error { return errRead }}, "cannot be read: no such luck", errRead},
		"panics":      {&counted{end: func() error { panic(errRead) }}, "cannot be read: panic: no such luck", errRead},
		"exits":       {&counted{end: func() error { runtime.Goexit(); return nil }}, "cannot be read: ", nil},
		"endless":     {endless, "must give at most 1 MiB", nil},
		"no YAML":     {strings.NewReader("a: {"), "must be YAML", nil},
		"unknown key": {strings.NewReader("a: b"), "is an unknown key", nil},
	} {
		err := kafkax.ResolveConsumer(minimal, kafkax.WithConsumerConfigReader(tt.reader)).Err
		got := problems(t, err)
		if len(got) != 1 || !strings.Contains(got[0].Rule, tt.rule) || !strings.HasPrefix(got[0].Source, "option WithConsumerConfigReader") {
			t.Errorf("%s: got %v, want %s", name, err, tt.rule)
		}
		if tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v does not match %v", name, err, tt.is)
		}
	}
	if endless.reads > 1000 {
		t.Errorf("%d reads of what has no end", endless.reads)
	}
}

// A reader may wait for what never comes, such as a terminal's input.
func TestC1_ReaderThatBlocksHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close() // lets the read end
		opt := kafkax.WithConsumerConfigReader(r)
		for _, took := range []time.Duration{10 * time.Second, 0} { // what became of it is known to the second client
			began := time.Now()
			err := kafkax.ResolveConsumer(minimal, opt).Err
			checkRule(t, err, "config_reader", "it has not come to its end within 10s")
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != took {
				t.Errorf("got %v after %v", err, time.Since(began))
			}
		}
	})
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A service's own file has kafkax's keys in one section of it.
func TestConfigSection(t *testing.T) {
	t.Parallel()

	const content = `http: {port: 80}
shared: &shared {client_id: x}
client_id: {of: "another program"}
services:
  kafka:
    client_id: mine
    consumer:
      topic: orders
      sesion_timeout: 1s
  other: *shared
dotted.path:
  kafka: {client_id: dotted}
empty:
word: x
list: [a]
twice: {client_id: a, client_id: b}
double: {client_id: a}
double: {client_id: b}
either: {or: {client_id: a}}
either.or: {client_id: b}
`
	file := writeFile(t, content)
	for name, opts := range map[string][]kafkax.ConsumerOption{
		"file":   {kafkax.WithConsumerConfigFile(file), kafkax.WithConsumerConfigSection("services.kafka")},
		"reader": {kafkax.WithConsumerConfigSection("services.kafka"), kafkax.WithConsumerConfigReader(strings.NewReader(content))},
	} {
		got := problems(t, kafkax.ResolveConsumer(minimal, opts...).Err)
		if len(got) != 1 || got[0].Key != "consumer.sesion_timeout" || !strings.HasSuffix(got[0].Source, ":9") ||
			got[0].Rule != "is an unknown key; the nearest is consumer.session_timeout" {
			t.Errorf("%s: got %v, want one unknown key, of the section alone", name, got)
		}
	}

	tests := []struct{ section, clientID, key, rule string }{
		{section: "dotted.path.kafka", clientID: "dotted"},
		{section: "empty", clientID: "kafkax"},
		{section: "shared", key: "config_file", rule: "anchors and aliases are not read"},
		{section: "services.other", key: "config_file", rule: "anchors and aliases are not read"},
		{section: "services.none", key: "config_section", rule: "there is no such section"},
		{section: "services.kafka.client_id.x", key: "config_section", rule: "there is no such section"},
		{section: "services.", key: "config_section", rule: "there is no such section"},
		{section: "", key: "config_section", rule: "must be the path of a section"},
		{section: "word", key: "config_file", rule: "must be a section"},
		{section: "list", key: "config_file", rule: "must be a section"},
		{section: "double", key: "config_section", rule: "is given twice, first at "},
		{section: "either.or", key: "config_section", rule: "is given twice, first at " + file + ":19"},
		{section: "twice", key: "client_id", rule: "is given twice"},
	}
	for _, tt := range tests {
		t.Run(tt.section, func(t *testing.T) {
			t.Parallel()
			p := kafkax.ResolveProducer(environ("KAFKAX_CONFIG_FILE="+file), kafkax.WithProducerConfigSection(tt.section))
			c := kafkax.ResolveConsumer(environ("KAFKAX_CONFIG_FILE="+file), kafkax.WithConsumerConfigSection(tt.section))
			if tt.rule != "" {
				checkRule(t, p.Err, tt.key, tt.rule)
				checkRule(t, c.Err, tt.key, tt.rule)
				return
			}
			if err := errors.Join(p.Err, c.Err); err != nil || p.Config.ClientID != tt.clientID || c.Config.ClientID != tt.clientID {
				t.Errorf("got %q, %q and %v", p.Config.ClientID, c.Config.ClientID, err)
			}
		})
	}
	checkRule(t, kafkax.ResolveConsumer(minimal, kafkax.WithConsumerConfigSection("a")).Err, "config_section", "has no effect without a configuration file")
}
