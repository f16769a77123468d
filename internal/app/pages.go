package app

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/backup"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web"
)

// shownBackups is how many backups, and how many restores, a page lists.
const shownBackups = 50

// pageBackups tells the pages what the database knows of its backups and restores.
func (a *App) pageBackups(ctx context.Context) (web.Backups, error) {
	var out web.Backups
	err := a.db.Read(ctx, func(tx *store.Tx) error {
		out = web.Backups{}
		taken, err := backup.Recent(tx, shownBackups)
		if err != nil {
			return err
		}
		for _, t := range taken {
			out.Taken = append(out.Taken, web.Backup{ID: t.ID, At: t.At.Time(), Bytes: t.Bytes, Rows: t.Rows})
		}
		running, err := backup.Running(tx)
		if err != nil {
			return err
		}
		for _, r := range running {
			out.Running = append(out.Running, web.BackupRun{ID: r.ID, At: r.At.Time(), Done: r.Done, Total: r.Total})
		}
		restored, err := backup.Restores(tx, shownBackups)
		for _, r := range restored {
			out.Restored = append(out.Restored, web.Restored{BackupID: r.BackupID, BackupAt: r.BackupAt.Time(), At: r.At.Time(), Moved: r.Moved != 0})
		}
		return err
	})
	out.Late = len(out.Taken) > 0 && time.Since(out.Taken[0].At) > backupOld
	return out, err
}
