package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// inspecting bounds the look at a database; quick_check reads all of a SQLite file.
const inspecting = 5 * time.Minute

func lookAtDatabase(ctx context.Context, p *patient) []Check {
	ctx, cancel := context.WithTimeout(ctx, inspecting)
	defer cancel()
	var err error
	p.database, err = store.Inspect(ctx, p.cfg.storeConfig())
	if err != nil {
		do := "Look at the disk and the file; when it is damaged, restore a backup."
		found := told(err)
		if p.cfg.isPostgres() {
			do = "See that the server runs and that " + p.cfg.Origin("database-url") + " names it, its user and its password."
			if what, remedy, ok := strings.Cut(found, "; "); ok { // it knows better what to do
				found, do = what, strings.ToUpper(remedy[:1])+remedy[1:]+"."
			}
		}
		p.database.Schema = -1
		return []Check{{State: Broken, Found: found, Do: do}}
	}
	i := p.database
	switch {
	case i.Engine == store.SQLite && !i.Exists:
		return []Check{{State: Fine, Found: "SQLite; there is none yet, the first signalbox serve makes it"}}
	case i.Engine == store.SQLite:
		return []Check{{State: Fine, Found: "SQLite " + i.Version + ", journal mode " + i.JournalMode}}
	case i.Old:
		return []Check{{State: Broken, Found: "PostgreSQL " + i.Version + " at " + i.Host, Do: "Use PostgreSQL 15 or later."}}
	case i.ReadOnly:
		return []Check{{State: Broken, Found: "PostgreSQL " + i.Version + " at " + i.Host + " takes no writes", Do: "Name the primary server, not a standby, and a role that may write."}}
	}
	return []Check{{State: Fine, Found: "PostgreSQL " + i.Version + " at " + i.Host}}
}

func lookAtSchema(ctx context.Context, p *patient) []Check {
	i := p.database
	switch {
	case i.Schema < 0:
		return []Check{{State: Skipped, Found: "the database does not answer"}}
	case i.Schema == 0:
		return []Check{{State: Fine, Found: fmt.Sprintf("none yet; this version makes schema %d", i.Latest)}}
	case i.Schema > i.Latest:
		return []Check{{State: Broken, Found: fmt.Sprintf("the database has schema %d, this version knows %d", i.Schema, i.Latest), Do: "Run the newer signalbox that migrated it, or restore a backup."}}
	case i.Schema < i.Latest:
		return []Check{{State: Warning, Found: fmt.Sprintf("the database has schema %d, this version %d", i.Schema, i.Latest), Do: "Make a backup; then signalbox migrate, or the next start of the server, brings it up."}}
	}
	sc := p.cfg.storeConfig()
	sc.ReadOnly = true
	db, err := store.Open(ctx, sc)
	if err == nil {
		p.db = db
	}
	return []Check{{State: Fine, Found: fmt.Sprintf("%d, that of this version", i.Schema)}}
}

// lookAtCredentials compares every credential with its MAC, which is what a load does for those that are linked.
func lookAtCredentials(ctx context.Context, p *patient) []Check {
	if p.ring == nil {
		return nil // there is none yet, or nothing opens, which is told already
	}
	policy, err := outbound.ParsePolicy(p.cfg.AllowPrivateUpstreams)
	if err != nil {
		return []Check{{State: Skipped, Found: told(err)}}
	}
	room, err := vault.New(vault.Config{DB: p.db, Ring: p.ring, Binder: p.ring, Log: p.cfg.logger(), CheckURL: policy.CheckURL})
	if err != nil {
		return []Check{{State: Broken, Found: told(err), Do: "Tell the makers of Signalbox."}}
	}
	all, tampered, err := room.CheckAll(ctx)
	switch {
	case err != nil:
		return []Check{{State: Broken, Found: "the credentials cannot be read: " + told(err), Do: "See to the database first."}}
	case len(tampered) == 0:
		return []Check{{State: Fine, Found: counted(all, "credential", "credentials") + ", none changed outside Signalbox"}}
	}
	shown := tampered[:min(len(tampered), 10)]
	found := counted(len(tampered), "credential was", "credentials were") + " changed outside Signalbox and not lent: " + strings.Join(shown, ", ")
	if len(shown) < len(tampered) {
		found += ", …"
	}
	return []Check{{State: Warning, Found: found,
		Do: "Find out who wrote to the database. Compare each with the audit log (signalbox audit search --target ID), then set its destinations anew (signalbox cred edit ID --status active --provider P --base-url URL --host HOST) or delete it."}}
}

