package app

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/sink"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// healthTimeout bounds the checks of one question.
	healthTimeout = time.Second
	// healthKept is how long an answer counts, so that asking often costs nothing.
	healthKept = 250 * time.Millisecond
	// auditLag is how far the audit log may be behind before this instance says that it is not ready: lending goes on, but what it
	// records is not being sealed into the log.
	auditLag = 15 * time.Second
	// notifyLate is how long a notification may wait before the answer warns of it.
	notifyLate = time.Hour
)

// readiness is the answer of /readyz.
type readiness struct {
	Status string            `json:"status"` // ready, not_ready or draining
	Checks map[string]string `json:"checks,omitempty"`
	// Warnings are sentences about what an operator must look into while requests may go on coming.
	Warnings []string `json:"warnings,omitempty"`
}

// health keeps the latest answer.
type health struct {
	mu   sync.Mutex
	last readiness
	at   time.Time
}

// healthz says that the process lives and answers.
func (a *App) healthz(w http.ResponseWriter, r *http.Request) {
	answerHealth(w, r, http.StatusOK, readiness{Status: "ok"})
}

// readyz says whether requests should be sent here.
func (a *App) readyz(w http.ResponseWriter, r *http.Request) {
	if a.draining.Load() {
		answerHealth(w, r, http.StatusServiceUnavailable, readiness{Status: "draining"})
		return
	}
	got := a.ready(r.Context())
	status := http.StatusOK
	if got.Status != "ready" {
		status = http.StatusServiceUnavailable
	}
	answerHealth(w, r, status, got)
}

func answerHealth(w http.ResponseWriter, r *http.Request, status int, body readiness) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Request-Id", store.NewID("req"))
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may be gone
}

func (a *App) ready(ctx context.Context) readiness {
	a.health.mu.Lock()
	defer a.health.mu.Unlock()
	if time.Since(a.health.at) < healthKept {
		return a.health.last
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	checks := []struct {
		name string
		ask  func(context.Context) error
	}{
		{"database", a.db.Ping},
		{"feed", func(context.Context) error { return a.db.Heard() }}, // at once, also while the database swallows questions
		{"keyring", func(context.Context) error { return a.ring.Ready() }},
		{"audit", a.auditReady},
	}
	answers := make([]chan error, len(checks))
	for i, c := range checks { // beside each other, and without waiting for one that hangs
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- c.ask(ctx) }()
	}
	out := readiness{Status: "ready", Checks: map[string]string{}}
	for i, c := range checks {
		var err error
		select {
		case err = <-answers[i]:
		case <-ctx.Done():
			select {
			case err = <-answers[i]: // it had answered while another check used the time up
			default:
				err = errSlow
			}
		}
		out.Checks[c.name] = "ok"
		if err != nil {
			out.Status = "not_ready"
			out.Checks[c.name] = healthText(err)
			a.log.Warn("not ready", "check", c.name, "cause", err)
		}
	}
	out.Warnings = append(auditWarnings(a.audit.Health()), notifyWarnings(a.notifyWaitsAt(time.Now()))...)
	out.Warnings = append(out.Warnings, sinkWarnings(a.sinks.States(), time.Now())...)
	if a.ring.Outlived() {
		out.Warnings = append(out.Warnings, "keyring: the root key was changed, and this server was started with the one before. Start it anew with the new root key; it cannot follow the next change of the data key.")
	}
	// An answer that was cut short because whoever asked went away says nothing about us.
	if !errors.Is(ctx.Err(), context.Canceled) {
		a.health.last, a.health.at = out, time.Now()
	}
	return out
}

var errSlow = errors.New("no answer in time")

// healthText tells what is known to be free of database text; anybody may ask.
func healthText(err error) string {
	if f, ok := fault.As(err); ok {
		return f.Detail
	}
	if errors.Is(err, errSlow) {
		return "No answer within " + healthTimeout.String() + "."
	}
	return "It failed; the server's log has the cause."
}

// auditWarnings tells what the checkpoint file shows. Lending goes on: what is lent from now on is recorded whatever happened before, and
// a fleet that stopped by itself would hand anybody who can restore an old database the switch.
func auditWarnings(h audit.Health) []string {
	var out []string
	if h.RolledBack > 0 {
		out = append(out, "audit: the checkpoint file has a checkpoint of "+strconv.FormatInt(h.RolledBack, 10)+
			" records that the database lacks: the database was rolled back or replaced. Run signalbox audit verify --checkpoint with that file; keep the file as evidence and start a new one.")
	}
	if h.AnchorErr != nil {
		out = append(out, "audit: checkpoints cannot be written to the checkpoint file. See the server's log.")
	}
	return out
}

// notifyWarnings tells that people are not being told.
func notifyWarnings(waits time.Duration) []string {
	if waits < notifyLate {
		return nil
	}
	return []string{"notify: a notification has not been delivered for " + waits.Truncate(time.Minute).String() + ". Look at signalbox notify list, and test the channel."}
}

// sinkWarnings tells that the audit log does not reach where it is sent. It names no sink, since anybody may ask.
func sinkWarnings(states []sink.State, now time.Time) []string {
	late := 0
	for _, s := range states {
		if s.Late(now) {
			late++
		}
	}
	if late == 0 {
		return nil
	}
	return []string{"audit: " + counted(late, "sink lacks", "sinks lack") + " records or checkpoints for longer than it should be. Nothing is lost, it waits in the log. Look at signalbox audit sink list."}
}

// notifyWaitsAt returns how long, at that time, the oldest notification has waited.
func (a *App) notifyWaitsAt(now time.Time) time.Duration {
	since := a.notify.OldestWaiting()
	if since.IsZero() {
		return 0
	}
	return max(0, now.Sub(since))
}

func (a *App) auditReady(context.Context) error { return a.auditReadyAt(time.Now()) }

// auditReadyAt fails when, at that time, no pass of the sequencer has succeeded for too long, by this or by another instance.
func (a *App) auditReadyAt(now time.Time) error {
	if lag := a.auditLagAt(now); lag > auditLag {
		return fault.New(fault.Unavailable, "audit_unavailable", "The audit log has not been sequenced for "+lag.Truncate(time.Second).String()+"; events are safe and wait. See the server's log.").Because(a.audit.Health().Err)
	}
	return nil
}

// auditLagAt returns how long ago, at that time, a pass of the sequencer last succeeded; since the start when none has.
func (a *App) auditLagAt(now time.Time) time.Duration {
	since := a.audit.Health().Passed
	if since.Before(a.started) {
		since = a.started
	}
	return max(0, now.Sub(since))
}
