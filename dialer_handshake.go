package kafkax

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// introduce makes the first round trips. The first read is also where a broker
// that misses a client certificate says so (TLS 1.3), and a request other than
// ApiVersions is where a SASL listener hangs up on a client without SASL. A nil
// mechanism is no SASL; with prove there is such a request at the end. It tells
// reach what comes next, and blocks for as long as the broker and the mechanism
// do.
func introduce(ctx context.Context, g *greeter, mechanism *material[sasl.Mechanism], prove bool, reach func(step string)) error {
	offered := kmsg.NewPtrApiVersionsResponse()
	if err := g.roundTrip(kmsg.NewPtrApiVersionsRequest(), offered); err != nil {
		return err
	}
	if offered.ErrorCode != 0 {
		return kafka.Error(offered.ErrorCode)
	}
	g.offered = newVersions(offered)

	if mechanism != nil {
		reach(stepHandshake)
		if g.version(kmsg.SASLHandshake, 1) < 1 {
			return errors.New("the broker is older than Kafka 1.0, or has no SASL")
		}
		if err := authenticate(ctx, g, mechanism, reach); err != nil {
			return err
		}
	}
	if prove {
		reach(stepProve)
		req := kmsg.NewPtrMetadataRequest()
		req.Version = g.version(kmsg.Metadata, 8)
		req.Topics = []kmsg.MetadataRequestTopic{} // none, which is not the same as nil: all of them
		return g.roundTrip(req, kmsg.NewPtrMetadataResponse())
	}
	return nil
}

func authenticate(ctx context.Context, g *greeter, current *material[sasl.Mechanism], reach func(step string)) error {
	reach(stepCredentials)
	mechanism, err := current.load(ctx)
	if err != nil {
		return err
	}
	name := mechanism.Name()
	reach(stepHandshake)
	offer := kmsg.NewPtrSASLHandshakeRequest()
	offer.Version, offer.Mechanism = g.version(kmsg.SASLHandshake, 1), name
	answered := kmsg.NewPtrSASLHandshakeResponse()
	if err := g.roundTrip(offer, answered); err != nil {
		return err
	}
	if answered.ErrorCode != 0 {
		err := fmt.Errorf("%s: %w", name, kafka.Error(answered.ErrorCode))
		if len(answered.SupportedMechanisms) > 0 {
			err = fmt.Errorf("%w; the broker offers %s", err, oneLine(strings.Join(answered.SupportedMechanisms, ", ")))
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
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.Version, req.SASLAuthBytes = g.version(kmsg.SASLAuthenticate, 1), answer
		challenge := kmsg.NewPtrSASLAuthenticateResponse()
		if err := g.roundTrip(req, challenge); err != nil {
			return err
		}
		if challenge.ErrorCode != 0 {
			err := fmt.Errorf("%s: %w", name, kafka.Error(challenge.ErrorCode))
			if challenge.ErrorMessage != nil {
				err = fmt.Errorf("%w: %s", err, oneLine(*challenge.ErrorMessage))
			}
			return err
		}
		reach(stepVerify)
		if done, answer, err = conversation.Next(ctx, challenge.SASLAuthBytes); err != nil {
			return err
		}
	}
	return nil
}

// greeter makes round trips with a peer that may be anybody. kafka-go's own
// reserve what an answer says that it holds, gigabytes for a few bytes.
type greeter struct {
	conn     io.ReadWriter
	clientID string
	sent     int32
	offered  *versions // by the peer; nil before it has answered
}

// maxGreeting is far above any answer to what a greeter asks, and far below what
// text gives when read as a length.
const maxGreeting = 1 << 20

// version is the newest that the peer takes of a request, and at most ours.
func (g *greeter) version(of kmsg.Key, ours int16) int16 { return min(g.offered[of].max, ours) }

func (g *greeter) roundTrip(req kmsg.Request, res kmsg.Response) error {
	g.sent++
	formatter := kmsg.NewRequestFormatter(kmsg.FormatterClientID(g.clientID))
	if _, err := g.conn.Write(formatter.AppendRequest(nil, req, g.sent)); err != nil {
		return err
	}
	head, body, err := readAnswer(g.conn, g.sent, maxGreeting)
	if notKafka := recognize(head); notKafka != nil && g.sent == 1 {
		return notKafka
	}
	if g.sent == 1 && errors.Is(err, errMalformed) {
		return errNotKafka
	}
	if err != nil {
		return err
	}
	res.SetVersion(req.GetVersion())
	return decodeAnswer(body, res)
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
