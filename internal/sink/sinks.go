package sink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	sinkPrefix = "snk"
	// sinksMax bounds the sinks of an installation: each reads the log by itself.
	sinksMax   = 20
	nameMax    = 100
	hostMax    = 253
	pemMax     = 64 << 10
	secretMax  = 16 << 10
	everyLeast = 60
	everyMost  = 7 * 24 * 3600
	everyUsual = 3600
)

// Draft is a sink to be made.
type Draft struct {
	Kind     Kind
	Carries  Carries // "" means records, or what the kind can carry
	Name     string
	Disabled bool
	// Beginning has a sink of records begin with the first leaf; otherwise it begins with what comes next. A sink of checkpoints begins with the newest.
	Beginning bool
	Every     int // 0 means an hour
	Syslog    *SyslogServer
	Secrets   map[string]secret.Value
}

// Patch changes a sink; nil leaves a setting as it is. Where it leads stays: another receiver is another sink, with a cursor of its own.
type Patch struct {
	Name    *string
	Enabled *bool
	Every   *int
	// Secrets are those that are given anew. An address must lead to the same host.
	Secrets map[string]secret.Value
}

// Create makes a sink. A taken name is already_exists.
func (r *Room) Create(ctx context.Context, caller Caller, d Draft) (State, Sink, error) {
	row, known := kindRow(d.Kind)
	if known && d.Carries == "" {
		d.Carries = row.Carries[0]
	}
	if d.Carries == Checkpoints && d.Every == 0 {
		d.Every = everyUsual
	}
	s := Sink{
		Kind: d.Kind, Carries: d.Carries, Name: d.Name, Enabled: !d.Disabled, Syslog: d.Syslog, Every: d.Every, Revision: 1, secretVersion: 1,
		SecretFields: slices.Sorted(maps.Keys(d.Secrets)),
	}
	if err := r.validate(&s, d.Secrets); err != nil {
		return State{}, Sink{}, err
	}
	var state State
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		var have int
		if err := tx.Get(&have, `SELECT COUNT(*) FROM audit_sinks`); err != nil {
			return err
		}
		if have >= sinksMax {
			return fault.New(fault.Conflict, "state_conflict", "There are 20 audit sinks already, and no more can be made. Delete one that is not needed.")
		}
		s.ID = store.NewID(sinkPrefix)
		s.CreatedAt, s.UpdatedAt = tx.Now(), tx.Now()
		sealed, err := r.seal(s, d.Secrets)
		if err != nil {
			return err
		}
		position := int64(0)
		if s.Carries == Records && !d.Beginning {
			if position, _, err = audit.Extent(tx); err != nil {
				return err
			}
		}
		if err := insertSink(tx, s, sealed, position); err != nil {
			return err
		}
		ev := caller.Event(store.SinkCreate, s.target())
		ev.Details = store.Details{store.Str("kind", string(s.Kind)), store.Str("carries", string(s.Carries)), store.Str("destination", s.Destination), store.Int("from", position)}
		if err := tx.Record(ev); err != nil {
			return err
		}
		state, err = stateOf(tx, s.ID)
		return err
	})
	if err := taken(err); err != nil {
		return State{}, Sink{}, err
	}
	return state, s, nil
}

// taken turns a second sink of a name into the fault already_exists.
func taken(err error) error {
	if store.IsConflict(err) {
		return fault.New(fault.Conflict, "already_exists", "There is already an audit sink with this name. Choose another.").With("/name", "is taken")
	}
	return err
}

func stateOf(tx *store.Tx, id string) (State, error) {
	list, err := states(tx)
	if err != nil {
		return State{}, err
	}
	for _, s := range list {
		if s.ID == id {
			return s, nil
		}
	}
	return State{}, errNoSink()
}

// Get returns a sink and where it stands.
func (r *Room) Get(ctx context.Context, id string) (State, Sink, error) {
	var state State
	var s Sink
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		if s, _, err = loadSink(tx, id, ""); err == nil {
			state, err = stateOf(tx, id)
		}
		return err
	})
	return state, s, err
}

// List returns all sinks, of which there are few, and where each stands.
func (r *Room) List(ctx context.Context) ([]State, []Sink, error) {
	var where []State
	var list []Sink
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		if where, err = states(tx); err != nil {
			return err
		}
		list = make([]Sink, len(where))
		for i, s := range where {
			if list[i], _, err = loadSink(tx, s.ID, ""); err != nil {
				return err
			}
		}
		return nil
	})
	return where, list, err
}

