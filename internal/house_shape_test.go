package internal

import (
	"go/ast"
	"go/types"
	"strings"
)

const (
	maxLines   = 600 // of one file of shipped code
	maxMethods = 3   // of one interface, embedded ones included
)

func noInit(h *house) (out []finding) {
	for _, r := range h.shipped() {
		for _, f := range r.all() {
			for _, decl := range f.ast.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					out = append(out, found(h.at(fn), "has an init function; do it in a constructor"))
				}
			}
		}
	}
	return out
}

func smallInterfaces(h *house) (out []finding) {
	for _, r := range h.shipped() {
		for _, f := range r.all() {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				expr, ok := n.(*ast.InterfaceType)
				if !ok {
					return true
				}
				t, ok := f.info.Types[expr].Type.(*types.Interface)
				if ok && t.NumMethods() > maxMethods {
					out = append(out, found(h.at(expr), "an interface of %d methods; at most %d, declared where it is used", t.NumMethods(), maxMethods))
				}
				return true
			})
		}
	}
	return out
}

// smallFiles spares what templ makes of a template, by its name: scripts/generate.sh holds that to the template.
func smallFiles(h *house) (out []finding) {
	for _, r := range h.shipped() {
		for _, f := range r.all() {
			if f.lines > maxLines && !(strings.HasSuffix(f.name, "_templ.go") && ast.IsGenerated(f.ast)) {
				out = append(out, found(f.name, "has %d lines, at most %d: the room wants a wall", f.lines, maxLines))
			}
		}
	}
	return out
}

// packageComment: every package, shipped or not, says what it promises.
func packageComment(h *house) (out []finding) {
	for _, r := range h.rooms {
		documented, name := len(r.files) == 0, ""
		for _, f := range r.files {
			name = f.ast.Name.Name
			text := f.ast.Doc.Text()
			if !strings.HasPrefix(text, "Package "+name+" ") && (name != "main" || text == "") {
				continue
			}
			documented = true
			for _, part := range []string{"Promise:", "Limits:", "Invariants:"} {
				if !strings.Contains("\n"+text, "\n"+part) {
					out = append(out, found(r.path, "the package comment lacks a paragraph that begins with %q", part))
				}
			}
		}
		if !documented {
			out = append(out, found(r.path, "has no package comment (\"Package %s …\": promise, limits, invariants)", name))
		}
	}
	return out
}

func hasTests(h *house) (out []finding) {
	for _, r := range h.shipped() {
		if r.tests == 0 {
			out = append(out, found(r.path, "has no test"))
		}
	}
	return out
}
