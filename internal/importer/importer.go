// Package importer brings credentials, client keys and connections to MCP servers in from the files of other programs and from archives of its own making, and takes
// them out into such an archive.
//
// Promise: an import is there as a whole or not at all, also after a crash, and says of everything in its files what becomes of it: stored, left out
// because it is here already, or left out because it is none; what of an entry is lost is named. A dry run decides as the act does. An
// export is encrypted before it leaves memory, holds what its caller may reveal and nothing else, and each credential in it has a reveal on record before it is opened.
//
// Limits: an import is read into memory, at most 192 MiB unpacked and 100,000 entries (5,000 of a caller who reaches only what is their own), one
// at a time in each process. It is one transaction: on SQLite other writes, and so lends, wait while it is stored (docs/guide/import-export.md has the time). An archive has the
// present version of each secret; older versions, grants, links and client keys stay.
//
// Invariants: no report, error or record quotes a value of a file, or anything that stands where a name should and is none; no trace of a secret is stored for
// comparison; only the one name that a format knows is unpacked of a zip archive; nothing is written to a file.
package importer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// Config is what a [Room] is made of. DB, Vault and Trains are required.
type Config struct {
	DB     *store.DB
	Vault  *vault.Room
	Trains *train.Room
	// MCP takes over people's connections to MCP servers; without it they stand in the way of an import.
	MCP *mcp.Room
	Log *slog.Logger
	// Clock says how old a person's last proof is; nil means the wall clock.
	Clock func() time.Time
}

// Room imports and exports. Make it with [New].
type Room struct {
	db     *store.DB
	vault  *vault.Room
	trains *train.Room
	mcp    *mcp.Room
	log    *slog.Logger
	now    func() time.Time
	// turn is held by the one import or export under way: each needs much memory.
	turn chan struct{}
	// work is the cost of a passphrase: scrypt takes 2^work steps.
	work int
	// unpack is what the files of an import may unpack to.
	unpack int64
}

// New returns the room on the others.
func New(cfg Config) (*Room, error) {
	if cfg.DB == nil || cfg.Vault == nil || cfg.Trains == nil {
		return nil, errors.New("importer: a database, a vault and trains are required")
	}
	r := &Room{db: cfg.DB, vault: cfg.Vault, trains: cfg.Trains, mcp: cfg.MCP, log: cfg.Log, now: cfg.Clock, turn: make(chan struct{}, 1), work: scryptWork, unpack: maxUnpack}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	return r, nil
}

// File is one file to be imported.
type File struct {
	// Name is the file's, with or without directories; some formats say by it whose the content is.
	Name string
	Data []byte
}

// Request says what to import.
type Request struct {
	Files []File
	// Format of all files; "" finds it out for each.
	Format string
	// Name is what an account is called whose file has no name for it.
	Name string
	// Passphrase opens an encrypted file: a passphrase, or an age identity.
	Passphrase secret.Value
	// DryRun decides everything and stores nothing.
	DryRun bool
	// Expect, when not empty, is the Sum of a dry run's report: when something else became of the entries by now, nothing is stored.
	Expect string
}

