package ui

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
	"github.com/stretchr/testify/require"
)

func render(t *testing.T, c templ.Component) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, c.Render(t.Context(), &b))
	require.NotRegexp(t, ` style=| on[a-z]+=|<script|<style|hx-on`, b.String())
	return b.String()
}

func TestReaderWritesNumbersAndTimes(t *testing.T) {
	now := time.Date(2026, 11, 22, 14, 3, 0, 0, time.UTC)
	for accept, want := range map[string][2]string{
		"":                          {"1,234,567", "2026-11-22 14:03 UTC"},
		"en-US,en;q=0.9":            {"1,234,567", "Nov 22, 2026, 2:03 PM UTC"},
		"en-GB":                     {"1,234,567", "22 Nov 2026, 14:03 UTC"},
		"de-DE;q=0.9,en":            {"1.234.567", "22 Nov 2026, 14:03 UTC"},
		"de-CH":                     {"1’234’567", "22 Nov 2026, 14:03 UTC"},
		"de-AT":                     {"1\u00a0234\u00a0567", "22 Nov 2026, 14:03 UTC"},
		"en-IN":                     {"12,34,567", "22 Nov 2026, 14:03 UTC"},
		"fr":                        {"1\u00a0234\u00a0567", "22 Nov 2026, 14:03 UTC"},
		"no":                        {"1\u00a0234\u00a0567", "22 Nov 2026, 14:03 UTC"},
		"es-MX":                     {"1,234,567", "22 Nov 2026, 14:03 UTC"},
		"ar":                        {"1,234,567", "22 Nov 2026, 14:03 UTC"}, // the digits of the text around them
		"bn":                        {"12,34,567", "22 Nov 2026, 14:03 UTC"},
		"ja":                        {"1,234,567", "2026-11-22 14:03 UTC"},
		"sv-SE":                     {"1\u00a0234\u00a0567", "2026-11-22 14:03 UTC"},
		"x-y":                       {"1,234,567", "22 Nov 2026, 14:03 UTC"},
		strings.Repeat("de-", 9999): {"1,234,567", "2026-11-22 14:03 UTC"},
		"<script>;q=1, *":           {"1,234,567", "22 Nov 2026, 14:03 UTC"},
		strings.Repeat(",", 99):     {"1,234,567", "2026-11-22 14:03 UTC"},
	} {
		r := NewReader(accept, now)
		require.Equal(t, want[0], r.Number(1234567), accept)
		require.Equal(t, want[1], r.Clock(now), accept)
	}
	r := NewReader("", now)
	for n, want := range map[int64]string{0: "0", 999: "999", -1000: "-1,000", -999: "-999"} {
		require.Equal(t, want, r.Number(n))
	}
	for d, want := range map[time.Duration]string{
		0: "just now", -time.Second: "just now", time.Second: "just now", 10 * time.Second: "in less than a minute", -time.Minute: "1 minute ago", -47 * time.Hour: "47 hours ago", 49 * time.Hour: "in 2 days",
		-61 * 24 * time.Hour: "2 months ago", 3 * 365 * 24 * time.Hour: "in 3 years",
	} {
		require.Equal(t, want, r.Ago(now.Add(d)), d)
	}
	require.Equal(t, "1 key", r.Count(1, "key"))
	require.Equal(t, "2,000 keys", r.Count(2000, "key"))
}

// TestHostileTextIsText: what others wrote stays text wherever a component puts it.
func TestHostileTextIsText(t *testing.T) {
	evil := `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	r := NewReader("", time.Now())
	for name, c := range map[string]templ.Component{
		"input": Input(Field{Name: "a", Label: evil, Value: evil, Hint: evil, Error: evil}), "text": Input(Field{Name: "a", Rows: 2, Value: "</textarea>" + evil}),
		"select": Select(Choice{Name: "a", Label: evil, Options: []Option{{Value: evil, Label: evil}}}), "badge": Badge(Good, evil), "copy": Copy("a", evil),
		"list":  List(Table{ID: "a", Caption: evil, Pick: "f", Columns: []Column{{Label: evil}}, Rows: []Row{{ID: evil, Name: evil, Cells: []templ.Component{Text(evil)}}}}),
		"empty": List(Table{ID: "a", Empty: Empty{Text: evil, Label: evil, Href: "/a", Command: evil}}), "link": Link(evil, "javascript:alert(1)"),
		"confirm": Asking(Confirm{Lead: evil, Touches: []string{evil}, Action: "/a", Submit: evil, Back: "javascript:alert(1)", Type: evil}),
		"once":    ShowOnce(Once{ID: "a", Label: evil, Secret: evil, Lead: evil, Done: "/a"}), "chart": Timeline(r, evil, evil, []Point{{Label: evil, Value: 1}}),
	} {
		var b strings.Builder
		require.NoError(t, c.Render(t.Context(), &b), name)
		require.NotRegexp(t, `<script|<img|javascript:`, b.String(), name)
	}
}

// TestFieldsAreTiedToWhatIsSaidOfThem: a label, a hint and an error that exist, by id.
func TestFieldsAreTiedToWhatIsSaidOfThem(t *testing.T) {
	text := render(t, Fields([]Field{{Name: "slug", Label: "Slug", Hint: "h", Error: "e", MaxLength: 9, Focus: true}, {Name: "note", Label: "Note", Optional: true}}))
	require.Contains(t, text, `aria-describedby="slug-hint slug-error"`)
	require.Contains(t, text, `aria-invalid="true"`)
	require.Contains(t, text, ` required`)
	require.Contains(t, text, ` autofocus`)
	for _, m := range regexp.MustCompile(`(?:for|aria-describedby)="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		for _, id := range strings.Fields(m[1]) {
			require.Contains(t, text, `id="`+id+`"`)
		}
	}
	note := text[strings.Index(text, `name="note"`):]
	require.NotContains(t, note, " required")
}

func TestChartsKeepToTheirBox(t *testing.T) {
	r := NewReader("", time.Now())
	points := []Point{{"a", 0, Good}, {"b", 1, Good}, {"c", 1_000_000, Bad}}
	require.Equal(t, []int{0, 2, 58}, []int{high(points[0], points, 58), high(points[1], points, 58), high(points[2], points, 58)})
	require.Equal(t, "0,29 10,27 20,1", line(points))
	require.Contains(t, render(t, Timeline(r, "Requests", "requests", points)), "<td class=\"number\">1,000,000</td>")
	render(t, Timeline(r, "Nothing", "requests", nil))
	render(t, Sparkline(r, "Nothing", "requests", nil))
	for used, want := range map[int64]int64{0: 0, -5: 0, 1: 1, 50: 5, 1000: 100, 5000: 100} {
		require.Equal(t, want, share(used, 1000), used)
	}
	require.Zero(t, share(5, 0))
}