func lookAtIntegrity(_ context.Context, p *patient) []Check {
	switch {
	case p.cfg.isPostgres() || p.database.Schema < 0 || !p.database.Exists:
		return nil
	case p.database.Damaged:
		return []Check{{State: Broken, Found: "SQLite finds the file damaged (quick_check)", Do: "Stop the server, keep the file, and restore a backup; look at the disk."}}
	}
	return []Check{{State: Fine, Found: "SQLite finds no damage (quick_check)"}}
}

func lookAtDurability(_ context.Context, p *patient) []Check {
	i := p.database
	switch {
	case i.Schema < 0 || !i.Exists && !p.cfg.isPostgres():
		return nil
	case !p.cfg.isPostgres() && i.JournalMode != "wal":
		return []Check{{State: Advice, Found: "SQLite's journal mode is " + i.JournalMode, Do: "Nothing; the next start of the server sets it to wal. If it does not stay, look at the file system."}}
	case i.Forgetful:
		return []Check{{State: Broken, Found: "synchronous_commit is off: a crash would lose acknowledged writes", Do: "Run in PostgreSQL: ALTER ROLE … SET synchronous_commit = on"}}
	}
	return []Check{{State: Fine, Found: "what is acknowledged is on disk"}}
}

func lookAtEncryption(_ context.Context, p *patient) []Check {
	i := p.database
	switch {
	case !p.cfg.isPostgres() || i.Schema < 0:
		return nil
	case i.Remote && !i.TLS:
		return []Check{{State: Warning, Found: "the connection to " + i.Host + " is not encrypted", Do: "Add sslmode=verify-full (and sslrootcert=…) to the database's URL."}}
	case i.TLS:
		return []Check{{State: Fine, Found: "the connection uses TLS"}}
	}
	return []Check{{State: Fine, Found: "the connection stays on this machine"}}
}

func lookAtPooler(_ context.Context, p *patient) []Check {
	switch {
	case !p.cfg.isPostgres() || p.database.Schema < 0:
		return nil
	case p.database.Pooler:
		return []Check{{State: Advice, Found: "a pooler stands between here and PostgreSQL; statements are not prepared",
			Do: "Let it pool sessions or transactions, not statements, and give it at least 12 server connections for each instance (PgBouncer: default_pool_size)."}}
	}
	return []Check{{State: Fine, Found: "none between here and PostgreSQL"}}
}

// skewed is how far clocks may differ before expiries and leases go wrong in a way that people notice.
const skewed = 5 * time.Second

func lookAtClock(ctx context.Context, p *patient) []Check {
	if p.cfg.isPostgres() && p.database.Schema >= 0 {
		if ahead := p.database.Ahead; ahead.Abs() > skewed {
			word := "behind"
			if ahead < 0 {
				word = "ahead of"
			}
			return []Check{{State: Warning, Found: "this machine's clock is " + age(ahead) + " " + word + " PostgreSQL's", Do: "Let NTP set both clocks: expiries are judged by them."}}
		}
	}
	if p.db != nil {
		if s, err := audit.Inspect(ctx, p.db); err == nil && time.Until(s.SignedAt) > skewed {
			return []Check{{State: Warning, Found: "this machine's clock is " + age(time.Until(s.SignedAt)) + " behind the newest checkpoint", Do: "Let NTP set the clock: expiries are judged by it."}}
		}
	}
	switch {
	case p.database.Schema < 0:
		return []Check{{State: Skipped, Found: "the database does not answer"}}
	case p.cfg.isPostgres():
		return []Check{{State: Fine, Found: "this machine and PostgreSQL agree"}}
	}
	return []Check{{State: Fine, Found: "not behind anything that was recorded"}}
}

// late is how long events may wait for the log, or the log for a signature, while a server runs.
const late = time.Minute

