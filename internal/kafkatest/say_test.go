package kafkatest

import (
	"slices"
	"testing"
)

// What was left out is told by reason, with names to look for.
func TestSkipLines(t *testing.T) {
	t.Parallel()
	got := skipLines(map[string][]string{
		"kcat: not found":       {"TestC", "TestA"},
		"real Kafka: not found": {"TestD", "TestB", "TestE", "TestF"},
	})
	want := []string{
		"2 test(s) SKIPPED (kcat: not found): TestA, TestC",
		"4 test(s) SKIPPED (real Kafka: not found): TestB, TestD, TestE, ...",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
