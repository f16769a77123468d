package identity

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// ListIssuers returns every outside issuer, the oldest first. It needs [IssuerRead].
func (r *Room) ListIssuers(ctx context.Context, caller Caller) ([]Issuer, error) {
	if err := r.allow(ctx, caller, IssuerRead, store.Target{Kind: "jwt_issuer"}); err != nil {
		return nil, err
	}
	return r.readIssuers(ctx, "")
}

// Issuers are few, so one is found among all.
func (r *Room) readIssuers(ctx context.Context, id string) (out []Issuer, err error) {
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		out = nil
		rows, err := readWebTokens(tx)
		if err != nil {
			return err
		}
		for _, row := range rows.issuers {
			if id != "" && row.ID != id {
				continue
			}
			i, err := row.issuer(rows.subjects)
			if err != nil {
				return err
			}
			out = append(out, i)
		}
		return nil
	})
	return out, err
}

// GetIssuer returns an outside issuer. It needs [IssuerRead].
func (r *Room) GetIssuer(ctx context.Context, caller Caller, id string) (Issuer, error) {
	if err := r.allow(ctx, caller, IssuerRead, store.Target{Kind: "jwt_issuer", ID: id}); err != nil {
		return Issuer{}, err
	}
	found, err := r.readIssuers(ctx, id)
	if err == nil && (len(found) == 0 || id == "") {
		err = noIssuer()
	}
	if err != nil {
		return Issuer{}, err
	}
	return found[0], nil
}

// CreateIssuer begins to accept the tokens of an outside issuer. Its callers get no scope that the caller has not. It needs [IssuerWrite].
func (r *Room) CreateIssuer(ctx context.Context, caller Caller, e IssuerEdit) (Issuer, error) {
	fresh := Issuer{
		ID: store.NewID("jwi"), Active: true, SubjectClaim: "sub", SubjectForm: SubjectText, SubjectIs: SubjectListed, MaxLife: defaultMaxLife,
	}
	return r.writeIssuer(ctx, caller, store.IssuerCreate, fresh.ID, e, func(*store.Tx) (issuerRow, Issuer, error) {
		return issuerRow{ID: fresh.ID}, fresh, nil
	})
}

// UpdateIssuer changes an outside issuer; what it has issued is judged by what it is then. It needs [IssuerWrite].
func (r *Room) UpdateIssuer(ctx context.Context, caller Caller, id string, e IssuerEdit) (Issuer, error) {
	return r.writeIssuer(ctx, caller, store.IssuerUpdate, id, e, func(tx *store.Tx) (issuerRow, Issuer, error) {
		row, i, err := lockIssuer(tx, id)
		if err == nil {
			err = changedSince("issuer", e.IfMatch, i.ETag())
		}
		return row, i, err
	})
}

func lockIssuer(tx *store.Tx, id string) (row issuerRow, i Issuer, err error) {
	err = tx.Get(&row, `SELECT `+issuerColumns+` FROM jwt_issuers WHERE id = $1`+tx.ForUpdate(), id)
	if errors.Is(err, store.ErrNotFound) {
		return row, i, noIssuer()
	} else if err != nil {
		return row, i, err
	}
	var subjects []subjectRow
	if err := tx.Select(&subjects, `SELECT issuer_id, subject, user_id FROM jwt_subjects WHERE issuer_id = $1 ORDER BY subject`, id); err != nil {
		return row, i, err
	}
	i, err = row.issuer(subjects)
	return row, i, err
}

func (r *Room) writeIssuer(ctx context.Context, caller Caller, act store.Action, id string, e IssuerEdit, begin func(*store.Tx) (issuerRow, Issuer, error)) (Issuer, error) {
	if err := r.allow(ctx, caller, IssuerWrite, store.Target{Kind: "jwt_issuer", ID: id}); err != nil {
		return Issuer{}, err
	}
	var out Issuer
	var verdict error
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		verdict = nil
		if err := lock(tx, "jwt_issuers"); err != nil {
			return err
		}
		row, was, err := begin(tx)
		if err != nil {
			return err
		}
		out = e.apply(was)
		if err := r.validIssuer(&out, e); err != nil {
			return err
		}
		if out.Shared && e.Secret == nil && row.Sealed == nil {
			return mustHaveSecret()
		}
		// Also when the scopes stay as they are: who names other keys speaks for everybody whom the issuer may name.
		if verdict = beyondScopes(caller, out.Scopes); verdict != nil {
			ev := caller.Event(store.IdentityRefused, out.Target())
			ev.Outcome, ev.Reason = store.OutcomeRefused, "scope_missing"
			return tx.Record(ev)
		}
		if err := r.storeIssuer(tx, row, &out, e); err != nil {
			return err
		}
		tx.Change(store.TopicWebToken, out.ID)
		return tx.Record(withIssuer(caller.Event(act, out.Target()), out, e))
	})
	if err == nil {
		err = verdict
	}
	if err != nil {
		return Issuer{}, err
	}
	return out, nil
}

