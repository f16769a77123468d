package signalboxtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/signalboxtest"
)

// scraped is one scrape, read by hand: the point is what the text says.
type scraped struct {
	text   string
	help   map[string]string
	kind   map[string]string
	labels map[string]map[string]bool // by the metric's name
	values map[string]float64         // by the whole series, labels in the order of the alphabet
}

var (
	metricLine  = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? (\S+)$`)
	metricLabel = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\["\\n])*)"`)
)

func scrape(t *testing.T, box *signalboxtest.Box) scraped {
	t.Helper()
	resp, err := http.Get(box.URL + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, string(b))
	box.Planted.Absent(t, "a scrape", b)
	s := scraped{text: string(b), help: map[string]string{}, kind: map[string]string{}, labels: map[string]map[string]bool{}, values: map[string]float64{}}
	for line := range strings.Lines(s.text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(rest, " ")
			s.help[name] = help
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			s.kind[name] = kind
			continue
		}
		m := metricLine.FindStringSubmatch(line)
		require.NotNil(t, m, "no sample: %q", line)
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); base != name && (s.kind[base] == "histogram" || s.kind[base] == "summary") {
				name = base
			}
		}
		require.Contains(t, s.kind, name, "a sample without a type")
		if s.labels[name] == nil {
			s.labels[name] = map[string]bool{}
		}
		for _, l := range metricLabel.FindAllStringSubmatch(m[2], -1) {
			s.labels[name][l[1]] = true
		}
		v, err := strconv.ParseFloat(m[3], 64)
		require.NoError(t, err, line)
		series := strings.TrimSuffix(line, " "+m[3])
		require.NotContains(t, s.values, series, "a series twice")
		s.values[series] = v
	}
	return s
}

func (s scraped) require(t *testing.T, want float64, series string) {
	t.Helper()
	got, ok := s.values[series]
	require.True(t, ok, "no series %s in:\n%s", series, s.of(series))
	require.Equal(t, want, got, series)
}

