package app

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/broker"
	"signalbox.dev/signalbox/internal/deposit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web"
)

// A sealed server has no room open: the App is closed, with all that it held in memory, and a door of its own answers on the same port until the seal is
// lifted. So nothing can be lent by a path that forgot to ask.

// SealedError is returned by [Open] and [App.Serve] when the servers of the database are sealed.
type SealedError struct{ Seal keyring.ServerSeal }

// Error says what to do.
func (e *SealedError) Error() string { return e.Seal.Fault().Detail }

// Unwrap returns the fault encryption_key_missing.
func (e *SealedError) Unwrap() error { return e.Seal.Fault() }

// sealWatch tells that the servers were sealed while this one serves.
type sealWatch struct {
	once sync.Once
	set  chan struct{} // closed then
	what keyring.ServerSeal

	made    sync.Once
	handler http.Handler // see sealedHandler
}

// lookForSeal fails with a [SealedError] when the servers are sealed.
func lookForSeal(ctx context.Context, db *store.DB) error {
	s, err := keyring.SealOf(ctx, db)
	if err != nil {
		return err
	}
	if s.InForce() {
		return &SealedError{Seal: s}
	}
	return nil
}

// watchSeal looks for a seal whenever the keyring changed.
func (a *App) watchSeal(ctx context.Context, changes []store.Change) error {
	for _, c := range changes {
		if c.Topic != store.TopicKeyring && c.Topic != store.TopicReset {
			continue
		}
		err := lookForSeal(ctx, a.db)
		var sealed *SealedError
		if errors.As(err, &sealed) {
			a.beSealed(sealed.Seal)
			return nil
		}
		return err
	}
	return nil
}

// beSealed refuses everything from now on and lets Serve end. It does not wait: news come one at a time.
func (a *App) beSealed(s keyring.ServerSeal) {
	a.seal.once.Do(func() {
		a.seal.what = s
		if a.broker != nil {
			a.broker.Drain()
		}
		close(a.seal.set)
	})
}

// isSealed reports whether the servers were sealed while this one serves.
func (a *App) isSealed() bool {
	select {
	case <-a.seal.set:
		return true
	default:
		return false
	}
}

// sealedHandler answers what comes between the seal and the moment that the door of a sealed server stands here.
func (a *App) sealedHandler() http.Handler {
	a.seal.made.Do(func() {
		h, err := (&sealedDoor{cfg: a.cfg, log: a.log, seal: a.seal.what}).handler()
		if err != nil {
			a.log.Error("the answer of a sealed server could not be made", "cause", err)
			h = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Request-Id", store.NewID("req"))
				refuseMetrics(w, a.seal.what.Fault())
			})
		}
		a.seal.handler = h
	})
	return a.seal.handler
}

// shut ends a server that was sealed. Running uses are cut at once, everything else that runs a moment later, so that the answer to who sealed it goes out.
func (a *App) shut(server *http.Server, l net.Listener, cancelRequests func()) error {
	a.log.Warn("Signalbox was sealed; nothing is lent or opened until somebody with the root key runs signalbox unseal", "seal", a.seal.what.ID, "open_streams", a.broker.InFlight())
	a.draining.Store(true)
	a.endOnce.Do(func() { close(a.ending) })
	// No more connections, but those that were taken are still answered: a server that shuts down drops what it reads from then on.
	_ = l.Close()
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		a.trains.Shut(a.seal.what.Fault())
	}()
	time.Sleep(lastRequests)
	cancelRequests() // what still goes on, as an export does, was begun before
	last, cancel := context.WithTimeout(context.Background(), lastSealed)
	defer cancel()
	if server.Shutdown(last) != nil {
		_ = server.Close() // cuts what is left; its error tells of connections that are gone anyway
	}
	<-cut
	for limit := time.Now().Add(lastOutcomes); a.broker.InFlight() > 0 && time.Now().Before(limit); {
		time.Sleep(pollDrain)
	}
	return &SealedError{Seal: a.seal.what}
}

