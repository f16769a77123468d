package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	growthConns   = 32
	growthWorkers = 16
	growthClients = 1000
	// fewKeys are those of as many trains as the smallest instance has.
	fewKeys = 10
	// listRequests is how often each kind of list is asked for.
	listRequests = 200
	// listTurns divides them.
	listTurns = 10
)

// growth measures whether a request costs more the more trains, keys and credentials there are: one instance of each size, all with the same load in turn. That is measured twice:
// with the keys of the same ten trains at every size, so that nothing but the size differs, and with the key of a train chosen at random among all, so that with many of them hardly any comes twice
// in what follows the log at once: it has as many sums to keep as there are requests.
func growth(o options, rep *report, engine, dir, bin, upstream string, sizes []int) error {
	boxes, made := make([]*proxy, len(sizes)), make([]string, len(sizes))
	for i, n := range sizes {
		url, stop, err := database(o, engine, dir+"/"+strconv.Itoa(n))
		if err != nil {
			return err
		}
		defer stop()
		name := fmt.Sprintf("growth %s %d", engine, n)
		if o.grown != "" && engine == "sqlite" {
			again, err := startGrown(name, o.grown, bin, upstream)
			if err != nil {
				return err
			}
			if again != nil {
				boxes[i], made[i] = again, "an earlier run"
				defer again.stop()
				continue
			}
			dir = o.grown
		}
		if boxes[i], err = startSignalbox(name, dir, bin, upstream, url); err != nil {
			return err
		}
		defer boxes[i].stop()
		more := 0
		if i == len(sizes)-1 {
			more = max(o.credentials-n, 0)
		}
		began, cpu := time.Now(), boxes[i].cpu()
		if err := boxes[i].grow(n, more); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if o.grown != "" && engine == "sqlite" {
			if err := boxes[i].remember(); err != nil {
				return err
			}
		}
		made[i] = fmt.Sprintf("%.0f s, %.1f ms", time.Since(began).Seconds(), float64((boxes[i].cpu()-cpu).Microseconds())/1000/float64(n+more))
	}
	for _, box := range boxes {
		box.calm()
	}
	few := make([]*proxy, len(boxes))
	for i, box := range boxes {
		some := *box
		some.keys = box.keys[:min(fewKeys, len(box.keys))]
		few[i] = &some
	}
	var same, all grew
	for round := range o.rounds {
		for _, m := range [...]struct {
			to *grew
			on []*proxy
		}{{&same, few}, {&all, boxes}} {
			if err := m.to.measure(o, m.on, round); err != nil {
				return err
			}
		}
	}
	rep.line("")
	rep.line("| trains, client keys and accounts | CPU a request with the keys of ten, µs | ÷ the first line | with a key of any, µs | ÷ the first line | resident memory | made in, CPU each |")
	rep.line("|---|---|---|---|---|---|---|")
	for i, n := range sizes {
		rep.line("| %d each | %s | %s | %.0f MB | %s |", n, same.row(i), all.row(i), float64(boxes[i].rss())/1e6, made[i])
	}
	if o.credentials == 0 {
		return nil
	}
	return lists(rep, boxes[len(boxes)-1], sizes[len(sizes)-1], max(o.credentials, sizes[len(sizes)-1]))
}

// grew is what a request costs at several sizes, by round.
type grew struct{ cpu, ratio [][]float64 }

// measure runs one round at each size, beginning with another one each time. What a request costs is counted until the instance has followed: sums, detectors and the index come after the answer, and
// would else be paid by whoever is measured next.
func (g *grew) measure(o options, boxes []*proxy, round int) error {
	got := make([]float64, len(boxes))
	for n := range boxes {
		i := (n + round) % len(boxes)
		before := boxes[i].cpu()
		r, err := closed(boxes[i], shapes()[0], growthConns, o.duration)
		if err != nil {
			return fmt.Errorf("%s: %w", boxes[i].name, err)
		}
		boxes[i].calm()
		r.cpu = boxes[i].cpu() - before
		got[i] = r.cpuPerRequest()
	}
	if g.cpu == nil {
		g.cpu, g.ratio = make([][]float64, len(boxes)), make([][]float64, len(boxes))
	}
	for i := range got {
		g.cpu[i], g.ratio[i] = append(g.cpu[i], got[i]), append(g.ratio[i], got[i]/got[0])
	}
	return nil
}

func (g *grew) row(i int) string {
	return fmt.Sprintf("%.0f | **%.2f** (%.2f–%.2f)", median(g.cpu[i]), median(g.ratio[i]), slices.Min(g.ratio[i]), slices.Max(g.ratio[i]))
}

