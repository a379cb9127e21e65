package kafkax

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
)

// scramPeer answers a SCRAM client's first message with the iterations it is
// told to name, and its second with final.
func scramPeer(t *testing.T, iterations, final string) (address string) {
	t.Helper()
	return kafkaPeer(t, func(req protocol.Message) (protocol.Message, error) {
		switch req := req.(type) {
		case *saslhandshake.Request:
			return &saslhandshake.Response{}, nil
		case *saslauthenticate.Request:
			text := string(req.AuthBytes)
			if !strings.HasPrefix(text, "n,,") {
				return &saslauthenticate.Response{AuthBytes: []byte(final)}, nil
			}
			_, nonce, _ := strings.Cut(text, "r=")
			salt := base64.StdEncoding.EncodeToString([]byte("salt"))
			return &saslauthenticate.Response{AuthBytes: fmt.Appendf(nil, "r=%sx,s=%s,i=%s", nonce, salt, iterations)}, nil
		}
		return nil, nil
	})
}

// Whoever answers as a broker names how often the password is to be hashed:
// 2^31-1 would keep a core busy for an hour, deaf to contexts and to Close.
func TestD13_SCRAMIterationsAreBounded(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []SASLMechanism{SASLScramSHA256, SASLScramSHA512} {
		for _, iterations := range []string{"2147483647", "9223372036854775807", "1000001", "4095", "1", "0", "-1"} {
			t.Run(string(mechanism)+"/"+iterations, func(t *testing.T) {
				t.Parallel()
				var log logBuffer
				address := scramPeer(t, iterations, "")
				d := newTestDialer(t, ConnectionConfig{
					Brokers: []string{address}, SASL: SASLConfig{Mechanism: mechanism, Username: "alice", Password: NewSecret("right")},
				}, log.loggers())
				for _, path := range dialPaths {
					err := path.try(testContext(t), d)
					var connect *ConnectError
					if !errors.As(err, &connect) || connect.Step != stepVerify || !errors.Is(err, errIterations) || !errors.Is(err, ErrAuthentication) {
						t.Errorf("%s: got %v", path.name, err)
					}
				}
				if lines := log.all(); len(lines) != 1 || !strings.Contains(lines[0], "iterations") || !strings.Contains(lines[0], iterations) {
					t.Errorf("the log does not name it, once: %q", lines)
				}
			})
		}
	}
}

// Numbers that the conversation itself refuses are no reason to compute.
func TestSecurity_SCRAMMessagesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, iterations := range []string{"", "many", "99999999999999999999", "4096x"} {
		t.Run(iterations, func(t *testing.T) {
			t.Parallel()
			cfg := ConnectionConfig{
				Brokers: []string{scramPeer(t, iterations, "")}, SASL: SASLConfig{Mechanism: SASLScramSHA256, Username: "alice", Password: NewSecret("right")},
			}
			eachPath(t, cfg, func(t *testing.T, err error) {
				var connect *ConnectError
				if !errors.As(err, &connect) || connect.Step != stepVerify || isRefused(err) {
					t.Errorf("refused %v: %v", isRefused(err), err)
				}
			})
		})
	}
}

// A broker that cannot prove that it knows the password is another than it
// says.
func TestSecurity_SCRAMBrokerMustProveItself(t *testing.T) {
	t.Parallel()
	for name, final := range map[string]string{
		"wrong": "v=" + base64.StdEncoding.EncodeToString([]byte("nothing")),
		"none":  "",
		"error": "e=invalid-proof",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := ConnectionConfig{
				Brokers: []string{scramPeer(t, "4096", final)}, SASL: SASLConfig{Mechanism: SASLScramSHA512, Username: "alice", Password: NewSecret("right")},
			}
			eachPath(t, cfg, func(t *testing.T, err error) {
				var connect *ConnectError
				if !errors.As(err, &connect) || connect.Step != stepVerify || !errors.Is(err, ErrAuthentication) || !strings.Contains(connect.Hint, "password") {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestSCRAM_ComputesNothingForNobody(t *testing.T) {
	t.Parallel()
	m, err := SASLConfig{Mechanism: SASLScramSHA256, Username: "alice", Password: NewSecret("right")}.parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	conversation, _, err := m.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, _, err := conversation.Next(ctx, []byte("r=x,s=eA==,i=1000000")); !errors.Is(err, gone) {
		t.Errorf("got %v, want the context's cause", err)
	}
}
