package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
)

// DrillOptions says what a drill is made of.
type DrillOptions struct {
	// Instances are the addresses of servers on one database, and Admin a client of one of them.
	Instances []string
	Admin     *client.Client
	// Callers ask each instance, Expiries is how often the access token of each connection ends, and Lifetime how long each is good.
	Callers, Expiries int
	Lifetime          time.Duration
	// Seed decides which refreshes meet mischief.
	Seed uint64
	// Progress is told now and then how many expiries are over, of how many. Nil tells nobody.
	Progress func(over, all int)
}

// DrillReport is what came of a drill.
type DrillReport struct {
	Seed      uint64 `json:"seed"`
	Naive     bool   `json:"naive,omitempty"`
	Instances int    `json:"processes"`
	Callers   int    `json:"callers" doc:"For each process."`
	Expiries  int    `json:"expiries" doc:"Of each connection."`

	Connections []DrilledConnection `json:"connections"`

	// Of all connections together.
	Calls      int `json:"calls"`
	Refreshes  int `json:"refreshes"`
	Reuses     int `json:"reuses"`
	Doubled    int `json:"doubled"`
	GrantsLost int `json:"grants_lost"`
	Recoveries int `json:"recoveries"`
	Unrecorded int `json:"unrecorded"`

	// Of the requests of all callers, and the callers that were not served in the end.
	Answered      int64 `json:"answered"`
	ToldToWait    int64 `json:"told_to_wait"`
	Refused       int64 `json:"refused"`
	CallersFailed int   `json:"callers_failed"`

	Seconds float64 `json:"seconds"`
}

// DrilledConnection is what came of one connection.
type DrilledConnection struct {
	GrantRecord
	// Mischief is what its provider does to one refresh in every Every, and Grace says whether a refresh token goes on for a while after its use.
	Mischief Mischief `json:"mischief,omitempty"`
	Grace    bool     `json:"grace"`
	// Survived counts the expiries after which there was a new token, up to those of the drill.
	Survived int `json:"survived"`
	// Doubled counts calls for a token that had been presented before without mischief: the promise is none.
	Doubled int `json:"doubled"`
	// Recorded counts the calls that the audit log tells of, and Recoveries those that it calls recoveries.
	Recorded   int    `json:"recorded"`
	Recoveries int    `json:"recoveries"`
	Health     string `json:"health"`
}

// Lost reports whether anything was lost: a grant, an expiry, a caller, or the record of a call; or was called twice.
func (r DrillReport) Lost() bool {
	short := false
	for _, c := range r.Connections {
		short = short || c.Survived < r.Expiries
	}
	return short || r.GrantsLost+r.Reuses+r.Doubled+r.Unrecorded+r.CallersFailed > 0
}

// drillGrace is longer than any recovery takes that begins when the old access token has ended.
const drillGrace = 3 * time.Minute

// treatments are the connections of a drill. What is lost after the rotation can be had back only from a provider with a grace, so the others
// lose no answer: no client in the world survives that without a login.
func treatments() []Treatment {
	return []Treatment{
		{Name: "plain"},
		{Name: "busy", Mischief: Busy, Every: 3},
		{Name: "limited", Mischief: Limited, Every: 3},
		{Name: "cut-before", Mischief: CutBefore, Every: 3},
		{Name: "hang-before", Mischief: HangBefore, Every: 5},
		{Name: "cut-after", Mischief: CutAfter, Every: 3, Grace: drillGrace},
		{Name: "garbage-after", Mischief: GarbageAfter, Every: 3, Grace: drillGrace},
		{Name: "hang-after", Mischief: HangAfter, Every: 5, Grace: drillGrace},
	}
}

// drill is a drill under way.
type drill struct {
	DrillOptions
	authority *Authority
	upstream  *Upstream
	calls     *http.Client
	lanes     []lane

	answered, waited, refused atomic.Int64
	failed                    atomic.Int64
}

// lane is one connection with the client key by which callers are lent it.
type lane struct {
	Treatment
	grant      int
	credential string
	key        secret.Value
}