// calm waits until the instance has done what making it left for later: reminders of credentials that expire soon, the sums of usage, the search index. Those are not what a request
// costs.
func (p *proxy) calm() {
	const look, idle = time.Second, 20 * time.Millisecond // two hundredths of a core
	for began, still := time.Now(), 0; time.Since(began) < 15*time.Minute; {
		before := p.cpu()
		time.Sleep(look)
		if p.cpu()-before >= idle {
			still = 0
		} else if still++; still == 3 {
			return
		}
	}
	fmt.Fprintln(os.Stderr, "bench:", p.name, "is still busy with other work after a quarter of an hour; its figures hold that too")
}

// grow makes n trains with a client key and an account each, which share the load, and more credentials that no train may use.
func (p *proxy) grow(n, more int) error {
	if err := p.settle(min(n+more, growthClients)); err != nil {
		return err
	}
	p.keys = make([]string, n)
	p.ids = make([]string, n+more)
	g, ctx := errgroup.WithContext(context.Background())
	g.SetLimit(growthWorkers)
	for i := range n + more {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			slug := fmt.Sprintf("grown-%06d", i)
			var cred struct {
				Credential struct{ ID string } `json:"credential"`
			}
			if err := p.call(p.token, "/api/credentials", map[string]any{"type": "api_key", "name": slug, "provider": "anthropic", "base_url": p.upstream,
				"tags": []string{"group-" + strconv.Itoa(i%100)}, "owner": "owner-" + strconv.Itoa(i%2), "client_id": p.homes.Clients[i%len(p.homes.Clients)],
				"service_id": p.homes.Services[2*i/(n+more)], "plugin_name": fmt.Sprintf("plugin-%06d", i),
				"expires_at":  time.Now().AddDate(0, 0, 10+90*(i%2)).UTC().Format(time.RFC3339),
				"description": "stored to measure with, used by nobody; half of them expire soon",
				"secrets":     map[string]string{"api_key": "upstream-key"}}, &cred); err != nil {
				return err
			}
			p.ids[i] = cred.Credential.ID
			if i >= n {
				return nil
			}
			if err := p.call(p.token, "/api/trains", map[string]any{"train_id": slug, "name": slug}, nil); err != nil {
				return err
			}
			if err := p.call(p.token, "/api/trains/"+slug+"/accounts", map[string]any{"credential_id": cred.Credential.ID}, nil); err != nil {
				return err
			}
			var key struct {
				APIKey struct {
					APIKey string `json:"api_key"`
				} `json:"api_key"`
			}
			if err := p.call(p.token, "/api/trains/"+slug+"/api-keys", map[string]any{"name": "bench"}, &key); err != nil {
				return err
			}
			p.keys[i] = key.APIKey.APIKey
			return nil
		})
	}
	return g.Wait()
}

// homes are the ids of what credentials belong to.
type homes struct{ Clients, Services []string }

// settle makes clients and two services, to which credentials will belong.
func (p *proxy) settle(clients int) error {
	p.homes = homes{Clients: make([]string, clients), Services: make([]string, 2)}
	for i := range p.homes.Clients {
		var made struct{ Client struct{ ID string } }
		if err := p.call(p.token, "/api/clients", map[string]any{"name": fmt.Sprintf("client-%04d", i)}, &made); err != nil {
			return err
		}
		p.homes.Clients[i] = made.Client.ID
	}
	for i := range p.homes.Services {
		var made struct{ Service struct{ ID string } }
		if err := p.call(p.token, "/api/services", map[string]any{"name": fmt.Sprintf("service-%d", i)}, &made); err != nil {
			return err
		}
		p.homes.Services[i] = made.Service.ID
	}
	return nil
}

// lists measures how long one caller waits for a page of credentials and for one credential.
func lists(rep *report, p *proxy, trains, n int) error {
	var cursors []string
	for next := ""; len(cursors) < 20; {
		var page struct {
			NextCursor string `json:"next_cursor"`
		}
		if err := p.get("/api/credentials?limit=1000"+after(next), &page); err != nil {
			return err
		}
		if next = page.NextCursor; next == "" {
			break
		}
		cursors = append(cursors, next)
	}
	// The first list with a filter reads all into memory; what that takes is told by itself.
	began := time.Now()
	if err := p.get("/api/credentials?owner=nobody", nil); err != nil {
		return err
	}
	cold := time.Since(began)
	kinds := listKinds(p, trains, n, cursors)
	rep.line("")
	rep.line("| with %d credentials | p50 | p95 |", n)
	rep.line("|---|---|---|")
	// In turns, so that what else the machine and the database do for a while (the autovacuum of tables just filled) falls on all kinds.
	results := make([]result, len(kinds))
	for turn := range listTurns {
		for k, kind := range kinds {
			for i := range listRequests / listTurns {
				began := time.Now()
				if err := p.get(kind.path(turn*listRequests/listTurns+i), nil); err != nil {
					return err
				}
				results[k].lat = append(results[k].lat, time.Since(began))
			}
		}
	}
	for k, kind := range kinds {
		rep.line("| %s | %.1f ms | %.1f ms |", kind.name, ms(results[k].percentile(.5)), ms(results[k].percentile(.95)))
	}
	rep.line("")
	rep.line("The first list with a filter after the start: %.0f ms. Resident memory afterwards: %.0f MB.", ms(cold), float64(p.rss())/1e6)
	return nil
}

