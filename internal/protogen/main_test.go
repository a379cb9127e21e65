package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestGeneratedCodeIsCurrent(t *testing.T) {
	t.Parallel()

	root := filepath.Join("..", "..")
	for range 2 { // the second must be the same, to the byte
		code, err := generate(t.Context(), root, []string{"kafkaxpb/kafkax.proto"})
		if err != nil {
			t.Fatal(err)
		}
		if len(code) != 1 {
			t.Fatalf("got %d files, want 1", len(code))
		}
		for name, got := range code {
			want, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is not what its .proto says; run go generate ./kafkaxpb", name)
			}
		}
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	t.Parallel()

	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "bad.proto"), []byte("syntax = \"proto3\";\nmessage {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"no arguments": nil,
		"no file":      {root},
		"missing file": {root, "none.proto"},
		"not protobuf": {root, "bad.proto"},
	} {
		if err := run(args); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
