package train

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unique"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
)

// Train is a project or workload whose agents use credentials.
type Train struct {
	ID          string
	Slug        string // the train_id of the API; it never changes
	Name        string
	Description string
	Strategy    Strategy
	Disabled    bool          // nothing is lent to a disabled train
	KeyLimit    int           // active client keys; 0 means the server's default
	Limits      *quota.Limits // what all its client keys may use together; nil for no limits
	// DefaultAccount is the credential that is tried before all others, as long as it can be used; "" for none.
	DefaultAccount string
	// Visibility says who reaches it, see [Members].
	Visibility identity.Visibility
	Links      int // how many credentials are linked
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Revision   int64 // counts the changes of the settings
}

// ETag is the validator of this state of the train's settings and of the number of its links (RFC 9110, section 8.8.3).
func (t Train) ETag() string {
	tag := `"` + strconv.FormatInt(t.Revision, 10) + "-" + strconv.Itoa(t.Links)
	if t.DefaultAccount != "" { // it goes with its link, which changes no setting
		tag += "-" + t.DefaultAccount
	}
	return tag + `"`
}

// unless returns the fault etag_mismatch when the caller has seen another state of the train.
func (t Train) unless(ifMatch string) error {
	if etag.Match(ifMatch, t.ETag()) {
		return nil
	}
	return fault.New(fault.Precondition, "etag_mismatch", "The train was changed since it was read. Read it again, then repeat the change.")
}

func (t Train) target() store.Target { return store.Target{Kind: "train", ID: t.ID, Name: t.Slug} }

// Draft is a train to be made.
type Draft struct {
	Slug        string // 1 to 64 of letters, digits, dot, dash and underscore
	Name        string // "" means the slug
	Description string
	Strategy    Strategy // "" means [Hash]
	Disabled    bool
	KeyLimit    int
	Limits      *quota.Patch
	// Visibility is who reaches it; "" means the organisation. Whoever makes a private train owns it.
	Visibility identity.Visibility
}

// Patch changes a train's settings; nil leaves a setting as it is.
type Patch struct {
	Name        *string
	Description *string
	Strategy    *Strategy
	Disabled    *bool
	KeyLimit    *int
	Limits      *quota.Patch
	// DefaultAccount names a linked account by id, account id or name; "" none.
	DefaultAccount *string
	Visibility     *identity.Visibility
}

// Filter narrows a list of trains. Limit 0 means 100, and more than 1000 means 1000.
type Filter struct {
	Q      string // part of the slug or the name, in any case
	Limit  int
	Cursor string // what the page before returned
	Skip   int
}

const (
	listDefault = 100
	listMax     = 1000
	keyLimitMax = 10_000
	longestQ    = 200
	trainColumn = `t.id, t.slug, t.name, t.description, t.strategy, t.disabled, t.key_limit, t.created_at, t.updated_at, t.revision, t.limits, t.visibility,
		COALESCE((SELECT d.credential_id FROM train_links d WHERE d.train_id = t.id AND d.is_default = 1), '') AS default_account`
	trainCount = `, (SELECT COUNT(*) FROM train_links l WHERE l.train_id = t.id) AS links`
)

type trainRow struct {
	ID          string     `db:"id"`
	Slug        string     `db:"slug"`
	Name        string     `db:"name"`
	Description string     `db:"description"`
	Strategy    string     `db:"strategy"`
	Disabled    bool       `db:"disabled"`
	KeyLimit    int        `db:"key_limit"`
	CreatedAt   store.Time `db:"created_at"`
	UpdatedAt   store.Time `db:"updated_at"`
	Revision    int64      `db:"revision"`
	Limits      string     `db:"limits"`
	Links       int        `db:"links"`
	Default     string     `db:"default_account"`
	Visibility  string     `db:"visibility"`
}

func (r trainRow) train() Train {
	return Train{ID: r.ID, Slug: r.Slug, Name: r.Name, Description: r.Description, Strategy: unique.Make(Strategy(r.Strategy)).Value(), Disabled: r.Disabled,
		KeyLimit: r.KeyLimit, Links: r.Links, DefaultAccount: r.Default, CreatedAt: r.CreatedAt.Time(), UpdatedAt: r.UpdatedAt.Time(), Revision: r.Revision, Limits: quota.Parse(r.Limits),
		Visibility: visible(r.Visibility)}
}

