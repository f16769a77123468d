package api

import (
	"context"
	"net/http"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/vault"
)

func (s *service) addLending() {
	const tag = "credentials"
	for _, act := range []struct {
		name, summary, description string
		to                         vault.LendingState
	}{
		{"pause", "Lend an account to nobody", "Wherever it is linked. Running requests are cut within a second, on every instance; its tokens are kept fresh, and status, links and cool-downs stay as they are.", vault.Paused},
		{"drain", "Lend an account to no new request", "Wherever it is linked. Running requests finish; the explanation of a train says how many there are at the instance that answers.", vault.Drained},
		{"resume", "Lend a paused or drained account again", "One that is disabled, compromised or expired is refused, since it would not be lent.", vault.Lent},
	} {
		add(s, route{method: http.MethodPost, path: "/api/credentials/{id}/" + act.name, id: act.name + "-account", summary: act.summary, description: act.description, tag: tag,
			access: string(identity.CredentialWrite), again: s.again(identity.CredentialWrite, act.name)}, s.setLending(act.to))
	}
}

func (s *service) setLending(to vault.LendingState) func(context.Context, identity.Caller, *lendingIn) (*credentialAnswer, error) {
	return func(ctx context.Context, caller identity.Caller, in *lendingIn) (*credentialAnswer, error) {
		return credentialOut(s.Vault.SetLending(ctx, caller, in.ID, to, in.Body.Reason))
	}
}

type lendingIn struct {
	ByID
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"500" doc:"Recorded in the audit log, and shown with the account until it is lent again."`
	} `nameHint:"LendingRequest"`
}

// shownLending is how the lending of an account goes out; nothing while it is lent as usual.
func shownLending(l vault.Lending) *client.Lending {
	if l.State == vault.Lent {
		return nil
	}
	state := vault.Paused // what is not known counts as that
	if l.State == vault.Drained {
		state = vault.Drained
	}
	return &client.Lending{State: string(state), Reason: l.Reason, By: l.By, Since: l.Since}
}
