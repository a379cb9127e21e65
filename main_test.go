package kafkax_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

// A goroutine that outlives the tests is a client or a broker that somebody
// forgot to close, or that does not end when it is.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(kafkatest.M{M: m})
}
