package kafkax

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/segmentio/kafka-go"
)

// troubles are the calls that want to know what goes wrong while they wait, by
// partition. A call's context does not reach the requests, which its messages share
// with those of others. The zero value is ready.
type troubles struct {
	mu      sync.Mutex
	waiting map[partitionID]map[*send]func(error)
}

// add begins to tell the call made with ctx of the trouble of its messages'
// partitions.
func (t *troubles) add(ctx context.Context, msgs []kafka.Message) {
	told := troubleOf(ctx)
	if told == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil {
		t.waiting = map[partitionID]map[*send]func(error){}
	}
	for i := range msgs {
		sl := msgs[i].WriterData.(*slot)
		id := sl.place()
		if t.waiting[id] == nil {
			t.waiting[id] = map[*send]func(error){}
		}
		t.waiting[id][sl.send] = told
	}
}

// remove ends it, for all partitions of the call.
func (t *troubles) remove(ctx context.Context, call *send) {
	if troubleOf(ctx) == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range call.slots {
		id := call.slots[i].place()
		if delete(t.waiting[id], call); len(t.waiting[id]) == 0 {
			delete(t.waiting, id)
		}
	}
}

// tell tells the calls that wait for a partition, those behind the batch that failed
// too: they wait for the same reason.
func (t *troubles) tell(id partitionID, err error) {
	t.mu.Lock()
	calls := slices.Collect(maps.Values(t.waiting[id]))
	t.mu.Unlock()
	for _, told := range calls {
		told(err)
	}
}
