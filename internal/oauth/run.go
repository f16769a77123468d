package oauth

import (
	"context"
	"errors"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// settlePatience bounds one try to store what a call brought.
const settlePatience = 5 * time.Second

// run makes the call that a claim allows and stores what came of it. It returns the generation that is current then.
func (r *Room) run(cl *claim) (int64, error) {
	if err := r.step(AtClaimed); err != nil {
		return 0, err
	}
	for {
		a, err := r.call(cl)
		if err != nil {
			return 0, err
		}
		if a.Verdict == provider.Issued {
			return r.keep(cl, a)
		}
		next, err := r.settle(cl, a)
		if next == nil {
			return 0, err
		}
		cl = next // the overtaken pair
	}
}

// call sends the token once, if the claim leaves time for it. No transaction is open here.
func (r *Room) call(cl *claim) (provider.Answer, error) {
	if err := r.step(AtSending); err != nil {
		return provider.Answer{}, err
	}
	if r.since(cl.began) > claimFor-callLimit {
		return provider.Answer{Verdict: provider.NotProcessed, Code: "claim_too_old"}, nil
	}
	ctx, cancel := context.WithTimeout(r.base, callLimit)
	defer cancel()
	started := time.Now()
	a := r.exchange(ctx, cl)
	took := time.Since(started)
	r.tally.called(cl.provider.Name, a.Verdict, took)
	r.called(cl.provider.Name, a.Verdict, took)
	return a, r.step(AtAnswered)
}

// Minter gets tokens by client credentials. [provider.Client] does; an [Endpoint] that does not cannot renew such tokens.
type Minter interface {
	ClientCredentials(ctx context.Context, p provider.Provider, a provider.Ask) provider.Answer
}

func (r *Room) exchange(ctx context.Context, cl *claim) provider.Answer {
	if !cl.minted {
		return r.endpoint.Refresh(ctx, cl.provider, cl.send)
	}
	m, ok := r.endpoint.(Minter)
	if !ok {
		return provider.Answer{Verdict: provider.NotProcessed, Code: provider.CodeUnusable}
	}
	a := m.ClientCredentials(ctx, cl.provider, provider.Ask{ClientID: cl.send.ClientID, ClientSecret: cl.send.ClientSecret, Scopes: cl.send.Scopes, Resource: cl.send.Resource})
	a.Tokens.Refresh = secret.Value{}
	return a
}

// happening is what a verdict means to the table. One that is not known may mean anything.
func happening(v provider.Verdict) Happening {
	switch v {
	case provider.Issued:
		return Issued
	case provider.NotProcessed:
		return NotProcessed
	case provider.ServerError:
		return ServerError
	case provider.Refused:
		return Refused
	}
	return Ambiguous
}

// keep brings an issued pair to the disk and then to the database. What the database does not take now, it gets later; the token is never
// spent again for it.
func (r *Room) keep(cl *claim, a provider.Answer) (int64, error) {
	s := spill{credential: cl.credential, generation: cl.generation, claim: cl.id, provider: cl.provider.Name, recovery: cl.recovery, attempt: cl.attempt,
		access: a.Tokens.Access, refresh: a.Tokens.Refresh}
	if a.Tokens.Lifetime > 0 {
		ends := r.now().Add(a.Tokens.Lifetime).UTC().Truncate(time.Microsecond)
		s.ends = &ends
	}
	if cl.spare != nil {
		s.spent = cl.spare.claim
		if s.refresh.IsZero() {
			s.refresh = cl.spare.refresh // the overtaken one goes on, not the stored one that was refused
		}
	}
	path, err := r.spills.write(s)
	s.path = path
	if err != nil {
		r.log.Error("a refreshed token could not be put on disk; the database gets it at once, and until then it is in memory alone", "credential", cl.credential, "cause", err)
	} else if err := r.step(AtSpilled); err != nil {
		return 0, err
	}
	d := &debt{spill: s}
	r.owe(d)
	ctx, cancel := context.WithTimeout(r.base, settlePatience)
	defer cancel()
	version, err := r.pay(ctx, d)
	if err != nil && !errors.Is(err, errDead) {
		r.poke()
	}
	return version, err
}

// errOvertaken says that a pair came too late: its claim is not the stored one any more, or a person has stored another token.
var errOvertaken = errors.New("oauth: the pair was overtaken")

// commit stores a spilled pair, if its claim is still the stored one. Whether the claim has ended is not asked: nobody else has the pair. It
// may be repeated, since a commit whose answer was lost may stand.
func (r *Room) commit(ctx context.Context, s spill) (version int64, err error) {
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		g, err := r.vault.OpenGrant(tx, s.credential)
		if err != nil {
			return err
		}
		c, err := loadConnection(tx, s.credential)
		if err != nil {
			return err
		}
		if c.claim != s.claim {
			return errOvertaken
		}
		if c.State == Ready { // only this claim's own commit leaves it there with its id
			version = g.Version
			return errUnchanged
		}
		same, err := g.Marked(c.mark)
		if err != nil {
			return err
		}
		v, known := judge(c.standing, Issued, facts{now: tx.Now()})
		if !same || !known {
			return errOvertaken
		}
		before := c
		details := store.Details{store.Str("claim", s.claim), store.Int("generation", c.generation), store.Int("attempt", s.attempt), store.Str("provider", s.provider),
			store.Bool("recovery", s.recovery || c.State == Uncertain)}
		if version, err = r.vault.Renew(tx, chore(), g, vault.Renewal{Access: s.access, Refresh: s.refresh, Ends: s.ends, Action: store.OAuthRefresh, Details: details}); err != nil {
			return err
		}
		fresh, err := r.vault.OpenGrant(tx, s.credential)
		if err != nil {
			return err
		}
		if c.mark, err = fresh.Mark(); err != nil {
			return err
		}
		c.standing, c.generation, c.refreshed, c.code, c.attempts = v.next, version, tx.Now(), "", 0
		return c.save(tx, before)
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return version, err
}

// settle stores what a call came to that brought nothing. It returns another claim when an overtaken pair is to be tried. The error is what
// those who wait are told.
func (r *Room) settle(cl *claim, a provider.Answer) (*claim, error) {
	d := &debt{claim: cl, answer: a}
	r.owe(d)
	ctx, cancel := context.WithTimeout(r.base, settlePatience)
	defer cancel()
	_, err := r.pay(ctx, d)
	if err != nil {
		if !errors.Is(err, errDead) {
			r.poke()
		}
		return nil, err
	}
	return r.hand(d)
}

// hand returns what a paid debt has brought. A claim goes to the first who asks: it is one call, and both who paid and who waited for that come
// here.
func (r *Room) hand(d *debt) (next *claim, told error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, d.next = d.next, nil
	return next, d.told
}

// outcome stores the answer of a call that brought nothing, in one transaction with its record and, when a person is needed, the message.
func (r *Room) outcome(ctx context.Context, d *debt) error {
	cl, a := d.claim, d.answer
	// Only this answer speaks of the token that was sent. Any other leaves its fate open, or is about the client, and an overtaken pair that was
	// sent is kept: it may be the only good one.
	refused := a.Verdict == provider.Refused && a.Code == codeInvalidGrant
	var spare *spill
	if refused {
		if cl.spare != nil {
			r.withhold(cl.credential, cl.spare.claim) // before the state says that what is kept may be tried
		}
		spare = r.untried(cl.credential)
	}
	began := time.Now()
	var next *claim
	var told error
	retried := d.tried
	settled := func(tx *store.Tx) error {
		next, told = nil, nil
		g, err := r.vault.OpenGrant(tx, cl.credential)
		if err != nil {
			return err
		}
		c, err := loadConnection(tx, cl.credential)
		if err != nil {
			return err
		}
		before := c
		if err := c.align(g); err != nil {
			return err
		}
		held := c.claim == cl.id && c.State.held()
		if !held && retried {
			// An earlier try may have been stored although its commit's answer was lost: one outcome to an intent. What it took is called.
			if d.took != nil && c.claim == d.took.id && c.State.held() {
				next = d.took
			}
			return errUnchanged
		}
		ev := cl.event()
		ev.Outcome, ev.Reason = store.OutcomeFailed, a.Code
		ev.Details = append(ev.Details, store.Str("verdict", string(a.Verdict)), store.Int("status", int64(a.Status)))
		if err := tx.Record(ev); err != nil {
			return err
		}
		if !held {
			// Somebody has judged the silence of this claim, or has stored a new token, which is what counts now.
			return nil
		}
		on := happening(a.Verdict)
		if spare != nil {
			on = Spared
		}
		v, known := judge(c.standing, on, facts{now: tx.Now(), ends: cl.ends, grace: cl.provider.Grace, retryAfter: a.RetryAfter, jitter: jitter()})
		if !known {
			return errState(c.State, on)
		}
		c.code = a.Code
		if v.post {
			again := *cl
			again.recovery, again.spare, again.why, again.began = true, spare, Found, began
			again.send.RefreshToken = spare.refresh
			next, d.took = &again, &again
			return c.take(tx, next, v, before)
		}
		c.standing = v.next
		told = errNotRefreshed(c.State, c.code, wait(c.standing, tx.Now()))
		if v.Notify && before.health != vault.NeedsLogin { // they know, when a person had it tried once more
			if err := r.lost(tx, cl, a.Code); err != nil {
				return err
			}
		}
		return c.save(tx, before)
	}
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		err := settled(tx)
		d.tried = d.tried || err == nil // the commit comes next, and its answer may be lost
		return err
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	if refused && cl.spare != nil && (err == nil || fault.KindOf(err) == fault.NotFound) {
		r.discard(*cl.spare)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d.next, d.told = next, told
	return nil
}

// codeInvalidGrant is the one refusal that is about the refresh token.
const codeInvalidGrant = "invalid_grant"

// lost records that a person must log in, and has people hear of it.
func (r *Room) lost(tx *store.Tx, cl *claim, code string) error {
	ev := chore().Event(store.OAuthNeedsLogin, cl.target)
	ev.Outcome, ev.Reason = store.OutcomeFailed, code
	ev.Details = store.Details{store.Int("generation", cl.generation), store.Str("provider", cl.provider.Name)}
	if err := tx.Record(ev); err != nil {
		return err
	}
	return notify.Enqueue(tx, notify.Message{
		Kind: notify.LoginNeeded, Subject: cl.target, DedupKey: cl.credential + "/" + strconv.FormatInt(cl.generation, 10),
		Title: "Account " + cl.target.Name + " needs a new login",
		Text: "Its provider refuses the refresh token (" + code + "), so no new access token can be had. Nothing was deleted; the last access token is lent until it ends. " +
			"Log in again; the credential keeps its id and its links.",
		Facts: []notify.Fact{{Name: "Account", Value: cl.target.Name}, {Name: "Provider", Value: cl.provider.Name}, {Name: "Answer", Value: code}},
	})
}

// since measures by the larger of the process's two clocks, because one of them stands still while a machine sleeps.
func (r *Room) since(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0))) + time.Duration(r.slept.Load())
}
