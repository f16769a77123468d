package app

import (
	"context"
	"time"

	"signalbox.dev/signalbox/internal/keeper"
	"signalbox.dev/signalbox/internal/keyring"
)

// lookAtKeeper has the keeper unwrap the root key, which is all that a start needs, and asks what becomes of its key.
func lookAtKeeper(ctx context.Context, p *patient) []Check {
	at := p.cfg.RootKeyKeeper
	broken := func(err error, do string) []Check { return []Check{{State: Broken, Found: told(err), Do: do}} }
	if p.db == nil && p.database.Exists {
		return []Check{{State: Skipped, Found: "whether " + at.String() + " opens the keyring can be seen once the database can be read"}}
	}
	k, err := p.cfg.openKeeper(at)
	if err != nil {
		return broken(err, "Correct it and run this again.")
	}
	exists := false
	if p.db != nil {
		if exists, err = keyring.Exists(ctx, p.db); err != nil {
			return broken(err, "See to the database first.")
		}
	}
	if !exists {
		if _, err := k.Look(ctx); err != nil && !keeper.IsDenied(err) {
			return broken(err, "Correct it before the first start, which has the keeper wrap a new root key.")
		}
		return []Check{{State: Fine, Found: at.String() + "; there is no keyring yet, the first signalbox serve makes the root key and has it wrapped"}}
	}
	w, err := wrapping(ctx, at, p.db)
	if err != nil {
		return broken(err, "Until then no server starts with this configuration.")
	}
	root, err := k.Unwrap(ctx, w.RootKeyID, w.Wrapped)
	if err != nil {
		return broken(err, "A server that runs goes on, since it has the key in memory; none starts until this is mended.")
	}
	if p.ring, err = keyring.Open(ctx, keyring.Config{DB: p.db, Root: root, Log: p.cfg.logger()}); err != nil {
		return broken(err, "Put the right root key back; without it the sealed credentials cannot be opened by anyone.")
	}
	if c, changing := lookAtRoots(ctx, p, root.ID()+", unwrapped by "+at.String()); changing {
		return []Check{c}
	}
	c := Check{State: Fine, Found: root.ID() + ", unwrapped by " + at.String() + " (" + w.KeyVersion + "), opens the keyring"}
	key, err := k.Look(ctx)
	switch path := p.cfg.dataPath(RootKeyFile); {
	case err == nil && key.State != keeper.Enabled:
		c.State, c.Found, c.Do = Warning, c.Found+"; its key is "+key.State, "Take that back at the key management service, or have another keeper wrap the root key (signalbox root-key wrap) before the key is gone."
	case !p.cfg.isPostgres() && isFile(path):
		c.State, c.Found, c.Do = Warning, c.Found+"; but "+path+" holds a root key as well", "Keep a copy on another machine if you want one, and remove the file: who reads it needs no keeper."
	case err == nil && key.Version != "" && key.Version != w.KeyVersion:
		c.State, c.Found, c.Do = Advice, c.Found+"; the newest version is "+key.Version, "Run: signalbox root-key rewrap"
	}
	return []Check{c}
}

// lookAtRoots says that the root key is being changed, if it is.
func lookAtRoots(ctx context.Context, p *patient, found string) (Check, bool) {
	at, err := keyring.RootsOf(ctx, p.db)
	if err != nil || at.Next == "" {
		return Check{}, false
	}
	return Check{State: Warning, Found: found + " opens the keyring; the root key is being changed from " + at.Present + " to " + at.Next + ", and both open it",
		Do: "Start every instance with " + at.Next + ", then run: signalbox rekey --root --finish. Or take it back: signalbox rekey --root --abandon"}, true
}

// lookAtSeal says that the servers are sealed, and nothing when they are not.
func lookAtSeal(ctx context.Context, p *patient) []Check {
	if p.db == nil {
		return nil
	}
	s, err := keyring.SealOf(ctx, p.db)
	if err != nil || !s.InForce() { // a schema from before there were seals has none
		return nil
	}
	return []Check{{State: Broken, Found: "sealed since " + s.At.UTC().Format(time.RFC3339) + " by " + s.By + ": nothing is lent or opened",
		Do: "When it is known who must not come back, lift the seal with: signalbox unseal"}}
}
