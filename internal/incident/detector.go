package incident

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// window is how far back a detector counts.
	window = time.Hour
	// usualTimes is how many times what is usual for a caller mass access must be.
	usualTimes = 3
	// usualHours bounds the hours that what is usual is the mean of.
	usualHours = 24
	// maxSeen bounds what is remembered of one subject, and so every threshold.
	maxSeen = 2000
	// keptTallies is how long a subject of which nothing is seen is remembered.
	keptTallies = 30 * 24 * time.Hour
)

// Rule says when one detector reports.
type Rule struct {
	Detector string
	Meaning  string
	On       bool
	// Threshold is how many times, in an hour and of one subject, it must be.
	Threshold int
	// Quiet is how long nothing more is reported of a subject after a report.
	Quiet time.Duration

	// usual says that it must also be [usualTimes] of what is usual for the subject.
	usual bool
	// see tells whether an event is one that it looks for; key is what is counted once.
	see   func(store.Event) (subject, key string, ok bool)
	draft func(store.Event, finding) Draft
}

// Names of the detectors.
const (
	MassAccess        = "mass_access"
	DeniedReveals     = "denied_reveals"
	FailedDecryptions = "failed_decryptions"
	RefreshReuse      = "refresh_reuse"
	AuditVerification = "audit_verification"
)

// Rules returns the detectors as they are when nobody changes them.
func Rules() []Rule {
	return []Rule{
		{
			Detector: MassAccess, On: true, Threshold: 50, Quiet: 6 * time.Hour, usual: true, see: seeAccess, draft: draftAccess,
			Meaning: "a caller reveals, exports or is lent this many different credentials in an hour, and three times as many as is usual for them",
		},
		{
			Detector: DeniedReveals, On: true, Threshold: 10, Quiet: time.Hour, see: seeDenied, draft: draftDenied,
			Meaning: "a caller is refused this many reveals or exports in an hour; a proof that was too old does not count",
		},
		{
			Detector: FailedDecryptions, On: true, Threshold: 1, Quiet: time.Hour, see: seeUnopened, draft: draftUnopened,
			Meaning: "the sealed secrets of this many credentials did not open in an hour, or the credentials were changed outside Signalbox",
		},
		{
			Detector: RefreshReuse, On: true, Threshold: 1, Quiet: time.Hour, see: seeReuse, draft: draftReuse,
			Meaning: "a refresh token of ours came a second time, or a provider refuses the one of an account as spent or revoked (invalid_grant)",
		},
		{
			Detector: Canary, On: true, Threshold: 1, Quiet: time.Minute, draft: draftCanary,
			Meaning: "a canary (the setting canaries) is revealed, exported, lent or tested; what the caller acted with is revoked at once, whatever the threshold and the quiet period",
		},
		{
			Detector: AuditVerification, On: true, Threshold: 1, Quiet: 24 * time.Hour,
			Meaning: "the audit log does not verify: the daily verification found something, a record cannot be read, or the database lacks a checkpoint that the checkpoint file has; the threshold is the number of findings",
		},
	}
}

