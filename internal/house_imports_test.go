package internal

import (
	"slices"
	"strings"
)

// loads: what cannot be read cannot be judged.
func loads(h *house) (out []finding) {
	for _, r := range h.rooms {
		if r.problem != "" {
			out = append(out, found(r.path, "does not load: %s", r.problem))
		}
	}
	return out
}

func hasFloor(h *house) (out []finding) {
	for _, r := range h.shipped() {
		if _, ok := floors[r.path]; !ok {
			out = append(out, found(r.path, "is on no floor; give it one in docs/design/house.md and in internal/house_test.go, or a home in an existing package"))
		}
	}
	return out
}

func importsLowerFloors(h *house) (out []finding) {
	for _, r := range h.shipped() {
		own, ok := floors[r.path]
		if !ok {
			continue // hasFloor says so
		}
		for _, imported := range r.imports {
			rel, inside := relative(imported)
			floor, known := floors[rel]
			if !inside || !known {
				continue
			}
			if floor >= own {
				out = append(out, found(r.path, "imports %s: floor %d may import lower floors only, %s is on floor %d; let internal/app hand over a function or a one-method interface",
					imported, own, rel, floor))
			}
		}
	}
	return out
}

func shipsNoSupport(h *house) (out []finding) {
	for _, r := range h.shipped() {
		for _, imported := range r.imports {
			rel, inside := relative(imported)
			if why, ok := supports[rel]; inside && ok {
				out = append(out, found(r.path, "imports %s, which is never shipped (%s)", imported, why))
			}
		}
	}
	return out
}

// testLibraries are those whose path does not contain "test".
var testLibraries = []string{"pgregory.net/rapid", "go.uber.org/goleak", "github.com/chromedp/chromedp"}

func isTestLibrary(importPath string) bool {
	for _, p := range testLibraries {
		if importPath == p || strings.HasPrefix(importPath, p+"/") {
			return true
		}
	}
	return strings.Contains(importPath, "test")
}

func shipsNoTestLibrary(h *house) (out []finding) {
	for _, r := range h.shipped() {
		for _, imported := range r.imports {
			if isTestLibrary(imported) {
				out = append(out, found(r.path, "shipped code imports the test library %s", imported))
			}
		}
	}
	return out
}

// linksNoTestLibrary looks at everything that ends up in a shipped package, third-party code included.
func linksNoTestLibrary(h *house) (out []finding) {
	for _, r := range h.shipped() {
		for _, dep := range r.deps {
			internal := strings.HasPrefix(dep, "internal/") // the standard library's hooks for tests are part of every program
			if isTestLibrary(dep) && !internal {
				out = append(out, found(r.path, "links the test library %s; `go mod why %s` tells through what", dep, dep))
			}
		}
	}
	return out
}

var (
	drivers    = []string{"github.com/jackc/pgx", "modernc.org/sqlite", "github.com/lib/pq", "github.com/mattn/go-sqlite3", "github.com/ncruces/go-sqlite3"}
	sqlToolbox = []string{"database/sql", "github.com/jmoiron/sqlx", "github.com/pressly/goose", "github.com/huandu/go-sqlbuilder"}
)

func under(importPath string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return importPath == root || strings.HasPrefix(importPath, root+"/") })
}

// onlyStoreKnowsSQL: no other package imports a driver, not even in its tests; database/sql and its helpers belong to store's shipped
// code alone, while tests may use them to attack a database from outside.
func onlyStoreKnowsSQL(h *house) (out []finding) {
	for _, r := range h.rooms {
		_, home := sqlHomes[r.path]
		_, support := supports[r.path]
		for _, imported := range r.imports {
			switch {
			case home:
			case under(imported, drivers):
				out = append(out, found(r.path, "imports the SQL driver %s; only internal/store may", imported))
			case under(imported, sqlToolbox) && !support:
				out = append(out, found(r.path, "imports %s; only internal/store may, everybody else uses store.DB", imported))
			}
		}
		for _, imported := range r.testImports {
			if !home && under(imported, drivers) {
				out = append(out, found(r.path, "a test imports the SQL driver %s; internal/store registers it, internal/store/storetest opens databases", imported))
			}
		}
	}
	return out
}

func noCgo(h *house) (out []finding) {
	for _, r := range h.shipped() {
		if r.cgo > 0 || slices.Contains(r.imports, "C") {
			out = append(out, found(r.path, "uses cgo; Signalbox is one static binary"))
		}
	}
	return out
}
