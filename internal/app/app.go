// Package app puts the rooms of Signalbox together into a running server, and is the only one that knows all of them and reads the
// process environment.
//
// Promise: a start that cannot be safe is refused with a sentence that says what to do: a wrong or missing root key, a data directory in
// use, plain http on an address that is not loopback. SIGTERM drains: open streams go on, new requests are sent elsewhere, and what was
// recorded is signed before the process ends.
//
// Limits: one process serves one data directory. TLS is ended here, with a certificate from files, or by a proxy in front; getting the
// certificate is the operator's affair.
//
// Invariants: a root key is made only where no keyring exists; the operator token and the set-up link are made by a first start and by
// nothing else; the log holds no query, header or body of a request, and of a path only words and ids of our own.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/broker"
	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/deposit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/importer"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/price"
	"signalbox.dev/signalbox/internal/probe"
	"signalbox.dev/signalbox/internal/rate"
	"signalbox.dev/signalbox/internal/relay"
	"signalbox.dev/signalbox/internal/sink"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web"
)

// App is an opened Signalbox. Make it with [Open], serve with [App.Serve], end it with [App.Close].
type App struct {
	cfg      Config
	log      *slog.Logger
	version  string
	instance string
	started  time.Time
	first    First
	words    map[string]bool

	owned     *os.File // the lock of a data directory beside PostgreSQL
	db        *store.DB
	ring      *keyring.Ring
	rekeyer   *keyring.Rekeyer
	identity  *identity.Room
	breached  *identity.Breached
	audit     *audit.Log
	notify    *notify.Room
	relay     *relay.Room
	contents  *contents.Room
	sinks     *sink.Room
	ledger    *ledger.Room
	prices    *price.Table
	vault     *vault.Room
	reminders *reminders
	backups   *lastBackup
	trains    *train.Room
	mcp       *mcp.Room
	deposits  *deposit.Door
	probes    *probe.Room
	logins    *oauth.Logins
	oauth     *oauth.Room
	transport *outbound.Pool
	broker    *broker.Broker
	incidents *incident.Room
	detectors *incident.Detectors
	limits    *rate.Limiter // of callers, for every door but the broker
	api       *api.Door
	web       http.Handler
	health    health
	metrics   *instruments

	// certificate is that of the main listener, nil for plain http.
	certificate *certificate
	// loopback says that the main listener takes connections from this machine only. The other listener is for metrics, or nil.
	loopback atomic.Bool
	metricsL net.Listener

	draining atomic.Bool
	seal     sealWatch
	cut      chan struct{}
	ending   chan struct{} // closed when the drain begins
	cutOnce  sync.Once
	endOnce  sync.Once
	closing  sync.Once
}

// Open opens the data directory and the database of cfg and everything on top. On an empty data directory it makes what a first start
// makes; [App.First] tells what that was. It fails with a [SealedError] when the servers are sealed.
func Open(ctx context.Context, cfg Config) (*App, error) {
	return open(ctx, cfg, true)
}

