package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Sink is a place where the log is sent.
type Sink struct {
	ID      string
	Kind    Kind
	Carries Carries
	Name    string
	Enabled bool
	// Destination is where it leads, without what is secret in that: scheme and host of an address, or transport, host and port.
	Destination string
	Syslog      *SyslogServer // of a syslog sink
	// Every is the least time between two checkpoints in seconds, 0 for a sink of records.
	Every int
	// SecretFields names what is sealed.
	SecretFields []string
	CreatedAt    time.Time
	UpdatedAt    time.Time
	Revision     int64 // counts the changes

	secretVersion int64
}

// Transport says how a syslog server is spoken to.
type Transport string

// The transports.
const (
	TLS Transport = "tls" // RFC 5425
	TCP Transport = "tcp" // RFC 6587, octet counting; only with a host that is allowed by name
	UDP Transport = "udp" // RFC 5426, likewise
)

// SyslogServer are the settings of a syslog sink.
type SyslogServer struct {
	Transport Transport `json:"transport"`
	Host      string    `json:"host"`
	Port      int       `json:"port"`
	// CA are the PEM certificates that the server's certificate must lead to; "" means the system's.
	CA string `json:"ca,omitempty"`
	// Certificate is the PEM client certificate, which needs the secret field client_key.
	Certificate string `json:"certificate,omitempty"`
	// Unconfirmed counts a batch as delivered once it was written: for a server that does not close a connection whose other side was closed.
	Unconfirmed bool `json:"unconfirmed,omitempty"`
}

// ETag is the validator of this state (RFC 9110, section 8.8.3).
func (s Sink) ETag() string { return `"r` + strconv.FormatInt(s.Revision, 10) + `"` }

func (s Sink) unless(ifMatch string) error {
	if etag.Match(ifMatch, s.ETag()) {
		return nil
	}
	return fault.New(fault.Precondition, "etag_mismatch", "The sink was changed since it was read. Read it again, then repeat the change.")
}

func (s Sink) target() store.Target {
	return store.Target{Kind: "audit_sink", ID: s.ID, Name: s.Name}
}

const sinkColumns = `id, kind, carries, name, enabled, settings, secret_fields, secret_version, sealed, created_at, updated_at, revision`

// sinkRow is a sink as it is stored.
type sinkRow struct {
	ID            string     `db:"id"`
	Kind          string     `db:"kind"`
	Carries       string     `db:"carries"`
	Name          string     `db:"name"`
	Enabled       bool       `db:"enabled"`
	Settings      string     `db:"settings"`
	SecretFields  string     `db:"secret_fields"`
	SecretVersion int64      `db:"secret_version"`
	Sealed        []byte     `db:"sealed"`
	CreatedAt     store.Time `db:"created_at"`
	UpdatedAt     store.Time `db:"updated_at"`
	Revision      int64      `db:"revision"`
}

// settings is the part of a sink that has no column.
type settings struct {
	Destination string        `json:"destination"`
	Syslog      *SyslogServer `json:"syslog,omitempty"`
	Every       int           `json:"every_seconds,omitempty"`
}

func readSettings(id, text string) (settings, error) {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, fmt.Errorf("read the settings of sink %s: %w", id, err)
	}
	return s, nil
}

func (r sinkRow) sink() (Sink, error) {
	s := Sink{
		ID: r.ID, Kind: Kind(r.Kind), Carries: Carries(r.Carries), Name: r.Name, Enabled: r.Enabled, secretVersion: r.SecretVersion,
		CreatedAt: r.CreatedAt.Time(), UpdatedAt: r.UpdatedAt.Time(), Revision: r.Revision,
	}
	set, err := readSettings(r.ID, r.Settings)
	if err != nil {
		return Sink{}, err
	}
	if err := json.Unmarshal([]byte(r.SecretFields), &s.SecretFields); err != nil {
		return Sink{}, fmt.Errorf("read sink %s: %w", r.ID, err)
	}
	s.Destination, s.Syslog, s.Every = set.Destination, set.Syslog, set.Every
	return s, nil
}

