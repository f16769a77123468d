package train

import (
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Find returns a train whose keys the caller may end, by slug or id, in the transaction of whoever asks; one that they do not reach is not_found. With lock its row is locked, which
// every act on the train's keys waits for.
func Find(tx *store.Tx, caller identity.Caller, ref string, lock bool) (Train, error) {
	if lock {
		return reach(tx, caller, identity.KeyWrite, ref, tx.ForUpdate())
	}
	return reach(tx, caller, identity.KeyWrite, ref, "")
}
