package kafkax

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// readAnswer reads the answer to the request of that correlation id whole, and
// believes nothing that it says: it has at most so many bytes, and memory is
// reserved as they come. Head is as much of its size and id as came, for who wants
// to know what else it may be. After an error nobody knows where the next answer
// begins, so that the connection is of no use.
func readAnswer(r io.Reader, id int32, most int) (head, body []byte, err error) {
	head = make([]byte, 8)
	if n, err := io.ReadFull(r, head); err != nil {
		return head[:n], nil, err
	}
	size, of := int64(binary.BigEndian.Uint32(head)), int32(binary.BigEndian.Uint32(head[4:]))
	switch {
	case size < 4 || size > int64(most):
		return head, nil, fmt.Errorf("%w: it says that it has %d bytes, and 4 to %d were expected", errMalformed, size, most)
	case of != id:
		return head, nil, fmt.Errorf("%w: it is for request %d, and %d was sent", errMalformed, of, id)
	}
	body, err = readWhole(r, int(size)-4)
	return head, body, err
}

// believedBytes is how much memory is reserved for what is only said to come.
const believedBytes = 1 << 20

// readWhole reads n bytes, into memory of twice what has come at most.
func readWhole(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, min(n, believedBytes))
	for read := 0; ; {
		more, err := io.ReadFull(r, b[read:])
		read += more
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the size has come
		}
		if err != nil || read == n {
			return b[:read], err
		}
		grown := make([]byte, min(n, 2*len(b)))
		copy(grown, b)
		b = grown
	}
}

// decodeAnswer takes an answer apart. What is behind the correlation id of a
// flexible one is tags, which are for newer clients; only the answer to
// ApiVersions has none, because it is to be read before the versions are known.
func decodeAnswer(body []byte, answer kmsg.Response) (err error) {
	defer malformedOnPanic(&err)
	if answer.IsFlexible() && kmsg.Key(answer.Key()) != kmsg.ApiVersions {
		if body, err = withoutTags(body); err != nil {
			return err
		}
	}
	if err := answer.ReadFrom(body); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	return nil
}

// withoutTags cuts off a section of tags: their number, and of each a key, a
// length and as many bytes.
func withoutTags(b []byte) ([]byte, error) {
	uvarint := func() (uint64, bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, false
		}
		b = b[n:]
		return v, true
	}
	count, ok := uvarint()
	for ; ok && count > 0; count-- {
		if _, ok = uvarint(); !ok {
			break
		}
		var size uint64
		if size, ok = uvarint(); ok {
			if ok = size <= uint64(len(b)); ok {
				b = b[size:]
			}
		}
	}
	if !ok {
		return nil, fmt.Errorf("%w: its tags are cut short", errMalformed)
	}
	return b, nil
}

// versions are those that a broker takes of each request, by key.
type versions [kmsg.MaxKey + 1]struct {
	known    bool
	min, max int16
}

func newVersions(offered *kmsg.ApiVersionsResponse) *versions {
	v := new(versions)
	for _, api := range offered.ApiKeys {
		if key := int(api.ApiKey); key >= 0 && key < len(v) {
			v[key].known, v[key].min, v[key].max = true, api.MinVersion, api.MaxVersion
		}
	}
	return v
}

// highest is the newest version of a request that both sides know, and is false if
// there is none.
func (v *versions) highest(req kmsg.Request) (int16, bool) {
	key := int(req.Key())
	if key < 0 || key >= len(v) || !v[key].known {
		return 0, false
	}
	version := min(req.MaxVersion(), v[key].max)
	return version, version >= max(v[key].min, 0)
}
