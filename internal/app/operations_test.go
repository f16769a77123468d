package app_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"signalbox.dev/signalbox/internal/app"
)

// known is what expressions may name: series by name, each with its labels. Prometheus itself adds job and instance.
type known map[string][]string

func knownSeries(t *testing.T) known {
	t.Helper()
	k := known{"up": nil}
	for _, m := range app.Metrics() {
		if m.Type != "histogram" {
			k[m.Name] = m.Labels
			continue
		}
		k[m.Name+"_sum"], k[m.Name+"_count"] = m.Labels, m.Labels
		k[m.Name+"_bucket"] = append(slices.Clone(m.Labels), "le")
	}
	library := prometheus.NewRegistry()
	library.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := library.Gather()
	require.NoError(t, err)
	for _, f := range families {
		k[f.GetName()] = nil
	}
	return k
}

var (
	quoted    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	seriesRef = regexp.MustCompile(`\b((?:signalbox|go|process)_[a-z_]+|up)\b(?:\{([^}]*)\})?`)
	matcher   = regexp.MustCompile(`^\s*([a-z_]+)\s*(?:=|!=|=~|!~)\s*$`)
	grouping  = regexp.MustCompile(`\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)`)
	variable  = regexp.MustCompile(`\$\{?([a-zA-Z_]+)`)
)

// problems says what is wrong with an expression: a name or a label that is not declared. groups are the labels that it groups by.
func (k known) problems(expr string) (groups, wrong []string) {
	bare := quoted.ReplaceAllString(expr, "") // what stands between quotes is data
	labels := []string{"job", "instance"}
	found := 0
	for _, m := range seriesRef.FindAllStringSubmatch(grouping.ReplaceAllString(bare, ""), -1) {
		own, ok := k[m[1]]
		if !ok {
			wrong = append(wrong, m[1]+" is no series")
			continue
		}
		found++
		labels = append(labels, own...)
		for part := range strings.SplitSeq(m[2], ",") {
			if strings.TrimSpace(part) == "" {
				continue
			}
			l := matcher.FindStringSubmatch(part)
			if l == nil || !slices.Contains(append([]string{"job", "instance"}, own...), l[1]) {
				wrong = append(wrong, fmt.Sprintf("%s has no label as in %q", m[1], part))
			}
		}
	}
	if found == 0 {
		wrong = append(wrong, "no series")
	}
	for _, m := range grouping.FindAllStringSubmatch(bare, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			l = strings.TrimSpace(l)
			groups = append(groups, l)
			if !slices.Contains(labels, l) {
				wrong = append(wrong, "groups by "+l+", which no series in it has")
			}
		}
	}
	if len(groups) == 0 {
		groups = labels
	}
	return groups, wrong
}

// TestProblemsAreFound: the check of the two files can fail.
func TestProblemsAreFound(t *testing.T) {
	k := knownSeries(t)
	for expr, ok := range map[string]bool{
		`sum by (train) (rate(signalbox_proxy_attempts_total{train=~"$train", status!~"4.."}[5m]))`:  true,
		`histogram_quantile(0.9, sum by (le) (rate(signalbox_proxy_first_byte_seconds_bucket[5m])))`: true,
		`go_goroutines{instance="x"} + process_open_fds > 1 and up == 1`:                             true,
		`signalbox_proxy_attempts{train="x"}`:                                                        false,
		`signalbox_proxy_first_byte_seconds`:                                                         false,
		`signalbox_feed_age_seconds_bucket`:                                                          false,
		`signalbox_proxy_attempts_total{model="x"}`:                                                  false,
		`sum by (model) (signalbox_proxy_attempts_total)`:                                            false,
		`sum by (le) (rate(signalbox_proxy_first_byte_seconds_count[5m]))`:                           false,
		`process_no_such_thing`:                                                                      false,
		`go_no_such_thing`:                                                                           false,
		`vector(1)`:                                                                                  false,
		`up{a="signalbox_feed_age_seconds"}`:                                                         false,
		`signalbox_build_info and on (engine) signalbox_leases_open{} unless x`:                      true,
	} {
		_, wrong := k.problems(expr)
		require.Equal(t, ok, len(wrong) == 0, "%s: %v", expr, wrong)
	}
}

