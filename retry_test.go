package kafkax

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// The waits of the default policy, were every one of them as long as it can be.
func ExampleRetryConfig() {
	policy := RetryConfig{
		MaxAttempts:    9,
		InitialBackoff: 100 * time.Millisecond,
		MaxBackoff:     10 * time.Second,
		Multiplier:     2,
		Jitter:         0.2,
	}
	longest := func() float64 { return 1 }
	for attempt := 1; attempt < policy.MaxAttempts; attempt++ {
		fmt.Print(policy.backoff(attempt, longest), " ")
	}
	// Output: 100ms 200ms 400ms 800ms 1.6s 3.2s 6.4s 10s
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	const (
		ms      = time.Millisecond
		longest = time.Duration(math.MaxInt64)
	)
	defaults := RetryConfig{InitialBackoff: 100 * ms, MaxBackoff: 10 * time.Second, Multiplier: 2, Jitter: 0.2}
	tests := []struct {
		name    string
		policy  RetryConfig
		attempt int
		random  float64
		want    time.Duration
	}{
		{"first, least", defaults, 1, 0, 80 * ms},
		{"first, middle", defaults, 1, 0.5, 90 * ms},
		{"second, least", defaults, 2, 0, 160 * ms},
		{"seventh, least", defaults, 7, 0, 5120 * ms},
		{"eighth is capped before jitter", defaults, 8, 0, 8 * time.Second},
		{"attempt zero counts as first", defaults, 0, 0, 80 * ms},
		{"negative attempt counts as first", defaults, math.MinInt, 0, 80 * ms},
		{"attempt beyond any power", defaults, math.MaxInt, 0, 8 * time.Second},
		{"no jitter", RetryConfig{InitialBackoff: ms, MaxBackoff: time.Second, Multiplier: 3}, 4, 0, 27 * ms},
		{"all jitter", RetryConfig{InitialBackoff: ms, MaxBackoff: time.Second, Multiplier: 3, Jitter: 1}, 4, 0, 0},
		{"initial above the cap", RetryConfig{InitialBackoff: time.Hour, MaxBackoff: time.Second, Multiplier: 2}, 1, 0, time.Second},

		{"zero value", RetryConfig{}, 3, 0.5, 0},
		{"no initial, endless growth", RetryConfig{MaxBackoff: time.Second, Multiplier: math.Inf(1)}, 3, 0.5, 0},
		{"no cap given", RetryConfig{InitialBackoff: ms, Multiplier: 2}, 3, 0.5, 0},
		{"negative durations", RetryConfig{InitialBackoff: -ms, MaxBackoff: -ms, Multiplier: 2, Jitter: 0.2}, 3, 0.5, 0},
		{"zero multiplier", RetryConfig{InitialBackoff: ms, MaxBackoff: time.Second}, 9, 0.5, ms},
		{"multiplier below one", RetryConfig{InitialBackoff: ms, MaxBackoff: time.Second, Multiplier: 0.1}, 9, 0.5, ms},
		{"NaN multiplier", RetryConfig{InitialBackoff: ms, MaxBackoff: time.Second, Multiplier: math.NaN()}, 9, 0.5, ms},
		{"infinite multiplier, first", RetryConfig{InitialBackoff: ms, MaxBackoff: time.Second, Multiplier: math.Inf(1)}, 1, 0.5, ms},
		{"infinite multiplier, second", RetryConfig{InitialBackoff: ms, MaxBackoff: time.Second, Multiplier: math.Inf(1)}, 2, 0.5, time.Second},
		{"NaN jitter", RetryConfig{InitialBackoff: ms, MaxBackoff: time.Second, Multiplier: 2, Jitter: math.NaN()}, 1, 0.5, ms},
		{"negative jitter", RetryConfig{InitialBackoff: ms, MaxBackoff: time.Second, Multiplier: 2, Jitter: -1}, 1, 0.5, ms},
		{"jitter above one", RetryConfig{InitialBackoff: 2 * ms, MaxBackoff: time.Second, Multiplier: 2, Jitter: 7}, 1, 0.5, ms},
		{"longest duration", RetryConfig{InitialBackoff: longest, MaxBackoff: longest, Multiplier: 2}, 99, 0, math.MaxInt64/2 + 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.policy.backoff(tt.attempt, func() float64 { return tt.random })
			if got.Round(time.Microsecond) != tt.want.Round(time.Microsecond) {
				t.Errorf("backoff(%d) = %v, want %v", tt.attempt, got, tt.want)
			}
		})
	}
}

