package identity

import (
	"context"
	"slices"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/store"
)

// factorDemanded reports whether the role of a person must have a second factor.
func factorDemanded(tx *store.Tx, userID string) (bool, error) {
	var n int
	err := tx.Get(&n, `SELECT COUNT(*) FROM factor_demands d JOIN users u ON u.role = d.role WHERE u.id = $1`, userID)
	return n > 0, err
}

// FactorPolicy returns the roles whose people must have a second factor, in the order of the table of roles. It needs [UserRead].
func (r *Room) FactorPolicy(ctx context.Context, caller Caller) ([]Role, error) {
	if err := r.allow(ctx, caller, UserRead, factorPolicyTarget()); err != nil {
		return nil, err
	}
	out := []Role{}
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		var roles []Role
		if err := tx.Select(&roles, `SELECT role FROM factor_demands`); err != nil {
			return err
		}
		out = out[:0]
		for _, role := range Roles() {
			if slices.Contains(roles, role) {
				out = append(out, role)
			}
		}
		return nil
	})
	return out, err
}

// SetFactorPolicy says whose people must have a second factor: those who have none enrol one at their next sign-in before they can do anything
// else, and sessions that a first factor alone opened end. It needs [UserWrite]; an administrator in a session must have a factor themselves. Its
// faults are "forbidden", "step_up_required", "validation_failed" and "state_conflict".
func (r *Room) SetFactorPolicy(ctx context.Context, caller Caller, roles []Role) ([]Role, error) {
	if err := r.allowFresh(ctx, caller, UserWrite, factorPolicyTarget()); err != nil {
		return nil, err
	}
	want := []Role{}
	for _, role := range roles {
		if !role.Known() {
			return nil, fault.New(fault.Unprocessable, "validation_failed", "A role is not one of those that there are.").With("/roles", "must be administrator, operator, auditor or member")
		}
	}
	for _, role := range Roles() {
		if slices.Contains(roles, role) {
			want = append(want, role)
		}
	}
	err := r.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := lock(tx, "factor_demands"); err != nil {
			return err
		}
		if caller.Kind == KindPerson && slices.Contains(want, caller.Role) {
			own, err := factorsOf(tx, caller.UserID)
			if err != nil {
				return err
			}
			if !own.Any() {
				return fault.New(fault.Conflict, "state_conflict", "Enrol a second factor of your own first, on your account page: else this would end your session.")
			}
		}
		if _, err := tx.Exec(`DELETE FROM factor_demands`); err != nil {
			return err
		}
		names := make([]string, len(want))
		for i, role := range want {
			names[i] = string(role)
			if _, err := tx.Exec(`INSERT INTO factor_demands (role) VALUES ($1)`, names[i]); err != nil {
				return err
			}
		}
		ev := caller.Event(store.FactorPolicy, factorPolicyTarget())
		ev.Details = store.Details{store.Strs("roles", names)}
		if err := tx.Record(ev); err != nil {
			return err
		}
		return r.endUndemanding(tx, caller)
	})
	return want, err
}

// endUndemanding ends the sessions of people who must have a second factor that a first one alone has opened.
func (r *Room) endUndemanding(tx *store.Tx, caller Caller) error {
	var rows []sessionRow
	if err := tx.Select(&rows, `SELECT `+sessionColumns+` FROM sessions WHERE demanded = '[]' AND user_id IN (SELECT u.id FROM users u JOIN factor_demands d ON d.role = u.role) ORDER BY user_id, id`); err != nil {
		return err
	}
	for _, row := range rows {
		s, err := r.session(row)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(s.Proofs, Proof.second) {
			continue
		}
		if err := r.endSession(tx, caller, row, store.IdentitySessionEnd, "factor_demanded"); err != nil {
			return err
		}
	}
	return nil
}

func factorPolicyTarget() store.Target { return store.Target{Kind: "factor_policy"} }
