package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// pageTrains, pageCredentials and pagePeople are what the measured instance has.
	pageTrains, pageCredentials, pagePeople = 1000, 10_000, 300
	// pageRequests is how often each page is asked for, in pageTurns turns.
	pageRequests, pageTurns = 100, 10
)

// dashboard measures how long one reader waits for the pages of an instance with many credentials, trains and events, and one caller for searches in its
// audit log, beside a bare reverse proxy in the same turns.
func dashboard(o options, rep *report, floor *proxy, engine, dir, bin, upstream string) error {
	postgres, stop, err := database(o, engine, filepath.Join(dir, "pages"))
	if err != nil {
		return err
	}
	defer stop()
	p, err := startSignalbox("pages "+engine, dir, bin, upstream, postgres)
	if err != nil {
		return err
	}
	defer func() { p.stop() }()
	if err := p.grow(pageTrains, pageCredentials-pageTrains); err != nil {
		return err
	}
	of, err := p.about(pageTrains, pagePeople)
	if err != nil {
		return err
	}
	p.stop()
	began := time.Now()
	if err := fill(p.data, postgres, o.events, of); err != nil {
		return err
	}
	filled := time.Since(began)
	again, err := start(p.name+" filled", dir, p.addr, serveEnv(postgres), bin, "serve", "--data-dir", p.data, "--listen", p.addr)
	if err != nil {
		return err
	}
	again.token, again.data, again.ids = p.token, p.data, p.ids
	p = again
	if err := p.settled(o.events); err != nil {
		return err
	}
	rep.line("")
	rep.line("### Pages and searches (%s)", engine)
	rep.line("")
	rep.line("%d credentials, %d trains, %d people, %d audit events (made in %.0f s, searchable %.0f s later).", pageCredentials, pageTrains, pagePeople, o.events, filled.Seconds(),
		time.Since(began).Seconds()-filled.Seconds())
	if err := p.pages(rep, floor, of); err != nil {
		return err
	}
	return p.searches(rep, of)
}

// pageKind is one kind of page, or of search.
type pageKind struct {
	name string
	path func() string
}

func always(path string) func() string { return func() string { return path } }

func one(format string, of []string) func() string {
	return func() string { return fmt.Sprintf(format, pick(of)) }
}

func pageKinds(of subjects) []pageKind {
	accounts := of.credentials[:pageTrains]
	return []pageKind{
		{"overview", always("/")},
		{"credentials", always("/credentials")},
		{"credentials, a search", func() string { return fmt.Sprintf("/credentials?q=grown-%05d", rand.IntN(pageCredentials/10)) }},
		{"credentials, a search of all", always("/credentials?q=nobody")},
		{"a credential", one("/credentials/%s", of.credentials)},
		{"its record", one("/credentials/%s/record", accounts)},
		{"accounts", always("/accounts")},
		{"an account", one("/accounts/%s", accounts)},
		{"connections", always("/connections")},
		{"trains", always("/trains")},
		{"trains, a search", func() string { return fmt.Sprintf("/trains?q=%04d", rand.IntN(pageTrains)) }},
		{"a train", func() string { return fmt.Sprintf("/trains/grown-%06d", rand.IntN(pageTrains)) }},
		{"audit", always("/audit")},
		{"audit, of an account", one("/audit?target=%s", accounts)},
		{"audit, of a credential", one("/audit?target=%s", of.credentials[pageTrains:])},
		{"audit, by a person", one("/audit?actor=%s", of.people)},
		{"audit, by a client key", one("/audit?actor=%s", of.keys)},
		{"audit, an act", always("/audit?action=credential.reveal")},
		{"audit, an outcome", always("/audit?outcome=refused")},
		{"audit, a request", func() string { return "/audit?request_id=" + requestNever }},
		{"audit, counted", always("/audit/facets")},
		{"audit, counted of an account", one("/audit/facets?target=%s", accounts)},
		{"people", always("/people")},
		{"a person", one("/people/%s", of.people)},
		{"groups", always("/groups")},
		{"service accounts", always("/service-accounts")},
		{"tokens", always("/tokens?whose=all")},
		{"settings", always("/settings")},
		{"one's own account", always("/account")},
		{"search", func() string { return fmt.Sprintf("/search?q=%04d", rand.IntN(pageCredentials)) }},
	}
}

// requestNever is no request's id, so that a search for it goes through all there is.
const requestNever = "req_01jd0000000000000000000000"

func searchKinds(of subjects) []pageKind {
	logs := "/api/credential-audit-logs"
	accounts := of.credentials[:pageTrains]
	return []pageKind{
		{"first page of 100", always(logs + "?limit=100")},
		{"of an account", one(logs+"/by-credential/%s", accounts)},
		{"of a credential", one(logs+"/by-credential/%s", of.credentials[pageTrains:])},
		{"by a person", one(logs+"/by-user/%s", of.people)},
		{"of an account, an act", one(logs+"/by-credential/%s?action=credential.reveal", accounts)},
		{"an act", always(logs + "?action=credential.reveal")},
		{"uses", always(logs + "?action=lease.granted")},
		{"an outcome of acts", always(logs + "?outcome=refused")},
		{"an outcome of uses", always(logs + "?outcome=failed")},
		{"a request, none", always(logs + "?request_id=" + requestNever)},
		{"in a time, none", always(logs + "?to=2020-01-01T00:00:00Z")},
	}
}

