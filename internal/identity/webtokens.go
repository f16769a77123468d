package identity

import (
	"context"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/jwt"
	"signalbox.dev/signalbox/internal/store"
)

// webTokens is what memory holds to sign and verify JSON web tokens.
type webTokens struct {
	mu        sync.RWMutex
	issuer    string // who we are in our own tokens
	signer    jwt.Signer
	set       jwt.Set
	published []byte
	wake      time.Time // when the signing keys are to be looked at
	outside   map[string]*outsider
	gone      []*jwt.Remote // stopped, and waited for at the end
}

// due reports whether it is time to look at the signing keys.
func (w *webTokens) due(now time.Time) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return !now.Before(w.wake)
}

// signing returns the signer, who we are, and what verifies our tokens.
func (w *webTokens) signing() (jwt.Signer, string, jwt.Set) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.signer, w.issuer, w.set
}

// PublishedKeys returns the JWK Set of the keys that our access tokens are signed with: the active one, the next one, and those that tokens
// still rest on.
func (r *Room) PublishedKeys() ([]byte, error) {
	if !r.loaded.Load() {
		return nil, notLoaded()
	}
	r.web.mu.RLock()
	defer r.web.mu.RUnlock()
	if r.web.published == nil {
		return jwt.EncodeSet(nil)
	}
	return r.web.published, nil
}

// Issuer returns who we are in our own access tokens: the "iss" and the "aud" that others pin. It is empty before the first key was made.
func (r *Room) Issuer() string {
	_, iss, _ := r.web.signing()
	return iss
}

// webRows is what [webTokens] is made of.
type webRows struct {
	installation string
	keys         []signingKeyRow
	issuers      []issuerRow
	subjects     []subjectRow
}

func readWebTokens(tx *store.Tx) (rows webRows, err error) {
	var boxes []string
	if err := tx.Select(&boxes, `SELECT id FROM installations ORDER BY id LIMIT 1`); err != nil {
		return rows, err
	}
	if len(boxes) == 1 {
		rows.installation = boxes[0]
	}
	if err := tx.Select(&rows.keys, `SELECT `+signingKeyColumns+` FROM jwt_keys ORDER BY id`); err != nil {
		return rows, err
	}
	if err := tx.Select(&rows.issuers, `SELECT `+issuerColumns+` FROM jwt_issuers ORDER BY id`); err != nil {
		return rows, err
	}
	return rows, tx.Select(&rows.subjects, `SELECT issuer_id, subject, user_id FROM jwt_subjects ORDER BY issuer_id, subject`)
}

// reloadWebTokens reads keys and issuers anew; there are few.
func (r *Room) reloadWebTokens(tx *store.Tx) error {
	rows, err := readWebTokens(tx)
	if err != nil {
		return err
	}
	r.takeWebTokens(rows)
	return nil
}

// issuerOf says who we are in our tokens; "" while the database keeps no name.
func (r *Room) issuerOf(rows webRows) string {
	if u := r.cfg.PublicURL; u != nil {
		return u.String()
	}
	if rows.installation == "" {
		return ""
	}
	return "urn:signalbox:" + rows.installation
}

// takeWebTokens swaps the memory. A key that does not open is left out and told to the log: the instance must go on serving everybody else.
func (r *Room) takeWebTokens(rows webRows) {
	issuer := r.issuerOf(rows)
	var keys []jwt.Key
	var signer jwt.Signer
	var wake time.Time
	sooner := func(at time.Time) {
		if wake.IsZero() || at.Before(wake) {
			wake = at
		}
	}
	for _, row := range rows.keys {
		if r.cfg.Ring == nil {
			break
		}
		key, err := r.openKey(row)
		if err == nil && row.State == keyActive {
			signer, err = r.openSigner(row)
		}
		if err != nil {
			r.cfg.Log.Error("a key that signs access tokens does not open; tokens that it signed are refused", "key", row.ID)
			continue
		}
		switch row.State {
		case keyActive:
			sooner(row.Since.Time().Add(SigningKeyLife))
		case keyRetired:
			sooner(row.Since.Time().Add(retiredFor))
		}
		keys = append(keys, key)
	}
	set, err := jwt.NewSet(keys...)
	published, err2 := jwt.EncodeSet(keys)
	if err != nil || err2 != nil {
		r.cfg.Log.Error("the keys that sign access tokens cannot be used together", "keys", len(keys))
		set, published = jwt.Set{}, nil
	}
	r.web.mu.Lock()
	before := r.web.outside
	after := r.outsiders(rows, before)
	r.web.issuer, r.web.signer, r.web.set, r.web.published, r.web.wake, r.web.outside = issuer, signer, set, published, wake, after
	for id, o := range before {
		if kept := after[id]; o.remote != nil && (kept == nil || kept.remote != o.remote) {
			o.remote.Stop() // the news must not wait for what is under way
			r.web.gone = append(r.web.gone, o.remote)
		}
	}
	r.web.mu.Unlock()
}

// closeWebTokens ends whatever is still being fetched.
func (r *Room) closeWebTokens() {
	r.web.mu.Lock()
	gone := r.web.gone
	for _, o := range r.web.outside {
		if o.remote != nil {
			gone = append(gone, o.remote)
		}
	}
	r.web.gone, r.web.outside = nil, nil
	r.web.mu.Unlock()
	for _, remote := range gone {
		remote.Close()
	}
	if r.outgoing != nil {
		r.outgoing.CloseIdleConnections()
	}
}

// firstSigningKeys makes the keys at the start, so that they are published before anything is signed.
func (r *Room) firstSigningKeys(ctx context.Context) {
	if err := r.keepSigningKeys(ctx); err != nil {
		// Not fatal: they are made when somebody signs in.
		r.cfg.Log.Warn("the keys that sign access tokens could not be made yet")
	}
}
