package vault

import (
	"maps"
	"slices"

	"signalbox.dev/signalbox/internal/generate"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Making says what may be generated for a secret field.
type Making string

// The makings.
const (
	MadeNowhere   Making = ""        // somebody else issues it
	MadeAsText    Making = "text"    // passwords, passphrases and random bytes
	MadeAsKeyPair Making = "keypair" // of which the public half is shown
	MadeAsEither  Making = "either"
)

// takes reports whether a kind fits the field.
func (m Making) takes(row generate.KindRow) bool {
	return m == MadeAsEither || m == MadeAsText && !row.Pair || m == MadeAsKeyPair && row.Pair
}

// Generates are the secret fields that Signalbox makes itself.
type Generates map[string]generate.Spec

// made are fields that were made for an act.
type made map[string]secret.Value

// check says what is wrong with the specifications beside these secret fields.
func (g Generates) check(row TypeRow, given func(field string) bool, p *problems) {
	for _, name := range slices.Sorted(maps.Keys(g)) {
		field, ok := row.Field(name)
		if !ok {
			p.add("/generate", "has a field that this type does not have; it takes "+fieldNames(row))
			continue
		}
		at := "/generate/" + name
		if given(name) {
			p.add(at, "is also given in secrets; give it in one of them")
		}
		for _, one := range g[name].Check() {
			p.add(at+"/"+one.Parameter, one.Message)
		}
		kind, known := generate.Lookup(g[name].Kind)
		switch {
		case field.Makes == MadeNowhere:
			p.add(at, "cannot be generated: somebody else issues it, or it follows from something else")
		case known && !field.Makes.takes(kind):
			p.add(at+"/kind", "does not fit this field: private keys are key pairs, everything else is not")
		}
	}
	if len(g) > maxSecretFields {
		p.add("/generate", "has too many fields; at most "+number(maxSecretFields))
	}
}

// standIn is what the checks of secret fields see in the place of one that is not made yet.
const standIn = "generated"

// planned are the secret fields with a stand-in for each that will be made.
func (g Generates) planned(secrets map[string]secret.Value) map[string]secret.Value {
	out := make(map[string]secret.Value, len(secrets)+len(g))
	maps.Copy(out, secrets)
	for name := range g {
		out[name] = secret.FromString(standIn)
	}
	return out
}

// make makes the fields. Key pairs come last, since the passphrase that encrypts one may be made as well.
func (g Generates) make(secrets map[string]secret.Value) (made, error) {
	out := made{}
	for _, pairs := range []bool{false, true} {
		for name, spec := range g {
			if row, _ := generate.Lookup(spec.Kind); row.Pair != pairs {
				continue
			}
			passphrase := secrets["passphrase"]
			if v, ok := out["passphrase"]; ok {
				passphrase = v
			}
			v, err := generate.Make(spec, passphrase)
			if err != nil {
				return nil, err
			}
			out[name] = v
		}
	}
	return out, nil
}

// details tell the record which fields were made here.
func (g Generates) details() store.Details {
	if len(g) == 0 {
		return nil
	}
	return store.Details{store.Strs("generated", slices.Sorted(maps.Keys(g)))}
}

// fill puts what is made into the secret fields, or returns the work that makes it. Within an act it is made once.
func (d *desk) fill(g Generates, secrets map[string]secret.Value) error {
	if len(g) == 0 {
		return nil
	}
	if d.made == nil {
		beside := maps.Clone(secrets)
		return &pending{long: true, work: func() (err error) {
			d.made, err = g.make(beside)
			return err
		}}
	}
	maps.Copy(secrets, d.made)
	return nil
}
