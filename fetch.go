package kafkax

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

const (
	// firstFetchBytes is how much the first fetch of a partition asks for. How
	// much memory a response takes is known only when kafka-go has decompressed
	// all of it, so the size starts at nothing, for which a broker sends one
	// batch, and doubles as long as what came stays in bounds. That takes some
	// ten small fetches.
	firstFetchBytes = 1

	// maxFetchBytes is where doubling ends, so that a topic which becomes more
	// compressible all at once does not surprise by much. It is the default
	// of Java's max.partition.fetch.bytes.
	maxFetchBytes = 1 << 20
)

// electionPatience is how long a partition may be without a leader, or a group
// without its coordinator, before that is trouble: both move, and right after a
// topic or the first group is made there is none for a moment.
const electionPatience = 5 * time.Second

// fetcher reads one partition, in order, and filters what no handler may see.
type fetcher struct {
	*partition
	cfg       *ConsumerConfig
	brokers   brokers
	log       *loggers
	allowance *allowance
	share     int // bytes that a fetch may bring
	// report makes a failure visible.
	report func(p *partition, err error)
	// secondTry says whether what was refused may be tried once more.
	secondTry func(err error) bool
	// located is told when the start turned from a name into an offset.
	located func(seeks int, name int64)

	seeks    int   // the tracker's, of which offset is
	offset   int64 // of the next record to ask for
	limit    int   // bytes to ask for
	need     int   // bytes the next response is expected to take
	messages int   // of the last response, to size the next slice
}

// run fetches until ctx ends, which is nil, or until the broker refuses for
// good.
func (f *fetcher) run(ctx context.Context) error {
	f.limit = firstFetchBytes
	f.need = f.share
	f.seeks = -1
	refused := false
	failures := 0
	var since time.Time
	for ctx.Err() == nil {
		err := f.step(ctx)
		if err == nil {
			failures, refused = 0, false
			continue
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // whatever failed then, it failed because of that
		}
		failures++
		if failures == 1 {
			since = time.Now()
		}
		err = fmt.Errorf("%s: fetch: %w", at(f.topic, f.id, f.offset), err)
		switch {
		case isRefused(err) && !refused && f.secondTry(err):
			refused = true
			f.report(f.partition, fmt.Errorf("to be tried once more over a fresh connection: %w", err))
		case isRefused(err), errors.Is(err, ErrOffsetOutOfRange):
			return err
		case isElecting(err) && time.Since(since) < electionPatience:
			f.log.progress("a partition has no leader for now", attrsOf(f.topic, f.id).offset(f.offset).attempt(failures, 0).err(err))
		default:
			f.report(f.partition, err)
		}
		_ = brokerBackoff.wait(ctx, failures) // fails when ctx ends
	}
	return nil
}

// step makes one fetch and hands over what it brought.
func (f *fetcher) step(ctx context.Context) error {
	l, err := f.brokers.leaderOf(ctx, f.topic, f.id)
	if err != nil {
		return err
	}
	if err := f.locate(ctx, l); err != nil {
		return f.doubt(err)
	}
	if from := f.tracker.readFrom(); from.topic.isOther(l.topic) {
		return f.doubt(f.beginAgain(ctx, l, from.topic))
	}
	memory, err := f.allowance.take(ctx, f.need)
	if err != nil {
		return nil //nolint:nilerr // ctx ended, as run sees
	}
	began := time.Now()
	res, throttle, err := f.fetch(ctx, l)
	if err != nil {
		memory.correct(0)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			err = f.outOfRange(ctx, l)
		}
		return f.doubt(err)
	}
	d, err := decode(res, f.topic, f.id, f.offset, f.cfg.IsolationLevel, f.messages)
	f.messages = len(d.messages)
	f.adapt(d.bytes + d.passed)
	memory.correct(d.bytes)
	if len(d.messages) > 0 || d.next > f.offset {
		c := &chunk{partition: f.partition, messages: d.messages, seeks: f.seeks, position: d.next, memory: memory}
		f.offset = c.position
		f.queued.Add(int64(len(c.messages)))
		if !f.hand(ctx, c) {
			f.queued.Add(-int64(len(c.messages)))
			c.release()
			return nil
		}
	} else if err == nil && throttle == 0 {
		err = f.stalled(ctx, res, time.Since(began))
	}
	if throttle > 0 {
		_ = sleep(ctx, throttle) // fails when ctx ends
	}
	return err
}

