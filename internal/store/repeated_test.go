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

// TestRepeatedReads: a question that comes again is answered anew, what is not there is not found each time, also behind one that failed.
func TestRepeatedReads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		const rows = 90
		require.NoError(t, db.Write(t.Context(), func(tx *store.Tx) error {
			if err := tx.Growing(); err != nil {
				return err
			}
			for i := range rows {
				id := fmt.Sprint("l", i)
				var at int64
				require.ErrorIs(t, tx.Get(&at, `SELECT expires_at FROM setup_links WHERE id = $1`, id), store.ErrNotFound)
				if _, err := tx.Exec(`INSERT INTO setup_links (id, hash, created_at, expires_at) VALUES ($1,$2,$3,$4)`, id, []byte(id), i, i); err != nil {
					return err
				}
				require.NoError(t, tx.Get(&at, `SELECT expires_at FROM setup_links WHERE id = $1`, id))
				require.EqualValues(t, i, at)
				var ids []string
				require.NoError(t, tx.Select(&ids, `SELECT id FROM setup_links WHERE created_at >= $1 ORDER BY created_at`, i-1))
				require.Len(t, ids, min(i+1, 2))
			}
			return tx.Record(act("x"))
		}))
		require.NoError(t, db.Read(t.Context(), func(tx *store.Tx) error {
			list, err := tx.Query(`SELECT id FROM setup_links WHERE expires_at > $1 ORDER BY expires_at`, 10)
			require.NoError(t, err)
			require.NoError(t, list.Close())
			for i := range rows {
				var row struct {
					ID string `db:"id"`
					At int64  `db:"expires_at"`
				}
				require.NoError(t, tx.Get(&row, `SELECT id, expires_at FROM setup_links WHERE id = $1`, fmt.Sprint("l", i)))
				require.EqualValues(t, i, row.At)
				require.Error(t, tx.Get(&row, `SELECT 'no number' AS expires_at, id FROM setup_links WHERE id = $1`, fmt.Sprint("l", i)))
				if db.Engine() == store.Postgres {
					break // after a statement that failed there, none is answered
				}
			}
			return nil
		}))
	})
}
