package oauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// ByDevice: the person types a code on another device (RFC 8628).
const ByDevice Way = "device"

// ByClient: a program's own secret, without a person (RFC 6749, section 4.4).
const ByClient Way = "client_credentials"

// DeviceBegun is a login that waits until its person has typed the code at the provider.
type DeviceBegun struct {
	ID              string
	Provider, Title string
	UserCode        string
	VerifyURL       string
	VerifyURLFilled string // with the code in it; "" when the provider has none
	Interval        time.Duration
	ExpiresAt       time.Time
}

// BeginDevice asks the provider for a code that the person types on another device. Its faults are those of [Logins.Begin], "oauth_refused" and
// "oauth_unreachable".
func (l *Logins) BeginDevice(ctx context.Context, caller identity.Caller, s Start) (DeviceBegun, error) {
	s.Way = ByDevice
	var f flow
	var k Known
	if err := l.begin(ctx, caller, s, func(_ *store.Tx, known Known, begun flow) error {
		f, k = begun, known
		if k.DeviceURL == "" {
			return fault.New(fault.Unprocessable, "validation_failed", "This provider has no device login. Log in with a browser instead.").With("/provider", "has no device_url")
		}
		return nil
	}); err != nil {
		return DeviceBegun{}, err
	}
	grant, answer := l.wire.Device(ctx, k.Provider, provider.Ask{ClientID: f.ClientID, ClientSecret: k.secret, Scopes: f.Scopes, Resource: f.Resource})
	if answer.Verdict != provider.Issued {
		return DeviceBegun{}, l.failed(ctx, caller, f, k, answer)
	}
	f.Way, f.Verifier, f.Interval = ByDevice, grant.DeviceCode.Reveal(), int64(grant.Interval/time.Second)
	life := min(grant.Lifetime, 30*time.Minute)
	out := DeviceBegun{Provider: k.Name, Title: k.Title, UserCode: grant.UserCode, VerifyURL: grant.VerifyURL, VerifyURLFilled: grant.VerifyURLFilled, Interval: grant.Interval}
	err := l.db.Write(ctx, func(tx *store.Tx) (err error) {
		if out.ID, out.ExpiresAt, err = l.remember(tx, caller, f, nil, life); err != nil {
			return err
		}
		ev := caller.Event(store.OAuthBegin, l.targetOf(f, k))
		ev.Details = store.Details{store.Str("provider", k.Name), store.Str("way", string(ByDevice)), store.Str("login", out.ID)}
		return tx.Record(ev)
	})
	if err != nil {
		return DeviceBegun{}, err
	}
	return out, nil
}

// DeviceProgress is what became of a device login so far.
type DeviceProgress struct {
	Finished
	Done bool
	// Wait is when to ask again, while it is not done.
	Wait time.Duration
}

