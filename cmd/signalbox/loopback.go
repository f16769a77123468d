package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

const (
	// shownWait is how long the browser may take to fetch the last page.
	shownWait = 3 * time.Second
	// outcomeWait bounds how long the browser waits for the outcome.
	outcomeWait = time.Minute
)

// loopback waits at a port of this machine for the browser to bring a code. It takes one answer, and only with the state that it gave out.
type loopback struct {
	state, host string
	port        int
	server      *http.Server
	answers     chan loginAnswer
	outcome     chan string // the page to show
	shown       chan struct{}
	done        chan error
}

// loginAnswer is what the browser brought.
type loginAnswer struct {
	code    secret.Value
	refused bool
}

func listenForCode(state string) (*loopback, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("wait for the browser: %w", err)
	}
	b := &loopback{
		state: state, host: l.Addr().String(), port: l.Addr().(*net.TCPAddr).Port,
		answers: make(chan loginAnswer, 1), outcome: make(chan string, 1), shown: make(chan struct{}, 1), done: make(chan error, 1),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", b.callback)
	mux.HandleFunc("GET "+pageDone, b.last("Signed in", "The command line is signed in. You can close this window."))
	mux.HandleFunc("GET "+pageFailed, b.last("Not signed in", "The command line was not signed in; its terminal says why. You can close this window."))
	b.server = &http.Server{Handler: b.dress(mux), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() { b.done <- b.server.Serve(l) }() // until close
	return b, nil
}

// The pages that the browser is left at. No code is in their addresses.
const (
	pageDone   = "/signed-in"
	pageFailed = "/not-signed-in"
)

// dress turns away whoever has another name for this machine (a page elsewhere whose name leads here), and sets what every answer carries.
func (b *loopback) dress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if r.Host != b.host {
			http.Error(w, "This is not for you.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// callback takes an answer with the right state, once, and leads on to a page without it. What has another state changes nothing: anybody can
// make a browser come here.
func (b *loopback) callback(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query["state"]) != 1 || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(b.state)) != 1 {
		http.Error(w, "This does not belong to the sign-in that the command line began. Nothing was done.", http.StatusBadRequest)
		return
	}
	answer := loginAnswer{code: secret.FromString(query.Get("code")), refused: query.Has("error")}
	if len(query["code"]) > 1 || answer.refused != answer.code.IsZero() {
		http.Error(w, "This answer cannot be read. Nothing was done.", http.StatusBadRequest)
		return
	}
	select {
	case b.answers <- answer:
	default:
		http.Error(w, "The command line has its answer already.", http.StatusConflict)
		return
	}
	limit := time.NewTimer(outcomeWait)
	defer limit.Stop()
	page := pageFailed
	select {
	case page = <-b.outcome:
	case <-r.Context().Done():
		return
	case <-limit.C:
	}
	http.Redirect(w, r, page, http.StatusSeeOther)
}

func (b *loopback) last(title, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>%s · Signalbox</title><h1>%s</h1><p>%s</p></html>\n", title, title, text)
		select {
		case b.shown <- struct{}{}:
		default:
		}
	}
}

// wait returns the answer that the browser brings.
func (b *loopback) wait(ctx context.Context) (loginAnswer, error) {
	select {
	case <-ctx.Done():
		return loginAnswer{}, ctx.Err()
	case err := <-b.done:
		b.done <- err
		return loginAnswer{}, fmt.Errorf("wait for the browser: %w", err)
	case a := <-b.answers:
		return a, nil
	}
}

// close shows the browser the last page, if it came with an answer, and gives the port back.
func (b *loopback) close(ctx context.Context, answered bool, page string) {
	if answered {
		b.outcome <- page
		limit := time.NewTimer(shownWait)
		defer limit.Stop()
		select {
		case <-b.shown:
		case <-limit.C:
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if errors.Is(b.server.Shutdown(ctx), context.DeadlineExceeded) {
		_ = b.server.Close()
	}
	<-b.done
}