// Running tells whoever runs a server how it goes. Its functions are called one at a time.
type Running struct {
	// Opened is called before the server serves, at its start and each time that a seal was lifted.
	Opened func(*App)
	// Sealed is called when the server stands sealed.
	Sealed func(keyring.ServerSeal)
	// Cut, once closed, cuts what is still open while the server stops.
	Cut <-chan struct{}
}

// Run opens what cfg says and serves it on l until ctx ends. When the servers are sealed it closes everything and stands sealed on the same port, until
// the seal is lifted by somebody with the root key; then it opens again. It closes l.
func Run(ctx context.Context, cfg Config, l net.Listener, tell Running) error {
	return run(ctx, cfg, nil, l, tell)
}

// Run is [Run] from an App on that is open. It closes the App.
func (a *App) Run(ctx context.Context, l net.Listener, tell Running) error {
	return run(ctx, a.cfg, a, l, tell)
}

func run(ctx context.Context, cfg Config, a *App, l net.Listener, tell Running) (err error) {
	d, err := newDoorway(l)
	if err != nil {
		return errors.Join(err, a.closed(), l.Close())
	}
	defer func() {
		if cerr := d.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}()
	var sealed *SealedError
	b := &sealedDoor{cfg: cfg, log: cfg.logger()}
	for {
		var err error
		if a == nil {
			a, err = Open(ctx, cfg)
		}
		if err == nil {
			if tell.Opened != nil {
				tell.Opened(a)
			}
			err = a.turn(ctx, d, tell.Cut)
		}
		var again *SealedError
		switch {
		case errors.As(err, &again):
			sealed = again
			b.begin(again.Seal)
		case err == nil || sealed == nil || ctx.Err() != nil:
			return errors.Join(err, a.closed())
		default: // it stood sealed, and a server that is gone would be worse than one that says what is wrong
			b.fails(err)
		}
		if err := b.serve(ctx, d, a, tell.Sealed); err != nil || ctx.Err() != nil {
			return err
		}
		a = nil
	}
}

// turn serves until ctx ends or the servers are sealed.
func (a *App) turn(ctx context.Context, d doorway, cut <-chan struct{}) error {
	l, err := d.turn()
	if err != nil {
		return err
	}
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-cut:
			a.Cut()
		case <-over:
		}
	})
	err = a.Serve(ctx, l)
	close(over)
	watch.Wait()
	return err
}

const (
	// lastRequests is how long a connection that was taken just before has for its request.
	lastRequests = 100 * time.Millisecond
	// sealedLook is how often a sealed server looks whether the seal was lifted.
	sealedLook = 500 * time.Millisecond
	// sealedPatience bounds a look, which may have to ask a key management service.
	sealedPatience = 45 * time.Second
	// sealedAgain is how long it waits at first after something failed, and sealedRarely at most.
	sealedAgain, sealedRarely = 2 * time.Second, 30 * time.Second
	// lastSealed is what short answers get to finish in when the server was sealed.
	lastSealed = 500 * time.Millisecond
)

// sealedDoor is what a sealed server is.
type sealedDoor struct {
	cfg  Config
	log  *slog.Logger
	seal keyring.ServerSeal
	db   *store.DB
	lock *os.File
	wait time.Duration // until the first look
	// certificate is that of the server before, nil for plain http.
	certificate *certificate
	// failed says that the seal was lifted and that the server could not be opened all the same.
	failed bool
	said   string // the last complaint, so that each is logged once
	told   string // the seal that was told of
}

// begin stands sealed from now on.
func (b *sealedDoor) begin(s keyring.ServerSeal) {
	b.seal, b.wait, b.failed, b.said = s, sealedLook, false, ""
}

// fails remembers that the server could not be opened.
func (b *sealedDoor) fails(err error) {
	if !b.failed {
		b.wait = sealedLook
	}
	b.failed, b.wait = true, min(max(2*b.wait, sealedAgain), sealedRarely)
	b.complain("the seal was lifted, but the server cannot be opened; it tries again", err)
}

// complain logs what was not the last complaint already.
func (b *sealedDoor) complain(what string, err error) {
	if text := what + err.Error(); text != b.said {
		b.said = text
		b.log.Error(what, "cause", err)
	}
}

