package kafkax_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A wing is the files that own one concern. A file tells its wing by its name's
// first word, so that the list of files is the floor plan.
const (
	tour          = "tour"
	configuration = "configuration"
	connection    = "connection"
	producing     = "producing"
	consuming     = "consuming"
	handling      = "handling"
	watching      = "watching"
	failing       = "errors"
)

var wingOf = map[string]string{
	"doc":        tour,
	"config":     configuration,
	"env":        configuration,
	"option":     configuration,
	"setup":      configuration,
	"dialer":     connection,
	"wire":       connection,
	"producer":   producing,
	"consumer":   consuming,
	"fetch":      consuming,
	"group":      consuming,
	"offsets":    consuming,
	"consume":    handling,
	"retry":      handling,
	"deadletter": handling,
	"multi":      handling,
	"handler":    handling,
	"hooks":      watching,
	"status":     watching,
	"health":     watching,
	"log":        watching,
	"errors":     failing,
}

// everywhere is what all wings but that of the errors stand on.
var everywhere = []door{
	{to: failing, sees: anything},
	{to: watching, sees: anything},
	{to: handling, sees: waiting},
}

// doors say which wing may use what of which other. What is not here, and not
// an exception, is a wall.
var doors = map[string][]door{
	tour:          nil,
	failing:       nil,
	watching:      everywhere,
	configuration: everywhere,
	connection:    through(door{configuration, structs}),
	producing:     through(door{configuration, structs}, door{connection, dialers}),
	consuming:     through(door{configuration, structs}, door{connection, dialers}),
	handling:      through(door{configuration, structs}, door{consuming, behindTheFetch}),
}

// exceptions are the uses that a wall has a hole for: each name, and why.
var exceptions = []exception{
	{"setup.go", "producer.go", "NewProducer Producer", "SetupProducer makes the client of what it has translated"},
	{"setup.go", "consumer.go", "NewConsumer Consumer", "SetupConsumer makes the client of what it has translated"},
	{"producer.go", "config_layers.go", "resolveProducer", "the constructor resolves the layers"},
	{"producer_send.go", "config_rules.go", "topicRule", "a message's topic is judged as the configured one is"},
	{"consumer.go", "config_layers.go", "resolveConsumer", "the constructor resolves the layers"},
	{"consume.go", "config_layers.go", "resolveConsume", "a loop resolves its options"},
	{"consume.go", "option_consume.go", "loopName", "and says which loop it is"},
	{"dialer_security.go", "config_rules.go", "passwordRule", "a password from a file is judged as a configured one is"},
	{"dialer_security.go", "config_secret.go", "NewSecret", "what a password's file held is kept, to be compared with, and secrets are the configuration's to hide"},
	{"multi_consumer.go", "config_layers.go", "resolveConsume", "the loops of all topics are judged before one of them begins"},
	{"multi_consumer.go", "option_consumer.go", "consumerSetting", "each consumer gets its topic as the last option"},
	{"deadletter_producer.go", "producer.go", "newProducer", "the one place that makes a producer of dead letters; who writes them knows a DLQWriter"},
	{"deadletter_producer.go", "producer.go", "Producer.GracefulShutdown", "and stops it"},
}

// maxFilesInCycles only ever goes down.
const maxFilesInCycles = 0

// cycles are the files that use each other in a ring, by name, and why.
var cycles = map[string]string{}

// A door leads to a wing, for the uses that it sees.
type door struct {
	to   string
	sees func(use) bool
}

func through(more ...door) []door { return slices.Concat(everywhere, more) }

func anything(use) bool { return true }

// waiting is the one home of waits between tries.
func waiting(u use) bool { return u.to == "retry.go" }

// structs is what a configuration is to others: values, and nothing that makes
// them.
func structs(u use) bool {
	_, isType := u.object.(*types.TypeName)
	return isType || isConst(u.object) || u.owner != ""
}

// dialers is the connection wing's constructor and what it returns, and the exchange
// with what says who it is to be with.
func dialers(u use) bool {
	if u.to == "wire.go" || u.to == "wire_routes.go" {
		return true
	}
	_, isMethod := u.object.(*types.Func)
	return u.to == "dialer.go" && (u.name == "newDialer" || u.name == "dialer" || (u.owner == "dialer" && isMethod))
}

