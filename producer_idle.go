package kafkax

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleAfter is how long something is kept after its last use: as long as
	// Java remembers a topic (metadata.max.idle.ms).
	idleAfter = 5 * time.Minute

	// sweepInterval is how often at most what is idle is looked for.
	sweepInterval = time.Minute
)

// lately holds a value for each key that was used lately. One that nobody has
// used for idleAfter is dropped when another is made, so what is kept for names
// that come and go is bounded.
type lately[K comparable, V any] struct {
	create func(K) V
	keep   func(V) bool // nil, or says that a value must stay although it is idle
	drop   func(V)      // nil, or releases a value

	mu     sync.RWMutex
	values map[K]*inUse[V]
	swept  time.Time
}

type inUse[V any] struct {
	value V
	users atomic.Int64 // raised only under lately.mu
	used  atomic.Int64 // when last released, in Unix nanoseconds
}

// acquire is followed by release.
func (l *lately[K, V]) acquire(key K) *inUse[V] {
	l.mu.RLock()
	u := l.values[key]
	if u != nil {
		u.users.Add(1)
	}
	l.mu.RUnlock()
	if u != nil {
		return u
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if u = l.values[key]; u == nil {
		l.sweep()
		u = &inUse[V]{value: l.create(key)}
		if l.values == nil {
			l.values = make(map[K]*inUse[V])
		}
		l.values[key] = u
	}
	u.users.Add(1)
	return u
}

func (u *inUse[V]) release() {
	u.used.Store(time.Now().UnixNano())
	u.users.Add(-1)
}

// sweep drops what is idle. It needs mu.
func (l *lately[K, V]) sweep() {
	now := time.Now()
	if now.Sub(l.swept) < sweepInterval {
		return
	}
	l.swept = now
	limit := now.Add(-idleAfter).UnixNano()
	for key, u := range l.values {
		if u.users.Load() == 0 && u.used.Load() < limit && (l.keep == nil || !l.keep(u.value)) {
			l.remove(key, u)
		}
	}
}

func (l *lately[K, V]) remove(key K, u *inUse[V]) {
	if l.drop != nil {
		l.drop(u.value)
	}
	delete(l.values, key)
}

// clear drops everything, when nothing is in use.
func (l *lately[K, V]) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, u := range l.values {
		l.remove(key, u)
	}
}
