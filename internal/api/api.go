// Package api is the REST door under /api, and its OpenAPI 3.1 document.
//
// Promise: what comes in is strict (one content type, one reading of the JSON, no field or query parameter that is not known) and what goes
// out on failure is a problem document (RFC 9457) with a stable code, a request id and never a rejected value. Every operation names the
// permission that it needs in the document as x-signalbox-permission; one without cannot be registered. Secrets are unprintable from the
// moment at which they are decoded.
//
// Limits: answers are held in memory until they are complete, so a page has at most 1000 items; the export of the audit alone is streamed. An Idempotency-Key
// is remembered for 24 hours, and only its hash.
//
// Invariants: an unknown route, method, content type or caller is refused; nothing under /api may be cached but the keys that verify our tokens; an act that the permission
// table refuses never answers with success, whatever a room says.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/importer"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/ledger"
	"signalbox.dev/signalbox/internal/mcp"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/probe"
	"signalbox.dev/signalbox/internal/rate"
	"signalbox.dev/signalbox/internal/sink"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// Config is what the door needs. All but ClientIP, Served, Log, Clock, ReadOnly and Closed is required.
type Config struct {
	DB        *store.DB
	Ring      *keyring.Ring // seals what is kept of answers
	Vault     *vault.Room
	Trains    *train.Room
	MCP       *mcp.Room
	Importer  *importer.Room
	Incidents *incident.Room
	Logins    *oauth.Logins
	OAuth     *oauth.Room
	Identity  *identity.Room
	Audit     *audit.Log
	Notify    *notify.Room
	Sinks     *sink.Room
	Ledger    *ledger.Room
	Probe     *probe.Room
	Rekeyer   *keyring.Rekeyer
	Log       *slog.Logger
	// Version of this build, for GET /api/version.
	Version string
	// ClientIP says where a request comes from; nil means the address of the connection.
	ClientIP func(*http.Request) string
	// Served is told of each answer: the operation's method and path with its parameters' names, "" when no operation was reached, the status,
	// and how long it took.
	Served func(route string, status int, took time.Duration)
	// Limits counts the requests of callers; CallerLimit and RevealLimit are how many each may make, and how many fields reveal, a minute.
	Limits                   Limits
	CallerLimit, RevealLimit int
	// Clock says how old a person's last proof is; nil means the wall clock.
	Clock func() time.Time
	// ReadOnly refuses every change.
	ReadOnly bool
	// Closed is the answer to every request of an instance that does not serve the API, which needs nothing else; nil serves it.
	Closed error
}

// Limits counts what callers do; a [rate.Limiter] over all instances.
type Limits interface {
	// Take counts one act of who, or returns the fault "rate_limited".
	Take(ctx context.Context, rule rate.Rule, who string) error
}

// service holds the rooms and, after [build], the registered operations.
type service struct {
	Config
	huma     huma.API
	router   *router
	document []byte
	page     page          // the document for people
	broken   []error       // of registration
	patience time.Duration // for a body to arrive
	instance string        // names this process among those that share the database
	running  running
	large    chan struct{}               // a place for each large body that is being received
	guard    *http.CrossOriginProtection // of requests with a cookie
}

