package app

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/sink"
	"signalbox.dev/signalbox/internal/train"
)

const (
	// metricSeries bounds the pairs of train and account that have series of their own, and likewise the trains: beyond it the labels say
	// "other". A pair has about 30 series.
	metricSeries = 1000
	otherLabel   = "other"
	// labelMax bounds a label's value in bytes.
	labelMax = 128
	// scrapesAtOnce bounds the scrapes that are answered at one moment.
	scrapesAtOnce = 4
)

// instruments are the registry of this server; the global one of the Prometheus library is not used. What the rooms know already is read when
// somebody asks; only what would be lost is counted here.
type instruments struct {
	registry *prometheus.Registry
	handler  http.Handler
	descs    [metricCount]*prometheus.Desc // nil for histograms

	lendings     *lendings
	stored       atomic.Int64
	failed       atomic.Int64
	commitEvents prometheus.Observer
	commitTime   prometheus.Observer
	apiTime      *prometheus.HistogramVec
	refreshTime  *prometheus.HistogramVec
	apiAnswers   *prometheus.CounterVec
}

// newInstruments makes the registry. The app is read at each scrape, when it is open.
func newInstruments(a *App) (*instruments, error) {
	m := &instruments{registry: prometheus.NewRegistry()}
	vec := func(id metric) *prometheus.HistogramVec {
		row := metricTable[id]
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: row.Name, Help: row.Help, Buckets: row.buckets}, row.Labels)
	}
	events, took, whole, begin := vec(auditCommitEvents), vec(auditCommitDuration), vec(proxyDuration), vec(proxyFirstByte)
	m.apiTime, m.refreshTime = vec(apiDuration), vec(oauthDuration)
	answers := metricTable[apiRequests]
	m.apiAnswers = prometheus.NewCounterVec(prometheus.CounterOpts{Name: answers.Name, Help: answers.Help}, answers.Labels)
	m.refreshTime.WithLabelValues(oauth.CustomProvider)
	m.commitEvents, m.commitTime = events.WithLabelValues(), took.WithLabelValues()
	m.lendings = newLendings(whole, begin, metricSeries)
	for id, row := range metricTable {
		if row.Type != histogram && metric(id) != apiRequests {
			m.descs[id] = prometheus.NewDesc(row.Name, row.Help, row.Labels, nil)
		}
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		events, took, whole, begin, m.apiTime, m.refreshTime, m.apiAnswers, &scrape{app: a, metrics: m},
	} {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics: %w", err)
		}
	}
	m.handler = instrumentsHandler(m.registry, a.log)
	return m, nil
}

// instrumentsHandler answers scrapes.
func instrumentsHandler(registry *prometheus.Registry, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		// One metric that cannot be collected must not hide the others from whoever is looking for the cause.
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: scrapeLog{log}, MaxRequestsInFlight: scrapesAtOnce,
	})
}

// scrapeLog takes what the handler complains about.
type scrapeLog struct{ log *slog.Logger }

// Println logs one complaint.
func (s scrapeLog) Println(v ...any) {
	s.log.Error("a scrape failed", "cause", strings.TrimSpace(fmt.Sprintln(v...)))
}

// committed counts one try of a group commit.
func (m *instruments) committed(events int, took time.Duration, stored bool) {
	m.commitTime.Observe(took.Seconds())
	if !stored {
		m.failed.Add(1)
		return
	}
	m.stored.Add(1)
	m.commitEvents.Observe(float64(events))
}

// served counts one answer of the API. The route comes from the table of operations, never from the request.
func (m *instruments) served(route string, status int, took time.Duration) {
	method, path, ok := strings.Cut(route, " ")
	if !ok {
		method, path = otherLabel, "unmatched"
	}
	m.apiTime.WithLabelValues(method, path).Observe(took.Seconds())
	m.apiAnswers.WithLabelValues(method, path, statusClass(status)).Inc()
}

// refreshed times one call of a token endpoint.
func (m *instruments) refreshed(providerName string, _ provider.Verdict, took time.Duration) {
	m.refreshTime.WithLabelValues(label(providerName)).Observe(took.Seconds())
}

// collectOAuth tells what refreshes came to. Providers are rows of tables, the stored one among them, so there are few.
func (a *App) collectOAuth(put putter) {
	counts, _ := a.oauth.Counts()
	if _, used := counts[oauth.CustomProvider]; !used {
		counts[oauth.CustomProvider] = oauth.Counts{} // so that every metric is there from the start
	}
	for name, c := range counts {
		name = label(name)
		if _, some := c.Attempts[provider.Issued]; !some {
			put(oauthRefreshes, 0, name, string(provider.Issued))
		}
		for verdict, n := range c.Attempts {
			put(oauthRefreshes, float64(n), name, string(verdict))
		}
		put(oauthStored, float64(c.Stored), name)
		put(oauthWaits, float64(c.Coalesced), name, "coalesced")
		put(oauthWaits, float64(c.Crossed), name, "crossed")
	}
	put(oauthOwed, float64(a.oauth.Owed()))
}

func statusClass(status int) string {
	if status < 100 || status > 599 {
		return otherLabel
	}
	return strconv.Itoa(status/100) + "xx"
}

// scrape reads what the rooms know.
type scrape struct {
	app     *App
	metrics *instruments
}

// Describe implements prometheus.Collector.
func (s *scrape) Describe(out chan<- *prometheus.Desc) {
	for _, d := range s.metrics.descs {
		if d != nil {
			out <- d
		}
	}
}

