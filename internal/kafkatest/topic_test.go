package kafkatest_test

import (
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/bi-common/kafkax/internal/kafkatest"
	"github.com/segmentio/kafka-go"
)

var legal = regexp.MustCompile(`^[a-zA-Z0-9-]+$`)

func TestNameIsFreshAndLegal(t *testing.T) {
	t.Parallel()
	var seen sync.Map
	for _, name := range []string{"a b/c_d.e", "a b/c_d.e", strings.Repeat("long", 100)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := kafkatest.Name(t)
			if len(got) > 200 || !legal.MatchString(got) {
				t.Errorf("got %q", got)
			}
			if _, taken := seen.LoadOrStore(got, true); taken {
				t.Errorf("%q is given out twice", got)
			}
		})
	}
}

func TestTopicConfigAndTool(t *testing.T) {
	t.Parallel()
	cluster := kafkatest.Shared(t)
	topic := cluster.Topic(t, 3, "cleanup.policy=compact", "max.message.bytes=2048")

	out := cluster.Tool(t, "org.apache.kafka.tools.TopicCommand", "--describe", "--topic", topic)

	for _, want := range []string{"PartitionCount: 3", "cleanup.policy=compact", "max.message.bytes=2048"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if err := cluster.CreateTopic(topic, 1); !errors.Is(err, kafka.TopicAlreadyExists) {
		t.Errorf("a second topic of the same name: error %v", err)
	}
}