// Update changes a sink. With ifMatch, it must still have that ETag.
func (r *Room) Update(ctx context.Context, caller Caller, id string, p Patch, ifMatch string) (State, Sink, error) {
	var state State
	var s Sink
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		var sealed []byte
		var err error
		if s, sealed, err = loadSink(tx, id, tx.ForUpdate()); err != nil {
			return err
		}
		if err := s.unless(ifMatch); err != nil {
			return err
		}
		secrets, err := r.open(s, sealed)
		if err != nil {
			return err
		}
		before := s.Destination
		changed := p.apply(&s, secrets)
		if err := r.validate(&s, secrets); err != nil {
			return err
		}
		if s.Destination != before {
			return fault.New(fault.Unprocessable, "validation_failed", "A sink keeps its receiver, since its cursor tells what that one has. Make another sink, and delete this one.").
				With("/secrets/"+secretURL, "must lead to the same host")
		}
		s.UpdatedAt = tx.Now()
		s.Revision++
		s.secretVersion++
		s.SecretFields = slices.Sorted(maps.Keys(secrets))
		if sealed, err = r.seal(s, secrets); err != nil {
			return err
		}
		if err := updateSink(tx, s, sealed); err != nil {
			return err
		}
		ev := caller.Event(store.SinkUpdate, s.target())
		ev.Fields = changed
		ev.Details = store.Details{store.Str("kind", string(s.Kind)), store.Str("destination", s.Destination), store.Bool("enabled", s.Enabled)}
		if err := tx.Record(ev); err != nil {
			return err
		}
		state, err = stateOf(tx, id)
		return err
	})
	if err := taken(err); err != nil {
		return State{}, Sink{}, err
	}
	return state, s, nil
}

// apply changes the sink and its secrets, and returns the names of what changed.
func (p Patch) apply(s *Sink, secrets map[string]secret.Value) (changed []string) {
	if p.Name != nil && *p.Name != s.Name {
		s.Name, changed = *p.Name, append(changed, "name")
	}
	if p.Enabled != nil && *p.Enabled != s.Enabled {
		s.Enabled, changed = *p.Enabled, append(changed, "enabled")
	}
	if p.Every != nil && *p.Every != s.Every {
		s.Every, changed = *p.Every, append(changed, "every_seconds")
	}
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		secrets[name] = p.Secrets[name]
		changed = append(changed, "secrets."+name)
	}
	return changed
}