// CreateTrain makes a train. It needs trains:write; a taken slug is already_exists.
func (r *Room) CreateTrain(ctx context.Context, caller identity.Caller, d Draft) (Train, error) {
	if d.Strategy == "" {
		d.Strategy = Hash
	}
	if strings.TrimSpace(d.Name) == "" {
		d.Name = d.Slug
	}
	if err := r.allow(ctx, caller, store.TrainCreate, store.Target{Kind: "train"}, identity.TrainWrite); err != nil {
		return Train{}, err
	}
	t := Train{Slug: d.Slug, Name: d.Name, Description: d.Description, Strategy: d.Strategy, Disabled: d.Disabled, KeyLimit: d.KeyLimit, Revision: 1, Visibility: cmp.Or(d.Visibility, identity.OfOrganisation)}
	if d.Limits != nil {
		if err := identity.BadLimits(d.Limits); err != nil {
			return Train{}, err
		}
		t.Limits, _ = d.Limits.Apply(nil)
	}
	if err := t.check(true); err != nil {
		return Train{}, err
	}
	if t.Visibility == identity.PrivateTrain && caller.UserID == "" {
		return Train{}, errNobodyOwns()
	}
	err := r.db.Write(ctx, func(tx *store.Tx) error {
		if err := t.insert(tx, caller); err != nil || t.Visibility != identity.PrivateTrain {
			return err
		}
		return t.own(tx, caller)
	})
	if store.IsConflict(err) { // also by a private train that the caller does not reach, and in the same words
		return Train{}, fault.New(fault.Conflict, "already_exists", "This train_id is taken. Choose another, or use the train that is there.").
			With("/train_id", "is taken")
	}
	if err != nil {
		return Train{}, err
	}
	return t, nil
}

// insert stores a new train and records that.
func (t *Train) insert(tx *store.Tx, caller identity.Caller) error {
	t.ID = store.NewID("train")
	t.CreatedAt, t.UpdatedAt = tx.Now(), tx.Now()
	now := store.TimeOf(tx.Now())
	if _, err := tx.Exec(`INSERT INTO trains (id, slug, name, description, strategy, disabled, key_limit, created_at, updated_at, revision, limits, visibility)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)`, t.ID, t.Slug, t.Name, t.Description, string(t.Strategy), flag(t.Disabled), t.KeyLimit, now, now, t.Revision, t.Limits.Text(), string(t.Visibility)); err != nil {
		return err
	}
	tx.Change(store.TopicTrain, t.ID)
	ev := caller.Event(store.TrainCreate, t.target())
	ev.Details = store.Details{store.Str("strategy", string(t.Strategy))}
	if t.Visibility != identity.OfOrganisation {
		ev.Details = append(ev.Details, store.Str("visibility", string(t.Visibility)))
	}
	if !t.Limits.Empty() {
		ev.Details = append(ev.Details, store.Str("limits", t.Limits.Text()))
	}
	return tx.Record(ev)
}

// GetTrain returns a train by slug or id. It needs trains:read.
func (r *Room) GetTrain(ctx context.Context, caller identity.Caller, ref string) (Train, error) {
	var t Train
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		t, err = reach(tx, caller, identity.TrainRead, ref, "")
		return err
	})
	return t, err
}

// ListTrains returns trains in the order of their slugs, and the cursor of the next page, "" at the end. It needs trains:read.
func (r *Room) ListTrains(ctx context.Context, caller identity.Caller, f Filter) ([]Train, string, error) {
	if _, err := identity.Within(caller, identity.TrainRead); err != nil {
		return nil, "", err
	}
	limit := f.Limit
	if limit <= 0 {
		limit = listDefault
	}
	limit = min(limit, listMax)
	if utf8.RuneCountInString(f.Q) > longestQ {
		return nil, "", fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/q", "must be at most 200 characters")
	}
	var w store.Where
	if f.Q != "" {
		like := store.Like(strings.ToLower(f.Q))
		w.Add(`(LOWER(t.slug) LIKE ? ESCAPE '\' OR LOWER(t.name) LIKE ? ESCAPE '\')`, like, like)
	}
	if f.Cursor != "" {
		after, err := base64.RawURLEncoding.DecodeString(f.Cursor)
		// The decoder passes over line ends, so the text is compared too.
		if err != nil || !validSlug(string(after)) || base64.RawURLEncoding.EncodeToString(after) != f.Cursor {
			return nil, "", fault.New(fault.Unprocessable, "validation_failed", "The cursor is not one that this list returned. Begin the list again without a cursor.").
				With("/cursor", "is not a cursor of this list")
		}
		w.Add(`t.slug > ?`, string(after))
	}
	var rows []trainRow
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		sees, err := identity.ReachOfTrains(tx, caller, identity.TrainRead)
		if err != nil {
			return err
		}
		w := w.Clone() // PostgreSQL may run this again
		sees.Narrow(w, `t.id`)
		query := `SELECT ` + trainColumn + trainCount + ` FROM trains t` + w.SQL() + ` ORDER BY t.slug LIMIT ` + w.Arg(limit+1) + ` OFFSET ` + w.Arg(max(f.Skip, 0))
		rows = rows[:0]
		return tx.Select(&rows, query, w.Args()...)
	})
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = base64.RawURLEncoding.EncodeToString([]byte(rows[limit-1].Slug))
	}
	out := make([]Train, len(rows))
	for i, row := range rows {
		out[i] = row.train()
	}
	return out, next, nil
}

