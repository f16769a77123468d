package ui

import (
	"strconv"
	"strings"

	"github.com/a-h/templ"
)

func (f Field) kind() string {
	if f.Type == "" {
		return "text"
	}
	return f.Type
}

// attributes are those that an input and a text of several lines share.
func (f Field) attributes() templ.OrderedAttributes {
	var a templ.OrderedAttributes
	set := func(name string, value any) { a = append(a, templ.KeyValue[string, any]{Key: name, Value: value}) }
	if f.Autocomplete != "" {
		set("autocomplete", f.Autocomplete)
	}
	if !f.Optional && !f.Free {
		set("required", true)
	}
	if f.MinLength > 0 {
		set("minlength", strconv.Itoa(f.MinLength))
	}
	if f.MaxLength > 0 {
		set("maxlength", strconv.Itoa(f.MaxLength))
	}
	if f.Min != "" {
		set("min", f.Min)
	}
	if f.Max != "" {
		set("max", f.Max)
	}
	if len(f.List) > 0 {
		set("list", f.Name+"-list")
	}
	return append(a, said(f.Name, f.Hint, f.Error, f.Focus)...)
}

func choiceAttributes(c Choice) templ.OrderedAttributes { return said(c.Name, c.Hint, c.Error, false) }

// said ties what is said of a field to it.
func said(name, hint, wrong string, focus bool) (a templ.OrderedAttributes) {
	if ids := described(name, hint, wrong); ids != "" {
		a = append(a, templ.KeyValue[string, any]{Key: "aria-describedby", Value: ids})
	}
	if wrong != "" {
		a = append(a, templ.KeyValue[string, any]{Key: "aria-invalid", Value: "true"})
	}
	if focus {
		a = append(a, templ.KeyValue[string, any]{Key: "autofocus", Value: true})
	}
	return a
}

func described(name, hint, wrong string) string {
	var ids []string
	if hint != "" {
		ids = append(ids, name+"-hint")
	}
	if wrong != "" {
		ids = append(ids, name+"-error")
	}
	return strings.Join(ids, " ")
}

func (b Button) class() string {
	kind := b.Kind
	if kind == "" {
		kind = Primary
	}
	out := "button " + string(kind)
	if b.Small {
		out += " small"
	}
	return out
}

func (b Button) attributes() (a templ.OrderedAttributes) {
	for _, one := range [][2]string{{"name", b.Name}, {"value", b.Value}, {"aria-label", b.Says}, {"form", b.Form}, {"data-wait", b.Wait}} {
		if one[1] != "" {
			a = append(a, templ.KeyValue[string, any]{Key: one[0], Value: one[1]})
		}
	}
	return a
}
