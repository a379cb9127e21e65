package kafkax

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

func topicAnswer(code kafka.Error) kafka.Response {
	return &metadata.Response{Topics: []metadata.ResponseTopic{{
		Name: "orders", ErrorCode: int16(code), Partitions: make([]metadata.ResponsePartition, 4),
	}}}
}

func TestP4_Lookup(t *testing.T) {
	t.Parallel()
	type answer struct {
		code kafka.Error
		err  error
	}
	tests := []struct {
		name    string
		answers []answer // the last one repeats
		want    error
		lookups int
		within  time.Duration
	}{
		{name: "known", answers: []answer{{}}, lookups: 1},
		{name: "just made", answers: []answer{{code: kafka.UnknownTopicOrPartition}, {code: kafka.LeaderNotAvailable}, {}}, lookups: 3, within: time.Second},
		{name: "brokers are down", answers: []answer{{err: syscall.ECONNREFUSED}, {err: context.DeadlineExceeded}, {}}, lookups: 3, within: time.Second},
		{name: "missing", answers: []answer{{code: kafka.UnknownTopicOrPartition}}, want: kafka.UnknownTopicOrPartition, within: missingTopicPatience + 2*time.Second},
		{name: "forbidden", answers: []answer{{code: kafka.TopicAuthorizationFailed}}, want: ErrAuthorization, lookups: 2},
		{name: "login refused", answers: []answer{{err: kafka.SASLAuthenticationFailed}}, want: kafka.SASLAuthenticationFailed, lookups: 1},
		{name: "down for good", answers: []answer{{err: syscall.ECONNREFUSED}}, want: syscall.ECONNREFUSED, within: 2 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, broker := scriptedDelivery(t, testDeliveryConfig())
				broker.lookup = func(n int) (kafka.Response, error) {
					a := tt.answers[min(n, len(tt.answers))-1]
					if a.err != nil {
						return nil, a.err
					}
					return topicAnswer(a.code), nil
				}
				start := time.Now()
				res, err := d.RoundTrip(t.Context(), testAddr, &metadata.Request{TopicNames: []string{"orders"}})
				if took := time.Since(start); took > tt.within {
					t.Errorf("took %s, want at most %s", took, tt.within)
				}
				if !errors.Is(err, tt.want) || errors.Is(err, ErrOutcomeUnknown) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				if err != nil && !strings.Contains(err.Error(), `"orders"`) {
					t.Errorf("error %q does not name the topic", err)
				}
				if err == nil && len(res.(*metadata.Response).Topics[0].Partitions) != 4 {
					t.Errorf("answer %+v", res)
				}
				if tt.lookups > 0 && broker.lookups != tt.lookups {
					t.Errorf("%d lookups, want %d", broker.lookups, tt.lookups)
				}
			})
		})
	}
}

func TestP3_ContextEndsALookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, broker := scriptedDelivery(t, testDeliveryConfig())
		broker.lookup = func(int) (kafka.Response, error) { return nil, syscall.ECONNREFUSED }
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := d.RoundTrip(ctx, testAddr, &metadata.Request{TopicNames: []string{"orders"}})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("error %v, want the context's and the broker's", err)
		}
		if time.Since(start) != 300*time.Millisecond {
			t.Errorf("took %s, want 300ms", time.Since(start))
		}
	})
}

func TestRoutes_OneTransportATopicUntilItIsIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, broker := scriptedDelivery(t, testDeliveryConfig())
		use := func(topic string) {
			t.Helper()
			if _, err := d.RoundTrip(t.Context(), testAddr, testBatch(topic, 0, kafka.RequireAll, "a")); err != nil {
				t.Fatal(err)
			}
		}
		for _, topic := range []string{"a", "b", "a", "b"} {
			use(topic)
		}
		time.Sleep(idleAfter - time.Second) // synctest's time
		use("b")
		time.Sleep(2 * time.Second)
		use("c") // sweeps a, which nobody used, and not b
		if broker.closed != 1 {
			t.Errorf("%d transports released, want 1", broker.closed)
		}
		use("a")
		use("b")
		want := [][]string{{"a"}, {"b"}, {"c"}, {"a"}}
		if !slices.EqualFunc(broker.opened, want, slices.Equal) {
			t.Errorf("opened %v, want %v", broker.opened, want)
		}
		got := broker.stamps()
		if a, b := got[len(got)-2], got[len(got)-1]; a != (stamp{103, 0, 0}) || b != (stamp{101, 0, 3}) {
			t.Errorf("went on with %v and %v, want a new identity for a, and the old sequence for b", a, b)
		}
	})
}