// doubt has the leader looked up again after an error of its own.
func (f *fetcher) doubt(err error) error {
	if _, answered := kafkaCode(err); answered {
		f.brokers.forgetTopic(f.topic)
	}
	return err
}

// stalled is called when a response brought nothing to go on with, and sees to
// it that the next request is not made at once: a broker that answers so before
// max_wait is over would be asked thousands of times a second.
func (f *fetcher) stalled(ctx context.Context, res *fetch.ResponsePartition, took time.Duration) error {
	end := res.HighWatermark
	if f.cfg.IsolationLevel == ReadCommitted {
		end = res.LastStableOffset
	}
	if took >= f.cfg.MaxWait/2 {
		return nil
	}
	if end <= f.offset {
		_ = sleep(ctx, f.cfg.MaxWait-took) // fails when ctx ends
		return nil
	}
	f.limit = min(f.limit*2, max(f.share, maxFetchBytes)) // perhaps less than one batch came
	return fmt.Errorf("%w: the log goes up to %d", errNoProgress, end)
}

// hand passes a chunk on in order; false if ctx ended first.
func (f *fetcher) hand(ctx context.Context, c *chunk) bool {
	select {
	case f.chunks <- c:
		return true
	case <-ctx.Done():
		return false
	}
}

// locate finds the offset to fetch: after a start or a seek the tracker's,
// which may still be a name ("first", "last") instead of a number.
func (f *fetcher) locate(ctx context.Context, l leader) error {
	seeks, next := f.tracker.start(f.seeks)
	if seeks == f.seeks {
		return nil
	}
	if next < 0 {
		// With read_committed the end is before what is not committed yet: it
		// may be soon.
		offset, err := f.remote().offset(ctx, l, f.cfg.IsolationLevel.kafka(), next)
		if err != nil {
			return err
		}
		f.tracker.resolved(seeks, offset)
		f.tracker.reads(seeks, origin{topic: l.topic, epoch: l.epoch}) // or another member could not tell of which topic it is
		f.located(seeks, next)
		next = offset
	}
	f.seeks, f.offset = seeks, next
	return nil
}

// remote is where the partition is.
func (f *fetcher) remote() remoteLog { return remoteLog{f.brokers, f.topic, f.id} }

// fetch makes one request. With a throttle the broker wants to be left alone for
// so long.
func (f *fetcher) fetch(ctx context.Context, l leader) (p *fetch.ResponsePartition, throttle time.Duration, err error) {
	f.stats.fetches.Add(1)
	answered, throttle, err := f.remote().read(ctx, l, portion{
		offset: f.offset, bytes: f.limit, wait: f.cfg.MaxWait, isolation: f.cfg.IsolationLevel.kafka(),
		// More than is asked for never comes: the broker would wait in vain.
		min: min(f.cfg.MinBytes, f.limit),
	})
	switch {
	case err != nil:
		if errors.Is(err, context.DeadlineExceeded) {
			f.stats.timeouts.Add(1)
		}
		return nil, 0, err
	case answered == nil:
		return &fetch.ResponsePartition{}, throttle, nil
	}
	f.highWatermark.Store(answered.HighWatermark)
	f.tracker.reads(f.seeks, origin{topic: l.topic, epoch: l.epoch})
	p, err = fetchedOf(answered)
	return p, throttle, err
}

