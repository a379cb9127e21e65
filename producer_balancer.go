package kafkax

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/segmentio/kafka-go"
)

// balancers is the [kafka.Balancer] of a Writer that sends to many topics.
// kafka-go's are made for one: least_bytes forgets its counts whenever the
// number of partitions changes, and round_robin shared by two topics that are
// written in turn sends each to every second partition only.
type balancers struct {
	shared  kafka.Balancer // of a kind that remembers nothing, for all topics
	byTopic *lately[string, kafka.Balancer]
}

func newBalancers(kind Balancer) *balancers {
	switch kind {
	case BalancerHash, BalancerRoundRobin, BalancerLeastBytes:
		return &balancers{byTopic: &lately[string, kafka.Balancer]{
			create: func(string) kafka.Balancer { return kind.kafka() },
		}}
	default:
		return &balancers{shared: kind.kafka()}
	}
}

func (b *balancers) Balance(msg kafka.Message, partitions ...int) int {
	if len(partitions) == 0 {
		return 0 // kafka-go's would panic; the send fails for want of a leader.
	}
	if b.shared != nil {
		return b.shared.Balance(msg, partitions...)
	}
	u := b.byTopic.acquire(msg.Topic)
	defer u.release()
	return u.value.Balance(msg, partitions...)
}

// chooser gives messages their partition.
type chooser struct {
	balancer kafka.Balancer
	foreign  bool // the balancer is the caller's code
	bound    func(context.Context) (context.Context, context.CancelFunc)
	numbers  atomic.Pointer[[]int]
}

// newChooser takes the balancer of a Writer, which may have none, and what
// bounds the wait for one of the caller's.
func newChooser(balancer kafka.Balancer, bound func(context.Context) (context.Context, context.CancelFunc)) *chooser {
	if balancer == nil {
		return &chooser{balancer: new(kafka.RoundRobin)} // as kafka-go does
	}
	_, ours := balancer.(*balancers)
	return &chooser{balancer: balancer, foreign: !ours, bound: bound}
}

// choose sets the partition of messages of one topic, which has n. The errors
// are by message, and nil if there is none.
func (c *chooser) choose(ctx context.Context, msgs []kafka.Message, n int) []error {
	if n <= 0 {
		n = 1 // The send fails for want of a leader.
	}
	if c.foreign {
		return c.ask(ctx, msgs, n)
	}
	partitions := c.partitions(n)
	for i := range msgs {
		msgs[i].WriterData.(*slot).partition = c.balancer.Balance(msgs[i], partitions...)
	}
	return nil
}

// partitions lists the numbers from 0 to n-1. It is one list for all calls.
func (c *chooser) partitions(n int) []int {
	if list := c.numbers.Load(); list != nil && len(*list) >= n {
		return (*list)[:n:n]
	}
	list := numbersTo(n)
	c.numbers.Store(&list)
	return list
}

func numbersTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// ask has the caller's balancer choose, away from the goroutines of kafkax. A
// message for which it panics or ends its goroutine fails alone; one for which
// it does not return takes those behind it along.
func (c *chooser) ask(ctx context.Context, msgs []kafka.Message, n int) (errs []error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	fail := func(i int, err error) {
		if errs == nil {
			errs = make([]error, len(msgs))
		}
		errs[i] = err
	}
	asked := make([]kafka.Message, len(msgs)) // as the caller made them
	for i := range msgs {
		asked[i] = msgs[i]
		asked[i].WriterData = msgs[i].WriterData.(*slot).data
	}
	partitions, chosen := numbersTo(n), make([]int, len(msgs))

	for next := 0; next < len(msgs); {
		at := next // is the call's until it has a result
		result := callUser(func() error {
			for ; at < len(asked); at++ {
				chosen[at] = c.balancer.Balance(asked[at], partitions...)
			}
			return nil
		})
		select {
		case err := <-result:
			for ; next < at; next++ {
				if p := chosen[next]; p >= 0 && p < n {
					msgs[next].WriterData.(*slot).partition = p
				} else {
					fail(next, fmt.Errorf("the balancer chose partition %d; the topic has 0 to %d", p, n-1))
				}
			}
			if err != nil {
				fail(next, fmt.Errorf("the balancer: %w", err))
				next++
			}
		case <-ctx.Done():
			for ; next < len(msgs); next++ {
				fail(next, fmt.Errorf("the balancer has not returned: %w", context.Cause(ctx)))
			}
		}
	}
	return errs
}
