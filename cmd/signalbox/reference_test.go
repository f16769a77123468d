package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// TestReferenceIsCurrent: the pages in the repository are what this program prints.
func TestReferenceIsCurrent(t *testing.T) {
	for _, page := range referencePages() {
		want, err := reference((&shell{}).root(), page)
		require.NoError(t, err, page.name)
		got, err := os.ReadFile("../../docs/reference/" + page.name + ".md")
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "docs/reference/%s.md is not current; mend it with: make generate", page.name)
	}
}

// TestReferenceIsWhole: nothing that the tables hold is missing from its page.
func TestReferenceIsWhole(t *testing.T) {
	root := (&shell{}).root()
	pages := map[string]string{}
	for _, page := range referencePages() {
		text, err := reference(root, page)
		require.NoError(t, err)
		pages[page.name] = string(text)
	}
	for _, a := range store.Actions() {
		require.Contains(t, pages["audit-actions"], "| `"+string(a.Action)+"` |")
	}
	for _, c := range fault.Codes() {
		require.Contains(t, pages["error-codes"], "| `"+c.Name+"` |")
	}
	for _, s := range app.Settings() {
		section := "\n## " + s.Name + "\n"
		require.Contains(t, pages["configuration"], section)
		_, body, _ := strings.Cut(pages["configuration"], section)
		body, _, _ = strings.Cut(body, "\n## ")
		require.Regexp(t, `Read by: \S`, body, "no command reads the setting %s", s.Name)
		for _, name := range s.Env {
			require.Contains(t, body, "`"+name+"`")
		}
	}
	for k := fault.Internal; k <= fault.Unavailable; k++ {
		require.Less(t, k.Exit(), len(exitMeanings()), "the exit code of %s is not explained", k)
	}
	require.Contains(t, pages["cli"], "## signalbox cred reveal\n")
	require.Contains(t, pages["api"], "| `POST /api/credentials/{id}/reveal` | Decrypt one secret field. | credentials:reveal |")
	require.NotContains(t, pages["cli"], "reference PAGE", "hidden commands stay hidden")
}
