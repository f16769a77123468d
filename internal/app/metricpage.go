package app

import (
	"fmt"
	"strings"
)

// MetricsPage is docs/reference/metrics.md without its first line, the same text for the same table.
func MetricsPage() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n" +
		"`GET /metrics` answers in the text format of Prometheus. A ready [dashboard](../operations/grafana-dashboard.json) and [alerts](../operations/alerts.yml) go with it.\n\n" +
		"Who may ask:\n\n" +
		"- On the main address, a program of this machine, without a token, while the server listens on loopback, neither `--behind-tls-proxy` nor `--trusted-proxies` is set, the request bears no " +
		"header of a proxy (`Forwarded`, `X-Forwarded-…`, `X-Real-Ip`, `Via`) and calls a loopback name. A proxy on this machine that leaves no such header cannot be told from a program: tell Signalbox of it with `--behind-tls-proxy`.\n" +
		"- On the main address, from anywhere: `Authorization: Bearer` with a personal access token that has the scope `metrics:read`. While the database is away a token cannot be checked, so such a scrape is refused with 503.\n" +
		"- On `--metrics-listen HOST:PORT`, everybody who reaches it, without a token and in plain text. It serves `/metrics`, `/healthz` and `/readyz` and nothing else. Bind it to an address that only the monitoring reaches: " +
		"the metrics name trains and accounts and tell how much they are used.\n\n" +
		"A scrape asks the database for nothing, so it works while that is away. All counts are of one instance and begin at its start; sum them over a fleet. ")
	fmt.Fprintf(&b, "At most %d pairs of train and account have series of their own, further ones are summed under `other`; those of a deleted train, link or account disappear. "+
		"A name longer than %d bytes is cut.\n\n", metricSeries, labelMax)
	b.WriteString("| Metric | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n")
	for _, m := range metricTable {
		labels := make([]string, len(m.Labels))
		for i, l := range m.Labels {
			labels[i] = "`" + l + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.Name, m.Type, m.Unit, strings.Join(labels, " "), m.Help)
	}
	b.WriteString("\nBesides, a scrape holds the metrics of the Go runtime (`go_…`) and of the process (`process_…`) that the Prometheus library makes.\n")
	return b.String()
}