func loadSink(tx *store.Tx, id, lock string) (Sink, []byte, error) {
	if !store.ValidID(sinkPrefix, id) { // PostgreSQL takes no NUL and no broken UTF-8
		return Sink{}, nil, errNoSink()
	}
	var row sinkRow
	err := tx.Get(&row, `SELECT `+sinkColumns+` FROM audit_sinks WHERE id = $1`+lock, id)
	if errors.Is(err, store.ErrNotFound) {
		return Sink{}, nil, errNoSink()
	}
	if err != nil {
		return Sink{}, nil, err
	}
	s, err := row.sink()
	return s, row.Sealed, err
}

func errNoSink() error {
	return fault.New(fault.NotFound, "not_found", "There is no such audit sink. `signalbox audit sink list` shows those that there are.")
}

// columns returns what is written of a sink as JSON: settings and the names of the secret fields.
func (s Sink) columns() (set, fields string, err error) {
	if s.SecretFields == nil {
		s.SecretFields = []string{}
	}
	a, err1 := json.Marshal(settings{s.Destination, s.Syslog, s.Every})
	b, err2 := json.Marshal(s.SecretFields)
	if errors.Join(err1, err2) != nil {
		return "", "", errors.New("sink: a sink cannot be encoded")
	}
	return string(a), string(b), nil
}

func insertSink(tx *store.Tx, s Sink, sealed []byte, position int64) error {
	set, fields, err := s.columns()
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO audit_sinks (`+sinkColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)`,
		s.ID, string(s.Kind), string(s.Carries), s.Name, flag(s.Enabled), set, fields, s.secretVersion, sealed, store.TimeOf(s.CreatedAt), store.TimeOf(s.UpdatedAt), s.Revision); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO audit_sink_cursors (sink_id, position, holder, epoch, until, failures, next_at, detail, sent_at) VALUES ($1,$2,'',0,0,0,0,'',0)`, s.ID, position)
	return err
}

// updateSink also has the sink tried at once: who changes one wants to see it work.
func updateSink(tx *store.Tx, s Sink, sealed []byte) error {
	set, fields, err := s.columns()
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE audit_sinks SET name = $1, enabled = $2, settings = $3, secret_fields = $4, secret_version = $5, sealed = $6, updated_at = $7, revision = $8 WHERE id = $9`,
		s.Name, flag(s.Enabled), set, fields, s.secretVersion, sealed, store.TimeOf(s.UpdatedAt), s.Revision, s.ID); err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE audit_sink_cursors SET next_at = 0 WHERE sink_id = $1`, s.ID)
	return err
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ringPurpose separates what is sealed here from all else.
const ringPurpose = "audit-sink"

// aad binds the secrets of a sink to its row, to their version and to where they are sent: who can write the database, but lacks the root key, cannot have
// them sent to a server of their own.
func (s Sink) aad() secret.AAD {
	return secret.AAD{Table: "audit_sinks", ID: s.ID, Field: "secrets/" + string(s.Kind) + "/" + string(s.Carries) + "/" + s.Destination, Version: s.secretVersion}
}

func (r *Room) seal(s Sink, secrets map[string]secret.Value) ([]byte, error) {
	plain := make(map[string]string, len(secrets))
	for name, v := range secrets {
		plain[name] = v.Reveal()
	}
	b, err := json.Marshal(plain)
	if err != nil {
		return nil, errors.New("sink: the secrets of a sink cannot be encoded")
	}
	return r.ring.Seal(ringPurpose, secret.New(b), s.aad())
}

// open returns the secrets of a sink; the map is empty, never nil, when they do not open.
func (r *Room) open(s Sink, sealed []byte) (map[string]secret.Value, error) {
	out := map[string]secret.Value{}
	v, err := r.ring.Open(ringPurpose, sealed, s.aad())
	var plain map[string]string
	if err == nil && json.Unmarshal(v.Bytes(), &plain) != nil {
		err = secret.ErrOpen
	}
	if err != nil {
		if f, ok := fault.As(err); ok {
			return out, f
		}
		return out, fault.New(fault.Internal, "internal", "The sealed secrets of this audit sink do not open: the row was damaged or changed. Delete it, and make it anew.").Because(err)
	}
	for name, text := range plain {
		out[name] = secret.FromString(text)
	}
	return out, nil
}
