package incident

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// The grants of contained credentials are ended at their providers (RFC 7009), or their tokens replaced, after the act, outside any transaction. That it is to be done is
// a row of the act's transaction; whichever instance claims it asks, and writes down what came of it if the claim still holds. A process that dies in between leaves the
// row, whose claim lapses, so the provider is asked again: ending a grant twice does no harm, and package oauth refreshes a version once, whoever asks for a newer one.

const (
	upstreamEvery = 2 * time.Second
	// upstreamClaim is longer than an attempt and its bookkeeping take.
	upstreamClaim = 75 * time.Second
	// upstreamBatch is how many a pass takes, and upstreamLanes of how many providers at a time. One that hangs holds up its own alone, and the last lane is
	// for grants that are to be ended.
	upstreamBatch = 64
	upstreamLanes = 4
	// upstreamTries is after how many attempts it is given up, over some three hours.
	upstreamTries = 12
	upstreamFirst = 5 * time.Second
	upstreamMost  = 30 * time.Minute
	closePatience = 5 * time.Second
)

// worker ends grants in the background.
type worker struct {
	every      time.Duration
	wake, quit chan struct{}
	begin, end sync.Once
	loop       sync.WaitGroup
	cut        context.CancelFunc
}

func (w *worker) prepare(every time.Duration) {
	if w.every = every; every <= 0 {
		w.every = upstreamEvery
	}
	w.wake, w.quit = make(chan struct{}, 1), make(chan struct{})
}

func (w *worker) closing() bool {
	select {
	case <-w.quit:
		return true
	default:
		return false
	}
}

func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Start begins to end grants in the background. End it with [Room.Close].
func (r *Room) Start(ctx context.Context) {
	r.worker.begin.Do(func() {
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		r.worker.cut = cut
		r.worker.loop.Go(func() {
			tick := time.NewTicker(r.worker.every)
			defer tick.Stop()
			for {
				if err := r.EndGrants(run); err != nil && run.Err() == nil {
					r.log.Error("what contained credentials need at their providers could not be done; it is tried again", "cause", err)
				}
				select {
				case <-r.worker.quit:
					return
				case <-r.worker.wake:
				case <-tick.C:
				}
			}
		})
	})
}

// Close begins nothing more and waits for what is under way, which is cut after some seconds and done again by whoever comes next. It may be called more than
// once, and without Start.
func (r *Room) Close() {
	r.worker.end.Do(func() { close(r.worker.quit) })
	if r.worker.cut == nil {
		return
	}
	late := time.AfterFunc(closePatience, r.worker.cut)
	defer late.Stop()
	r.worker.loop.Wait()
	r.worker.cut()
}

// actionOf is how what is owed stands on record.
func actionOf(act StepAct) store.Action {
	if act == RefreshTokens {
		return store.OAuthForce
	}
	return store.OAuthRevoke
}

// tableOf is where what is owed lies. In that of the revocations a version from before 00044 has stored refreshes as well, so their column says what they are.
func tableOf(act StepAct) string {
	if act == RefreshTokens {
		return "incident_refreshes"
	}
	return "incident_revocations"
}

// owe stores that a grant is to be ended, or its tokens to be replaced.
func (r *Room) owe(tx *store.Tx, caller identity.Caller, i Incident, s Step) error {
	c, _, err := r.vault.Survey(tx, s.ID, false)
	if err != nil {
		return err
	}
	now := store.TimeOf(tx.Now())
	if _, err := tx.Exec(`INSERT INTO `+tableOf(s.Act)+` (id, incident_id, credential_id, name, provider, version, attempts, next_at, epoch, claim_until, created_at) VALUES ($1,$2,$3,$4,$5,$6,0,$7,0,0,$7)`,
		store.NewID("irv"), i.ID, s.ID, s.Name, s.Of, c.Version, now); err != nil {
		return err
	}
	ev := caller.Event(actionOf(s.Act), store.Target{Kind: "credential", ID: s.ID, Name: s.Name})
	ev.Outcome, ev.Reason = store.OutcomePending, "contained"
	ev.Details = store.Details{store.Str("provider", s.Of), store.Str("incident", i.ID)}
	return tx.Record(ev)
}

// owed is a grant that is to be ended, or whose tokens are to be replaced.
type owed struct {
	ID         string `db:"id"`
	Incident   string `db:"incident_id"`
	Credential string `db:"credential_id"`
	Name       string `db:"name"`
	Provider   string `db:"provider"`
	Version    int64  `db:"version"`
	Attempts   int64  `db:"attempts"` // with this one
	Epoch      int64  `db:"epoch"`
	Act        string `db:"act"`
	Table      string `db:"from_table"`
}

