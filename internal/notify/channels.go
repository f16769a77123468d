package notify

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	channelPrefix  = "ntc"
	deliveryPrefix = "ntf"
	listDefault    = 100
	listMax        = 1000
	// channelsMax bounds the channels of an installation: a message is stored once for each.
	channelsMax = 200
)

// Page is the part of a filter that every list has. Limit 0 means 100, and more than 1000 means 1000.
type Page struct {
	Limit  int
	Cursor string // what the page before returned
	Skip   int
}

func (p Page) limit() int {
	if p.Limit <= 0 {
		return listDefault
	}
	return min(p.Limit, listMax)
}

// after adds the condition of the cursor, which holds an id.
func (p Page) after(w *store.Where, prefix, cond string) error {
	if p.Cursor == "" {
		return nil
	}
	id, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	// The decoder passes over line ends, so the text is compared too.
	if err != nil || !store.ValidID(prefix, string(id)) || base64.RawURLEncoding.EncodeToString(id) != p.Cursor {
		return fault.New(fault.Unprocessable, "validation_failed", "The cursor is not one that this list returned. Begin the list again without a cursor.").
			With("/cursor", "is not a cursor of this list")
	}
	w.Add(cond, string(id))
	return nil
}

func nextCursor(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

// CreateChannel makes a channel. A taken name is already_exists.
func (r *Room) CreateChannel(ctx context.Context, caller Caller, d Draft) (Channel, error) {
	if d.Severity == "" {
		d.Severity = Info
	}
	c := Channel{
		Kind: d.Kind, Name: d.Name, Enabled: !d.Disabled, Severity: d.Severity, Kinds: d.Kinds, Email: d.Email, TrainID: d.TrainID, Revision: 1, secretVersion: 1,
		SecretFields: slices.Sorted(maps.Keys(d.Secrets)),
	}
	if err := r.validate(&c, d.Secrets); err != nil {
		return Channel{}, err
	}
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		var have int
		if err := tx.Get(&have, `SELECT COUNT(*) FROM notify_channels WHERE train_id IS NULL`); err != nil {
			return err
		}
		if have >= channelsMax {
			return fault.New(fault.Conflict, "state_conflict", "There are 200 channels already, and no more can be made. Delete one that is not needed.")
		}
		c.ID = store.NewID(channelPrefix)
		c.CreatedAt, c.UpdatedAt = tx.Now(), tx.Now()
		sealed, err := r.seal(c, d.Secrets)
		if err != nil {
			return err
		}
		if err := insertChannel(tx, c, sealed); err != nil {
			return err
		}
		ev := caller.Event(store.ChannelCreate, c.target())
		ev.Details = store.Details{store.Str("kind", string(c.Kind)), store.Str("destination", c.Destination)}
		return tx.Record(ev)
	})
	if err := taken(err); err != nil {
		return Channel{}, err
	}
	return c, nil
}

// taken turns a second channel of a name into the fault already_exists.
func taken(err error) error {
	if store.IsConflict(err) {
		return fault.New(fault.Conflict, "already_exists", "There is already a channel with this name. Choose another.").With("/name", "is taken")
	}
	return err
}

// Refused records that somebody tried what they may not, for a door that has asked whether they may; code says why.
func (r *Room) Refused(ctx context.Context, caller Caller, code string) error {
	return r.db.Write(ctx, func(tx *store.Tx) error {
		ev := caller.Event(store.NotifyRefused, store.Target{Kind: "notification_channel"})
		ev.Outcome, ev.Reason = store.OutcomeRefused, code
		return tx.Record(ev)
	})
}

// loadOwn reads a channel of the installation; those of trains are reached through their trains alone.
func loadOwn(tx *store.Tx, id, lock string) (Channel, channelRowDB, error) {
	c, row, err := loadChannel(tx, id, lock)
	if err == nil && c.TrainID != "" {
		return Channel{}, channelRowDB{}, errNoChannel()
	}
	return c, row, err
}

// GetChannel returns a channel of the installation by its id.
func (r *Room) GetChannel(ctx context.Context, id string) (Channel, error) {
	var c Channel
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		c, _, err = loadOwn(tx, id, "")
		return err
	})
	return c, err
}

// ListChannels returns the installation's channels, the oldest first, and the cursor of the next page, "" at the end.
func (r *Room) ListChannels(ctx context.Context, p Page) ([]Channel, string, error) {
	var w store.Where
	if err := p.after(&w, channelPrefix, `id > ?`); err != nil {
		return nil, "", err
	}
	w.Add(`train_id IS NULL`)
	var rows []channelRowDB
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		rows = rows[:0]
		query := `SELECT ` + channelColumns + ` FROM notify_channels` + w.SQL() + ` ORDER BY id LIMIT ` + w.Arg(p.limit()+1) + ` OFFSET ` + w.Arg(max(p.Skip, 0))
		return tx.Select(&rows, query, w.Args()...)
	})
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > p.limit() {
		rows = rows[:p.limit()]
		next = nextCursor(rows[len(rows)-1].ID)
	}
	out := make([]Channel, len(rows))
	for i, row := range rows {
		if out[i], err = row.channel(); err != nil {
			return nil, "", err
		}
	}
	return out, next, nil
}

