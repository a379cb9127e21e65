package kafkax

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/xdg-go/scram"
)

// How often the password may have to be hashed. The broker names the number,
// and whoever answers in its place may name any: too few make the password
// cheap to guess from what is sent, too many keep the client busy for hours.
// Kafka's brokers store credentials of 4096 (RFC 7677) to 16384 iterations; a
// million, which takes about a second, leaves room for those of others.
const (
	minIterations = 4096
	maxIterations = 1_000_000
)

// scramMechanism is SCRAM with a bound on the iterations, which kafka-go's own
// has not.
type scramMechanism struct {
	name   string
	client *scram.Client // keeps what it has computed, for the next connection
}

func newSCRAM(name SASLMechanism, hash scram.HashGeneratorFcn, username, password string) (sasl.Mechanism, error) {
	client, err := hash.NewClient(username, password, "")
	if err != nil {
		return nil, err
	}
	return &scramMechanism{name: string(name), client: client.WithMinIterations(minIterations)}, nil
}

func (m *scramMechanism) Name() string { return m.name }

func (m *scramMechanism) Start(context.Context) (sasl.StateMachine, []byte, error) {
	conversation := m.client.NewConversation()
	first, err := conversation.Step("")
	if err != nil {
		return nil, nil, err
	}
	return &scramConversation{conversation: conversation}, []byte(first), nil
}

type scramConversation struct {
	conversation *scram.ClientConversation
	challenged   bool // the first challenge, which names the iterations, was answered
}

// Next computes nothing once ctx has ended, as nobody waits for it then.
func (s *scramConversation) Next(ctx context.Context, challenge []byte) (done bool, answer []byte, err error) {
	if ctx.Err() != nil {
		return false, nil, context.Cause(ctx)
	}
	first := !s.challenged
	s.challenged = true
	if n, ok := iterationsIn(string(challenge)); first && ok && (n < minIterations || n > maxIterations) {
		return false, nil, fmt.Errorf("%w: %d, and %d to %d are allowed", errIterations, n, minIterations, maxIterations)
	}
	text, err := s.conversation.Step(string(challenge))
	if err != nil && !first {
		err = fmt.Errorf("%w: %w", errUnproven, err)
	}
	return s.conversation.Done(), []byte(text), err
}

// iterationsIn takes the number from a server's first message (RFC 5802):
// "r=nonce,s=salt,i=number", and perhaps more. It is not ok if there is none,
// which the conversation then says better.
func iterationsIn(message string) (n int, ok bool) {
	fields := strings.Split(message, ",")
	if len(fields) < 3 {
		return 0, false
	}
	text, found := strings.CutPrefix(fields[2], "i=")
	n, err := strconv.Atoi(text)
	return n, found && err == nil
}
