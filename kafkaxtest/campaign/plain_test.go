package main

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bi-common/kafkax/kafkaxtest/history"
)

// Every loop of plain kafka-go runs, and is recorded and judged. What it breaks
// is not this test's business.
func TestPlainScheduleIsJudged(t *testing.T) {
	t.Parallel()
	for loop, seed := range firstSeeds() {
		t.Run(loop, func(t *testing.T) {
			t.Parallel()
			sum := newSum(simulation.clock)
			line, err := runApart(t.Context(), seed, 2*time.Minute, "", sum)
			if err != nil {
				t.Fatal(err)
			}
			if sum.Schedules[loop] != 1 || sum.Sends[history.Acknowledged] == 0 || sum.Deliveries[history.Handled] == 0 ||
				sum.Rebalances == 0 || sum.Time < 2*time.Minute {
				t.Errorf("seed %d: %s\n%v", seed, line, sum)
			}
		})
	}
}

// firstSeeds are the first seed of each loop.
func firstSeeds() map[string]uint64 {
	seeds := map[string]uint64{}
	for seed := uint64(1); len(seeds) < 5; seed++ {
		loop := simulation.schedule(seed, time.Minute).mode.loop
		if seeds[loop] == 0 {
			seeds[loop] = seed
		}
	}
	return seeds
}

func TestEnding(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                 string
		out                  string
		judged, failed, late bool
		want                 string
	}{
		{"well", "PASS\n", true, false, false, ""},
		{"goroutines", "panic: deadlock: main bubble goroutine has exited but blocked goroutines remain", true, true, false, "left goroutines that never end"},
		{"goroutines, late", "", true, true, true, "left goroutines that never end"},
		{"lock", "", false, true, true, "hung"},
		{"blocked", "panic: deadlock: all goroutines in bubble are blocked", false, true, false, "hung"},
		{"panic", "panic: send on closed channel\n\ngoroutine 7", false, true, false, "panicked"},
		{"else", "--- FAIL", false, true, false, "could not be judged"},
		{"silent", "PASS\n", false, false, false, "could not be judged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := ending(tt.out, tt.judged, tt.failed, tt.late); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A second request waits for the answer to the first, however the bytes fall, for
// no longer than its deadline or the connection.
func TestRequestsInTurn(t *testing.T) {
	t.Parallel()
	frame := func(text string) []byte { return append([]byte{0, 0, 0, byte(len(text))}, text...) }
	start := func() (c *inTurn, broker net.Conn) {
		here, there := net.Pipe()
		return takeTurns(here), there
	}
	synctest.Test(t, func(t *testing.T) {
		c, broker := start()
		defer broker.Close()
		defer c.Close()
		arrived := make(chan byte)
		go func() {
			defer close(arrived)
			for p := make([]byte, 1); ; arrived <- p[0] {
				if _, err := broker.Read(p); err != nil {
					return
				}
			}
		}()
		var written bool
		go func() {
			for _, piece := range [][]byte{{0}, {0, 0, 3, 'o'}, append([]byte("ne"), frame("two")...)} {
				if _, err := c.Write(piece); err != nil {
					t.Error(err)
				}
			}
			written = true
		}()
		for range frame("one") {
			<-arrived
		}
		if synctest.Wait(); written {
			t.Fatal("the second request did not wait")
		}
		go func() {
			for _, b := range frame("answer") {
				_, _ = broker.Write([]byte{b})
			}
		}()
		p := make([]byte, 4)
		for range len(frame("answer")) {
			if _, err := c.Read(p); err != nil {
				t.Fatal(err)
			}
		}
		for range frame("two") {
			<-arrived
		}
		if synctest.Wait(); !written {
			t.Fatal("the second request was not written")
		}

		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(frame("three")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past the deadline: %v", err)
		}
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Second)
			c.Close()
		}()
		if _, err := c.Write(frame("four")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the close: %v", err)
		}
	})
}
