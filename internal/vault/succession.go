package vault

import (
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// Succession is what became of the refresh token of one version of an OAuth credential. It holds no secret.
type Succession struct {
	// Version is the present one, State that of the credential: active, disabled or compromised.
	Version int64
	State   Status
	// Known says that the version that was asked about is still there. Of one that is not, nothing else is said.
	Known bool
	// Same says that its refresh token is the present one, and Kept that a refresh has answered with no other one since: its provider goes on with it.
	Same, Kept bool
	// Refreshed says that a refresh has put another one in its place. Where neither this nor Same holds, a person has.
	Refreshed bool
}

// Succession compares the refresh token of a version with those of the versions after it. It checks no permission and records nothing. The faults are
// not_found and credential_tampered.
func (r *Room) Succession(tx *store.Tx, id string, version int64) (Succession, error) {
	s, err := load(tx, id, false)
	if err != nil {
		return Succession{}, err
	}
	if ok, err := r.intact(s); err != nil {
		return Succession{}, err
	} else if !ok {
		return Succession{}, fault.New(fault.Conflict, "credential_tampered", "This credential was changed outside Signalbox, so nothing is said of its tokens. Set its destinations anew, or delete it.")
	}
	out := Succession{Version: s.Version, State: s.state}
	all, err := r.refreshTokens(tx, s)
	if err != nil {
		return Succession{}, err
	}
	at := slices.IndexFunc(all, func(v keptToken) bool { return v.version == version })
	if at < 0 {
		return out, nil
	}
	out.Known = true
	last := at
	for i := at; i < len(all); i++ {
		if all[i].token.Equal(all[at].token) {
			last = i
			out.Kept = out.Kept || i > at && all[i].refreshed
		}
	}
	if out.Same = last == len(all)-1; !out.Same {
		next := all[last+1]
		out.Refreshed = next.refreshed || next.version != all[last].version+1 // only versions that refreshes made are ever dropped
	}
	return out, nil
}