// hold waits for the turn of this caller, as long as the request lasts.
func (r *Room) hold(ctx context.Context) (release func(), err error) {
	select {
	case r.turn <- struct{}{}:
		return func() { <-r.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(turnPatience):
		return nil, fault.New(fault.Unavailable, "memory_budget", "Another import or export is under way, and each takes much memory. Nothing was done; try again when it is through.").After(10)
	}
}

// turnPatience is how long an import waits for the one before.
const turnPatience = 20 * time.Second

// errDry rolls a dry run back.
var errDry = errors.New("importer: a dry run stores nothing")

// Import decides what becomes of everything in the files and, unless it is a dry run, stores it. The faults are validation_failed for files that
// cannot be read and, unless it is a dry run, for entries that cannot be stored; memory_budget; and the refusals of permissions. The report is
// there also with the fault for entries.
func (r *Room) Import(ctx context.Context, caller identity.Caller, req Request) (Report, error) {
	reach, err := r.vault.MayImport(ctx, caller)
	if err != nil {
		return Report{}, err
	}
	release, err := r.hold(ctx)
	if err != nil {
		return Report{}, err
	}
	defer release()
	most := maxItems
	if reach != identity.Everything {
		most = narrowMost
	}
	p, err := r.read(ctx, req, most)
	if err != nil {
		return Report{}, err
	}
	if p.keys > 0 {
		if err := r.trains.MayImport(ctx, caller); err != nil {
			return Report{}, err
		}
	}
	if p.connections > 0 {
		if r.mcp == nil {
			return Report{}, fault.New(fault.Unprocessable, "validation_failed", "This Signalbox takes no connections to MCP servers over.").With("/format", "is not taken here")
		}
		if err := r.mcp.MayTakeForeign(ctx, caller); err != nil {
			return Report{}, err
		}
	}
	if err := p.prepare(r.vault); err != nil {
		return Report{}, err
	}
	if p.likeness, err = r.vault.Compare(ctx, caller, p.ready); err != nil {
		return Report{}, err
	}
	err = r.vault.Import(ctx, caller, len(p.ready), func(tx *store.Tx, in *vault.Intake) error {
		if err := p.decide(in); err != nil {
			return err
		}
		if req.DryRun {
			if err := p.try(tx, r.trains, caller, in); err != nil {
				return err
			}
			if err := p.takeConnections(tx, r.mcp, caller); err != nil {
				return err
			}
			return errDry
		}
		if p.invalid() > 0 {
			return errDry
		}
		if err := p.store(tx, r.trains, caller, in); err != nil {
			return err
		}
		if err := p.takeConnections(tx, r.mcp, caller); err != nil {
			return err
		}
		if p.invalid() > 0 { // a key that its train has no place for, or a connection of somebody who is not known
			return errDry
		}
		if req.Expect != "" && p.sum() != req.Expect {
			return fault.New(fault.Conflict, "state_conflict", "Something has changed since the files were looked at, so that other things would become of their entries now. Nothing was imported. Look again, then import.")
		}
		return p.record(tx, caller, false)
	})
	if err != nil && !errors.Is(err, errDry) {
		return Report{}, err
	}
	if err == nil {
		return p.report(false), nil
	}
	if err := r.db.Write(ctx, func(tx *store.Tx) error { return p.record(tx, caller, true) }); err != nil {
		return Report{}, err
	}
	report := p.report(true)
	if req.DryRun {
		return report, nil
	}
	return report, p.refusal()
}

// read takes the files apart.
func (r *Room) read(ctx context.Context, req Request, most int) (*plan, error) {
	p := &plan{id: store.NewID("imp"), dry: req.DryRun}
	if len(req.Files) == 0 || len(req.Files) > MaxFiles {
		return nil, fault.New(fault.Unprocessable, "validation_failed", "An import has 1 to "+strconv.Itoa(MaxFiles)+" files.").With("/files", "must have 1 to "+strconv.Itoa(MaxFiles)+" items")
	}
	var given *Format
	if req.Format != "" {
		f, ok := lookup(req.Format)
		if !ok {
			return nil, fault.New(fault.Unprocessable, "validation_failed", "There is no such format.").With("/format", "is not a format that can be imported")
		}
		given = &f
	}
	room, sealed := r.unpack, 0
	for n, in := range req.Files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f := &file{name: base(in.Name), data: in.Data, passphrase: req.Passphrase, label: req.Name, room: &room, sealed: &sealed}
		if err := f.unpack(); err != nil {
			return nil, refused(n, err)
		}
		of := given
		if of == nil {
			i := slices.IndexFunc(Formats(), func(form Format) bool { return form.looks(f) })
			if i < 0 {
				_, err := f.text()
				if err == nil {
					err = bad("is of no format that is known here; say which it is, if it is one of: " + strings.Join(Names(), ", "))
				}
				return nil, refused(n, err)
			}
			found := Formats()[i]
			of = &found
		}
		found := items{most: most - len(p.rows)}
		if err := of.parse(f, &found); err != nil {
			return nil, refused(n, err)
		}
		p.take(f.name, of.Name, found.list)
	}
	return p, nil
}