// behindTheFetch is what messages come in, and not how they came.
func behindTheFetch(u use) bool {
	return u.name != "fetcher" && u.owner != "fetcher" && !strings.HasPrefix(u.to, "fetch_") && !strings.HasPrefix(u.to, "group")
}

func isConst(object types.Object) bool {
	_, ok := object.(*types.Const)
	return ok
}

// exception is names (of functions, types, and members as type.name) that one
// file may use of another.
type exception struct{ from, to, names, why string }

// use is an object of one file in another.
type use struct {
	from, to string
	owner    string // the type whose field or method it is
	name     string // with its owner in front
	object   types.Object
}

// TestFilesBelongToAWing holds the floor plan.
func TestFilesBelongToAWing(t *testing.T) {
	t.Parallel()
	for _, file := range slices.Sorted(maps.Keys(checkedPackage(t).files)) {
		if wing(file) == "" {
			t.Errorf("%s: no wing begins its files' names so", file)
		}
	}
}

func wing(file string) string {
	word, _, _ := strings.Cut(strings.TrimSuffix(file, ".go"), "_")
	return wingOf[word]
}

// TestWallsBetweenWings holds which wing knows what of which other.
func TestWallsBetweenWings(t *testing.T) {
	t.Parallel()
	excepted := map[[3]string]bool{} // whether it was of use
	for _, e := range exceptions {
		if e.why == "" {
			t.Errorf("the exception of %s for %s has no reason", e.from, e.to)
		}
		for name := range strings.FieldsSeq(e.names) {
			excepted[[3]string{e.from, e.to, name}] = false
		}
	}
	broken := map[string]bool{}
	for _, u := range checkedPackage(t).uses {
		from, to := wing(u.from), wing(u.to)
		if from == to || slices.ContainsFunc(doors[from], func(d door) bool { return d.to == to && d.sees(u) }) {
			continue
		}
		key := [3]string{u.from, u.to, u.name}
		if _, ok := excepted[key]; ok {
			excepted[key] = true
			continue
		}
		broken[fmt.Sprintf("%s (%s) uses %s of %s (%s)", u.from, from, u.name, u.to, to)] = true
	}
	for _, line := range slices.Sorted(maps.Keys(broken)) {
		t.Error(line)
	}
	for key, used := range excepted {
		if !used {
			t.Errorf("%s no longer uses %s of %s: take the exception out", key[0], key[2], key[1])
		}
	}
}

// TestFilesInCycles holds that a ring of files is known, and has a reason.
func TestFilesInCycles(t *testing.T) {
	t.Parallel()
	rings := checkedPackage(t).rings()
	total := 0
	for _, ring := range rings {
		total += len(strings.Fields(ring))
		if cycles[ring] == "" {
			t.Errorf("these use each other in a ring, and no reason is named: %s", ring)
		}
	}
	for ring := range cycles {
		if !slices.Contains(rings, ring) {
			t.Errorf("these are no longer a ring: %s", ring)
		}
	}
	if total > maxFilesInCycles {
		t.Errorf("%d files are in rings, and %d may be", total, maxFilesInCycles)
	}
}

// TestRings holds that the search finds what it is for.
func TestRings(t *testing.T) {
	t.Parallel()
	p := &checked{
		files: map[string]*ast.File{"a.go": nil, "b.go": nil, "c.go": nil, "d.go": nil, "e.go": nil},
		uses: []use{
			{from: "a.go", to: "b.go"}, {from: "b.go", to: "c.go"}, {from: "c.go", to: "a.go"}, // a ring
			{from: "d.go", to: "a.go"}, {from: "e.go", to: "d.go"}, {from: "d.go", to: "c.go"}, // a way into it
		},
	}
	if got := p.rings(); !slices.Equal(got, []string{"a.go b.go c.go"}) {
		t.Errorf("rings: %q", got)
	}
}

// checked is the package as the compiler sees it, without its tests.
type checked struct {
	fset  *token.FileSet
	files map[string]*ast.File // by name
	types *types.Package
	uses  []use
	check func(more *ast.File) (*types.Package, error) // anew, with one file more
}

