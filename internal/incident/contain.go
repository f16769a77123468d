package incident

import (
	"cmp"
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
// returns and [Room.Contain] carries out, made by the same function. What is asked of others afterwards (ending a grant at its OAuth provider, or replacing its
// tokens) is stored with the act as something to do, and done by whichever instance claims it ([Room.Start]).

// Scope is what is to be contained. Trains may be named by their slugs.
type Scope struct {
	Credentials, Trains, People, ServiceAccounts, ClientKeys []string
	// Deactivate also deactivates the people, so that they cannot sign in anew.
	Deactivate bool
	// Treat says what becomes of the credentials; "" is [Disable].
	Treat Treatment
}

// Treatment is what becomes of contained credentials.
type Treatment string

// The treatments.
const (
	// Disable marks them as compromised, so that they are lent to nobody, and has their grants ended at their OAuth providers.
	Disable Treatment = "disable"
	// Rotate has the tokens replaced of what Signalbox can refresh by itself, unless the provider is known to go on with the same refresh token; that goes on being lent. Everything else is treated as by Disable, and is due to be
	// rotated at once, which only a person can do where the secret is used.
	Rotate Treatment = "rotate"
)

// Treatments returns the treatments.
func Treatments() []Treatment { return []Treatment{Disable, Rotate} }

// StepAct is what one step does.
type StepAct string

// The acts.
const (
	EndSession     StepAct = "end_session"
	RevokeToken    StepAct = "revoke_token"
	Deactivate     StepAct = "deactivate"
	MarkCompromise StepAct = "mark_compromised" // a credential, which is lent to nobody from then on
	RevokeUpstream StepAct = "revoke_upstream"  // ask the OAuth provider to end the credential's grant
	RefreshTokens  StepAct = "refresh"          // have the OAuth provider replace the credential's tokens
	RotateDue      StepAct = "rotate_due"       // a credential, which is to be rotated at once
	RevokeKey      StepAct = "revoke_key"
	Leave          StepAct = "leave" // nothing can be done with it here, and it can be used by nobody
	OpenNew        StepAct = "open"  // an incident, which has no id before that
	Advance        StepAct = "advance"
)

// Step is one step of a plan.
type Step struct {
	Act      StepAct
	Kind     string // of what it is done to: session, token, user, credential, key, incident
	ID, Name string
	// Of is whose it is: the person of a session, the train of a key, the provider of a grant; of open and advance the new status.
	Of string
}

// Warning is something that whoever contains should know before.
type Warning struct{ Code, Detail string }

// The codes of warnings. Those of a lock-out make the act insist on the plan that was seen.
const (
	WarnYourself = "yourself"    // the caller's own session or token ends
	WarnWide     = "wide_grant"  // the provider ends other grants of the same person too
	WarnLeaked   = "old_token"   // what has leaked may work until it ends by itself
	WarnKept     = "may_be_kept" // whether the provider replaces a refresh token is not known
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
	return r.look(ctx, caller, existing(id), s)
}

// PlanNew returns what [Room.ContainNew] would do now. It needs what Plan needs.
func (r *Room) PlanNew(ctx context.Context, caller identity.Caller, d Draft, s Scope) (Plan, error) {
	return r.look(ctx, caller, begun(d), s)
}

// Contain carries out what [Room.Plan] says, in one transaction, and returns the incident and what was done. With tag, only the plan that was seen is carried
// out; otherwise the fault is etag_mismatch. It needs what Plan needs, in a session a fresh proof, and where the caller would be locked out the tag.
func (r *Room) Contain(ctx context.Context, caller identity.Caller, id string, s Scope, tag, note string) (Incident, Plan, error) {
	return r.act(ctx, caller, existing(id), s, tag, note)
}

// ContainNew is [Room.Contain] without an incident: it opens one in the same transaction, which is contained from the start and touches what was contained
// beside what the draft names. Nothing of the draft is required: the type is credential_leak and the severity high when they are left out, the date is now, and the title
// names what was contained.
func (r *Room) ContainNew(ctx context.Context, caller identity.Caller, d Draft, s Scope, tag, note string) (Incident, Plan, error) {
	return r.act(ctx, caller, begun(d), s, tag, note)
}

// which is the incident of a containment: one that there is, or one that is opened by it.
type which struct {
	id    string
	opens bool
	draft Draft
}

func existing(id string) which { return which{id: id} }

func begun(d Draft) which {
	d.Type, d.Severity = cmp.Or(d.Type, CredentialLeak), cmp.Or(d.Severity, High)
	return which{opens: true, draft: d}
}

// get returns the incident, locked where that is wanted. One that is to be opened is stored nowhere yet; what is not said of it follows from what the plan touches.
func (w which) get(tx *store.Tx, caller identity.Caller, p Plan, clause string) (Incident, error) {
	if !w.opens {
		return load(tx, w.id, clause)
	}
	d := w.draft
	if d.Title == "" {
		d.Title = titleOf(p.links)
	}
	i, err := drafted(tx, caller, d, "", "")
	if f, ok := fault.As(err); ok {
		named := fault.New(f.Kind, f.Code, f.Detail)
		for _, field := range f.Fields {
			_ = named.With("/incident"+field.Pointer, field.Message)
		}
		return Incident{}, named
	}
	i.Status = Contained
	i.link(p.links)
	return i, err
}

// titleOf names what is contained, as far as a title is long.
func titleOf(links []Link) string {
	title := "Contained"
	for n, l := range links {
		next := incidentNoun(l.Kind) + " " + cmp.Or(clean(l.Name), l.ID)
		if n > 0 {
			next = ", " + next
		} else {
			next = " " + next
		}
		if n > 0 && len([]rune(title+next)) > maxTitle-len(" and 500 more") {
			return title + " and " + strconv.Itoa(len(links)-n) + " more"
		}
		title += next
	}
	return title
}

func incidentNoun(kind LinkKind) string {
	if kind == OfPerson {
		return "person"
	}
	return strings.ReplaceAll(string(kind), "_", " ")
}

func (r *Room) look(ctx context.Context, caller identity.Caller, w which, s Scope) (Plan, error) {
	if err := r.mayContain(ctx, caller, w.id, s); err != nil {
		return Plan{}, err
	}
	var out Plan
	err := r.db.Read(ctx, func(tx *store.Tx) (err error) {
		_, out, err = r.plan(tx, caller, w, s, false)
		return err
	})
	return out, err
}

func (r *Room) act(ctx context.Context, caller identity.Caller, w which, s Scope, tag, note string) (Incident, Plan, error) {
	if err := r.mayContain(ctx, caller, w.id, s); err != nil {
		return Incident{}, Plan{}, err
	}
	if err := r.refuse(ctx, caller, "contain", w.id, identity.RequireFresh(caller, r.now())); err != nil {
		return Incident{}, Plan{}, err
	}
	var out Incident
	var done Plan
	err := r.db.Write(ctx, func(tx *store.Tx) (err error) {
		if out, done, err = r.contain(tx, caller, w, s, tag, note); err != nil {
			return err
		}
		seen, err := sightOf(tx, caller)
		if err == nil {
			out, _, err = seen.one(tx, out)
		}
		return err
	})
	if f, ok := fault.As(err); ok && f.Code == "last_administrator" {
		err = r.refuse(ctx, caller, "contain", w.id, err)
	}
	if err == nil {
		r.worker.nudge()
	}
	return out, done, err
}

// ContainIn is [Room.Contain] in the transaction of whoever calls, for a detector: it asks for no permission, no proof and no plan.
func (r *Room) ContainIn(tx *store.Tx, caller identity.Caller, id string, s Scope) (Incident, Plan, error) {
	return r.contain(tx, caller, existing(id), s, "*", "")
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

func (r *Room) contain(tx *store.Tx, caller identity.Caller, w which, s Scope, tag, note string) (Incident, Plan, error) {
	var bad problems
	bad.add("/note", text(note, maxNote, true))
	if err := bad.err("The note cannot be stored like this; nothing was contained."); err != nil {
		return Incident{}, Plan{}, err
	}
	i, p, err := r.plan(tx, caller, w, s, true)
	if err != nil {
		return Incident{}, Plan{}, err
	}
	if !etag.Match(tag, p.Tag) {
		return Incident{}, Plan{}, fault.New(fault.Precondition, "etag_mismatch", "Things changed since the plan was made, so nothing was contained. Look at the plan as it is now (dry_run), and repeat the act with its tag.")
	}
	if tag == "" && slices.ContainsFunc(p.Warnings, func(w Warning) bool { return w.Code == WarnYourself }) {
		return Incident{}, Plan{}, fault.New(fault.Conflict, "state_conflict", "This would end your own session or token. Look at the plan (dry_run), and repeat the act with its tag (plan) if that is what you want; nothing was contained.")
	}
	if w.opens { // what follows hangs on it
		if err := i.begin(tx, caller, "What leaked was contained, and an incident was opened for it in the same act. See what was done: signalbox incident show "+i.ID); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	for _, step := range p.Steps {
		if err := r.do(tx, caller, i, step); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	before := i
	if !w.opens {
		if err := i.bring(tx, p); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	if err := i.recordContainment(tx, caller, p, note); err != nil {
		return Incident{}, Plan{}, err
	}
	if before.Status != i.Status {
		if err := i.recordMove(tx, caller, before.Status, ""); err != nil {
			return Incident{}, Plan{}, err
		}
	}
	return i, p, nil
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
	case RotateDue:
		return r.vault.RotateNow(tx, caller, s.ID)
	case RevokeUpstream, RefreshTokens:
		return r.owe(tx, caller, i, s)
	case RevokeKey:
		_, err := r.identity.RevokeKey(tx, caller, s.Of, s.ID)
		if f, ok := fault.As(err); ok && f.Kind == fault.NotFound { // it ended with the session that had issued it, or with its maker's deactivation, a step before
			return nil
		}
		return err
	}
	return nil // leave does nothing; the incident is opened before all of them, or moved after them
}

// link adds what the incident does not touch yet.
func (i *Incident) link(links []Link) {
	i.Links = slices.Clone(i.Links)
	for _, l := range links {
		if !slices.ContainsFunc(i.Links, func(have Link) bool { return have.Kind == l.Kind && have.ID == l.ID }) {
			i.Links = append(i.Links, l)
		}
	}
	i.sortLinks()
}

// bring stores what a containment makes of an incident that was there before: its status, and what it touches.
func (i *Incident) bring(tx *store.Tx, p Plan) error {
	before := i.Links
	i.link(p.links)
	i.Status = p.moves(i.Status)
	i.touched(tx.Now())
	if err := i.update(tx); err != nil {
		return err
	}
	if !slices.Equal(before, i.Links) {
		if err := i.relink(tx); err != nil {
			return err
		}
	}
	tx.Change(store.TopicIncident, i.ID)
	return nil
}

// recordContainment writes down what was done, in the timeline and in the audit.
func (i Incident) recordContainment(tx *store.Tx, caller identity.Caller, p Plan, note string) error {
	counts, steps := p.counts()
	if _, err := enter(tx, i.ID, Act, caller.Actor(), note, store.Details{store.Strs("acts", counts), store.Strs(stepsDetail, steps)}); err != nil {
		return err
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
	return tx.Record(ev)
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

// stepsDetail is the detail of an entry that tells the steps one by one.
const stepsDetail = "steps"

// counts tells the steps in few words, and one by one.
func (p Plan) counts() (counts, steps []string) {
	n := map[StepAct]int{}
	var order []StepAct
	for _, s := range p.Steps {
		if n[s.Act] == 0 {
			order = append(order, s.Act)
		}
		n[s.Act]++
		steps = append(steps, strings.TrimSpace(string(s.Act)+" "+s.Kind+" "+s.ID))
	}
	for _, act := range order {
		counts = append(counts, string(act)+" "+strconv.Itoa(n[act]))
	}
	return counts, steps
}

// tag names the steps, and the incident: the one that there is by its id, the one that is to be opened by what is said of it.
func (p Plan) tag(i Incident, w which) string {
	parts := []string{w.id}
	if w.opens {
		parts = append(parts, i.Title, string(i.Type), string(i.Severity), i.Description, i.Findings, i.Remediation, strconv.Itoa(len(i.Links)))
		if !w.draft.IncidentDate.IsZero() {
			parts = append(parts, i.IncidentDate.Format(store.TimeFormat))
		}
		for _, l := range i.Links {
			parts = append(parts, string(l.Kind), l.ID)
		}
	}
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
