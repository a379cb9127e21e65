package kafkaxtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bi-common/kafkax"
)

// Transaction is messages that stand in the log, and that a consumer with
// read_committed is not given, nor anything behind them, until it has ended.
type Transaction struct {
	sim    *Sim
	client *kgo.Client
	once   sync.Once // it ends
}

// longestTransaction is the transaction.max.timeout.ms of brokers.
const longestTransaction = 15 * time.Minute

// Begin writes messages as [Sim.Send] does, in a transaction of a producer of its
// own. What is neither committed nor aborted by the end of the test is aborted
// then, and by the broker after 15 minutes.
func (s *Sim) Begin(msgs ...kafkax.Message) *Transaction {
	s.T.Helper()
	return s.BeginFor(longestTransaction, msgs...)
}

// BeginFor is Begin with another time after which brokers abort the transaction:
// real ones look for that each ten seconds.
func (s *Sim) BeginFor(timeout time.Duration, msgs ...kafkax.Message) *Transaction {
	s.T.Helper()
	ctx, cancel := s.bound()
	defer cancel()
	client, err := s.transactional(ctx, fmt.Sprint(feedID, "-", s.count()), timeout)
	if err != nil {
		s.fatalf("Begin: %v", err)
	}
	t := &Transaction{sim: s, client: client}
	s.atEnd(t.Abort)
	if err := client.BeginTransaction(); err != nil {
		s.fatalf("Begin: %v", err)
	}
	if err := client.ProduceSync(ctx, s.records(msgs)...).FirstErr(); err != nil {
		s.fatalf("Begin: %v", err)
	}
	return t
}

// transactional makes a producer of transactions that has its id. One that asks for
// it when it produces to several partitions holds a lock while it waits for a
// coordinator, which stops the clock; and it asks no more after an error.
func (s *Sim) transactional(ctx context.Context, id string, timeout time.Duration) (client *kgo.Client, err error) {
	err = patiently(ctx, func() error {
		client, err = kgo.NewClient(append(s.own(s.Brokers()), kgo.TransactionalID(id), kgo.TransactionTimeout(timeout))...)
		if err != nil {
			return err
		}
		if _, _, err = client.ProducerID(ctx); err != nil {
			client.Close()
		}
		return err
	})
	return client, err
}

// Commit has consumers be given the messages.
func (t *Transaction) Commit() {
	t.sim.T.Helper()
	t.end(kgo.TryCommit)
}

// Abort has consumers with read_committed never be given them.
func (t *Transaction) Abort() {
	t.sim.T.Helper()
	t.end(kgo.TryAbort)
}

// Abandon leaves the end to the brokers, as a producer that crashes does.
func (t *Transaction) Abandon() { t.once.Do(t.client.Close) }

func (t *Transaction) end(how kgo.TransactionEndTry) {
	t.sim.T.Helper()
	t.once.Do(func() {
		defer t.client.Close()
		ctx, cancel := t.sim.bound()
		defer cancel()
		if err := t.client.EndTransaction(ctx, how); err != nil {
			t.sim.fatalf("the end of a transaction: %v", err)
		}
	})
}