// Delete deletes a sink with its secrets and its cursor. With ifMatch, it must still have that ETag.
func (r *Room) Delete(ctx context.Context, caller Caller, id, ifMatch string) error {
	return r.db.Write(ctx, func(tx *store.Tx) error {
		s, _, err := loadSink(tx, id, tx.ForUpdate())
		if err != nil {
			return err
		}
		if err := s.unless(ifMatch); err != nil {
			return err
		}
		var position int64
		if err := tx.Get(&position, `SELECT position FROM audit_sink_cursors WHERE sink_id = $1`, id); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM audit_sinks WHERE id = $1`, id); err != nil {
			return err
		}
		ev := caller.Event(store.SinkDelete, s.target())
		ev.Details = store.Details{store.Str("kind", string(s.Kind)), store.Str("destination", s.Destination), store.Int("position", position)}
		return tx.Record(ev)
	})
}

// validate returns the fault that says what is wrong with a sink and its secrets, or nil, and fills the destination.
func (r *Room) validate(s *Sink, secrets map[string]secret.Value) error {
	f := fault.New(fault.Unprocessable, "validation_failed", "The sink cannot be like this; see errors.")
	row, known := kindRow(s.Kind)
	if !known {
		return f.With("/kind", "must be webhook, slack or syslog")
	}
	if strings.TrimSpace(s.Name) == "" || len(s.Name) > nameMax || !utf8.ValidString(s.Name) || strings.ContainsFunc(s.Name, unicode.IsControl) {
		_ = f.With("/name", "must be one line of 1 to 100 bytes")
	}
	if !slices.Contains(row.Carries, s.Carries) {
		_ = f.With("/carries", "must be records or checkpoints; Slack takes checkpoints alone")
	}
	switch {
	case s.Carries == Checkpoints && (s.Every < everyLeast || s.Every > everyMost):
		_ = f.With("/every_seconds", "must be from 60 to 604800")
	case s.Carries == Records && s.Every != 0:
		_ = f.With("/every_seconds", "belongs to sinks of checkpoints alone")
	}
	for _, field := range row.Secrets {
		if v, given := secrets[field.Name]; field.Required && (!given || v.IsZero()) {
			return fault.New(fault.Unprocessable, "secret_missing", "A sink of this kind needs the secret field "+field.Name+": "+field.Meaning+".").With("/secrets/"+field.Name, "is needed")
		}
	}
	for name, v := range secrets {
		switch {
		case !slices.ContainsFunc(row.Secrets, func(s SecretField) bool { return s.Name == name }):
			_ = f.With("/secrets", "has a field that a sink of this kind does not have")
		case v.Len() > secretMax || v.IsZero():
			_ = f.With("/secrets/"+name, "must have 1 to 16384 bytes")
		}
	}
	if v, given := secrets[secretSigning]; given {
		if _, ok := notify.Signature(v, "", time.Time{}, nil); !ok {
			_ = f.With("/secrets/"+secretSigning, "must be whsec_ and 24 to 64 random bytes in base64")
		}
	}
	if v, given := secrets[secretHeader]; given && strings.ContainsFunc(v.Reveal(), func(c rune) bool { return c < ' ' || c > '~' }) {
		_ = f.With("/secrets/"+secretHeader, "must be one line of printable ASCII")
	}
	if (s.Kind == Syslog) != (s.Syslog != nil) {
		_ = f.With("/syslog", "is needed for a syslog sink, and belongs to no other")
	}
	if s.Syslog != nil {
		s.Syslog.validate(f, secrets)
	}
	if len(f.Fields) > 0 {
		return f
	}
	return r.locate(s, secrets)
}

func (y *SyslogServer) validate(f *fault.Error, secrets map[string]secret.Value) {
	if !slices.Contains([]Transport{TLS, TCP, UDP}, y.Transport) {
		_ = f.With("/syslog/transport", "must be tls, tcp or udp")
	}
	if y.Host == "" || len(y.Host) > hostMax {
		_ = f.With("/syslog/host", "must name the server")
	}
	if y.Port < 1 || y.Port > 65535 {
		_ = f.With("/syslog/port", "must be from 1 to 65535")
	}
	if y.Transport != TLS && y.CA+y.Certificate != "" {
		_ = f.With("/syslog/transport", "must be tls where certificates are given")
	}
	if y.CA != "" && (len(y.CA) > pemMax || !x509.NewCertPool().AppendCertsFromPEM([]byte(y.CA))) {
		_ = f.With("/syslog/ca", "must be PEM certificates of at most 64 KiB")
	}
	key, given := secrets[secretKey]
	if given != (y.Certificate != "") {
		_ = f.With("/syslog/certificate", "and the secret field client_key must be given together, or neither")
	} else if given {
		if _, err := tls.X509KeyPair([]byte(y.Certificate), key.Bytes()); err != nil || len(y.Certificate) > pemMax {
			_ = f.With("/syslog/certificate", "must be a PEM certificate that the secret field client_key belongs to")
		}
	}
}

// address is host and port of a syslog server.
func (y *SyslogServer) address() string { return net.JoinHostPort(y.Host, strconv.Itoa(y.Port)) }

// locate checks that the guard would let a sink out, and says where it leads.
func (r *Room) locate(s *Sink, secrets map[string]secret.Value) error {
	if s.Syslog != nil {
		s.Destination = string(s.Syslog.Transport) + "://" + s.Syslog.address()
		return at(r.policy.CheckServer(s.Syslog.Host, uint16(s.Syslog.Port), s.Syslog.Transport == TLS), "/syslog/host")
	}
	u, err := url.Parse(secrets[secretURL].Reveal())
	if err != nil || u.Host == "" {
		return fault.New(fault.Unprocessable, "validation_failed", "The sink cannot be like this; see errors.").With("/secrets/"+secretURL, "must be an https URL")
	}
	s.Destination = u.Scheme + "://" + u.Host
	return at(r.policy.CheckURL(u), "/secrets/"+secretURL)
}

// at says which field a refusal of the guard is about.
func at(err error, pointer string) error {
	if f, ok := fault.As(err); ok {
		return f.With(pointer, "may not be called")
	}
	return err
}
