package budget_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/bi-common/kafkax/internal/budget"
)

func TestD15_BudgetBoundsWhatIsTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(100)
		ctx, cancel := context.WithCancel(t.Context())
		if b.Take(ctx, 150) != nil {
			t.Fatal("more than the whole budget must go alone")
		}
		got := make(chan error)
		go func() { got <- b.Take(ctx, 60) }()
		synctest.Wait()
		b.Adjust(-70) // 80 taken: 60 more do not fit
		synctest.Wait()
		select {
		case err := <-got:
			t.Fatalf("went over the budget: %v", err)
		default:
		}
		b.Give(80)
		if <-got != nil {
			t.Fatal("not acquired although there was room")
		}
		go func() { got <- b.Take(ctx, 60) }()
		synctest.Wait()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v, want the context's", err)
		}
		if b.Used() != 60 {
			t.Fatal("acquired after the context ended")
		}
	})
}

// A large fetch is not starved by small ones that keep the budget nearly full.
func TestD15_BudgetIsFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(100)
		if err := b.Take(t.Context(), 90); err != nil {
			t.Fatal(err)
		}
		large, small := make(chan error), make(chan error, 1)
		go func() { large <- b.Take(t.Context(), 60) }()
		synctest.Wait()
		go func() { small <- b.Take(t.Context(), 10) }()
		synctest.Wait()
		select {
		case err := <-small:
			t.Fatalf("a small one went ahead of a large one that waited: %v", err)
		default:
		}
		b.Give(90)
		if <-large != nil || <-small != nil {
			t.Fatal("not granted although there was room")
		}
		if b.Used() != 70 {
			t.Errorf("used = %d, want 70", b.Used())
		}
	})
}

func TestCloseEndsEveryWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(100)
		if err := b.Take(t.Context(), 90); err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() { got <- b.Take(t.Context(), 60) }()
		synctest.Wait()
		b.Close()
		if err := <-got; !errors.Is(err, budget.ErrClosed) {
			t.Errorf("who waited got %v", err)
		}
		b.Give(90)
		if err := b.Take(t.Context(), 1); !errors.Is(err, budget.ErrClosed) {
			t.Errorf("who came later got %v", err)
		}
		if b.Used() != 0 {
			t.Errorf("%d bytes are still taken", b.Used())
		}
	})
}

func TestTakeOrSomethingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := budget.New(100)
		if err := b.Take(t.Context(), 90); err != nil {
			t.Fatal(err)
		}
		other, done := make(chan struct{}), make(chan bool)
		take := func() {
			instead, err := b.TakeOr(t.Context(), 60, other)
			if err != nil {
				t.Error(err)
			}
			done <- instead
		}
		go take()
		synctest.Wait()
		other <- struct{}{}
		if instead := <-done; !instead || b.Used() != 90 {
			t.Errorf("instead is %v with %d bytes taken, want true with the 90 of before", instead, b.Used())
		}
		go take()
		synctest.Wait()
		b.Give(90)
		if instead := <-done; instead || b.Used() != 60 {
			t.Errorf("instead is %v with %d bytes taken, want false with 60", instead, b.Used())
		}
	})
}
