package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/bi-common/kafkax/internal/kafkatest"
)

func TestMain(m *testing.M) {
	takePart()
	os.Exit(kafkatest.M{M: m}.Run())
}

// One short schedule on real nodes, with members in processes of their own that
// are killed: enough to see that the mode works.
func TestCampaign_Real(t *testing.T) {
	t.Parallel()
	n := &nodes{cluster: kafkatest.Start(t, nodeCount)}
	const seed, length = 1, 20 * time.Second
	sum := newSum(onNodes.clock)
	t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { n.perform(t, onNodes.schedule(seed, length), sum, false) })
	t.Log(sum)
}
