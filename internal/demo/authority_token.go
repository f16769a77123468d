package demo

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// verdict is what the authority does about one call.
type verdict struct {
	mischief Mischief
	tokens   Tokens // given, unless refused
	refused  string // the OAuth error
}

// ServeHTTP answers one call of the token endpoint.
func (a *Authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Path != "/token" {
		http.NotFound(w, r)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if r.Method != http.MethodPost || r.ParseForm() != nil || len(r.PostForm["refresh_token"]) != 1 {
		tell(w, http.StatusBadRequest, map[string]any{"error": "invalid_request"})
		return
	}
	if r.PostForm.Get("grant_type") != "refresh_token" {
		tell(w, http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type"})
		return
	}
	v := a.decide(r.PostForm.Get("refresh_token"))
	if v.refused != "" {
		tell(w, http.StatusBadRequest, map[string]any{"error": v.refused})
		return
	}
	body := map[string]any{
		"token_type": "bearer", "access_token": v.tokens.Access.Reveal(), "refresh_token": v.tokens.Refresh.Reveal(), "expires_in": int(a.options.Lifetime / time.Second),
	}
	switch v.mischief {
	case Busy:
		http.Error(w, "upstream connect error", http.StatusServiceUnavailable)
	case Limited:
		w.Header().Set("Retry-After", "1")
		tell(w, http.StatusTooManyRequests, map[string]any{"error": "slow_down"})
	case CutBefore:
		abort(w)
	case CutAfter:
		whole, err := json.Marshal(body)
		if err == nil {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
			_, _ = w.Write(whole[:len(whole)/2])
			_ = http.NewResponseController(w).Flush()
		}
		abort(w)
	case HangBefore, HangAfter:
		<-r.Context().Done()
		abort(w)
	case GarbageAfter:
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html><body>Please log in to the network first.</body></html>"))
	default:
		tell(w, http.StatusOK, body)
	}
}

func tell(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// decide looks a token up, strikes, rotates or takes the grant away, as one step.
func (a *Authority) decide(presented string) verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tokens[sha256.Sum256([]byte(presented))]
	if t == nil {
		return verdict{refused: "invalid_grant"}
	}
	g := t.grant
	g.record.Calls++
	t.calls++
	if t.calls > 1 {
		g.record.Retries++
	}
	struck := t.calls == 1 && !t.retired && !g.record.Lost && a.strikes(g, t.generation)
	if struck {
		g.record.Struck++
		if !g.Mischief.isAfter() {
			return verdict{mischief: g.Mischief}
		}
	}
	now := a.options.Clock()
	switch {
	case g.record.Lost:
		g.record.Reuses++
		return verdict{refused: "invalid_grant"}
	case t.retired || !t.usedAt.IsZero() && now.Sub(t.usedAt) >= g.Grace, !t.usedAt.IsZero() && !t.successor.usedAt.IsZero():
		// Used before, and either the grace is over or somebody goes on with what it gave.
		g.record.Reuses++
		a.take(g)
		return verdict{refused: "invalid_grant"}
	case !t.usedAt.IsZero():
		g.record.Graced++
		t.successor.retired = true
	default:
		t.usedAt = now
	}
	v := verdict{tokens: a.issue(g)}
	g.record.Refreshes++
	t.successor = g.current
	if struck {
		v.mischief = g.Mischief
	} else {
		g.record.Delivered++
	}
	return v
}
