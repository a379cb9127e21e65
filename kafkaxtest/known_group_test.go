package kafkaxtest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
)

// A stop that was cut off, by a handler that ignores its context, leaves the group
// all the same: the next member need not wait for the session to time out.
func TestD4_AStopThatWasCutOffLeavesTheGroup(t *testing.T) {
	t.Parallel()
	const n, bound = 5, time.Second
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		started, free := make(chan struct{}, 1), make(chan struct{})
		defer close(free)
		first := s.Join("billing", "orders", func(context.Context, kafkax.Message) error {
			started <- struct{}{}
			<-free
			return nil
		}, kafkax.WithConsumerShutdownTimeout(bound))
		s.Fill("orders", n)
		<-started
		began := s.Elapsed()
		if err := first.Leave(); !errors.Is(err, kafkax.ErrShutdown) {
			s.T.Errorf("the stop returned %v", err)
		}
		if took := s.Elapsed() - began; took < bound || took > bound+3*time.Second {
			s.T.Errorf("the stop took %v, with a bound of %v", took, bound)
		}
		if members := s.Members("billing"); members > 0 {
			s.T.Errorf("%d members after the stop", members)
		}
		began = s.Elapsed()
		s.Join("billing", "orders", nothing)
		s.WaitCommitted("billing", "orders")
		if took := s.Elapsed() - began; took > 5*time.Second {
			s.T.Errorf("the next member had the partition's messages handled after %v", took)
		}
	}, kafkaxtest.Topic("orders", 1))
}

// Where the group cannot be told either, as the broker is silent, the stop has its
// bound all the same, and nothing is left behind.
func TestD4_AStopThatWasCutOffAndCannotLeave(t *testing.T) {
	t.Parallel()
	const bound = time.Second
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		started, free := make(chan struct{}, 1), make(chan struct{})
		defer close(free)
		m := s.Join("billing", "orders", func(context.Context, kafkax.Message) error {
			started <- struct{}{}
			<-free
			return nil
		}, kafkax.WithConsumerShutdownTimeout(bound))
		s.Fill("orders", 1)
		<-started
		defer m.Freeze()()
		began := s.Elapsed()
		err := m.Consumer.Close()
		if cut, ok := errors.AsType[*kafkax.ShutdownError](err); !ok || !strings.HasPrefix(cut.What[0], "orders[0]@0 since ") {
			s.T.Errorf("the stop returned %v", err)
		}
		if took := s.Elapsed() - began; took < bound || took > bound+2*time.Second {
			s.T.Errorf("the stop took %v, with a bound of %v", took, bound)
		}
	}, kafkaxtest.Topic("orders", 1))
}

// kafka-go's ConsumerGroup joins without a member id, so a join whose answer is lost
// leaves a member that nobody can name: the group waits for it until its session has
// timed out, and each further try adds one. There should be none, and the member in
// the group with its second try.
func TestD16_AJoinThatIsCutLeavesNoMember_ExpectedToFail(t *testing.T) {
	t.Parallel()
	const cuts, session = 5, 30 * time.Second
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		stop := s.CutAt(kafkaxtest.Target{Requests: []kmsg.Key{kmsg.JoinGroup}, Answers: true}, cuts, 0)
		defer stop()
		m := s.Join("billing", "orders", nothing, kafkax.WithConsumerSessionTimeout(session))
		s.Fill("orders", 10)
		most := 0
		s.Wait("all to be committed", func() bool {
			most = max(most, s.Members("billing"))
			return s.Lag("billing", "orders") == 0
		})
		took := s.Elapsed()
		switch failed := m.Consumer.Stats().Errors; {
		case failed == 0:
			s.T.Error("no join was cut")
		case most <= 1 && took < session/2:
			s.T.Errorf("the group never had more than a member, and went on after %v: this is no longer expected to fail", took)
		case most <= 1 || took < session/2:
			s.T.Errorf("the group had %d members, and went on after %v: one of both is mended", most, took)
		}
	}, kafkaxtest.Topic("orders", 1))
}

// kafka-go's ConsumerGroup says that heartbeats are not answered only once one has
// timed out, and not when the last was. The grace of the handlers begins then, so
// they may end seconds after the group has given their partition away. It should
// count from the last heartbeat that was answered: the handler should have ended
// before another member handles the same message.
func TestD14_GraceCountsFromTheLastHeartbeat_ExpectedToFail(t *testing.T) {
	t.Parallel()
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		const session = 8 * time.Second
		var (
			mu     sync.Mutex
			began  = map[string]time.Duration{}
			ended  = map[string]time.Duration{}
			handle = func(member string) kafkax.Handler {
				return func(ctx context.Context, _ kafkax.Message) error {
					mu.Lock()
					began[member] = s.Elapsed()
					mu.Unlock()
					<-ctx.Done()
					mu.Lock()
					ended[member] = s.Elapsed()
					mu.Unlock()
					return ctx.Err()
				}
			}
			have = func(times map[string]time.Duration, member string) func() bool {
				return func() bool { mu.Lock(); defer mu.Unlock(); return times[member] > 0 }
			}
		)
		first := s.Join("billing", "orders", handle("first"), kafkax.WithConsumerSessionTimeout(session))
		s.Fill("orders", 1)
		s.Wait("the first member to handle it", have(began, "first"))
		over := s.Lose(kafkaxtest.Target{Client: first.Name, Requests: []kmsg.Key{kmsg.Heartbeat}})
		defer over()
		s.Join("billing", "orders", handle("second"), kafkax.WithConsumerSessionTimeout(session))
		s.Wait("the second member to handle it", have(began, "second"))
		s.Wait("the first member's handler to end", have(ended, "first"))
		mu.Lock()
		defer mu.Unlock()
		if late := ended["first"] - began["second"]; late <= 0 {
			s.T.Errorf("the handler ended %v before another member's began: this is no longer expected to fail", -late)
		}
	}, kafkaxtest.Topic("orders", 1))
}
