package kafkatest_test

import (
	"testing"

	"github.com/bi-common/kafkax/internal/kafkatest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(kafkatest.M{M: m}) }
