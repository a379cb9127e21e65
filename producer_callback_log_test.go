package kafkax

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
)

func TestCallbackThatDoesNotReturnIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var lines []string
		log := kafka.LoggerFunc(func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, fmt.Sprintf(format, args...))
		})
		release := make(chan struct{})
		c := newCallbacks(func([]kafka.Message, error) { <-release }, newLoggers(log, log), nil)
		id, msgs := partitionID{"orders", 3}, []kafka.Message{{Topic: "orders", Partition: 3}}

		began := time.Now()
		c.tellAndWait(id, msgs, nil, 1)
		c.tellAndWait(id, msgs, nil, 1)
		if waited := time.Since(began); waited != callbackPatience {
			t.Errorf("two outcomes were held up for %s, want %s for the first alone", waited, callbackPatience)
		}
		time.Sleep(callbackSlow) // synctest's time
		close(release)
		c.wait()
		want := []string{
			"orders[3]: the completion callback has not returned; the partition's other outcomes wait for it after=10s",
			"orders[3]: the completion callback has returned after=10.1s",
		}
		if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("logged\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
		if len(c.lanes) != 0 {
			t.Errorf("%d lanes are left", len(c.lanes))
		}
	})
}
