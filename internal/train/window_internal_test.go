package train

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// headers makes a header of "name: value" lines.
func headers(lines ...string) http.Header {
	h := http.Header{}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		h.Add("anthropic-ratelimit-"+name, value)
	}
	return h
}

func unix(d time.Duration) string { return fmt.Sprint(noon.Add(d).Unix()) }

// TestReadWindows: what upstreams are known to send, and what one may send that means harm.
func TestReadWindows(t *testing.T) {
	short := func(used int, status string, reset time.Duration) Window {
		return Window{Name: "5h", Used: used, Status: status, Reset: noon.Add(reset), Heard: noon}
	}
	for name, c := range map[string]struct {
		status int
		model  string
		in     http.Header
		want   []Window
		spent  Spent
	}{
		"a subscription": {200, "", headers("unified-status: allowed", "unified-5h-status: allowed", "unified-5h-reset: "+unix(time.Hour), "unified-5h-utilization: 0.11",
			"unified-7d-status: allowed_warning", "unified-7d-reset: "+unix(48*time.Hour), "unified-7d-utilization: 0.8", "unified-7d_oi-status: allowed", "unified-7d_oi-reset: "+unix(48*time.Hour),
			"unified-7d_oi-utilization: 0.0", "unified-representative-claim: five_hour", "unified-reset: "+unix(time.Hour), "unified-fallback-percentage: 0.5", "unified-overage-status: rejected",
			"unified-overage-disabled-reason: org_level_disabled", "unified-7d_oi-surpassed-threshold: 1.0"),
			[]Window{short(1100, "allowed", time.Hour), {Name: "7d", Used: 8000, Status: "allowed_warning", Reset: noon.Add(48 * time.Hour), Heard: noon},
				{Name: "7d_oi", Status: "allowed", Reset: noon.Add(48 * time.Hour), Heard: noon}}, Spent{}},
		"an API key": {200, "", headers("requests-limit: 1000", "requests-remaining: 999", "requests-reset: 2026-11-23T12:00:01Z", "input-tokens-limit: 80000", "input-tokens-remaining: 20000",
			"input-tokens-reset: 2026-11-23T12:00:30Z"),
			[]Window{{Name: "input-tokens", Used: 7500, Reset: noon.Add(30 * time.Second), Heard: noon}, {Name: "requests", Used: 10, Reset: noon.Add(time.Second), Heard: noon}}, Spent{}},
		"the five hours are used up": {429, "m", headers("unified-status: rejected", "unified-5h-status: rejected", "unified-5h-reset: "+unix(time.Hour), "unified-5h-utilization: 1.0", "unified-7d-status: allowed",
			"unified-7d-utilization: 0.4", "unified-7d-reset: "+unix(time.Hour)),
			[]Window{{Name: "5h", Used: whole, Status: "rejected", Reset: noon.Add(time.Hour), Heard: noon, Refused: true}, {Name: "7d", Used: 4000, Status: "allowed", Reset: noon.Add(time.Hour), Heard: noon}},
			Spent{Window: "5h", For: time.Hour}},
		"both are used up": {429, "", headers("unified-5h-status: rejected", "unified-5h-reset: "+unix(time.Hour), "unified-7d-status: rejected", "unified-7d-reset: "+unix(50*time.Hour)),
			[]Window{{Name: "5h", Used: whole, Status: "rejected", Reset: noon.Add(time.Hour), Heard: noon, Refused: true}, {Name: "7d", Used: whole, Status: "rejected", Reset: noon.Add(50 * time.Hour), Heard: noon, Refused: true}},
			Spent{Window: "7d", For: 50 * time.Hour}},
		"only the model's is": {429, "claude-sonnet-5", headers("unified-status: rejected", "unified-5h-status: allowed", "unified-7d_sonnet-status: rejected", "unified-7d_sonnet-reset: "+unix(time.Hour)),
			[]Window{{Name: "7d_sonnet", Used: whole, Status: "rejected", Reset: noon.Add(time.Hour), Heard: noon, Refused: true, Model: "claude-sonnet-5"}}, Spent{Model: true}},
		"the claim alone names it": {429, "", headers("unified-status: rejected", "unified-representative-claim: seven_day", "unified-reset: "+unix(9*time.Hour)),
			[]Window{{Name: "7d", Used: whole, Status: "rejected", Reset: noon.Add(9 * time.Hour), Heard: noon, Refused: true}}, Spent{Window: "7d", For: 9 * time.Hour}},
		"served beyond the plan": {200, "", headers("unified-status: rejected", "unified-5h-status: rejected", "unified-5h-utilization: 1.02", "unified-5h-reset: "+unix(time.Hour)),
			[]Window{short(10_200, "rejected", time.Hour)}, Spent{}},
		"a burst": {429, "", headers("unified-status: allowed", "unified-5h-status: allowed", "unified-5h-utilization: 0.2", "unified-5h-reset: "+unix(time.Hour)), []Window{short(2000, "allowed", time.Hour)}, Spent{}},
		"a burst beyond the plan": {429, "", headers("unified-status: allowed", "unified-7d-status: rejected", "unified-7d-reset: "+unix(50*time.Hour)),
			[]Window{{Name: "7d", Used: whole, Status: "rejected", Reset: noon.Add(50 * time.Hour), Heard: noon}}, Spent{}},
		"another model's beside the account's": {429, "claude-sonnet-5", headers("unified-status: rejected", "unified-representative-claim: five_hour", "unified-5h-status: rejected", "unified-5h-reset: "+unix(time.Hour), "unified-7d_opus-status: rejected",
			"unified-7d_opus-reset: "+unix(50*time.Hour)),
			[]Window{{Name: "5h", Used: whole, Status: "rejected", Reset: noon.Add(time.Hour), Heard: noon, Refused: true}, {Name: "7d_opus", Used: whole, Status: "rejected", Reset: noon.Add(50 * time.Hour), Heard: noon}},
			Spent{Window: "5h", For: time.Hour}},
		"a model's that has begun anew": {429, "claude-sonnet-5", headers("unified-status: rejected", "unified-7d_sonnet-status: rejected", "unified-7d_sonnet-reset: "+unix(-time.Hour)),
			[]Window{{Name: "7d_sonnet", Used: whole, Status: "rejected", Reset: noon.Add(-time.Hour), Heard: noon, Refused: true, Model: "claude-sonnet-5"}}, Spent{}},
		"a refusal of no window":     {429, "", headers("unified-status: rejected", "unified-representative-claim: overage", "unified-reset: "+unix(29*24*time.Hour)), nil, Spent{}},
		"a reset that has passed":    {200, "", headers("unified-5h-utilization: 0.5", "unified-5h-reset: "+unix(-time.Second)), []Window{short(5000, "", -time.Second)}, Spent{}},
		"a reset far off":            {200, "", headers("unified-5h-utilization: 0.5", "unified-5h-reset: 99999999999"), []Window{{Name: "5h", Used: 5000, Heard: noon}}, Spent{}},
		"a reset that is none":       {200, "", headers("unified-5h-utilization: 0.5", "unified-5h-reset: tomorrow"), []Window{{Name: "5h", Used: 5000, Heard: noon}}, Spent{}},
		"not a number":               {200, "", headers("unified-5h-utilization: NaN", "unified-7d-utilization: -0.1"), nil, Spent{}},
		"too large":                  {200, "", headers("unified-5h-utilization: 42", "unified-7d-utilization: +Inf", "unified-7d_opus-utilization: 1e308"), nil, Spent{}},
		"a limit of nothing":         {200, "", headers("requests-limit: 0", "requests-remaining: 0", "tokens-limit: -5", "tokens-remaining: 5", "input-tokens-remaining: 5"), nil, Spent{}},
		"more left than there is":    {200, "", headers("requests-limit: 5", "requests-remaining: 50"), []Window{{Name: "requests", Heard: noon}}, Spent{}},
		"names that no window has":   {429, "", headers("unified-99999999d-status: rejected", "unified-5y-status: rejected", "unified-5h_-status: rejected", "unified-h-status: rejected", "unified-7d_"+strings.Repeat("a", 17)+"-status: rejected", "unified-7d_a.b-status: rejected"), nil, Spent{}},
		"said twice":                 {200, "", headers("unified-5h-utilization: 0.1", "unified-5h-utilization: 0.9"), nil, Spent{}},
		"a status that nobody knows": {200, "", headers("unified-5h-utilization: 0.1", "unified-5h-status: fine"), []Window{{Name: "5h", Used: 1000, Heard: noon}}, Spent{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := readWindows(c.in, c.status, c.model, noon)
			require.Equal(t, c.spent, spent(got, c.model, noon))
			got = append([]Window{}, got...)
			sortWindows(got)
			require.Equal(t, append([]Window{}, c.want...), got)
		})
	}
}

