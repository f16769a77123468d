package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/stray"
)

// maxSecret bounds what is read as one secret.
const maxSecret = 64 << 10

// secretFlags are the ways in which secret fields come in.
type secretFlags struct {
	stdin string
	files []string
	from  []string
}

func (f *secretFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.stdin, "secret-stdin", "", "read this secret field from standard input")
	cmd.Flags().StringArrayVar(&f.files, "secret-file", nil, "read a secret field from a file: FIELD=PATH, or FIELD=- for standard input (may be given several times)")
	cmd.Flags().StringArrayVar(&f.from, "secret-from", nil, "read a secret field from a variable in a settings file: FIELD=FILE:NAME, as signalbox doctor shows it (may be given several times)")
}

// field is a secret field to be asked for.
type field struct {
	name     string
	optional bool
}

// read returns the secret fields that the flags name. ask are the fields to prompt for when no flag names any field.
func (f *secretFlags) read(ctx context.Context, s *shell, ask []field) (map[string]secret.Value, error) {
	out := map[string]secret.Value{}
	add := func(flag, pair, form string, read func(rest string) (secret.Value, error)) error {
		name, rest, ok := strings.Cut(pair, "=")
		if !ok || name == "" || rest == "" {
			return usage("%s wants %s", flag, form)
		}
		if _, twice := out[name]; twice {
			return usage("the secret field %s is given twice", name)
		}
		v, err := read(rest)
		if err != nil {
			return fmt.Errorf("read the secret field %s: %w", name, err)
		}
		out[name] = v
		return nil
	}
	files := f.files
	if f.stdin != "" {
		files = append(slices.Clone(files), f.stdin+"=-")
	}
	piped := false
	for _, pair := range files {
		err := add("--secret-file", pair, "FIELD=PATH", func(path string) (secret.Value, error) {
			if path == "-" {
				if piped {
					return secret.Value{}, usage("standard input holds one secret field only")
				}
				piped = true
				return s.readStdin("standard input")
			}
			v, err := secret.ReadFile(path)
			return chomp(v.Bytes()), err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, pair := range f.from {
		err := add("--secret-from", pair, "FIELD=FILE:NAME", func(rest string) (secret.Value, error) {
			at := strings.LastIndexByte(rest, ':')
			if at < 1 || at == len(rest)-1 {
				return secret.Value{}, usage("--secret-from wants FIELD=FILE:NAME")
			}
			return stray.Read(rest[:at], rest[at+1:])
		})
		if err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		if err := s.askFields(ctx, ask, out); err != nil {
			return nil, err
		}
	}
	for name, v := range out {
		if v.IsZero() {
			return nil, usage("the secret field %s is empty", name)
		}
	}
	return out, nil
}

// askFields prompts for each field; an optional one may be left empty.
func (s *shell) askFields(ctx context.Context, ask []field, into map[string]secret.Value) error {
	for _, f := range ask {
		what := f.name
		if f.optional {
			if !term.IsTerminal(int(s.in.Fd())) {
				continue
			}
			what += ", if there is one"
		}
		v, err := s.prompt(ctx, what, "--secret-stdin "+f.name)
		if err != nil {
			return err
		}
		if !v.IsZero() {
			into[f.name] = v
		} else if !f.optional {
			return errNothingTyped
		}
	}
	return nil
}

// askNamed prompts for fields of any names, until a name is left empty.
func (s *shell) askNamed(ctx context.Context) (map[string]secret.Value, error) {
	out := map[string]secret.Value{}
	for {
		name, err := s.line(ctx, "Name of a secret field (empty to end): ")
		if err != nil || name == "" {
			return out, err
		}
		if err := s.askFields(ctx, []field{{name: name}}, out); err != nil {
			return nil, err
		}
	}
}

// revealed is the form in which the client sends secrets.
func revealed(secrets map[string]secret.Value) map[string]string {
	out := make(map[string]string, len(secrets))
	for _, field := range slices.Sorted(maps.Keys(secrets)) {
		out[field] = secrets[field].Reveal()
	}
	return out
}

// chomp drops the line break with which editors and echo end a single line. A text of several lines, such as a key, stays as it is.
func chomp(b []byte) secret.Value {
	line := bytes.TrimSuffix(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if bytes.ContainsRune(line, '\n') {
		line = b
	}
	return secret.New(line)
}

// readStdin reads a secret from standard input, which must be a pipe or a file: at a terminal it would show on the screen.
func (s *shell) readStdin(flag string) (secret.Value, error) {
	if term.IsTerminal(int(s.in.Fd())) {
		return secret.Value{}, usage("%s reads from a pipe or a file, and this is a terminal; leave the flag out to be asked", flag)
	}
	b, err := io.ReadAll(io.LimitReader(s.in, maxSecret+1))
	if err != nil {
		return secret.Value{}, fmt.Errorf("read standard input: %w", err)
	}
	if len(b) > maxSecret {
		return secret.Value{}, usage("standard input holds over 64 KiB; that is no secret")
	}
	v := chomp(b)
	if v.IsZero() {
		return secret.Value{}, usage("standard input is empty, and %s reads the secret from there", flag)
	}
	return v, nil
}

var errNothingTyped = usage("nothing was typed")

// ask prompts for a secret without echo. Without a terminal it says which flag to use instead.
func (s *shell) ask(ctx context.Context, what, flag string) (secret.Value, error) {
	v, err := s.prompt(ctx, what, flag)
	if err == nil && v.IsZero() {
		err = errNothingTyped
	}
	return v, err
}

// prompt is ask, but takes an empty answer. A key or certificate in PEM is read to its last line: the rest of a paste must not reach the
// shell that comes after.
func (s *shell) prompt(ctx context.Context, what, flag string) (secret.Value, error) {
	fd := int(s.in.Fd())
	if !term.IsTerminal(fd) {
		return secret.Value{}, usage("there is no terminal to ask for the %s; give it on standard input with %s", what, flag)
	}
	before, err := term.GetState(fd)
	if err != nil {
		return secret.Value{}, err
	}
	// The echo is off before the prompt shows, so that what a quick hand (or a program) types at once is not shown either.
	if err := echoOff(fd); err != nil {
		return secret.Value{}, err
	}
	defer func() { _ = term.Restore(fd, before) }()
	fmt.Fprintf(s.err, "%s (not shown): ", printable(what))
	type typed struct {
		b   []byte
		err error
	}
	answer := make(chan typed, 1)
	go func() {
		b, err := readHidden(fd)
		answer <- typed{b, err}
	}()
	select {
	case <-ctx.Done():
		// The reader cannot be woken; the terminal must get its echo back all the same.
		_ = term.Restore(fd, before)
		fmt.Fprintln(s.err)
		return secret.Value{}, ctx.Err()
	case got := <-answer:
		_ = term.Restore(fd, before)
		fmt.Fprintln(s.err)
		if errors.Is(got.err, io.EOF) {
			return secret.Value{}, errNothingTyped
		}
		if got.err != nil {
			return secret.Value{}, fmt.Errorf("read the terminal: %w", got.err)
		}
		return secret.New(got.b), nil
	}
}

// readHidden reads a line, or all lines of a PEM block, from a terminal whose echo is off.
func readHidden(fd int) ([]byte, error) {
	out, err := term.ReadPassword(fd)
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(out), []byte("-----BEGIN ")) {
		return out, err
	}
	for len(out) <= maxSecret {
		line, err := term.ReadPassword(fd)
		if err != nil {
			return nil, err
		}
		out = append(append(out, '\n'), line...)
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("-----END ")) {
			return append(out, '\n'), nil
		}
	}
	return nil, errors.New("what was typed is over 64 KiB; that is no secret")
}

// line asks for a line that is no secret.
func (s *shell) line(ctx context.Context, question string) (string, error) {
	fmt.Fprint(s.err, printable(question))
	answer := make(chan string, 1)
	go func() {
		buf := make([]byte, 256)
		n, _ := s.in.Read(buf)
		answer <- strings.TrimSpace(string(buf[:n]))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.err)
		return "", ctx.Err()
	case a := <-answer:
		return a, nil
	}
}

// askTwice prompts for a new password until two entries agree.
func (s *shell) askTwice(ctx context.Context, what, flag string) (secret.Value, error) {
	for {
		first, err := s.ask(ctx, what, flag)
		if err != nil {
			return secret.Value{}, err
		}
		second, err := s.ask(ctx, what+" again", flag)
		if err != nil {
			return secret.Value{}, err
		}
		if first.Equal(second) {
			return first, nil
		}
		s.note("The two entries differ. Once more.")
	}
}

// confirm asks before something that cannot be undone. Without a terminal only --yes confirms.
func (s *shell) confirm(ctx context.Context, sure bool, question string) error {
	if sure {
		return nil
	}
	if !term.IsTerminal(int(s.in.Fd())) {
		return usage("this cannot be undone; add --yes to do it without being asked")
	}
	a, err := s.line(ctx, question+" [y/N] ")
	if err != nil {
		return err
	}
	if a = strings.ToLower(a); a == "y" || a == "yes" {
		return nil
	}
	return errors.New("nothing was done")
}
