package internal

import (
	"fmt"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strings"
	"testing"
)

// proof is a small house with, or without, a breach of one rule. A house without wants nothing.
type proof struct {
	rule  string
	files map[string]string
	want  []string // one per finding, in the order of the files: a part of its text
}

// The packages that snippets build on.
const (
	fakeSecret = `package secret
		type Value struct{}
		func (Value) Reveal() string { return "" }
		func (Value) Bytes() []byte { return nil }`
	fakeStore = `package store
		import "context"
		type Purpose string
		const Touch Purpose = "touch"
		type Tx struct{}
		type DB struct{}
		func (*DB) Bookkeep(ctx context.Context, p Purpose, fn func(*Tx) error) error { return nil }`
)

func proofs() []proof {
	return slices.Concat(importProofs(), callProofs(), shapeProofs())
}

func importProofs() []proof {
	empty := func(name string) string { return "package " + name }
	from := func(name string, imports ...string) string {
		text := "package " + name + "\n"
		for _, i := range imports {
			text += fmt.Sprintf("import _ %q\n", i)
		}
		return text
	}
	own := func(p string) string { return module + "/" + p }
	return []proof{
		{"loads", map[string]string{"internal/vault/v.go": "package vault\nfunc f( {"}, []string{"does not load"}},
		{"loads", map[string]string{"internal/vault/v.go": "package vault\nvar x int = `a`"}, []string{"cannot use"}},
		{"loads", map[string]string{"internal/vault/v.go": "package vault\nvar x int = 1"}, nil},

		{"has a floor", map[string]string{"internal/util/u.go": empty("util"), "internal/vault/v.go": empty("vault")}, []string{"internal/util: is on no floor"}},
		{"has a floor", map[string]string{"internal/bench/main.go": "package main\nfunc main() {}", "internal/odd/odd_test.go": empty("odd")}, nil},

		{"imports lower floors only", map[string]string{
			"internal/store/s.go": from("store", own("internal/vault")), "internal/vault/v.go": empty("vault"),
		}, []string{"internal/store: imports " + own("internal/vault") + ": floor 1"}},
		{"imports lower floors only", map[string]string{
			"internal/audit/a.go": from("audit", own("internal/identity")), "internal/identity/i.go": empty("identity"),
		}, []string{"floor 3 may import lower floors only, internal/identity is on floor 3"}},
		{"imports lower floors only", map[string]string{
			"internal/vault/v.go": from("vault", own("internal/store"), own("internal/secret")), "internal/store/s.go": empty("store"), "internal/secret/s.go": empty("secret"),
			"internal/store/x_test.go": from("store_test", own("internal/vault")),
		}, nil},

		{"ships no support package", map[string]string{
			"internal/app/a.go": from("app", own("internal/store/storetest")), "internal/store/storetest/s.go": empty("storetest"),
		}, []string{"internal/app: imports " + own("internal/store/storetest")}},
		{"ships no support package", map[string]string{
			"internal/app/a.go": empty("app"), "internal/app/a_test.go": from("app", own("internal/store/storetest")), "internal/store/storetest/s.go": empty("storetest"),
			"internal/signalboxtest/s.go": from("signalboxtest", own("internal/store/storetest")),
		}, nil},

		{"ships no test library", map[string]string{
			"internal/demo/d.go": from("demo", "net/http/httptest", "testing", "pgregory.net/rapid", "go.uber.org/goleak", "github.com/stretchr/testify/require"),
		}, []string{"httptest", "library testing", "rapid", "goleak", "testify"}},
		{"ships no test library", map[string]string{
			"internal/demo/d.go": from("demo", "net/http"), "internal/demo/d_test.go": from("demo", "testing"), "internal/bench/b.go": from("bench", "net/http/httptest"),
		}, nil},

		{"only store knows SQL", map[string]string{
			"internal/vault/v.go": from("vault", "database/sql", "github.com/jmoiron/sqlx", "github.com/jackc/pgx/v5/stdlib", "github.com/pressly/goose/v3"),
		}, []string{"imports database/sql;", "sqlx", "SQL driver github.com/jackc/pgx/v5/stdlib", "goose"}},
		{"only store knows SQL", map[string]string{
			"internal/vault/v.go": empty("vault"), "internal/vault/v_test.go": from("vault", "database/sql", "modernc.org/sqlite"),
		}, []string{"a test imports the SQL driver modernc.org/sqlite"}},
		{"only store knows SQL", map[string]string{
			"internal/store/s.go": from("store", "database/sql", "modernc.org/sqlite"), "internal/store/storetest/s.go": from("storetest", "github.com/jackc/pgx/v5"),
		}, nil},

		{"no cgo", map[string]string{"internal/vault/v.go": "package vault\nimport \"C\""}, []string{"uses cgo"}},
		{"no cgo", map[string]string{"internal/vault/v.go": empty("vault")}, nil},
	}
}

