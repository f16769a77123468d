package train

import (
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// ForeignSlack are the Slack settings that another system had for an account.
type ForeignSlack struct {
	Disabled                bool
	WebhookURL              secret.Value
	Channel, Username, Icon string
}

// TakenSlack is the channel that a train was given.
type TakenSlack struct{ Train, ID string }

// slackMost bounds the trains that one account's settings move to.
const slackMost = 100

// TakeSlack gives Slack settings to the trains that link a credential and have none yet, in the transaction of an import, and returns which. Prompts and replies are not told
// by them until somebody switches that on. Whoever may not change trains gives none. What cannot be a train's settings is a fault, and nothing was changed.
func (r *Room) TakeSlack(tx *store.Tx, caller identity.Caller, credential string, s ForeignSlack) (taken []TakenSlack, err error) {
	if r.notices == nil || identity.Allow(caller, identity.TrainWrite) != nil {
		return nil, nil
	}
	var ids []string
	if err := tx.Select(&ids, `SELECT train_id FROM train_links WHERE credential_id = $1
		AND NOT EXISTS (SELECT 1 FROM notify_channels c WHERE c.train_id = train_links.train_id AND c.kind = 'slack') ORDER BY train_id LIMIT $2`, credential, slackMost); err != nil {
		return nil, err
	}
	enabled, address := !s.Disabled, s.WebhookURL
	p := notify.TrainPatch{Enabled: &enabled, Channel: &s.Channel, Icon: &s.Icon, Secrets: map[string]*secret.Value{"url": &address}}
	if s.Username != "" {
		p.Username = &s.Username
	}
	for _, id := range ids {
		t, err := reach(tx, caller, identity.TrainWrite, id, tx.ForUpdate())
		if fault.KindOf(err) == fault.NotFound { // it is others', or was deleted at this moment
			continue
		} else if err != nil {
			return nil, err
		}
		if _, err := notify.TrainChannel(tx, t.ID, notify.Slack); fault.KindOf(err) != fault.NotFound { // made meanwhile
			if err != nil {
				return nil, err
			}
			continue
		}
		c, _, err := r.notices.PutTrainChannel(tx, caller, t.owner(), notify.Slack, p, "", func() error { return r.mayExpose(caller) })
		if err != nil {
			return nil, err
		}
		tx.Change(store.TopicTrain, t.ID)
		taken = append(taken, TakenSlack{t.Slug, c.ID})
	}
	return taken, nil
}
