package train

import (
	"context"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Lender is a train that may be lent a credential. Of one that the caller does not reach nothing is told but that it is there: Hidden is set, the train has a name alone.
type Lender struct {
	CredentialID string
	Train        Train
	Hidden       bool
	Alias        string // "" for none
	Priority     int
}

// maxLenders is how many credentials [Room.Lenders] can be asked about at once.
const maxLenders = 1000

// Lenders returns the trains that credentials are linked to, by slug: what depends on them. It needs trains:read of every train, as [Room.Standings] does.
func (r *Room) Lenders(ctx context.Context, caller identity.Caller, credentials []string) (out []Lender, err error) {
	if err := identity.Allow(caller, identity.TrainRead); err != nil {
		return nil, err
	}
	if len(credentials) == 0 {
		return nil, nil
	}
	var w store.Where
	ids := make([]any, min(len(credentials), maxLenders))
	marks := "?"
	for i := range ids {
		ids[i] = credentials[i]
		if i > 0 {
			marks += ",?"
		}
	}
	w.Add(`credential_id IN (`+marks+`)`, ids...)
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		out = nil
		var rows []linkRow
		if err := tx.Select(&rows, `SELECT `+linkColumns+` FROM train_links`+w.SQL(), w.Args()...); err != nil {
			return err
		}
		sees, err := identity.ReachOfTrains(tx, caller, identity.TrainRead)
		if err != nil {
			return err
		}
		trains := map[string]Train{}
		for _, row := range rows {
			l := row.link()
			t, known := trains[l.TrainID]
			if !known {
				t, err = lookUp(tx, sees, l.TrainID)
				if fault.KindOf(err) == fault.NotFound {
					t, err = Train{Name: aPrivateTrain}, nil
				} else if err != nil {
					return err
				}
				trains[l.TrainID] = t
			}
			if t.ID == "" {
				out = append(out, Lender{CredentialID: l.CredentialID, Train: t, Hidden: true})
				continue
			}
			out = append(out, Lender{CredentialID: l.CredentialID, Train: t, Alias: l.Alias, Priority: l.Priority})
		}
		return nil
	})
	slices.SortFunc(out, func(a, b Lender) int {
		switch {
		case a.Train.Slug != b.Train.Slug && a.Train.Slug < b.Train.Slug, a.Train.Slug == b.Train.Slug && a.CredentialID < b.CredentialID:
			return -1
		case a.Train.Slug == b.Train.Slug && a.CredentialID == b.CredentialID:
			return 0
		}
		return 1
	})
	return out, err
}
