package internal

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// use is one mention of a declared name in shipped code.
type use struct {
	file  *file
	ident *ast.Ident
	obj   types.Object
	name  string     // "os.Getenv", "(*net.Dialer).Dial", "net/http.Client"
	site  string     // the function around it: "internal/store.(*DB).Close"; "internal/store" outside functions
	above []ast.Node // the nodes around it, the nearest last
}

// parent returns the n-th node above the mention, counting a selector pkg.Name as part of it.
func (u use) parent(n int) ast.Node {
	i := len(u.above) - 1
	if i >= 0 {
		if sel, ok := u.above[i].(*ast.SelectorExpr); ok && sel.Sel == u.ident {
			i--
		}
	}
	if i-n < 0 {
		return nil
	}
	return u.above[i-n]
}

// each visits every mention in the room.
func (r *room) each(visit func(use)) {
	for _, f := range r.all() {
		for _, decl := range f.ast.Decls {
			site := r.path
			if fn, ok := decl.(*ast.FuncDecl); ok {
				site += "." + funcName(fn)
			}
			var above []ast.Node
			ast.Inspect(decl, func(n ast.Node) bool {
				if n == nil {
					above = above[:len(above)-1]
					return true
				}
				if ident, ok := n.(*ast.Ident); ok {
					if obj := f.info.Uses[ident]; obj != nil {
						visit(use{file: f, ident: ident, obj: obj, name: qualified(obj), site: site, above: above})
					}
				}
				above = append(above, n)
				return true
			})
		}
	}
}

// funcName names a function as the tables do: "Open", "(*DB).Close".
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	recv, star := fn.Recv.List[0].Type, ""
	if s, ok := recv.(*ast.StarExpr); ok {
		recv, star = s.X, "*"
	}
	switch x := recv.(type) { // a generic type's parameters are left out
	case *ast.IndexExpr:
		recv = x.X
	case *ast.IndexListExpr:
		recv = x.X
	}
	name := types.ExprString(recv)
	return "(" + star + name + ")." + fn.Name.Name
}

// qualified names an object with its import path.
func qualified(obj types.Object) string {
	if fn, ok := obj.(*types.Func); ok {
		return fn.FullName()
	}
	if obj.Pkg() == nil {
		return obj.Name() // a built-in
	}
	if v, ok := obj.(*types.Var); ok && v.IsField() {
		return "field " + obj.Name() // http.Request.PostForm is not http.PostForm
	}
	return obj.Pkg().Path() + "." + obj.Name()
}

var environmentReaders = []string{
	"os.Getenv", "os.LookupEnv", "os.Environ", "os.ExpandEnv", "os.Setenv", "os.Unsetenv", "os.Clearenv",
	"os.UserHomeDir", "os.UserConfigDir", "os.UserCacheDir", "(*os/exec.Cmd).Environ", "net/http.ProxyFromEnvironment",
	"syscall.Getenv", "syscall.Environ", "syscall.Setenv", "syscall.Unsetenv", "syscall.Clearenv",
	"golang.org/x/sys/unix.Getenv", "golang.org/x/sys/unix.Environ", "golang.org/x/sys/windows.Getenv", "golang.org/x/sys/windows.Environ",
}

func onlyAppReadsEnvironment(h *house) (out []finding) {
	for _, r := range h.shipped() {
		if _, ok := environmentHomes[r.path]; ok {
			continue
		}
		r.each(func(u use) {
			if slices.Contains(environmentReaders, u.name) {
				out = append(out, found(h.at(u.ident), "%s reads or changes the environment; only internal/app may, and hands the value over", u.name))
			}
		})
	}
	return out
}

// dialTypes open connections when a value of them is made; a pointer to one that somebody else made is no breach.
var dialTypes = []string{"net/http.Client", "net/http.Transport", "net.Dialer", "net.Resolver", "crypto/tls.Dialer", "net/http/httputil.ReverseProxy"}

var dialNames = []string{
	"net/http.Get", "net/http.Head", "net/http.Post", "net/http.PostForm", "net/http.DefaultClient", "net/http.DefaultTransport",
	"net/http/httputil.NewSingleHostReverseProxy", "net.DefaultResolver", "net/smtp.SendMail", "log/syslog.New", "log/syslog.NewLogger",
	"syscall.Connect", "golang.org/x/sys/unix.Connect", "golang.org/x/net/websocket.NewClient",
}

