package identity

import (
	"sort"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
)

// PersonLimits returns the limits of the person who made a client key, nil for none. It reads memory only, and nothing at all while nobody has limits.
func (r *Room) PersonLimits(id string) *quota.Limits {
	if id == "" || r.limited.Load() == 0 {
		return nil
	}
	r.peopleMu.RLock()
	defer r.peopleMu.RUnlock()
	return r.people[id].limits
}

// countLimited counts the people with limits. The caller holds peopleMu.
func (r *Room) countLimited() {
	n := int64(0)
	for _, p := range r.people {
		if p.limits != nil {
			n++
		}
	}
	r.limited.Store(n)
}

// personBehind is the person who made a key, or nobody: what a service account or a chore made has none.
func personBehind(createdBy string) string {
	if strings.HasPrefix(createdBy, "user_") {
		return createdBy
	}
	return ""
}

// patchLimits returns limits after a patch, as they are stored, and the names of what changed.
func patchLimits(text string, p *quota.Patch) (next string, changed []string, err error) {
	if p == nil {
		return text, nil, nil
	}
	if err := BadLimits(p); err != nil {
		return text, nil, err
	}
	l, changed := p.Apply(quota.Parse(text))
	return l.Text(), changed, nil
}

// BadLimits returns the fault of a patch of limits that is not valid.
func BadLimits(p *quota.Patch) error {
	if p == nil {
		return nil
	}
	bad := p.Fields()
	if len(bad) == 0 {
		return nil
	}
	f := fault.New(fault.Unprocessable, "validation_failed", "The limits are not valid; see the errors.")
	names := make([]string, 0, len(bad))
	for name := range bad {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		f = f.With("/limits/"+name, bad[name])
	}
	return f
}

// BeginBudget takes into the counts of a train, a client key or a person what they have used in this month, when they get their first budget of a month.
func (r *Room) BeginBudget(tx *store.Tx, subject string, was, is *quota.Limits) error {
	if r.cfg.Spent == nil || budgeted(was) || !budgeted(is) {
		return nil
	}
	tokens, cost, err := r.cfg.Spent(tx, subject)
	if err != nil {
		return err
	}
	return tx.ChangeCounts(subject, func(s *quota.State) { s.Begin(tx.Now(), tokens, cost) })
}

// Limited names the client key or the person whose limit it is, as people are told of it, and the train of a key. One that is gone is [store.ErrNotFound].
func (r *Room) Limited(tx *store.Tx, subject string) (target store.Target, who, trainID string, err error) {
	var row struct {
		Name  string `db:"name"`
		Train string `db:"train_id"`
	}
	if store.ValidID("key", subject) {
		err = tx.Get(&row, `SELECT name, train_id FROM client_keys WHERE id = $1`, subject)
		return store.Target{Kind: "client_key", ID: subject, Name: row.Name}, "The client key " + row.Name, row.Train, err
	}
	err = tx.Get(&row, `SELECT name, '' AS train_id FROM users WHERE id = $1`, subject)
	return store.Target{Kind: "user", ID: subject, Name: row.Name}, row.Name, "", err
}

func budgeted(l *quota.Limits) bool {
	_, tokens := l.Of(quota.MonthlyTokens)
	_, money := l.Of(quota.MonthlyCost)
	return tokens || money
}
