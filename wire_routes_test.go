package kafkax

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// routedCluster is a broker that says who leads orders[0].
type routedCluster struct {
	wireBroker
	leader  int32
	code    kafka.Error
	made    byte // of the topic's id
	missing bool
}

func (r *routedCluster) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func newRoutedCluster(leader int32, brokers ...kmsg.MetadataResponseBroker) *routedCluster {
	r := &routedCluster{leader: leader, made: 1}
	r.takes, r.cluster = usual(), brokers
	r.script = func(c net.Conn, req kmsg.Request, id int32) bool {
		ask, ok := req.(*kmsg.MetadataRequest)
		if !ok || len(ask.Topics) == 0 {
			return false
		}
		time.Sleep(time.Second)
		r.mu.Lock()
		defer r.mu.Unlock()
		res := req.ResponseKind().(*kmsg.MetadataResponse)
		res.Brokers = r.cluster
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic, topic.TopicID = ask.Topics[0].Topic, topicID{r.made}
		if r.missing {
			topic.ErrorCode = int16(kafka.UnknownTopicOrPartition)
		} else {
			topic.Partitions = []kmsg.MetadataResponseTopicPartition{{Leader: r.leader, LeaderEpoch: 5, ErrorCode: int16(r.code)}}
		}
		res.Topics = append(res.Topics, topic)
		_, _ = c.Write(answerTo(id, res))
		return true
	}
	return r
}

// lookedUp counts the times that a topic was asked for.
func (r *routedCluster) lookedUp() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, req := range r.asked {
		if ask, ok := req.(*kmsg.MetadataRequest); ok && len(ask.Topics) > 0 {
			n++
		}
	}
	return n
}

// Who leads is asked once, however many want to know, and again when an answer or a
// connection that failed shows that it is another by now. A topic that is made again
// has another id.
func TestWire_LeadersAreRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoutedCluster(1, namedBroker(1, "a"), namedBroker(2, "dead"))
		w := newTestWire(t, time.Minute, virtualNet{"a:1": r.serve}, "a:1")
		want := func(asked int, node int32, id byte) {
			t.Helper()
			l, err := w.leaderOf(testContext(t), "orders", 0)
			if err != nil || l.node != node || l.epoch != 5 || l.topic != (topicID{id}) {
				t.Errorf("got %+v, %v, want node %d and id %d", l, err, node, id)
			}
			if n := r.lookedUp(); n != asked {
				t.Errorf("asked %d times, want %d", n, asked)
			}
		}
		var many sync.WaitGroup
		for range 50 {
			many.Go(func() { _, _ = w.leaderOf(testContext(t), "orders", 0) })
		}
		many.Wait()
		want(1, 1, 1)
		r.change(func() { r.leader, r.made = 2, 9 })
		want(1, 1, 1)
		w.forgetTopic("orders")
		want(2, 2, 9)
		if _, err := exchange(testContext(t), w.wire, heartbeat(), 2); !isNetworkError(err) {
			t.Fatalf("got %v, and nobody listens there", err)
		}
		r.change(func() { r.leader = 1 })
		want(3, 1, 9)
		want(3, 1, 9)
	})
}

// What cannot be found is asked for each time, and is an error with Kafka's code.
func TestWire_WhatHasNoLeaderIsNotRemembered(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		is        kafka.Error
		partition int
		set       func(*routedCluster)
	}{
		{"topic missing", kafka.UnknownTopicOrPartition, 0, func(r *routedCluster) { r.missing = true }},
		{"partition missing", kafka.UnknownTopicOrPartition, 1, func(*routedCluster) {}},
		{"election", kafka.LeaderNotAvailable, 0, func(r *routedCluster) { r.leader = -1 }},
		{"refused", kafka.TopicAuthorizationFailed, 0, func(r *routedCluster) { r.code = kafka.TopicAuthorizationFailed }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRoutedCluster(1, namedBroker(1, "a"))
				w := newTestWire(t, time.Minute, virtualNet{"a:1": r.serve}, "a:1")
				tt.set(r)
				for n := 1; n <= 2; n++ {
					if _, err := w.leaderOf(testContext(t), "orders", tt.partition); !errors.Is(err, tt.is) || isRefused(err) != (refusal(tt.is) != nil) {
						t.Errorf("got %v", err)
					}
					if asked := r.lookedUp(); asked != n {
						t.Errorf("asked %d times, want %d", asked, n)
					}
				}
			})
		})
	}
}

// A context that ends while another asks is heeded.
func TestWire_WaitingForALookupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoutedCluster(1, namedBroker(1, "a"))
		w := newTestWire(t, time.Minute, virtualNet{"a:1": r.serve}, "a:1")
		first := make(chan error)
		go func() {
			_, err := w.leaderOf(testContext(t), "orders", 0)
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := w.leaderOf(ctx, "orders", 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// A coordinator is remembered too, also one on a broker that no metadata named, and
// whichever way the answer's version names it.
func TestWire_CoordinatorsAreRemembered(t *testing.T) {
	t.Parallel()
	for _, newest := range []int16{2, 3, 4} {
		synctest.Test(t, func(t *testing.T) {
			other := &wireBroker{takes: usual()}
			seed := &wireBroker{takes: usual()}
			seed.takes[kmsg.FindCoordinator] = newest
			code := int16(kafka.GroupCoordinatorNotAvailable)
			seed.script = func(c net.Conn, req kmsg.Request, id int32) bool {
				find, ok := req.(*kmsg.FindCoordinatorRequest)
				if !ok {
					return false
				}
				res := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
				if newest < 4 {
					res.NodeID, res.Host, res.Port, res.ErrorCode = 5, "other", 1, code
				} else {
					res.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{Key: find.CoordinatorKeys[0], NodeID: 5, Host: "other", Port: 1, ErrorCode: code}}
				}
				_, _ = c.Write(answerTo(id, res))
				return true
			}
			w := newTestWire(t, time.Minute, virtualNet{"seed:1": seed.serve, "other:1": other.serve}, "seed:1")
			group := coordinated{coordinatesGroup, "billing"}
			if _, err := w.coordinatorOf(testContext(t), group); !errors.Is(err, kafka.GroupCoordinatorNotAvailable) || !isElecting(err) {
				t.Errorf("got %v", err)
			}
			code = 0
			for range 3 {
				node, err := w.coordinatorOf(testContext(t), group)
				if err != nil || node != 5 {
					t.Fatalf("got %d, %v", node, err)
				}
				if _, err := exchange(testContext(t), w.wire, heartbeat(), node); err != nil {
					t.Error(err)
				}
			}
			if n := seed.count(kmsg.FindCoordinator); n != 2 {
				t.Errorf("asked %d times, want 2", n)
			}
			w.forgetCoordinator(group)
			if _, err := w.coordinatorOf(testContext(t), group); err != nil {
				t.Error(err)
			}
			if n := seed.count(kmsg.FindCoordinator); n != 3 {
				t.Errorf("asked %d times, want 3", n)
			}
		})
	}
}
