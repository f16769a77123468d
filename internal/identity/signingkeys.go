package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/jwt"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// SigningKeyLife is after how long another key signs our tokens.
	SigningKeyLife = 30 * 24 * time.Hour
	// KeysCachedFor is for how long others may keep the published keys.
	KeysCachedFor = 15 * time.Minute
	// publishedFor is for how long a key is published at least before it signs. It is longer than anybody keeps the published keys.
	publishedFor = time.Hour
	// retiredFor is how long a retired key verifies: the life of a token that another instance signed with it just before it heard of the change.
	retiredFor = AccessLife + jwt.Leeway + time.Minute

	signingPurpose = "jwt-signer"
	keyNext        = "next"
	keyActive      = "active"
	keyRetired     = "retired"
)

// signingKeyRow is a key that signs our own tokens: next is published and waits, active signs, retired only verifies.
type signingKeyRow struct {
	ID        string     `db:"id"`
	State     string     `db:"state"`
	Sealed    []byte     `db:"sealed"`
	CreatedAt store.Time `db:"created_at"`
	Since     store.Time `db:"since"`
}

const signingKeyColumns = `id, state, sealed, created_at, since`

func (k signingKeyRow) aad() secret.AAD {
	field := "private"
	if k.State == keyRetired {
		field = "public"
	}
	return secret.AAD{Table: "jwt_keys", ID: k.ID, Field: field, Version: 1}
}

func (k signingKeyRow) target() store.Target { return store.Target{Kind: "signing_key", ID: k.ID} }

// newSigningKey makes a key, sealed.
func (r *Room) newSigningKey(state string) (signingKeyRow, error) {
	private, err := jwt.NewPrivateKey()
	if err != nil {
		return signingKeyRow{}, err
	}
	k := signingKeyRow{ID: store.NewID("jwk"), State: state}
	k.Sealed, err = r.cfg.Ring.Seal(signingPurpose, private, k.aad())
	return k, err
}

func (r *Room) openSigner(k signingKeyRow) (jwt.Signer, error) {
	private, err := r.cfg.Ring.Open(signingPurpose, k.Sealed, k.aad())
	if err != nil {
		return jwt.Signer{}, err
	}
	return jwt.OpenSigner(k.ID, private)
}

// openKey returns what verifies. The public half comes out of what was sealed, so that nobody who only writes to the database can put one in.
func (r *Room) openKey(k signingKeyRow) (jwt.Key, error) {
	if k.State != keyRetired {
		s, err := r.openSigner(k)
		return s.Key(), err
	}
	public, err := r.cfg.Ring.Open(signingPurpose, k.Sealed, k.aad())
	if err != nil {
		return jwt.Key{}, err
	}
	return jwt.OpenPublic(k.ID, public)
}

// rotation is what the signing keys are to be changed for.
type rotation string

const (
	rotateIfDue       rotation = "due"
	rotateNow         rotation = "asked"
	rotateCompromised rotation = "compromised"
)

// errNothingDue rolls back a transaction that had nothing to do.
var errNothingDue = errors.New("identity: the signing keys are as they should be")

// RotateSigningKeys lets the next key sign from now on. Tokens that were signed before stay valid, unless the key is said to be compromised:
// then every key is replaced at once, and every access token ends (refresh tokens do not). It needs [IssuerWrite]. A next key that was not
// published for long enough is the fault "state_conflict".
func (r *Room) RotateSigningKeys(ctx context.Context, caller Caller, compromised bool) error {
	if err := r.allow(ctx, caller, IssuerWrite, store.Target{Kind: "signing_key"}); err != nil {
		return err
	}
	why := rotateNow
	if compromised {
		why = rotateCompromised
	}
	return r.changeSigningKeys(ctx, caller, why)
}

// keepSigningKeys makes the first keys, rotates them when they are old and forgets those whose last token has expired. Every instance does so:
// memory tells whether there is anything to do, and of those that think so at once, the first does it under the lock.
func (r *Room) keepSigningKeys(ctx context.Context) error {
	if r.cfg.Ring == nil || !r.web.due(r.now()) {
		return nil
	}
	err := r.changeSigningKeys(ctx, System("signing-keys"), rotateIfDue)
	if errors.Is(err, errNothingDue) {
		return nil
	}
	return err
}

