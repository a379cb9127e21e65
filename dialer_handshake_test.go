package kafkax

import (
	"encoding/binary"
	"errors"
	"math"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
)

// answeringBytes serves a connection as follow does, but answers the nth request
// with bytes: of the size, the correlation id or both, and what comes behind.
func answeringBytes(n int, bytes []byte) func(net.Conn) {
	return func(c net.Conn) {
		for i := 1; ; i++ {
			version, id, _, req, err := protocol.ReadRequest(c)
			if err != nil {
				return
			}
			if i == n {
				_, _ = c.Write(bytes)
				silent(c)
				return
			}
			res := welcome(req)
			if _, ok := req.(*saslhandshake.Request); ok {
				res = &saslhandshake.Response{}
			}
			if err := protocol.WriteResponse(c, version, id, res); err != nil {
				return
			}
		}
	}
}

// framed is an answer with that id and body, whose size is right.
func framed(id uint32, body ...byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))
	return append(binary.BigEndian.AppendUint32(head, id), body...)
}

// What an answer says that it holds is not believed: no memory is reserved for it
// and nothing waits for it.
func TestD13_AnswersOfTheHandshakeAreBounded(t *testing.T) { //nolint:paralleltest // counts allocations
	const request, saslHandshake, authenticate = 1, 2, 3
	huge := binary.BigEndian.AppendUint32(nil, math.MaxInt32)
	with := func(before, count []byte, after ...byte) []byte { return slices.Concat(before, count, after) }
	for _, tt := range []struct {
		name   string
		at     int
		answer []byte
		sasl   bool
		step   string
	}{
		{name: "count of keys", at: request, answer: framed(1, with([]byte{0, 0}, huge)...), step: stepGreet},
		{name: "size", at: request, answer: with(nil, huge, 0, 0, 0, 1), step: stepGreet},
		{name: "size below the id", at: request, answer: []byte{0, 0, 0, 0, 0, 0, 0, 1}, step: stepGreet},
		{name: "count of brokers", at: 2, answer: framed(2, with([]byte{0, 0, 0, 0}, huge)...), step: stepProve},
		{name: "size after the first", at: 2, answer: with(nil, huge, 0, 0, 0, 2), step: stepProve},
		{name: "another's answer", at: 2, answer: framed(7, 0, 0, 0, 0), step: stepProve},
		{name: "count of mechanisms", at: saslHandshake, answer: framed(2, with([]byte{0, 0}, huge)...), sasl: true, step: stepHandshake},
		{name: "size of the SASL handshake", at: saslHandshake, answer: with(nil, huge, 0, 0, 0, 2), sasl: true, step: stepHandshake},
		{name: "length of the challenge", at: authenticate, answer: framed(3, with([]byte{0, 0, 0xff, 0xff}, huge)...), sasl: true, step: stepAuthenticate},
		{name: "length of the message", at: authenticate, answer: framed(3, 0, 0, 0x7f, 0xff), sasl: true, step: stepAuthenticate},
		{name: "nothing at all", at: authenticate, answer: framed(3), sasl: true, step: stepAuthenticate},
	} {
		t.Run(tt.name, func(t *testing.T) { //nolint:paralleltest // as above
			cfg := ConnectionConfig{Brokers: []string{listen(t, answeringBytes(tt.at, tt.answer))}}
			if tt.sasl {
				cfg.SASL = plainUser("right")
			}
			d := newTestDialer(t, cfg, nil)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := d.ping(testContext(t))
			runtime.ReadMemStats(&after)

			var connect *ConnectError
			if !errors.As(err, &connect) || connect.Step != tt.step {
				t.Fatalf("got %v, want a ConnectError at %q", err, tt.step)
			}
			if isRefused(err) || strings.Contains(connect.Hint, "option") {
				t.Errorf("refused %v, hint %q: %v", isRefused(err), connect.Hint, err)
			}
			if taken := after.TotalAlloc - before.TotalAlloc; taken > 8<<20 {
				t.Errorf("took %d bytes of memory", taken)
			}
		})
	}
}
