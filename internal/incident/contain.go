package incident

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/etag"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// Containment is one act in one transaction: all of its steps stand, with their records, or none does. What it does is a list of steps that [Room.Plan]
// returns and [Room.Contain] carries out, made by the same function. What is asked of others afterwards (ending a grant at its OAuth provider) is stored with
// the act as something to do, and done by whichever instance claims it ([Room.Start]).

// Scope is what is to be contained. Trains may be named by their slugs.
type Scope struct {
	Credentials, Trains, People, ServiceAccounts, ClientKeys []string
	// Deactivate also deactivates the people, so that they cannot sign in anew.
	Deactivate bool
}

// StepAct is what one step does.
type StepAct string

// The acts.
const (
	EndSession     StepAct = "end_session"
	RevokeToken    StepAct = "revoke_token"
	Deactivate     StepAct = "deactivate"
	MarkCompromise StepAct = "mark_compromised" // a credential, which is lent to nobody from then on
	RevokeUpstream StepAct = "revoke_upstream"  // ask the OAuth provider to end the credential's grant
	RevokeKey      StepAct = "revoke_key"
	Leave          StepAct = "leave" // nothing can be done with it here, and it can be used by nobody
	Advance        StepAct = "advance"
)

// Step is one step of a plan.
type Step struct {
	Act      StepAct
	Kind     string // of what it is done to: session, token, user, credential, key, incident
	ID, Name string
	// Of is whose it is: the person of a session, the train of a key, the provider of a grant; of advance the new status.
	Of string
}

// Warning is something that whoever contains should know before.
type Warning struct{ Code, Detail string }

// The codes of warnings. Those of a lock-out make the act insist on the plan that was seen.
const (
	WarnYourself = "yourself"    // the caller's own session or token ends
	WarnWide     = "wide_grant"  // the provider ends other grants of the same person too
	WarnNothing  = "nothing_new" // all of it is contained already
)

// Plan is what a containment does.
type Plan struct {
	Steps    []Step
	Warnings []Warning
	// Tag names this plan, for the act that insists on it.
	Tag string

	links []Link // of what the scope names
	scope Scope  // with ids
}

const maxSteps = 1000

// Plan returns what [Room.Contain] would do now. It needs incidents:write and keys:write, and what each other part of the scope would need by itself:
// credentials:write, users:write, service_accounts:write.
func (r *Room) Plan(ctx context.Context, caller identity.Caller, id string, s Scope) (Plan, error) {
	if err := r.mayContain(ctx, caller, id, s); err != nil {
		return Plan{}, err
	}
	var out Plan
	err := r.db.Read(ctx, func(tx *store.Tx) error {
		i, err := load(tx, id, "")
		if err == nil {
			out, err = r.plan(tx, caller, i, s, false)
		}
		return err
	})
	return out, err
}

// Contain carries out what [Room.Plan] says, in one transaction, and returns the incident and what was done. With tag, only the plan that was seen is carried
// out; otherwise the fault is etag_mismatch. It needs what Plan needs, in a session a fresh proof, and where the caller would be locked out the tag.
func (r *Room) Contain(ctx context.Context, caller identity.Caller, id string, s Scope, tag, note string) (Incident, Plan, error) {
	if err := r.mayContain(ctx, caller, id, s); err != nil {
		return Incident{}, Plan{}, err
	}
	if err := r.refuse(ctx, caller, "contain", id, identity.RequireFresh(caller, r.now())); err != nil {
		return Incident{}, Plan{}, err
	}
	var out Incident
	var done Plan
	err := r.db.Write(ctx, func(tx *store.Tx) (err error) {
		out, done, err = r.contain(tx, caller, id, s, tag, note)
		return err
	})
	if f, ok := fault.As(err); ok && f.Code == "last_administrator" {
		err = r.refuse(ctx, caller, "contain", id, err)
	}
	if err == nil {
		r.worker.nudge()
	}
	return out, done, err
}

// ContainIn is [Room.Contain] in the transaction of whoever calls, for a detector: it asks for no permission, no proof and no plan.
func (r *Room) ContainIn(tx *store.Tx, caller identity.Caller, id string, s Scope) (Incident, Plan, error) {
	return r.contain(tx, caller, id, s, "*", "")
}

// mayContain asks for every permission that the scope needs.
func (r *Room) mayContain(ctx context.Context, caller identity.Caller, id string, s Scope) error {
	need := []identity.Permission{identity.IncidentWrite, identity.KeyWrite}
	for p, some := range map[identity.Permission]bool{
		identity.CredentialWrite: len(s.Credentials) > 0, identity.UserWrite: len(s.People) > 0, identity.ServiceWrite: len(s.ServiceAccounts) > 0,
	} {
		if some {
			need = append(need, p)
		}
	}
	slices.Sort(need)
	for _, p := range need {
		if err := r.allow(ctx, caller, p, "contain", id); err != nil {
			return err
		}
	}
	return nil
}