// Collect implements prometheus.Collector. Nothing in it asks the database: it must answer while that is away.
func (s *scrape) Collect(out chan<- prometheus.Metric) {
	a, put := s.app, s.putter(out)
	s.metrics.lendings.collect(put)
	put(proxyInFlight, float64(a.broker.InFlight()))
	for code, n := range a.broker.Refusals() {
		put(proxyRefusals, float64(n), code)
	}
	put(proxyBodies, float64(a.broker.BodyBytes()))
	put(leasesOpen, float64(a.trains.OpenLeases()))
	a.collectAccounts(put)
	a.collectAudit(put)
	a.collectSinks(put)
	put(auditCommits, float64(s.metrics.stored.Load()), "stored")
	put(auditCommits, float64(s.metrics.failed.Load()), "failed")
	put(auditLost, float64(a.db.LostOutcomes()))
	put(feedAge, a.db.Age().Seconds())
	for _, p := range a.db.Pools() {
		put(poolConns, float64(p.InUse), p.Name, "in_use")
		put(poolConns, float64(p.Open-p.InUse), p.Name, "idle")
		put(poolMax, float64(p.Max), p.Name)
		put(poolWaits, float64(p.Waits), p.Name)
		put(poolWaited, p.Waited.Seconds(), p.Name)
	}
	a.collectOAuth(put)
	for at, n := range a.notify.Attempts() {
		put(notifyAttempts, float64(n), string(at.Channel), at.Outcome)
	}
	put(notifyOldest, a.notifyWaitsAt(time.Now()).Seconds())
	put(relayLost, float64(a.relay.Lost()))
	put(contentsLost, float64(a.contents.Lost()))
	told, last := a.vault.Reminders()
	for at, n := range told {
		put(remindersTold, float64(n), string(at.About), strconv.Itoa(at.Step))
	}
	lastPass := 0.0
	if !last.IsZero() {
		lastPass = float64(last.Unix())
	}
	put(remindersLast, lastPass)
	put(rekeyRemaining, float64(a.rekeyer.Left()))
	put(dataKeySeals, float64(a.ring.Seals()))
	taken, size := a.backups.at()
	put(backupTime, taken)
	put(backupBytes, size)
	for kind, n := range a.identity.Failures() {
		put(authFailures, float64(n), kind)
	}
	keys, held := a.identity.Held()
	put(clientKeys, float64(keys))
	put(tokens, float64(held))
	put(draining, oneIf(a.draining.Load()))
	put(sealedGauge, oneIf(a.isSealed()))
	notAfter := 0.0
	if a.certificate != nil {
		notAfter = float64(a.certificate.NotAfter().Unix())
	}
	put(tlsNotAfter, notAfter)
	put(buildInfo, 1, a.version, runtime.Version(), string(a.db.Engine()))
}

// putter takes one value of a metric with its labels.
type putter func(id metric, value float64, labels ...string)

func (s *scrape) putter(out chan<- prometheus.Metric) putter {
	return func(id metric, value float64, labels ...string) {
		d, kind := s.metrics.descs[id], prometheus.GaugeValue
		if metricTable[id].Type == counter {
			kind = prometheus.CounterValue
		}
		c, err := prometheus.NewConstMetric(d, kind, value, labels...)
		if err != nil {
			c = prometheus.NewInvalidMetric(d, err)
		}
		out <- c
	}
}

// collectAccounts tells the accounts that can be lent now. The oldest trains keep their names when there are too many.
func (a *App) collectAccounts(put putter) {
	states := func(id metric, t train.Tally, labels ...string) {
		put(id, float64(t.Usable), append(labels, "usable")...)
		put(id, float64(t.Cooling), append(labels, "cooling")...)
		put(id, float64(t.Unusable), append(labels, "unusable")...)
	}
	trains, all := a.trains.Tallies()
	states(accounts, all)
	var rest train.Tally
	for i, t := range trains {
		if i < metricSeries-1 && t.Train != otherLabel {
			states(trainAccounts, t.Tally, label(t.Train))
			continue
		}
		rest.Usable, rest.Cooling, rest.Unusable = rest.Usable+t.Usable, rest.Cooling+t.Cooling, rest.Unusable+t.Unusable
	}
	if rest != (train.Tally{}) {
		states(trainAccounts, rest, otherLabel)
	}
}

func (a *App) collectAudit(put putter) {
	h := a.audit.Health()
	put(auditBehind, a.auditLagAt(time.Now()).Seconds())
	put(auditLeaves, float64(h.Size))
	put(auditUnsigned, float64(h.Size-h.Signed))
	put(auditUnanchored, float64(h.Size-h.Anchored))
	signed := 0.0
	if !h.SignedAt.IsZero() {
		signed = float64(h.SignedAt.UnixMilli()) / 1000
	}
	put(auditCheckpoint, signed)
	put(auditAnchorFailing, oneIf(h.AnchorErr != nil))
	put(auditLeading, oneIf(h.Leading))
}

// collectSinks tells how far the audit log is where it is sent.
func (a *App) collectSinks(put putter) {
	now := time.Now()
	counts := map[string]int{}
	var lag time.Duration
	var behind int64
	for _, s := range a.sinks.States() {
		counts[s.Word(now)]++
		if !s.Enabled || s.Behind <= 0 {
			continue
		}
		if !s.Since.IsZero() {
			lag = max(lag, now.Sub(s.Since))
		}
		if s.Carries == sink.Records {
			behind = max(behind, s.Behind)
		}
	}
	for _, word := range sink.Words() {
		put(auditSinks, float64(counts[word]), word)
	}
	put(auditSinkLag, lag.Seconds())
	put(auditSinkBehind, float64(behind))
	for at, n := range a.sinks.Sent() {
		put(auditSinkBatches, float64(n), string(at.Kind), at.Outcome)
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// label makes a label's value of a name that people chose: valid UTF-8 of bounded length. The exposition format escapes the rest.
func label(s string) string {
	if len(s) > labelMax {
		s = s[:labelMax]
	}
	return strings.ToValidUTF8(s, "")
}
