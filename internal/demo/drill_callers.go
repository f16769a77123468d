package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/outbound"
)

const (
	// callerPace is the mean pause between two requests of a caller. At the end of an access token all of them ask at once.
	callerPace = 500 * time.Millisecond
	// callerPatience is how long after the last expiry of its connection a caller goes on asking until it is served: longer than a claim with
	// everything that is granted on top.
	callerPatience = 90 * time.Second

	drillPrompt = `{"model":"claude-drill","max_tokens":8,"messages":[{"role":"user","content":"drill"}]}`
)

// caller asks one instance for one connection until that has outlived its expiries, and then until it is served once more.
func (d *drill) caller(ctx context.Context, url string, l lane) {
	var over time.Time // when the last expiry was seen to be behind
	for ctx.Err() == nil {
		status, waits := d.ask(ctx, url, l)
		switch {
		case status == http.StatusOK:
			d.answered.Add(1)
		case ctx.Err() != nil:
		case waits:
			d.waited.Add(1)
		default:
			d.refused.Add(1)
		}
		g := d.authority.Record(l.grant)
		if over.IsZero() && (g.Delivered >= d.Expiries || g.Lost) {
			over = time.Now()
		}
		if !over.IsZero() {
			if status == http.StatusOK {
				return
			}
			if g.Lost || time.Since(over) > callerPatience {
				break
			}
		}
		rest := callerPace/2 + rand.N(callerPace)
		if left := time.Until(g.Until); left > 0 {
			rest = min(rest, left)
		}
		if pause(ctx, rest) {
			break
		}
	}
	d.failed.Add(1)
}

// ask makes one request. waits says that the answer tells when to come back.
func (d *drill) ask(ctx context.Context, url string, l lane) (status int, waits bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/messages", strings.NewReader(drillPrompt))
	if err != nil {
		return 0, false
	}
	req.Header.Set("X-Api-Key", l.key.Reveal())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	resp, err := d.calls.Do(req)
	if err != nil {
		return 0, false
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return 0, false
	}
	return resp.StatusCode, resp.Header.Get("Retry-After") != ""
}

// report puts together what the OAuth server, the audit log and the callers say.
func (d *drill) report(ctx context.Context) (DrillReport, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r := DrillReport{
		Seed: d.Seed, Instances: len(d.Instances), Callers: d.Callers, Expiries: d.Expiries,
		Answered: d.answered.Load(), ToldToWait: d.waited.Load(), Refused: d.refused.Load(), CallersFailed: int(d.failed.Load()),
	}
	for _, l := range d.lanes {
		c := DrilledConnection{GrantRecord: d.authority.Record(l.grant), Mischief: l.Mischief, Grace: l.Grace > 0}
		c.Survived = min(c.Delivered, d.Expiries)
		c.Doubled = max(c.Retries-c.Struck, 0)
		cred, err := d.Admin.GetCredential(ctx, l.credential)
		if err != nil {
			return r, fmt.Errorf("ask for the health of %s: %w", l.Name, err)
		}
		c.Health = cred.Health
		if err := d.recorded(ctx, l, &c); err != nil {
			return r, fmt.Errorf("read the record of %s: %w", l.Name, err)
		}
		r.add(c)
	}
	return r, nil
}

func (r *DrillReport) add(c DrilledConnection) {
	r.Connections = append(r.Connections, c)
	r.Calls += c.Calls
	r.Refreshes += c.Refreshes
	r.Reuses += c.Reuses
	r.Doubled += c.Doubled
	r.Recoveries += c.Recoveries
	if !r.Naive {
		r.Unrecorded += max(c.Calls-c.Recorded, 0)
	}
	if c.Lost {
		r.GrantsLost++
	}
}

// recorded counts the calls that the audit log tells of. The log takes a moment to have what was written last.
func (d *drill) recorded(ctx context.Context, l lane, c *DrilledConnection) error {
	for until := time.Now().Add(10 * time.Second); ; {
		claims, recoveries := map[any]bool{}, map[any]bool{}
		for cursor := ""; ; {
			page, err := d.Admin.AuditByCredential(ctx, l.credential, client.AuditFilter{Action: "oauth.refresh", Limit: 1000, Cursor: cursor})
			if err != nil {
				return err
			}
			for _, e := range page.Events {
				id := fmt.Sprint(e.Details["claim"], "/", e.Details["attempt"])
				claims[id] = true
				if e.Details["recovery"] == true {
					recoveries[id] = true
				}
			}
			if cursor = page.NextCursor; cursor == "" {
				break
			}
		}
		c.Recorded, c.Recoveries = len(claims), len(recoveries)
		if c.Recorded >= c.Calls || time.Now().After(until) || pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// NaiveDrill is the control: callers that refresh by themselves whenever their token has ended, each for itself, as clients without a Signalbox
// do. It needs no server.
func NaiveDrill(ctx context.Context, o DrillOptions) (_ DrillReport, err error) {
	began := time.Now()
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	if err != nil {
		return DrillReport{}, err
	}
	calls := outbound.NewClient(policy, outbound.Options{})
	a := NewAuthority(AuthorityOptions{Seed: o.Seed, Lifetime: o.Lifetime})
	defer func() {
		calls.CloseIdleConnections()
		err = errors.Join(err, a.Close(context.WithoutCancel(ctx)))
	}()
	address, err := serveOn(a.Serve)
	if err != nil {
		return DrillReport{}, err
	}
	r := DrillReport{Seed: o.Seed, Naive: true, Instances: 1, Callers: o.Callers, Expiries: 1}
	for i := range treatments() {
		n, tokens := a.Login(Treatment{Name: fmt.Sprintf("plain %d", i+1)}) // no mischief: their own doing is enough
		var wg sync.WaitGroup
		var failed, answered int64
		var mu sync.Mutex
		for range o.Callers {
			wg.Go(func() {
				body := "grant_type=refresh_token&refresh_token=" + tokens.Refresh.Reveal()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/token", strings.NewReader(body))
				if err != nil {
					return
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				resp, err := calls.Do(req)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed++
					return
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					failed++
					return
				}
				answered++
			})
		}
		wg.Wait()
		c := DrilledConnection{GrantRecord: a.Record(n)}
		c.Doubled = c.Retries
		if !c.Lost {
			c.Survived = 1
		}
		r.add(c)
		r.CallersFailed += int(failed)
		r.Answered += answered
	}
	r.Seconds = time.Since(began).Seconds()
	return r, ctx.Err()
}
