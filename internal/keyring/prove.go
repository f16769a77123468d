package keyring

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// proveRows is how many rows are looked at in one statement.
const proveRows = 1000

// Proof tells what of a [Place] opened.
type Proof struct {
	Place           string
	Opened, Damaged int64
}

// Prove opens everything that lies in the places, and keeps none of it. It is for databases that nobody uses: the copy that a check of a backup makes.
// What does not open is counted; any other error, as of a row that cannot be read at all, ends it and names the place.
func Prove(ctx context.Context, db *store.DB, r *Ring, places []Place) ([]Proof, error) {
	out := make([]Proof, len(places))
	for i, p := range places {
		out[i].Place = p.Name()
		if err := p.prove(ctx, db, r, &out[i]); err != nil {
			return nil, fmt.Errorf("open what is sealed in %s: %w", p.Name(), err)
		}
	}
	return out, nil
}

func (p Place) prove(ctx context.Context, db *store.DB, r *Ring, out *Proof) error {
	var after *Row
	for more := true; more; {
		var opened, damaged int64
		var last Row
		err := db.Read(ctx, func(tx *store.Tx) error {
			opened, damaged = 0, 0
			rows, err := p.rows(tx, p.filled(), nil, after, proveRows)
			if err != nil {
				return err
			}
			for _, row := range rows {
				switch err := p.opens(tx, r, row); {
				case err == nil:
					opened++
				case errors.Is(err, ErrMoot) && p.Stale: // a leftover, which nothing asks for
				case errors.Is(err, ErrMoot), errors.Is(err, ErrUnknownKey), errors.Is(err, secret.ErrOpen):
					damaged++
				default:
					return err
				}
				last = row
			}
			more = len(rows) == proveRows
			return nil
		})
		if err != nil {
			return err
		}
		out.Opened, out.Damaged = out.Opened+opened, out.Damaged+damaged
		after = &last
	}
	return nil
}

// filled is the condition that a row has something in the place.
func (p Place) filled() string {
	var out []string
	for _, c := range p.Columns {
		out = append(out, "length("+c.Name+") > 0") // of NULL it is not known
	}
	return "(" + strings.Join(out, " OR ") + ")"
}

// opens returns nil when what lies in the row opens, or fits.
func (p Place) opens(tx *store.Tx, r *Ring, row Row) error {
	if p.Renew != nil {
		_, err := p.Renew(tx, row)
		return err
	}
	aad, err := p.AAD(row)
	if err != nil {
		return errors.Join(secret.ErrOpen, err)
	}
	_, err = r.Open(p.Purpose, row.A, aad)
	return err
}