func callProofs() []proof {
	return []proof{
		{"only app reads the environment", map[string]string{
			"internal/train/t.go": `package train
				import ( system "os"; "syscall" )
				var home, _ = system.UserHomeDir()
				func f() { get := system.Getenv; get("X"); syscall.Getenv("X"); system.Environ() }`,
			"cmd/signalbox/main.go": "package main\nimport . \"os\"\nfunc main() { LookupEnv(`X`); ExpandEnv(`X`) }",
		}, []string{"os.LookupEnv", "os.ExpandEnv", "os.UserHomeDir", "os.Getenv", "syscall.Getenv", "os.Environ"}},
		{"only app reads the environment", map[string]string{
			"internal/train/t_linux.go":   "package train",
			"internal/train/t_windows.go": "package train\nimport \"os\"\nvar x = os.Getenv(`X`)\nvar y = onlyOnWindows()",
		}, []string{"internal/train/t_windows.go:3: os.Getenv"}},
		{"only app reads the environment", map[string]string{
			"internal/app/a.go":        "package app\nimport \"os\"\nvar x = os.Getenv(`X`)",
			"internal/train/t.go":      "package train\ntype system struct{}\nfunc (system) Getenv(string) {}\nfunc f(os system) { os.Getenv(`X`) }",
			"internal/train/t_test.go": "package train\nimport \"os\"\nvar x = os.Getenv(`X`)",
			"internal/bench/b.go":      "package bench\nimport \"os\"\nvar x = os.Getenv(`X`)",
		}, nil},

		{"only outbound dials", map[string]string{
			"internal/broker/b.go": `package broker
				import ( "net"; "net/http"; "net/smtp"; "crypto/tls" )
				type held struct{ c http.Client }
				func f(d *net.Dialer) {
					http.Get("x"); http.DefaultClient.Do(nil); _ = http.DefaultTransport
					net.Dial("tcp", "x"); d.Dial("tcp", "x"); tls.Dial("tcp", "x", nil); smtp.Dial("x")
					_ = &http.Client{}; _ = new(http.Transport); var l net.Dialer; _ = l
					net.LookupHost("x"); net.DefaultResolver.LookupHost(nil, "x"); dial := net.DialTimeout; _ = dial
				}`,
		}, []string{
			"http.Client", "http.Get", "http.DefaultClient", "http.DefaultTransport", "net.Dial", "Dialer).Dial", "tls.Dial", "smtp.Dial", "http.Client",
			"http.Transport", "net.Dialer", "net.LookupHost", "net.DefaultResolver", "LookupHost", "net.DialTimeout",
		}},
		{"only outbound dials", map[string]string{
			"client/c.go": "package client\nimport \"net/http\"\nvar a = &http.Transport{}\nvar b = http.DefaultClient\nvar c = &http.Client{}",
		}, []string{"client/c.go:3: net/http.Transport"}},
		{"only outbound dials", map[string]string{
			"internal/outbound/o.go": "package outbound\nimport (\"net\"; \"net/http\")\nvar c = &http.Client{}\nfunc Dial() { net.Dial(`tcp`, `x`) }",
			"internal/broker/b.go": `package broker
				import ( "net"; "net/http"; "` + module + `/internal/outbound" )
				type held struct{ c *http.Client; all []*http.Transport }
				func f(c *http.Client, rt http.RoundTripper) (*http.Transport, error) {
					var form http.Request; _ = form.PostForm; t, _ := rt.(*http.Transport); c.Do(nil); net.Listen("tcp", "x"); outbound.Dial(); return t, nil
				}`,
		}, nil},

		{"revealers are listed", map[string]string{
			"internal/secret/s.go": fakeSecret,
			"internal/broker/b.go": `package broker
				import "` + module + `/internal/secret"
				type field struct{ secret.Value }
				func f(v secret.Value, e field) { v.Reveal(); out := v.Bytes; out(); e.Reveal() }`,
		}, []string{"internal/broker.f takes", "internal/broker.f takes", "internal/broker.f takes"}},
		{"revealers are listed", map[string]string{
			"internal/secret/s.go": fakeSecret,
			"internal/vault/v.go":  "package vault\nimport \"" + module + "/internal/secret\"\nfunc Reveal(v secret.Value) string { return v.Reveal() }",
			"internal/broker/b.go": "package broker\nimport (\"bytes\"; \"" + module + "/internal/vault\")\nfunc f(b *bytes.Buffer) { b.Bytes(); _ = vault.Reveal }",
		}, nil},

		{"no panic", map[string]string{
			"internal/vault/v.go":  "package vault\nimport \"net/http\"\nfunc f() { panic(1) }\nfunc g() { panic(http.ErrAbortHandler) }",
			"internal/broker/b.go": "package broker\nfunc f(err error) { panic(err) }",
		}, []string{"broker/b.go:2: panics", "vault/v.go:3: panics", "vault/v.go:4: panics"}},
		{"no panic", map[string]string{
			"internal/broker/b.go": "package broker\nimport \"net/http\"\nfunc f() { panic(http.ErrAbortHandler) }",
			"internal/vault/v.go":  "package vault\nfunc f(panic func(int)) { panic(1) }",
		}, nil},

		{"exits in main only", map[string]string{
			"internal/app/a.go":     "package app\nimport (\"log\"; \"os\")\nfunc f(l *log.Logger) { os.Exit(1); log.Fatalf(``); l.Panicln() }",
			"cmd/signalbox/root.go": "package main\nimport \"os\"\nvar exit = os.Exit",
			"cmd/signalbox/main.go": "package main\nimport \"os\"\nfunc main() { os.Exit(1) }",
		}, []string{"root.go:3: os.Exit", "os.Exit", "log.Fatalf", "Panicln"}},

		{"no package state", map[string]string{
			"internal/vault/v.go": `package vault
				import ( "net/http"; "sync"; "sync/atomic" )
				var count, table, kept = 0, map[string]struct{ n []int }{}, &struct{ x int }{}
				var lock sync.Mutex
				var hits = new(atomic.Int64)
				func f() { count++; count = 2; delete(table, "x"); table["x"] = table["y"]; kept.x = 1; *kept = *kept; (count) += 1
					for count = range 3 {}; http.DefaultServeMux = nil }`,
		}, []string{
			"vault.count;", "vault.count;", "vault.table;", "vault.table;", "vault.kept;", "vault.kept;", "vault.count;", "vault.count;",
			"net/http.DefaultServeMux", "variable lock", "variable hits",
		}},
		{"no package state", map[string]string{
			"internal/vault/v.go": `package vault
				import "sync"
				var table = map[string]int{}
				var buffers = sync.Pool{New: func() any { return nil }}
				type keeper struct{ table map[string]int; mu sync.Mutex }
				func f(k *keeper) int { n := table["x"]; n++; k.table["x"] = table["y"]; count := 1; count = 2; m := map[int]int{}; m[table["x"]] = 1; return len(table) + count }`,
		}, nil},
	}
}