// open is Open; without serving, a first start makes no operator token and no set-up link.
func open(ctx context.Context, cfg Config, serving bool) (_ *App, err error) {
	a := &App{cfg: cfg, log: cfg.logger(), version: Version(), instance: store.NewID("ins"), started: time.Now(), cut: make(chan struct{}), ending: make(chan struct{}), seal: sealWatch{set: make(chan struct{})}}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	for _, w := range cfg.Warnings() {
		a.log.Warn(w)
	}
	if a.metrics, err = newInstruments(a); err != nil {
		return nil, err
	}
	if serving && cfg.servesTLS() {
		if a.certificate, err = openCertificate(cfg.TLSCertFile, cfg.TLSKeyFile, a.log, time.Now); err != nil {
			return nil, err
		}
	}
	if serving && cfg.MetricsListen != "" {
		if a.metricsL, err = listen(cfg.MetricsListen, "metrics-listen"); err != nil {
			return nil, err
		}
	}
	if err := makeDataDir(cfg.DataDir, a.log); err != nil {
		return nil, err
	}
	if cfg.isPostgres() {
		if a.owned, err = store.LockDir(cfg.DataDir); err != nil { // two instances that share spilled tokens would remove each other's
			return nil, err
		}
	}
	database := cfg.storeConfig()
	database.Committed = a.metrics.committed
	if a.db, err = store.Open(ctx, database); err != nil {
		return nil, err
	}
	a.db.Subscribe(a.watchSeal)                    // first: what another cannot follow must not stand in its way
	if err := lookForSeal(ctx, a.db); err != nil { // before the root key is read
		return nil, err
	}
	exists, err := keyring.Exists(ctx, a.db)
	if err != nil {
		return nil, err
	}
	pending, err := a.pendingFirstStart(exists)
	if err != nil {
		return nil, err
	}
	if pending && serving && !cfg.Mode.manages() {
		return nil, errProxyFirst
	}
	root, err := readRootKey(ctx, cfg, a.db, exists)
	if err != nil {
		return nil, err
	}
	if a.ring, err = keyring.Open(ctx, keyring.Config{DB: a.db, Root: root, Log: a.log}); err != nil {
		return nil, err
	}
	if err := a.openRooms(ctx); err != nil {
		return nil, err
	}
	if err := a.db.Start(ctx); err != nil {
		return nil, err
	}
	if err := lookForSeal(ctx, a.db); err != nil { // what was committed before the feed was there
		return nil, err
	}
	if err := a.recordRestore(ctx); err != nil {
		return nil, err
	}
	if err := a.identity.Start(ctx); err != nil {
		return nil, err
	}
	a.audit.Start(ctx)
	a.notify.Start(ctx)
	a.relay.Start(ctx)
	a.contents.Start(ctx)
	a.sinks.Start(ctx)
	a.ledger.Start(ctx)
	a.reminders.Start(ctx)
	a.rekeyer.Start(ctx)
	a.detectors.Start(ctx)
	a.backups.Start(ctx)
	a.api.Start(ctx)
	if err := a.oauth.Start(); err != nil {
		return nil, err
	}
	a.incidents.Start(ctx) // it refreshes, for which what was spilled must be known
	if pending {
		if err := a.firstStart(ctx, root, serving); err != nil {
			return nil, fmt.Errorf("the first start could not be finished, and goes on at the next: %w", err)
		}
	}
	return a, nil
}

