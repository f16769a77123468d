package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// row is a credential as it lies in the database, with its current version.
type row struct {
	ID             string      `db:"id"`
	Type           string      `db:"type"`
	AccountID      *string     `db:"account_id"`
	Name           string      `db:"name"`
	Provider       string      `db:"provider"`
	State          string      `db:"state"`
	Version        int64       `db:"version"`
	Revision       int64       `db:"revision"`
	Description    string      `db:"description"`
	Username       string      `db:"username"`
	BaseURL        string      `db:"base_url"`
	ExternalURL    string      `db:"external_url"`
	InternalURL    string      `db:"internal_url"`
	Port           int         `db:"port"`
	RequiresVPN    int64       `db:"requires_vpn"`
	Requires2FA    int64       `db:"requires_2fa"`
	Tags           string      `db:"tags"`
	Hosts          string      `db:"hosts"`
	HasNotes       int64       `db:"has_notes"`
	NotesVersion   int64       `db:"notes_version"`
	ExpiresAt      *store.Time `db:"expires_at"`
	RotateEvery    int         `db:"rotate_every_days"`
	Owner          string      `db:"owner"`
	ClientID       string      `db:"client_id"`
	ServiceID      string      `db:"service_id"`
	Infrastructure string      `db:"infrastructure_id"`
	PluginName     string      `db:"plugin_name"`
	Scopes         string      `db:"oauth_scopes"`
	OAuthClientID  string      `db:"oauth_client_id"`
	TokenEndpoint  string      `db:"oauth_token_endpoint"`
	AuthMethod     string      `db:"oauth_auth_method"`
	RequestFormat  string      `db:"oauth_format"`
	Resource       string      `db:"oauth_resource"`
	GrantType      string      `db:"oauth_grant"`
	CreatedAt      store.Time  `db:"created_at"`
	UpdatedAt      store.Time  `db:"updated_at"`
	LastRotatedAt  *store.Time `db:"last_rotated_at"`
	RotateAt       *store.Time `db:"rotate_at"`
	Fields         string      `db:"fields"`
	Suffix         string      `db:"suffix"`
	TokenExpiresAt *store.Time `db:"token_expires_at"`
	Binding        []byte      `db:"binding"`
	IssuedAt       store.Time  `db:"issued_at"`
	Health         *string     `db:"health"`
	HealthOf       *int64      `db:"health_of"`
	Facts          string      `db:"facts"` // read by selectRow alone
	LastUsedAt     *store.Time `db:"last_used_at"`
	ConnectTime    int         `db:"upstream_connect_timeout"`
	ResponseTime   int         `db:"upstream_response_timeout"`
	CABundle       string      `db:"upstream_ca_bundle"`
	ProxyURL       string      `db:"upstream_proxy_url"`
	ProxyUsername  string      `db:"upstream_proxy_username"`
	Lending        string      `db:"lending"`
	LendingReason  string      `db:"lending_reason"`
	LendingBy      string      `db:"lending_by"`
	LendingSince   *store.Time `db:"lending_since"`
	InjectKind     string      `db:"inject_kind"`
	InjectName     string      `db:"inject_name"`
	Methods        string      `db:"methods"`
	Paths          string      `db:"paths"`
}

const rowColumns = `c.id, c.type, c.account_id, c.name, c.provider, c.state, c.version, c.revision, c.description, c.username, c.base_url,
	c.external_url, c.internal_url, c.port, c.requires_vpn, c.requires_2fa, c.tags, c.hosts, CASE WHEN c.notes IS NULL THEN 0 ELSE 1 END AS has_notes,
	c.notes_version, c.expires_at, c.rotate_every_days, c.owner, c.client_id, c.service_id, c.infrastructure_id, c.plugin_name, c.oauth_scopes,
	c.oauth_client_id, c.oauth_token_endpoint, c.oauth_auth_method, c.oauth_format, c.oauth_resource, c.oauth_grant, c.created_at, c.updated_at, c.last_rotated_at, c.rotate_at,
	c.upstream_connect_timeout, c.upstream_response_timeout, c.upstream_ca_bundle, c.upstream_proxy_url, c.upstream_proxy_username,
	c.lending, c.lending_reason, c.lending_by, c.lending_since, c.inject_kind, c.inject_name, c.methods, c.paths, v.fields, v.suffix, v.token_expires_at, c.binding, v.created_at AS issued_at, o.health, o.generation AS health_of, u.last_used_at`