func shapeProofs() []proof {
	long := func(head string, lines int) string {
		return head + strings.Repeat("\n", lines-strings.Count(head, "\n"))
	}
	const parts = "//\n// Promise: x.\n//\n// Limits: y.\n//\n// Invariants: z.\n"
	return []proof{
		{"no init", map[string]string{"internal/vault/v.go": "package vault\nfunc init() {}\nfunc init() {}"}, []string{"v.go:2", "v.go:3"}},
		{"no init", map[string]string{"internal/vault/v.go": "package vault\ntype x struct{}\nfunc (x) init() {}"}, nil},

		{"small interfaces", map[string]string{
			"internal/vault/v.go": "package vault\ntype Big interface { A(); B(); C(); D() }\ntype three interface { A(); B(); C() }\ntype sum interface { three; D() }\nvar x interface{ sum }",
		}, []string{"v.go:2", "v.go:4", "v.go:5"}},
		{"small interfaces", map[string]string{
			"internal/vault/v.go": "package vault\ntype three interface { A(); B(); C() }\ntype number interface { ~int | ~int8 | ~int16 | ~int32 | ~int64 }",
		}, nil},

		{"small files", map[string]string{"internal/vault/v.go": long("package vault", 601)}, []string{"v.go: has 601 lines"}},
		{"small files", map[string]string{
			"internal/vault/v.go": long("package vault", 600), "internal/web/page_templ.go": long("// Code generated by templ - DO NOT EDIT.\n\npackage web", 900),
			"internal/vault/v_test.go": long("package vault", 900),
		}, nil},

		{"package comment", map[string]string{
			"internal/vault/v.go": "// Keeps credentials.\npackage vault", "internal/store/s.go": "package store", "internal/bench/b.go": "package main\nfunc main() {}",
		}, []string{"internal/bench: has no", "internal/store: has no", "internal/vault: has no"}},
		{"package comment", map[string]string{
			"internal/vault/v.go": "package vault", "internal/vault/doc.go": "// Package vault keeps credentials.\n" + parts + "package vault",
			"cmd/signalbox/main.go": "// Signalbox lends credentials.\n" + parts + "package main\nfunc main() {}",
		}, nil},
		{"package comment", map[string]string{
			"internal/vault/v.go": "// Package vault keeps credentials.\n//\n// Promise: it does.\n//\n// No Limits: not at the start of a line.\npackage vault",
		}, []string{`internal/vault: the package comment lacks a paragraph that begins with "Limits:"`, `"Invariants:"`}},

		{"has tests", map[string]string{"internal/vault/v.go": "package vault", "internal/bench/b.go": "package bench"}, []string{"internal/vault: has no test"}},
		{"has tests", map[string]string{"internal/vault/v.go": "package vault", "internal/vault/v_test.go": "package vault"}, nil},
	}
}

