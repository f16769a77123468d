package vault

import (
	"encoding/base64"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// InjectKind says how a secret goes into a request.
type InjectKind string

// The kinds.
const (
	InjectBearer InjectKind = "bearer"
	InjectBasic  InjectKind = "basic"
	InjectHeader InjectKind = "header"
	InjectQuery  InjectKind = "query"
)

// Inject is the rule by which a credential's secret goes into a request. The zero rule is the type's own ([TypeRow.Inject]).
type Inject struct {
	Kind InjectKind
	Name string // of the header or of the query parameter; empty for kinds that have one of their own
}

// InjectPatch is the merge patch of an [Inject]. A kind that takes no name lets go of the one that was there.
type InjectPatch struct {
	Clear bool // inject: null
	Kind  Edit[InjectKind]
	Name  Edit[string]
}

// Injection is what Signalbox knows about one kind.
type Injection struct {
	Kind    InjectKind
	Meaning string
	// Header is where it goes when the kind has a header of its own; Named kinds are told the name by the rule.
	Header string
	Named  bool
	// Query kinds put it into the query, the others into a header.
	Query bool
	// Username kinds need the credential's user name.
	Username bool

	value   func(username, secret string) string
	nameBad func(name string) string
}

// Injections returns the table of kinds in the order of the reference. Validation, the door and the API description derive from it.
func Injections() []Injection {
	plain := func(_, secret string) string { return secret }
	return []Injection{
		{Kind: InjectBearer, Meaning: "Authorization: Bearer SECRET", Header: "Authorization", value: func(_, secret string) string { return "Bearer " + secret }},
		{Kind: InjectBasic, Meaning: "Authorization: Basic, with the credential's username and the secret", Header: "Authorization", Username: true, value: func(username, secret string) string {
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(username+":"+secret))
		}},
		{Kind: InjectHeader, Meaning: "the header of that name, with the secret alone", Named: true, value: plain, nameBad: badHeaderName},
		{Kind: InjectQuery, Meaning: "the query parameter of that name; what the request says of it is replaced", Named: true, Query: true, value: plain, nameBad: badQueryName},
	}
}

// LookupInjection returns the row of a kind; false for an unknown one.
func LookupInjection(k InjectKind) (Injection, bool) {
	for _, row := range Injections() {
		if row.Kind == k {
			return row, true
		}
	}
	return Injection{}, false
}

// maxInjectName bounds the name of a header or a query parameter, in bytes.
const maxInjectName = 100

// reservedHeaders are those that frame a request, that end at the next hop, or that Signalbox sets or takes out itself. Cookie is among them: what
// stands there is a list of pairs of which the secret is a part, and an answer that repeated that part alone would not be known for the secret.
func reservedHeaders() []string {
	return []string{"host", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect", "http2-settings", "accept-encoding", "range", "if-range",
		"cookie", "set-cookie", "forwarded", "via", "x-real-ip", "x-request-id"}
}

func reservedPrefixes() []string {
	return []string{"content-", "proxy-", "sec-websocket-", "msl-", "x-forwarded-", "access-control-"}
}

func badHeaderName(name string) string {
	if len(name) > maxInjectName || strings.ContainsFunc(name, func(c rune) bool { return !tokenChar(c) }) {
		return "must be the name of a header: letters, digits and hyphens, at most " + number(maxInjectName)
	}
	// Behind a gateway to programs (RFC 3875) X_Forwarded_For and X-Forwarded-For are one.
	same := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	if slices.Contains(reservedHeaders(), same) || slices.ContainsFunc(reservedPrefixes(), func(p string) bool { return strings.HasPrefix(same, p) }) {
		return "is a header that frames or leads the request, or that Signalbox sets itself; choose the one in which the service expects its key, such as X-Api-Key"
	}
	return ""
}

// tokenChar reports whether c may stand in a token (RFC 9110, section 5.6.2).
func tokenChar(c rune) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c)
}

func badQueryName(name string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._~", c)
	}
	if len(name) > maxInjectName || strings.ContainsFunc(name, func(c rune) bool { return !plain(c) }) {
		return "must be the name of a query parameter: letters, digits, hyphen, dot, underscore and tilde, at most " + number(maxInjectName)
	}
	return ""
}

// normaliseInject says what is wrong with the rule of a credential of a type.
func normaliseInject(row TypeRow, in Inject, p *problems) {
	if in == (Inject{}) {
		return
	}
	if !row.Lends() {
		p.add("/inject", "is only for types whose secret goes into a request; that of type "+string(row.Type)+" goes into none")
		return
	}
	kind, ok := LookupInjection(in.Kind)
	switch {
	case in.Kind == "":
		p.add("/inject/name", "belongs to a type that takes one, header or query; choose it, or leave the name out")
	case !ok:
		p.add("/inject/type", "must be "+injectKinds())
	case !kind.Named && in.Name != "":
		p.add("/inject/name", "is not for "+string(kind.Kind)+", which has a place of its own")
	case kind.Named && in.Name == "":
		p.add("/inject/name", "is needed for "+string(kind.Kind))
	case kind.Named:
		p.add("/inject/name", kind.nameBad(in.Name))
	}
}