// UpdateTrain changes a train's settings. It needs trains:write, and to change who reaches it a fresh proof in a session. With ifMatch, the train must still have that
// ETag. Disabling a train cuts its leases.
func (r *Room) UpdateTrain(ctx context.Context, caller identity.Caller, ref string, p Patch, ifMatch string) (Train, error) {
	if err := r.allow(ctx, caller, store.TrainUpdate, named(ref), identity.TrainWrite); err != nil {
		return Train{}, err
	}
	var t Train
	var verdict error
	var target store.Target
	err := r.db.Write(ctx, func(tx *store.Tx) (err error) {
		if t, err = reach(tx, caller, identity.TrainWrite, ref, tx.ForUpdate()); err != nil {
			return err
		}
		if err := t.unless(ifMatch); err != nil {
			return err
		}
		if err := identity.BadLimits(p.Limits); err != nil {
			return err
		}
		was := t.Limits
		changed := p.apply(&t)
		verdict = nil
		if opened, err := r.show(tx, caller, &t, p.Visibility); err != nil {
			if f := fault.Of(err); f.Kind == fault.Forbidden {
				verdict, target = err, t.target()
			}
			return err
		} else if opened {
			changed = append(changed, "visibility")
		}
		if err := t.check(false); err != nil {
			return err
		}
		if err := r.keys.BeginBudget(tx, t.ID, was, t.Limits); err != nil {
			return err
		}
		if p.DefaultAccount != nil {
			was := t.DefaultAccount
			if err := r.setDefault(tx, &t, *p.DefaultAccount); err != nil {
				return err
			}
			if t.DefaultAccount != was {
				changed = append(changed, "default_account")
			}
		}
		t.UpdatedAt = tx.Now()
		t.Revision++
		if _, err := tx.Exec(`UPDATE trains SET name = $1, description = $2, strategy = $3, disabled = $4, key_limit = $5, updated_at = $6, revision = $7, limits = $8, visibility = $9 WHERE id = $10`,
			t.Name, t.Description, string(t.Strategy), flag(t.Disabled), t.KeyLimit, store.TimeOf(t.UpdatedAt), t.Revision, t.Limits.Text(), string(t.Visibility), t.ID); err != nil {
			return err
		}
		tx.Change(store.TopicTrain, t.ID)
		ev := caller.Event(store.TrainUpdate, t.target())
		ev.Fields = changed
		ev.Details = store.Details{store.Str("strategy", string(t.Strategy)), store.Bool("disabled", t.Disabled), store.Str("default_account", t.DefaultAccount)}
		if p.Limits != nil {
			ev.Details = append(ev.Details, store.Str("limits", t.Limits.Text()))
		}
		if p.Visibility != nil {
			ev.Details = append(ev.Details, store.Str("visibility", string(t.Visibility)))
		}
		return tx.Record(ev)
	})
	if verdict != nil {
		return Train{}, errors.Join(r.recordRefusal(ctx, caller, target, verdict, store.Str("act", string(store.TrainUpdate)), store.Str("visibility", string(*p.Visibility))), verdict)
	}
	if err != nil {
		return Train{}, err
	}
	return t, nil
}