// openRooms makes the rooms and the doors, the lower floors first; they subscribe to the change feed in this order.
func (a *App) openRooms(ctx context.Context) error {
	policy, err := outbound.ParsePolicy(a.cfg.AllowPrivateUpstreams)
	if err != nil {
		return err
	}
	if a.cfg.BreachedPasswords != "" {
		if a.breached, err = identity.OpenBreached(a.cfg.BreachedPasswords); err != nil {
			return err
		}
	}
	if a.identity, err = identity.New(identity.Config{
		DB: a.db, Ring: a.ring, Log: a.log, MaxKeysPerTrain: a.cfg.MaxKeysPerTrain, MaxKeys: a.cfg.MaxKeys, SessionLife: a.cfg.SessionLife, SessionIdle: a.cfg.SessionIdle, PublicURL: a.cfg.PublicURL,
		ReadOnly: a.cfg.ReadOnly, FailureLimit: a.cfg.FailureLimit, Breached: a.breached, Outgoing: policy, Tell: tellOfSignIns, Spent: a.spent,
	}); err != nil {
		return err
	}
	if a.audit, err = audit.New(ctx, audit.Config{DB: a.db, Ring: a.ring, Log: a.log, Instance: a.instance, CheckpointFile: a.cfg.CheckpointFile}); err != nil {
		return err
	}
	if a.notify, err = notify.New(notify.Config{DB: a.db, Ring: a.ring, Policy: policy, Instance: a.instance, Log: a.log}); err != nil {
		return err
	}
	if a.sinks, err = sink.New(sink.Config{DB: a.db, Ring: a.ring, Audit: a.audit, Policy: policy, Instance: a.instance, Log: a.log}); err != nil {
		return err
	}
	if err := a.openLedger(); err != nil {
		return err
	}
	if a.vault, err = vault.New(vault.Config{DB: a.db, Ring: a.ring, Binder: a.ring, Log: a.log, CheckURL: policy.CheckURL}); err != nil {
		return err
	}
	if a.probes, err = probe.New(probe.Config{Vault: a.vault, Policy: policy, Log: a.log}); err != nil {
		return err
	}
	a.backups = &lastBackup{db: a.db, log: a.log}
	a.reminders = newReminders(a.vault.Remind, remindEvery, a.log)
	if err := a.openOAuth(policy); err != nil {
		return err
	}
	if a.contents, err = contents.New(contents.Config{DB: a.db, Ring: a.ring, Log: a.log}); err != nil {
		return err
	}
	if a.trains, err = train.New(train.Config{DB: a.db, Vault: a.vault, Identity: a.identity, Log: a.log, Keyless: !a.cfg.ClientAuth, Meters: a.metrics.lendings, Refresher: a.oauth, Notify: a.notify, Contents: a.contents, Prices: a.prices}); err != nil {
		return err
	}
	if a.limits, err = rate.New(rate.Config{DB: a.db}); err != nil {
		return err
	}
	if err := a.openMCP(policy); err != nil {
		return err
	}
	if a.relay, err = relay.New(relay.Config{DB: a.db, Notify: a.notify, Log: a.log}); err != nil {
		return err
	}
	a.transport = outbound.NewPool(policy, outbound.Options{HeaderTimeout: a.cfg.UpstreamTimeout})
	a.broker, err = broker.New(broker.Config{
		Trains: a.trains, Identity: a.identity, Transport: a.transport.Over(nil), Routes: a.transport.Over, Log: a.log, BodyLimit: a.cfg.BodyLimit,
		NoClientAuth: !a.cfg.ClientAuth, DefaultTrain: a.cfg.DefaultTrain, ClientIP: a.clientIP, Relay: a.relay, Contents: a.contents,
		Secure: a.cfg.servesTLS() || a.cfg.BehindTLSProxy, MCP: a.mcp, Admit: a.admit, PublicURL: a.cfg.PublicURL,
		Closed: a.cfg.Mode.noLending(),
	})
	if err != nil {
		return err
	}
	if a.rekeyer, err = keyring.NewRekeyer(keyring.RekeyerConfig{DB: a.db, Ring: a.ring, Places: sealed(a.ring, a.vault, a.logins), Instance: a.instance, Log: a.log, Files: a.oauth.SealFiles}); err != nil {
		return err
	}
	if a.incidents, err = incident.New(incident.Config{DB: a.db, Identity: a.identity, Vault: a.vault, Logins: a.logins, Tokens: a.oauth, Audit: a.audit, Log: a.log, At: failpoint[incident.Point]()}); err != nil {
		return err
	}
	if err := a.openDetectors(); err != nil {
		return err
	}
	transfer, err := importer.New(importer.Config{DB: a.db, Vault: a.vault, Trains: a.trains, MCP: a.mcp, Log: a.log})
	if err != nil {
		return err
	}
	a.api, err = api.New(api.Config{
		DB: a.db, Ring: a.ring, Vault: a.vault, Trains: a.trains, MCP: a.mcp, Importer: transfer, Incidents: a.incidents, Logins: a.logins, OAuth: a.oauth, Identity: a.identity, Audit: a.audit, Sinks: a.sinks, Ledger: a.ledger, Notify: a.notify, Probe: a.probes, Rekeyer: a.rekeyer, Log: a.log, Version: a.version, ClientIP: a.clientIP,
		Served: a.metrics.served,
		Closed: a.cfg.Mode.noManaging(), ReadOnly: a.cfg.ReadOnly,
		Limits: a.limits, CallerLimit: a.cfg.CallerLimit, RevealLimit: a.cfg.RevealLimit,
	})
	if err != nil {
		return err
	}
	document, err := api.OpenAPI()
	if err != nil {
		return err
	}
	if a.words, err = routeWords(document); err != nil {
		return err
	}
	a.web, err = web.New(web.Config{DB: a.db, Draining: a.ending, Styleguide: a.cfg.styleguide, Identity: a.identity, Logins: a.logins, Vault: a.vault, Trains: a.trains, OAuth: a.oauth, Audit: a.audit, Ledger: a.ledger, Notify: a.notify, Probe: a.probes, Importer: transfer, Incidents: a.incidents, Keys: web.Keys{Ring: a.ring, Rekeyer: a.rekeyer, Sealed: a.rekeyer.Sealed}, Operations: a.operations(), ClientIP: a.clientIP, Log: a.log, Closed: a.cfg.Mode.noManaging(), ReadOnly: a.cfg.ReadOnly, PublicURL: a.cfg.PublicURL,
		Header: web.HeaderSSO{Name: a.cfg.SSOHeader, Create: identity.Role(a.cfg.SSOHeaderCreate)},
		Admit: func(ctx context.Context, c identity.Caller) error {
			return a.limits.Take(ctx, api.CallerRule(a.cfg.CallerLimit), c.CountedAs())
		},
		AdmitReveal: func(ctx context.Context, c identity.Caller) error {
			return a.limits.Take(ctx, api.RevealRule(a.cfg.RevealLimit), c.CountedAs())
		}})
	return err
}