// onceAnswered is a cluster that falls silent after its first answer.
type onceAnswered struct{ asked atomic.Int32 }

func (*onceAnswered) CloseIdleConnections() {}

func (o *onceAnswered) RoundTrip(ctx context.Context, _ net.Addr, _ kafka.Request) (kafka.Response, error) {
	if o.asked.Add(1) == 1 {
		return topicAnswer(0), nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestP3_LookupOverFreshConnectionsIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := testDeliveryConfig()
		quiet := kafka.LoggerFunc(func(string, ...any) {})
		d := newDeliveryOver(cfg, func(...string) transport { return &onceAnswered{} }, func(err error) error { return err }, newLoggers(quiet, quiet))
		t.Cleanup(d.close)
		ask := func() error {
			_, err := d.RoundTrip(context.Background(), testAddr, &metadata.Request{TopicNames: []string{"orders"}})
			return err
		}
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		u, err := d.routes.acquire("orders")
		if err != nil {
			t.Fatal(err)
		}
		u.value.renew()
		d.routes.release(u)
		start := time.Now()
		if err := ask(); !errors.Is(err, errDeliveryTimeout) || time.Since(start) != cfg.DeliveryTimeout {
			t.Errorf("got %v after %s, want the delivery timeout's error after %s", err, time.Since(start), cfg.DeliveryTimeout)
		}
	})
}

// What is kept for partitions that are no longer written to is bounded, but for
// an identity that may still have to keep a straggler out.
func TestP9_IdleIdentityIsDroppedUnlessInDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := testDeliveryConfig()
		cfg.MaxAttempts = 1
		d, broker := scriptedDelivery(t, cfg, breaks)
		use := func(topic string) error {
			_, err := d.RoundTrip(t.Context(), testAddr, testBatch(topic, 0, kafka.RequireAll, "a"))
			return err
		}
		others := 0
		idle := func() {
			time.Sleep(idleAfter + sweepInterval) // synctest's time
			for range 3 {
				others++
				if err := use("other-" + strconv.Itoa(others)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := use("doubt"); !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatal(err)
		}
		for _, want := range []stamp{
			{100, 1, 0}, // kept, as the lost batch may still arrive: the epoch keeps it out
			{107, 0, 0}, // dropped, as a batch of that epoch has been acknowledged since
		} {
			idle()
			if err := use("doubt"); err != nil {
				t.Fatal(err)
			}
			if got := broker.stamps(); got[len(got)-1] != want {
				t.Errorf("went on with %v, want %v", got[len(got)-1], want)
			}
		}
		idle()
		if n := len(d.states.values); n != 3 {
			t.Errorf("%d identities are kept, want the three that were used last", n)
		}
	})
}

func TestRoutes_KeepsWhatIsInUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := testDeliveryConfig()
		cfg.DeliveryTimeout = 3 * idleAfter
		d, broker := scriptedDelivery(t, cfg, func(ctx context.Context, s *scriptedTry) (kafka.Response, error) {
			time.Sleep(2 * idleAfter) // synctest's time
			return acked(ctx, s)
		})
		sent := make(chan error, 1)
		go func() {
			_, err := sendBatch(t.Context(), d, "a")
			sent <- err
		}()
		time.Sleep(idleAfter + time.Second) // synctest's time
		if _, err := d.RoundTrip(t.Context(), testAddr, testBatch("other", 0, kafka.RequireAll, "b")); err != nil {
			t.Fatal(err)
		}
		if broker.closed != 0 {
			t.Error("the transport of a send under way was released")
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}
