package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 64 << 10
	// pollDrain is how often the drain looks whether the last stream has ended.
	pollDrain = 20 * time.Millisecond
	// lastAnswers is what short requests get to finish in after the last stream.
	lastAnswers = 2 * time.Second
	// lastOutcomes is what streams that were cut get to record their outcome in.
	lastOutcomes = time.Second
	// closing bounds what is written to the database at the start and at the end.
	closing = 10 * time.Second
)

// Serve serves on l until ctx ends, then drains: /readyz says 503, new requests to lend are told to go elsewhere, and open streams go on
// for up to the drain timeout before they are cut. The listener stays open meanwhile, and for the drain delay at least, so that a balancer can
// see the 503. It closes l.
// Serve returns nil after a drain, also when it had to cut streams. When the servers are sealed meanwhile, it cuts everything at once and returns a
// [SealedError].
func (a *App) Serve(ctx context.Context, l net.Listener) error {
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	server := &http.Server{
		Handler:           a.handler(),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// No write timeout: streams last as long as they last.
		ErrorLog: log.New(serverLog{a.log}, "", 0),
	}
	// Told to stop meanwhile, it starts and stops: a record broken off would look like a database that fails.
	first, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	if err := a.record(first, store.AdminStart, l.Addr().String()); err != nil {
		_ = l.Close()
		return fmt.Errorf("record the start: %w", err)
	}
	a.loopback.Store(isLoopback(l.Addr().String()))
	serve := server.Serve
	if a.certificate != nil {
		server.TLSConfig = a.certificate.config()
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	defer a.serveMetrics()()
	debug.FreeOSMemory() // what starting took is not needed again: 48 MB resident when idle became 39
	defer paceHeap()()
	ended := make(chan error, 1)
	go func() { ended <- serve(l) }()
	var sealed error
	a.log.Info("serving", "listen", l.Addr().String(), "tls", a.certificate != nil, "engine", a.db.Engine(), "version", a.version)
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
		a.drain(server, cancelRequests)
	case <-a.seal.set:
		sealed = a.shut(server, l, cancelRequests)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) && (sealed == nil || !errors.Is(err, net.ErrClosed)) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	if err := a.record(last, store.AdminStop, l.Addr().String()); err != nil {
		a.log.Warn("the stop could not be recorded", "cause", err)
	}
	return sealed
}

// Cut ends a drain at once. It may be called several times and before Serve.
func (a *App) Cut() { a.cutOnce.Do(func() { close(a.cut) }) }

func (a *App) drain(server *http.Server, cancelRequests func()) {
	a.draining.Store(true)
	a.endOnce.Do(func() { close(a.ending) })
	a.broker.Drain()
	open := a.broker.InFlight()
	a.log.Info("stopping", "open_streams", open, "drain_delay", a.cfg.DrainDelay.String(), "drain_timeout", a.cfg.DrainTimeout.String())
	// Idle connections stay open until the delay is over: a request that is on its way on one of them would meet a closed door, and its
	// client could not know whether it was served. Meanwhile every answer closes the connection that it came on.
	delay := time.NewTimer(a.cfg.DrainDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-a.cut:
	case <-a.seal.set:
	}
	server.SetKeepAlivesEnabled(false)
	deadline := time.NewTimer(a.cfg.DrainTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollDrain)
	defer tick.Stop()
	for cut := false; !cut && a.broker.InFlight() > 0; {
		select {
		case <-tick.C:
		case <-deadline.C:
			a.log.Warn("the drain timeout has passed; open streams are cut", "open_streams", a.broker.InFlight())
			cut = true
		case <-a.seal.set:
			a.trains.Shut(a.seal.what.Fault())
			cut = true
		case <-a.cut:
			a.log.Warn("told to stop at once; open streams are cut", "open_streams", a.broker.InFlight())
			cut = true
		}
	}
	if a.isSealed() {
		cancelRequests() // as [App.shut] does
	}
	if a.broker.InFlight() == 0 {
		last, cancel := context.WithTimeout(context.Background(), lastAnswers)
		defer cancel()
		if server.Shutdown(last) == nil {
			return
		}
	}
	_ = server.Close() // cuts what is left; its error tells of connections that are gone anyway
	for limit := time.Now().Add(lastOutcomes); a.broker.InFlight() > 0 && time.Now().Before(limit); {
		time.Sleep(pollDrain)
	}
}

// record writes an event of this instance's life.
func (a *App) record(ctx context.Context, action store.Action, listen string) error {
	return a.db.Write(ctx, func(tx *store.Tx) error {
		e := identity.System("server").Event(action, store.Target{Kind: "instance", ID: a.instance})
		e.Details = store.Details{store.Str("version", a.version), store.Str("listen", listen)}
		return tx.Record(e)
	})
}

// serverLog takes what net/http itself complains about. A panic's value may hold anything, so only its stack is logged.
type serverLog struct{ log *slog.Logger }

// Write logs one complaint.
func (s serverLog) Write(line []byte) (int, error) {
	first, rest, _ := bytes.Cut(line, []byte("\n"))
	if bytes.HasPrefix(first, []byte("http: panic serving")) {
		s.log.Error("a handler panicked", "stack", strings.TrimSpace(string(rest)))
		return len(line), nil
	}
	s.log.Debug("http server", "text", string(bytes.TrimSpace(line)))
	return len(line), nil
}
