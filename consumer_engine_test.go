package kafkax

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever bounds a stop ends with the run: no timer outlives it. Time does not
// pass in the bubble unless something waits for it.
func TestD4_BoundsEndWithTheRun(t *testing.T) {
	t.Parallel()
	cfg := &ConsumerConfig{ConnectionConfig: ConnectionConfig{ShutdownTimeout: time.Hour}}
	newBounded := func() *engine {
		e := &engine{scope: &scope{cfg: cfg}}
		e.scope.ctx, e.stop = context.WithCancel(context.Background())
		e.cut, e.cutOff = context.WithCancelCause(context.Background())
		e.abandoned, e.abandon = context.WithCancel(context.Background())
		return e
	}
	for _, tt := range []struct {
		name string
		end  func(e *engine, ended chan struct{})
		want time.Duration
	}{
		{"before a stop", func(_ *engine, ended chan struct{}) { close(ended) }, 0},
		{"after a clean stop", func(e *engine, ended chan struct{}) { e.stop(); synctest.Wait(); close(ended) }, 0},
		{"cut off, then clean", func(e *engine, ended chan struct{}) { e.stop(); e.cutOff(nil); synctest.Wait(); close(ended) }, 0},
		{"cut off", func(e *engine, _ chan struct{}) { e.stop(); e.cutOff(nil) }, cutGrace},
		{"not at all", func(e *engine, _ chan struct{}) { e.stop() }, time.Hour + cutGrace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e, ended, over := newBounded(), make(chan struct{}), make(chan struct{})
				began := time.Now()
				go func() {
					defer close(over)
					e.bound(ended)
				}()
				tt.end(e, ended)
				<-over
				if took := time.Since(began); took != tt.want {
					t.Errorf("waited for %v, want %v", took, tt.want)
				}
				if abandoned := e.abandoned.Err() != nil; abandoned != (tt.want > 0) {
					t.Errorf("abandoned: %v after %v", abandoned, tt.want)
				}
			})
		})
	}
}
