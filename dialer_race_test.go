package kafkax

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRace_NextAfterTheDelayOrAtAFailure(t *testing.T) {
	t.Parallel()
	type plan struct {
		after time.Duration
		err   error
	}
	bad := errors.New("bad")
	const hour = time.Hour
	tests := []struct {
		name    string
		plans   []plan
		winner  int
		took    time.Duration
		started int
	}{
		{"the first at once", []plan{{}, {}}, 0, 0, 1},
		{"the first in time", []plan{{after: 200 * time.Millisecond}, {}}, 0, 200 * time.Millisecond, 1},
		{"the first is slow", []plan{{after: hour}, {after: 10 * time.Millisecond}, {}}, 1, 260 * time.Millisecond, 2},
		{"two are slow", []plan{{after: hour}, {after: hour}, {}}, 2, 500 * time.Millisecond, 3},
		{"two fail at once", []plan{{err: bad}, {err: bad}, {}}, 2, 0, 3},
		{"the last fails, the first is late", []plan{{after: time.Minute}, {err: bad}}, 0, time.Minute, 2},
		{"all fail", []plan{{after: time.Second, err: bad}, {err: bad}}, -1, time.Second, 2},
		{"none", nil, -1, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				candidates := make([]int, len(tt.plans))
				for i := range candidates {
					candidates[i] = i
				}
				started := make(chan int, len(tt.plans)+1)
				began := time.Now()
				winner, won, errs := race(t.Context(), candidates, 250*time.Millisecond, func(ctx context.Context, i int) (string, error) {
					started <- i
					if sleep(ctx, tt.plans[i].after) != nil {
						return "", ctx.Err()
					}
					return fmt.Sprint(i), tt.plans[i].err
				}, func(string) { t.Error("a loser was there at the same time") })
				if took := time.Since(began); winner != tt.winner || took != tt.took || len(started) != tt.started {
					t.Errorf("winner %d after %v, %d started; want %d, %v, %d", winner, took, len(started), tt.winner, tt.took, tt.started)
				}
				if winner >= 0 && won != fmt.Sprint(winner) {
					t.Errorf("won %q", won)
				}
				if winner < 0 {
					for i, err := range errs {
						if !errors.Is(err, bad) {
							t.Errorf("error of %d: %v", i, err)
						}
					}
				}
			})
		})
	}
}

// A loser that cannot be stopped any more is not lost.
func TestRace_LosersAreDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dropped := 0
		winner, _, _ := race(t.Context(), []time.Duration{2 * time.Second, time.Second}, 250*time.Millisecond,
			func(_ context.Context, d time.Duration) (int, error) { time.Sleep(d); return 0, nil },
			func(int) { dropped++ })
		if winner != 1 || dropped != 1 {
			t.Errorf("winner %d, %d dropped", winner, dropped)
		}
	})
}

// The configured brokers come before those that were learned, and whichever answered
// last before all of them, also when it is none of them any longer.
func TestDialer_OrderOfCandidates(t *testing.T) {
	t.Parallel()
	c := &candidates{configured: []string{"a:1", "b:1"}}
	sorted := func(addresses []string) string {
		return strings.Join(slices.Sorted(slices.Values(addresses)), " ")
	}
	c.learn([]string{"x:1", "b:1", "y:1"})
	for range 20 { // The order is random.
		if got := c.order(); len(got) != 4 || sorted(got[:2]) != "a:1 b:1" || sorted(got[2:]) != "x:1 y:1" {
			t.Fatalf("got %v", got)
		}
	}
	y := "y:1"
	c.answered.Store(&y)
	if got := c.order(); got[0] != y || sorted(got) != "a:1 b:1 x:1 y:1" {
		t.Errorf("after %s has answered: %v", y, got)
	}
	c.learn(slices.Repeat([]string{"z:1"}, 100))
	if got := c.order(); len(got) != c.most() || sorted(got[:2]) != "a:1 b:1" {
		t.Errorf("after %s is gone: %v", y, got)
	}
}
