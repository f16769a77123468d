package identity

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// The methods on client keys run inside the transaction of the train room, which has checked the caller's permission and that the train
// exists. They record their event and announce their change.

// IssueKey makes a client key of a train and returns its secret, which is never known again. Its faults are "validation_failed" and
// "key_limit_reached".
func (r *Room) IssueKey(tx *store.Tx, caller Caller, trainID string, d KeyDraft) (Key, secret.Value, error) {
	value, session := newBearer(ClientKeyPrefix), ""
	if d.WithSession {
		var err error
		if session, d.ExpiresAt, err = r.bindToSession(tx, caller, d.ExpiresAt); err != nil {
			return Key{}, secret.Value{}, err
		}
	}
	k, err := r.addKey(tx, caller, trainID, d, session, value, preview(ClientKeyPrefix, value.Reveal()))
	if err != nil {
		return Key{}, secret.Value{}, err
	}
	return k, value, nil
}

// ImportKey takes over a client key that another system has issued, by its hash, so that agents keep theirs. Besides the faults of
// [Room.IssueKey] it may be "already_exists".
func (r *Room) ImportKey(tx *store.Tx, caller Caller, trainID string, d KeyDraft, value secret.Value) (Key, error) {
	text := value.Reveal()
	bad := func(message string) error {
		return fault.New(fault.Unprocessable, "validation_failed", "The key cannot be imported: "+message+".").With("/api_key", message)
	}
	switch {
	case len(text) < foreignMin || len(text) > bearerMax:
		return Key{}, bad("it must have " + strconv.Itoa(foreignMin) + " to " + strconv.Itoa(bearerMax) + " characters")
	case strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }):
		return Key{}, bad("it must be printable ASCII without spaces")
	case strings.HasPrefix(text, ClientKeyPrefix) && !wellFormed(ClientKeyPrefix, text):
		return Key{}, bad("it begins like a Signalbox key, but its checksum is wrong")
	case strings.HasPrefix(text, tokenPrefix), strings.HasPrefix(text, setupPrefix):
		return Key{}, bad("it is a token and not a client key")
	}
	prefix := ""
	if strings.HasPrefix(text, ClientKeyPrefix) {
		prefix = ClientKeyPrefix
	}
	return r.addKey(tx, caller, trainID, d, "", value, preview(prefix, text))
}

// NoSuchKey is what is said of a client key that a train does not have, or not for the caller.
func NoSuchKey() error {
	return fault.New(fault.NotFound, "not_found", "This train has no such client key. List its keys to see their ids.")
}

// KeyOf returns the train and the id of the client key with this secret, revoked or not, or the fault "not_found".
func (r *Room) KeyOf(tx *store.Tx, value secret.Value) (trainID, id string, err error) {
	var row struct {
		ID      string `db:"id"`
		TrainID string `db:"train_id"`
	}
	sum := digest(value.Reveal())
	err = tx.Get(&row, `SELECT id, train_id FROM client_keys WHERE hash = $1`, sum[:])
	if errors.Is(err, store.ErrNotFound) {
		return "", "", fault.New(fault.NotFound, "not_found", "There is no such client key.")
	}
	return row.TrainID, row.ID, err
}

func (r *Room) addKey(tx *store.Tx, caller Caller, trainID string, d KeyDraft, session string, value secret.Value, shown string) (Key, error) {
	name, err := validKey(tx.Now(), d.Name, d.ExpiresAt)
	if err != nil {
		return Key{}, err
	}
	d.Name = name
	if err := r.haveRoom(tx, trainID, d.Limit, 1); err != nil {
		return Key{}, err
	}
	k, err := r.insertKey(tx, caller, trainID, d, session, value, shown)
	if err != nil {
		return Key{}, err
	}
	if err := tx.Record(withKey(caller.Event(store.KeyIssue, k.Target()), k)); err != nil || !d.Bound {
		return k, err
	}
	return k, r.endLongExpired(tx, caller, trainID, k.CreatedBy)
}

func (r *Room) insertKey(tx *store.Tx, caller Caller, trainID string, d KeyDraft, session string, value secret.Value, shown string) (Key, error) {
	if d.CreatedBy == "" {
		d.CreatedBy = caller.UserID
	}
	if d.CreatedBy == "" {
		d.CreatedBy = caller.ID
	}
	row := keyRow{
		ID: store.NewID("key"), TrainID: trainID, Name: d.Name, Preview: shown, CreatedBy: d.CreatedBy, CreatedAt: store.TimeOf(tx.Now()), ExpiresAt: store.TimePtr(d.ExpiresAt),
		SessionID: session,
	}
	if d.Bound {
		row.Bound = 1
	}
	limits, _, err := patchLimits("", d.Limits)
	if err != nil {
		return Key{}, err
	}
	row.Limits = limits
	sum := digest(value.Reveal())
	if _, err := tx.Exec(`INSERT INTO client_keys (id, train_id, name, preview, hash, created_by, created_at, expires_at, limits, session_id, bound) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)`,
		row.ID, row.TrainID, row.Name, row.Preview, sum[:], row.CreatedBy, row.CreatedAt, row.ExpiresAt, row.Limits, row.SessionID, row.Bound); err != nil {
		if store.IsConflict(err) {
			return Key{}, fault.New(fault.Conflict, "already_exists", "This client key is here already. Purge it first if it was revoked, or use another one.")
		}
		return Key{}, err
	}
	tx.Change(store.TopicKey, row.ID)
	return r.key(row, tx.Now()), nil
}

