package app

import (
	"encoding/json"
	"errors"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// metricsDoor is GET /metrics of the main listener.
func (a *App) metricsDoor(w http.ResponseWriter, r *http.Request) {
	a.answerMetrics(w, r, a.mayScrape)
}

// answerMetrics answers with the metrics, if the request may have them.
func (a *App) answerMetrics(w http.ResponseWriter, r *http.Request, may func(r *http.Request, requestID string) error) {
	h, id := w.Header(), store.NewID("req")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		refuseMetrics(w, fault.New(fault.MethodNotAllowed, "method_not_allowed", "This path takes GET only."))
		return
	}
	if err := may(r, id); err != nil {
		refuseMetrics(w, err)
		return
	}
	a.metrics.handler.ServeHTTP(w, r)
}

// mayScrape lets programs of this machine in while only they can connect, and else whoever has a token for it. The metrics name trains and
// accounts and tell how much they are used. A token is treated as the API treats it: a wrong one counts as a guess, each caller has a limit, and
// a refusal for want of the scope is on record.
func (a *App) mayScrape(r *http.Request, requestID string) error {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		if a.fromHere(r) {
			return nil
		}
		return fault.New(fault.Unauthenticated, "unauthenticated",
			"The metrics need a personal access token with the scope metrics:read, as Authorization: Bearer sbp_…. Without one they are served to programs of this machine when no proxy is in front, and on --metrics-listen.")
	}
	scheme, bearer, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return fault.New(fault.Unauthenticated, "unauthenticated", "Send one personal access token as Authorization: Bearer sbp_….")
	}
	caller, err := a.identity.Bearer(r.Context(), strings.TrimSpace(bearer))
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			err = a.identity.Refuse(r.Context(), a.clientIP(r), identity.FailedToken, err)
		}
		return err
	}
	// A revocation elsewhere must be obeyed within a second, also by a scrape; while the database is away only the other ways are open.
	if err := a.db.Fresh(r.Context()); err != nil {
		return err
	}
	caller.RequestID, caller.IP, caller.UserAgent = requestID, a.clientIP(r), r.UserAgent()
	if err := a.limits.Take(r.Context(), api.CallerRule(a.cfg.CallerLimit), caller.CountedAs()); err != nil {
		return err
	}
	return a.identity.Permit(r.Context(), caller, identity.MetricsRead, store.Target{Kind: "metrics"})
}

// fromHere reports whether a request without a token comes from a program of this machine, as far as can be known: the listener is loopback,
// no proxy is configured or has left its mark, and the name that was called is loopback too, which a page in a browser that resolves its own
// name to this machine cannot fake.
func (a *App) fromHere(r *http.Request) bool {
	if !a.loopback.Load() || a.cfg.BehindTLSProxy || len(a.cfg.TrustedProxies) > 0 {
		return false
	}
	for _, name := range [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-Ip", "Via"} {
		if _, ok := r.Header[name]; ok {
			return false
		}
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return false
	}
	host := r.Host
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "0")
	}
	return isLoopback(host)
}

// refuseMetrics answers with a problem document.
func refuseMetrics(w http.ResponseWriter, err error) {
	f := fault.Of(err)
	h := w.Header()
	if f.Kind == fault.Unauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="Signalbox"`)
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	h.Set("Content-Type", "application/problem+json")
	status := f.Kind.Status()
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(client.Problem{ // whoever asked may be gone
		Title: http.StatusText(status), Status: status, Code: f.Code, Detail: f.Detail, RequestID: h.Get("X-Request-Id"),
	})
}

// metricsWrite bounds a scrape on the metrics listener, which anybody who reaches it may open.
const metricsWrite = 30 * time.Second

// serveMetrics serves the metrics listener, if there is one, until the returned function is called.
func (a *App) serveMetrics() (stop func()) {
	if a.metricsL == nil {
		return func() {}
	}
	everybody := func(*http.Request, string) error { return nil }
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/metrics":
				a.answerMetrics(w, r, everybody)
			case "/healthz":
				a.healthz(w, r)
			case "/readyz":
				a.readyz(w, r)
			default:
				refuseMetrics(w, fault.New(fault.NotFound, "not_found", "This address serves /metrics, /healthz and /readyz only."))
			}
		}),
		ReadTimeout: headerTimeout, WriteTimeout: metricsWrite, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: log.New(serverLog{a.log}, "", 0),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(a.metricsL); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("the metrics listener stopped", "cause", err)
		}
	}()
	a.log.Info("serving metrics", "metrics_listen", a.metricsL.Addr().String())
	return func() {
		_ = server.Close() // a scrape is asked for again
		<-ended
	}
}

// MetricsAddr returns the address of the metrics listener, nil when there is none.
func (a *App) MetricsAddr() net.Addr {
	if a.metricsL == nil {
		return nil
	}
	return a.metricsL.Addr()
}
