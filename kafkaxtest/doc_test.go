package kafkaxtest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the page and the README show is what runs.
func TestDocumentsShowWhatRuns(t *testing.T) {
	t.Parallel()
	tests, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for file, least := range map[string]int{"docs/testing.md": 4, "README.md": 1} {
		text, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, m := range regexp.MustCompile("(?s)```go\n(func Test.*?)```").FindAllStringSubmatch(string(text), -1) {
			found++
			if !strings.Contains(string(tests), m[1]) {
				t.Errorf("%s: not in example_test.go:\n%s", file, m[1])
			}
		}
		if found < least {
			t.Errorf("%s: %d tests shown, want %d", file, found, least)
		}
	}
}