// EndGrants ends the grants, and replaces the tokens, that are due, a bounded number: grants first, some providers at a time, and of each provider one after the other. Any
// instance may, also several at once: each is asked for by one of them.
func (r *Room) EndGrants(ctx context.Context) error {
	type asked struct {
		provider string
		err      error
	}
	var failures []error
	busy, answers, begun, more := map[string]bool{}, make(chan asked, upstreamLanes), 0, true
	for {
		if more && !r.worker.closing() && len(busy) < upstreamLanes {
			o, err := r.next(ctx, busy)
			if err != nil {
				more, failures = false, append(failures, err)
			}
			if err == nil && o != nil {
				busy[o.Provider] = true
				begun++
				more = begun < upstreamBatch
				go func() { answers <- asked{o.Provider, r.ask(ctx, *o)} }()
				continue
			}
		}
		if len(busy) == 0 {
			break
		}
		again := time.NewTimer(r.worker.every) // something else may be due by then
		select {
		case a := <-answers:
			delete(busy, a.provider)
			failures = append(failures, a.err)
		case <-again.C:
		}
		again.Stop()
	}
	if begun == upstreamBatch {
		r.worker.nudge() // there may be more
	}
	return errors.Join(failures...)
}

// next claims one that is due, of a provider that is not being asked: a grant that is to be ended before tokens that are to be replaced. It is nil when there is none.
func (r *Room) next(ctx context.Context, busy map[string]bool) (*owed, error) {
	o, err := r.claim(ctx, RevokeUpstream, busy)
	if err != nil || o != nil || len(busy) >= upstreamLanes-1 {
		return o, err
	}
	return r.claim(ctx, RefreshTokens, busy)
}

func (r *Room) ask(ctx context.Context, o owed) error {
	if StepAct(o.Act) == RefreshTokens {
		return r.renew(ctx, o)
	}
	return r.endGrant(ctx, o)
}

// claim takes one that is due for as long as an attempt may take, by the database's time; nil when none is. Tokens of a credential that is disabled are not due before it is
// lent again.
func (r *Room) claim(ctx context.Context, act StepAct, busy map[string]bool) (*owed, error) {
	table, acts := tableOf(act), `act`
	due, others := ` FROM `+table+` WHERE next_at <= $1 AND claim_until <= $1`, []any(nil)
	if act == RefreshTokens {
		acts = `'` + string(RefreshTokens) + `'`
		due += ` AND NOT EXISTS (SELECT 1 FROM credentials c WHERE c.id = ` + table + `.credential_id AND c.state = 'disabled')`
	}
	for provider := range busy {
		others = append(others, provider)
		due += ` AND provider <> $` + strconv.Itoa(len(others)+1)
	}
	args := func(now time.Time) []any { return append([]any{store.TimeOf(now)}, others...) }
	n := 0
	if err := r.db.Read(ctx, func(tx *store.Tx) error { return tx.Get(&n, `SELECT COUNT(*)`+due, args(tx.Now())...) }); err != nil || n == 0 {
		return nil, err
	}
	if err := r.at(AtOwed); err != nil {
		return nil, err
	}
	var out *owed
	err := r.db.Bookkeep(ctx, store.Outbox, func(tx *store.Tx) error {
		out = nil
		now := tx.Now()
		var id string
		err := tx.Get(&id, `SELECT id`+due+` ORDER BY next_at LIMIT 1`, args(now)...)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		var o owed
		err = tx.Get(&o, `UPDATE `+table+` SET epoch = epoch + 1, claim_until = $1 WHERE id = $2 AND next_at <= $3 AND claim_until <= $3
			RETURNING id, incident_id, credential_id, name, provider, version, attempts + 1 AS attempts, epoch, `+acts+` AS act, '`+table+`' AS from_table`, store.TimeOf(now.Add(upstreamClaim)), id, store.TimeOf(now))
		if errors.Is(err, store.ErrNotFound) {
			return nil // another instance was faster
		}
		out = &o
		return err
	})
	return out, err
}

// The outcomes that a timeline tells, beside the codes of the provider.
const (
	endedRevoked    = "revoked"
	endedFailed     = "failed"
	endedGone       = "nothing_to_revoke" // the credential is gone, or cannot be opened any more
	endedSuperseded = "superseded"        // somebody logged in anew, and took the mark back; of tokens also: it is marked by now
	endedRefreshed  = "refreshed"
)

