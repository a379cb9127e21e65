package kafkax_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/internal/kafkatest"
)

// The topic and its dead letter topic take records of the same size, and a
// record that just fits is larger as a dead letter.
func TestD18_Real_DeadLetterOfARecordThatJustFits(t *testing.T) {
	t.Parallel()
	const limit, size = 100_000, 99_850
	random := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(random)
	tests := []struct {
		name   string
		value  []byte
		codec  kafkax.Compression
		policy kafkax.FailurePolicy
		want   kafkax.Outcome
	}{
		{"compressible", bytes.Repeat([]byte("x"), size), kafkax.CompressionNone, kafkax.FailDefault, kafkax.OutcomeDeadLettered},
		{"compressed with zstd, more than fits otherwise", repeating(4 * size), kafkax.CompressionZstd, kafkax.FailDefault, kafkax.OutcomeDeadLettered},
		{"incompressible, skip", random, kafkax.CompressionNone, kafkax.FailSkip, kafkax.OutcomeSkipped},
		{"incompressible, unset", random, kafkax.CompressionNone, kafkax.FailDefault, kafkax.OutcomeStopping},
	}
	cluster := kafkatest.Shared(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			atMost := "max.message.bytes=" + strconv.Itoa(limit)
			b := &broker{topic: cluster.Topic(t, 1, atMost), addrs: cluster.Brokers()}
			dlq := cluster.Topic(t, 1, atMost)
			p, err := kafkax.NewProducer(kafkax.WithProducerBrokers(b.addrs...), kafkax.WithProducerTopic(b.topic), kafkax.WithProducerCompression(tt.codec))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			for _, value := range [][]byte{tt.value, []byte("next")} {
				if err := p.SendMessage(testContext(t), nil, value); err != nil {
					t.Fatal(err)
				}
			}
			group := kafkatest.Name(t)
			c := b.consumer(t, group, kafkax.WithConsumerDLQTopic(dlq), kafkax.WithConsumerCommitInterval(20*time.Millisecond))
			told := make(chan *kafkax.ConsumeError, 10)
			stop := run(t, func(ctx context.Context) error {
				return c.Consume(ctx, func(_ context.Context, m kafka.Message) error {
					if len(m.Value) >= size {
						return kafkax.Permanent(errHandler)
					}
					return nil
				}, kafkax.WithOnFailure(tt.policy), kafkax.WithOnError(func(_ context.Context, _ kafka.Message, err error) {
					if ce := new(kafkax.ConsumeError); errors.As(err, &ce) && ce.Offset >= 0 { // a fresh cluster has trouble of its own
						told <- ce
					}
				}))
			})
			ce := received(t, "OnError", told)
			if ce.Outcome != tt.want {
				t.Fatalf("OnError was told %v, want %s", ce, tt.want)
			}
			if tt.want != kafkax.OutcomeDeadLettered && !errors.Is(ce, kafka.MessageSizeTooLarge) {
				t.Errorf("OnError was told %v", ce)
			}
			if tt.want == kafkax.OutcomeStopping {
				var dead *kafkax.DeadLetterError
				if err := stop(); !errors.As(err, &dead) {
					t.Errorf("the loop returned %v", err)
				}
				return
			}
			eventually(t, "the partition to go on", func() bool { return b.committed(t, group, 0) == 2 })
			if tt.want != kafkax.OutcomeDeadLettered {
				return
			}
			m, err := (&broker{topic: dlq, addrs: b.addrs}).consumer(t, "").FetchMessage(testContext(t))
			if err != nil || !bytes.Equal(m.Value, tt.value) || headersOf(m)[kafkax.HeaderOriginalTopic] != b.topic {
				t.Errorf("the dead letter has %d bytes and %v, %v", len(m.Value), headersOf(m), err)
			}
		})
	}
}

// repeating is text that repeats at a distance which zstd looks back and snappy
// does not.
func repeating(size int) []byte {
	unit := make([]byte, 80_000)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(unit)
	return bytes.Repeat(unit, size/len(unit)+1)[:size]
}
