package importer

import (
	"bytes"
	"encoding/json"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// addSlack keeps the Slack settings of an account, among which are secrets, as a credential of their own, unless the trains that link the account take them.
func addSlack(out *items, name string, settings json.RawMessage) error {
	var short bytes.Buffer
	if len(settings) == 0 || json.Compact(&short, settings) != nil {
		return nil
	}
	switch short.String() {
	case "null", "{}", "[]", `""`, "false":
		return nil
	}
	return out.add(item{place: "slack", slack: foreignSlack(settings), credential: &vault.Draft{
		Type: vault.Custom, Meta: vault.Meta{Name: name + " Slack", Description: "Slack settings of an account of the older proxy"},
		Secrets: map[string]secret.Value{"slack": secret.New(short.Bytes())},
	}})
}

// foreignSlack reads settings that a train can have; nil for any others.
func foreignSlack(settings json.RawMessage) *train.ForeignSlack {
	var in struct {
		Enabled   *bool  `json:"enabled"`
		URL       string `json:"webhook_url"`
		Channel   string `json:"channel"`
		Username  string `json:"username"`
		IconEmoji string `json:"icon_emoji"`
	}
	read := json.NewDecoder(bytes.NewReader(settings))
	read.DisallowUnknownFields()
	if read.Decode(&in) != nil || in.URL == "" {
		return nil
	}
	return &train.ForeignSlack{Disabled: in.Enabled != nil && !*in.Enabled, WebhookURL: secret.FromString(in.URL), Channel: in.Channel, Username: in.Username, Icon: in.IconEmoji}
}

// moveSlack gives the Slack settings of accounts that are here already to the trains that link them. What no train takes stays a credential.
func (p *plan) moveSlack(tx *store.Tx, trains *train.Room, caller identity.Caller) error {
	for n := range p.rows {
		w := &p.rows[n]
		if w.place != "slack" || w.credential == nil || w.action != Create && w.action != Duplicate {
			continue
		}
		why := "they are not of the form that a train has"
		if w.slack != nil {
			why = "no train here that you may change links the account, or each has a Slack channel"
			if account := p.rows[n-1]; account.action == Duplicate && account.other != "" { // it stands before its settings, in the same file
				taken, err := trains.TakeSlack(tx, caller, account.other, *w.slack)
				if f, is := fault.As(err); is && f.Kind == fault.Unprocessable {
					err, why = nil, fieldsOf(f)
				}
				if err != nil {
					return err
				}
				if len(taken) > 0 {
					slugs := make([]string, len(taken))
					for i, t := range taken {
						slugs[i] = t.Train
					}
					w.action, w.other, w.same, w.moved, w.id = Create, "", 0, true, taken[0].ID
					w.reason = "moved to the trains " + strings.Join(slugs, ", ") + ", whose people are told by it now"
					continue
				}
			}
		}
		if w.action == Create {
			w.reason = "kept as a credential, and nothing is sent to Slack by it: " + why + ". Link the account, then import the file again, or use signalbox train slack set TRAIN"
		}
	}
	return nil
}