// Drill has many callers use connections whose access tokens end all the time, at an OAuth server that takes a grant away when a refresh token
// is used twice, and makes mischief besides. It ends when every connection has outlived its expiries, or ctx does. The servers must be allowed
// to call 127.0.0.1.
func Drill(ctx context.Context, o DrillOptions) (_ DrillReport, err error) {
	began := time.Now()
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1"})
	if err != nil {
		return DrillReport{}, err
	}
	d := &drill{DrillOptions: o, calls: outbound.NewClient(policy, outbound.Options{Timeout: 45 * time.Second})}
	d.upstream = NewUpstream(Options{})
	d.authority = NewAuthority(AuthorityOptions{Seed: o.Seed, Lifetime: o.Lifetime, Issued: d.upstream.AddTokenUntil, Withdrawn: d.upstream.RemoveKey})
	defer func() {
		d.calls.CloseIdleConnections()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, d.authority.Close(end), d.upstream.Shutdown(end))
	}()
	tokens, err := serveOn(d.authority.Serve)
	if err != nil {
		return DrillReport{}, err
	}
	api, err := serveOn(d.upstream.Serve)
	if err != nil {
		return DrillReport{}, err
	}
	for _, t := range treatments() {
		t.Every = min(t.Every, o.Expiries)
		if err := d.lay(ctx, t, tokens+"/token", api); err != nil {
			return DrillReport{}, fmt.Errorf("prepare the connection %s: %w", t.Name, err)
		}
	}
	var wg sync.WaitGroup
	for i, url := range o.Instances {
		for n := range o.Callers {
			wg.Go(func() { d.caller(ctx, url, d.lanes[(i+n)%len(d.lanes)]) })
		}
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	d.watch(ended)
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return DrillReport{}, ctx.Err()
	}
	r, err := d.report(context.WithoutCancel(ctx))
	r.Seconds = time.Since(began).Seconds()
	return r, err
}

// serveOn serves on a loopback port and returns its address.
func serveOn(serve func(net.Listener) error) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen on a loopback port: %w", err)
	}
	go func() { _ = serve(l) }() // it ends with its owner's Close
	return "http://" + l.Addr().String(), nil
}

// lay stores a connection of a new grant and makes a train that is lent it.
func (d *drill) lay(ctx context.Context, t Treatment, endpoint, api string) error {
	n, tokens := d.authority.Login(t)
	c, err := d.Admin.CreateCredential(ctx, client.CredentialDraft{
		Type: "oauth", Name: "drill " + t.Name, Provider: "anthropic", BaseURL: api,
		OAuth:   &client.OAuth{ExpiresAt: &tokens.Until, ClientID: "refresh-drill", TokenEndpoint: endpoint, TokenEndpointAuthMethod: "none", TokenRequestFormat: "form"},
		Secrets: map[string]string{"access_token": tokens.Access.Reveal(), "refresh_token": tokens.Refresh.Reveal()},
	})
	if err != nil {
		return err
	}
	train := "drill-" + t.Name
	if _, err := d.Admin.CreateTrain(ctx, client.TrainDraft{TrainID: train, Name: "Drill " + t.Name}); err != nil {
		return err
	}
	if _, _, err := d.Admin.Link(ctx, train, client.LinkDraft{CredentialID: c.ID}); err != nil {
		return err
	}
	k, err := d.Admin.IssueKey(ctx, train, client.KeyDraft{Name: "drill"})
	if err != nil {
		return err
	}
	d.lanes = append(d.lanes, lane{Treatment: t, grant: n, credential: c.ID, key: secret.FromString(k.APIKey)})
	return nil
}

// watch tells of the progress until the callers have ended.
func (d *drill) watch(ended <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if d.Progress != nil {
			over := 0
			for _, g := range d.authority.Records() {
				over += min(g.Delivered, d.Expiries)
			}
			d.Progress(over, d.Expiries*len(d.lanes))
		}
		select {
		case <-ended:
			return
		case <-tick.C:
		}
	}
}
