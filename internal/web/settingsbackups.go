package web

import (
	"context"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/web/ui"
)

const settingsBackups = "/settings/backups"

// Backups are what this database knows of its backups and restores, each the newest first.
type Backups struct {
	Taken []Backup
	// Running are being taken, the oldest first.
	Running  []BackupRun
	Restored []Restored
	// Late says that the last one is longer ago than the doctor thinks right.
	Late bool
}

// Backup is one that was taken.
type Backup struct {
	ID          string
	At          time.Time
	Bytes, Rows int64
}

// BackupRun is one that is being taken: so many of so many rows are written.
type BackupRun struct {
	ID          string
	At          time.Time
	Done, Total int64
}

// Restored is a backup that this database was restored from. Moved says that nothing was lost by it.
type Restored struct {
	BackupID     string
	BackupAt, At time.Time
	Moved        bool
}

// backupsPage is when backups were taken and restored, and how both are done.
type backupsPage struct {
	ui.Frame
	Tabs  []ui.NavLink
	State templ.Component
	Said  string
	Facts []ui.Fact
	// Reader reads numbers, and Running are being taken now.
	Reader  ui.Reader
	Running []BackupRun
	Parts   []part
}

// backups shows what is known of backups. Whoever may read the metrics may read it: they tell when the last one was taken.
func (s *site) backups(w http.ResponseWriter, r *http.Request, v visitor) {
	err := s.mayOperate(r, v)
	var known Backups
	if err == nil {
		known, err = s.Operations.Backups(r.Context())
	}
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	frame, reader := s.settingsOf(r, v, "Backups", "", settingsBackups), s.reader(r)
	p := &backupsPage{Frame: frame.Frame, Tabs: frame.Tabs, Reader: reader, Running: known.Running}
	switch {
	case len(known.Taken) == 0:
		p.State, p.Said = ui.Badge(ui.Bad, "none"), "No backup of this database was taken with signalbox backup."
	case known.Late:
		p.State, p.Said = ui.Badge(ui.Warn, "long ago"), "What was stored since is in no backup. Take one every day."
	default:
		p.State, p.Said = ui.Badge(ui.Good, "taken"), "Whether it can be restored is told by trying it."
	}
	taken := ui.Table{ID: "taken", Caption: "Backups that were taken, the newest first", Columns: []ui.Column{{Label: "Backup"}, {Label: "Taken"}, {Label: "Bytes", Number: true}, {Label: "Rows", Number: true}},
		Empty: ui.Empty{Text: "None was taken yet.", Command: "signalbox backup --output signalbox.backup"}}
	for i, b := range known.Taken {
		if i == 0 {
			p.Facts = []ui.Fact{{Term: "Taken", Value: ui.When(reader, b.At)}, {Term: "Bytes", Value: ui.Text(reader.Number(b.Bytes))}, {Term: "Rows", Value: ui.Text(reader.Number(b.Rows))}, {Term: "Id", Value: ui.Code(b.ID), Wide: true}}
		}
		taken.Rows = append(taken.Rows, ui.Row{ID: b.ID, Cells: []templ.Component{s.backupLink(v, b.ID), ui.When(reader, b.At), ui.Text(reader.Number(b.Bytes)), ui.Text(reader.Number(b.Rows))}})
	}
	restored := ui.Table{ID: "restored", Caption: "Backups that this database was restored from, the newest first", Columns: []ui.Column{{Label: "Backup"}, {Label: "Restored"}, {Label: "Taken"}, {Label: "What it is"}},
		Empty: ui.Empty{Text: "This database was never restored from a backup."}}
	for _, b := range known.Restored {
		what := ui.Badge(ui.Warn, "the past")
		if b.Moved {
			what = ui.Badge(ui.Good, "a move")
		}
		restored.Rows = append(restored.Rows, ui.Row{ID: b.BackupID, Cells: []templ.Component{s.backupLink(v, b.BackupID), ui.When(reader, b.At), ui.When(reader, b.BackupAt), what}})
	}
	p.Parts = []part{{ID: "backups", Title: "Backups", Table: taken}, {ID: "restores", Title: "Restores", Table: restored}}
	s.show(w, r, http.StatusOK, backupsView(p))
}

// backupLink names a backup, and leads to its record where that may be read.
func (s *site) backupLink(v visitor, id string) templ.Component {
	if v.may(identity.AuditRead) {
		return ui.Link(id, auditPath(nil, "target", id))
	}
	return ui.Code(id)
}

// topicBackup is the topic of backups in /live; they are taken by processes beside the servers, of which the change feed of SQLite hears nothing.
const topicBackup = "backup"

// backupNews is what changes on the page while a backup is taken.
type backupNews struct {
	running BackupRun
	others  int
	last    string
}

func (s *site) backupNews(ctx context.Context) (backupNews, error) {
	known, err := s.Operations.Backups(ctx)
	news := backupNews{others: len(known.Running)}
	if len(known.Running) > 0 {
		news.running = known.Running[0]
	}
	if len(known.Taken) > 0 {
		news.last = known.Taken[0].ID
	}
	return news, err
}