// dials reports whether a mention opens a connection, resolves a host name or makes something that will.
func dials(u use) bool {
	if slices.Contains(dialNames, u.name) {
		return true
	}
	if slices.Contains(dialTypes, u.name) {
		_, pointer := u.parent(0).(*ast.StarExpr)
		return !pointer
	}
	fn, ok := u.obj.(*types.Func)
	if !ok || fn.Pkg() == nil {
		return false
	}
	if _, own := relative(fn.Pkg().Path()); own {
		return false
	}
	return strings.HasPrefix(fn.Name(), "Dial") || fn.Pkg().Path() == "net" && strings.HasPrefix(fn.Name(), "Lookup")
}

func onlyOutboundDials(h *house) (out []finding) {
	for _, r := range h.shipped() {
		allowed, home := dialHomes[r.path]
		if home && allowed.only == nil {
			continue
		}
		r.each(func(u use) {
			if dials(u) && !slices.Contains(allowed.only, u.name) {
				out = append(out, found(h.at(u.ident), "%s opens or prepares a connection; only internal/outbound may: take its client or transport", u.name))
			}
		})
	}
	return out
}

// bookkeepingIsListed holds the table against the calls, both ways.
func bookkeepingIsListed(h *house) []finding { return bookkeepingAgainst(h, bookkeeping) }

func bookkeepingAgainst(h *house, table []bookkeeper) (out []finding) {
	seen := map[bookkeeper]bool{}
	for _, r := range h.shipped() {
		r.each(func(u use) {
			if u.name != "(*"+module+"/internal/store.DB).Bookkeep" {
				return
			}
			call, ok := u.parent(0).(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				out = append(out, found(h.at(u.ident), "Bookkeep is passed on instead of called; the house test cannot follow that"))
				return
			}
			value := u.file.info.Types[call.Args[1]].Value
			if value == nil || value.Kind() != constant.String {
				out = append(out, found(h.at(u.ident), "the purpose of Bookkeep must be one of store's constants"))
				return
			}
			purpose := constant.StringVal(value)
			seen[bookkeeper{site: u.site, purpose: purpose}] = true
			if !slices.ContainsFunc(table, func(b bookkeeper) bool { return b.site == u.site && b.purpose == purpose }) {
				out = append(out, found(h.at(u.ident), "%s writes without an audit event for the purpose %q, which the table bookkeeping in internal/house_test.go does not list", u.site, purpose))
			}
		})
	}
	for _, b := range table {
		if b.why == "" {
			out = append(out, found(b.site, "the table bookkeeping does not say why"))
		}
		home, _, _ := strings.Cut(b.site, ".")
		if h.room(home) != nil && !seen[bookkeeper{site: b.site, purpose: b.purpose}] {
			out = append(out, found(b.site, "the table bookkeeping lists it for the purpose %q, but it makes no such call; remove the line", b.purpose))
		}
	}
	return out
}

func revealersAreListed(h *house) (out []finding) {
	value := "(" + module + "/internal/secret.Value)."
	for _, r := range h.shipped() {
		if _, ok := revealers[r.path]; ok {
			continue
		}
		r.each(func(u use) {
			if u.name == value+"Reveal" || u.name == value+"Bytes" {
				out = append(out, found(h.at(u.ident), "%s takes a secret out of its secret.Value, and the table revealers in internal/house_test.go does not list %s", u.site, r.path))
			}
		})
	}
	return out
}

// noPanic allows one use: net/http has no other way to abort a reply that broke (of an upstream, or an export), so that the client does not
// take it for complete.
func noPanic(h *house) (out []finding) {
	for _, r := range h.shipped() {
		r.each(func(u use) {
			builtin, ok := u.obj.(*types.Builtin)
			if !ok || builtin.Name() != "panic" {
				return
			}
			if call, ok := u.parent(0).(*ast.CallExpr); ok && (r.path == "internal/broker" || r.path == "internal/api" || r.path == "internal/web") && len(call.Args) == 1 {
				if sel, ok := call.Args[0].(*ast.SelectorExpr); ok && u.file.info.Uses[sel.Sel] != nil && qualified(u.file.info.Uses[sel.Sel]) == "net/http.ErrAbortHandler" {
					return
				}
			}
			out = append(out, found(h.at(u.ident), "panics; return an error"))
		})
	}
	return out
}