// codeKept is why tokens count as not replaced although a refresh has brought some: the refresh token that leaked is still the one that works.
const codeKept = "refresh_token_kept"

// renew has the tokens of a credential replaced, unless a refresh has done so since: by the one call of its provider that may be made, which package oauth makes or waits
// for. A newer version that has the same refresh token replaces nothing. What cannot be replaced is lent to nobody from then on.
func (r *Room) renew(ctx context.Context, o owed) error {
	if err := r.at(AtAsk); err != nil {
		return err
	}
	now, err := r.succession(ctx, o.Credential, o.Version)
	if err == nil && now.State == vault.Active && (!now.Known || now.Same && !now.Kept) {
		from := o.Version
		if !now.Known { // five refreshes have followed it: another one tells whether they brought another token
			from = now.Version
		}
		_, err = r.tokens.Fresh(ctx, o.Credential, now.Version, oauth.Needed)
		if stop := r.at(AtAsked); stop != nil {
			return stop
		}
		if err == nil {
			now, err = r.succession(ctx, o.Credential, from)
		}
	}
	f := fault.Of(err)
	switch {
	case err == nil && now.Refreshed:
		return r.settle(ctx, o, endedRefreshed, oauth.Ended{})
	case err == nil && now.Known && !now.Same:
		return r.settle(ctx, o, endedSuperseded, oauth.Ended{})
	case err == nil && now.Kept:
		return r.settle(ctx, o, endedFailed, oauth.Ended{Code: codeKept})
	case err == nil && now.State == vault.Compromised:
		return r.settle(ctx, o, endedSuperseded, oauth.Ended{Code: string(vault.Compromised)})
	case err == nil && now.State != vault.Active, f.Code == "state_conflict", err != nil && ours(ctx, f):
		return r.postpone(ctx, o, false) // it was disabled, or marked, at this moment
	case err == nil && o.Attempts < upstreamTries:
		return r.postpone(ctx, o, true) // somebody has stored another version at this moment
	case f.Kind == fault.NotFound:
		return r.settle(ctx, o, endedGone, oauth.Ended{})
	case f.Code != "login_required" && f.Code != "credential_tampered" && o.Attempts < upstreamTries:
		return r.postpone(ctx, o, true)
	}
	return r.settle(ctx, o, endedFailed, oauth.Ended{Code: f.Code})
}

func (r *Room) succession(ctx context.Context, id string, version int64) (out vault.Succession, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		out, err = r.vault.Succession(tx, id, version)
		return err
	})
	return out, err
}

// ours reports whether an attempt failed for a reason of this instance: it ends, or its database or its keys are away. That says nothing of the provider, so that it is not
// counted.
func ours(ctx context.Context, f *fault.Error) bool {
	return ctx.Err() != nil || f.Kind == fault.Unavailable && f.Code != "refresh_failed" && f.Code != "refresh_pending"
}

// giveUp treats a credential whose tokens could not be replaced as one that cannot be refreshed at all: what has leaked must not go on being lent.
func (r *Room) giveUp(tx *store.Tx, caller identity.Caller, id string) (marked bool, err error) {
	c, known, err := r.vault.Survey(tx, id, true)
	if err != nil && fault.KindOf(err) == fault.NotFound {
		return false, nil
	}
	if err != nil || c.Tampered || !known {
		return false, err // it is lent to nobody anyway
	}
	if c.Status != vault.Compromised {
		if err := r.vault.Compromise(tx, caller, id); err != nil {
			return false, err
		}
		marked = true
	}
	if c.RotateAt == nil {
		err = r.vault.RotateNow(tx, caller, id)
	}
	return marked, err
}

// oweEnd has the grant ended whose tokens could not be replaced: what leaked may still work at its provider.
func (r *Room) oweEnd(tx *store.Tx, caller identity.Caller, o owed) error {
	grant, err := r.grantToEnd(tx, o.Credential, true)
	switch {
	case err != nil && fault.KindOf(err) == fault.NotFound, err == nil && grant == nil:
		return nil
	case err != nil:
		return err
	}
	return r.owe(tx, caller, Incident{ID: o.Incident}, Step{Act: RevokeUpstream, Kind: "credential", ID: o.Credential, Name: o.Name, Of: grant.Provider})
}

