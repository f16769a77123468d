package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/rate"
)

// route is one operation.
type route struct {
	method, path string
	id           string // operationId
	summary      string
	description  string
	tag          string
	// access says who may: [public], [signedIn], or permissions separated by spaces, all of which are needed.
	access string
	// byGrant is one of the permissions, in whose place a grant will do, or that it is about the caller alone; the room sees to that.
	byGrant identity.Permission
	// status of success; 0 means 200, or 204 when there is no body. also is a second one with the same body, for the document.
	status, also int
	// maxBody in bytes; 0 means [smallBody].
	maxBody int64
	// patience is how long a body may take to arrive; 0 means [bodyPatience].
	patience time.Duration
	// streams are the types of an answer that is sent as it is made.
	streams []string
	// moving says that the answer changes without its ETag, so that If-None-Match is not asked.
	moving bool
	// reveals says that the stricter limit of reveals counts; changesNothing that a read-only instance answers it although it is no GET: it shows something, or is about who is signed in.
	reveals, changesNothing bool
	// showsSecret says that the answer holds a secret that is shown this once, makesNothing that asking again does no harm.
	showsSecret, makesNothing bool
	// keyless says that an Idempotency-Key means nothing here: the answer gives the caller another cookie, or is about who asks at this moment,
	// or what is asked of a provider has spent what it was asked with; none of that can be given again.
	keyless bool
	// again says whether the caller may still be answered about what the first request with their Idempotency-Key did to target. A POST with
	// a permission that some role has only for its own and what was granted to it must have it.
	again func(ctx context.Context, caller identity.Caller, target string, body []byte) error
	// throttled says that the operation takes a password, and may be refused for too many wrong ones.
	throttled bool
	// ownRefusal, when set, records a refusal by the permission table. The rooms record theirs, so only operations on a room that takes no
	// caller have it.
	ownRefusal func(ctx context.Context, caller identity.Caller, verdict error) error
}

const (
	public   = "none"
	signedIn = "authenticated"

	extensionPermission = "x-signalbox-permission"
	extensionThrottled  = "x-signalbox-throttled"

	smallBody  = 64 << 10
	secretBody = 1 << 20 // bodies with secrets: certificates and keys are long

	largeBody = 8 << 20 // from here on only largeAtOnce are received at a time

	largeAtOnce = 2

	emptyBody = 256 // what is read of a body where none is taken

	bodyPatience = 30 * time.Second
)

// permissions returns what the caller needs, or an error when the access text is not known.
func (r route) permissions() ([]identity.Permission, error) {
	if r.access == public || r.access == signedIn {
		return nil, nil
	}
	var out []identity.Permission
	for _, name := range strings.Fields(r.access) {
		p := identity.Permission(name)
		if !p.Known() {
			return nil, fmt.Errorf("api: %s %s needs a permission that is not in the table", r.method, r.path)
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("api: %s %s does not say which permission it needs", r.method, r.path)
	}
	return out, nil
}

// takesKey reports whether an Idempotency-Key makes the operation safe to repeat.
func (r route) takesKey() bool { return r.method == http.MethodPost && !r.keyless }

// add registers an operation. The handler gets the caller as an argument; what it returns as an error becomes a problem document.
func add[I, O any](s *service, r route, handle func(context.Context, identity.Caller, *I) (*O, error)) {
	needs, err := r.permissions()
	if err != nil {
		s.broken = append(s.broken, err)
		return
	}
	if r.takesKey() && r.again == nil && slices.ContainsFunc(needs, identity.Permission.Narrow) {
		s.broken = append(s.broken, fmt.Errorf("api: %s %s would answer again whoever has lost their right to it", r.method, r.path))
		return
	}
	if r.maxBody == 0 {
		r.maxBody = smallBody
	}
	op := huma.Operation{
		OperationID: r.id, Method: r.method, Path: r.path, Summary: r.summary, Description: r.description, Tags: []string{r.tag}, DefaultStatus: r.status,
		MaxBodyBytes:     r.maxBody + 1, // never reached: enter reads the body
		BodyReadTimeout:  -1,
		SkipValidateBody: true, // enter does it
		Extensions:       map[string]any{extensionPermission: r.access},
		Security:         []map[string][]string{{schemeToken: {}}, {schemeSession: {}}},
		Responses: map[string]*huma.Response{"default": {
			Description: "A refusal.", Content: map[string]*huma.MediaType{problemType: {Schema: s.problemSchema()}},
		}},
	}
	if r.access == public {
		op.Security = []map[string][]string{}
	}
	if r.takesKey() {
		op.Parameters = append(op.Parameters, keyParameter())
	}
	if r.throttled {
		op.Extensions[extensionThrottled] = true
	}
	if r.conditional() {
		op.Parameters = append(op.Parameters, noneMatchParameter())
		op.Responses["304"] = &huma.Response{Description: "What If-None-Match names is still what there is."}
	}
	op.Middlewares = huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) { s.enter(r, needs, ctx, next) }}
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		ex := exchangeOf(ctx)
		out, err := handle(ctx, ex.caller, in)
		if err == nil && ex.refusal != nil {
			// The second line of defence: a room forgot to ask.
			err = fmt.Errorf("api: %s let through what the permission table refuses", r.id)
		}
		if err != nil {
			return nil, s.problem(ctx, ex, err)
		}
		return out, nil
	})
	if r.streams != nil {
		content := map[string]*huma.MediaType{}
		for _, kind := range r.streams {
			content[kind] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
		}
		op.Responses["200"] = &huma.Response{Description: http.StatusText(http.StatusOK), Content: content}
	}
	if r.also != 0 {
		op.Responses[strconv.Itoa(r.also)] = &huma.Response{Description: http.StatusText(r.also), Content: op.Responses[strconv.Itoa(r.status)].Content}
	}
}