// outOfRange applies offset_reset. The position moves only if the broker
// confirms that it is in neither end of the log: an election can make a leader
// answer so for a moment.
func (f *fetcher) outOfRange(ctx context.Context, l leader) error {
	first, err := f.remote().offset(ctx, l, kafka.ReadUncommitted, kafka.FirstOffset)
	if err != nil {
		return err
	}
	last, err := f.remote().offset(ctx, l, kafka.ReadUncommitted, kafka.LastOffset)
	if err != nil {
		return err
	}
	if first <= f.offset && f.offset <= last {
		return kafka.OffsetOutOfRange
	}
	next := last
	switch f.cfg.OffsetReset {
	case ResetEarliest:
		if next, err = f.earliest(ctx, l, first, last); err != nil {
			return err
		}
	case ResetLatest:
	default:
		return fmt.Errorf("%w: the log has %d to %d; move the group's offset or set consumer.offset_reset", ErrOffsetOutOfRange, first, last)
	}
	f.report(f.partition, fmt.Errorf("%s: %w: the log has %d to %d; going on at %d (consumer.offset_reset=%s)",
		at(f.topic, f.id, f.offset), ErrOffsetOutOfRange, first, last, next, f.cfg.OffsetReset))
	if next < f.offset {
		f.moveTo(ctx, l, next)
		return nil
	}
	// What was fetched before is as good as it was, and still to be handled first.
	if f.hand(ctx, &chunk{partition: f.partition, seeks: f.seeks, position: next, jump: true}) {
		f.offset = next
	}
	return nil
}

// earliest is the first record that was not read, as far as anybody can know. A log
// that is shorter than the position, and the one that was read, has lost its end with
// a leader: what is before that was read. Any other has been read by nobody.
func (f *fetcher) earliest(ctx context.Context, l leader, first, last int64) (int64, error) {
	if f.offset < first {
		return first, nil
	}
	from := f.tracker.readFrom()
	next := first
	if from.topic != (topicID{}) && from.topic == l.topic && !from.asked {
		next = last
	}
	if from.epoch < 0 || from.epoch >= l.epoch {
		return next, nil // no leader was lost since; and the first epoch is 0 in every topic
	}
	// Up to there the log has the same records as the one that was read. Others may
	// have been written behind that, by the leader that came after.
	end, err := f.remote().endOf(ctx, l, from.epoch)
	if err != nil {
		return 0, err
	}
	if end >= 0 && end <= f.offset {
		next = max(first, min(end, last))
	}
	return next, nil
}

// beginAgain moves to the start of a topic that was made again: the position says
// nothing of its log.
func (f *fetcher) beginAgain(ctx context.Context, l leader, before topicID) error {
	first, err := f.remote().offset(ctx, l, kafka.ReadUncommitted, kafka.FirstOffset)
	if err != nil {
		return err
	}
	f.log.warn("a topic was made again and is read from its start", append(attrsOf(f.topic, f.id).offset(f.offset),
		slog.String("topic_id_before", before.String()), slog.String("topic_id", l.topic.String()), slog.Int64("start", first)))
	f.moveTo(ctx, l, first)
	return nil
}

// moveTo hands over a move, behind all that was fetched before it, and waits until
// it is done or ctx ends.
func (f *fetcher) moveTo(ctx context.Context, l leader, next int64) {
	c := &chunk{
		partition: f.partition, seeks: f.seeks, position: next,
		from: origin{topic: l.topic, epoch: l.epoch}, reset: make(chan struct{}),
	}
	if !f.hand(ctx, c) {
		return
	}
	select {
	case <-c.reset:
	case <-ctx.Done():
	}
}

// adapt sets the size of the next fetch by what this one took in memory.
func (f *fetcher) adapt(bytes int) {
	f.need = max(f.share, bytes)
	switch {
	case bytes > f.share:
		f.limit = max(int(int64(f.limit)*int64(f.share)/int64(bytes)), 1)
	case bytes >= f.limit/2 && bytes*2 <= f.share:
		f.limit = min(f.limit*2, f.share, maxFetchBytes)
	}
}