func (p Patch) apply(t *Train) (changed []string) {
	if p.Name != nil && *p.Name != t.Name {
		t.Name, changed = *p.Name, append(changed, "name")
	}
	if p.Description != nil && *p.Description != t.Description {
		t.Description, changed = *p.Description, append(changed, "description")
	}
	if p.Strategy != nil && *p.Strategy != t.Strategy {
		t.Strategy, changed = *p.Strategy, append(changed, "strategy")
	}
	if p.Disabled != nil && *p.Disabled != t.Disabled {
		t.Disabled, changed = *p.Disabled, append(changed, "disabled")
	}
	if p.KeyLimit != nil && *p.KeyLimit != t.KeyLimit {
		t.KeyLimit, changed = *p.KeyLimit, append(changed, "key_limit")
	}
	if p.Limits != nil {
		limits, fields := p.Limits.Apply(t.Limits)
		t.Limits, changed = limits, append(changed, fields...)
	}
	return changed
}

// DeleteTrain deletes a train with its links and client keys, and cuts its leases. It needs trains:write. A train that still has links or
// active keys is train_in_use unless force is set, for then it stops running agents. With ifMatch, the train must still have that ETag.
func (r *Room) DeleteTrain(ctx context.Context, caller identity.Caller, ref string, force bool, ifMatch string) error {
	if err := r.allow(ctx, caller, store.TrainDelete, named(ref), identity.TrainWrite); err != nil {
		return err
	}
	return r.db.Write(ctx, func(tx *store.Tx) error {
		t, err := reach(tx, caller, identity.TrainWrite, ref, tx.ForUpdate())
		if err != nil {
			return err
		}
		if err := t.unless(ifMatch); err != nil {
			return err
		}
		revoked, err := r.dropKeys(tx, caller, t, force)
		if err != nil {
			return err
		}
		if !force && t.Links > 0 {
			return errInUse()
		}
		if _, err := tx.Exec(`DELETE FROM trains WHERE id = $1`, t.ID); err != nil { // a trigger remembers it if it was private
			return err
		}
		tx.Change(store.TopicTrain, t.ID)
		ev := caller.Event(store.TrainDelete, t.target())
		ev.Details = store.Details{store.Int("links", int64(t.Links)), store.Int("keys_revoked", int64(revoked))}
		return tx.Record(ev)
	})
}

func errInUse() error {
	return fault.New(fault.Conflict, "train_in_use",
		"The train still has linked credentials or active client keys, so deleting it would stop running agents. Unlink and revoke them first, or delete with force.")
}

func errNoTrain() error {
	return fault.New(fault.NotFound, "not_found", "There is no such train. `signalbox train list` shows those that there are.")
}

// named is the target of an act on a train that was not looked up.
func named(ref string) store.Target {
	if store.ValidID("train", ref) {
		return store.Target{Kind: "train", ID: ref}
	}
	return store.Target{Kind: "train", Name: clip(ref, slugMax)}
}

const (
	slugMax        = 64
	nameMax        = 200
	descriptionMax = 2000
)

// check refuses what the columns and the API do not take. The slug is looked at only when it is new.
func (t Train) check(slug bool) error {
	f := fault.New(fault.Unprocessable, "validation_failed", "The train is not valid; see the errors.")
	if slug && !validSlug(t.Slug) {
		_ = f.With("/train_id", "must be 1 to 64 letters, digits, dots, dashes or underscores, begin with a letter or digit, and not look like an id of Signalbox")
	}
	if bad := text(t.Name, 1, nameMax); bad != "" {
		_ = f.With("/name", bad)
	}
	if bad := text(t.Description, 0, descriptionMax); bad != "" {
		_ = f.With("/description", bad)
	}
	if !t.Strategy.known() {
		_ = f.With("/strategy", "must be hash, priority or least-loaded")
	}
	if t.KeyLimit < 0 || t.KeyLimit > keyLimitMax {
		_ = f.With("/key_limit", "must be 0 (the server's default) to "+strconv.Itoa(keyLimitMax))
	}
	if !slices.Contains(identity.Visibilities(), t.Visibility) {
		_ = f.With("/visibility", "must be organisation or private")
	}
	if len(f.Fields) > 0 {
		return f
	}
	return nil
}

func validSlug(s string) bool {
	if len(s) == 0 || len(s) > slugMax || store.ValidID("train", s) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return true
}

// text says what is wrong with a text of least to most characters, or "".
func text(s string, least, most int) string {
	n := utf8.RuneCountInString(s)
	switch {
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return "must be UTF-8 text without NUL"
	case n < least:
		return "must not be empty"
	case n > most:
		return "must be at most " + strconv.Itoa(most) + " characters"
	}
	return ""
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