func withKey(ev store.Event, k Key) store.Event {
	ev.Details = append(ev.Details, store.Str("train", k.TrainID), store.Str("preview", k.Preview))
	if k.ExpiresAt != nil {
		ev.Details = append(ev.Details, store.Str("expires_at", k.ExpiresAt.Format(store.TimeFormat)))
	}
	if k.SessionID != "" {
		ev.Details = append(ev.Details, store.Str("session", k.SessionID))
	}
	if !k.Limits.Empty() {
		ev.Details = append(ev.Details, store.Str("limits", k.Limits.Text()))
	}
	return ev
}

// lock holds up every other transaction that counts the same things, until this one ends: two that count at once would both find room.
func lock(tx *store.Tx, name string) error {
	var held string
	return tx.Get(&held, `SELECT name FROM identity_locks WHERE name = $1`+tx.ForUpdate(), name)
}

// haveRoom returns nil when so many more keys may become active. A replaced key that is still valid counts only against twice the limit.
func (r *Room) haveRoom(tx *store.Tx, trainID string, limit, more int) error {
	if limit <= 0 {
		limit = r.cfg.MaxKeysPerTrain
	}
	if err := lock(tx, "client_keys"); err != nil {
		return err
	}
	if err := fits(tx, limit, more, "This train has as many active client keys as it may have ("+strconv.Itoa(limit)+"). Revoke one that is not used, or raise the train's limit.", trainID); err != nil {
		return err
	}
	if r.cfg.MaxKeys == 0 {
		return nil
	}
	return fits(tx, r.cfg.MaxKeys, more, "This Signalbox has as many active client keys as it may have ("+strconv.Itoa(r.cfg.MaxKeys)+"). Revoke some that are not used, or have its operator raise the limit.", "")
}

func fits(tx *store.Tx, limit, more int, detail, trainID string) error {
	all, replaced, err := countActive(tx, trainID)
	if err != nil {
		return err
	}
	if all-replaced+more > limit || all+1 > 2*limit {
		return fault.New(fault.Conflict, "key_limit_reached", detail)
	}
	return nil
}

// countActive counts the active keys, and those among them that have a successor, of a train or (trainID empty) of all.
func countActive(tx *store.Tx, trainID string) (all, replaced int, err error) {
	var w store.Where
	active(&w, tx.Now())
	if trainID != "" {
		w.Add("train_id = ?", trainID)
	}
	var n struct {
		All      int `db:"n"`
		Replaced int `db:"replaced"`
	}
	err = tx.Get(&n, `SELECT COUNT(*) AS n, COUNT(replaced_by) AS replaced FROM client_keys`+w.SQL(), w.Args()...)
	return n.All, n.Replaced, err
}

func active(w *store.Where, now time.Time) {
	w.Add("revoked_at IS NULL")
	w.Add("(expires_at IS NULL OR expires_at > ?)", store.TimeOf(now))
}

// ActiveKeys counts the active keys of a train.
func (r *Room) ActiveKeys(tx *store.Tx, trainID string) (int, error) {
	all, _, err := countActive(tx, trainID)
	return all, err
}

// GetKey returns a key of the train, or the fault "not_found", which a key of another train is too.
func (r *Room) GetKey(tx *store.Tx, trainID, id string) (Key, error) {
	row, err := r.keyRow(tx, trainID, id, "")
	if err != nil {
		return Key{}, err
	}
	return r.key(row, tx.Now()), nil
}

func (r *Room) keyRow(tx *store.Tx, trainID, id, clause string) (keyRow, error) {
	var row keyRow
	err := tx.Get(&row, `SELECT `+keyColumns+` FROM client_keys WHERE id = $1 AND train_id = $2`+clause, id, trainID)
	if errors.Is(err, store.ErrNotFound) {
		return keyRow{}, NoSuchKey()
	}
	return row, err
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// ListKeys returns the keys of a train, newest first, and the cursor of the next page (empty at the end).
func (r *Room) ListKeys(tx *store.Tx, trainID string, f KeyFilter) (keys []Key, next string, err error) {
	var w store.Where
	w.Add("train_id = ?", trainID)
	if f.Of != "" {
		w.Add("created_by = ?", f.Of)
	}
	if err := narrow(&w, tx.Now(), "key", f.Status, f.Cursor); err != nil {
		return nil, "", err
	}
	size := pageSize(f.Limit)
	var rows []keyRow
	if err := tx.Select(&rows, `SELECT `+keyColumns+` FROM client_keys`+w.SQL()+` ORDER BY id DESC LIMIT `+w.Arg(size+1)+` OFFSET `+w.Arg(max(f.Skip, 0)), w.Args()...); err != nil {
		return nil, "", err
	}
	if len(rows) > size {
		rows = rows[:size]
		next = rows[size-1].ID
	}
	keys = make([]Key, 0, len(rows))
	for _, row := range rows {
		keys = append(keys, r.key(row, tx.Now()))
	}
	return keys, next, nil
}

func pageSize(limit int) int {
	if limit <= 0 {
		return defaultPage
	}
	return min(limit, maxPage)
}

// narrow adds the conditions that lists of keys and of tokens share.
func narrow(w *store.Where, now time.Time, prefix string, s Status, cursor string) error {
	switch s {
	case "":
	case StatusActive:
		active(w, now)
	case StatusExpired:
		w.Add("revoked_at IS NULL")
		w.Add("expires_at <= ?", store.TimeOf(now))
	case StatusRevoked:
		w.Add("revoked_at IS NOT NULL")
	default:
		return fault.New(fault.Unprocessable, "validation_failed", "There is no such status. Use active, expired or revoked.").With("/status", "must be active, expired or revoked")
	}
	if cursor != "" {
		if !store.ValidID(prefix, cursor) {
			return fault.New(fault.Unprocessable, "validation_failed", "The cursor is not one that this list returned. Begin the list again without a cursor.").
				With("/cursor", "is not a cursor of this list")
		}
		w.Add("id < ?", cursor)
	}
	return nil
}