// First tells what a first start has made.
func (a *App) First() First { return a.first }

// DataDir returns the data directory.
func (a *App) DataDir() string { return a.cfg.DataDir }

// Close writes and signs what waits and closes everything. It may be called more than once, and after an Open that failed half-way.
func (a *App) Close() error {
	var err error
	a.closing.Do(func() {
		if a.metricsL != nil {
			_ = a.metricsL.Close() // Serve may have closed it
		}
		if a.api != nil {
			a.api.Close()
		}
		if a.trains != nil {
			a.trains.Close()
		}
		if a.incidents != nil {
			a.incidents.Close()
		}
		if a.logins != nil {
			a.logins.Close()
		}
		if a.oauth != nil {
			a.oauth.Close()
		}
		if a.rekeyer != nil {
			a.rekeyer.Close()
		}
		if a.reminders != nil {
			a.reminders.Close()
		}
		if a.detectors != nil {
			a.detectors.Close()
		}
		if a.backups != nil {
			a.backups.Close()
		}
		if a.relay != nil { // what the leases that were cut have to tell
			a.relay.Close()
		}
		if a.contents != nil {
			a.contents.Close()
		}
		if a.notify != nil {
			a.notify.Close()
		}
		if a.sinks != nil {
			a.sinks.Close()
		}
		if a.ledger != nil {
			a.ledger.Close()
		}
		if a.identity != nil {
			err = errors.Join(err, a.identity.Close())
		}
		if a.breached != nil {
			err = errors.Join(err, a.breached.Close())
		}
		if a.audit != nil {
			a.audit.Close()
		}
		if a.transport != nil {
			a.transport.CloseIdleConnections()
		}
		if a.db != nil {
			err = errors.Join(err, a.db.Close())
		}
		if a.owned != nil {
			err = errors.Join(err, a.owned.Close())
		}
	})
	return err
}

// rootKeyPath names the root key file, or is "" when the key came from elsewhere.
func (c Config) rootKeyPath() string {
	if !c.RootKey.IsZero() || !c.RootKeyKeeper.IsZero() || c.isPostgres() {
		return ""
	}
	return c.dataPath(RootKeyFile)
}
