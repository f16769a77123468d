package train

import "strings"

// Told is what may be told of a lease: names and ids.
type Told struct {
	TrainID, Train string // the train's id and slug
	KeyID, Key     string // of the client key, and what it is called
	Account        string
	Model          string // that was asked for
	Request        string
}

// Told returns whose the lease is.
func (l *Lease) Told() Told {
	c := &l.trip.caller
	return Told{TrainID: c.TrainID, Train: l.room.Slug(c.TrainID), KeyID: c.ID, Key: c.Name, Account: l.account.name, Model: l.trip.want.Model, Request: c.RequestID}
}

// Slug returns the slug of a train by its id, from memory; the id itself for one that is not known.
func (r *Room) Slug(id string) string {
	if on := r.lines.Load().lines.get(id); on != nil {
		return on.Slug
	}
	return id
}

// hideLeast is how long a secret must be to be looked for: a shorter one would be found in any text.
const hideLeast = 6

// Hide takes what was lent out of a text.
func (l *Lease) Hide(text string) string {
	key := strings.TrimPrefix(l.account.header.Reveal(), "Bearer ")
	if len(key) < hideLeast {
		return text
	}
	return strings.ReplaceAll(text, key, "[redacted: the credential that was lent]")
}

// Lent reports whether a text that an upstream sent back holds the credential that was lent to it. Such a text may be kept nowhere.
func (l *Lease) Lent(text string) bool { return l.account.lentIn(text) }

// TrainID returns the id of the train that the lease is of.
func (l *Lease) TrainID() string { return l.trip.caller.TrainID }