const rowJoins = ` JOIN credential_versions v ON v.credential_id = c.id AND v.version = c.version LEFT JOIN oauth_connections o ON o.credential_id = c.id
	LEFT JOIN credential_uses u ON u.credential_id = c.id`

const rowTables = ` FROM credentials c` + rowJoins

// selectRow reads facts too, which lists and lending do not show.
const selectRow = `SELECT ` + rowColumns + `, v.facts` + rowTables

// stored is a credential in the middle of an act: what a caller may see, and what only the vault needs.
type stored struct {
	Credential
	row          TypeRow
	state        Status
	notesVersion int64
	binding      []byte // as it lies in the database, or as [Room.bind] made it for what is to be written
	// foreign says that this version does not know the type: the credential is shown, granted and deleted, and nothing else.
	foreign bool
	// connection is what the last refresh left behind, and connectionOf the version that it speaks of. Nothing vouches for it: who changes it in
	// the database makes a good connection rest or has a dead one tried once more.
	connection   Health
	connectionOf int64
	// desk is where the act that changes the credential works outside its transaction.
	desk *desk
}

func (s stored) target() store.Target {
	return store.Target{Kind: targetKind, ID: s.ID, Name: s.Name}
}

// decode turns a row into a credential. One of a type that the table does not know, which a newer version has stored, is foreign: its metadata
// are what they are, and nothing is guessed about its secret.
func (w row) decode(now time.Time) (stored, error) {
	kind, known := Lookup(Type(w.Type))
	if !known {
		kind = TypeRow{Type: Type(w.Type)}
	}
	s := stored{row: kind, state: Status(w.State), notesVersion: w.NotesVersion, binding: w.Binding, foreign: !known}
	s.Issued = w.IssuedAt.Time()
	if w.Health != nil && w.HealthOf != nil {
		s.connection, s.connectionOf = Health(*w.Health), *w.HealthOf
	}
	c := &s.Credential
	c.ID, c.Type, c.Version, c.Revision, c.Suffix, c.HasNotes = w.ID, kind.Type, w.Version, w.Revision, w.Suffix, w.HasNotes != 0
	c.Meta = Meta{
		Name: w.Name, Provider: w.Provider, Description: w.Description, Username: w.Username, BaseURL: w.BaseURL, ExternalURL: w.ExternalURL,
		InternalURL: w.InternalURL, Port: w.Port, RequiresVPN: w.RequiresVPN != 0, Requires2FA: w.Requires2FA != 0, ExpiresAt: w.ExpiresAt.Ptr(),
		RotateEvery: w.RotateEvery, Owner: w.Owner, ClientID: w.ClientID, ServiceID: w.ServiceID, InfrastructureID: w.Infrastructure,
		PluginName: w.PluginName,
		OAuth: OAuthMeta{ExpiresAt: w.TokenExpiresAt.Ptr(), ClientID: w.OAuthClientID, TokenEndpoint: w.TokenEndpoint, AuthMethod: w.AuthMethod,
			RequestFormat: w.RequestFormat, Resource: w.Resource, GrantType: w.GrantType},
		Upstream: Upstream{ConnectTimeout: w.ConnectTime, ResponseTimeout: w.ResponseTime, CABundle: w.CABundle, ProxyURL: w.ProxyURL, ProxyUsername: w.ProxyUsername},
		Inject:   Inject{Kind: InjectKind(w.InjectKind), Name: w.InjectName},
	}
	if w.AccountID != nil {
		c.AccountID = *w.AccountID
	}
	for _, list := range []struct {
		text string
		dst  *[]string
	}{{w.Tags, &c.Tags}, {w.Hosts, &c.Hosts}, {w.Scopes, &c.OAuth.Scopes}, {w.Fields, &c.SecretFields}, {w.Methods, &c.Methods}, {w.Paths, &c.Paths}} {
		if err := decodeList(list.text, list.dst); err != nil {
			return stored{}, fmt.Errorf("credential %s: %w", w.ID, err)
		}
	}
	c.Facts = decodeFacts(w.Facts)
	c.CreatedAt, c.UpdatedAt, c.LastRotatedAt, c.LastUsedAt = w.CreatedAt.Time(), w.UpdatedAt.Time(), w.LastRotatedAt.Ptr(), w.LastUsedAt.Ptr()
	c.RotateAt = w.RotateAt.Ptr()
	c.Lending = Lending{State: LendingState(w.Lending), Reason: w.LendingReason, By: w.LendingBy, Since: w.LendingSince.Ptr()}
	c.Status = statusAt(s.state, c.ExpiresAt, now)
	if kind.OAuth {
		c.Health, c.refreshes = s.healthAt(now), s.refreshes()
	}
	return s, nil
}

