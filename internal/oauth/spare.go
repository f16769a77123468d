package oauth

import (
	"context"
	"slices"

	"signalbox.dev/signalbox/internal/store"
)

// Overtaken pairs came too late: something newer is stored. Each is kept for the day on which the provider refuses that.

// setAside keeps an overtaken pair for the day on which the provider refuses what is stored. One without a refresh token is of no use then.
func (r *Room) setAside(s spill) error {
	if s.refresh.IsZero() {
		return r.spills.remove(s)
	}
	s, err := r.spills.setAside(s)
	r.mu.Lock()
	r.spare[s.credential] = append(r.spare[s.credential], s)
	r.mu.Unlock()
	r.log.Warn("a refreshed token came too late: a newer one is stored; it is kept, sealed, in case the provider refuses that", "credential", s.credential, "generation", s.generation)
	r.poke()
	return err
}

// untried returns an overtaken pair of a credential that this process holds, or nil.
func (r *Room) untried(credential string) *spill {
	r.mu.Lock()
	defer r.mu.Unlock()
	if list := r.spare[credential]; len(list) > 0 {
		s := list[len(list)-1]
		return &s
	}
	return nil
}

// withhold takes an overtaken pair from those that are tried. Its file stays.
func (r *Room) withhold(credential, claimID string) (s spill, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.spare[credential]
	i := slices.IndexFunc(list, func(s spill) bool { return s.claim == claimID })
	if i < 0 {
		return spill{}, false
	}
	s = list[i]
	if list = slices.Delete(slices.Clone(list), i, i+1); len(list) == 0 {
		delete(r.spare, credential)
	} else {
		r.spare[credential] = list
	}
	return s, true
}

// drop forgets an overtaken pair and removes its file.
func (r *Room) drop(credential, claimID string) {
	if s, held := r.withhold(credential, claimID); held {
		r.discard(s)
	}
}

// discard removes the file of an overtaken pair that was withheld.
func (r *Room) discard(s spill) {
	if err := r.spills.remove(s); err != nil {
		r.log.Warn("the file of an overtaken token could not be removed", "credential", s.credential, "cause", err)
	}
}

// keeps reports whether this process still holds an overtaken pair: it may have been used up, refused or dropped since it was thought of.
func (r *Room) keeps(s spill) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.spare[s.credential], func(x spill) bool { return x.claim == s.claim })
}

// tend looks after the overtaken pairs: those of credentials that are gone, or for which a person has stored something newer, are dropped; one
// whose connection needs a login is tried.
func (r *Room) tend() {
	r.mu.Lock()
	var pairs []spill
	for _, list := range r.spare {
		pairs = append(pairs, list[len(list)-1])
	}
	r.mu.Unlock()
	for _, s := range pairs {
		ctx, cancel := context.WithTimeout(r.base, settlePatience)
		use, refused, err := r.worth(ctx, s)
		cancel()
		switch {
		case err != nil:
		case !use:
			r.drop(s.credential, s.claim)
		case refused:
			r.background(want{credential: s.credential, on: Found, caller: chore(), spare: &s})
		}
	}
}

// worth reports whether an overtaken pair may still be of use, and whether the provider has refused the stored token.
func (r *Room) worth(ctx context.Context, s spill) (use, refused bool, err error) {
	err = r.db.Read(ctx, func(tx *store.Tx) error {
		c, err := loadConnection(tx, s.credential)
		if err != nil {
			return err
		}
		newest, err := r.vault.NewestByPerson(tx, s.credential)
		if err != nil {
			return err
		}
		use, refused = false, c.refused()
		if newest == 0 {
			return nil // the credential is gone
		}
		anew, err := r.vault.NewLogin(tx, s.credential, s.generation)
		use = !anew
		return err
	})
	return use, refused, err
}

// refused reports whether the provider has refused the token itself. A refusal of the client says nothing of it, and would meet an overtaken pair too.
func (c *connection) refused() bool { return c.State == Lost && c.code == codeInvalidGrant }