// endGrant asks the provider, and writes down what it said.
func (r *Room) endGrant(ctx context.Context, o owed) error {
	var grant *oauth.Grant
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		grant, err = r.logins.GrantOf(tx, o.Credential)
		if fault.KindOf(err) == fault.NotFound && err != nil {
			grant, err = nil, nil
		}
		return err
	})
	switch {
	case err != nil:
		return errors.Join(err, r.postpone(ctx, o, !ours(ctx, fault.Of(err))))
	case grant == nil:
		return r.settle(ctx, o, endedGone, oauth.Ended{})
	case grant.Version != o.Version && grant.State != vault.Compromised:
		return r.settle(ctx, o, endedSuperseded, oauth.Ended{})
	}
	if err := r.at(AtAsk); err != nil {
		return err
	}
	o.Version = grant.Version
	said := r.logins.EndGrant(ctx, grant)
	if err := r.at(AtAsked); err != nil {
		return err
	}
	switch {
	case said.Revoked:
		return r.settle(ctx, o, endedRevoked, said)
	case said.Again && ctx.Err() != nil:
		return r.postpone(ctx, o, false)
	case said.Again && o.Attempts < upstreamTries:
		return r.postpone(ctx, o, true)
	}
	return r.settle(ctx, o, endedFailed, said)
}

// postpone says when it is tried again, and whether this attempt counts.
func (r *Room) postpone(ctx context.Context, o owed, counts bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	attempts, pause := o.Attempts-1, upstreamFirst
	if counts {
		attempts, pause = o.Attempts, min(upstreamFirst<<min(o.Attempts-1, 12), upstreamMost)
	}
	return r.db.Bookkeep(ctx, store.Outbox, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE `+o.Table+` SET attempts = $1, next_at = $2, claim_until = 0 WHERE id = $3 AND epoch = $4`, attempts, store.TimeOf(tx.Now().Add(pause)), o.ID, o.Epoch)
		return err
	})
}

// settle writes down what came of it: in the audit and in the timeline, if the claim still holds.
func (r *Room) settle(ctx context.Context, o owed, outcome string, said oauth.Ended) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	lost := errors.New("incident: the claim was taken over")
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(`DELETE FROM `+o.Table+` WHERE id = $1 AND epoch = $2`, o.ID, o.Epoch)
		if err != nil {
			return err
		}
		if n == 0 {
			return lost
		}
		caller := identity.System("containment")
		details := store.Details{store.Str("credential", o.Credential), store.Str("name", o.Name), store.Str("provider", o.Provider), store.Str("outcome", outcome)}
		if said.Code != "" {
			details = append(details, store.Str("code", said.Code))
		}
		if said.Status != 0 {
			details = append(details, store.Int("status", int64(said.Status)))
		}
		details = append(details, store.Int("attempts", o.Attempts))
		_, missing := load(tx, o.Incident, tx.ForUpdate()) // before the credential, as a containment locks them; it may have been deleted
		if missing != nil && fault.KindOf(missing) != fault.NotFound {
			return missing
		}
		kind := Revoked
		if StepAct(o.Act) == RefreshTokens {
			kind = Renewed
			if outcome == endedFailed {
				marked, err := r.giveUp(tx, caller, o.Credential)
				if err != nil {
					return err
				}
				details = append(details, store.Bool("marked_compromised", marked))
			}
		}
		if outcome == endedRevoked {
			if _, err := tx.Exec(`INSERT INTO incident_ended (credential_id, version) SELECT id, CAST($1 AS BIGINT) FROM credentials WHERE id = $2 ON CONFLICT DO NOTHING`, o.Version, o.Credential); err != nil {
				return err
			}
		}
		if missing == nil {
			if _, err := enter(tx, o.Incident, kind, caller.Actor(), "", details); err != nil {
				return err
			}
			tx.Change(store.TopicIncident, o.Incident)
		}
		ev := caller.Event(actionOf(StepAct(o.Act)), store.Target{Kind: "credential", ID: o.Credential, Name: o.Name})
		ev.Details = store.Details{store.Str("provider", o.Provider), store.Int("status", int64(said.Status)), store.Str("incident", o.Incident)}
		if kind == Renewed {
			ev.Details = store.Details{store.Str("provider", o.Provider), store.Str("incident", o.Incident)}
		}
		if outcome != endedRevoked && outcome != endedRefreshed {
			ev.Outcome, ev.Reason = store.OutcomeFailed, said.Code
			if said.Code == "" {
				ev.Reason = outcome
			}
		}
		if err := tx.Record(ev); err != nil {
			return err
		}
		if kind == Renewed && outcome == endedFailed {
			return r.oweEnd(tx, caller, o)
		}
		return nil
	})
	if err == nil && outcome == endedFailed && StepAct(o.Act) == RefreshTokens {
		r.worker.nudge() // its grant may be owed
	}
	if errors.Is(err, lost) {
		return nil
	}
	return err
}
