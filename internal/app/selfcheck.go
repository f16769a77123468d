package app

import (
	"context"
	"os"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web"
)

// selfchecks are the checks of the doctor that a server can make of itself while it serves. The others open the database or the data directory a second
// time: a process that closed a file which it has open and locked would give its lock away.
func selfchecks() map[string]bool {
	return map[string]bool{
		"variables": true, "data directory": true, "free space": true, "audit log": true, "checkpoint file": true, "backup": true, "operator token": true, "listener": true, "certificate": true,
		"trusted proxies": true, "client keys": true,
	}
}

// operations tells the pages what is in force and how it goes.
func (a *App) operations() web.Operations {
	return web.Operations{Settings: a.settings, Check: a.check, Backups: a.pageBackups}
}

func (a *App) settings() []web.Setting {
	rows := map[string]Setting{}
	for _, s := range Settings() {
		rows[s.Name] = s
	}
	var out []web.Setting
	for _, v := range a.cfg.InForce() {
		if s := rows[v.Name]; s.Use != UseClient {
			out = append(out, web.Setting{Name: v.Name, Value: v.Value, From: v.From, Doc: s.Doc})
		}
	}
	return out
}

func (a *App) check(ctx context.Context) []web.Finding {
	ready := a.ready(ctx)
	first := web.Finding{Name: "readiness", State: string(Fine), Found: "requests may come here"}
	if ready.Status != "ready" {
		first.State, first.Found, first.Do = string(Broken), "this instance says "+ready.Status, "Look at /readyz and at the log."
	}
	out := []web.Finding{first}
	for _, text := range ready.Warnings {
		out = append(out, web.Finding{Name: "readiness", State: string(Warning), Found: text})
	}
	p := &patient{cfg: a.cfg, holder: os.Getpid(), db: a.db, database: store.Inspection{Engine: a.db.Engine(), Exists: true}}
	mine := selfchecks()
	for _, c := range checkups() {
		if !mine[c.name] || ctx.Err() != nil {
			continue
		}
		for _, got := range c.look(ctx, p) {
			out = append(out, web.Finding{Name: c.name, State: string(got.State), Found: got.Found, Do: got.Do})
		}
	}
	return out
}
