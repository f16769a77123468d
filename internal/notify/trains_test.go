package notify_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// train makes a train that links credentials, as another room does.
func (o *office) train(id, slug string, credentials ...string) notify.Owner {
	o.t.Helper()
	o.sql(`INSERT INTO trains (id, slug, name, description, strategy, disabled, key_limit, created_at, updated_at, revision) VALUES ($1,$2,$2,'','hash',0,0,1,1,1)`, id, slug)
	for _, c := range credentials {
		o.sql(`INSERT INTO credentials (id, type, name, provider, state, version, revision, description, username, base_url, external_url, internal_url, port, requires_vpn,
				requires_2fa, tags, hosts, notes_version, rotate_every_days, owner, client_id, service_id, infrastructure_id, plugin_name, oauth_scopes, oauth_client_id,
				oauth_token_endpoint, oauth_auth_method, oauth_format, search, created_at, updated_at)
			VALUES ($1, 'api_key', 'x', '', 'active', 1, 1, '', '', '', '', '', 0, 0, 0, '[]', '[]', 0, 0, '', '', '', '', '', '[]', '', '', '', '', 'x', 1, 1) ON CONFLICT (id) DO NOTHING`, c)
		o.sql(`INSERT INTO train_links (train_id, credential_id, priority, created_at) VALUES ($1,$2,1,1)`, id, c)
	}
	return notify.Owner{ID: id, Slug: slug}
}

func to[T any](v T) *T { return &v }

func (o *office) put(of notify.Owner, kind notify.ChannelKind, p notify.TrainPatch) notify.Channel {
	o.t.Helper()
	var out notify.Channel
	require.NoError(o.t, o.db.Write(o.t.Context(), func(tx *store.Tx) (err error) {
		out, _, err = o.PutTrainChannel(tx, person{}, of, kind, p, "", func() error { return nil })
		return err
	}))
	return out
}

func secrets(pairs ...string) map[string]*secret.Value {
	out := map[string]*secret.Value{}
	for name, v := range values(pairs...) {
		out[name] = &v
	}
	return out
}

// takers returns the names of the channels that a message would go to.
func (o *office) takers(m notify.Message) []string {
	o.t.Helper()
	before := len(o.deliveries())
	o.say(m)
	var out []string
	all := o.deliveries()
	for _, d := range all[:len(all)-before] {
		out = append(out, d.ChannelName)
	}
	slices.Sort(out)
	return out
}

// TestWhoIsToldOfATrain: the channels of a train take what is about the train and about the credentials that it links, and nothing else; what is for the people of trains
// goes to no other channel that does not name it.
func TestWhoIsToldOfATrain(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		web, api := o.train("train_1", "web", "cred_1", "cred_2"), o.train("train_2", "api", "cred_2")
		o.train("train_3", "quiet", "cred_1", "cred_2")
		o.slack("ops", "https://hooks.example.com")
		o.put(web, notify.Slack, notify.TrainPatch{Secrets: secrets("url", "https://hooks.example.com/"+planted)})
		o.put(web, notify.Webhook, notify.TrainPatch{Severity: to(notify.Critical), Secrets: secrets("url", "https://hooks.example.com/"+planted, "signing_secret", signing())})
		o.put(api, notify.Slack, notify.TrainPatch{Kinds: &[]notify.Kind{notify.AccountRefused, notify.IncidentOpened}, Secrets: secrets("url", "https://hooks.example.com/"+planted)})
		about := func(kind notify.Kind, subject store.Target, more ...store.Target) notify.Message {
			return notify.Message{Kind: kind, Title: "x", Subject: subject, About: more}
		}
		credential := func(id string) store.Target { return store.Target{Kind: "credential", ID: id} }
		require.Equal(t, []string{"ops", "web slack"}, o.takers(about(notify.AccountRefused, credential("cred_1"))))
		require.Equal(t, []string{"api slack", "ops", "web slack"}, o.takers(about(notify.AccountRefused, credential("cred_2"))))
		require.Equal(t, []string{"ops"}, o.takers(about(notify.AccountRefused, credential("cred_3"))))
		require.Equal(t, []string{"ops"}, o.takers(about(notify.RecoveryUsed, store.Target{Kind: "user", ID: "cred_1"})))
		require.Equal(t, []string{"web slack"}, o.takers(about(notify.AccountCooling, credential("cred_2"))))
		require.Equal(t, []string{"ops", "web slack", "web webhook"}, o.takers(about(notify.LoginNeeded, credential("cred_1"))))
		require.Equal(t, []string{"api slack", "ops", "web slack", "web webhook"},
			o.takers(about(notify.IncidentOpened, store.Target{Kind: "incident", ID: "inc_1"}, store.Target{Kind: "train", ID: "train_1"}, credential("cred_2"), credential("cred_1"))), "each once")
		require.Equal(t, []string{"ops", "web slack", "web webhook"}, o.takers(about(notify.IncidentMoved, store.Target{Kind: "train", ID: "train_1"})))
		_, err := o.CreateChannel(t.Context(), person{}, notify.Draft{Kind: notify.Slack, Name: "cool", Kinds: []notify.Kind{notify.AccountCooling}, Secrets: values("url", "https://hooks.example.com/"+planted)})
		require.NoError(t, err)
		require.Equal(t, []string{"cool", "web slack"}, o.takers(about(notify.AccountCooling, credential("cred_2"))))
		var many []store.Target
		for i := range 5000 {
			many = append(many, credential(fmt.Sprint("cred_x", i)))
		}
		require.Equal(t, []string{"ops"}, o.takers(about(notify.IncidentMoved, store.Target{Kind: "incident", ID: "inc_1"}, many...)), "what a database takes of arguments is bounded")
	})
}