// New returns the door of /api. It answers everything outside /api as an unknown route.
func New(cfg Config) (*Door, error) {
	if cfg.Closed == nil && (cfg.DB == nil || cfg.Ring == nil || cfg.Vault == nil || cfg.Trains == nil || cfg.MCP == nil || cfg.Importer == nil || cfg.Incidents == nil || cfg.Logins == nil || cfg.OAuth == nil || cfg.Identity == nil || cfg.Audit == nil || cfg.Notify == nil || cfg.Sinks == nil || cfg.Ledger == nil || cfg.Probe == nil || cfg.Limits == nil || cfg.Version == "") {
		return nil, errors.New("api: a database, a keyring, every room, limits and a version are needed")
	}
	if cfg.Closed == nil && (cfg.CallerLimit < 1 || cfg.RevealLimit < 1) {
		return nil, errors.New("api: the limits of callers must be one or more")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	s, err := build(cfg)
	if err != nil {
		return nil, err
	}
	return &Door{service: s, closed: make(chan struct{})}, nil
}

// OpenAPI returns the OpenAPI 3.1 document, the same bytes for the same source: docs/reference/openapi.json is made of it.
func OpenAPI() ([]byte, error) {
	s, err := build(Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return s.document, nil
}

// documentVersion is the version of the contract, not of a build: the document must not change without it.
const documentVersion = "1"

// build registers every operation. It touches no room.
func build(cfg Config) (s *service, err error) {
	s = &service{Config: cfg, patience: bodyPatience, instance: store.NewID("api"), large: make(chan struct{}, largeAtOnce), guard: http.NewCrossOriginProtection()}
	defer func() {
		// huma panics on a shape that it cannot describe.
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("api: register the operations: %v", p)
		}
	}()
	s.router = &router{lost: s.lost, wrong: s.wrong}
	s.huma = humago.New(s.router, s.humaConfig())
	s.addCredentials()
	s.addLending()
	s.addProbe()
	s.addTrains()
	s.addTrainMembers()
	s.addLinks()
	s.addTrainChannels()
	s.addContents()
	s.addKeys()
	s.addTokens()
	s.addGrants()
	s.addHomes()
	s.addGroups()
	s.addMCP()
	s.addServiceAccounts()
	s.addUsers()
	s.addSessions()
	s.addWebTokens()
	s.addIssuers()
	s.addFactors()
	s.addSSO()
	s.addAudit()
	s.addAuditExport()
	s.addSinks()
	s.addUsage()
	s.addRequests()
	s.addNotifications()
	s.addProviders()
	s.addOAuth()
	s.addTransfer()
	s.addKeyring()
	s.addIncidents()
	s.addRadius()
	s.addService()
	if err := errors.Join(s.broken...); err != nil {
		return nil, err
	}
	if s.document, err = s.describe(); err != nil {
		return nil, err
	}
	if s.page, err = renderDocs(s.document); err != nil {
		return nil, err
	}
	return s, nil
}

// humaConfig switches off whatever huma would serve or add by itself: its pages, its $schema links, its choice of formats.
func (s *service) humaConfig() huma.Config {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[client.USD](), reflect.TypeFor[float64]()) // it writes itself as an exact number
	format := huma.Format{Marshal: marshal, Unmarshal: unmarshal}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "Signalbox",
				Version: documentVersion,
				Description: "Bodies are strict JSON: unknown and repeated fields are refused. A refusal is a problem document (RFC 9457) with a stable code. " +
					"Every answer has an X-Request-ID, under which the server's log tells of it. " +
					"Lists take limit (default 100) and cursor, or skip. Updates take If-Match with the ETag that was read. " +
					"Every POST takes an Idempotency-Key, so that it can be sent again. " +
					"x-signalbox-permission names the scopes that an operation needs: \"none\" is public, \"authenticated\" takes any token or session.",
				License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Servers: []*huma.Server{{URL: "/"}},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					schemeToken: {Type: "http", Scheme: "bearer", Description: "A personal access token (sbp_…), an access token of POST /api/auth/login, or the token of an outside issuer."},
					schemeSession: {Type: "apiKey", In: "cookie", Name: identity.SessionCookie,
						Description: "The cookie of a signed-in person. It counts only without an Authorization header, and for what changes anything only from pages of this server."},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": format, "json": format}, // "json" is how huma finds problem+json
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{transform},
	}
}

const schemeToken, schemeSession = "token", "session"

// describe returns the document in a form that reads well in a diff.
func (s *service) describe() ([]byte, error) {
	doc := s.huma.OpenAPI()
	if err := s.complete(doc); err != nil {
		return nil, err
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("api: encode the OpenAPI document: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// problemSchema is the shape of every refusal.
func (s *service) problemSchema() *huma.Schema {
	return s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[client.Problem](), true, "Problem")
}
