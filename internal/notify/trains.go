package notify

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// A train has at most one channel of each of the kinds that [TrainChannelKinds] names. It is told what is about the train and about the
// credentials that are linked to it and, where Content is on, what its agents are asked and answer. Whether a caller may is asked by whoever owns trains.

// Look says where and as whom a Slack channel posts, where its webhook lets that be said.
type Look struct {
	Channel  string `json:"channel,omitempty"`
	Username string `json:"username,omitempty"`
	Icon     string `json:"icon,omitempty"`
}

// DefaultUsername is as whom the Slack channel of a train posts unless somebody says otherwise.
const DefaultUsername = "Signalbox"

const usernameMax = 80

var (
	slackChannel = regexp.MustCompile(`^[#@]?[\p{L}\p{N}._-]{1,80}$`)
	slackEmoji   = regexp.MustCompile(`^:[a-z0-9_+'-]{1,100}:(:skin-tone-[2-6]:)?$`)
)

// check says what is wrong with the look of a channel.
func (l Look) check(f *fault.Error, kind ChannelKind) {
	if kind != Slack {
		if l != (Look{}) {
			_ = f.With("/username", "and channel and icon_emoji belong to channels of kind slack alone")
		}
		return
	}
	if l.Channel != "" && !slackChannel.MatchString(l.Channel) {
		_ = f.With("/channel", "must be the name or id of a Slack channel, such as #agents")
	}
	if !shortLine(l.Username, usernameMax) {
		_ = f.With("/username", "must be one line of at most 80 bytes")
	}
	if l.Icon != "" && !slackEmoji.MatchString(l.Icon) {
		_ = f.With("/icon_emoji", "must be the code of an emoji, such as :robot_face:")
	}
}

// TrainChannelKinds returns the kinds of channels that a train can have.
func TrainChannelKinds() []ChannelKind { return []ChannelKind{Slack, Webhook} }

// Owner is the train that channels are of.
type Owner struct{ ID, Slug string }

// TrainPatch makes the channel of a train, or changes it; nil leaves a setting as it is, or as it is by default. Of Secrets, nil removes one.
type TrainPatch struct {
	Enabled, Content        *bool
	Channel, Username, Icon *string
	Severity                *Severity
	Kinds                   *[]Kind
	Secrets                 map[string]*secret.Value
}

// exposing names the settings by which what a channel with Content is told reaches somebody else.
var exposing = []string{"content", "enabled", "channel", "secrets." + secretURL, "secrets." + secretSigning}

func errNoTrainChannel() error {
	return fault.New(fault.NotFound, "not_found", "The train has no such channel. `signalbox train slack show` shows what it has.")
}

func loadTrainChannel(tx *store.Tx, train string, kind ChannelKind, lock string) (Channel, channelRowDB, error) {
	var row channelRowDB
	err := tx.Get(&row, `SELECT `+channelColumns+` FROM notify_channels WHERE train_id = $1 AND kind = $2`+lock, train, string(kind))
	if errors.Is(err, store.ErrNotFound) {
		return Channel{}, row, errNoTrainChannel()
	}
	if err != nil {
		return Channel{}, row, err
	}
	c, err := row.channel()
	return c, row, err
}