// beyondScopes refuses scopes that a scoped caller has not itself.
func beyondScopes(caller Caller, scopes Scopes) error {
	if !caller.scoped() {
		return nil
	}
	for _, s := range scopes {
		if !caller.Scopes.Has(s) {
			return fault.New(fault.Forbidden, "scope_missing", "A token cannot let others do more than itself: it lacks the scope "+string(s)+". Use a token that has it, or give the issuer fewer scopes.")
		}
	}
	return nil
}

func (r *Room) storeIssuer(tx *store.Tx, row issuerRow, i *Issuer, e IssuerEdit) error {
	now := store.TimeOf(tx.Now())
	if row.CreatedAt == 0 {
		var n int
		if err := tx.Get(&n, `SELECT COUNT(*) FROM jwt_issuers`); err != nil {
			return err
		}
		if n >= MaxIssuers {
			return fault.New(fault.Conflict, "state_conflict", "There are as many outside issuers as there may be. Delete one that is not used.")
		}
		row.CreatedAt = now
	}
	if e.Secret != nil {
		row.Version++
		sealed, err := r.cfg.Ring.Seal(issuerPurpose, *e.Secret, row.aad())
		if err != nil {
			return err
		}
		row.Sealed = sealed
	} else if !i.Shared {
		row.Sealed = nil
	}
	algorithms, err := json.Marshal(i.Algorithms)
	if err != nil {
		return err
	}
	scopes, err := encodeScopes(i.Scopes)
	if err != nil {
		return err
	}
	active := 0
	if i.Active {
		active = 1
	}
	i.CreatedAt, i.UpdatedAt, i.Version = row.CreatedAt.Time(), now.Time(), row.Version
	_, err = tx.Exec(`INSERT INTO jwt_issuers (`+issuerColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)
		ON CONFLICT (id) DO UPDATE SET name = $2, iss = $3, aud = $4, jwks_url = $5, sealed = $6, algorithms = $7, subject_claim = $8, subject_form = $9,
		subject_is = $10, scopes = $11, max_life = $12, active = $13, version = $14, updated_at = $16`,
		i.ID, i.Name, i.Issuer, i.Audience, i.JWKSURL, row.Sealed, string(algorithms), i.SubjectClaim, string(i.SubjectForm), string(i.SubjectIs), scopes,
		int64(i.MaxLife/time.Second), active, row.Version, row.CreatedAt, now)
	if store.IsConflict(err) {
		return fault.New(fault.Conflict, "already_exists", "There is an issuer of this name already. Use another one.")
	} else if err != nil {
		return err
	}
	if e.Subjects == nil && i.SubjectIs == SubjectListed {
		return nil
	}
	if _, err := tx.Exec(`DELETE FROM jwt_subjects WHERE issuer_id = $1`, i.ID); err != nil {
		return err
	}
	for _, s := range i.Subjects {
		var known string
		if err := tx.Get(&known, `SELECT id FROM users WHERE id = $1`, s.UserID); errors.Is(err, store.ErrNotFound) {
			return fault.New(fault.Unprocessable, "validation_failed", "The list of subjects names somebody who is no person here.").With("/subjects", "names somebody who is no person here")
		} else if err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO jwt_subjects (issuer_id, subject, user_id) VALUES ($1,$2,$3)`, i.ID, s.Subject, s.UserID); err != nil {
			return err
		}
	}
	return nil
}

// withIssuer tells what counts of an issuer: whom it is pinned to, what its callers may do. Its secret is never in it.
func withIssuer(ev store.Event, i Issuer, e IssuerEdit) store.Event {
	names := make([]string, 0, len(i.Scopes))
	for _, s := range i.Scopes {
		names = append(names, string(s))
	}
	ev.Fields = e.fields()
	ev.Details = append(ev.Details, store.Str("issuer", i.Issuer), store.Bool("any_issuer", i.AnyIssuer), store.Str("audience", i.Audience), store.Bool("any_audience", i.AnyAudience),
		store.Strs("algorithms", i.Algorithms), store.Str("subject_is", string(i.SubjectIs)), store.Strs("scopes", names), store.Bool("active", i.Active))
	return ev
}

// DeleteIssuer ends the acceptance of an outside issuer at once. It needs [IssuerWrite].
func (r *Room) DeleteIssuer(ctx context.Context, caller Caller, id, ifMatch string) error {
	if err := r.allow(ctx, caller, IssuerWrite, store.Target{Kind: "jwt_issuer", ID: id}); err != nil {
		return err
	}
	return r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		_, i, err := lockIssuer(tx, id)
		if err != nil {
			return err
		}
		if err := changedSince("issuer", ifMatch, i.ETag()); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM jwt_issuers WHERE id = $1`, id); err != nil {
			return err
		}
		tx.Change(store.TopicWebToken, id)
		return tx.Record(caller.Event(store.IssuerDelete, i.Target()))
	})
}

func mustHaveSecret() error {
	return fault.New(fault.Unprocessable, "validation_failed", "An issuer without a JWKS URL needs its shared secret.").With("/shared_secret", "is required")
}

func noIssuer() error {
	return fault.New(fault.NotFound, "not_found", "There is no such issuer. List the issuers to see their ids.")
}