// rings returns the files that reach each other, a ring a line. A file is
// reached if a path of uses leads to it.
func (p *checked) rings() []string {
	next := map[string]map[string]bool{}
	for _, u := range p.uses {
		if next[u.from] == nil {
			next[u.from] = map[string]bool{}
		}
		next[u.from][u.to] = true
	}
	reached := map[string]map[string]bool{}
	for file := range p.files {
		seen := map[string]bool{}
		for todo := []string{file}; len(todo) > 0; {
			at := todo[0]
			todo = todo[1:]
			for to := range next[at] {
				if !seen[to] {
					seen[to] = true
					todo = append(todo, to)
				}
			}
		}
		reached[file] = seen
	}
	var rings []string
	for _, file := range slices.Sorted(maps.Keys(p.files)) {
		var ring []string
		for _, other := range slices.Sorted(maps.Keys(reached[file])) {
			if reached[other][file] {
				ring = append(ring, other)
			}
		}
		if line := strings.Join(ring, " "); line != "" && !slices.Contains(rings, line) {
			rings = append(rings, line)
		}
	}
	return rings
}

// checkedPackage type-checks the package once for all tests.
func checkedPackage(t *testing.T) *checked {
	t.Helper()
	p, err := checkPackage()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("no go command: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var checkPackage = sync.OnceValues(func() (*checked, error) {
	const path = "github.com/bi-common/kafkax"
	gotool, err := exec.LookPath("go")
	if err != nil {
		return nil, err
	}
	// The compiler leaves what a package exports in its cache.
	out, err := exec.Command(gotool, "list", "-export", "-deps", "-json=ImportPath,Export,GoFiles", ".").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	exports := map[string]string{}
	p := &checked{fset: token.NewFileSet(), files: map[string]*ast.File{}}
	for list := json.NewDecoder(bytes.NewReader(out)); ; {
		var listed struct {
			ImportPath, Export string
			GoFiles            []string
		}
		if err := list.Decode(&listed); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[listed.ImportPath] = listed.Export
		if listed.ImportPath != path {
			continue
		}
		for _, name := range listed.GoFiles {
			if p.files[name], err = parser.ParseFile(p.fset, name, nil, parser.SkipObjectResolution); err != nil {
				return nil, err
			}
		}
	}
	imports := importer.ForCompiler(p.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	check := func(more []*ast.File, info *types.Info) (*types.Package, error) {
		conf := types.Config{Importer: imports}
		return conf.Check(path, p.fset, slices.AppendSeq(more, maps.Values(p.files)), info)
	}
	p.check = func(more *ast.File) (*types.Package, error) { return check([]*ast.File{more}, nil) }
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	if p.types, err = check(nil, info); err != nil {
		return nil, err
	}
	p.findUses(info)
	return p, nil
})

func (p *checked) findUses(info *types.Info) {
	owners := fieldOwners(p.types)
	file := func(pos token.Pos) string { return filepath.Base(p.fset.Position(pos).Filename) }
	for id, object := range info.Uses {
		if object.Pkg() != p.types {
			continue
		}
		if generic, ok := object.(*types.Var); ok {
			object = generic.Origin() // of an instantiated type's field
		}
		u := use{from: file(id.Pos()), to: file(object.Pos()), owner: owners[object], object: object}
		if method, ok := object.(*types.Func); ok {
			u.owner = receiver(method)
		}
		u.name = object.Name()
		if u.owner != "" {
			u.name = u.owner + "." + u.name
		}
		if u.from != u.to {
			p.uses = append(p.uses, u)
		}
	}
}

// receiver is the name of a method's type; empty for a function.
func receiver(f *types.Func) string {
	r := f.Signature().Recv()
	if r == nil {
		return ""
	}
	t := r.Type()
	if pointer, ok := t.(*types.Pointer); ok {
		t = pointer.Elem()
	}
	if named, ok := t.(*types.Named); ok {
		return named.Obj().Name()
	}
	return t.String()
}

// fieldOwners finds the type that declares a field.
func fieldOwners(pkg *types.Package) map[types.Object]string {
	owners := map[types.Object]string{}
	for _, name := range pkg.Scope().Names() {
		declared, ok := pkg.Scope().Lookup(name).(*types.TypeName)
		if !ok || declared.IsAlias() {
			continue
		}
		if s, ok := declared.Type().Underlying().(*types.Struct); ok {
			for field := range s.Fields() {
				owners[field] = name
			}
		}
	}
	return owners
}