func (r *Room) contain(tx *store.Tx, caller identity.Caller, id string, s Scope, tag, note string) (Incident, Plan, error) {
	var bad problems
	bad.add("/note", text(note, maxNote, true))
	if err := bad.err("The note cannot be stored like this; nothing was contained."); err != nil {
		return Incident{}, Plan{}, err
	}
	i, err := load(tx, id, tx.ForUpdate())
	if err != nil {
		return Incident{}, Plan{}, err
	}
	p, err := r.plan(tx, caller, i, s, true)
	if err != nil {
		return Incident{}, Plan{}, err
	}
	if !etag.Match(tag, p.Tag) {
		return Incident{}, Plan{}, fault.New(fault.Precondition, "etag_mismatch", "Things changed since the plan was made, so nothing was contained. Look at the plan as it is now (dry_run), and repeat the act with its tag.")
	}
	if tag == "" && slices.ContainsFunc(p.Warnings, func(w Warning) bool { return w.Code == WarnYourself }) {
		return Incident{}, Plan{}, fault.New(fault.Conflict, "state_conflict", "This would end your own session or token. Look at the plan (dry_run), and repeat the act with its tag (plan) if that is what you want; nothing was contained.")
	}
	for _, step := range p.Steps {
		if err := r.do(tx, caller, i, step); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	return r.recordContainment(tx, caller, i, p, note)
}

// do carries out one step, which records itself.
func (r *Room) do(tx *store.Tx, caller identity.Caller, i Incident, s Step) error {
	switch s.Act {
	case EndSession:
		return r.identity.CutSession(tx, caller, s.ID)
	case RevokeToken:
		return r.identity.CutToken(tx, caller, s.ID)
	case Deactivate:
		return r.identity.Deactivate(tx, caller, s.ID)
	case MarkCompromise:
		return r.vault.Compromise(tx, caller, s.ID)
	case RevokeUpstream:
		return r.owe(tx, caller, i, s)
	case RevokeKey:
		_, err := r.identity.RevokeKey(tx, caller, s.Of, s.ID)
		return err
	}
	return nil // leave does nothing; the incident is moved at the end
}

// recordContainment brings the incident up to date: its status, what it touches, its timeline and its record.
func (r *Room) recordContainment(tx *store.Tx, caller identity.Caller, i Incident, p Plan, note string) (Incident, Plan, error) {
	before := i
	for _, l := range p.links {
		if !slices.ContainsFunc(i.Links, func(have Link) bool { return have.Kind == l.Kind && have.ID == l.ID }) {
			i.Links = append(i.Links, l)
		}
	}
	i.sortLinks()
	i.Status = p.moves(i.Status)
	i.touched(tx.Now())
	if err := i.update(tx); err != nil {
		return Incident{}, Plan{}, err
	}
	if !slices.Equal(before.Links, i.Links) {
		if err := i.relink(tx); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	tx.Change(store.TopicIncident, i.ID)
	counts, steps := p.counts()
	if _, err := enter(tx, i.ID, Act, caller.Actor(), note, store.Details{store.Strs("acts", counts), store.Strs("steps", steps)}); err != nil {
		return Incident{}, Plan{}, err
	}
	ev := caller.Event(store.IncidentContain, i.Target())
	ev.Details = store.Details{store.Strs("acts", counts)}
	for _, part := range []struct {
		name string
		ids  []string
	}{{"credential_ids", p.scope.Credentials}, {"train_ids", p.scope.Trains}, {"user_ids", p.scope.People}, {"service_account_ids", p.scope.ServiceAccounts}, {"key_ids", p.scope.ClientKeys}} {
		if len(part.ids) > 0 {
			ev.Details = append(ev.Details, store.Strs(part.name, part.ids))
		}
	}
	if err := tx.Record(ev); err != nil {
		return Incident{}, Plan{}, err
	}
	if before.Status != i.Status {
		if err := i.recordMove(tx, caller, before.Status, ""); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	return i, p, nil
}

// moves returns the status after the plan.
func (p Plan) moves(now Status) Status {
	for _, s := range p.Steps {
		if s.Act == Advance {
			return Status(s.Of)
		}
	}
	return now
}

// counts tells the steps in few words, and one by one.
func (p Plan) counts() (counts, steps []string) {
	n := map[StepAct]int{}
	var order []StepAct
	for _, s := range p.Steps {
		if n[s.Act] == 0 {
			order = append(order, s.Act)
		}
		n[s.Act]++
		steps = append(steps, string(s.Act)+" "+s.Kind+" "+s.ID)
	}
	for _, act := range order {
		counts = append(counts, string(act)+" "+strconv.Itoa(n[act]))
	}
	return counts, steps
}

// tag names the steps.
func (p Plan) tag(i Incident) string {
	parts := []string{i.ID}
	for _, s := range p.Steps {
		parts = append(parts, string(s.Act), s.Kind, s.ID, s.Of)
	}
	for _, w := range p.Warnings {
		parts = append(parts, w.Code, w.Detail)
	}
	return etag.Of(parts...)
}

// unique sorts ids and drops repetitions, so that locks are taken in one order.
func unique(ids []string) []string {
	out := slices.Clone(ids)
	slices.SortFunc(out, strings.Compare)
	return slices.Compact(out)
}