// TrainChannels returns the channels of a train, by kind.
func TrainChannels(tx *store.Tx, train string) ([]Channel, error) {
	var rows []channelRowDB
	if err := tx.Select(&rows, `SELECT `+channelColumns+` FROM notify_channels WHERE train_id = $1 ORDER BY kind`, train); err != nil {
		return nil, err
	}
	out := make([]Channel, len(rows))
	for i, row := range rows {
		var err error
		if out[i], err = row.channel(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// TrainChannel returns the channel of a train of that kind.
func TrainChannel(tx *store.Tx, train string, kind ChannelKind) (Channel, error) {
	c, _, err := loadTrainChannel(tx, train, kind, "")
	return c, err
}

// PutTrainChannel makes or changes a train's channel of a kind, in the transaction of a caller who holds the train's row. With ifMatch there
// must be one with that ETag. expose is asked when the change decides who is told what the train's agents are asked: by switching that on, or by leading elsewhere a channel where it
// is on.
func (r *Room) PutTrainChannel(tx *store.Tx, caller Caller, train Owner, kind ChannelKind, p TrainPatch, ifMatch string, expose func() error) (_ Channel, made bool, err error) {
	c, row, err := loadTrainChannel(tx, train.ID, kind, tx.ForUpdate())
	secrets := map[string]secret.Value{}
	switch {
	case err == nil:
		if err := c.unless(ifMatch); err != nil {
			return Channel{}, false, err
		}
		if secrets, err = r.open(c, row.Sealed); err != nil && !(Patch{Secrets: p.Secrets}).replaces(c.SecretFields) {
			return Channel{}, false, err
		}
	case fault.KindOf(err) == fault.NotFound && ifMatch == "":
		made = true
		c = Channel{ID: store.NewID(channelPrefix), TrainID: train.ID, Kind: kind, Name: train.Slug + " " + string(kind), Enabled: true, Severity: Info, CreatedAt: tx.Now()}
		if kind == Slack {
			c.Look.Username = DefaultUsername
		}
	default:
		return Channel{}, false, err
	}
	was := c.Content
	changed := p.apply(&c, secrets)
	if err := r.validate(&c, secrets); err != nil {
		return Channel{}, false, renamed(err)
	}
	if c.Content && (!was || slices.ContainsFunc(changed, func(field string) bool { return slices.Contains(exposing, field) && (field != "enabled" || c.Enabled) })) {
		if err := expose(); err != nil {
			return Channel{}, false, err
		}
	}
	c.UpdatedAt = tx.Now()
	c.Revision++
	c.secretVersion++
	c.SecretFields = slices.Sorted(maps.Keys(secrets))
	sealed, err := r.seal(c, secrets)
	if err != nil {
		return Channel{}, false, err
	}
	action := store.ChannelUpdate
	if made {
		action, err = store.ChannelCreate, insertChannel(tx, c, sealed)
	} else {
		err = updateChannel(tx, c, sealed)
	}
	if err != nil {
		return Channel{}, false, err
	}
	ev := caller.Event(action, c.target())
	ev.Fields = changed
	ev.Details = store.Details{store.Str("kind", string(c.Kind)), store.Str("train", train.Slug), store.Str("destination", c.Destination), store.Bool("enabled", c.Enabled), store.Bool("content", c.Content)}
	if err := tx.Record(ev); err != nil {
		return Channel{}, false, err
	}
	if was && !c.Content {
		if err := c.hush(tx); err != nil {
			return Channel{}, false, err
		}
	}
	if c.Enabled {
		tx.Change(store.TopicNotify, c.ID) // what waited may go now
	}
	return c, made, nil
}

// renamed has the errors about a train's channel point at the fields as its door names them.
func renamed(err error) error {
	f, ok := fault.As(err)
	if !ok {
		return err
	}
	for i := range f.Fields {
		switch f.Fields[i].Pointer {
		case "/secrets/" + secretURL:
			f.Fields[i].Pointer = "/webhook_url"
		case "/secrets/" + secretSigning:
			f.Fields[i].Pointer = "/signing_secret"
		}
	}
	return f
}

// apply changes the channel and its secrets, and returns the names of what changed.
func (p TrainPatch) apply(c *Channel, secrets map[string]secret.Value) (changed []string) {
	for _, one := range []struct {
		field *bool
		to    *bool
		name  string
	}{{&c.Enabled, p.Enabled, "enabled"}, {&c.Content, p.Content, "content"}} {
		if one.to != nil && *one.to != *one.field {
			*one.field, changed = *one.to, append(changed, one.name)
		}
	}
	for _, one := range []struct {
		field *string
		to    *string
		name  string
	}{{&c.Look.Channel, p.Channel, "channel"}, {&c.Look.Username, p.Username, "username"}, {&c.Look.Icon, p.Icon, "icon_emoji"}} {
		if one.to != nil && *one.to != *one.field {
			*one.field, changed = *one.to, append(changed, one.name)
		}
	}
	if c.Kind == Slack && c.Look.Username == "" {
		c.Look.Username = DefaultUsername
	}
	rest, _ := Patch{Severity: p.Severity, Kinds: p.Kinds, Secrets: p.Secrets}.apply(c, secrets) // it fails over mail alone
	return append(changed, rest...)
}

// DropTrainChannel deletes a train's channel with its secrets and what waits for it, in the transaction of a caller who holds the train's row.
func DropTrainChannel(tx *store.Tx, caller Caller, train Owner, kind ChannelKind, ifMatch string) error {
	c, _, err := loadTrainChannel(tx, train.ID, kind, tx.ForUpdate())
	if err != nil {
		return err
	}
	if err := c.unless(ifMatch); err != nil {
		return err
	}
	return c.drop(tx, caller, store.Str("train", train.Slug))
}

// TryTrainChannel is [Room.TryChannel] for the channel of a train.
func (r *Room) TryTrainChannel(ctx context.Context, caller Caller, train Owner, kind ChannelKind) (Tried, error) {
	return r.try(ctx, caller, func(tx *store.Tx) (Channel, channelRowDB, error) { return loadTrainChannel(tx, train.ID, kind, "") })
}
