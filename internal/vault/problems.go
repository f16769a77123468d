package vault

import (
	"errors"
	"strconv"

	"signalbox.dev/signalbox/internal/fault"
)

// problems collects everything that is wrong with an input, so that a person mends it in one go.
type problems struct {
	fields   []fault.Field
	missing  int          // of fields: required secret fields that were not given
	upstream *fault.Error // the first refusal of a URL; its field is among fields
	refused  int
}

func (p *problems) add(pointer, message string) {
	if message != "" {
		p.fields = append(p.fields, fault.Field{Pointer: pointer, Message: message})
	}
}

func (p *problems) miss(pointer, message string) {
	p.add(pointer, message)
	p.missing++
}

// url adds the refusal of a URL that Signalbox would not call.
func (p *problems) url(pointer string, err error) {
	if err == nil {
		return
	}
	f, ok := fault.As(err)
	if !ok {
		p.add(pointer, "is not a URL that Signalbox may call")
		return
	}
	p.add(pointer, f.Detail)
	p.refused++
	if p.upstream == nil {
		p.upstream = f
	}
}

// err returns nil, or one fault with every field. The code is the narrow one when all problems are of its kind.
func (p *problems) err() error {
	if len(p.fields) == 0 {
		return nil
	}
	var f *fault.Error
	switch len(p.fields) {
	case p.refused:
		f = fault.New(fault.Unprocessable, p.upstream.Code, p.upstream.Detail).Because(errors.Unwrap(p.upstream))
	case p.missing:
		f = fault.New(fault.Unprocessable, "secret_missing", "The credential lacks a secret that its type needs. Give the fields that are named and try again; nothing was changed.")
	default:
		f = fault.New(fault.Unprocessable, "validation_failed", "The credential cannot be stored like this. Correct the fields that are named and try again; nothing was changed.")
	}
	for _, field := range p.fields {
		f.With(field.Pointer, field.Message)
	}
	return f
}

// filterErr is err for the filters of a list, which store nothing.
func (p *problems) filterErr() error {
	if len(p.fields) == 0 {
		return nil
	}
	detail := "The credentials cannot be listed like this. Correct the filters that are named and try again."
	if len(p.fields) == 1 && p.fields[0].Pointer == "/cursor" {
		detail = "The cursor is not one that this list returned. Begin the list again without a cursor."
	}
	f := fault.New(fault.Unprocessable, "validation_failed", detail)
	for _, field := range p.fields {
		_ = f.With(field.Pointer, field.Message)
	}
	return f
}

// invalid returns the fault of one bad field.
func invalid(pointer, message string) error {
	var p problems
	p.add(pointer, message)
	return p.err()
}

func number(n int) string { return strconv.Itoa(n) }
