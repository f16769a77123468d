package train

import "signalbox.dev/signalbox/internal/store"

// Find returns a train by slug or id, in the transaction of whoever asks, who has checked the caller's permission. With lock its row is locked, which every
// act on the train's keys waits for.
func Find(tx *store.Tx, ref string, lock bool) (Train, error) {
	if lock {
		return find(tx, ref, tx.ForUpdate())
	}
	return find(tx, ref, "")
}