// TestWindowsOfModels: a window of one model's counts for that model, and for the model that was refused for it.
func TestWindowsOfModels(t *testing.T) {
	for _, c := range []struct {
		window, refused, model string
		counts                 bool
	}{
		{"5h", "", "", true}, {"7d", "", "claude-opus-5", true}, {"requests", "", "x", true}, {"7d_sonnet", "", "claude-sonnet-5-5", true}, {"7d_sonnet", "", "claude-opus-5", false},
		{"7d_sonnet", "", "", false}, {"7d_oi", "", "claude-fable-5", true}, {"7d_oi", "", "claude-opus-5", false}, {"7d_oi", "claude-mythos-1", "claude-mythos-1", true}, {"7d_new", "", "claude-opus-5", false},
	} {
		require.Equal(t, c.counts, (&Window{Name: c.window, Model: c.refused}).counts(c.model), "%+v", c)
	}
	for name, limit := range map[string]int{"5h": shortLimit, "1h": shortLimit, "tokens": shortLimit, "7d": longLimit, "7d_opus": longLimit, "5h_opus": longLimit, "30d": longLimit} {
		require.Equal(t, limit, (&Window{Name: name}).Limit(), name)
	}
}

// TestWindowsAreForgotten: at their reset, and where none was told after a while; what one answer does not name stays.
func TestWindowsAreForgotten(t *testing.T) {
	g, at := new(gauge), noon
	say := func(lines ...string) { g.hear(1, readWindows(headers(lines...), 200, "", at), at) }
	names := func() (out []string) {
		for _, w := range known(g, 1) {
			if !w.ended(at) {
				out = append(out, fmt.Sprintf("%s=%d", w.Name, w.Used))
			}
		}
		return out
	}
	say("unified-5h-utilization: 0.5", "unified-5h-reset: "+unix(time.Hour), "unified-7d-utilization: 0.25")
	say("tokens-limit: 100", "tokens-remaining: 10", "tokens-reset: "+unix(time.Minute), "requests-limit: 10", "requests-remaining: 0")
	require.Equal(t, []string{"requests=10000", "tokens=9000", "5h=5000", "7d=2500"}, names())
	at = noon.Add(time.Minute)
	require.Equal(t, []string{"requests=10000", "5h=5000", "7d=2500"}, names())
	at = noon.Add(fadeShort)
	require.Equal(t, []string{"5h=5000", "7d=2500"}, names())
	at = noon.Add(time.Hour)
	require.Empty(t, names())
	say("unified-5h-utilization: 0.01", "unified-5h-reset: "+unix(6*time.Hour))
	require.Equal(t, []string{"5h=100"}, names())
	say("unified-5h-utilization: 0.9", "unified-5h-reset: "+unix(time.Minute)) // a clock that is wrong: unknown, not the last that was known
	require.Empty(t, names())

	// Another secret may be another account's, and an answer to the last one comes late.
	say("unified-5h-utilization: 0.9", "unified-5h-reset: "+unix(3*time.Hour))
	require.Empty(t, known(g, 2))
	g.hear(2, readWindows(headers("unified-7d-utilization: 0.1"), 200, "", at), at)
	say("unified-5h-utilization: 0.9", "unified-5h-reset: "+unix(3*time.Hour))
	require.Len(t, known(g, 2), 1)
	require.Empty(t, known(g, 1))
}

