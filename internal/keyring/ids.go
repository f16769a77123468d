package keyring

import (
	"context"

	"signalbox.dev/signalbox/internal/store"
)

// RootIDs returns the ids of the root keys that open the keyring of the database; none where there is no keyring yet.
func RootIDs(ctx context.Context, db *store.DB) ([]string, error) {
	kept, err := load(ctx, db)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(kept.checks))
	for _, c := range kept.checks {
		ids = append(ids, c.RootKeyID)
	}
	return ids, nil
}
