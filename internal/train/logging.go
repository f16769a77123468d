package train

import (
	"context"

	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// What agents are asked and answer is kept by the contents room; who may have it kept and read it is decided here.

// Logging is whether a train keeps contents, and how much of them is there.
type Logging struct {
	contents.Settings
	contents.Stock
}

func (t Train) logs() contents.Owner { return contents.Owner{ID: t.ID, Slug: t.Slug} }

// Logging returns whether a train keeps what its agents are asked and answer. It needs trains:read.
func (r *Room) Logging(ctx context.Context, caller identity.Caller, ref string) (l Logging, err error) {
	if _, err := identity.Within(caller, identity.TrainRead); err != nil {
		return Logging{}, err
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainRead, ref, "")
		if err != nil {
			return err
		}
		l, err = logging(tx, t.ID)
		return err
	})
	return l, err
}

func logging(tx *store.Tx, train string) (l Logging, err error) {
	if l.Settings, err = contents.SettingsOf(tx, train); err == nil {
		l.Stock, err = contents.StockOf(tx, train)
	}
	return l, err
}

// PutLogging changes that. It needs trains:write, and unless it does no more than to switch it off, contents:read and a fresh proof besides.
func (r *Room) PutLogging(ctx context.Context, caller identity.Caller, ref string, p contents.Patch, ifMatch string) (l Logging, err error) {
	if err := r.allow(ctx, caller, store.TrainLogging, named(ref), identity.TrainWrite); err != nil {
		return Logging{}, err
	}
	var refused error
	var target store.Target
	var id string
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		refused = nil
		t, err := reach(tx, caller, identity.TrainWrite, ref, tx.ForUpdate())
		if err != nil {
			return err
		}
		target = t.target()
		if _, err := contents.Put(tx, caller, t.logs(), p, ifMatch, func() error {
			refused = r.mayReadContents(caller)
			return refused
		}); err != nil {
			return err
		}
		id = t.ID
		return nil
	})
	if err == nil { // how much there is takes longer than it may hold others up
		err = r.db.Read(ctx, func(tx *store.Tx) (err error) {
			l, err = logging(tx, id)
			return err
		})
	}
	if err != nil && refused != nil {
		if err := r.recordRefusal(ctx, caller, target, refused, store.Str("act", string(store.TrainLogging))); err != nil {
			return Logging{}, err
		}
		return Logging{}, refused
	}
	return l, err
}

// mayReadContents reports whether the caller may read what agents were asked and answered.
func (r *Room) mayReadContents(caller identity.Caller) error {
	if err := identity.Allow(caller, identity.ContentRead); err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			return err
		}
		return fault.New(fault.Forbidden, "forbidden", "What agents are asked and answer is for those who may read it (contents:read), and so is to have it kept. Ask an administrator.")
	}
	return identity.RequireFresh(caller, r.now())
}

// PurgeContents deletes all that a train has kept of its requests, and returns of how many. It needs trains:write, contents:read and a fresh proof.
func (r *Room) PurgeContents(ctx context.Context, caller identity.Caller, ref string) (n int64, err error) {
	if err := r.allow(ctx, caller, store.ContentPurge, named(ref), identity.TrainWrite); err != nil {
		return 0, err
	}
	if err := r.mayReadContents(caller); err != nil {
		return 0, r.refusedContents(ctx, caller, named(ref), store.ContentPurge, err)
	}
	if r.contents == nil {
		return 0, contents.ErrNotKept()
	}
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainWrite, ref, tx.ForUpdate())
		if err != nil {
			return err
		}
		n, err = contents.Purge(tx, caller, t.logs())
		return err
	})
	if err == nil {
		r.contents.Wake()
	}
	return n, err
}

// refusedContents records a refusal and returns it.
func (r *Room) refusedContents(ctx context.Context, caller identity.Caller, target store.Target, act store.Action, verdict error) error {
	if fault.KindOf(verdict) == fault.Unauthenticated {
		return verdict
	}
	if err := r.recordRefusal(ctx, caller, target, verdict, store.Str("act", string(act))); err != nil {
		return err
	}
	return verdict
}

// HasContent says whether something is kept of a request that the caller could read, but for the fresh proof.
func (r *Room) HasContent(ctx context.Context, caller identity.Caller, request string) (has bool, err error) {
	if r.contents == nil || identity.Allow(caller, identity.TrainRead) != nil || identity.Allow(caller, identity.ContentRead) != nil {
		return false, nil
	}
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		id, err := contents.TrainOf(tx, request)
		if err == nil {
			_, err = reach(tx, caller, identity.TrainRead, id, "")
		}
		if has = err == nil; fault.KindOf(err) == fault.NotFound {
			return nil
		}
		return err
	})
	return has, err
}

// Content returns what is kept of a request: what was asked and what was answered. It needs trains:read, contents:read and a fresh proof, and goes on record.
func (r *Room) Content(ctx context.Context, caller identity.Caller, request string) (c contents.Content, err error) {
	target := store.Target{Kind: "request"}
	if store.ValidID("req", request) {
		target.ID = request
	}
	if err := r.allow(ctx, caller, store.ContentRead, target, identity.TrainRead); err != nil {
		return contents.Content{}, err
	}
	if err := r.mayReadContents(caller); err != nil {
		return contents.Content{}, r.refusedContents(ctx, caller, target, store.ContentRead, err)
	}
	if r.contents == nil {
		return contents.Content{}, contents.ErrNotKept()
	}
	var opened contents.Opened
	err = r.db.Write(ctx, func(tx *store.Tx) error {
		id, err := contents.TrainOf(tx, request)
		if err != nil {
			return err
		}
		t, err := reach(tx, caller, identity.TrainRead, id, "")
		if fault.KindOf(err) == fault.NotFound {
			return contents.ErrNotKept()
		}
		if err != nil {
			return err
		}
		opened, err = r.contents.Open(tx, caller, t.logs(), request)
		return err
	})
	if err != nil {
		return contents.Content{}, err
	}
	return opened.Content()
}
