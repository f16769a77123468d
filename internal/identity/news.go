package identity

import (
	"signalbox.dev/signalbox/internal/store"
)

// NewsKind says what there is to tell people of.
type NewsKind string

// The kinds of news.
const (
	NewsRecoveryUsed  NewsKind = "recovery_used"  // a recovery code stood in for a second factor
	NewsPasskeyCopied NewsKind = "passkey_copied" // a passkey's counter went backwards
	NewsFactorsReset  NewsKind = "factors_reset"  // somebody else removed a person's second factors
	NewsRefreshReused NewsKind = "refresh_reused" // a refresh token came twice
)

// News is something about how a person signs in that people should hear of at once: it is what a theft looks like.
type News struct {
	Kind   NewsKind
	Person User
	Caller Caller // who did it; of what nobody is known to have done, where it came from
	// About is the passkey or the session, if it is about one.
	About store.Target
	// Left is how many recovery codes are left after one was used.
	Left int
}

// tell hands news on in the transaction of what they tell of.
func (r *Room) tell(tx *store.Tx, n News) error {
	if r.cfg.Tell == nil {
		return nil
	}
	return r.cfg.Tell(tx, n)
}
