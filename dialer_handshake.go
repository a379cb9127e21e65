package kafkax

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
)

// introduce makes the first round trips. The first read is also where a broker
// that misses a client certificate says so (TLS 1.3), and a request other than
// ApiVersions is where a SASL listener hangs up on a client without SASL. A nil
// mechanism is no SASL; with prove there is such a request at the end. It tells
// reach what comes next, and blocks for as long as the broker and the mechanism
// do.
func introduce(ctx context.Context, pc *protocol.Conn, mechanism *material[sasl.Mechanism], prove bool, reach func(step string)) error {
	res, err := roundTrip[*apiversions.Response](pc, &apiversions.Request{})
	if err == nil && res.ErrorCode != 0 {
		err = kafka.Error(res.ErrorCode)
	}
	if err != nil {
		return err
	}
	versions := make(map[protocol.ApiKey]int16, len(res.ApiKeys))
	for _, api := range res.ApiKeys {
		key := protocol.ApiKey(api.ApiKey)
		versions[key] = key.SelectVersion(api.MinVersion, api.MaxVersion)
	}
	pc.SetVersions(versions)

	if mechanism != nil {
		reach(stepHandshake)
		if versions[protocol.SaslHandshake] < 1 {
			return errors.New("the broker is older than Kafka 1.0, or has no SASL")
		}
		if err := authenticate(ctx, pc, mechanism, reach); err != nil {
			return err
		}
	}
	if prove {
		reach(stepProve)
		// No topics, which is not the same as nil: all of them.
		_, err = roundTrip[*metadata.Response](pc, &metadata.Request{TopicNames: []string{}})
	}
	return err
}

func authenticate(ctx context.Context, pc *protocol.Conn, current *material[sasl.Mechanism], reach func(step string)) error {
	reach(stepCredentials)
	mechanism, err := current.load(ctx)
	if err != nil {
		return err
	}
	name := mechanism.Name()
	reach(stepHandshake)
	handshake, err := roundTrip[*saslhandshake.Response](pc, &saslhandshake.Request{Mechanism: name})
	if err != nil {
		return err
	}
	if handshake.ErrorCode != 0 {
		err := fmt.Errorf("%s: %w", name, kafka.Error(handshake.ErrorCode))
		if len(handshake.Mechanisms) > 0 {
			err = fmt.Errorf("%w; the broker offers %s", err, oneLine(strings.Join(handshake.Mechanisms, ", ")))
		}
		return err
	}

	reach(stepCredentials)
	conversation, answer, err := mechanism.Start(ctx)
	if err != nil {
		return err
	}
	for done := false; !done; {
		reach(stepAuthenticate)
		challenge, err := roundTrip[*saslauthenticate.Response](pc, &saslauthenticate.Request{AuthBytes: answer})
		if err != nil {
			return err
		}
		if challenge.ErrorCode != 0 {
			err := fmt.Errorf("%s: %w", name, kafka.Error(challenge.ErrorCode))
			if challenge.ErrorMessage != "" {
				err = fmt.Errorf("%w: %s", err, oneLine(challenge.ErrorMessage))
			}
			return err
		}
		reach(stepVerify)
		if done, answer, err = conversation.Next(ctx, challenge.AuthBytes); err != nil {
			return err
		}
	}
	return nil
}

func roundTrip[T protocol.Message](pc *protocol.Conn, req protocol.Message) (T, error) {
	msg, err := pc.RoundTrip(req)
	res, _ := msg.(T)
	return res, err
}

// greeting checks the first bytes of the first answer before kafka-go decodes
// it: what another protocol sends there, read as lengths, makes it allocate
// gigabytes.
type greeting struct {
	net.Conn
	checked bool
	head    []byte // read from the connection and not yet handed on
}

// maxGreeting is far above any list of API versions (about 1 KiB), and far
// below what text gives when read as a length.
const maxGreeting = 1 << 20

func (g *greeting) Read(b []byte) (int, error) {
	if !g.checked {
		g.checked = true
		head := make([]byte, 8) // the answer's size and correlation id
		n, err := io.ReadFull(g.Conn, head)
		if notKafka := recognize(head[:n]); notKafka != nil {
			return 0, notKafka
		}
		if err != nil {
			return 0, err
		}
		if size, id := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:]); size > maxGreeting || id != 1 {
			return 0, errNotKafka
		}
		g.head = head
	}
	if len(g.head) > 0 {
		n := copy(b, g.head)
		g.head = g.head[n:]
		return n, nil
	}
	return g.Conn.Read(b)
}

// recognize names another protocol by the first bytes of its answer; nil if
// they may be Kafka's.
func recognize(head []byte) error {
	const tlsAlert, tlsMajor = 0x15, 0x03
	switch {
	case len(head) >= 2 && head[0] == tlsAlert && head[1] == tlsMajor:
		return errSpeaksTLS
	case len(head) >= 4 && string(head[:4]) == "HTTP":
		return errHTTP
	}
	return nil
}
