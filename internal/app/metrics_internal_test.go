package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/train"
)

var (
	sampleLine = regexp.MustCompile(`^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\["\\n])*",?)*)\})? [0-9.e+-]+$`)
	labelPair  = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\["\\n])*)"`)
)

// TestMetricTable: the names follow the conventions of Prometheus (prometheus.io/docs/practices/naming), and every row is whole.
func TestMetricTable(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range Metrics() {
		require.Regexp(t, `^signalbox_[a-z]+(_[a-z]+)*$`, m.Name)
		require.False(t, seen[m.Name], m.Name)
		seen[m.Name] = true
		require.Contains(t, []string{counter, gauge, histogram}, m.Type, m.Name)
		require.Equal(t, m.Type == counter, strings.HasSuffix(m.Name, "_total"), m.Name)
		require.Equal(t, m.Type == histogram, len(m.buckets) > 0, m.Name)
		require.True(t, slices.IsSorted(m.buckets), m.Name)
		require.NotEmpty(t, m.Unit, m.Name)
		require.Greater(t, len(m.Help), 20, m.Name)
		require.NotContains(t, m.Help+m.Unit, "|", "%s would break the reference's table", m.Name)
		for unit, suffix := range map[string]string{"seconds": "_seconds", "bytes": "_bytes"} {
			require.Equal(t, m.Unit == unit, strings.Contains(m.Name, suffix), "%s: base units are in the name", m.Name)
		}
		require.Contains(t, MetricsPage(), "`"+m.Name+"` | "+m.Type)
		for _, l := range m.Labels {
			require.Regexp(t, `^[a-z]+(_[a-z]+)*$`, l)
			require.NotContains(t, []string{"le", "quantile", "job", "instance"}, l)
		}
	}
	require.Len(t, seen, int(metricCount))
}

// bench is a set of lendings with its registry.
func bench(t *testing.T, most int) (*lendings, func() (text string, series map[string]bool)) {
	t.Helper()
	m, err := newInstruments(&App{log: Config{}.logger()})
	require.NoError(t, err)
	m.lendings.most = most
	alone := prometheus.NewRegistry()
	require.NoError(t, alone.Register(m.lendings.whole))
	require.NoError(t, alone.Register(m.lendings.begin))
	require.NoError(t, alone.Register(lendingsAlone{m}))
	return m.lendings, func() (string, map[string]bool) {
		w := httptest.NewRecorder()
		instrumentsHandler(alone, Config{}.logger()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		require.Equal(t, 200, w.Code, w.Body.String())
		series := map[string]bool{}
		for line := range strings.Lines(w.Body.String()) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "# ") {
				continue
			}
			require.Regexp(t, sampleLine, line)
			series[line[:strings.LastIndexByte(line, ' ')]] = true
		}
		return w.Body.String(), series
	}
}

// lendingsAlone collects nothing but the lendings.
type lendingsAlone struct{ m *instruments }

func (l lendingsAlone) Describe(out chan<- *prometheus.Desc) {
	for _, id := range []metric{proxyAttempts, proxyFailOvers, coolDowns} {
		out <- l.m.descs[id]
	}
}

func (l lendingsAlone) Collect(out chan<- prometheus.Metric) {
	l.m.lendings.collect((&scrape{metrics: l.m}).putter(out))
}

func pairsIn(series map[string]bool) map[string]bool {
	pairs := map[string]bool{}
	for s := range series {
		var of []string
		for _, m := range labelPair.FindAllStringSubmatch(s, -1) {
			if m[1] == "train" || m[1] == "account" {
				of = append(of, m[1]+"="+m[2])
			}
		}
		slices.Sort(of)
		pairs[strings.Join(of, " ")] = true
	}
	return pairs
}

// TestPairsAreBounded: however many trains and accounts there are, so many have series; the rest is counted together, nothing is lost, and
// a pair that is gone makes room.
func TestPairsAreBounded(t *testing.T) {
	l, scrape := bench(t, 10)
	all := make([]train.Meter, 100)
	for i := range all {
		all[i] = l.Meter(fmt.Sprintf("train-%d", i), "a")
		require.Same(t, all[i], l.Meter(fmt.Sprintf("train-%d", i), "a"))
	}
	for _, m := range all {
		l.Drop(m) // each has another use
	}
	for _, m := range all {
		m.Settled(train.Outcome{Result: train.OK, Status: 200, Duration: time.Second, FirstByte: time.Millisecond})
	}
	text, series := scrape()
	require.Len(t, pairsIn(series), 10)
	require.Contains(t, text, `signalbox_proxy_attempts_total{account="other",result="ok",status="200",train="other"} 91`)
	require.Contains(t, text, `signalbox_proxy_attempt_duration_seconds_count{account="other",train="other"} 91`)
	require.Contains(t, text, `signalbox_proxy_attempts_total{account="a",result="ok",status="200",train="train-8"} 1`)
	require.Same(t, l.Meter("other", "other"), all[99], "a train that is called other shares the place")

	l.Drop(all[99])
	for _, m := range all[1:] {
		l.Drop(m)
	}
	_, series = scrape()
	require.Equal(t, map[string]bool{"account=a train=train-0": true}, pairsIn(series))
	all[1].Settled(train.Outcome{Result: train.OK, Status: 200})
	all[1].FailedOver()
	_, series = scrape()
	require.Len(t, pairsIn(series), 1, "a last attempt does not bring a deleted pair back")
	require.NotSame(t, all[1], l.Meter("train-1", "a"))
}

// TestStatusesAreBounded: an upstream cannot make series by the statuses that it answers with.
func TestStatusesAreBounded(t *testing.T) {
	require.True(t, slices.IsSorted(statuses[:]))
	l, scrape := bench(t, 10)
	m := l.Meter("web", "alpha")
	for status := -3; status < 1100; status++ {
		m.Settled(train.Outcome{Result: "made up", Status: status})
	}
	_, before := scrape()
	require.LessOrEqual(t, len(before), len(statuses)+len(classes)+60)
	for place := range len(statuses) + len(classes) {
		require.True(t, before[`signalbox_proxy_attempts_total{account="alpha",result="other",status="`+statusLabel(place)+`",train="web"}`], statusLabel(place))
	}
	require.Equal(t, "none", statusLabel(statusPlace(0)))
	require.Equal(t, "529", statusLabel(statusPlace(529)))
	require.Equal(t, "4xx", statusLabel(statusPlace(418)))
	require.Equal(t, "other", statusLabel(statusPlace(999)))
	require.Equal(t, "other", statusLabel(statusPlace(-1)))
	for _, c := range []struct {
		f    train.Failure
		want string
	}{{train.Failure{Status: 429}, "rate_limited"}, {train.Failure{Status: 403}, "refused"}, {train.Failure{Status: 529}, "failed"}, {train.Failure{Dial: true}, "unreachable"}} {
		m.Cooled(c.f)
		text, _ := scrape()
		require.Contains(t, text, `signalbox_cooldowns_total{account="alpha",reason="`+c.want+`",train="web"} 1`)
	}
}

// TestHostileNames: no name that somebody chose makes a line of its own, or breaks the scrape.
func TestHostileNames(t *testing.T) {
	l, scrape := bench(t, 1000)
	hostile := []string{
		"a\nsignalbox_evil_total 1", "b\"} 1\nsignalbox_evil_total{x=\"", `c\`, `d\n`, "e\r\nx", "\xff\xfe", "f\x00", "{}", "#", "# HELP x y", "", " ", strings.Repeat("g", 5000), strings.Repeat("é", 5000), "\u2028",
	}
	var used []train.Meter
	for _, a := range hostile {
		for _, b := range hostile {
			m := l.Meter(a, b)
			m.Settled(train.Outcome{Result: train.Result(a), Status: 200})
			used = append(used, m)
		}
	}
	text, series := scrape()
	require.NotEmpty(t, series)
	require.NotContains(t, text, "\nsignalbox_evil")
	require.NotContains(t, text, strings.Repeat("g", labelMax+1))
	for line := range strings.Lines(text) {
		require.True(t, strings.HasPrefix(line, "# HELP signalbox_") || strings.HasPrefix(line, "# TYPE signalbox_") || sampleLine.MatchString(strings.TrimSuffix(line, "\n")), line)
	}
	for _, m := range used {
		l.Drop(m)
	}
	_, after := scrape()
	require.Empty(t, after, "names that were changed on the way in are found again on the way out")
}

// TestCountingAllocatesNothing: it is on the way of every request.
func TestCountingAllocatesNothing(t *testing.T) {
	m, err := newInstruments(&App{log: Config{}.logger()})
	require.NoError(t, err)
	p := m.lendings.Meter("web", "alpha")
	o := train.Outcome{Result: train.OK, Status: 200, FirstByte: time.Millisecond, Duration: time.Second}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		p.Settled(o)
		p.FailedOver()
		p.Cooled(train.Failure{Status: 429})
		m.committed(3, time.Millisecond, true)
	}))
}

func BenchmarkSettled(b *testing.B) {
	m, err := newInstruments(&App{log: Config{}.logger()})
	require.NoError(b, err)
	p := m.lendings.Meter("web", "alpha")
	o := train.Outcome{Result: train.OK, Status: 200, FirstByte: time.Millisecond, Duration: time.Second}
	b.ReportAllocs()
	for b.Loop() {
		p.Settled(o)
	}
}