// ParseRules returns the detectors as a setting has them: "name=off", "name=threshold" or "name=threshold/quiet", separated by commas.
func ParseRules(s string) ([]Rule, error) {
	rules := Rules()
	said := map[string]bool{}
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		at := slices.IndexFunc(rules, func(r Rule) bool { return r.Detector == name })
		if at < 0 {
			return nil, errors.New("must name detectors: " + words(rules, func(r Rule) string { return r.Detector }))
		}
		if said[name] {
			return nil, errors.New("names " + name + " twice")
		}
		said[name] = true
		if err := rules[at].parse(strings.TrimSpace(value)); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

func (r *Rule) parse(value string) error {
	if value == "off" {
		r.On = false
		return nil
	}
	count, quiet, has := strings.Cut(value, "/")
	n, err := strconv.Atoi(strings.TrimSpace(count))
	if err != nil || n < 1 || n > maxSeen {
		return errors.New("must say of " + r.Detector + " off, or a threshold from 1 to " + strconv.Itoa(maxSeen) + ", such as " + r.Detector + "=" + strconv.Itoa(r.Threshold) + "/1h")
	}
	r.Threshold = n
	if !has {
		return nil
	}
	d, err := time.ParseDuration(strings.TrimSpace(quiet))
	if err != nil || d < time.Minute || d > 30*24*time.Hour {
		return errors.New("must give " + r.Detector + " a quiet period from 1m to 720h, such as 6h")
	}
	r.Quiet = d
	return nil
}

// finding is what made a detector report.
type finding struct {
	Rule
	count, limit int
	usually      int64 // in thousandths
	keys         []string
	took         []store.Target // from a caller who used a canary
}

// callerOf is whom what an event tells of is counted to: a person or a service account, however many tokens they have. It is empty for our own chores.
func callerOf(e store.Event) string {
	switch identity.Kind(e.Actor.Kind) {
	case identity.KindToken, identity.KindService:
		return clean(cmp.Or(e.OnBehalf, e.Actor.ID))
	case identity.KindSystem, identity.KindAnonymous:
		return ""
	}
	return clean(e.Actor.ID)
}

// touchOf links whoever acted.
func touchOf(e store.Event) Touch {
	switch identity.Kind(e.Actor.Kind) {
	case identity.KindPerson:
		return Touch{People: []string{e.Actor.ID}}
	case identity.KindToken:
		return Touch{People: []string{e.OnBehalf}}
	case identity.KindService:
		return Touch{ServiceAccounts: []string{e.OnBehalf}}
	case identity.KindClientKey:
		return Touch{ClientKeys: []string{e.Actor.ID}, Trains: []string{e.OnBehalf}}
	}
	return Touch{}
}

func seeAccess(e store.Event) (subject, key string, ok bool) {
	switch {
	case e.Action == store.CredentialReveal && e.Outcome == store.OutcomeOK, e.Action == store.LeaseGranted:
		return callerOf(e), e.Target.ID, callerOf(e) != "" && e.Target.ID != ""
	}
	return "", "", false
}

func draftAccess(e store.Event, f finding) Draft {
	d := Draft{Meta: Meta{Type: DataBreach, Severity: High, Title: "Mass access by " + named(e.Actor)}, Touch: touchOf(e)}
	d.Credentials = f.keys
	d.Description = plural(f.count, "different credential") + " were revealed, exported or lent to this caller within an hour. The limit for them was " + strconv.Itoa(f.limit) +
		"; usual, in an hour in which they do anything, are about " + strconv.FormatInt((f.usually+500)/1000, 10) + "."
	return d
}

func seeDenied(e store.Event) (subject, key string, ok bool) {
	if e.Action != store.CredentialRefused || e.Outcome != store.OutcomeRefused || e.Reason == "step_up_required" {
		return "", "", false
	}
	act, _ := e.Details.Get("act")
	switch act.Text() {
	case "reveal", "export":
		return callerOf(e), e.ID, callerOf(e) != ""
	}
	return "", "", false
}

func draftDenied(e store.Event, f finding) Draft {
	d := Draft{Meta: Meta{Type: UnauthorizedAccess, Severity: Medium, Title: "Denied reveals of " + named(e.Actor)}, Touch: touchOf(e)}
	d.Description = "This caller was refused " + plural(f.count, "reveal") + " within an hour. The limit is " + strconv.Itoa(f.limit) + "."
	return d
}

func seeUnopened(e store.Event) (subject, key string, ok bool) {
	if e.Action != store.CredentialReveal || e.Outcome != store.OutcomeFailed {
		return "", "", false
	}
	return "vault", e.Target.ID, e.Target.ID != ""
}

func draftUnopened(_ store.Event, f finding) Draft {
	d := Draft{Meta: Meta{Type: UnauthorizedAccess, Severity: High, Title: "Sealed secrets do not open"}}
	d.Credentials = f.keys
	d.Description = plural(f.count, "credential") + " did not open within an hour, or was changed outside Signalbox. Somebody may have written into the database, or the root key is another one. See signalbox doctor."
	return d
}

func seeReuse(e store.Event) (subject, key string, ok bool) {
	switch {
	case e.Action == store.IdentityTokens && e.Outcome == store.OutcomeRefused && e.Reason == "reused" && e.OnBehalf != "":
		return e.OnBehalf, e.ID, true
	case e.Action == store.OAuthNeedsLogin && e.Reason == "invalid_grant" && e.Target.ID != "":
		return e.Target.ID, e.ID, true
	}
	return "", "", false
}

func draftReuse(e store.Event, _ finding) Draft {
	if e.Action == store.IdentityTokens {
		d := Draft{Meta: Meta{Type: CredentialLeak, Severity: High, Title: "A refresh token came twice"}, Touch: Touch{People: []string{e.OnBehalf}}}
		d.Description = "A refresh token of this person's program came a second time, so two hold it: the program, and perhaps somebody who copied it. The session was ended."
		return d
	}
	d := Draft{Meta: Meta{Type: CredentialLeak, Severity: Medium, Title: "Refresh token refused: " + clean(e.Target.Name)}, Touch: Touch{Credentials: []string{e.Target.ID}}}
	d.Description = "The provider refuses the refresh token of this account as spent or revoked. If nobody revoked it there, another program uses a copy of it."
	return d
}

// named is what a title calls an actor.
func named(a store.Actor) string { return cmp.Or(clean(a.Name), clean(a.ID), "somebody") }

// clean makes a text that somebody chose fit for a title.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if r := []rune(s); len(r) > maxTitle/2 {
		s = string(r[:maxTitle/2])
	}
	return strings.TrimSpace(s)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