type panel struct {
	ID         int    `json:"id"`
	Type       string `json:"type"`
	Title      string `json:"title"`
	Datasource struct {
		Type, UID string
	} `json:"datasource"`
	GridPos     struct{ H, W, X, Y int } `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		RefID        string `json:"refId"`
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
}

// TestDashboard: the file can be imported, every panel has a title, a unit and a place of its own, and names only what is declared.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations/grafana-dashboard.json")
	require.NoError(t, err)
	var d struct {
		ID            *int    `json:"id"`
		UID           string  `json:"uid"`
		Title         string  `json:"title"`
		SchemaVersion int     `json:"schemaVersion"`
		Panels        []panel `json:"panels"`
		Templating    struct {
			List []struct {
				Name, Type, Definition string
				Query                  any
			}
		} `json:"templating"`
	}
	require.NoError(t, json.Unmarshal(text, &d))
	require.Nil(t, d.ID, "an id belongs to one Grafana")
	require.NotEmpty(t, d.UID)
	require.NotEmpty(t, d.Title)
	require.GreaterOrEqual(t, d.SchemaVersion, 36)

	k := knownSeries(t)
	variables := map[string]bool{"__rate_interval": true, "__all": true}
	for _, v := range d.Templating.List {
		variables[v.Name] = true
		if v.Type == "datasource" {
			require.Equal(t, "prometheus", v.Query)
			continue
		}
		m := regexp.MustCompile(`^label_values\((.+), ([a-z_]+)\)$`).FindStringSubmatch(v.Definition)
		require.NotNil(t, m, v.Definition)
		labels, wrong := k.problems(m[1])
		require.Empty(t, wrong, v.Name)
		require.Contains(t, labels, m[2])
	}
	require.True(t, variables["datasource"], "whoever imports it chooses the data source")
	for _, m := range variable.FindAllStringSubmatch(string(text), -1) {
		require.True(t, variables[m[1]], "$%s is not declared", m[1])
	}

	ids, taken, drawn := map[int]bool{}, map[[2]int]string{}, 0
	for _, p := range d.Panels {
		require.NotEmpty(t, p.Title)
		require.False(t, ids[p.ID], "panel %d twice", p.ID)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Empty(t, taken[at], "%s lies on %s", p.Title, taken[at])
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		drawn++
		require.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
		require.NotEmpty(t, p.FieldConfig.Defaults.Unit, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			groups, wrong := k.problems(target.Expr)
			require.Empty(t, wrong, "%s: %s", p.Title, target.Expr)
			for _, m := range regexp.MustCompile(`\{\{([^}]*)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				require.Contains(t, groups, m[1], "%s: the legend", p.Title)
			}
		}
	}
	require.Greater(t, drawn, 20)
}

// TestAlerts: the rules are YAML of the right shape, and name only what is declared.
func TestAlerts(t *testing.T) {
	file, err := os.Open("../../docs/operations/alerts.yml")
	require.NoError(t, err)
	defer file.Close()
	var rules struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&rules))
	k := knownSeries(t)
	seen := map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			require.Regexp(t, `^Signalbox[A-Z][A-Za-z]+$`, r.Alert)
			require.False(t, seen[r.Alert])
			seen[r.Alert] = true
			require.Contains(t, []string{"critical", "warning"}, r.Labels["severity"], r.Alert)
			groups, wrong := k.problems(r.Expr)
			require.Empty(t, wrong, r.Alert)
			for _, text := range []string{r.Annotations["summary"], r.Annotations["description"]} {
				require.NotEmpty(t, text, r.Alert)
				for _, m := range regexp.MustCompile(`\$labels\.([a-z_]+)`).FindAllStringSubmatch(text, -1) {
					require.Contains(t, groups, m[1], "%s: %s", r.Alert, text)
				}
			}
		}
	}
	for _, must := range []string{"AuditUnwritable", "FeedStale", "CheckpointOld", "UpstreamErrors", "AllAccountsCooling"} {
		require.True(t, seen["Signalbox"+must], must)
	}
}
