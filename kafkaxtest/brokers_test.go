package kafkaxtest_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
	"github.com/bi-common/kafkax/kafkaxtest"
	"github.com/bi-common/kafkax/kafkaxtest/history"
)

func TestMain(m *testing.M) { os.Exit(kafkatest.M{M: m}.Run()) }

func id(m kafkax.Message) string { return string(m.Value) }

// What runs already is broken, seen and judged as the cluster in memory is.
func TestBrokersThatRunAlready(t *testing.T) {
	t.Parallel()
	other := kafkaxtest.Start(t, kafkaxtest.Nodes(2))
	takesFaults(t, other.Brokers())
}

func TestBrokersThatRunAlready_Real(t *testing.T) {
	t.Parallel()
	s := takesFaults(t, kafkatest.Shared(t).Brokers())
	s.MoveLeader("orders", 1, 0) // which it is already
	s.DeleteTopic("orders")
	s.Wait("the topic to be gone", func() bool { return len(s.Messages("orders")) == 0 })
}

func takesFaults(t *testing.T, brokers []string) *kafkaxtest.Sim {
	t.Helper()
	s := kafkaxtest.Start(t, kafkaxtest.Brokers(brokers...), kafkaxtest.Topic("orders", 3), kafkaxtest.Identify(id))
	m := s.Join("billing", "orders", nothing)
	s.WaitMembers("billing", 1)
	s.Fill("orders", 30)
	s.WaitCommitted("billing", "orders")
	release := s.Hold(kafkaxtest.Target{Requests: []kmsg.Key{kmsg.OffsetCommit}})
	s.Fill("orders", 3)
	s.WaitHandled(33)
	if lag := s.Lag("billing", "orders"); lag != 3 {
		t.Errorf("%d messages are not committed while commits are held", lag)
	}
	release()
	s.WaitCommitted("billing", "orders")
	for node := range brokers {
		s.Down(node)()
	}
	s.Rebalance("billing")
	s.Fill("orders", 3)
	s.WaitCommitted("billing", "orders")
	if err := m.Leave(); err != nil {
		t.Error(err)
	}
	report := s.Check(history.Rules{Grace: time.Minute, GroupRules: history.GroupRules{Complete: true}})
	if report.Commits == 0 || report.Rebalances == 0 {
		t.Errorf("the network showed %d commits and %d rebalances", report.Commits, report.Rebalances)
	}
	return s
}

// A broker may list a topic for a while after the controller has deleted it.
func TestDeleteTopicWaitsUntilItIsGone(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	s := kafkaxtest.Start(t, kafkaxtest.Brokers(cluster.ListenAddrs()...))

	var (
		said  atomic.Bool
		asked atomic.Int32
		late  = make(chan struct{})
	)
	cluster.ControlKey(kmsg.DeleteTopics.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		topic := kmsg.NewDeleteTopicsResponseTopic()
		topic.Topic = new("orders")
		res := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
		res.Topics = append(res.Topics, topic)
		said.Store(true)
		return res, nil, true
	})
	cluster.ControlKey(kmsg.Metadata.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if said.Load() && asked.Add(1) == 3 {
			close(late)
		}
		return nil, nil, false
	})
	ctx, stop := context.WithCancel(t.Context())
	var deletion sync.WaitGroup
	deletion.Go(func() {
		select {
		case <-late:
			if err := cluster.DeleteTopic("orders"); err != nil {
				t.Error(err)
			}
		case <-ctx.Done():
		}
	})
	s.DeleteTopic("orders")
	if len(cluster.PartitionInfos("orders")) > 0 {
		t.Error("the topic is there still")
	}
	stop()
	deletion.Wait()
}

// A member in another process has the faults of the one that makes them.
func TestThroughAnotherSimulation(t *testing.T) {
	t.Parallel()
	other := kafkaxtest.Start(t, kafkaxtest.Topic("orders", 1))
	faulty := kafkaxtest.Start(t, kafkaxtest.Brokers(other.Brokers()...))
	s := kafkaxtest.Start(t, kafkaxtest.Brokers(other.Brokers()...), kafkaxtest.Through(faulty.Proxied()...), kafkaxtest.MembersNamed("far"))
	var (
		mu  sync.Mutex
		saw []string
	)
	s.Recorded().Watch = func(n int, e history.Event) {
		mu.Lock()
		defer mu.Unlock()
		if d, ok := e.(history.Delivery); ok {
			saw = append(saw, strings.Join([]string{d.Member, string(d.Outcome)}, " "))
		}
	}
	m := s.Join("billing", "orders", nothing)
	faulty.WaitMembers("billing", 1)
	release := faulty.Hold(kafkaxtest.Target{Client: m.Name, Requests: []kmsg.Key{kmsg.OffsetCommit}})
	s.Fill("orders", 1)
	s.WaitHandled(1)
	if lag := s.Lag("billing", "orders"); lag != 1 {
		t.Errorf("%d messages are not committed while commits are held", lag)
	}
	release()
	s.WaitCommitted("billing", "orders")
	if err := m.Leave(); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(saw, ", ") != "far-1 , far-1 handled" {
		t.Errorf("told: %q", saw)
	}
	seen := 0
	for _, e := range faulty.Recorded().Events() {
		if c, ok := e.(history.Commit); ok && c.Member == "far-1" {
			seen++
		}
	}
	if seen == 0 {
		t.Error("the one with the faults did not see the commit")
	}
}

// failing is a test that is expected to fail.
type failing struct {
	testing.TB

	said string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestOnlyTheClusterInMemoryFailsAsToldTo(t *testing.T) {
	t.Parallel()
	other := kafkaxtest.Start(t)
	for name, do := range map[string]func(*kafkaxtest.Sim){
		"Fail":             func(s *kafkaxtest.Sim) { s.Fail(kafkaxtest.Failure{}) },
		"MoveCoordinators": func(s *kafkaxtest.Sim) { s.MoveCoordinators() },
		"Expire":           func(s *kafkaxtest.Sim) { s.Expire("orders", time.Hour) },
		"Compact":          func(s *kafkaxtest.Sim) { s.Compact("orders") },
	} {
		s := kafkaxtest.Start(t, kafkaxtest.Brokers(other.Brokers()...))
		f := &failing{TB: t}
		s.T = f
		var call sync.WaitGroup
		call.Go(func() { do(s) })
		call.Wait()
		if !strings.Contains(f.said, name) {
			t.Errorf("%s: the test failed with %q", name, f.said)
		}
	}
}
