package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/internal/fault"
)

// tags are the sections of the document, in the order in which a reader wants them.
func tags() []*huma.Tag {
	return []*huma.Tag{
		{Name: "credentials", Description: "What is kept. Answers hold metadata; a secret leaves only by a recorded reveal of one field, or lent by injection."},
		{Name: "trains", Description: "The projects whose agents use credentials."},
		{Name: "links", Description: "Which credentials a train may be lent."},
		{Name: "client keys", Description: "The bearer secrets of a train's agents, each shown once."},
		{Name: "tokens", Description: "The tokens of people and service accounts, with which they use this API."},
		{Name: "people", Description: "Who may sign in, and what their roles allow."},
		{Name: "single sign-on", Description: "The providers at which people sign in."},
		{Name: "sessions", Description: "Who is signed in, and what people do about it themselves."},
		{Name: "second factors", Description: "What people prove themselves with besides the password, and who must."},
		{Name: "sign-in", Description: "How programs sign in: access tokens that others can verify, and refresh tokens that work once."},
		{Name: "outside issuers", Description: "Whose JSON web tokens are accepted, for whom, and for how much."},
		{Name: "MCP servers", Description: "MCP servers, and who is connected to which."},
		{Name: "grants", Description: "Who may use, reveal and manage a credential, or what a client or a service has."},
		{Name: "clients", Description: "Clients: the customers whose credentials are kept."},
		{Name: "services", Description: "Services: applications of clients, and of the house."},
		{Name: "infrastructure", Description: "Infrastructure: hosts, networks and devices of clients, and of the house."},
		{Name: "groups", Description: "Groups of people, to whom something can be granted together."},
		{Name: "service accounts", Description: "Callers that are no person, with a role and tokens of their own."},
		{Name: "audit", Description: "What happened, in a log that nobody can quietly change."},
		{Name: "incidents", Description: "What went wrong, how far it is dealt with, and what it touches."},
		{Name: "usage", Description: "What was used: requests and tokens by train, account, key, person and model, and what they cost."},
		{Name: "notifications", Description: "Where people are told of what happened, and what became of it."},
		{Name: "OAuth", Description: "Logging in at OAuth providers, and what becomes of the tokens."},
		{Name: "import and export", Description: "Bringing in what other programs keep, and taking everything along in an encrypted archive."},
		{Name: "keyring", Description: "The data key under which everything is sealed, and its change."},
		{Name: "service", Description: "The first administrator, who asks, and which version answers."},
	}
}

// refusals are the kinds of fault that an operation may answer with, and when. What is said of each comes from the table of codes.
func refusals() []refusal {
	always := func(*huma.Operation) bool { return true }
	body := func(op *huma.Operation) bool { return op.RequestBody != nil }
	private := func(op *huma.Operation) bool { return len(op.Security) > 0 }
	return []refusal{
		{"BadRequest", fault.Invalid, always},
		// A public operation with a body takes a secret of its own in it.
		{"Unauthenticated", fault.Unauthenticated, func(op *huma.Operation) bool { return private(op) || body(op) }},
		{"Forbidden", fault.Forbidden, func(op *huma.Operation) bool {
			// The cookie of a session may come from another site; a read-only instance. What takes a secret of its own instead of either refuses it as 401.
			return private(op) || op.Method != http.MethodGet && !slices.Contains([]string{"refresh-login", "exchange-login-code", "revoke-login"}, op.OperationID)
		}},
		{"NotFound", fault.NotFound, func(op *huma.Operation) bool { return hasParam(op, "path", "") }},
		{"Conflict", fault.Conflict, func(op *huma.Operation) bool { return op.Method != http.MethodGet }},
		{"PreconditionFailed", fault.Precondition, func(op *huma.Operation) bool { return hasParam(op, "header", "If-Match") }},
		{"TooLarge", fault.TooLarge, body},
		{"UnsupportedMedia", fault.UnsupportedMedia, body},
		{"Unprocessable", fault.Unprocessable, func(op *huma.Operation) bool { return body(op) || hasParam(op, "query", "") }},
		{"TooManyRequests", fault.TooMany, always},
		{"Unavailable", fault.Unavailable, func(op *huma.Operation) bool { return private(op) || body(op) }},
	}
}

type refusal struct {
	name string
	kind fault.Kind
	of   func(*huma.Operation) bool
}

func hasParam(op *huma.Operation, in, name string) bool {
	return slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.In == in && (name == "" || p.Name == name) })
}

