package kafkax

import (
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

func anyString(string) string { return "" }

// kafkaString is what fits the protocol's 16 bits of length.
func kafkaString(s string) string {
	if len(s) > math.MaxInt16 || !utf8.ValidString(s) {
		return "must be valid UTF-8 of at most 32767 bytes"
	}
	return ""
}

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
