package oauth

import (
	"context"
	"errors"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// claim is the right, on record, to call the token endpoint once.
type claim struct {
	id, credential string
	generation     int64
	target         store.Target
	caller         identity.Caller
	why            Happening
	recovery       bool
	attempt        int64
	// began is before the claim's transaction, by this process's clocks: the claim does not end before began + claimFor.
	began    time.Time
	provider provider.Provider
	send     provider.Grant
	// minted says that the tokens come by client credentials: there is no refresh token that could be spent.
	minted bool
	// ends is when the access token of this generation ends; zero for unknown.
	ends time.Time
	// spare is the overtaken pair that is sent instead of the stored token, or nil.
	spare *spill
}

// reply is what a connection answers to whoever wants to refresh it. Exactly one of the first three is set, or none: then it may not be called now.
type reply struct {
	claim *claim
	// moved is a generation that is newer than the one asked about.
	moved int64
	// busy says that somebody else's call is under way.
	busy  bool
	state State
	until time.Time // when to ask again; zero: waiting does not help
	code  string
}

// want is what somebody asks of a connection.
type want struct {
	credential string
	generation int64
	on         Happening
	caller     identity.Caller
	spare      *spill
}

// errUnchanged rolls back a transaction that changes nothing.
var errUnchanged = errors.New("oauth: nothing changes")

// ask looks at a connection under its lock and takes the claim when the table allows a call. What the claim needs is stored with it: the
// intent, on record, and the attempt. That also proves that the database takes writes before the token is spent.
func (r *Room) ask(ctx context.Context, w want) (reply, error) {
	var out reply
	began := time.Now()
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		out = reply{}
		g, err := r.vault.OpenGrant(tx, w.credential)
		if err != nil {
			return err
		}
		if g.Version > w.generation && w.on != Forced && w.on != Found {
			out.moved = g.Version
			return errUnchanged
		}
		if g.State != vault.Active {
			return fault.New(fault.Conflict, "state_conflict", "The credential is disabled or marked as compromised, so it is not refreshed. Enable it first.")
		}
		if !g.Refreshes {
			return errNothingToRefresh()
		}
		way, ok, err := r.resolve(tx, g)
		if err != nil {
			return err
		}
		if !ok {
			return errNothingToRefresh()
		}
		c, err := loadConnection(tx, w.credential)
		if err != nil {
			return err
		}
		before := c
		if err := c.align(g); err != nil {
			return err
		}
		c.mended(way.changed)
		now := tx.Now()
		f := facts{now: now, ends: endsOf(g), grace: way.provider.Grace, jitter: jitter()}
		lapsed := c.State.held() && !now.Before(c.claimUntil.Add(takeoverAfter))
		if lapsed {
			if err := c.lapse(tx, g, f, claimLapsed); err != nil {
				return err
			}
		}
		v, known := judge(c.standing, w.on, f)
		if !known {
			return errState(c.State, w.on)
		}
		if w.spare != nil && (!c.refused() || !r.keeps(*w.spare)) {
			v.post = false // somebody else was quicker
		}
		if !v.post {
			out.state, out.until, out.code, out.busy = c.State, v.until, c.code, c.State.held()
			if lapsed {
				return c.save(tx, before)
			}
			return errUnchanged
		}
		cl := &claim{credential: w.credential, generation: c.generation, target: g.Target(), caller: w.caller, why: w.on, recovery: v.Recovery, began: began, provider: way.provider,
			send: way.send, minted: g.OAuth.GrantType == vault.GrantClientCredentials, ends: f.ends, spare: w.spare}
		if cl.spare != nil {
			cl.send.RefreshToken = cl.spare.refresh
		}
		if err := c.take(tx, cl, v, before); err != nil {
			return err
		}
		out.claim = cl
		return nil
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return out, err
}

// claimLapsed is why a token may be spent whose holder has said nothing.
const claimLapsed = "claim_lapsed"

// lapse judges a claim whose holder has said nothing: it may have spent the token. The claim's id stays, so that a late answer still counts.
func (c *connection) lapse(tx *store.Tx, g vault.RefreshGrant, f facts, why string) error {
	v, known := judge(c.standing, Lapsed, f)
	if !known {
		return errState(c.State, Lapsed)
	}
	c.standing, c.code = v.next, why
	ev := chore().Event(store.OAuthRecovery, g.Target())
	ev.Reason = c.code
	ev.Details = store.Details{store.Str("claim", c.claim), store.Int("generation", c.generation), store.Int("attempt", c.attempts), store.Str("safe_at", stamp(c.SafeAt))}
	return tx.Record(ev)
}

// take stores the claim with its intent.
func (c *connection) take(tx *store.Tx, cl *claim, v verdict, before connection) error {
	now := tx.Now()
	c.standing = v.next
	c.attempts++
	c.claim, c.claimUntil, c.attempted = store.NewID("claim"), now.Add(claimFor), now
	cl.id, cl.attempt = c.claim, c.attempts
	if err := c.save(tx, before); err != nil {
		return err
	}
	ev := cl.event()
	ev.Outcome = store.OutcomePending
	return tx.Record(ev)
}

// event is the beginning of a record about the claim; intent and outcome share it.
func (cl *claim) event() store.Event {
	ev := cl.caller.Event(store.OAuthRefresh, cl.target)
	ev.Details = store.Details{store.Str("claim", cl.id), store.Int("generation", cl.generation), store.Int("attempt", cl.attempt), store.Str("provider", cl.provider.Name),
		store.Str("why", string(cl.why)), store.Bool("recovery", cl.recovery)}
	if cl.spare != nil {
		ev.Details = append(ev.Details, store.Str("overtaken_claim", cl.spare.claim))
	}
	return ev
}

// endsOf says when the access token of a grant ends; zero for unknown.
func endsOf(g vault.RefreshGrant) time.Time {
	if g.OAuth.ExpiresAt == nil {
		return time.Time{}
	}
	return *g.OAuth.ExpiresAt
}

func chore() identity.Caller { return identity.System("oauth") }

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(store.TimeFormat)
}

func errState(s State, on Happening) error {
	return errors.New("oauth: nothing is known of " + string(on) + " in the state " + strconv.Quote(string(s)))
}

func errNothingToRefresh() error {
	return fault.New(fault.Conflict, "login_required",
		"There is nothing to refresh this credential with: it has no refresh token, or no token endpoint is known. Log in again, or set the oauth block's token_endpoint.")
}
