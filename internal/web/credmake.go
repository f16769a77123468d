package web

import (
	"net/url"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/generate"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// makePrefix begins the names of the lists that say who makes a secret field. The name alone is for the field that a person names in the same form.
const makePrefix = "generate/"

// recipe is one thing that Signalbox can make, as a form offers it.
type recipe struct {
	name, label string
	spec        generate.Spec
}

// recipes are what is offered; the command line and the REST API take every other specification.
func recipes() []recipe {
	return []recipe{
		{"password", "a password of 24 characters, symbols among them", generate.Spec{Kind: generate.Password}},
		{"letters", "a password of 32 letters and digits", generate.Spec{Kind: generate.Password, Length: 32, Classes: []string{"lower", "upper", "digits"}}},
		{"passphrase", "a passphrase of 6 words", generate.Spec{Kind: generate.Passphrase}},
		{"hex", "32 random bytes as hexadecimal digits", generate.Spec{Kind: generate.Hex}},
		{"base64url", "32 random bytes in base64url", generate.Spec{Kind: generate.Base64URL}},
		{"ed25519", "an Ed25519 key pair", generate.Spec{Kind: generate.Ed25519}},
		{"rsa", "an RSA key pair of 3072 bits", generate.Spec{Kind: generate.RSA}},
	}
}

// makeChoices offer, for each secret field that Signalbox can make, to make it. have are the names of fields that the credential has now.
func makeChoices(row vault.TypeRow, have []string, chosen url.Values) []ui.Choice {
	var out []ui.Choice
	add := func(name, label string, makes vault.Making) {
		c := ui.Choice{Name: name, Label: label + ": made by", Options: []ui.Option{{Label: "you: type it above"}}}
		for _, one := range recipes() {
			kind, _ := generate.Lookup(one.spec.Kind)
			if makes == vault.MadeAsEither || (makes == vault.MadeAsKeyPair) == kind.Pair {
				c.Options = append(c.Options, ui.Option{Value: one.name, Label: "Signalbox: " + one.label, Chosen: chosen.Get(name) == one.name})
			}
		}
		out = append(out, c)
	}
	for _, f := range row.Secrets {
		if f.Makes != vault.MadeNowhere {
			add(makePrefix+f.Name, fieldLabel(f.Name), f.Makes)
		}
	}
	if row.AnyNames {
		for _, name := range have {
			add(makePrefix+name, fieldLabel(name), vault.MadeAsEither)
		}
		add("generate", "The named field", vault.MadeAsEither)
	}
	return out
}

// makesPosted reads what is to be made.
func makesPosted(form url.Values) (vault.Generates, error) {
	var out vault.Generates
	for name := range form {
		field, ok := strings.CutPrefix(name, makePrefix)
		if name == "generate" {
			field, ok = form.Get("field"), true
		}
		wanted := form.Get(name)
		if !ok || wanted == "" {
			continue
		}
		found := false
		for _, one := range recipes() {
			if one.name == wanted {
				if out == nil {
					out = vault.Generates{}
				}
				out[field], found = one.spec, true
			}
		}
		if !found {
			return nil, fault.New(fault.Unprocessable, "validation_failed", "A field is not as it must be.").With("/"+name, "must be one of the list")
		}
	}
	return out, nil
}

// aimedAtName turns what is said of the fields of a type that takes any into what the form asks, where the name is what is wrong: beside the name.
func aimedAtName(f *fault.Error, row vault.TypeRow, form url.Values) *fault.Error {
	name := form.Get("field")
	if _, ok := row.Field(name); !row.AnyNames || ok || name == "" && form.Get("secrets") == "" {
		return f
	}
	out := fault.New(f.Kind, f.Code, f.Detail)
	for _, e := range f.Fields {
		if e.Pointer == "/secrets" || e.Pointer == "/secrets/"+name {
			e.Pointer = "/field"
		}
		_ = out.With(e.Pointer, e.Message)
	}
	return out
}

// aimedAtMakes turns what is said of a field that is made by its own name into what the form asks: the list beside the named field.
func aimedAtMakes(f *fault.Error, form url.Values) *fault.Error {
	out := fault.New(f.Kind, f.Code, f.Detail)
	for _, e := range f.Fields {
		if form.Get("generate") != "" && strings.HasPrefix(e.Pointer, "/"+makePrefix+form.Get("field")) {
			e.Pointer = "/generate"
		}
		_ = out.With(e.Pointer, e.Message)
	}
	return out
}
