package vault

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/facts"
	"signalbox.dev/signalbox/internal/secret"
)

// Facts about a secret are worked out when a version is stored, and lie with it. To read a key may take as long as its passphrase is made to
// take, so that it is never done in a transaction: an act that finds work of the kind rolls back, has it done on its desk, and begins anew.

// desk is where an act works before its transaction. It belongs to one act.
type desk struct {
	derived map[[sha256.Size]byte]derived
	made    made
}

type derived struct {
	facts    facts.Facts
	problems []facts.Problem
}

// pending is work that an act needs done before it can be tried again. As an error it rolls the transaction back, with nothing recorded.
type pending struct {
	work func() error
	// long says that it may keep a core busy for seconds.
	long bool
}

func (p *pending) Error() string { return "vault: an act waits for work outside its transaction" }

// maxTurns is how often an act may find new work: what it works on may change under it.
const maxTurns = 4

// turns runs an act until it finds no more work.
func (r *Room) turns(ctx context.Context, act func() error) error {
	for n := 0; ; n++ {
		err := act()
		var p *pending
		if !errors.As(err, &p) {
			return err
		}
		if n == maxTurns {
			return changedMeanwhile()
		}
		if err := r.work(ctx, p); err != nil {
			return err
		}
	}
}

// work does pending work; of what is long few pieces at a time, so that who asks for much waits, and nobody else.
func (r *Room) work(ctx context.Context, p *pending) error {
	if !p.long {
		return p.work()
	}
	select {
	case r.bench <- struct{}{}:
		defer func() { <-r.bench }()
		return p.work()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// prepare makes what is to be made for a new credential, and derives what is known of it.
func (r *Room) prepare(ctx context.Context, row TypeRow, d Draft) (secrets map[string]secret.Value, found derived, err error) {
	work := &desk{}
	err = r.turns(ctx, func() error {
		secrets = maps.Clone(d.Secrets)
		if secrets == nil {
			secrets = map[string]secret.Value{}
		}
		if err := work.fill(d.Generate, secrets); err != nil {
			return err
		}
		var err error
		found, err = work.factsOf(row, secrets)
		return err
	})
	return secrets, found, err
}

// factsOf returns what was derived from these secret fields, or the work that derives it.
func (d *desk) factsOf(row TypeRow, secrets map[string]secret.Value) (derived, error) {
	if !facts.Has(string(row.Type)) {
		return derived{}, nil
	}
	sum := digest(secrets)
	if known, ok := d.derived[sum]; ok {
		return known, nil
	}
	secrets = maps.Clone(secrets)
	return derived{}, &pending{long: !secrets["passphrase"].IsZero(), work: func() error {
		if d.derived == nil {
			d.derived = map[[sha256.Size]byte]derived{}
		}
		d.derived[sum] = derive(row, secrets)
		return nil
	}}
}

func derive(row TypeRow, secrets map[string]secret.Value) (out derived) {
	out.facts, out.problems = facts.Derive(string(row.Type), secrets)
	return out
}

// digest tells one set of secret fields from another while an act lasts.
func digest(secrets map[string]secret.Value) [sha256.Size]byte {
	h := sha256.New()
	put := func(b []byte) {
		h.Write(binary.AppendUvarint(nil, uint64(len(b))))
		h.Write(b)
	}
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		put([]byte(name))
		put(secrets[name].Bytes())
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// tell adds what is wrong with the secret fields to the problems of an input.
func (d derived) tell(p *problems) {
	for _, one := range d.problems {
		p.add("/secrets/"+one.Field, one.Message)
	}
}

// endsOf is when a credential with these facts ends by what its secret says. A token that can be signed anew has no end.
func endsOf(f facts.Facts, fields []string) *time.Time {
	if f.JWT != nil && slices.Contains(fields, "signing_key") {
		return nil
	}
	at := f.Ends()
	if timeProblem(at) != "" {
		return nil
	}
	return micro(at)
}

// follow gives a credential the expiry of its next secret, unless a person has set another than that of the last one. It reports whether it changed.
func (s *stored) follow(next facts.Facts, fields []string) bool {
	was, ends := endsOf(s.Facts, s.SecretFields), endsOf(next, fields)
	if s.ExpiresAt != nil && (was == nil || !was.Equal(*s.ExpiresAt)) || sameTime(s.ExpiresAt, ends) {
		return false
	}
	s.ExpiresAt = ends
	return true
}

func encodeFacts(f facts.Facts) (string, error) {
	if f.IsZero() {
		return "", nil
	}
	b, err := json.Marshal(f)
	return string(b), err
}

// decodeFacts reads what lies with a version; what cannot be read is not known.
func decodeFacts(text string) (f facts.Facts) {
	if text == "" || json.Unmarshal([]byte(text), &f) != nil {
		return facts.Facts{}
	}
	return f
}
