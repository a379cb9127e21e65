package kafkax_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"
)

// BenchmarkSend is what producer.batch_timeout costs one goroutine and gives
// many: one synchronous message each, 200 bytes. bare is kafka-go's Writer with
// the same settings.
func BenchmarkSend(b *testing.B) {
	for _, timeout := range []time.Duration{200 * time.Microsecond, time.Millisecond, 5 * time.Millisecond} {
		for _, senders := range []int{1, 64, 512} {
			for _, bare := range []bool{false, true} {
				b.Run(fmt.Sprintf("timeout=%s/senders=%d/bare=%t", timeout, senders, bare), func(b *testing.B) {
					c := produceCluster(b)
					p := produceTo(b, c, kafkax.WithProducerTopic("events"), kafkax.WithProducerBatchTimeout(timeout))
					write := p.WriteMessages
					if bare {
						write = p.Writer().WriteMessages
					}
					value := make([]byte, 200)
					if err := write(b.Context(), kafka.Message{Value: value}); err != nil {
						b.Fatal(err)
					}
					var left atomic.Int64
					left.Store(int64(b.N))
					b.ReportAllocs()
					b.ResetTimer()
					var wg sync.WaitGroup
					for range senders {
						wg.Go(func() {
							for left.Add(-1) >= 0 {
								if err := write(b.Context(), kafka.Message{Value: value}); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					wg.Wait()
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
				})
			}
		}
	}
}
