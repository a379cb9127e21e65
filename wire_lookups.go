package kafkax

import (
	"context"
	"sync"
)

// lookups are what was found out, by what it is of. Only one at a time asks for the
// same; nothing is kept of what could not be found.
type lookups[K comparable, V any] struct {
	mu     sync.Mutex
	known  map[K]V
	asking map[K]chan struct{} // closed when whoever asks has done so
}

func newLookups[K comparable, V any]() *lookups[K, V] {
	return &lookups[K, V]{known: map[K]V{}, asking: map[K]chan struct{}{}}
}

// get returns what is known, if that is good still, or asks.
func (l *lookups[K, V]) get(ctx context.Context, key K, good func(V) bool, ask func() (V, error)) (V, error) {
	var none V
	for {
		l.mu.Lock()
		v, ok := l.known[key]
		ok = ok && good(v)
		other := l.asking[key]
		if !ok && other == nil {
			l.asking[key] = make(chan struct{})
		}
		l.mu.Unlock()
		switch {
		case ok:
			return v, nil
		case other == nil:
			return l.ask(key, ask)
		}
		select {
		case <-other:
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
}

func (l *lookups[K, V]) ask(key K, ask func() (V, error)) (V, error) {
	v, err := ask()
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.known, key); err == nil {
		l.known[key] = v
	}
	close(l.asking[key])
	delete(l.asking, key)
	return v, err
}

func (l *lookups[K, V]) forget(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.known, key)
}