// UpdateChannel changes a channel. With ifMatch, the channel must still have that ETag. The password of a mail server must be given again when
// the server changes: it is not sent to another one because somebody who cannot read it says so.
func (r *Room) UpdateChannel(ctx context.Context, caller Caller, id string, p Patch, ifMatch string) (Channel, error) {
	var c Channel
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		var row channelRowDB
		var err error
		if c, row, err = loadOwn(tx, id, tx.ForUpdate()); err != nil {
			return err
		}
		if err := c.unless(ifMatch); err != nil {
			return err
		}
		secrets, err := r.open(c, row.Sealed)
		if err != nil && !p.replaces(c.SecretFields) {
			return err
		}
		changed, err := p.apply(&c, secrets)
		if err != nil {
			return err
		}
		if err := r.validate(&c, secrets); err != nil {
			return err
		}
		c.UpdatedAt = tx.Now()
		c.Revision++
		c.secretVersion++
		c.SecretFields = slices.Sorted(maps.Keys(secrets))
		sealed, err := r.seal(c, secrets)
		if err != nil {
			return err
		}
		if err := updateChannel(tx, c, sealed); err != nil {
			return err
		}
		ev := caller.Event(store.ChannelUpdate, c.target())
		ev.Fields = changed
		ev.Details = store.Details{store.Str("kind", string(c.Kind)), store.Str("destination", c.Destination), store.Bool("enabled", c.Enabled)}
		if err := tx.Record(ev); err != nil {
			return err
		}
		if c.Enabled {
			tx.Change(store.TopicNotify, c.ID) // what waited may go now
		}
		return nil
	})
	if err := taken(err); err != nil {
		return Channel{}, err
	}
	return c, nil
}

// replaces reports whether every one of the fields is given anew, so that what was sealed before is not needed.
func (p Patch) replaces(fields []string) bool {
	return len(p.Secrets) > 0 && !slices.ContainsFunc(fields, func(f string) bool { _, given := p.Secrets[f]; return !given })
}

// apply changes the channel and its secrets, and returns the names of what changed.
func (p Patch) apply(c *Channel, secrets map[string]secret.Value) (changed []string, err error) {
	if p.Name != nil && *p.Name != c.Name {
		c.Name, changed = *p.Name, append(changed, "name")
	}
	if p.Enabled != nil && *p.Enabled != c.Enabled {
		c.Enabled, changed = *p.Enabled, append(changed, "enabled")
	}
	if p.Severity != nil && *p.Severity != c.Severity {
		c.Severity, changed = *p.Severity, append(changed, "severity")
	}
	if p.Kinds != nil && !slices.Equal(*p.Kinds, c.Kinds) {
		c.Kinds, changed = *p.Kinds, append(changed, "kinds")
	}
	if !p.Email.empty() {
		if c.Email == nil {
			return nil, fault.New(fault.Unprocessable, "validation_failed", "The channel cannot be like this; see errors.").With("/email", "belongs to channels of kind email alone")
		}
		before := c.Email.server()
		changed = append(changed, p.Email.apply(c.Email)...)
		_, anew := p.Secrets[secretPassword]
		if _, stored := secrets[secretPassword]; stored && !anew && c.Email.server() != before {
			return nil, fault.New(fault.Unprocessable, "secret_missing", "The password was given for another server. Give it again together with the change, or remove it and the user name.").
				With("/secrets/"+secretPassword, "must be given again")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		if v := p.Secrets[name]; v != nil {
			secrets[name] = *v
		} else {
			delete(secrets, name)
		}
		changed = append(changed, "secrets."+name)
	}
	return changed, nil
}

func (p EmailPatch) apply(e *Email) (changed []string) {
	set := func(field *string, to *string, name string) {
		if to != nil && *to != *field {
			*field, changed = *to, append(changed, "email."+name)
		}
	}
	set(&e.Host, p.Host, "host")
	set(&e.Username, p.Username, "username")
	set(&e.From, p.From, "from")
	if p.Port != nil && *p.Port != e.Port {
		e.Port, changed = *p.Port, append(changed, "email.port")
	}
	if p.TLS != nil && *p.TLS != e.TLS {
		e.TLS, changed = *p.TLS, append(changed, "email.tls")
	}
	if p.To != nil && !slices.Equal(*p.To, e.To) {
		e.To, changed = *p.To, append(changed, "email.to")
	}
	return changed
}

// DeleteChannel deletes a channel with its secrets and what waits for it. With ifMatch, it must still have that ETag.
func (r *Room) DeleteChannel(ctx context.Context, caller Caller, id, ifMatch string) error {
	return r.db.Write(ctx, func(tx *store.Tx) error {
		c, _, err := loadOwn(tx, id, tx.ForUpdate())
		if err != nil {
			return err
		}
		if err := c.unless(ifMatch); err != nil {
			return err
		}
		return c.drop(tx, caller)
	})
}

// drop deletes a channel that is locked, and records that.
func (c Channel) drop(tx *store.Tx, caller Caller, more ...store.Detail) error {
	var waiting int64
	if err := tx.Get(&waiting, `SELECT COUNT(*) FROM notify_deliveries WHERE channel_id = $1 AND state = $2`, c.ID, stateWaiting); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM notify_channels WHERE id = $1`, c.ID); err != nil {
		return err
	}
	ev := caller.Event(store.ChannelDelete, c.target())
	ev.Details = append(store.Details{store.Str("kind", string(c.Kind)), store.Int("waiting", waiting)}, more...)
	return tx.Record(ev)
}
