package kafkax_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The programs in the README are to be copied, so they must compile.
func TestReadmeProgramsCompile(t *testing.T) {
	t.Parallel()
	programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readDoc(t, "README.md"), -1)
	if len(programs) < 2 {
		t.Fatalf("%d Go programs found", len(programs))
	}
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command: ", err)
	}

	// An overlay makes the go command see files that are not there.
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	var packages []string
	for i, p := range programs {
		name := fmt.Sprintf("readme%d", i)
		overlay.Replace[filepath.Join(root, name, "main.go")] = write(name+".go", []byte(p[1]))
		packages = append(packages, "./"+name)
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"build", "-overlay=" + write("overlay.json", text)}, packages...)
	if out, err := exec.CommandContext(t.Context(), gotool, args...).CombinedOutput(); err != nil {
		t.Errorf("go build: %v\n%s", err, out)
	}
}

// Each promise names a test, which must be there and bear its number.
func TestReadmeNamesATestForEachPromise(t *testing.T) {
	t.Parallel()
	const notYet = "not yet"
	tests := testFunctions(t)
	row := regexp.MustCompile(`(?m)^\| ([DP]\d+) \| .* \| (.*) \|$`)
	held := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(readDoc(t, "README.md"), -1) {
		held[m[1]] = strings.Trim(m[2], "`")
	}
	for prefix, n := range map[string]int{"D": 15, "P": 9} {
		for i := range n {
			promise := fmt.Sprint(prefix, i+1)
			name, ok := held[promise]
			switch {
			case !ok:
				t.Errorf("%s: not in the README", promise)
			case name == notYet:
				for test := range tests {
					if strings.HasPrefix(test, "Test"+promise+"_") {
						t.Errorf("%s: %q, but there is %s", promise, notYet, test)
					}
				}
			case !tests[name]:
				t.Errorf("%s: there is no %s", promise, name)
			case !strings.Contains(name, promise+"_"):
				t.Errorf("%s: %s bears another number", promise, name)
			}
		}
	}
}

func TestReadmeLinks(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{"README.md", "examples/README.md", "examples/quickstart/README.md"} {
		text := readDoc(t, doc)
		for _, m := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
	}
}

// testFunctions is every test of the module.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				tests[f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
