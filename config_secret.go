package kafkax

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/segmentio/kafka-go/sasl"
)

// masked is what stands for a secret.
const masked = "***"

// Secret is a text that nothing prints. fmt with any verb, templates, slog, and
// everything that encodes write "***" for it, and nothing for an unset one; what
// reads the fields themselves, as fmt does where a Secret is in an unexported
// field of another struct, finds a text that says nothing outside this process.
//
// Only [Secret.Reveal] gives the text back, so a Secret cannot be decoded: what
// was written of it is not the text. Equal secrets are equal by == and
// [reflect.DeepEqual]. The zero value is unset.
type Secret struct {
	sealed string
}

// NewSecret makes a Secret of a text. An empty one is the unset Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{sealed: seal([]byte(text))}
}

// Reveal returns the text, which from then on is the caller's to keep.
func (s Secret) Reveal() string { return unseal(s.sealed) }

// IsZero says whether the secret is unset.
func (s Secret) IsZero() bool { return s.sealed == "" }

// String is "***", or empty for an unset secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return masked
}

// Format prints String for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) } //nolint:errcheck // fmt keeps it

// GoString is for printers of Go syntax that are not fmt.
func (s Secret) GoString() string { return s.String() }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String: for JSON, YAML, XML and keys of maps.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalBinary is String: for gob.
func (s Secret) MarshalBinary() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText refuses any text, as one that was written for a Secret is not
// what the Secret held. Empty is the unset secret.
func (s *Secret) UnmarshalText(text []byte) error {
	if len(text) > 0 {
		return errors.New("kafkax: a Secret cannot be decoded, as it is never written: decode a string, and give it to NewSecret")
	}
	*s = Secret{}
	return nil
}

// UnmarshalBinary is UnmarshalText.
func (s *Secret) UnmarshalBinary(data []byte) error { return s.UnmarshalText(data) }

// sealKey is made anew in each process and reachable from no Secret.
var sealKey = sync.OnceValue(func() (key struct{ vector, text [sha256.Size]byte }) {
	rand.Read(key.vector[:])
	rand.Read(key.text[:])
	return key
})

// seal makes the same of the same text, so that secrets can be compared. The
// initialization vector depends on the text, so no two texts share their key
// stream. The result is plain letters, as it may be printed.
func seal(text []byte) string {
	key := sealKey()
	mac := hmac.New(sha256.New, key.vector[:])
	mac.Write(text)
	sealed := make([]byte, aes.BlockSize+len(text))
	copy(sealed, mac.Sum(nil)[:aes.BlockSize])
	keyStream(sealed[:aes.BlockSize]).XORKeyStream(sealed[aes.BlockSize:], text)
	return base64.RawStdEncoding.EncodeToString(sealed)
}

func unseal(sealed string) string {
	raw, err := base64.RawStdEncoding.DecodeString(sealed)
	if err != nil || len(raw) < aes.BlockSize {
		return "" // only the zero value is not from seal
	}
	text := raw[aes.BlockSize:]
	keyStream(raw[:aes.BlockSize]).XORKeyStream(text, text)
	return string(text)
}

func keyStream(vector []byte) cipher.Stream {
	key := sealKey()
	block, err := aes.NewCipher(key.text[:])
	if err != nil {
		panic(err) // the key has one of the lengths that AES knows
	}
	return cipher.NewCTR(block, vector)
}

// hide keeps a value where nothing can print it: what a function refers to cannot
// be reached from outside.
func hide[T any](value T) func() T { return func() T { return value } }

// hiddenMechanism is a mechanism of the caller's that nothing can print, as it
// may hold a password.
type hiddenMechanism struct {
	name  func() string
	start func(context.Context) (sasl.StateMachine, []byte, error)
}

func hideMechanism(m sasl.Mechanism) sasl.Mechanism { return &hiddenMechanism{m.Name, m.Start} }

func (m *hiddenMechanism) Name() string { return m.name() }

func (m *hiddenMechanism) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	return m.start(ctx)
}
