package api

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// A POST with an Idempotency-Key (draft-ietf-httpapi-idempotency-key-header) is carried out at most once in 24 hours. The claim of the key
// is a row that the act's own transaction inserts, so there is no moment at which one is there without the other. Once the operation has
// succeeded its answer is kept with the row; a repeated request is answered with that. Refusals and failures claim nothing.

const (
	headerKey      = "Idempotency-Key"
	headerReplayed = "Idempotency-Replayed"
	maxKey         = 255
	// keptFor is how long a key is remembered.
	keptFor = 24 * time.Hour
	// answerPatience is how long another instance may take from its act to keeping the answer before the answer counts as lost.
	answerPatience = 10 * time.Second
	// keepTimeout bounds the write that keeps an answer.
	keepTimeout = 5 * time.Second
)

// keyParameter describes the header.
func keyParameter() *huma.Param {
	return &huma.Param{
		Name: headerKey, In: "header",
		Description: "Makes it safe to send the request again: for 24 hours the same key with the same request is carried out once, and answered alike with Idempotency-Replayed: true.",
		Schema:      &huma.Schema{Type: huma.TypeString, MinLength: size(1), MaxLength: size(maxKey), Pattern: "^[!-~]+$"},
	}
}

// idempotencyKey returns the key of a request, "" without one.
func idempotencyKey(h http.Header) (string, error) {
	values, given := h[headerKey]
	if !given {
		return "", nil
	}
	if len(values) == 1 && values[0] != "" && len(values[0]) <= maxKey && !strings.ContainsFunc(values[0], func(c rune) bool { return c <= ' ' || c > '~' }) {
		return values[0], nil
	}
	return "", fault.New(fault.Invalid, "malformed_request", "Idempotency-Key must be given once, as 1 to 255 visible ASCII characters. A random UUID is a good one.").
		With("header."+headerKey, "must be 1 to 255 visible ASCII characters")
}

// running are the keys whose requests this process handles at this moment.
type running struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (r *running) begin(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids[id] {
		return false
	}
	if r.ids == nil {
		r.ids = map[string]bool{}
	}
	r.ids[id] = true
	return true
}

func (r *running) end(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ids, id)
}

// once takes a request with a key to its operation, or answers it from what became of the first with that key.
func (s *service) once(r route, key string, in *checked, w *reply, req *http.Request, next func(huma.Context)) {
	ex := exchangeOf(req.Context())
	c := claim{id: claimID(ex.caller.ID, key), route: r, train: in.Param("train_id"), instance: s.instance, requestID: ex.id, body: in.body, request: canonical(req, in.body)}
	var err error
	if c.mac, err = s.Ring.MAC(ringPurpose, c.request); err != nil {
		s.refuse(w, req, err)
		return
	}
	if !s.running.begin(c.id) {
		s.refuse(w, req, inProgress())
		return
	}
	defer s.running.end(c.id) // also when the operation panics
	switch row, err := s.claimed(req.Context(), c.id); {
	case err == nil:
		if err := s.replay(req.Context(), row, c, w); err != nil {
			s.refuse(w, req, err)
		}
		return
	case !errors.Is(err, store.ErrNotFound):
		s.refuse(w, req, err)
		return
	}
	ctx, carried := store.WithRider(req.Context(), c.insert)
	in.ctx = ctx
	next(in)
	succeeded := w.status < http.StatusMultipleChoices
	switch {
	case succeeded && carried() && !r.showsSecret:
		s.keep(req.Context(), c, w)
	case succeeded || carried() && !r.makesNothing:
		// What is shown once is not kept. What was done and then failed is not done again: the row says what it was.
	case carried():
		s.release(req.Context(), c)
	default:
		s.lookAgain(c, w, req)
	}
}

// replay answers from the row of the key, or returns the refusal that it leads to. Whoever has lost their right meanwhile is refused as
// anybody without it, whatever became of the first request.
func (s *service) replay(ctx context.Context, row claimRow, c claim, w *reply) error {
	same, err := s.Ring.SameMAC(ringPurpose, row.Request, c.request)
	if err != nil {
		return row.lost().Because(err)
	}
	if !same || row.Route != c.route.id {
		return fault.New(fault.Unprocessable, "idempotency_mismatch", "This Idempotency-Key was used for another request within the last 24 hours. Nothing was done; send a new key with a new request.").
			With("header."+headerKey, "was used for another request")
	}
	if c.train != "" {
		if err := s.Trains.MayName(ctx, exchangeOf(ctx).caller, c.train); err != nil {
			return err
		}
	}
	if c.route.again != nil {
		if err := c.route.again(ctx, exchangeOf(ctx).caller, row.TargetID, c.body); err != nil {
			return err
		}
	}
	switch {
	case row.State == stateIssued:
		return row.issued(c.route)
	case row.State == stateKept:
		return s.answerAgain(row, w)
	case row.RequestID != c.requestID && row.Instance != s.instance && row.age < answerPatience:
		return inProgress()
	}
	return row.lost()
}

// lookAgain looks for the claim after the operation failed: another instance may have been first and have made this one fail, or the commit
// stands although the database did not say so. Without a claim the answer of the operation stands.
func (s *service) lookAgain(c claim, w *reply, req *http.Request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), keepTimeout)
	defer cancel()
	row, err := s.claimed(ctx, c.id)
	if err != nil {
		return
	}
	w.reset()
	if err := s.replay(ctx, row, c, w); err != nil {
		s.refuse(w, req, err)
	}
}

// keptAnswer is what a replay repeats.
type keptAnswer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header"`
	Body   string            `json:"body"`
}

// repeated are the headers that a replay repeats; all others belong to the exchange.
func repeated() []string { return []string{"Content-Type", "ETag", "Location"} }

// keep stores the answer that is about to go out. When that fails the act stands and a replay says so.
func (s *service) keep(ctx context.Context, c claim, w *reply) {
	w.WriteHeader(http.StatusOK)
	answer := keptAnswer{Status: w.status, Header: map[string]string{}, Body: w.body.String()}
	for _, name := range repeated() {
		if v := w.Header().Get(name); v != "" {
			answer.Header[name] = v
		}
	}
	b, err := json.Marshal(answer)
	if err == nil {
		err = s.keepAnswer(ctx, c, secret.New(b))
	}
	if err != nil {
		s.Log.WarnContext(ctx, "the answer to a request with an Idempotency-Key was not kept", "request_id", c.requestID, "route", c.route.id, "cause", err)
	}
}

func (s *service) answerAgain(row claimRow, w *reply) error {
	v, err := s.Ring.Open(ringPurpose, row.Answer, answerAAD(row.ID))
	if err != nil {
		return row.lost().Because(err)
	}
	var answer keptAnswer
	if err := json.Unmarshal(v.Bytes(), &answer); err != nil {
		return row.lost().Because(err)
	}
	for name, value := range answer.Header {
		w.Header().Set(name, value)
	}
	w.Header().Set(headerReplayed, "true")
	w.WriteHeader(answer.Status)
	_, err = w.Write([]byte(answer.Body)) // into memory
	return err
}

// canonical encodes what makes two requests the same one, each part behind its length.
func canonical(r *http.Request, body []byte) []byte {
	var out []byte
	for _, part := range [][]byte{[]byte(r.Method), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery), body} {
		out = binary.BigEndian.AppendUint64(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out
}

func inProgress() *fault.Error {
	return fault.New(fault.Conflict, "idempotency_in_progress", "The first request with this Idempotency-Key is still being handled. Send this one again in a moment, to get its answer.").After(1)
}