// why is the answer to everything.
func (b *sealedDoor) why() *fault.Error {
	if b.failed {
		return fault.New(fault.Unavailable, "encryption_key_missing", "The seal of Signalbox was lifted, but the server cannot be opened yet; it tries again. An operator finds the cause in its log.")
	}
	return b.seal.Fault()
}

// serve stands sealed until the seal was lifted. It closes what a is first, while it answers already.
func (b *sealedDoor) serve(ctx context.Context, d doorway, a *App, tell func(keyring.ServerSeal)) (err error) {
	handler, err := b.handler()
	if err != nil {
		return errors.Join(err, a.closed())
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: shortRequest, WriteTimeout: shortAnswer, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: log.New(serverLog{b.log}, "", 0)}
	l, err := d.turn()
	if err != nil {
		return errors.Join(err, a.closed())
	}
	serve := server.Serve
	if a != nil && a.certificate != nil {
		b.certificate = a.certificate // its files may be gone
	}
	if b.cfg.servesTLS() {
		if b.certificate == nil {
			if b.certificate, err = openCertificate(b.cfg.TLSCertFile, b.cfg.TLSKeyFile, b.log, time.Now); err != nil {
				return errors.Join(err, a.closed())
			}
		}
		server.TLSConfig = b.certificate.config()
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("serve on %s: %w", l.Addr(), err))
		}
	}()
	if err = a.closed(); err != nil {
		b.log.Warn("not everything could be written before the server was sealed", "cause", err)
	}
	debug.FreeOSMemory() // what the server held is not needed again
	stopMetrics := b.serveMetrics()
	if b.told != b.seal.ID {
		b.told = b.seal.ID
		b.log.Warn("sealed", "seal", b.seal.ID, "since", b.seal.At, "listen", l.Addr().String())
		if tell != nil {
			tell(b.seal)
		}
	}
	b.watch(ctx)
	stopMetrics()
	last, stop := context.WithTimeout(context.Background(), lastAnswers)
	defer stop()
	if server.Shutdown(last) != nil {
		_ = server.Close() // cuts what is left; its error tells of connections that are gone anyway
	}
	<-ended
	if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
		err = why
	} else {
		err = nil
	}
	return errors.Join(err, b.close())
}

// closed is Close of an App that may be nil.
func (a *App) closed() error {
	if a == nil {
		return nil
	}
	return a.Close()
}

// watch returns when the seal was lifted, or ctx ends.
func (b *sealedDoor) watch(ctx context.Context) {
	wait := b.wait
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		look, cancel := context.WithTimeout(ctx, sealedPatience)
		lifted, err := b.look(look)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = min(max(2*wait, sealedAgain), sealedRarely)
			b.complain("sealed, and it is not known that the seal was lifted", err)
		case lifted:
			if !b.failed {
				b.log.Warn("the seal was lifted", "seal", b.seal.ID, "at", b.seal.Lifted)
			}
			return
		default:
			wait = sealedLook
		}
	}
}

// errSealGone is the cause for staying sealed when the mark is gone and nobody has proved to have the root key.
var errSealGone = errors.New("the seal is no longer in the database, and nobody has proved to have the root key; if that is right, as after a restore, run signalbox unseal --again")

// look reports whether the seal was lifted by somebody with the root key.
func (b *sealedDoor) look(ctx context.Context) (bool, error) {
	if err := b.open(ctx); err != nil {
		return false, err
	}
	now, err := keyring.SealOf(ctx, b.db)
	switch {
	case err != nil:
		return false, err
	case now.ID < b.seal.ID: // ids go by time: none at all, or one from before, whose proof may be known
		return false, errSealGone
	case now.InForce():
		if now.ID != b.seal.ID {
			b.begin(now)
		}
		return false, nil
	}
	root, err := readRootKey(ctx, b.cfg, b.db, true)
	if err != nil {
		return false, err
	}
	if err := now.Proven(ctx, b.db, root); err != nil {
		return false, err
	}
	b.seal = now
	return true, nil
}

// open opens the database, which a sealed server holds as one that serves does, so that no other takes its place.
func (b *sealedDoor) open(ctx context.Context) (err error) {
	if b.db != nil {
		return nil
	}
	if b.cfg.isPostgres() && b.lock == nil {
		if b.lock, err = store.LockDir(b.cfg.DataDir); err != nil {
			return err
		}
	}
	b.db, err = store.Open(ctx, b.cfg.storeConfig())
	return err
}

