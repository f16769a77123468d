package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// TestLinks: every relative link of every page leads to a file, and its anchor to a heading.
func TestLinks(t *testing.T) {
	pages := markdown(t)
	if len(pages) < 40 {
		t.Fatalf("found only %d pages", len(pages))
	}
	anchors := map[string][]string{}
	for path, text := range pages {
		anchors[path] = headings(text)
	}
	for path, text := range pages {
		for _, link := range links(text) {
			if err := follow(path, link, anchors); err != nil {
				t.Errorf("%s: the link %q %v", path, link, err)
			}
		}
	}
}

// markdown returns every page of the repository by its path from the root.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		rel, _ := filepath.Rel("..", path) // below it by construction
		pages[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

var (
	fenced   = regexp.MustCompile("(?ms)^```.*?^```$")
	spanned  = regexp.MustCompile("`[^`\n]*`")
	linked   = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:srcset|src|href)="([^"]+)"`)
	headed   = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// links returns the targets of a page's links, code left out.
func links(text string) (out []string) {
	text = spanned.ReplaceAllString(fenced.ReplaceAllString(text, ""), "")
	for _, m := range linked.FindAllStringSubmatch(text, -1) {
		out = append(out, m[1]+m[2])
	}
	return out
}

// headings returns the anchors that GitHub gives to a page's headings: lower case, spaces as hyphens, other punctuation dropped, a number
// behind one that was there before.
func headings(text string) (out []string) {
	seen := map[string]int{}
	for _, m := range headed.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		title := linkText.ReplaceAllString(m[1], "$1")
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		n := seen[name]
		seen[name]++
		if n > 0 {
			name += "-" + strconv.Itoa(n)
		}
		out = append(out, name)
	}
	return out
}

// follow returns why a link of a page leads nowhere. Links to other hosts are not tried.
func follow(page, link string, anchors map[string][]string) error {
	u, err := url.Parse(link)
	if err != nil {
		return err
	}
	if u.Scheme != "" {
		return nil
	}
	if strings.HasPrefix(u.Path, "/") {
		return fmt.Errorf("is absolute; give it relative to the page")
	}
	target := page
	if u.Path != "" {
		target = filepath.ToSlash(filepath.Join(filepath.Dir(page), u.Path))
		if _, err := os.Stat(filepath.Join("..", target)); err != nil {
			return fmt.Errorf("leads to %s, which is not there", target)
		}
	}
	if u.Fragment != "" && !slices.Contains(anchors[target], u.Fragment) {
		return fmt.Errorf("leads to a heading that %s does not have", target)
	}
	return nil
}

func TestFollow(t *testing.T) {
	anchors := map[string][]string{"README.md": headings("# One `two`\n\n## 1. Start, here\n## [A](b) c\n```sh\n# no heading\n```\n## A c\n")}
	if got := strings.Join(anchors["README.md"], " "); got != "one-two 1-start-here a-c a-c-1" {
		t.Errorf("anchors: %s", got)
	}
	for link, ok := range map[string]bool{
		"#one-two": true, "#no-heading": false, "AGENTS.md": true, "docs/design": true, "docs/nowhere.md": false, "/AGENTS.md": false, "https://example.com/x": true,
	} {
		if err := follow("README.md", link, anchors); (err == nil) != ok {
			t.Errorf("%s: %v", link, err)
		}
	}
	if got := links("[a](b.md) `[c](d.md)` ![e](f.svg \"g\")\n```\n[h](i)\n```\n<img src=\"j.svg\">"); strings.Join(got, " ") != "b.md j.svg" {
		t.Errorf("links: %v", got)
	}
}

// refusals are the files whose texts an agent's terminal can show.
func refusals() []string {
	return []string{
		"broker/broker.go", "broker/body.go", "broker/forward.go", "broker/mcp.go", "broker/mcpanswer.go", "broker/mcpmessage.go", "broker/mcptools.go", "broker/objects.go", "broker/objectlist.go", "broker/request.go", "broker/scan.go", "broker/use.go", "broker/usepath.go", "broker/websocket.go", "identity/authenticate.go",
		"mcp/lend.go", "mcp/token.go", "oauth/waits.go", "store/event.go", "store/feed.go", "store/store.go", "train/apply.go", "train/keyless.go", "train/lend.go", "train/limits.go", "train/objects.go", "train/refresh.go", "train/use.go", "train/watch.go",
	}
}

// TestTroubleshootingIsWhole: every sentence with which the LLM proxy refuses, or the database at the start, is in docs/guide/troubleshooting.md, up to its first full
// stop, semicolon or to the first thing that is filled in.
func TestTroubleshootingIsWhole(t *testing.T) {
	page, err := os.ReadFile("../docs/guide/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range refusals() {
		tree, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sentences(tree) {
			if strings.Contains(s, "personal access token") || strings.HasPrefix(s, "This token") || strings.HasPrefix(s, "The person whose token") || strings.HasPrefix(s, "This is a client key") {
				continue // said to the REST API alone
			}
			found++
			if !strings.Contains(string(page), s) {
				t.Errorf("internal/%s refuses with %q, and docs/guide/troubleshooting.md does not explain it", name, s)
			}
		}
	}
	if found < 30 {
		t.Errorf("found only %d texts; the test looks at the wrong places", found)
	}
}

// sentences returns the beginnings of texts that a function of the file tells somebody: literals that begin with a capital letter and
// have several words. Where more is added to a text, its first literal counts.
func sentences(tree *ast.File) (out []string) {
	inner := map[ast.Expr]bool{}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if n.Op == token.ADD {
				inner[n.Y] = true // goes on what stands before it
			}
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			if err != nil || n.Kind != token.STRING || inner[n] || strings.Count(text, " ") < 2 || !unicode.IsUpper(rune(text[0])) {
				return true
			}
			text, _, _ = strings.Cut(text, ". ")
			text, _, _ = strings.Cut(text, "; ")
			text, _, _ = strings.Cut(text, "%")
			text = strings.TrimRight(text, " .")
			if strings.ToUpper(text) != text && !strings.HasPrefix(text, "SELECT") && !strings.HasPrefix(text, "INSERT") && !strings.HasPrefix(text, "UPDATE") && !strings.HasPrefix(text, "DELETE") {
				out = append(out, text)
			}
		}
		return true
	})
	return out
}