// column is one column to be written.
type column struct {
	name  string
	value any
}

// columns is everything of a credential that an act may change, but for the notes.
func (s stored) columns() ([]column, error) {
	var lists []column
	for _, l := range []struct {
		name  string
		items []string
	}{{"tags", s.Tags}, {"hosts", s.Hosts}, {"oauth_scopes", s.OAuth.Scopes}, {"methods", s.Methods}, {"paths", s.Paths}} {
		text, err := encodeList(l.items)
		if err != nil {
			return nil, err
		}
		lists = append(lists, column{l.name, text})
	}
	out := append(lists, []column{
		{"state", string(s.state)}, {"version", s.Version}, {"revision", s.Revision}, {"port", s.Port}, {"requires_vpn", number01(s.RequiresVPN)},
		{"requires_2fa", number01(s.Requires2FA)}, {"expires_at", store.TimePtr(s.ExpiresAt)},
		{"rotate_every_days", s.RotateEvery}, {"search", s.searchText()}, {"updated_at", store.TimeOf(s.UpdatedAt)},
		{"last_rotated_at", store.TimePtr(s.LastRotatedAt)}, {"rotate_at", store.TimePtr(s.RotateAt)}, {"binding", nullable(s.binding)},
		{"upstream_connect_timeout", s.Upstream.ConnectTimeout}, {"upstream_response_timeout", s.Upstream.ResponseTimeout},
		{"lending", string(s.Lending.State)}, {"lending_reason", s.Lending.Reason}, {"lending_by", s.Lending.By}, {"lending_since", store.TimePtr(s.Lending.Since)},
	}...)
	for _, t := range s.texts() {
		if t.column == "account_id" && *t.value == "" {
			out = append(out, column{t.column, nil}) // NULL: no account, outside the unique index
			continue
		}
		out = append(out, column{t.column, *t.value})
	}
	return out, nil
}

// searchText is what Filter.Q looks through, lowered here because the engines lower text differently.
func (s stored) searchText() string {
	words := []string{string(s.Type)}
	for _, t := range s.texts() {
		if *t.value != "" && t.column != "upstream_ca_bundle" { // nobody looks for what stands in PEM
			words = append(words, *t.value)
		}
	}
	return strings.ToLower(strings.Join(append(words, s.Tags...), "\n"))
}

// insert stores a new credential with its sealed notes, if any.
func (s stored) insert(tx *store.Tx, notes []byte) error {
	cols, err := s.columns()
	if err != nil {
		return err
	}
	cols = append(cols, column{"id", s.ID}, column{"type", string(s.Type)}, column{"created_at", store.TimeOf(s.CreatedAt)},
		column{"notes", nullable(notes)}, column{"notes_version", s.notesVersion})
	var names, places []string
	var args []any
	for i, c := range cols {
		names, places, args = append(names, c.name), append(places, "$"+number(i+1)), append(args, c.value)
	}
	if _, err := tx.Exec(`INSERT INTO credentials (`+strings.Join(names, ", ")+`) VALUES (`+strings.Join(places, ", ")+`)`, args...); err != nil {
		return err
	}
	return s.writeTags(tx)
}