// Whatever the numbers, a wait is in [0, MaxBackoff], and in the part of it that
// jitter leaves.
func TestBackoffBounds(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	odd := []float64{0, 1, -1, 0.2, 2, 1e9, 1e308, math.Inf(1), math.Inf(-1), math.NaN(), math.SmallestNonzeroFloat64}
	pick := func() float64 {
		if rnd.IntN(2) == 0 {
			return odd[rnd.IntN(len(odd))]
		}
		return rnd.Float64() * 4
	}
	anyInt := func() int64 { // of any size and sign
		return (rnd.Int64() >> rnd.IntN(63)) * int64(1-2*rnd.IntN(2))
	}
	for range 100_000 {
		policy := RetryConfig{
			InitialBackoff: time.Duration(anyInt()),
			MaxBackoff:     time.Duration(anyInt()),
			Multiplier:     pick(),
			Jitter:         pick(),
		}
		attempt := int(anyInt())
		if got := policy.backoff(attempt, rnd.Float64); got < 0 || got > max(policy.MaxBackoff, 0) {
			t.Fatalf("%+v: backoff(%d) = %v, outside [0, MaxBackoff]", policy, attempt, got)
		}
	}

	policy := RetryConfig{InitialBackoff: time.Second, MaxBackoff: time.Second, Multiplier: 2, Jitter: 0.2}
	least, most := time.Hour, time.Duration(0)
	for range 10_000 {
		got := policy.backoff(5, rnd.Float64)
		least, most = min(least, got), max(most, got)
	}
	if least < 800*time.Millisecond || least > 810*time.Millisecond || most > time.Second || most < 990*time.Millisecond {
		t.Errorf("10000 draws between %v and %v, want them spread over 800ms to 1s", least, most)
	}
}

func TestRetryRun(t *testing.T) {
	t.Parallel()
	errStop := errors.New("stop")
	tests := []struct {
		name   string
		policy RetryConfig
		again  int // how many attempts want another
		stop   time.Duration
		calls  int
		lasts  int
		took   time.Duration
		err    error
	}{
		{"done at once", RetryConfig{MaxAttempts: 3}, 0, time.Hour, 1, 0, 0, nil},
		{"done at the second", RetryConfig{MaxAttempts: 3}, 1, time.Hour, 2, 0, time.Second, nil},
		{"done at the last", RetryConfig{MaxAttempts: 3}, 2, time.Hour, 3, 1, 3 * time.Second, nil},
		{"used up", RetryConfig{MaxAttempts: 3}, 100, time.Hour, 3, 1, 3 * time.Second, nil},
		{"one attempt", RetryConfig{MaxAttempts: 1}, 100, time.Hour, 1, 1, 0, nil},
		{"no bound", RetryConfig{}, 5, time.Hour, 6, 0, 31 * time.Second, nil},
		{"stopped in a wait", RetryConfig{MaxAttempts: 9}, 100, 2 * time.Second, 2, 0, 2 * time.Second, errStop},
		{"stopped before", RetryConfig{MaxAttempts: 9}, 100, 0, 1, 0, 0, errStop},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tt.policy.InitialBackoff, tt.policy.MaxBackoff, tt.policy.Multiplier = time.Second, time.Hour, 2
				began, calls, lasts := time.Now(), 0, 0
				err := tt.policy.run(sleepUntil(endsAfter(t, tt.stop, errStop)), func(attempt int, last bool) bool {
					if calls++; attempt != calls {
						t.Errorf("attempt %d is called %d", calls, attempt)
					}
					if last {
						lasts++
					}
					return calls <= tt.again
				}, func(attempt int, wait time.Duration) {
					if want := time.Second << (calls - 1); attempt != calls || wait != want {
						t.Errorf("after attempt %d a wait of %v is said to follow attempt %d, want %v", calls, wait, attempt, want)
					}
				})
				if took := time.Since(began); calls != tt.calls || lasts != tt.lasts || took != tt.took || !errors.Is(err, tt.err) {
					t.Errorf("%d calls, %d of them the last, in %v: %v", calls, lasts, took, err)
				}
			})
		})
	}
}

func TestRetryWait(t *testing.T) {
	t.Parallel()
	policy := RetryConfig{InitialBackoff: time.Second, MaxBackoff: time.Minute, Multiplier: 2}
	errStop := errors.New("stop")

	t.Run("sleeps for the backoff", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			if err := policy.wait(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(start); got != 4*time.Second {
				t.Errorf("waited %v, want 4s", got)
			}
		})
	})

	t.Run("ends with the context, and says why", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(500*time.Millisecond, func() { cancel(errStop) })
			start := time.Now()
			if err := policy.wait(ctx, 1); !errors.Is(err, errStop) {
				t.Errorf("wait = %v, want the cause %v", err, errStop)
			}
			if got := time.Since(start); got != 500*time.Millisecond {
				t.Errorf("waited %v, want 500ms", got)
			}
		})
	})

	t.Run("an ended context beats a zero wait", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errStop)
		for range 100 {
			if err := (RetryConfig{}).wait(ctx, 1); !errors.Is(err, errStop) {
				t.Fatalf("wait = %v, want %v", err, errStop)
			}
		}
	})
}