// pages asks for each page in turn, over one connection with a session's cookie.
func (p *proxy) pages(rep *report, floor *proxy, of subjects) error {
	cookie, err := p.signIn()
	if err != nil {
		return err
	}
	kinds := pageKinds(of)
	results, bare, sizes := make([]result, len(kinds)), result{}, make([]int, len(kinds))
	assets, cpu, floorCPU := map[string]int{}, make([]time.Duration, len(kinds)), time.Duration(0)
	for turn := range pageTurns {
		for k, kind := range kinds {
			before := p.busy()
			for range pageRequests / pageTurns {
				began := time.Now()
				text, err := p.page(kind.path(), cookie, false)
				if err != nil {
					return err
				}
				results[k].lat = append(results[k].lat, time.Since(began))
				if turn == 0 {
					weight, err := p.weight(text, cookie, assets)
					if err != nil {
						return err
					}
					sizes[k] = max(sizes[k], weight)
				}
			}
			cpu[k] += p.busy() - before
		}
		before := floor.busy()
		for range pageRequests / pageTurns {
			began := time.Now()
			if _, err := floor.page("/", "", false); err != nil {
				return err
			}
			bare.lat = append(bare.lat, time.Since(began))
		}
		floorCPU += floor.busy() - before
	}
	least := bare.percentile(.5)
	rep.line("")
	rep.line("| page | p50 | p95 | p50 ÷ floor | CPU | KB with all assets |")
	rep.line("|---|---|---|---|---|---|")
	for k, kind := range kinds {
		rep.line("| %s | %.1f ms | %.1f ms | %.0f | %.1f ms | %.0f |", kind.name, ms(results[k].percentile(.5)), ms(results[k].percentile(.95)), float64(results[k].percentile(.5))/float64(least), ms(cpu[k])/pageRequests, float64(sizes[k])/1000)
	}
	rep.line("| the floor: a GET through the bare reverse proxy | %.1f ms | %.1f ms | 1 | %.1f ms | |", ms(least), ms(bare.percentile(.95)), ms(floorCPU)/pageRequests)
	return nil
}

// searches asks for each search of the audit log in turn.
func (p *proxy) searches(rep *report, of subjects) error {
	kinds := searchKinds(of)
	results, cpu := make([]result, len(kinds)), make([]time.Duration, len(kinds))
	for range pageTurns {
		for k, kind := range kinds {
			before := p.busy()
			for range pageRequests / pageTurns {
				began := time.Now()
				if err := p.get(kind.path(), nil); err != nil {
					return err
				}
				results[k].lat = append(results[k].lat, time.Since(began))
			}
			cpu[k] += p.busy() - before
		}
	}
	rep.line("")
	rep.line("| audit over REST | p50 | p95 | CPU |")
	rep.line("|---|---|---|---|")
	for k, kind := range kinds {
		rep.line("| %s | %.1f ms | %.1f ms | %.1f ms |", kind.name, ms(results[k].percentile(.5)), ms(results[k].percentile(.95)), ms(cpu[k])/pageRequests)
	}
	return nil
}

// signIn returns the cookie of a session of the administrator.
func (p *proxy) signIn() (string, error) {
	form := url.Values{"email": {"bench@example.com"}, "password": {"a long enough passphrase"}}
	req, err := http.NewRequest(http.MethodPost, "http://"+p.addr+"/sign-in", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "http://"+p.addr)
	resp, err := p.client.Transport.RoundTrip(req) // which follows nothing
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == "__Host-signalbox" {
			return c.Name + "=" + c.Value, nil
		}
	}
	return "", fmt.Errorf("the administrator was not signed in: %s", resp.Status)
}

// page returns what a browser gets, as it is sent when it is packed.
func (p *proxy) page(path, cookie string, packed bool) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+p.addr+path, nil)
	if err != nil {
		return nil, err
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	req.Header.Set("Accept-Encoding", "identity")
	if packed {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := p.client.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, strconv.Itoa(resp.StatusCode))
	}
	return text, err
}

var assetOf = regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`)

// weight is what a page weighs compressed, with everything that it loads; assets remembers what each of those weighs.
func (p *proxy) weight(text []byte, cookie string, assets map[string]int) (int, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text) // a Buffer never fails
	_ = z.Close()
	all, seen := b.Len(), map[string]bool{}
	for _, m := range assetOf.FindAllSubmatch(text, -1) {
		path := strings.ReplaceAll(string(m[1]), "&amp;", "&")
		if seen[path] {
			continue
		}
		seen[path] = true
		if _, known := assets[path]; !known {
			file, err := p.page(path, cookie, true)
			if err != nil {
				return 0, err
			}
			assets[path] = len(file)
		}
		all += assets[path]
	}
	return all, nil
}
