package kafkax_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bi-common/kafkax"
)

// What the documents show is to be copied, so it must compile: a program as it
// is, anything else in a function that has what the text talks about.
func TestDocProgramsCompile(t *testing.T) {
	t.Parallel()
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
	const fragments = "doc-fragments" // one package: it builds faster
	overlay.Replace[filepath.Join(root, fragments, "doc.go")] = write("doc.go", []byte(aroundFragments))
	packages := []string{"./" + fragments}
	found := 0
	for _, doc := range docs(t) {
		for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readDoc(t, doc), -1) {
			if strings.HasPrefix(m[1], "func Test") {
				continue // kafkaxtest runs it: TestDocumentsShowWhatRuns there
			}
			found++
			name := fmt.Sprintf("%s-%d", strings.ReplaceAll(doc, "/", "-"), found)
			program, folder := m[1], fragments
			if strings.HasPrefix(program, "package ") {
				folder = name
				packages = append(packages, "./"+folder)
			} else {
				program = inFunction(fmt.Sprint("Fragment", found), program)
			}
			overlay.Replace[filepath.Join(root, folder, name+".go")] = write(name+".go", []byte(program))
		}
	}
	if found < 10 {
		t.Errorf("%d Go programs found", found)
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

// aroundFragments is what the text around the fragments talks about.
const aroundFragments = `package fragments

import "context"

type Order struct{}

func bill(context.Context, Order) error { return nil }
`

// inFunction makes a file of a few statements.
func inFunction(name, statements string) string {
	var imports strings.Builder
	for name, path := range map[string]string{
		"errors": "errors", "json": "encoding/json", "log": "log", "slog": "log/slog", "net": "net", "tls": "crypto/tls", "time": "time",
		"plain": "github.com/segmentio/kafka-go/sasl/plain",
	} {
		if regexp.MustCompile(`\b` + name + `\.[A-Z]`).MatchString(statements) {
			fmt.Fprintf(&imports, "\t%q\n", path)
		}
	}
	return `package fragments

import (
	"context"

	"github.com/segmentio/kafka-go"

	"github.com/bi-common/kafkax"

` + imports.String() + `)

func ` + name + `(ctx context.Context, consumer *kafkax.Consumer, producer *kafkax.Producer, handle kafkax.Handler, msgs []kafka.Message) error {
` + statements + `
	return nil
}
`
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

func TestDocLinks(t *testing.T) {
	t.Parallel()
	for _, doc := range docs(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(readDoc(t, doc), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := doc
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(doc), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", doc, err)
			} else if m[2] != "" && !slices.Contains(anchors(readDoc(t, target)), m[2]) {
				t.Errorf("%s: %s has no heading #%s", doc, target, m[2])
			}
		}
	}
}

// anchors is every heading as a link names it.
func anchors(text string) (names []string) {
	odd := regexp.MustCompile(`[^a-z0-9 _-]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		names = append(names, strings.ReplaceAll(odd.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return names
}

// What a document names in code type must be there: tests, options, errors,
// variables and keys.
func TestDocNames(t *testing.T) {
	t.Parallel()
	known := testFunctions(t)
	for name := range exported(t) {
		known[name] = true
	}
	known["KAFKAX_CONFIG_FILE"] = true
	for _, key := range slices.Concat(kafkax.ProducerKeys(), kafkax.ConsumerKeys()) {
		known[key] = true
		known[kafkax.EnvName(key)] = true
		for _, side := range []string{"producer.", "consumer."} { // a shared key, for a side
			known[side+key] = true
			known[kafkax.EnvName(side+key)] = true
		}
	}
	name := regexp.MustCompile("`(?:kafkax\\.)?(Test[A-Z]\\w+|With[A-Z]\\w+|Err[A-Z]\\w+|Header[A-Z]\\w+|KAFKAX_[A-Z_]+|" +
		"(?:consumer|producer|sasl|tls)\\.[a-z_][a-z_.]+)\\b")
	count := 0
	for _, doc := range docs(t) {
		for _, m := range name.FindAllStringSubmatch(readDoc(t, doc), -1) {
			count++
			prefix := strings.HasSuffix(m[1], "_") || slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(key string) bool {
				return strings.HasPrefix(key, m[1]+".")
			})
			if !known[m[1]] && !prefix {
				t.Errorf("%s: there is no %s", doc, m[1])
			}
		}
	}
	if count < 100 {
		t.Errorf("%d names found", count)
	}
}

// What a document says of the log, somebody will search for: it must be written.
func TestDocLogLines(t *testing.T) {
	t.Parallel()
	var written strings.Builder
	for _, file := range checkedPackage(t).files {
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
				written.WriteString(text.Value + "\n")
			}
			return true
		})
	}
	said := regexp.MustCompile("log\\s+says\\s+((?:`[^`]+`(?:,\\s+or\\s+|,\\s+)?)+)")
	count := 0
	for _, doc := range docs(t) {
		for _, m := range said.FindAllStringSubmatch(readDoc(t, doc), -1) {
			for _, line := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[1], -1) {
				count++
				if !strings.Contains(written.String(), line[1]) {
					t.Errorf("%s: nothing writes %q", doc, line[1])
				}
			}
		}
	}
	if count < 5 {
		t.Errorf("%d lines found", count)
	}
}

// exported is every exported name of the package, methods apart.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil {
					names[n.Name.Name] = true
				}
				return false
			case *ast.ValueSpec:
				for _, id := range n.Names {
					names[id.Name] = true
				}
			case *ast.TypeSpec:
				names[n.Name.Name] = true
			}
			return true
		})
	}
	return names
}

// docs is every document that speaks to users and contributors.
func docs(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*.md", "examples/*/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			all = append(all, filepath.ToSlash(file))
		}
	}
	return all
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
