package kafkax

import (
	"math"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// nameRule is of names that go over the wire or into a certificate's check: they
// fit the protocol's 16 bits of length, and hold nothing that cannot be seen.
func nameRule(s string) string {
	switch {
	case len(s) > math.MaxInt16 || !utf8.ValidString(s):
		return "must be valid UTF-8 of at most 32767 bytes"
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "must hold no control characters and nothing else that cannot be seen"
	case isQuoted(s):
		return quotesRule
	}
	return ""
}

const quotesRule = "must not be in quotes: they are part of it where no shell takes them off, as in a file of variables"

// isQuoted finds the quotes that a shell or YAML would have taken off.
func isQuoted(s string) bool {
	return len(s) > 1 && s[0] == s[len(s)-1] && strings.IndexByte("\"'", s[0]) >= 0
}

// passwordRule refuses what is hardly ever meant, as nothing may be taken off a
// password in silence. SCRAM would take off what has no width.
func passwordRule(s string) string {
	switch {
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must hold no control characters; the last one is often the line's end of the file it came from"
	case !utf8.ValidString(s):
		return "must be valid UTF-8"
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Cf, r) }):
		return "must hold nothing without a width, such as a byte order mark at the beginning of the file it came from"
	}
	return ""
}

const (
	maxPath = 4096
	maxName = 255 // of one element of a path
)

// pathRule finds what was meant to be the content of a file.
func pathRule(s string) string {
	const remedy = ": put that into a file, and name the file; it is not shown here"
	tooLong := func(element string) bool { return len(element) > maxName }
	switch {
	case isQuoted(s):
		return quotesRule
	case strings.Contains(s, "-----"):
		return "holds no path but key material" + remedy
	case strings.ContainsFunc(s, unicode.IsControl):
		return "holds no path but text of several lines, or control characters" + remedy
	case len(s) > maxPath || slices.ContainsFunc(strings.FieldsFunc(s, isSeparator), tooLong):
		return "holds no path but a text too long for one" + remedy
	}
	return ""
}

func isSeparator(r rune) bool { return r == '/' || r == '\\' }

// fileEndings are those that a password hardly has.
var fileEndings = []string{
	".pem", ".crt", ".cer", ".cert", ".key", ".txt", ".yaml", ".yml", ".json", ".conf", ".cfg", ".p12", ".pass", ".password", ".secret",
}

// looksLikePath says whether a text may be shown that was given as a path: it
// may be a password in the wrong place, or a key without its frame. So it must
// have the ending of a file, or begin as a path and go on as one.
func looksLikePath(s string) bool {
	ordinary := func(r rune) bool {
		return isSeparator(r) || unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" ._-~:@", r)
	}
	if pathRule(s) != "" || strings.ContainsFunc(s, func(r rune) bool { return !ordinary(r) }) {
		return false
	}
	if slices.Contains(fileEndings, strings.ToLower(path.Ext(s))) {
		return true
	}
	starts := []string{"/", "./", "../", "~/"}
	return strings.Count(s, "/") > 1 && slices.ContainsFunc(starts, func(start string) bool { return strings.HasPrefix(s, start) })
}

// credentials is how text begins or goes on that has them and was put into a key
// of something else: a key in PEM, the JAAS configuration of Java's clients, the
// query of a URL, JSON, YAML.
var credentials = regexp.MustCompile(`(?i)-----BEGIN|(passw(or)?d|secret|token)( *=|["'] *:|: )`)

func holdsCredentials(s string) bool { return credentials.MatchString(s) }

// topicRule is the brokers' own rule for names. Empty means none.
func topicRule(s string) string {
	if s == "" {
		return ""
	}
	legal := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	if len(s) > 249 || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool { return !legal(r) }) {
		return `must be a topic name: 1 to 249 of a-z, A-Z, 0-9, ".", "_" and "-", but not "." or ".."`
	}
	return ""
}

func addressRule(s string) string {
	if strings.Contains(s, "://") {
		return "must be host:port alone, without a scheme"
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if !strings.Contains(s, ":") && s != "" {
			return "must be host:port: add a port, such as :9092"
		}
		return "must be host:port, such as kafka-1:9092 or [::1]:9092"
	}
	_, err = netip.ParseAddr(host)
	odd := func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune("/@?#:", r)
	}
	if host == "" || err != nil && strings.ContainsFunc(host, odd) {
		return "must be host:port, such as kafka-1:9092 or [::1]:9092"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "must end in a port from 1 to 65535"
	}
	return ""
}
