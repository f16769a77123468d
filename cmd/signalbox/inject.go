package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/secret"
)

// mostTemplate bounds a template, mostReason what is recorded of why it was filled in.
const mostTemplate, mostReason = 1 << 20, 500

func (s *shell) injectCommand() *cobra.Command {
	var from, to, reason string
	var replace bool
	cmd := s.remote("inject", "Fill the references of a template with secrets; each is recorded as revealed", words(), func(cmd *cobra.Command, _ []string) error {
		if from == "" || to == "" {
			return usage("say with -i which template to fill in, and with -o which file to write (- for standard output)")
		}
		text, err := s.readTemplate(from)
		if err != nil {
			return err
		}
		parts, err := parseTemplate(text)
		if err != nil {
			return err
		}
		out := outFile{path: to, replace: replace}
		if to != "-" {
			if err := out.check(from); err != nil { // before anything is revealed
				return err
			}
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		f := filling{shell: s, client: c, found: map[string]client.Credential{}, values: map[string]secret.Value{}}
		if err := f.find(cmd.Context(), parts); err != nil {
			return err
		}
		if err := f.reveal(cmd.Context(), parts, injectReason(from, to, reason)); err != nil {
			return err
		}
		whole, err := f.text(parts)
		if err != nil {
			return err
		}
		if to == "-" {
			if s.json {
				return s.writeJSON(s.out, map[string]string{"text": whole.Reveal()})
			}
			_, err := s.out.WriteString(whole.Reveal())
			return err
		}
		if err := out.write(whole); err != nil {
			return err
		}
		return s.show(map[string]any{"file": to, "references": f.references, "revealed": len(f.values)}, func() {
			s.say("Wrote %s: filled in %s. It holds secrets and is readable by you alone; each is on record as revealed.", to, count(int64(f.references), "reference", "references"))
		})
	})
	flags := cmd.Flags()
	flags.StringVarP(&from, "input", "i", "", "template to fill in (- for standard input)")
	flags.StringVarP(&to, "output", "o", "", "file to write, mode 0600 (- for standard output)")
	flags.BoolVar(&replace, "replace", false, "write over the file where it is there already")
	flags.StringVar(&reason, "reason", "", "why it is needed; recorded beside the names of the files")
	return cmd
}

// injectReason is what is recorded with each reveal.
func injectReason(from, to, reason string) string {
	name := func(path, stream string) string {
		if path == "-" {
			return stream
		}
		return filepath.Base(path)
	}
	text := fmt.Sprintf("inject %s into %s", name(from, "standard input"), name(to, "standard output"))
	if reason = strings.TrimSpace(reason); reason != "" {
		text = reason + " (" + text + ")"
	}
	letters := []rune(printable(text))
	return string(letters[:min(len(letters), mostReason)])
}

func (s *shell) readTemplate(path string) (string, error) {
	in := s.in
	if path != "-" {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		if !info.Mode().IsRegular() {
			return "", usage("%s is no file that holds a template", path)
		}
		if in, err = os.Open(path); err != nil {
			return "", err
		}
		defer in.Close()
	}
	b, err := io.ReadAll(io.LimitReader(in, mostTemplate+1))
	if err != nil {
		return "", fmt.Errorf("read the template: %w", err)
	}
	if len(b) > mostTemplate {
		return "", usage("the template is over 1 MiB")
	}
	return string(b), nil
}

// filling is a template that is being filled in.
type filling struct {
	*shell
	client     *client.Client
	found      map[string]client.Credential // by the name in the template
	values     map[string]secret.Value      // by credential and field
	references int
}

// usernameField is the one field of a reference that is no secret: nothing is revealed for it.
const usernameField = "username"

// find looks every credential and field up, and names all that are not there at once. Nothing is revealed before all of them are.
func (f *filling) find(ctx context.Context, parts []part) error {
	var missing []string
	absent := map[string]string{}
	for i := range parts {
		p := &parts[i]
		if !p.isReference() {
			continue
		}
		f.references++
		cred, known := f.found[p.name]
		if !known && absent[p.name] == "" {
			var err error
			cred, err = getCredential(ctx, f.client, p.name)
			var wrong *usageError
			switch {
			case isNotFound(err):
				absent[p.name] = fmt.Sprintf("there is no credential %q", p.name)
			case errors.As(err, &wrong): // two have the name
				absent[p.name] = wrong.text
			case err != nil:
				return err
			default:
				f.found[p.name] = cred
			}
		}
		why := absent[p.name]
		if why == "" {
			why = p.settle(cred)
		}
		if why != "" {
			missing = append(missing, fmt.Sprintf("line %d: %s", p.line, why))
		}
	}
	if len(missing) > 0 {
		return notFound("%s cannot be filled in; nothing was revealed, and nothing written:\n  %s", count(int64(len(missing)), "reference", "references"), strings.Join(missing, "\n  "))
	}
	return nil
}

// settle says which field of the credential is meant, or why there is none.
func (p *part) settle(cred client.Credential) string {
	switch {
	case p.field == "" && len(cred.SecretFields) == 1:
		p.field = cred.SecretFields[0]
	case p.field == "":
		return fmt.Sprintf("the credential %q has several secret fields; say which: %s", p.name, strings.Join(cred.SecretFields, ", "))
	case slices.Contains(cred.SecretFields, p.field):
	case p.field == usernameField && cred.Username != "":
		p.value, p.open = cred.Username, true
	default:
		return fmt.Sprintf("the credential %q has no field %q; there are: %s", p.name, p.field, strings.Join(cred.SecretFields, ", "))
	}
	return ""
}

// key names the value of a reference: two names may be those of one credential.
func (f *filling) key(p part) string { return f.found[p.name].ID + "/" + p.field }

// reveal asks for each field once, however often it stands in the template.
func (f *filling) reveal(ctx context.Context, parts []part, reason string) error {
	for _, p := range parts {
		if _, known := f.values[f.key(p)]; known || !p.isReference() || p.open {
			continue
		}
		value, err := f.client.RevealCredential(ctx, f.found[p.name].ID, p.field, reason)
		if err != nil {
			f.note("Nothing was written: line %d, %q of the credential %q, is not revealed.", p.line, p.field, p.name)
			return err
		}
		f.values[f.key(p)] = secret.FromString(value)
	}
	return nil
}

// text is the template with its values.
func (f *filling) text(parts []part) (secret.Value, error) {
	var b strings.Builder
	for _, p := range parts {
		if !p.isReference() {
			b.WriteString(p.text)
			continue
		}
		value := p.value
		if !p.open {
			value = f.values[f.key(p)].Reveal()
		}
		quoted, err := p.quote(value)
		if err != nil {
			return secret.Value{}, fmt.Errorf("line %d, %q of the credential %q; nothing was written: %w", p.line, p.field, p.name, err)
		}
		b.WriteString(quoted)
	}
	return secret.FromString(b.String()), nil
}
