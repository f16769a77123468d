package identity

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// ServiceAccount is a caller that is no person: a script, a pipeline, another system. It has a role as people have, and tokens of its own.
type ServiceAccount struct {
	ID          string
	Name        string // unique, in upper or lower case
	Description string
	Role        Role
	Active      bool
	CreatedBy   string // the id of the person or service account that made it
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

const servicePrefix = "sa"

func isService(id string) bool { return strings.HasPrefix(id, servicePrefix+"_") }

// Target returns the service account as audit records name it.
func (a ServiceAccount) Target() store.Target {
	return store.Target{Kind: "service_account", ID: a.ID, Name: a.Name}
}

// ETag is the validator of this state of the service account (RFC 9110, section 8.8.3).
func (a ServiceAccount) ETag() string {
	return etag.Of(a.ID, a.Name, a.Description, string(a.Role), strconv.FormatBool(a.Active), a.UpdatedAt.Format(store.TimeFormat))
}

// ServiceAccountDraft is a service account to be made.
type ServiceAccountDraft struct {
	Name, Description string
	Role              Role // empty: member
}

// ServiceAccountPatch changes a service account; nil leaves a setting as it is.
type ServiceAccountPatch struct {
	Name, Description *string
	Role              *Role
	Active            *bool
	// IfMatch, when it is not empty, is the If-Match header that the service account's ETag must satisfy.
	IfMatch string
}

const serviceColumns = `id, name, description, role, active, created_by, created_at, updated_at`

type serviceRow struct {
	ID          string     `db:"id"`
	Name        string     `db:"name"`
	Description string     `db:"description"`
	Role        Role       `db:"role"`
	Active      int64      `db:"active"`
	CreatedBy   string     `db:"created_by"`
	CreatedAt   store.Time `db:"created_at"`
	UpdatedAt   store.Time `db:"updated_at"`
}

func (a serviceRow) account() ServiceAccount {
	return ServiceAccount{ID: a.ID, Name: a.Name, Description: a.Description, Role: a.Role, Active: a.Active == 1, CreatedBy: a.CreatedBy,
		CreatedAt: a.CreatedAt.Time(), UpdatedAt: a.UpdatedAt.Time()}
}

// CreateServiceAccount makes a service account. It needs [ServiceWrite]. Its role is never more than the maker's: otherwise the fault is
// "forbidden". A taken name is "already_exists".
func (r *Room) CreateServiceAccount(ctx context.Context, caller Caller, d ServiceAccountDraft) (ServiceAccount, error) {
	if err := r.allowFresh(ctx, caller, ServiceWrite, store.Target{Kind: "service_account"}); err != nil {
		return ServiceAccount{}, err
	}
	var p problems
	a := ServiceAccount{Name: p.name("/name", d.Name), Description: p.description("/description", d.Description), Role: d.Role, Active: true}
	if a.Role == "" {
		a.Role = Member
	}
	p.role("/role", a.Role)
	if err := p.result(); err != nil {
		return ServiceAccount{}, err
	}
	if verdict := beyond(caller, a.Role); verdict != nil {
		return ServiceAccount{}, r.refused(ctx, caller, store.Target{Kind: "service_account"}, verdict)
	}
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		a.ID, a.CreatedAt, a.UpdatedAt, a.CreatedBy = store.NewID(servicePrefix), tx.Now(), tx.Now(), maker(caller)
		now := store.TimeOf(tx.Now())
		if _, err := tx.Exec(`INSERT INTO service_accounts (`+serviceColumns+`, folded) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9)`,
			a.ID, a.Name, a.Description, string(a.Role), 1, a.CreatedBy, now, now, strings.ToLower(a.Name)); err != nil {
			return err
		}
		tx.Change(store.TopicService, a.ID)
		ev := caller.Event(store.ServiceCreate, a.Target())
		ev.Details = store.Details{store.Str("role", string(a.Role))}
		return tx.Record(ev)
	})
	if err != nil {
		return ServiceAccount{}, serviceFault(err)
	}
	return a, nil
}

// maker names who made something: whom a token acts for, not the token.
func maker(c Caller) string {
	switch {
	case c.UserID != "":
		return c.UserID
	case c.ServiceID != "":
		return c.ServiceID
	}
	return c.ID
}

// beyond returns the refusal when the role may do what the caller's may not.
func beyond(caller Caller, role Role) error {
	if caller.Kind == KindSystem || caller.Role.covers(role) {
		return nil
	}
	return fault.New(fault.Forbidden, "forbidden", "A service account of this role could do what your own role does not include. Choose a lesser role, or ask an administrator of this Signalbox.")
}

// ServiceAccount returns one service account. It needs [ServiceRead].
func (r *Room) ServiceAccount(ctx context.Context, caller Caller, id string) (ServiceAccount, error) {
	if err := Allow(caller, ServiceRead); err != nil {
		return ServiceAccount{}, err
	}
	var a ServiceAccount
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		a, err = findService(tx, id, "")
		return err
	})
	return a, err
}