var exits = []string{
	"os.Exit", "syscall.Exit", "golang.org/x/sys/unix.Exit", "golang.org/x/sys/windows.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic",
	"log.Panicf", "log.Panicln", "(*log.Logger).Fatal", "(*log.Logger).Fatalf", "(*log.Logger).Fatalln", "(*log.Logger).Panic",
	"(*log.Logger).Panicf", "(*log.Logger).Panicln",
}

func exitsInMainOnly(h *house) (out []finding) {
	for _, r := range h.shipped() {
		r.each(func(u use) {
			if slices.Contains(exits, u.name) && u.file.name != "cmd/signalbox/main.go" {
				out = append(out, found(h.at(u.ident), "%s ends the process; return an error to cmd/signalbox/main.go", u.name))
			}
		})
	}
	return out
}

// noPackageState: a package-level variable is set where it is declared and never again, and it is no lock or counter.
func noPackageState(h *house) (out []finding) {
	for _, r := range h.shipped() {
		r.each(func(u use) {
			v, ok := u.obj.(*types.Var)
			if !ok || !packageLevel(v) || !written(u) {
				return
			}
			if _, ok := stateWrites[r.path+": "+u.name]; !ok {
				out = append(out, found(h.at(u.ident), "changes the package-level variable %s; keep state in a value that its constructor returns", u.name))
			}
		})
		for _, f := range r.all() {
			for _, decl := range f.ast.Decls {
				ast.Inspect(decl, func(n ast.Node) bool {
					if _, inside := n.(*ast.FuncDecl); inside {
						return false
					}
					ident, ok := n.(*ast.Ident)
					if !ok {
						return true
					}
					v, ok := f.info.Defs[ident].(*types.Var)
					if ok && packageLevel(v) && synchronised(v.Type()) {
						out = append(out, found(h.at(ident), "the package-level variable %s is shared state; keep it in a value that its constructor returns", v.Name()))
					}
					return true
				})
			}
		}
	}
	return out
}

func packageLevel(v *types.Var) bool {
	return !v.IsField() && v.Pkg() != nil && v.Parent() == v.Pkg().Scope()
}

// synchronised reports whether t exists only to be changed by several goroutines. A sync.Pool is spared: it holds nothing that matters.
func synchronised(t types.Type) bool {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	named, ok := t.(*types.Named)
	if !ok || named.Obj().Pkg() == nil {
		return false
	}
	switch named.Obj().Pkg().Path() {
	case "sync":
		return named.Obj().Name() != "Pool"
	case "sync/atomic":
		return true
	}
	return false
}

// written reports whether the mention is the root of something that is assigned to, counted up or down, deleted from or cleared.
func written(u use) bool {
	var child ast.Node = u.ident
	for i := len(u.above) - 1; i >= 0; i-- {
		switch n := u.above[i].(type) {
		case *ast.SelectorExpr:
			if n.Sel == child && n.Sel != u.ident {
				return false
			}
		case *ast.IndexExpr:
			if n.X != child {
				return false
			}
		case *ast.StarExpr, *ast.ParenExpr:
		case *ast.AssignStmt:
			return n.Tok != token.DEFINE && slices.ContainsFunc(n.Lhs, func(e ast.Expr) bool { return e == child })
		case *ast.RangeStmt:
			return n.Tok == token.ASSIGN && (n.Key == child || n.Value == child)
		case *ast.IncDecStmt:
			return true
		case *ast.CallExpr:
			fn, ok := n.Fun.(*ast.Ident)
			if !ok || len(n.Args) == 0 || n.Args[0] != child {
				return false
			}
			b, ok := u.file.info.Uses[fn].(*types.Builtin)
			return ok && (b.Name() == "delete" || b.Name() == "clear")
		default:
			return false
		}
		child = u.above[i]
	}
	return false
}
