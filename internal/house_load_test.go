package internal

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
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// house is the module as the rules see it.
type house struct {
	fset  *token.FileSet
	rooms []*room
}

func (h *house) room(path string) *room {
	for _, r := range h.rooms {
		if r.path == path {
			return r
		}
	}
	return nil
}

// shipped returns the rooms with code that reaches a user.
func (h *house) shipped() []*room {
	var out []*room
	for _, r := range h.rooms {
		if _, ok := supports[r.path]; !ok && len(r.files)+len(r.foreign) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// room is one package.
type room struct {
	path        string   // inside the module: "internal/store", "." for its root
	imports     []string // of the code, as import paths
	testImports []string // of the test files
	deps        []string // everything linked with it
	tests       int      // number of test files
	cgo         int      // number of files that use cgo
	problem     string   // why it does not load
	files       []*file  // the code that this platform builds
	foreign     []*file  // the code that other platforms build
}

// all returns the code for every platform.
func (r *room) all() []*file { return slices.Concat(r.files, r.foreign) }

// file is one source file that is no test.
type file struct {
	name  string // from the module's root, with slashes
	ast   *ast.File
	lines int
	info  *types.Info // shared by the files that were checked together
}

// listed is what `go list` says of a package.
type listed struct {
	ImportPath, Dir, Export                                      string
	GoFiles, CgoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports, Deps                     []string
	Module                                                       *struct{ Main bool }
	Error                                                        *struct{ Err string }
	DepOnly                                                      bool
}

// proofPackages are what the snippets of house_proof_test.go import beyond what the module does.
var proofPackages = []string{
	"context", "crypto/tls", "log", "net", "net/http", "net/http/httptest", "net/smtp", "os", "os/exec", "sync", "sync/atomic", "syscall", "testing",
}

// survey runs `go list` once for all tests.
var survey = sync.OnceValues(func() ([]listed, error) {
	args := []string{
		"list", "-e", "-deps", "-export",
		"-json=ImportPath,Dir,Export,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,Deps,Module,Error,DepOnly",
		"./...",
	}
	cmd := exec.Command("go", append(args, proofPackages...)...)
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
})

// relative turns an import path of the module into a path inside it.
func relative(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// realHouse loads every package of the module.
func realHouse(t *testing.T) *house {
	t.Helper()
	packages, err := survey()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{fset: token.NewFileSet()}
	for _, p := range packages {
		rel, own := relative(p.ImportPath)
		if !own || p.Module == nil || !p.Module.Main {
			continue
		}
		r := &room{
			path: rel, imports: p.Imports, testImports: slices.Concat(p.TestImports, p.XTestImports), deps: p.Deps,
			tests: len(p.TestGoFiles) + len(p.XTestGoFiles), cgo: len(p.CgoFiles),
		}
		if p.Error != nil {
			r.problem = p.Error.Err
		}
		read := func(names []string, into *[]*file) {
			for _, name := range names {
				if strings.HasSuffix(name, "_test.go") {
					continue
				}
				src, err := os.ReadFile(filepath.Join(p.Dir, name))
				if err != nil {
					t.Fatal(err)
				}
				h.read(r, path.Join(rel, name), src, into)
			}
		}
		read(p.GoFiles, &r.files)
		read(p.CgoFiles, &r.files)
		read(p.IgnoredGoFiles, &r.foreign)
		h.rooms = append(h.rooms, r)
	}
	if len(h.rooms) < 3 {
		t.Fatalf("go list found only %d packages of %s", len(h.rooms), module)
	}
	h.check(packages, nil)
	return h
}

// read parses one file into a room.
func (h *house) read(r *room, name string, src []byte, into *[]*file) {
	tree, err := parser.ParseFile(h.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		r.problem = err.Error()
		return
	}
	*into = append(*into, &file{name: name, ast: tree, lines: bytes.Count(src, []byte("\n"))})
	for _, spec := range tree.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil && !slices.Contains(r.imports, p) {
			r.imports = append(r.imports, p)
		}
	}
}

// check gives each file its type information: the module's own packages from source, all others from the compiler's export data, or else
// from missing, which may be nil.
func (h *house) check(packages []listed, missing func(importPath string) *types.Package) {
	exports := map[string]string{}
	for _, p := range packages {
		exports[p.ImportPath] = p.Export
	}
	compiled := importer.ForCompiler(h.fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data for %s", path)
		}
		return os.Open(exports[path])
	})
	c := &checker{house: h, compiled: compiled, missing: missing, done: map[string]*types.Package{}}
	for _, r := range h.rooms {
		c.room(r)
	}
}

// checker type-checks rooms in the order of their imports.
type checker struct {
	house    *house
	compiled types.Importer
	missing  func(importPath string) *types.Package
	done     map[string]*types.Package
}

// Import implements types.Importer.
func (c *checker) Import(path string) (*types.Package, error) {
	if rel, own := relative(path); own {
		if r := c.house.room(rel); r != nil {
			return c.room(r), nil
		}
	}
	p, err := c.compiled.Import(path)
	if err != nil && c.missing != nil {
		return c.missing(path), nil
	}
	return p, err
}

func (c *checker) room(r *room) *types.Package {
	if p, ok := c.done[r.path]; ok {
		return p
	}
	c.done[r.path] = types.NewPackage(module+"/"+r.path, "cycle") // ends the walk should the imports form a circle
	var wrong []error
	p := c.files(r, r.files, func(err error) { wrong = append(wrong, err) })
	if len(wrong) > 0 && r.problem == "" {
		r.problem = wrong[0].Error()
	}
	// A file for another platform may use packages that do not exist here: what cannot be resolved is let pass, the rest is checked.
	for _, f := range r.foreign {
		c.files(r, []*file{f}, func(error) {})
	}
	c.done[r.path] = p
	return p
}

func (c *checker) files(r *room, files []*file, report func(error)) *types.Package {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}, Types: map[ast.Expr]types.TypeAndValue{}}
	trees := make([]*ast.File, len(files))
	for i, f := range files {
		f.info = info
		trees[i] = f.ast
	}
	config := types.Config{Importer: c, Error: report}
	p, _ := config.Check(module+"/"+r.path, c.house.fset, trees, info) // errors went to report
	return p
}

// at returns "file:line" of a node.
func (h *house) at(n ast.Node) string {
	p := h.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}