// enter takes a request to its operation: who asks, whether they may, whether query and body are what the operation takes.
func (s *service) enter(r route, needs []identity.Permission, ctx huma.Context, next func(huma.Context)) {
	req, w := humago.Unwrap(ctx)
	ex := exchangeOf(req.Context())
	ex.route = r.method + " " + r.path
	ex.hasBody = ctx.Operation().RequestBody != nil
	if r.access != public {
		if err := s.authenticate(req, ex); err != nil {
			s.refuse(w, req, err)
			return
		}
	}
	if err := s.admit(req.Context(), r, ex); err != nil {
		s.refuse(w, req, err)
		return
	}
	for _, p := range needs {
		if p == r.byGrant {
			continue
		}
		if _, ex.refusal = identity.Within(ex.caller, p); ex.refusal != nil {
			break
		}
	}
	if ex.refusal != nil && r.ownRefusal != nil {
		s.refuse(w, req, errors.Join(r.ownRefusal(req.Context(), ex.caller, ex.refusal), ex.refusal))
		return
	}
	if r.maxBody > largeBody {
		// A body is several times its size in memory until it is decoded.
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		default:
			s.refuse(w, req, fault.New(fault.Unavailable, "memory_budget", "Other large bodies are being received at this moment, and each takes much memory. Nothing was done; send this again in a moment.").After(5))
			return
		}
	}
	in, err := s.input(r, ctx, w, req)
	if err != nil {
		if ex.refusal != nil {
			err = ex.refusal // who may not, need not hear what is wrong with the input
		}
		s.refuse(w, req, err)
		return
	}
	// Who may not do it is refused by the room, which records that, whatever became of an earlier request.
	if out, ok := w.(*reply); ok && r.takesKey() && ex.refusal == nil {
		key, err := idempotencyKey(req.Header)
		if err != nil {
			s.refuse(w, req, err)
			return
		}
		if key != "" {
			s.once(r, key, in, out, req, next)
			return
		}
	}
	next(in)
	if out, ok := w.(*reply); ok && r.conditional() {
		notModified(out, in.Header("If-None-Match"))
	}
}

const (
	callerDetail = "This caller makes too many requests. Wait as long as Retry-After says; an operator can raise the limit (caller-limit)."
	revealDetail = "This caller reveals too many secrets. Wait as long as Retry-After says; an operator can raise the limit (reveal-limit)."
)

// CallerRule is the limit of what one caller may ask in a minute; the pages count by it too.
func CallerRule(limit int) rate.Rule {
	return rate.Rule{Name: "api", Limit: limit, Detail: callerDetail}
}

// RevealRule is the limit of what one caller may reveal in a minute; the pages count by it too.
func RevealRule(limit int) rate.Rule {
	return rate.Rule{Name: "reveal", Limit: limit, Detail: revealDetail}
}

