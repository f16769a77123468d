package vault

import (
	"context"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// maxNamed bounds the ids of one kind that are named at once: no page shows more.
const maxNamed = 2 * maxPage

// HomeNames returns the names of homes by kind and id, of those that the caller sees. What is not among them does not exist or is not theirs to see: a
// credential shows its id all the same, since it says that of itself. Nothing is recorded, as of the lists of homes.
func (r *Room) HomeNames(ctx context.Context, caller identity.Caller, ids map[HomeKind][]string) (map[HomeKind]map[string]string, error) {
	reach, err := identity.Within(caller, identity.CredentialRead)
	if err != nil {
		return nil, err
	}
	var out map[HomeKind]map[string]string
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		out = map[HomeKind]map[string]string{}
		parties, err := principals(tx, caller, reach)
		if err != nil {
			return err
		}
		for _, row := range homeRows() {
			asked := distinct(ids[row.kind])
			if len(asked) == 0 {
				continue
			}
			var w store.Where
			w.Add(`h.id IN (`+marks(len(asked))+`)`, anys(asked)...)
			if reach != identity.Everything {
				row.seenBy(&w, parties)
			}
			var found []struct {
				ID   string `db:"id"`
				Name string `db:"name"`
			}
			if err := tx.Select(&found, `SELECT h.id, h.name FROM `+row.table+` h`+w.SQL(), w.Args()...); err != nil {
				return err
			}
			named := make(map[string]string, len(found))
			for _, f := range found {
				named[f.ID] = f.Name
			}
			out[row.kind] = named
		}
		return nil
	})
	return out, err
}

// distinct returns each id once, without the empty one and those that no home can have.
func distinct(ids []string) (out []string) {
	seen := map[string]bool{"": true}
	for _, id := range ids {
		if !seen[id] && textProblem(id, 100, false) == "" && len(out) < maxNamed {
			out = append(out, id)
		}
		seen[id] = true
	}
	return out
}