// TestAMessageIsHiddenWithItsKeys: what names a client key is of the key's train, a private one before others, and goes to the train's channel no more for it.
func TestAMessageIsHiddenWithItsKeys(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		web := o.train("train_1", "web")
		o.train("train_2", "inner")
		o.sql(`UPDATE trains SET visibility = 'private' WHERE id = 'train_2'`)
		for key, train := range map[string]string{"key_1": "train_1", "key_2": "train_2"} {
			o.sql(`INSERT INTO client_keys (id, train_id, name, preview, hash, created_by, created_at) VALUES ($1, $2, 'k', '', $3, '', 1)`, key, train, []byte(key))
		}
		o.slack("ops", "https://hooks.example.com")
		o.put(web, notify.Slack, notify.TrainPatch{Secrets: secrets("url", "https://hooks.example.com/"+planted)})
		for _, c := range []struct {
			keys []string
			want string
		}{{nil, ""}, {[]string{"key_1"}, "train_1"}, {[]string{"key_2"}, "train_2"}, {[]string{"key_1", "key_2"}, "train_2"}, {[]string{"key_3"}, ""}} {
			require.Equal(t, []string{"ops"}, o.takers(notify.Message{Kind: notify.IncidentOpened, Title: "x", Subject: store.Target{Kind: "incident", ID: "inc_1"}, Keys: c.keys}))
			var got string
			require.NoError(t, o.db.Read(t.Context(), func(tx *store.Tx) error {
				return tx.Get(&got, `SELECT train_id FROM notify_messages ORDER BY id DESC LIMIT 1`)
			}))
			require.Equal(t, c.want, got, "%v", c.keys)
		}
	})
}

// TestWhoSwitchesContentOn: what decides who is told prompts is asked for; what is sealed is bound to it, so that writing the database behind our back tells nobody.
func TestWhoSwitchesContentOn(t *testing.T) {
	each(t, func(t *testing.T, o *office) {
		r := newReceiver(t)
		web := o.train("train_1", "web")
		asked := 0
		put := func(p notify.TrainPatch, may error) error {
			return o.db.Write(t.Context(), func(tx *store.Tx) error {
				_, _, err := o.PutTrainChannel(tx, person{}, web, notify.Slack, p, "", func() error { asked++; return may })
				return err
			})
		}
		no := errors.New("no")
		address := secrets("url", r.URL+"/"+planted)
		require.ErrorIs(t, put(notify.TrainPatch{Content: to(true), Secrets: address}, no), no)
		require.NoError(t, put(notify.TrainPatch{Secrets: address}, no))
		require.NoError(t, put(notify.TrainPatch{Channel: to("#a"), Secrets: address}, no))
		require.Equal(t, 1, asked)
		require.NoError(t, put(notify.TrainPatch{Content: to(true)}, nil))
		for _, p := range []notify.TrainPatch{{Channel: to("#b")}, {Secrets: address}} {
			require.ErrorIs(t, put(p, no), no)
		}
		require.NoError(t, put(notify.TrainPatch{Icon: to(":x:")}, no))
		require.Equal(t, 4, asked)
		tried, err := o.TryTrainChannel(t.Context(), person{}, web, notify.Slack)
		require.NoError(t, err)
		require.True(t, tried.Delivered, tried.Detail)
		o.sql(`UPDATE notify_channels SET settings = REPLACE(settings, '"#a"', '"#b"')`)
		_, err = o.TryTrainChannel(t.Context(), person{}, web, notify.Slack)
		requireFault(t, err, "internal")
		require.Len(t, r.all(), 1)
	})
}