// admit counts the request for its caller, over all instances, and refuses what a read-only instance does not do.
func (s *service) admit(ctx context.Context, r route, ex *exchange) error {
	rule, who := CallerRule(s.CallerLimit), ex.caller.CountedAs()
	if who == "" { // nobody is as many as there are addresses
		who, rule.Strangers = identity.Source(ex.ip), true
	}
	if err := s.Limits.Take(ctx, rule, who); err != nil {
		return err
	}
	if r.reveals {
		reveals := RevealRule(s.RevealLimit)
		reveals.Strangers = rule.Strangers
		if err := s.Limits.Take(ctx, reveals, who); err != nil {
			return err
		}
	}
	if s.ReadOnly && r.method != http.MethodGet && !r.changesNothing {
		return fault.New(fault.Forbidden, "read_only", "This Signalbox is read-only (--read-only), so nothing was changed. Reading and revealing work; ask its operator when changes are possible again.")
	}
	return nil
}

// authenticate finds out who asks.
func (s *service) authenticate(r *http.Request, ex *exchange) error {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		if cookie := identity.CookieSecret(r); cookie != "" {
			return s.authenticateSession(r, ex, cookie)
		}
		return identity.Allow(ex.caller, identity.TokenRead) // nobody may anything; this is how identity says it
	}
	scheme, bearer, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return fault.New(fault.Unauthenticated, "unauthenticated", "Send one personal access token as Authorization: Bearer sbp_….")
	}
	ex.bearer = true
	bearer = strings.TrimSpace(bearer)
	caller, err := s.Identity.Bearer(r.Context(), bearer)
	if err == nil && caller.Kind == identity.KindAnonymous {
		err = fault.New(fault.Unauthenticated, "unauthenticated", "This token is not accepted. Issue a new one and use that.")
	}
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			err = s.Identity.Refuse(r.Context(), ex.ip, identity.FailedToken, err)
		}
		return err
	}
	// What identity knows is as old as the news from the database: a revocation elsewhere must be obeyed within a second.
	if err := s.DB.Fresh(r.Context()); err != nil {
		return err
	}
	ex.is(caller)
	return nil
}

// authenticateSession finds out who is signed in. A browser sends a cookie along with whatever any page makes it send, so what changes
// anything is taken only from our own pages, and from programs that are no browser.
func (s *service) authenticateSession(r *http.Request, ex *exchange, cookie string) error {
	if err := s.guard.Check(r); err != nil {
		return fault.New(fault.Forbidden, "cross_origin", "A browser sent this from another site, so nothing was done. Do it on a page of this Signalbox, or use a personal access token.").Because(err)
	}
	caller, err := s.Identity.Session(r.Context(), cookie)
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated {
			err = s.Identity.Refuse(r.Context(), ex.ip, identity.FailedSession, err)
		}
		return err
	}
	ex.is(caller)
	return nil
}

// is notes who asks.
func (ex *exchange) is(caller identity.Caller) {
	caller.RequestID, caller.IP, caller.UserAgent = ex.caller.RequestID, ex.caller.IP, ex.caller.UserAgent
	ex.caller = caller
}

// asked is huma's context under another name, so that embedding it does not hide its method Context.
type asked = huma.Context

// checked is the request as huma sees it after the door has looked at it: what huma would read loosely is there already.
type checked struct {
	asked
	ctx   context.Context // of the operation
	query url.Values
	body  []byte
}

// Context returns the context of the operation.
func (c *checked) Context() context.Context { return c.ctx }

// Query returns the one value of a parameter.
func (c *checked) Query(name string) string { return c.query.Get(name) }

// Header hides Accept, which could make huma choose another format, and the parameters of Content-Type. The lines of a condition are one
// list; one that is there and empty is not taken for none.
func (c *checked) Header(name string) string {
	switch http.CanonicalHeaderKey(name) {
	case "Accept", "Content-Type":
		return "application/json"
	case "If-Match", "If-None-Match":
		req, _ := humago.Unwrap(c.asked)
		if lines, given := req.Header[http.CanonicalHeaderKey(name)]; given {
			if list := strings.Join(lines, ", "); list != "" {
				return list
			}
			return ","
		}
		return ""
	}
	return c.asked.Header(name)
}

// BodyReader returns the body that was checked.
func (c *checked) BodyReader() io.Reader { return bytes.NewReader(c.body) }