// ListServiceAccounts returns service accounts, the oldest first, and the cursor of the next page (empty at the end). It needs [ServiceRead].
func (r *Room) ListServiceAccounts(ctx context.Context, caller Caller, f NameFilter) (accounts []ServiceAccount, next string, err error) {
	if err := Allow(caller, ServiceRead); err != nil {
		return nil, "", err
	}
	err = r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		var rows []serviceRow
		size, err := f.page(tx, &rows, `SELECT `+serviceColumns+` FROM service_accounts`, servicePrefix, "", nil)
		if err != nil {
			return err
		}
		accounts, next = make([]ServiceAccount, 0, len(rows)), ""
		if len(rows) > size {
			rows = rows[:size]
			next = rows[size-1].ID
		}
		for _, row := range rows {
			accounts = append(accounts, row.account())
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return accounts, next, nil
}

// UpdateServiceAccount changes a service account. It needs [ServiceWrite], and a role that covers both the account's role and the new one.
// A deactivated one's tokens work no longer, here when the call returns and elsewhere within a second; they work again once it is active,
// unless they were revoked.
func (r *Room) UpdateServiceAccount(ctx context.Context, caller Caller, id string, p ServiceAccountPatch) (ServiceAccount, error) {
	if err := r.allowFresh(ctx, caller, ServiceWrite, knownTarget("service_account", servicePrefix, id)); err != nil {
		return ServiceAccount{}, err
	}
	var a ServiceAccount
	var verdict error
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		verdict = nil
		if a, err = findService(tx, id, tx.ForUpdate()); err != nil {
			return err
		}
		if verdict = beyond(caller, a.Role); verdict != nil {
			return recordRefusal(tx, caller, a.Target(), verdict)
		}
		if err := changedSince("service account", p.IfMatch, a.ETag()); err != nil {
			return err
		}
		fields, err := p.apply(&a)
		if err != nil {
			return err
		}
		if verdict = beyond(caller, a.Role); verdict != nil {
			return recordRefusal(tx, caller, a.Target(), verdict)
		}
		if len(fields) > 0 {
			a.UpdatedAt = tx.Now()
		}
		active := int64(0)
		if a.Active {
			active = 1
		}
		if _, err := tx.Exec(`UPDATE service_accounts SET name = $1, folded = $2, description = $3, role = $4, active = $5, updated_at = $6 WHERE id = $7`,
			a.Name, strings.ToLower(a.Name), a.Description, string(a.Role), active, store.TimeOf(a.UpdatedAt), a.ID); err != nil {
			return err
		}
		tx.Change(store.TopicService, a.ID)
		ev := caller.Event(store.ServiceUpdate, a.Target())
		ev.Fields = fields
		ev.Details = store.Details{store.Str("role", string(a.Role)), store.Bool("active", a.Active)}
		return tx.Record(ev)
	})
	if err == nil {
		err = verdict
	}
	if err != nil {
		return ServiceAccount{}, serviceFault(err)
	}
	return a, nil
}

func (p ServiceAccountPatch) apply(a *ServiceAccount) (fields []string, err error) {
	var bad problems
	if p.Name != nil && *p.Name != a.Name {
		a.Name, fields = bad.name("/name", *p.Name), append(fields, "name")
	}
	if p.Description != nil && *p.Description != a.Description {
		a.Description, fields = bad.description("/description", *p.Description), append(fields, "description")
	}
	if p.Role != nil && *p.Role != a.Role {
		bad.role("/role", *p.Role)
		a.Role, fields = *p.Role, append(fields, "role")
	}
	if p.Active != nil && *p.Active != a.Active {
		a.Active, fields = *p.Active, append(fields, "active")
	}
	return fields, bad.result()
}

func findService(tx *store.Tx, id, lock string) (ServiceAccount, error) {
	if !store.ValidID(servicePrefix, id) {
		return ServiceAccount{}, noService()
	}
	var row serviceRow
	err := tx.Get(&row, `SELECT `+serviceColumns+` FROM service_accounts WHERE id = $1`+lock, id)
	if errors.Is(err, store.ErrNotFound) {
		return ServiceAccount{}, noService()
	}
	return row.account(), err
}

func noService() error {
	return fault.New(fault.NotFound, "not_found", "There is no such service account. `signalbox service-account list` shows those that there are.")
}

func serviceFault(err error) error {
	if store.IsConflict(err) {
		return fault.New(fault.Conflict, "already_exists", "There is a service account with this name already. Choose another, or use the one that is there.").With("/name", "is taken")
	}
	return err
}

// recordRefusal records a refusal that was found in the transaction of the act.
func recordRefusal(tx *store.Tx, caller Caller, target store.Target, verdict error) error {
	ev := caller.Event(store.IdentityRefused, target)
	ev.Outcome, ev.Reason = store.OutcomeRefused, fault.Of(verdict).Code
	return tx.Record(ev)
}

const livingServices = `SELECT id, name, role, active, '', '' FROM service_accounts`

func (r *Room) reloadService(tx *store.Tx, id string) error {
	found, err := users(tx, livingServices+" WHERE id = $1", id)
	if err != nil {
		return err
	}
	r.peopleMu.Lock()
	defer r.peopleMu.Unlock()
	if a, ok := found[id]; ok {
		r.services[id] = a
	} else {
		delete(r.services, id)
	}
	return nil
}

// serviceCaller returns the service account whose token h is.
func (r *Room) serviceCaller(h *holder) (Caller, error) {
	r.peopleMu.RLock()
	a, ok := r.services[h.owner]
	r.peopleMu.RUnlock()
	if !ok || !a.active {
		return Caller{}, unauthenticated("The service account whose token this is has been deactivated. Ask an operator of this Signalbox.")
	}
	return Caller{Kind: KindService, ID: h.id, Name: a.name + " / " + h.name, ServiceID: h.owner, Role: a.role, Scopes: h.scopes, OnBehalf: h.owner, Until: h.until()}, nil
}