// update stores the changed credential. Notes are written by themselves.
func (s stored) update(tx *store.Tx) error {
	cols, err := s.columns()
	if err != nil {
		return err
	}
	var sets []string
	var args []any
	for i, c := range cols {
		sets, args = append(sets, c.name+" = $"+number(i+1)), append(args, c.value)
	}
	args = append(args, s.ID)
	n, err := tx.Exec(`UPDATE credentials SET `+strings.Join(sets, ", ")+` WHERE id = $`+number(len(args)), args...)
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("credential %s vanished during its update", s.ID)
	}
	if _, err := tx.Exec(`DELETE FROM credential_tags WHERE credential_id = $1`, s.ID); err != nil {
		return err
	}
	return s.writeTags(tx)
}

func (s stored) writeTags(tx *store.Tx) error {
	for _, tag := range s.Tags {
		if _, err := tx.Exec(`INSERT INTO credential_tags (credential_id, tag) VALUES ($1, $2)`, s.ID, tag); err != nil {
			return err
		}
	}
	return nil
}

// load reads one credential. With lock, no other act changes it before the transaction ends.
func load(tx *store.Tx, id string, lock bool) (stored, error) {
	if !store.ValidID(credentialPrefix, id) {
		return stored{}, notFound()
	}
	if lock {
		// The lock is taken first and the row read after it: on PostgreSQL a join that waited for a lock would still see the old version.
		var one int64
		if err := tx.Get(&one, `SELECT version FROM credentials WHERE id = $1`+tx.ForUpdate(), id); errors.Is(err, store.ErrNotFound) {
			return stored{}, notFound()
		} else if err != nil {
			return stored{}, err
		}
	}
	return loadWhere(tx, `c.id = $1`, id)
}

// familiar returns nil, or the refusal of an act that needs to know the type.
func (s stored) familiar() error {
	if !s.foreign {
		return nil
	}
	return fault.New(fault.Conflict, "state_conflict",
		"This Signalbox does not know the credential's type: a newer version has stored it, or it was changed outside. It is neither lent, revealed nor changed here, and nothing was done. Ask an operator to upgrade this instance, or delete the credential.")
}

func loadWhere(tx *store.Tx, cond string, args ...any) (stored, error) {
	var w row
	err := tx.Get(&w, selectRow+` WHERE `+cond, args...)
	if errors.Is(err, store.ErrNotFound) {
		return stored{}, notFound()
	}
	if err != nil {
		return stored{}, err
	}
	return w.decode(tx.Now())
}

func notFound() error {
	return fault.New(fault.NotFound, "not_found", "There is no such credential, or you may not see it. List credentials to find its id; ids begin with cred_.")
}

// secretRow is one sealed field.
type secretRow struct {
	CredentialID string `db:"credential_id"`
	Version      int64  `db:"version"`
	Field        string `db:"field"`
	Sealed       []byte `db:"sealed"`
}

func secretAAD(id, field string, version int64) secret.AAD {
	return secret.AAD{Table: "credential_secrets", ID: id, Field: field, Version: version}
}

func notesAAD(id string, version int64) secret.AAD {
	return secret.AAD{Table: "credentials", ID: id, Field: "notes", Version: version}
}

func encodeList(list []string) (string, error) {
	if len(list) == 0 {
		return "[]", nil
	}
	b, err := json.Marshal(list)
	return string(b), err
}

// errForm says that a row is not of the form in which this version writes.
var errForm = errors.New("a list in the database is not JSON")

func decodeList(text string, dst *[]string) error {
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return errForm
	}
	if len(list) > 0 {
		*dst = list
	}
	return nil
}

func number01(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// nullable makes a nil slice a plain NULL for both drivers.
func nullable(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}