// PollDevice asks once what became of a device login. Whoever asks more often than the provider wants, or beside somebody else, is told to wait
// and the provider is not asked.
func (l *Logins) PollDevice(ctx context.Context, caller identity.Caller, id string) (DeviceProgress, error) {
	if err := l.vault.MayCreate(ctx, caller); err != nil {
		return DeviceProgress{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	f, k, wait, err := l.claimPoll(ctx, caller, id)
	if err != nil || wait > 0 {
		return DeviceProgress{Wait: wait}, err
	}
	answer := l.wire.Poll(ctx, k.Provider, provider.Poll{ClientID: f.ClientID, ClientSecret: k.secret, DeviceCode: secret.FromString(f.Verifier), Resource: f.Resource})
	again := time.Duration(f.Interval) * time.Second
	switch answer.Verdict {
	case provider.Pending:
		// RFC 8628, section 3.5: from slow_down on, five seconds more.
		if answer.Code == "slow_down" {
			again += 5 * time.Second
		}
		again = max(again, answer.RetryAfter)
		return DeviceProgress{Wait: again}, l.postpone(ctx, id, f, again)
	case provider.Issued, provider.Refused:
	default: // the provider was away for a moment, and the code is as good as before
		again = max(2*again, answer.RetryAfter)
		return DeviceProgress{Wait: again}, l.postpone(ctx, id, f, again)
	}
	if err := l.endDevice(ctx, caller, id, f, k); err != nil {
		return DeviceProgress{}, err
	}
	done, err := l.conclude(ctx, caller, f, k, answer)
	return DeviceProgress{Finished: done, Done: err == nil}, err
}

// claimPoll returns the login when the provider may be asked now, and otherwise how long to wait.
func (l *Logins) claimPoll(ctx context.Context, caller identity.Caller, id string) (f flow, k Known, wait time.Duration, err error) {
	var verdict error
	why := ""
	err = l.db.Bookkeep(ctx, store.Ceremony, func(tx *store.Tx) error {
		wait, verdict = 0, nil
		row, err := deviceRow(tx, caller, id)
		if err != nil {
			return err
		}
		now := tx.Now()
		if !now.Before(row.ExpiresAt.Time()) {
			return fault.New(fault.Conflict, "login_state_refused", "The code was not typed in time. Nothing was stored; begin the login again.")
		}
		if until := row.NextAt.Time(); now.Before(until) {
			wait = max(until.Sub(now), time.Second)
			return nil
		}
		if f, err = l.read(row); err != nil {
			return err
		}
		if k, err = l.find(tx, f.Provider, ""); err != nil {
			return err
		}
		if k.ETag() != f.State || k.usable() != nil {
			why, verdict = stateChanged, stateRefused(stateChanged)
			return nil
		}
		if verdict, err = l.moved(tx, f, k); err != nil || verdict != nil {
			why = stateMoved
			return err
		}
		// Until this poll has ended, nobody else polls.
		_, err = tx.Exec(`UPDATE oauth_flows SET next_at = $1 WHERE id = $2`, store.TimeOf(now.Add(finishTime)), id)
		return err
	})
	if err == nil && verdict != nil {
		err = cmp.Or(l.endRefused(ctx, caller, id, f, k, why), verdict)
	}
	return f, k, wait, err
}

// endRefused ends a device login whose tokens could not be stored, on record. Nobody asks its provider any more.
func (l *Logins) endRefused(ctx context.Context, caller identity.Caller, id string, f flow, k Known, why string) error {
	return l.db.Write(ctx, func(tx *store.Tx) error {
		row, err := deviceRow(tx, caller, id)
		if err != nil {
			return err
		}
		if _, err := l.spend(tx, row); err != nil {
			return err
		}
		ev := caller.Event(store.OAuthLogin, l.targetOf(f, k))
		ev.Outcome, ev.Reason = store.OutcomeRefused, why
		ev.Details = store.Details{store.Str("provider", k.Name), store.Str("way", string(ByDevice)), store.Str("login", id)}
		return tx.Record(ev)
	})
}

// deviceRow returns a device login of the caller that was not ended, locked. Its time may be over: a poll that began in time is as good when its
// answer comes later.
func deviceRow(tx *store.Tx, caller identity.Caller, id string) (flowRow, error) {
	var row flowRow
	if !store.ValidID(flowPrefix, id) {
		return row, noLogin()
	}
	err := tx.Get(&row, `SELECT `+flowColumns+` FROM oauth_flows WHERE id = $1 AND state IS NULL`+tx.ForUpdate(), id)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && row.Owner != ownerOf(caller):
		return row, noLogin()
	case err != nil:
		return row, err
	case row.UsedAt != nil:
		return row, stateRefused(stateUsed)
	}
	return row, nil
}

func noLogin() error {
	return fault.New(fault.NotFound, "not_found", "There is no such login, or you did not begin it. Begin a new one.")
}

// read opens what is remembered of a login and leaves it.
func (l *Logins) read(row flowRow) (f flow, err error) {
	text, err := l.ring.Open(flowPurpose, row.Sealed, flowAAD(row.ID))
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(text.Bytes(), &f)
}

// postpone says when the provider may be asked again. A longer interval is kept.
func (l *Logins) postpone(ctx context.Context, id string, f flow, again time.Duration) error {
	f.Interval = max(f.Interval, int64(again/time.Second))
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	sealed, err := l.ring.Seal(flowPurpose, secret.New(text), flowAAD(id))
	if err != nil {
		return err
	}
	return l.db.Bookkeep(ctx, store.Ceremony, func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE oauth_flows SET next_at = $1, sealed = $2 WHERE id = $3 AND used_at IS NULL`, store.TimeOf(tx.Now().Add(again)), sealed, id)
		return err
	})
}

// endDevice spends a device login before its tokens are stored.
func (l *Logins) endDevice(ctx context.Context, caller identity.Caller, id string, f flow, k Known) error {
	return l.db.Write(ctx, func(tx *store.Tx) error {
		row, err := deviceRow(tx, caller, id)
		if err != nil {
			return err
		}
		if _, err := l.spend(tx, row); err != nil {
			return err
		}
		ev := caller.Event(store.OAuthLogin, l.targetOf(f, k))
		ev.Outcome = store.OutcomePending
		ev.Details = store.Details{store.Str("provider", k.Name), store.Str("way", string(ByDevice)), store.Str("login", id)}
		return tx.Record(ev)
	})
}