// TestRulesCatch proves each rule on houses small enough to be read.
func TestRulesCatch(t *testing.T) {
	catches := map[string]bool{"links no test library": true, "bookkeeping is listed": true} // proved by tests of their own below
	for i, p := range proofs() {
		at := slices.IndexFunc(rules, func(r rule) bool { return r.name == p.rule })
		if at < 0 {
			t.Fatalf("there is no rule %q", p.rule)
		}
		t.Run(fmt.Sprintf("%s %d", p.rule, i), func(t *testing.T) {
			h := synthetic(t, p.files, p.rule == "loads" || p.rule == "no cgo")
			expect(t, rules[at].check(h), p.want)
		})
		catches[p.rule] = catches[p.rule] || len(p.want) > 0
	}
	for _, r := range rules {
		if !catches[r.name] {
			t.Errorf("no proof that the rule %q catches anything", r.name)
		}
	}
}

func TestRuleCatchesLinkedTestLibrary(t *testing.T) {
	h := synthetic(t, map[string]string{"cmd/signalbox/main.go": "package main\nfunc main() {}"}, false)
	h.rooms[0].deps = []string{"fmt", "internal/testlog", "net/http/httptest", "pgregory.net/rapid"}
	expect(t, linksNoTestLibrary(h), []string{"net/http/httptest", "pgregory.net/rapid"})
}

