package kafkatest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Nothing but what is listed may run.
func TestCheckSums(t *testing.T) {
	t.Parallel()
	const sums = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824  a.jar\n" + // hello
		"486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7  b.jar\n" // world
	tests := []struct {
		name  string
		files map[string]string
		want  []string // one a problem, found in it
	}{
		{"as_listed", map[string]string{"a.jar": "hello", "b.jar": "world"}, nil},
		{"changed", map[string]string{"a.jar": "hello", "b.jar": "World"}, []string{"b.jar has the sum "}},
		{"exchanged", map[string]string{"a.jar": "world", "b.jar": "hello"}, []string{"a.jar has the sum", "b.jar has the sum "}},
		{"missing", map[string]string{"a.jar": "hello"}, []string{"b.jar is missing"}},
		{"more", map[string]string{"a.jar": "hello", "b.jar": "world", "c.jar": "hello"}, []string{"c.jar is not listed"}},
		{"nothing", nil, []string{"a.jar is missing", "b.jar is missing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := checkSums(dir, []byte(sums))
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got %q, want %q", got[i], want)
				}
			}
		})
	}
}
