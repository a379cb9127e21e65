package kafkax

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/segmentio/kafka-go"
)

// written collects what is written to it.
type written struct {
	net.Conn
	all bytes.Buffer
}

func (w *written) Write(b []byte) (int, error) { return w.all.Write(b) }

// frame is a request that ends with the byte 1.
func frame(key, version uint16, size int) []byte {
	b := bytes.Repeat([]byte{7}, size)
	binary.BigEndian.PutUint32(b, uint32(size-4))
	binary.BigEndian.PutUint16(b[4:], key)
	binary.BigEndian.PutUint16(b[6:], version)
	b[size-1] = 1
	return b
}

// A join that is under way when a stop comes asks the balancer once more. Without
// its answer the member could neither join nor leave.
func TestD4_CodeOfAJoinIsStillAskedAfterAStop(t *testing.T) {
	t.Parallel()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	wrong := errors.New("wrong")
	for range 100 {
		if err := new(scope).callToJoin(stopped, "code", func() error { return nil }, func() {}); err != nil {
			t.Fatalf("code that returns at once: %v", err)
		}
		if err := new(scope).callToJoin(stopped, "code", func() error { return wrong }, func() {}); !errors.Is(err, wrong) {
			t.Fatalf("code that fails at once: %v", err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		held, began := make(chan struct{}), time.Now()
		err := new(scope).callToJoin(ctx, "code", func() error { <-held; return nil }, func() {})
		if took := time.Since(began); !errors.Is(err, ErrClosed) || took != leavingCallPatience {
			t.Errorf("code that does not return: %v after %v", err, took)
		}
		close(held)
	})
}

// Balancers go by the order that partitions are given in, which is the broker's.
func TestSameMembersAreGivenTheSamePartitions(t *testing.T) {
	t.Parallel()
	members := []kafka.GroupMember{{ID: "a", Topics: []string{"orders"}}, {ID: "b", Topics: []string{"orders"}}}
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 1, 0, 2}} {
		var partitions []kafka.Partition
		for _, id := range order {
			partitions = append(partitions, kafka.Partition{Topic: "orders", ID: id})
		}
		b := leaderBalancer{balancer: kafka.RangeGroupBalancer{}, name: "range", leading: &leading{scope: new(scope), ctx: t.Context()}}
		got := b.AssignGroups(members, partitions)
		if a := got["a"]["orders"]; !slices.Equal(a, []int{0, 1}) {
			t.Errorf("partitions in the order %v: a has %v", order, a)
		}
		if b := got["b"]["orders"]; !slices.Equal(b, []int{2, 3}) {
			t.Errorf("partitions in the order %v: b has %v", order, b)
		}
	}
}

func TestD12_NoCreateConnChangesTheOneByte(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		request []byte
		piece   int
		last    byte
	}{
		{"whole", frame(3, 6, 100), 100, 0},
		{"first_version_with_it", frame(3, 4, 100), 100, 0},
		{"in_pieces", frame(3, 6, 10000), 4096, 0},
		{"last_piece_is_one_byte", frame(3, 6, 4097), 4096, 0},
		{"version_without_it", frame(3, 1, 100), 100, 1},
		{"version_with_more_behind_it", frame(3, 8, 100), 100, 1},
		{"another_request", frame(11, 6, 100), 100, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := new(written)
			c := &noCreateConn{Conn: w}
			want := bytes.Clone(tt.request)
			want[len(want)-1] = tt.last
			for range 2 { // the next request begins where one ended
				w.all.Reset()
				for given := bytes.Clone(tt.request); len(given) > 0; {
					piece := given[:min(tt.piece, len(given))]
					before := bytes.Clone(piece)
					if n, err := c.Write(piece); n != len(piece) || err != nil {
						t.Fatal(n, err)
					}
					if !bytes.Equal(piece, before) {
						t.Error("the caller's bytes were changed")
					}
					given = given[len(piece):]
				}
				if !bytes.Equal(w.all.Bytes(), want) {
					t.Errorf("the request was changed elsewhere, or ends with %d, want %d", w.all.Bytes()[w.all.Len()-1], tt.last)
				}
			}
		})
	}
}