// of is what there is of the metric of a series.
func (s scraped) of(series string) string {
	name, _, _ := strings.Cut(series, "{")
	var out []string
	for line := range strings.Lines(s.text) {
		if strings.HasPrefix(line, name) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// TestMetricsOfAUsedBox: after some use a scrape holds every metric of the table with its help, type and labels, nothing else, the right
// counts, and no secret; what is deleted disappears.
func TestMetricsOfAUsedBox(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		ctx := context.Background()
		lane := box.LaneOf(t, "", 2)
		send := func(change func(*http.Request)) int {
			req := lane.Request(ctx, []byte(`{"model":"claude-x","max_tokens":20,"messages":[{"role":"user","content":"hi"}]}`))
			if change != nil {
				change(req)
			}
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			return resp.StatusCode
		}
		require.Equal(t, 200, send(nil))
		require.Equal(t, 200, send(nil))
		box.Upstream.SetKeyBehaviour(lane.Accounts[0].Secret, demo.Always(demo.Behaviour{Status: 529}))
		require.Equal(t, 200, send(nil), "the second account serves")
		planted := box.Planted.Secret(t, "pasted")
		require.Equal(t, 401, send(func(r *http.Request) { r.Header.Set("X-Api-Key", planted) }))
		require.Equal(t, 404, send(func(r *http.Request) { r.URL.Path = "/v1/" + planted }))
		require.Equal(t, 403, send(func(r *http.Request) { r.Header.Set("MSL-Train-Id", planted) }))
		_, err := client.New(box.URL, planted).WhoAmI(ctx)
		require.Error(t, err)
		_, err = box.Admin().GetTrain(ctx, "no\n# HELP signalbox_evil x\nsignalbox_evil 1")
		require.Error(t, err)
		req, err := http.NewRequest("BREW", box.URL+"/api/pots/%0Asignalbox_evil%201", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())

		// A credential may be called anything.
		evil, err := box.Admin().CreateCredential(ctx, client.CredentialDraft{
			Type: "api_key", Name: `x"} 1 signalbox_evil{y="\`, Provider: "anthropic", BaseURL: "http://127.0.0.1:1", Secrets: map[string]string{"api_key": box.Planted.Secret(t, "evil")},
		})
		require.NoError(t, err)
		_, _, err = box.Admin().Link(ctx, lane.Train, client.LinkDraft{CredentialID: evil.ID})
		require.NoError(t, err)
		for _, name := range []string{"x\nsignalbox_evil 1", "x\r"} {
			_, err = box.Admin().CreateCredential(ctx, client.CredentialDraft{Type: "api_key", Name: name, Provider: "anthropic", Secrets: map[string]string{"api_key": "k"}})
			require.Error(t, err, "the vault takes no name with a line end in it")
		}

		// Outcomes are counted when they are settled, at the latest a moment after the client has its answer; commits and checkpoints follow.
		s := scrape(t, box)
		for limit := time.Now().Add(15 * time.Second); time.Now().Before(limit) &&
			(s.values["signalbox_leases_open"] > 0 || s.values["signalbox_proxy_requests_in_flight"] > 0 || s.values["signalbox_audit_checkpoint_timestamp_seconds"] == 0 || s.values["signalbox_audit_leading"] == 0); time.Sleep(20 * time.Millisecond) {
			s = scrape(t, box)
		}

		declared := map[string]bool{}
		for _, m := range app.Metrics() {
			declared[m.Name] = true
			require.Equal(t, m.Help, s.help[m.Name], m.Name)
			require.Equal(t, m.Type, s.kind[m.Name], m.Name)
			labels := s.labels[m.Name]
			require.NotNil(t, labels, "%s has no sample", m.Name)
			delete(labels, "le")
			require.Len(t, labels, len(m.Labels), "%s has the labels %v", m.Name, labels)
			for _, l := range m.Labels {
				require.True(t, labels[l], "%s lacks the label %s", m.Name, l)
			}
		}
		for name := range s.kind {
			require.True(t, declared[name] || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_"), "%s is not declared", name)
		}
		require.NotContains(t, s.kind, "signalbox_evil")

		first, second := lane.Accounts[0].Name, lane.Accounts[1].Name
		pair := func(name, account, more string) string {
			return fmt.Sprintf(`%s{account="%s",%strain="%s"}`, name, account, more, lane.Train)
		}
		s.require(t, 2, pair("signalbox_proxy_attempts_total", first, `result="ok",status="200",`))
		s.require(t, 1, pair("signalbox_proxy_attempts_total", first, `result="upstream_error",status="529",`))
		s.require(t, 1, pair("signalbox_proxy_attempts_total", second, `result="ok",status="200",`))
		s.require(t, 3, pair("signalbox_proxy_attempt_duration_seconds_count", first, ""))
		s.require(t, 2, pair("signalbox_proxy_first_byte_seconds_count", first, ""))
		s.require(t, 1, pair("signalbox_proxy_failovers_total", first, ""))
		s.require(t, 0, pair("signalbox_proxy_failovers_total", second, ""))
		s.require(t, 1, pair("signalbox_cooldowns_total", first, `reason="failed",`))
		s.require(t, 1, `signalbox_proxy_refusals_total{code="unauthenticated"}`)
		s.require(t, 1, `signalbox_proxy_refusals_total{code="not_found"}`)
		s.require(t, 1, `signalbox_proxy_refusals_total{code="train_mismatch"}`)
		s.require(t, 0, `signalbox_proxy_refusals_total{code="audit_unavailable"}`)
		s.require(t, 1, `signalbox_accounts{state="cooling"}`)
		s.require(t, 1, `signalbox_train_accounts{state="cooling",train="`+lane.Train+`"}`)
		s.require(t, 2, `signalbox_train_accounts{state="usable",train="`+lane.Train+`"}`)
		s.require(t, 1, `signalbox_authentication_failures_total{kind="client_key"}`)
		s.require(t, 1, `signalbox_authentication_failures_total{kind="token"}`)
		s.require(t, 1, `signalbox_api_requests_total{class="4xx",method="other",route="unmatched"}`)
		s.require(t, 1, `signalbox_api_requests_total{class="2xx",method="POST",route="/api/trains/{train_id}/api-keys"}`)
		s.require(t, 1, `signalbox_client_keys`)
		s.require(t, 1, `signalbox_audit_leading`)
		s.require(t, 0, `signalbox_audit_lost_outcomes_total`)
		s.require(t, 0, `signalbox_draining`)
		s.require(t, 0, `signalbox_audit_commits_total{result="failed"}`)
		require.GreaterOrEqual(t, s.values["signalbox_audit_commit_events_sum"], 4.0, "an intent each, and outcomes with them")
		require.Equal(t, s.values[`signalbox_audit_commits_total{result="stored"}`], s.values["signalbox_audit_commit_events_count"])
		require.Less(t, s.values["signalbox_feed_age_seconds"], 1.0)
		require.Less(t, s.values["signalbox_audit_lag_seconds"], 15.0)
		require.InDelta(t, time.Now().Unix(), s.values["signalbox_audit_checkpoint_timestamp_seconds"], 60)
		require.Positive(t, s.values["signalbox_audit_leaves"])
		require.Contains(t, s.text, `account="x\"} 1 signalbox_evil{y=\"\\"`)

		require.NoError(t, box.Admin().Unlink(ctx, lane.Train, lane.Accounts[0].ID))
		s = scrape(t, box)
		require.NotContains(t, s.text, `account="`+first+`"`)
		s.require(t, 1, pair("signalbox_proxy_attempts_total", second, `result="ok",status="200",`))
		require.NoError(t, box.Admin().DeleteTrain(ctx, lane.Train, true))
		require.NotContains(t, scrape(t, box).text, `train="`+lane.Train+`"`)
	})
}
