package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// TestRepeatedStatements: a statement that comes again does what it did the first time, its failures included, however many there are, and also
// after the transaction was rolled back and run anew.
func TestRepeatedStatements(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const rows = 100
		errEnough := errors.New("enough")
		write := func(from int, end error) error {
			return db.Write(t.Context(), func(tx *store.Tx) error {
				for i := from; i < from+rows; i++ {
					n, err := tx.Exec(`INSERT INTO setup_links (id, hash, created_at, expires_at) VALUES ($1,$2,$3,$4)`, fmt.Sprint("l", i), []byte(fmt.Sprint(i)), i, i)
					if err != nil {
						return err
					}
					require.EqualValues(t, 1, n)
					// As many texts as there may be, and more.
					if n, err = tx.Exec(fmt.Sprintf(`UPDATE setup_links SET expires_at = $1 + %d WHERE id = $2`, i%80), i, fmt.Sprint("l", i)); err != nil {
						return err
					}
					require.EqualValues(t, 1, n)
				}
				if end != nil {
					return end
				}
				return tx.Record(act("x"))
			})
		}
		require.ErrorIs(t, write(0, errEnough), errEnough)
		require.NoError(t, write(0, nil))
		err := write(rows-1, nil)
		require.Error(t, err)
		require.True(t, store.IsConflict(err), "the first of them is there already")
		require.NoError(t, write(rows, nil))
		var sum, count int
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			if err := tx.Get(&count, `SELECT COUNT(*) FROM setup_links`); err != nil {
				return err
			}
			return tx.Get(&sum, `SELECT SUM(expires_at - created_at) FROM setup_links`)
		}))
		want := 0
		for i := range 2 * rows {
			want += i % 80
		}
		require.Equal(t, 2*rows, count)
		require.Equal(t, want, sum)
	})
}
