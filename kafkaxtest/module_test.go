package kafkaxtest_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program outside of the repository builds against this module as a module
// proxy serves it, with no workspace beside it.
func TestModuleServesOthers(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds all of it anew")
	}
	const version = "v0.0.0-20260101000000-0123456789ab"
	root, proxy, outside := filepath.Join("..", "."), t.TempDir(), t.TempDir()
	publish(t, proxy, root, "github.com/bi-common/kafkax", version, func(file string) bool {
		return !inNestedModule(root, file)
	})
	publish(t, proxy, ".", "github.com/bi-common/kafkax/kafkaxtest", version, func(string) bool { return true })

	write(t, filepath.Join(outside, "go.mod"), fmt.Sprintf(`module example.com/outside

go 1.26.0

require (
	github.com/bi-common/kafkax %[1]s
	github.com/bi-common/kafkax/kafkaxtest %[1]s
)
`, version))
	write(t, filepath.Join(outside, "outside_test.go"), `package outside

import (
	"context"
	"testing"

	"github.com/bi-common/kafkax"
	"github.com/bi-common/kafkax/kafkaxtest"
)

func TestAll(t *testing.T) {
	kafkaxtest.Run(t, func(s *kafkaxtest.Sim) {
		s.Join("billing", "orders", func(context.Context, kafkax.Message) error { return nil })
		s.Fill("orders", 10)
		s.WaitCommitted("billing", "orders")
	}, kafkaxtest.Topic("orders", 2))
}
`)
	others := strings.TrimSpace(string(goCommand(t, ".", nil, "env", "GOPROXY")))
	env := []string{"GOWORK=off", "GOFLAGS=-mod=mod", "GONOSUMDB=github.com/bi-common/*", "GOPROXY=file://" + proxy + "," + others}
	goCommand(t, outside, env, "mod", "tidy")
	if out := goCommand(t, outside, env, "test", "-count=1", "."); !bytes.Contains(out, []byte("ok")) {
		t.Errorf("%s", out)
	}
}

// inNestedModule says whether a file of the repository belongs to another module
// than that of the root.
func inNestedModule(root, file string) bool {
	for dir := filepath.Dir(file); dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(root, dir, "go.mod")); err == nil {
			return true
		}
	}
	return false
}

// publish writes what a proxy serves of one version of a module.
func publish(t *testing.T, proxy, dir, module, version string, belongs func(file string) bool) {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		t.Skipf("no git repository: %v", err)
	}
	var buf bytes.Buffer
	archive := zip.NewWriter(&buf)
	for file := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if !belongs(file) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue // deleted, and not committed yet
		}
		w, err := archive.Create(module + "@" + version + "/" + filepath.ToSlash(file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(proxy, filepath.FromSlash(module), "@v", version)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, at+".mod", string(mod))
	write(t, at+".info", fmt.Sprintf(`{"Version":%q,"Time":"2026-01-01T00:00:00Z"}`, version))
	write(t, at+".zip", buf.String())
	write(t, filepath.Join(filepath.Dir(at), "list"), version+"\n")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func goCommand(t *testing.T, dir string, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}