func (s *service) input(r route, ctx huma.Context, w http.ResponseWriter, req *http.Request) (*checked, error) {
	op := ctx.Operation()
	query, err := readQuery(op, req.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	if r.conditional() {
		for _, line := range req.Header["If-None-Match"] {
			if len(line) > maxCondition {
				return nil, fault.New(fault.Unprocessable, "validation_failed", "If-None-Match is too long.").With("header.If-None-Match", "must be at most 1000 characters")
			}
		}
	}
	in := &checked{asked: ctx, ctx: ctx.Context(), query: query}
	if op.RequestBody == nil {
		return in, s.noBody(w, req)
	}
	if in.body, err = readBody(w, req, r.maxBody, max(s.patience, r.patience)); err != nil {
		return nil, err
	}
	tree, err := parse(in.body)
	if err != nil {
		return nil, fault.New(fault.Invalid, "malformed_json", err.Error()+" Send one JSON object in UTF-8.")
	}
	c := checker{registry: s.huma.OpenAPI().Components.Schemas}
	if f := c.check(op.RequestBody.Content["application/json"].Schema, tree); f != nil {
		return nil, f
	}
	return in, nil
}

// readQuery refuses what is not in the operation's list, twice or empty: a filter that is silently ignored selects everything. Names are
// not repeated in the refusal, since they may be a secret in the wrong place.
func readQuery(op *huma.Operation, raw string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fault.New(fault.Invalid, "malformed_request", "The query of the address is not well formed; escape special characters as %XX.")
	}
	var known []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	f := fault.New(fault.Unprocessable, "validation_failed", "A query parameter is not valid; see errors.")
	unknown := false
	for name, values := range query {
		switch {
		case !slices.Contains(known, name):
			unknown = true
		case len(values) > 1:
			_ = f.With("query."+name, "must be given once")
		case values[0] == "":
			_ = f.With("query."+name, "must not be empty; leave it out instead")
		case !plainText(values[0]):
			_ = f.With("query."+name, "must be UTF-8 text without the character U+0000")
		}
	}
	if unknown {
		message := "has a parameter that this route does not take; it takes none"
		if len(known) > 0 {
			message = "has a parameter that this route does not take; it takes " + strings.Join(known, ", ")
		}
		_ = f.With("query", message)
	}
	if len(f.Fields) > 0 {
		slices.SortFunc(f.Fields, func(a, b fault.Field) int { return strings.Compare(a.Pointer, b.Pointer) })
		return nil, f
	}
	return query, nil
}

// takenWithin is how long an operation and its answer may take at least, from when its body is there; one whose body may take longer may take as
// long again.
const takenWithin = 2 * time.Minute

// readBody reads a JSON body of at most limit bytes, which must arrive in time.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, patience time.Duration) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, fault.New(fault.Invalid, "malformed_json", "This route needs a body: one JSON object in UTF-8.")
	}
	if !isJSON(r.Header) {
		return nil, fault.New(fault.UnsupportedMedia, "unsupported_media", "Send the body as JSON in UTF-8, with the header Content-Type: application/json.")
	}
	tooLarge := fault.New(fault.TooLarge, "body_too_large", fmt.Sprintf("The body is over %d bytes, which is what this route takes.", limit))
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, tooLarge
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // not every writer has a connection
	// Left in force, the deadline would cancel the request while the operation works: the server reads ahead.
	defer func() {
		_ = conn.SetReadDeadline(time.Time{})
		_ = conn.SetWriteDeadline(time.Now().Add(max(patience, takenWithin))) // the time of the answer begins when the body is there
	}()
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		w.Header().Set("Connection", "close")
		return nil, fault.New(fault.Invalid, "malformed_request", "The body did not arrive whole or in time. Send it again.").Because(err)
	case int64(len(body)) > limit:
		w.Header().Set("Connection", "close")
		return nil, tooLarge
	case len(body) == 0:
		return nil, fault.New(fault.Invalid, "malformed_json", "This route needs a body: one JSON object in UTF-8.")
	}
	return body, nil
}

func isJSON(h http.Header) bool {
	values := h.Values("Content-Type")
	if len(values) != 1 {
		return false
	}
	kind, params, err := mime.ParseMediaType(values[0])
	if err != nil || kind != "application/json" {
		return false
	}
	charset, given := params["charset"]
	return !given || strings.EqualFold(charset, "utf-8")
}

// noBody refuses a body where none is taken, rather than ignore what somebody meant. An empty object says nothing, and clients that always
// send JSON send it with a POST.
func (s *service) noBody(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	refusal := fault.New(fault.Invalid, "malformed_request", "This route takes no body. Leave it out, or send {} with a POST.")
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(s.patience))
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }() // see readBody
	body, err := io.ReadAll(io.LimitReader(r.Body, emptyBody+1))
	if err != nil {
		w.Header().Set("Connection", "close")
		return refusal.Because(err)
	}
	if len(body) == 0 {
		return nil
	}
	if r.Method != http.MethodPost || len(body) > emptyBody {
		return refusal
	}
	if tree, err := parse(body); err == nil {
		if object, ok := tree.(map[string]any); ok && len(object) == 0 {
			return nil
		}
	}
	return refusal
}