func lookAtAudit(ctx context.Context, p *patient) []Check {
	if p.db == nil {
		switch {
		case p.database.Schema < 0:
			return []Check{{State: Skipped, Found: "the database does not answer"}}
		case p.database.Schema > 0:
			return []Check{{State: Skipped, Found: "the database cannot be read by this version as it is"}}
		}
		return []Check{{State: Fine, Found: "none yet"}}
	}
	s, err := audit.Inspect(ctx, p.db)
	if err != nil {
		return []Check{{State: Broken, Found: told(err), Do: "Run: signalbox audit verify"}}
	}
	p.unsigned = s.SignedAt.IsZero()
	if s.Waiting && time.Since(s.WaitingSince) > late {
		do := "Start a server: it brings them into the log."
		if p.holder != 0 || p.cfg.isPostgres() {
			do = "See the servers' logs for why; nothing is lost meanwhile, but it is not sealed into the log."
		}
		return []Check{{State: Warning, Found: "events have waited for a place in the log for " + age(time.Since(s.WaitingSince)), Do: do}}
	}
	if p.unsigned {
		return []Check{{State: Fine, Found: fmt.Sprintf("%s, no checkpoint yet", counted(int(s.Size), "record", "records"))}}
	}
	found := fmt.Sprintf("%s, the last checkpoint %s ago covers %d", counted(int(s.Size), "record", "records"), age(time.Since(s.SignedAt)), s.Signed)
	if s.Size > s.Signed && time.Since(s.SignedAt) > late {
		return []Check{{State: Warning, Found: found, Do: "Start a server, or see the log of the one that runs: the newest records are not signed."}}
	}
	return []Check{{State: Fine, Found: found + "; signalbox audit verify checks them all"}}
}

func lookAtListener(_ context.Context, p *patient) []Check {
	loopback := isLoopback(p.cfg.Listen)
	if err := checkListen(p.cfg, loopback); err != nil {
		found, do, _ := strings.Cut(err.Error(), "; ")
		return []Check{{State: Broken, Found: found, Do: strings.ToUpper(do[:1]) + do[1:] + "."}}
	}
	if loopback {
		return []Check{{State: Fine, Found: p.cfg.Listen + ", this machine only"}}
	}
	if p.cfg.servesTLS() {
		return []Check{{State: Fine, Found: p.cfg.Listen + ", with TLS"}}
	}
	return []Check{{State: Fine, Found: p.cfg.Listen + ", behind a proxy that ends TLS, as " + p.cfg.Origin("behind-tls-proxy") + " says"}}
}

func lookAtProxies(_ context.Context, p *patient) []Check {
	for _, n := range p.cfg.TrustedProxies {
		if n.Addr().Is4() && n.Bits() < 16 || n.Addr().Is6() && n.Bits() < 48 || !n.Addr().IsPrivate() && !n.Addr().IsLoopback() && n.Bits() < n.Addr().BitLen()-8 {
			return []Check{{State: Warning, Found: n.String() + " is a wide network, and everybody in it may choose the address that is recorded", Do: "List the proxies' own addresses in --trusted-proxies."}}
		}
	}
	switch {
	case len(p.cfg.TrustedProxies) > 0:
		return []Check{{State: Fine, Found: counted(len(p.cfg.TrustedProxies), "address or network", "addresses or networks")}}
	case p.cfg.BehindTLSProxy:
		return []Check{{State: Advice, Found: "none, so the record shows the proxy's address for every request", Do: "Set SIGNALBOX_TRUSTED_PROXIES to the proxy's address."}}
	}
	return []Check{{State: Fine, Found: "none, and none is needed"}}
}

func lookAtClientKeys(_ context.Context, p *patient) []Check {
	if p.cfg.ClientAuth {
		return []Check{{State: Fine, Found: "the LLM proxy asks for them"}}
	}
	return []Check{{State: Warning, Found: "switched off by " + p.cfg.Origin("enable-client-auth") + ": whoever reaches the proxy may use the accounts of train " + p.cfg.DefaultTrain,
		Do: "Switch them on unless every process that reaches " + p.cfg.Listen + " may use these accounts."}}
}