// FuzzReadWindows: whatever an upstream says, what is kept is bounded, believable and of the account.
func FuzzReadWindows(f *testing.F) {
	f.Add("Unified-5h-Utilization", "0.5", "Unified-5h-Reset", "1795437600", "Unified-Status", "rejected", 429)
	f.Add("Requests-Limit", "1000", "Requests-Remaining", "1", "Requests-Reset", "2026-11-23T12:00:30Z", 200)
	f.Add("Unified-7d_oi-Status", "rejected", "Unified-Representative-Claim", "seven_day_overage_included", "Unified-Reset", "1e9", 429)
	f.Add("Unified-255d-Utilization", "NaN", "Unified--Utilization", "0x1p-2", "Unified-0h-Status", "rejected", 529)
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2, n3, v3 string, status int) {
		h := http.Header{}
		for name, value := range map[string]string{n1: v1, n2: v2, n3: v3} {
			h.Set(limitPrefix+name, value)
		}
		g := new(gauge)
		for i := range 3 {
			at := noon.Add(time.Duration(i) * time.Hour)
			got := readWindows(h, status, n3, at)
			g.hear(1, got, at)
			s := spent(got, n3, at)
			if s.For < 0 || s.For > 2*255*24*time.Hour || s.Model && s.Window != "" || status != 429 && !s.burst() {
				t.Fatalf("spent %+v", s)
			}
			for _, w := range known(g, 1) {
				long, _, ok := span(w.Name)
				if !ok || w.Used < 0 || w.Used > mostUsed || len(w.Model) > 64 || w.ended(at) || w.Reset.After(at.Add(max(2*long, time.Hour))) {
					t.Fatalf("kept %+v", w)
				}
				if until := w.refuses(at); until.After(w.Heard.Add(probeEvery)) {
					t.Fatalf("refuses until %s", until)
				}
			}
			if len(known(g, 1)) > maxWindows+maxRare {
				t.Fatalf("%d windows are kept", len(known(g, 1)))
			}
			a := &account{gauge: g}
			a.Version = 1
			if f := a.fill(n3, at); f.used < 0 || f.used > mostUsed || !f.known && f.used != unknownUsed {
				t.Fatalf("fill %+v", f)
			}
		}
	})
}

// TestHostileUpstreamIsBounded: an upstream that names a new window with each answer is remembered for few.
func TestHostileUpstreamIsBounded(t *testing.T) {
	g := new(gauge)
	for i := range 500 {
		lines := []string{"unified-5h-utilization: 0.1", "unified-7d-utilization: 0.2", "tokens-limit: 5", "tokens-remaining: 5"}
		for j := range 100 {
			lines = append(lines, fmt.Sprintf("unified-7d_m%dx%d-utilization: 0.3", i, j))
		}
		at := noon.Add(time.Duration(i) * time.Second)
		g.hear(1, readWindows(headers(lines...), 200, "", at), at)
		require.LessOrEqual(t, len(known(g, 1)), maxRare+3)
	}
}

func known(g *gauge, version int64) []Window {
	windows, _ := g.read(version)
	return windows
}