// listKind is one kind of list, or of look at one credential.
type listKind struct {
	name string
	path func(i int) string
}

// listKinds has every filter, with few matches, half and none, alone and together, first pages and later ones.
func listKinds(p *proxy, trains, n int, cursors []string) []listKind {
	fixed := func(query string) func(int) string { return func(int) string { return "/api/credentials" + query } }
	deep := func(query string) func(int) string {
		return func(i int) string {
			if len(cursors) == 0 {
				return "/api/credentials" + query
			}
			return "/api/credentials" + query + after(cursors[i%len(cursors)])
		}
	}
	drawn := func(format string, below int) func(int) string {
		return func(int) string { return "/api/credentials?" + fmt.Sprintf(format, rand.IntN(below)) }
	}
	return []listKind{
		{"one credential", func(int) string { return "/api/credentials/" + p.ids[rand.IntN(len(p.ids))] }},
		{"first page of 100", fixed("")},
		{"a page of 100 further on", deep("?limit=100")},
		{"the last page, by skip", fixed("?skip=" + strconv.Itoa(max(n-100, 0)))},
		{"type (all)", fixed("?type=api_key")},
		{"type (none)", fixed("?type=certificate")},
		{"provider and type (all)", fixed("?provider=anthropic&type=api_key")},
		{"provider (none)", fixed("?provider=nobody")},
		{"client_id (a thousandth)", func(int) string { return "/api/credentials?client_id=" + pick(p.homes.Clients) }},
		{"service_id (the later half)", fixed("?service_id=" + p.homes.Services[1])},
		{"owner (half)", fixed("?owner=owner-1")},
		{"owner (half), further on", deep("?owner=owner-1")},
		{"plugin_name (one)", drawn("plugin_name=plugin-%06d", n)},
		{"tag (a hundredth)", drawn("tag=group-%d", 100)},
		{"tag (a hundredth), further on", deep("?tag=group-7")},
		{"status (half)", fixed("?status=expiring")},
		{"status (none)", fixed("?status=compromised")},
		{"expires_before (half)", fixed("?expires_before=" + time.Now().AddDate(0, 0, 50).UTC().Format(time.RFC3339))},
		{"expires_before (none)", fixed("?expires_before=" + time.Now().UTC().Format(time.RFC3339))},
		{"train_id", drawn("train_id=grown-%06d", trains)},
		{"q (one, by its name)", drawn("q=grown-%06d", n)},
		{"q (all), the last page by skip", fixed("?q=nobody&skip=" + strconv.Itoa(max(n-100, 0)))},
		{"q (half)", fixed("?q=" + p.homes.Services[1])},
		{"q (none)", fixed("?q=nothing")},
		{"q (two letters, none)", fixed("?q=zz")},
		{"q (three words)", drawn("q=grown+owner-1+%03d", 1000)},
		{"owner and service_id (a quarter)", fixed("?owner=owner-1&service_id=" + p.homes.Services[1])},
		{"owner and tag, which exclude each other", fixed("?owner=owner-1&tag=group-0")},
		{"owner, status and q", drawn("owner=owner-1&status=active&q=%04d", 10000)},
	}
}

func after(cursor string) string {
	if cursor == "" {
		return ""
	}
	return "&cursor=" + url.QueryEscape(cursor)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (p *proxy) get(path string, out any) error { return p.do(http.MethodGet, p.token, path, nil, out) }

// database makes a fresh database of the engine; the URL is empty for SQLite.
func database(o options, engine, dir string) (url string, stop func(), err error) {
	switch engine {
	case "sqlite":
		return "", func() {}, nil
	case "postgres":
		if o.postgres != "" {
			return o.postgres, func() {}, nil
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", nil, err
		}
		return startPostgres(dir)
	}
	return "", nil, fmt.Errorf("no engine %q", engine)
}

// crowd runs fn in n goroutines and joins them.
func crowd(n int, fn func(worker int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}
