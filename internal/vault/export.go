package vault

import (
	"context"
	"errors"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Exported is a credential with everything that it is: the present version of its secret fields, its notes and its state.
type Exported struct {
	Credential
	State   Status
	Secrets map[string]secret.Value
}

// ExportPage is some credentials of an export, how many were left out because they do not open or were changed outside Signalbox, and where the
// next page goes on, empty at the end.
type ExportPage struct {
	Credentials []Exported
	LeftOut     int
	Next        string
}

// exportPage is how many credentials are revealed in one transaction.
const exportPage = 100

// MayExport returns nil when the caller may reveal secrets, with a fresh proof where they are signed in. A refusal is recorded.
func (r *Room) MayExport(ctx context.Context, caller identity.Caller) error {
	_, err := r.reach(ctx, caller, identity.CredentialReveal, "export", "")
	return err
}

// Export reveals one page of what the caller may reveal, in the order of the ids. Each has its reveal on record before it is opened, with the
// reason and all its fields. The permission is asked again with each page.
func (r *Room) Export(ctx context.Context, caller identity.Caller, reason, after string) (ExportPage, error) {
	reach, err := r.reach(ctx, caller, identity.CredentialReveal, "export", "")
	if err != nil {
		return ExportPage{}, err
	}
	type sealed struct {
		stored
		notes []byte
		boxes []secretRow
	}
	var page []sealed
	var out ExportPage
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		page, out = nil, ExportPage{}
		var w store.Where
		w.Add(`c.id > ?`, after)
		if reach != identity.Everything {
			parties, err := identity.Principals(tx, caller)
			if err != nil {
				return err
			}
			if len(parties) == 0 {
				parties = []string{""}
			}
			w.Add(`EXISTS (SELECT 1 FROM grants g WHERE g.may_reveal = 1 AND g.grantee_id IN (`+marks(len(parties))+`) AND `+onCredential+`)`, anys(parties)...)
		}
		var rows []struct {
			row
			Sealed []byte `db:"notes"`
		}
		if err := tx.Select(&rows, `SELECT `+rowColumns+`, c.notes`+rowTables+w.SQL()+` ORDER BY c.id LIMIT `+w.Arg(exportPage), w.Args()...); err != nil {
			return err
		}
		if len(rows) == exportPage {
			out.Next = rows[len(rows)-1].ID
		}
		for _, row := range rows {
			s, err := row.decode(tx.Now())
			intact := false
			if err == nil && !s.foreign {
				if intact, err = r.intact(s); err != nil {
					return err
				}
			}
			if !intact {
				out.LeftOut++
				if err := tx.Record(notExported(caller, store.Target{Kind: targetKind, ID: row.ID, Name: row.Name}, reason)); err != nil {
					return err
				}
				continue
			}
			item := sealed{stored: s, notes: row.Sealed}
			if err := tx.Select(&item.boxes, `SELECT credential_id, version, field, sealed FROM credential_secrets WHERE credential_id = $1 AND version = $2`, s.ID, s.Version); err != nil {
				return err
			}
			ev := caller.Event(store.CredentialReveal, s.target())
			ev.Reason = reason
			ev.Fields = s.SecretFields
			ev.Details = store.Details{store.Bool("export", true), store.Int("version", s.Version)}
			if err := tx.Record(ev); err != nil {
				return err
			}
			page = append(page, item)
		}
		if len(rows) == 0 { // a page of nothing is no act, and says so
			ev := caller.Event(store.CredentialList, store.Target{Kind: targetKind})
			ev.Details = store.Details{store.Int("count", 0)}
			return tx.Record(ev)
		}
		return nil
	})
	if err != nil {
		return ExportPage{}, err
	}
	var broken []store.Target
	for _, item := range page {
		e := Exported{Credential: item.Credential, State: item.state, Secrets: map[string]secret.Value{}}
		whole := len(item.boxes) == len(item.SecretFields)
		for _, box := range item.boxes {
			v, err := r.openSecret(item.stored, box)
			if err != nil || !slices.Contains(item.SecretFields, box.Field) {
				whole = false
				break
			}
			e.Secrets[box.Field] = v
		}
		if whole && item.notes != nil {
			v, err := r.ring.Open(sealPurpose, item.notes, notesAAD(item.ID, item.notesVersion))
			whole, e.Notes = err == nil, v
		}
		if !whole {
			broken = append(broken, item.target())
			continue
		}
		out.Credentials = append(out.Credentials, e)
	}
	if len(broken) == 0 {
		return out, nil
	}
	out.LeftOut += len(broken)
	err = r.db.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		for _, t := range broken {
			if err := tx.Record(notExported(caller, t, reason)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return ExportPage{}, errors.Join(err, fault.New(fault.Internal, "internal", "A sealed secret does not open, and that could not be recorded. The export was broken off."))
	}
	return out, nil
}

func notExported(caller identity.Caller, target store.Target, reason string) store.Event {
	ev := caller.Event(store.CredentialReveal, target)
	ev.Outcome, ev.Reason = store.OutcomeFailed, "it does not open, or was changed outside Signalbox"
	ev.Details = store.Details{store.Bool("export", true), store.Str("asked_for", reason)}
	return ev
}