// documents are the answers that are no JSON of ours; huma takes their bytes for a text in base64.
func documents() map[string]map[string]*huma.MediaType {
	return map[string]map[string]*huma.MediaType{
		"get-openapi":       {"application/json": {Schema: &huma.Schema{Type: huma.TypeObject, Description: "An OpenAPI 3.1 document."}}},
		"get-usage-csv":     {typeCSV: {Schema: &huma.Schema{Type: huma.TypeString}}},
		"list-requests-csv": {typeCSV: {Schema: &huma.Schema{Type: huma.TypeString}}},
		"get-docs":          {"text/html": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
}

// complete adds to the registered operations what is the same for all: the sections, and what each may be refused with. It takes away the
// schemas that nothing refers to.
func (s *service) complete(doc *huma.OpenAPI) error {
	doc.Tags = tags()
	doc.Components.Responses = map[string]*huma.Response{}
	ids := map[string]string{}
	for path, item := range doc.Paths {
		for _, op := range operations(item) {
			if other, taken := ids[op.OperationID]; taken {
				return fmt.Errorf("api: %s and %s have the id %s", other, path, op.OperationID)
			}
			ids[op.OperationID] = path
			if media, own := documents()[op.OperationID]; own {
				op.Responses["200"].Content = media
			}
			if len(op.Tags) != 1 || !slices.ContainsFunc(doc.Tags, func(t *huma.Tag) bool { return t.Name == op.Tags[0] }) {
				return fmt.Errorf("api: the tag of %s is not in the table of tags", op.OperationID)
			}
			for _, r := range refusals() {
				if !r.of(op) {
					continue
				}
				doc.Components.Responses[r.name] = s.refusalResponse(r.kind)
				op.Responses[strconv.Itoa(r.kind.Status())] = &huma.Response{Ref: "#/components/responses/" + r.name}
			}
		}
	}
	return prune(doc)
}

// operations returns the operations of a path in the order of the document's readers.
func operations(item *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete}
	return slices.DeleteFunc(all, func(op *huma.Operation) bool { return op == nil })
}

// lending are the codes that only a request to lend is refused with, under /v1.
func lending() []string {
	return []string{
		"model_duplicate", "train_mismatch", "account_not_linked", "no_account", "train_disabled", "host_not_bound", "accounts_cooling", "memory_budget", "draining",
		"upstream_unreachable",
	}
}

// refusalResponse describes one kind of fault by its codes.
func (s *service) refusalResponse(k fault.Kind) *huma.Response {
	var codes []string
	for _, c := range fault.Codes() {
		if c.Kind == k && !slices.Contains(lending(), c.Name) {
			codes = append(codes, "`"+c.Name+"`: "+c.Meaning)
		}
	}
	out := &huma.Response{
		Description: http.StatusText(k.Status()) + ". " + strings.Join(codes, "; ") + ".",
		Content:     map[string]*huma.MediaType{problemType: {Schema: s.problemSchema()}},
	}
	text := func(description string) *huma.Param {
		return &huma.Param{Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	switch k {
	case fault.Unauthenticated:
		out.Headers = map[string]*huma.Param{"WWW-Authenticate": text("Bearer, and after a token that is not accepted error=\"invalid_token\".")}
	case fault.Unavailable, fault.TooMany:
		out.Headers = map[string]*huma.Param{"Retry-After": text("Seconds, when waiting helps.")}
	}
	return out
}

// prune takes the schemas away that nothing refers to: huma registers its own error shape beside ours, and shapes that are written out where
// they are used.
func prune(doc *huma.OpenAPI) error {
	schemas := doc.Components.Schemas.Map()
	pattern := regexp.MustCompile(`"#/components/schemas/([^"]+)"`)
	reached := map[string]bool{}
	var follow func(v any) error
	follow = func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("api: encode the OpenAPI document: %w", err)
		}
		for _, m := range pattern.FindAllSubmatch(b, -1) {
			if name := string(m[1]); !reached[name] {
				reached[name] = true
				if err := follow(schemas[name]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := follow([]any{doc.Paths, doc.Components.Responses}); err != nil {
		return err
	}
	own := reflect.TypeFor[huma.ErrorModel]().Name()
	if reached[own] {
		return fmt.Errorf("api: an operation answers with huma's %s", own)
	}
	maps.DeleteFunc(schemas, func(name string, _ *huma.Schema) bool { return !reached[name] })
	return nil
}