func injectKinds() string {
	var names []string
	for _, row := range Injections() {
		names = append(names, string(row.Kind))
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// Lends reports whether the type has a secret field that may go into a request.
func (r TypeRow) Lends() bool {
	return r.AnyNames || slices.ContainsFunc(r.Secrets, func(f SecretField) bool { return f.Lent })
}

// lentField returns the one of the stored secret fields that goes into a request; false when there is none, or when more than one could be meant.
func (r TypeRow) lentField(stored []string) (string, bool) {
	var lent []string
	for _, name := range stored {
		if f, ok := r.Field(name); ok && f.Lent {
			lent = append(lent, name)
		}
	}
	if len(lent) != 1 {
		return "", false
	}
	return lent[0], true
}

// InjectRule returns the rule that is used: the credential's own, or else its type's; the zero rule when there is neither.
func (c Credential) InjectRule() Inject {
	row, _ := Lookup(c.Type)
	return injectRule(row, c.Meta)
}

func injectRule(row TypeRow, m Meta) Inject {
	if m.Inject.Kind != "" {
		return m.Inject
	}
	return Inject{Kind: row.Inject}
}

// InjectProblem says why the credential could not be put into a request as it is stored, in words for a person, or nothing.
func (c Credential) InjectProblem() string {
	row, ok := Lookup(c.Type)
	if !ok || !row.Lends() {
		return "a credential of its type goes into no request"
	}
	_, why := c.InjectRule().fits(row, c.Username, c.SecretFields)
	return why
}

// InjectWarning is [Credential.InjectProblem] of what is meant to go into requests: it has a base URL or a rule. What is used nowhere lacks nothing.
func (c Credential) InjectWarning() string {
	row, ok := Lookup(c.Type)
	if !ok || !row.Lends() || c.BaseURL == "" && c.Inject == (Inject{}) {
		return ""
	}
	return c.InjectProblem()
}

// fits returns the secret field that the rule puts into a request, or why it cannot.
func (in Inject) fits(row TypeRow, username string, fields []string) (field, why string) {
	kind, known := LookupInjection(in.Kind)
	switch {
	case in.Kind == "":
		return "", "nothing says how its secret goes into a request; set inject to " + injectKinds()
	case !known || kind.Named && (in.Name == "" || kind.nameBad(in.Name) != ""):
		return "", "its injection rule is not one that this version knows; set inject anew"
	case kind.Username && username == "":
		return "", "it is sent as " + string(kind.Kind) + ", which needs a username, and it has none; set username, or another inject"
	case kind.Username && strings.ContainsFunc(username, func(c rune) bool { return c == ':' || c < ' ' || c == 0x7f }):
		return "", "it is sent as " + string(kind.Kind) + ", and its username holds a colon, which ends a user name there; set another username, or another inject"
	}
	field, ok := row.lentField(fields)
	if !ok {
		return "", "it has no secret field, or more than one, that could go into a request; store a credential with one"
	}
	return field, ""
}

// Injected is a secret with its place in a request.
type Injected struct {
	Rule  Inject
	Query bool   // Name is a query parameter, else a header
	Name  string // the header or parameter that is set, in place of whatever the request says of it
	// Value is what is put there, Secret the stored secret that it is made of.
	Value, Secret secret.Value
}

// Injected returns the secret with its place in a request, or why it cannot be put into one, in words for a person. It asks neither [Material.Usable]
// nor where the request goes.
func (m Material) Injected() (in Injected, why string) {
	row, ok := Lookup(m.Type)
	if !ok || m.Damaged {
		return Injected{}, "its sealed secret does not open"
	}
	names := make([]string, 0, len(m.Secrets))
	for name := range m.Secrets {
		names = append(names, name)
	}
	field, why := m.Inject.fits(row, m.Username, names)
	if why != "" {
		return Injected{}, why
	}
	kind, _ := LookupInjection(m.Inject.Kind)
	lent := m.Secrets[field]
	value := kind.value(m.Username, lent.Reveal())
	if !kind.Query && strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
		return Injected{}, "its secret has characters that a header cannot hold, such as line breaks; rotate it, or set another inject"
	}
	in = Injected{Rule: m.Inject, Query: kind.Query, Name: kind.Header, Value: secret.FromString(value), Secret: lent}
	if kind.Named {
		in.Name = m.Inject.Name
	}
	return in, ""
}

func (p InjectPatch) named() bool { return p.Clear || p.Kind.IsSet() || p.Name.IsSet() }

// wholly makes the patch say everything of the rule: what it does not name is the type's own again, not what lies there.
func (p *InjectPatch) wholly() { p.Kind.set, p.Name.set = true, true }

func (p InjectPatch) merge(in Inject) Inject {
	if p.Clear {
		in = Inject{}
	}
	p.Kind.apply(&in.Kind)
	if kind, ok := LookupInjection(in.Kind); p.Kind.IsSet() && (ok && !kind.Named || in.Kind == "") {
		in.Name = ""
	}
	p.Name.apply(&in.Name)
	return in
}
