package train

import (
	"context"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/oauth"
)

// Refresher brings fresh access tokens. [oauth.Room] does.
type Refresher interface {
	// Fresh returns the number of a version that is newer than the one given; with [oauth.Ahead] it returns at once.
	Fresh(ctx context.Context, credentialID string, generation int64, why oauth.Why) (int64, error)
}

const (
	// knowsWithin bounds the wait for news of a fresh token; knowsEvery is how often they are looked for.
	knowsWithin = time.Second
	knowsEvery  = 2 * time.Millisecond
)

// inUseFor is how long after its last use an account's access token is still kept fresh.
const inUseFor = time.Hour

// plan says when the account's access token is to be refreshed. What has no end is refreshed when it is refused.
func (a *account) plan() {
	if !a.Refreshes || a.TokenExpires == nil {
		return
	}
	advisory, mandatory := oauth.Margins(a.TokenExpires.Sub(a.Issued))
	a.refreshAt, a.waitAt = a.TokenExpires.Add(-advisory), a.TokenExpires.Add(-mandatory)
}

// stale reports whether the access token has ended.
func (a *account) stale(now time.Time) bool {
	return a.TokenExpires != nil && !a.TokenExpires.After(now)
}

// freshen sees to the access token of the account that was chosen. again says that the choice must be made anew: there is a fresh token now, or
// none can be had and the account is passed over. While the token works, that no fresh one can be had is no reason to refuse.
func (r *Room) freshen(ctx context.Context, t *trip, a *account) (again bool, err error) {
	if a.refreshAt.IsZero() {
		return false, nil
	}
	now := r.now()
	switch {
	case now.Before(a.refreshAt):
		return false, nil
	case now.Before(a.waitAt):
		_, _ = r.refresher.Fresh(ctx, a.id, a.Version, oauth.Ahead) // nobody waits for it
		return false, nil
	case slices.Contains(t.waited, a.id) && !a.stale(now):
		return false, nil
	}
	if !slices.Contains(t.waited, a.id) {
		version, err := r.refresher.Fresh(ctx, a.id, a.Version, oauth.Needed)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == nil {
			t.waited = append(slices.Clone(t.waited), a.id)
			return true, r.knows(ctx, a.id, version)
		}
		t.whyStale, t.ended = err, a.name
	}
	if !a.stale(r.now()) {
		return false, nil
	}
	t.stale = append(slices.Clone(t.stale), a.id)
	return true, nil
}

// because puts the reason why a token could not be refreshed in the place of the bare fact that no account can be used: when trying again may help,
// and when only a login does.
func (t *trip) because(err error) error {
	f, ok := fault.As(err)
	why, known := fault.As(t.whyStale)
	switch {
	case !ok || !known || f.Code != "no_account" || len(t.stale) == 0:
	case why.Kind == fault.Unavailable:
		return why
	case why.Code == "login_required":
		return fault.New(f.Kind, f.Code, "The access token of the account "+t.ended+" has ended, its provider refuses to refresh it, and no other account can be used. "+
			"A person must log in again (signalbox oauth login "+t.ended+"); nothing was deleted, and requests are served from then on.")
	}
	return err
}

// knows returns when this instance goes by that version of a credential, or a later one. Another instance may have stored it, or another
// goroutine of this one, which is about to tell.
func (r *Room) knows(ctx context.Context, id string, version int64) error {
	for limit := time.Now().Add(knowsWithin); ; {
		a := r.lines.Load().accounts.get(id)
		if a == nil || a.Version >= version || time.Now().After(limit) {
			return nil
		}
		if err := r.db.CatchUp(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(knowsEvery):
		}
	}
}

// again grants the request another lease on the same account, with a fresh access token, after the upstream has refused the one that it had: once
// a request. It returns nil without an error when there is no fresh token; the failure is then like any other.
func (l *Lease) again(ctx context.Context) (*Lease, error) {
	r, a := l.room, l.account
	if !a.Refreshes || slices.Contains(l.trip.denied, a.id) {
		return nil, nil
	}
	version, err := r.refresher.Fresh(ctx, a.id, a.Version, oauth.Denied)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil || version <= a.Version {
		return nil, nil
	}
	if err := r.knows(ctx, a.id, version); err != nil {
		return nil, err
	}
	t := l.trip
	t.denied, t.only = append(slices.Clone(t.denied), a.id), a.id
	next, err := r.grant(ctx, &t)
	if f, ok := fault.As(err); ok {
		switch f.Code {
		case "no_account", "accounts_cooling", "account_not_linked":
			l.trip.denied = t.denied
			return nil, nil // it was unlinked or disabled meanwhile
		}
	}
	return next, err
}

// ahead has the access tokens refreshed that end soon, of accounts that were lent lately, and of those that somebody has paused or drained: that must not
// cost the login.
func (r *Room) ahead() {
	if r.refresher == nil || r.closed.Load() {
		return
	}
	now, since := r.now(), time.Now().Add(-inUseFor)
	for a := range r.lines.Load().accounts.all() {
		if a.refreshAt.IsZero() || now.Before(a.refreshAt) || a.used.At().Before(since) && a.held() == "" || a.barred(now) != "" && a.barredHere(now) != "" {
			continue
		}
		_, _ = r.refresher.Fresh(context.Background(), a.id, a.Version, oauth.Ahead)
	}
}