func TestRuleCatchesUnlistedBookkeeping(t *testing.T) {
	h := synthetic(t, map[string]string{
		"internal/store/s.go": fakeStore,
		"internal/identity/i.go": `package identity
			import ( "context"; "` + module + `/internal/store" )
			type Keys struct{ db *store.DB }
			func (k *Keys) flush(ctx context.Context) { k.db.Bookkeep(ctx, store.Touch, nil) }
			func sneak(ctx context.Context, db *store.DB, p store.Purpose) { write := db.Bookkeep; write(ctx, store.Touch, nil); db.Bookkeep(ctx, p, nil) }`,
	}, false)
	loose := []string{"passed on instead of called", "must be one of store's constants"}
	listed := bookkeeper{"internal/identity.(*Keys).flush", "touch", "last use of a key"}

	expect(t, bookkeepingAgainst(h, []bookkeeper{listed}), loose)
	expect(t, bookkeepingAgainst(h, nil), slices.Concat([]string{`internal/identity.(*Keys).flush writes without an audit event for the purpose "touch"`}, loose))
	stale := bookkeeper{"internal/identity.Gone", "touch", "?"}
	absent := bookkeeper{"internal/notify.Later", "outbox", "a package that does not exist yet"}
	expect(t, bookkeepingAgainst(h, []bookkeeper{listed, stale, absent}), slices.Concat(loose, []string{"internal/identity.Gone: the table"}))
	wrong := bookkeeper{listed.site, "outbox", "?"}
	expect(t, bookkeepingAgainst(h, []bookkeeper{wrong}), slices.Concat([]string{`for the purpose "touch"`}, loose, []string{`for the purpose "outbox"`}))
}

func expect(t *testing.T, got []finding, want []string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = strings.Contains(got[i].String(), want[i])
	}
	if !ok {
		t.Errorf("found %q\nwanted  %q", got, want)
	}
}

// synthetic builds a house from snippets: paths inside the module, with source. A snippet that does not compile fails the test unless
// broken is set, so that no proof rests on a name that means nothing.
func synthetic(t *testing.T, files map[string]string, broken bool) *house {
	t.Helper()
	packages, err := survey()
	if err != nil {
		t.Fatal(err)
	}
	var others []listed
	for _, p := range packages {
		if _, own := relative(p.ImportPath); !own {
			others = append(others, p)
		}
	}
	h := &house{fset: token.NewFileSet()}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		src := []byte(files[name])
		r := h.room(path.Dir(name))
		if r == nil {
			r = &room{path: path.Dir(name)}
			h.rooms = append(h.rooms, r)
		}
		switch {
		case strings.HasSuffix(name, "_test.go"):
			r.tests++
			var none []*file
			test := &room{}
			h.read(test, name, src, &none)
			r.testImports = append(r.testImports, test.imports...)
		case strings.HasSuffix(name, "_windows.go"):
			h.read(r, name, src, &r.foreign)
		default:
			h.read(r, name, src, &r.files)
		}
	}
	h.check(others, hollow)
	for _, r := range h.rooms {
		if r.problem != "" && !broken {
			t.Fatalf("the snippet of %s: %s", r.path, r.problem)
		}
	}
	return h
}

// hollow stands for a third-party package that a snippet imports for its path alone.
func hollow(importPath string) *types.Package {
	p := types.NewPackage(importPath, path.Base(importPath))
	p.MarkComplete()
	return p
}