func (b *sealedDoor) close() (err error) {
	if b.db != nil {
		err = b.db.Close()
	}
	if b.lock != nil {
		err = errors.Join(err, b.lock.Close())
	}
	b.db, b.lock = nil, nil // it may stand sealed again
	return err
}

// handler answers each door in its own shape that Signalbox is sealed.
func (b *sealedDoor) handler() (http.Handler, error) {
	why := b.why()
	lending, err := broker.New(broker.Config{Closed: why, Log: b.log})
	if err != nil {
		return nil, err
	}
	managing, err := api.New(api.Config{Closed: why, Log: b.log})
	if err != nil {
		return nil, err
	}
	pages, err := web.New(web.Config{Closed: why, Log: b.log})
	if err != nil {
		return nil, err
	}
	deposits, err := deposit.New(deposit.Config{Closed: why, Log: b.log})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch door := doorOf(r.URL.Path); {
		case door == "v1":
			lending.ServeHTTP(w, r)
		case door == "use":
			lending.ServeUse(w, r)
		case door == "mcp":
			lending.ServeMCP(w, r)
		case door == broker.MCPTools:
			lending.ServeMCPTools(w, r)
		case door == deposit.Path:
			deposits.ServeHTTP(w, r)
		case r.URL.Path == "/healthz":
			answerHealth(w, r, http.StatusOK, readiness{Status: "ok"})
		case r.URL.Path == "/readyz":
			answerHealth(w, r, http.StatusServiceUnavailable, readiness{Status: "sealed", Checks: map[string]string{"keyring": why.Detail}})
		case r.URL.Path == "/metrics":
			w.Header().Set("X-Request-Id", store.NewID("req"))
			refuseMetrics(w, why)
		case door == "api":
			managing.ServeHTTP(w, r)
		default:
			if b.cfg.servesTLS() || b.cfg.BehindTLSProxy {
				w.Header().Set("Strict-Transport-Security", "max-age=31536000")
			}
			pages.ServeHTTP(w, r)
		}
	}), nil
}

// serveMetrics serves on the metrics listener, if there is one, the one thing that a sealed server knows, until the returned function is called.
func (b *sealedDoor) serveMetrics() (stop func()) {
	if b.cfg.MetricsListen == "" {
		return func() {}
	}
	l, err := listen(b.cfg.MetricsListen, "metrics-listen")
	if err != nil {
		b.log.Error("the metrics listener could not be opened while sealed", "cause", err)
		return func() {}
	}
	m := metricTable[sealedGauge]
	text := "# HELP " + m.Name + " " + m.Help + "\n# TYPE " + m.Name + " gauge\n" + m.Name + " 1\n"
	server := &http.Server{ReadTimeout: headerTimeout, WriteTimeout: metricsWrite, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: log.New(serverLog{b.log}, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/metrics":
				w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
				w.Header().Set("Cache-Control", "no-store")
				_, _ = w.Write([]byte(text)) // whoever asked may be gone
			case "/healthz":
				answerHealth(w, r, http.StatusOK, readiness{Status: "ok"})
			default:
				answerHealth(w, r, http.StatusServiceUnavailable, readiness{Status: "sealed"})
			}
		})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			b.log.Error("the metrics listener stopped", "cause", err)
		}
	}()
	return func() {
		_ = server.Close() // a scrape is asked for again
		<-ended
	}
}

// Unseal lifts the seal of the database of cfg. It needs the root key, from where a server would have it, and works beside sealed servers and without
// one. The second result is false when the servers were not sealed; with again they are shown a proof all the same.
func Unseal(ctx context.Context, cfg Config, again bool) (seal keyring.ServerSeal, did bool, err error) {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is for the record alone
	}
	err = besideServers(ctx, cfg, func(db *store.DB) error {
		root, err := configured(ctx, cfg, db)
		if err != nil {
			return err
		}
		seal, did, err = keyring.UnsealServers(ctx, db, root, host, again)
		return err
	})
	return seal, did, err
}