func (r *Room) changeSigningKeys(ctx context.Context, caller Caller, why rotation) error {
	if err := r.cfg.Ring.Ready(); err != nil {
		return err
	}
	fresh := make([]signingKeyRow, 2) // whatever happens, no more are needed; they are made before the lock
	for i := range fresh {
		var err error
		if fresh[i], err = r.newSigningKey(keyNext); err != nil {
			return err
		}
	}
	return r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := lock(tx, "jwt_keys"); err != nil {
			return err
		}
		var rows []signingKeyRow
		if err := tx.Select(&rows, `SELECT `+signingKeyColumns+` FROM jwt_keys ORDER BY id`); err != nil {
			return err
		}
		c := keyChange{r: r, tx: tx, caller: caller, rows: rows, fresh: slices.Clone(fresh)}
		if err := c.run(why); err != nil {
			return err
		}
		if !c.did {
			return errNothingDue
		}
		tx.Change(store.TopicWebToken, "")
		return nil
	})
}

// keyChange is one change of the signing keys, under their lock.
type keyChange struct {
	r      *Room
	tx     *store.Tx
	caller Caller
	rows   []signingKeyRow
	fresh  []signingKeyRow
	did    bool
}

func (c *keyChange) run(why rotation) error {
	if _, err := c.tx.Exec(`INSERT INTO installations (id, created_at) SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM installations)`,
		store.NewID("box"), store.TimeOf(c.tx.Now())); err != nil {
		return err
	}
	now := c.tx.Now()
	if why == rotateCompromised {
		for _, k := range c.rows {
			if err := c.remove(k, "compromised"); err != nil {
				return err
			}
		}
		c.rows = nil
	}
	for _, k := range c.rows {
		if k.State == keyRetired && !now.Before(k.Since.Time().Add(retiredFor)) {
			if err := c.remove(k, "expired"); err != nil {
				return err
			}
		}
	}
	active, next := c.in(keyActive), c.in(keyNext)
	switch {
	case active == nil:
		// Nobody has kept a set without it for long: it is the first, or the ones before were thrown away.
		if err := c.add(keyActive); err != nil {
			return err
		}
	case why == rotateNow || !now.Before(active.Since.Time().Add(SigningKeyLife)):
		if next == nil || now.Before(next.CreatedAt.Time().Add(publishedFor)) {
			if why == rotateNow {
				return fault.New(fault.Conflict, "state_conflict", "The next signing key has not been published for an hour yet, so others could not verify what it signs. Wait, or say that the current key is compromised: then all are replaced, and every access token ends at once.")
			}
			break
		}
		if err := c.retire(*active); err != nil {
			return err
		}
		if err := c.set(*next, keyActive, next.Sealed); err != nil {
			return err
		}
		next = nil
	}
	if next == nil {
		return c.add(keyNext)
	}
	return nil
}

func (c *keyChange) in(state string) *signingKeyRow {
	for i := range c.rows {
		if c.rows[i].State == state {
			return &c.rows[i]
		}
	}
	return nil
}

func (c *keyChange) add(state string) error {
	k := c.fresh[0]
	c.fresh = c.fresh[1:]
	k.State, k.CreatedAt, k.Since = state, store.TimeOf(c.tx.Now()), store.TimeOf(c.tx.Now())
	if _, err := c.tx.Exec(`INSERT INTO jwt_keys (`+signingKeyColumns+`) VALUES ($1,$2,$3,$4,$5)`, k.ID, k.State, k.Sealed, k.CreatedAt, k.Since); err != nil {
		return err
	}
	return c.record(k, "made", state)
}

// retire destroys the private half.
func (c *keyChange) retire(k signingKeyRow) error {
	signer, err := c.r.openSigner(k)
	if err != nil {
		return err
	}
	public, err := signer.Public()
	if err != nil {
		return err
	}
	k.State = keyRetired
	sealed, err := c.r.cfg.Ring.Seal(signingPurpose, public, k.aad())
	if err != nil {
		return err
	}
	return c.set(k, keyRetired, sealed)
}

func (c *keyChange) set(k signingKeyRow, state string, sealed []byte) error {
	if _, err := c.tx.Exec(`UPDATE jwt_keys SET state = $1, sealed = $2, since = $3 WHERE id = $4`, state, sealed, store.TimeOf(c.tx.Now()), k.ID); err != nil {
		return err
	}
	return c.record(k, state, "")
}

func (c *keyChange) remove(k signingKeyRow, why string) error {
	if _, err := c.tx.Exec(`DELETE FROM jwt_keys WHERE id = $1`, k.ID); err != nil {
		return err
	}
	return c.record(k, "removed", why)
}

func (c *keyChange) record(k signingKeyRow, step, why string) error {
	c.did = true
	ev := c.caller.Event(store.SigningKey, k.target())
	ev.Reason = why
	ev.Details = store.Details{store.Str("step", step)}
	return c.tx.Record(ev)
}
