package oauth

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// connection is what the database knows of the refreshing of one credential.
type connection struct {
	standing
	credential string
	generation int64
	mark       []byte
	health     vault.Health
	// claim is the last one; it is in force while the state is held, and its holder may still bring an answer while it is uncertain.
	claim      string
	claimUntil time.Time
	attempts   int64
	attempted  time.Time
	code       string
	refreshed  time.Time
	stored     bool
}

type connectionRow struct {
	ID          string     `db:"credential_id"`
	Generation  int64      `db:"generation"`
	Mark        []byte     `db:"mark"`
	State       string     `db:"state"`
	Health      string     `db:"health"`
	Claim       string     `db:"claim_id"`
	ClaimUntil  store.Time `db:"claim_until"`
	Attempts    int64      `db:"attempts"`
	AttemptedAt store.Time `db:"attempted_at"`
	FirstAt     store.Time `db:"first_at"`
	CoolUntil   store.Time `db:"cool_until"`
	SafeAt      store.Time `db:"safe_at"`
	RejectedAt  store.Time `db:"rejected_at"`
	Failures    int        `db:"failures"`
	Code        string     `db:"code"`
	RefreshedAt store.Time `db:"refreshed_at"`
}

const connectionColumns = `credential_id, generation, mark, state, health, claim_id, claim_until, attempts, attempted_at, first_at, cool_until, safe_at, rejected_at,
	failures, code, refreshed_at`

// loadConnection reads a connection; one that was never refreshed is ready. An unknown state is an error.
func loadConnection(tx *store.Tx, id string) (connection, error) {
	var w connectionRow
	err := tx.Get(&w, `SELECT `+connectionColumns+` FROM oauth_connections WHERE credential_id = $1`, id)
	if errors.Is(err, store.ErrNotFound) {
		return untouched(id), nil
	}
	if err != nil {
		return connection{}, err
	}
	return w.connection()
}

// loadConnections reads those of many credentials at once.
func loadConnections(tx *store.Tx, ids []string) (map[string]connection, error) {
	out := make(map[string]connection, len(ids))
	if len(ids) == 0 {
		return out, nil
	}
	args, marks := make([]any, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		args[i], marks[i] = id, "$"+strconv.Itoa(i+1)
		out[id] = untouched(id)
	}
	var rows []connectionRow
	if err := tx.Select(&rows, `SELECT `+connectionColumns+` FROM oauth_connections WHERE credential_id IN (`+strings.Join(marks, ",")+`)`, args...); err != nil {
		return nil, err
	}
	for i := range rows {
		c, err := rows[i].connection()
		if err != nil {
			return nil, err
		}
		out[c.credential] = c
	}
	return out, nil
}

// untouched is a connection that was never refreshed.
func untouched(id string) connection {
	return connection{credential: id, standing: standing{State: Ready}, health: vault.Healthy}
}

func (w *connectionRow) connection() (connection, error) {
	c := connection{
		standing: standing{State: State(w.State), Failures: w.Failures, CoolUntil: instant(w.CoolUntil), SafeAt: instant(w.SafeAt), RejectedAt: instant(w.RejectedAt),
			FirstAt: instant(w.FirstAt)},
		credential: w.ID, generation: w.Generation, mark: w.Mark, health: vault.Health(w.Health), claim: w.Claim, claimUntil: instant(w.ClaimUntil), attempts: w.Attempts,
		attempted: instant(w.AttemptedAt), code: w.Code, refreshed: instant(w.RefreshedAt), stored: true,
	}
	if !slices.Contains(States(), c.State) {
		return connection{}, fmt.Errorf("the connection of %s is in a state that this version does not know", w.ID)
	}
	return c, nil
}

// save stores the connection, if it is still the one that was read: of the claim before, in the generation before. It announces a change of health.
func (c *connection) save(tx *store.Tx, before connection) error {
	// While an overtaken pair is tried the account needs a login as before, and people know.
	if h := c.State.health(); h != "" && !(c.State == Recovering && before.health == vault.NeedsLogin) {
		c.health = h
	}
	args := []any{c.credential, c.generation, c.mark, string(c.State), string(c.health), c.claim, micros(c.claimUntil), c.attempts, micros(c.attempted), micros(c.FirstAt),
		micros(c.CoolUntil), micros(c.SafeAt), micros(c.RejectedAt), c.Failures, c.code, micros(c.refreshed), store.TimeOf(tx.Now())}
	query := `INSERT INTO oauth_connections (` + connectionColumns + `, updated_at) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)`
	if before.stored {
		query = `UPDATE oauth_connections SET generation = $2, mark = $3, state = $4, health = $5, claim_id = $6, claim_until = $7, attempts = $8, attempted_at = $9,
			first_at = $10, cool_until = $11, safe_at = $12, rejected_at = $13, failures = $14, code = $15, refreshed_at = $16, updated_at = $17
			WHERE credential_id = $1 AND generation = $18 AND claim_id = $19 AND state = $20`
		args = append(args, before.generation, before.claim, string(before.State))
	}
	n, err := tx.Exec(query, args...)
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("the connection of %s changed under its lock", c.credential)
	}
	if c.health != before.health || c.generation != before.generation {
		tx.Change(store.TopicCredential, c.credential)
	}
	c.stored = true
	return nil
}

// align brings the connection to the credential's current version. A person's new refresh token ends whatever was known of the old one. A
// version with the same one goes on with what is known while that matters, and starts anew otherwise: what was wrong may have been mended.
func (c *connection) align(g vault.RefreshGrant) error {
	if c.generation == g.Version {
		return nil
	}
	same := false
	if c.stored {
		var err error
		if same, err = g.Marked(c.mark); err != nil {
			return err
		}
	}
	if same && (c.State.held() || c.State == Uncertain) {
		c.generation = g.Version
		return nil
	}
	mark, err := g.Mark()
	if err != nil {
		return err
	}
	c.generation, c.mark, c.claim, c.claimUntil, c.code, c.attempts = g.Version, mark, "", time.Time{}, "", 0
	c.standing = standing{State: Ready}
	return nil
}

// mended starts a connection anew whose client the provider has refused, when somebody has set anything of that client since, in the provider or in
// the credential: it may be the right one now. Of the token itself, which is refused by invalid_grant, that says nothing.
func (c *connection) mended(changed time.Time) {
	if c.State == Lost && !c.refused() && changed.After(c.attempted) {
		c.standing, c.code = standing{State: Ready}, ""
	}
}

func instant(t store.Time) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return t.Time()
}

func micros(t time.Time) store.Time {
	if t.IsZero() {
		return 0
	}
	return store.TimeOf(t)
}
