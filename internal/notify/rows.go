package notify

import (
	"encoding/json"
	"errors"
	"fmt"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const channelColumns = `id, train_id, kind, name, enabled, severity, kinds, settings, secret_fields, secret_version, sealed, created_at, updated_at, revision`

// channelRowDB is a channel as it is stored.
type channelRowDB struct {
	ID            string     `db:"id"`
	TrainID       *string    `db:"train_id"`
	Kind          string     `db:"kind"`
	Name          string     `db:"name"`
	Enabled       bool       `db:"enabled"`
	Severity      string     `db:"severity"`
	Kinds         string     `db:"kinds"`
	Settings      string     `db:"settings"`
	SecretFields  string     `db:"secret_fields"`
	SecretVersion int64      `db:"secret_version"`
	Sealed        []byte     `db:"sealed"`
	CreatedAt     store.Time `db:"created_at"`
	UpdatedAt     store.Time `db:"updated_at"`
	Revision      int64      `db:"revision"`
}

// settings is the part of a channel that has no column.
type settings struct {
	Destination string `json:"destination"`
	Email       *Email `json:"email,omitempty"`
	Look        Look   `json:"look,omitzero"`
	Content     bool   `json:"content,omitempty"`
	Suffix      string `json:"suffix,omitempty"`
}

func (r channelRowDB) channel() (Channel, error) {
	c := Channel{
		ID: r.ID, Kind: ChannelKind(r.Kind), Name: r.Name, Enabled: r.Enabled, Severity: Severity(r.Severity), secretVersion: r.SecretVersion,
		CreatedAt: r.CreatedAt.Time(), UpdatedAt: r.UpdatedAt.Time(), Revision: r.Revision,
	}
	if r.TrainID != nil {
		c.TrainID = *r.TrainID
	}
	var s settings
	err := errors.Join(json.Unmarshal([]byte(r.Settings), &s), json.Unmarshal([]byte(r.Kinds), &c.Kinds), json.Unmarshal([]byte(r.SecretFields), &c.SecretFields))
	if err != nil {
		return Channel{}, fmt.Errorf("read channel %s: %w", r.ID, err)
	}
	c.Destination, c.Email, c.Look, c.Content, c.Suffix = s.Destination, s.Email, s.Look, s.Content, s.Suffix
	return c, nil
}

func loadChannel(tx *store.Tx, id, lock string) (Channel, channelRowDB, error) {
	var row channelRowDB
	if !store.ValidID(channelPrefix, id) { // PostgreSQL takes no NUL and no broken UTF-8
		return Channel{}, row, errNoChannel()
	}
	err := tx.Get(&row, `SELECT `+channelColumns+` FROM notify_channels WHERE id = $1`+lock, id)
	if errors.Is(err, store.ErrNotFound) {
		return Channel{}, row, errNoChannel()
	}
	if err != nil {
		return Channel{}, row, err
	}
	c, err := row.channel()
	return c, row, err
}

func errNoChannel() error {
	return fault.New(fault.NotFound, "not_found", "There is no such notification channel. `signalbox notify channel list` shows those that there are.")
}

// columns returns what is written of a channel as JSON: settings, kinds and the names of the secret fields.
func (c Channel) columns() (set, kinds, fields string, err error) {
	if c.Kinds == nil {
		c.Kinds = []Kind{}
	}
	if c.SecretFields == nil {
		c.SecretFields = []string{}
	}
	out := make([]string, 3)
	for i, v := range []any{settings{c.Destination, c.Email, c.Look, c.Content, c.Suffix}, c.Kinds, c.SecretFields} {
		b, err := json.Marshal(v)
		if err != nil {
			return "", "", "", errors.New("notify: a channel cannot be encoded")
		}
		out[i] = string(b)
	}
	return out[0], out[1], out[2], nil
}

func insertChannel(tx *store.Tx, c Channel, sealed []byte) error {
	set, kinds, fields, err := c.columns()
	if err != nil {
		return err
	}
	var train *string
	if c.TrainID != "" {
		train = &c.TrainID
	}
	_, err = tx.Exec(`INSERT INTO notify_channels (`+channelColumns+`, hold_until) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,0)`,
		c.ID, train, string(c.Kind), c.Name, flag(c.Enabled), string(c.Severity), kinds, set, fields, c.secretVersion, sealed,
		store.TimeOf(c.CreatedAt), store.TimeOf(c.UpdatedAt), c.Revision)
	return err
}

// updateChannel also ends what a receiver asked for: who changes a channel wants to see it work.
func updateChannel(tx *store.Tx, c Channel, sealed []byte) error {
	set, kinds, fields, err := c.columns()
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE notify_channels SET name = $1, enabled = $2, severity = $3, kinds = $4, settings = $5, secret_fields = $6, secret_version = $7,
		sealed = $8, updated_at = $9, revision = $10, hold_until = 0 WHERE id = $11`,
		c.Name, flag(c.Enabled), string(c.Severity), kinds, set, fields, c.secretVersion, sealed, store.TimeOf(c.UpdatedAt), c.Revision, c.ID)
	return err
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ringPurpose separates what is sealed here from all else.
const ringPurpose = "notify"

// aad binds the secrets of a channel to its row, to their version and to where they are sent: who can write the database, but lacks the root
// key, cannot have a password sent to a server of their own, nor have prompts told by switching that on, or to another Slack channel.
func (c Channel) aad() secret.AAD {
	where := c.Destination
	if c.Email != nil {
		where = c.Email.server()
	}
	field := "secrets/" + string(c.Kind) + "/" + where
	if c.Content {
		field += "/content/" + c.TrainID + "/" + c.Look.Channel
	}
	return secret.AAD{Table: "notify_channels", ID: c.ID, Field: field, Version: c.secretVersion}
}

func (r *Room) seal(c Channel, secrets map[string]secret.Value) ([]byte, error) {
	plain := make(map[string]string, len(secrets))
	for name, v := range secrets {
		plain[name] = v.Reveal()
	}
	b, err := json.Marshal(plain)
	if err != nil {
		return nil, errors.New("notify: the secrets of a channel cannot be encoded")
	}
	return r.ring.Seal(ringPurpose, secret.New(b), c.aad())
}

// open returns the secrets of a channel; the map is empty, never nil, when they do not open.
func (r *Room) open(c Channel, sealed []byte) (map[string]secret.Value, error) {
	out := map[string]secret.Value{}
	v, err := r.ring.Open(ringPurpose, sealed, c.aad())
	var plain map[string]string
	if err == nil && json.Unmarshal(v.Bytes(), &plain) != nil {
		err = secret.ErrOpen
	}
	if err != nil {
		if f, ok := fault.As(err); ok {
			return out, f
		}
		return out, fault.New(fault.Internal, "internal",
			"The sealed secrets of this notification channel do not open: the row was damaged or changed. Give all its secrets anew, or delete it.").Because(err)
	}
	for name, text := range plain {
		out[name] = secret.FromString(text)
	}
	return out, nil
}
