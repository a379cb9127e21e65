package kafkax

import (
	"context"
	"sync"
	"sync/atomic"
)

// startPlace is a topic's place in a start line, where handlers wait until every
// topic is assigned, found missing or in trouble. Members join one after the
// other, and each join waits for the handlers of those before it: without the
// line, a slow handler of the first topic keeps the others from starting.
//
// A nil startPlace waits for nobody.
type startPlace struct {
	missing *atomic.Int64 // how many have not arrived
	open    chan struct{} // closed when all have
	once    sync.Once
}

func startLine(n int) []*startPlace {
	missing, open := new(atomic.Int64), make(chan struct{})
	missing.Store(int64(n))
	places := make([]*startPlace, n)
	for i := range places {
		places[i] = &startPlace{missing: missing, open: open}
	}
	return places
}

func (p *startPlace) arrive() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		if p.missing.Add(-1) == 0 {
			close(p.open)
		}
	})
}

// wait is false if stopping ended first.
func (p *startPlace) wait(stopping context.Context) bool {
	if p == nil {
		return true
	}
	select {
	case <-p.open:
		return true
	case <-stopping.Done():
		return false
	}
}
