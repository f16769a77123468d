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
)

// maxSecret bounds what is read as one secret.
const maxSecret = 64 << 10

// secretFlags are the ways in which secret fields come in.
type secretFlags struct {
	stdin string
	files []string
}

func (f *secretFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.stdin, "secret-stdin", "", "read this secret field from standard input")
	cmd.Flags().StringArrayVar(&f.files, "secret-file", nil, "read a secret field from a file: FIELD=PATH (may be given several times)")
}

// read returns the secret fields that the flags name. ask are the fields to prompt for when no flag names any field.
func (f *secretFlags) read(ctx context.Context, s *shell, ask []string) (map[string]secret.Value, error) {
	out := map[string]secret.Value{}
	for _, pair := range f.files {
		field, path, ok := strings.Cut(pair, "=")
		if !ok || field == "" || path == "" {
			return nil, usage("--secret-file wants FIELD=PATH")
		}
		if _, twice := out[field]; twice {
			return nil, usage("the secret field %s is given twice", field)
		}
		v, err := secret.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the secret field %s: %w", field, err)
		}
		out[field] = chomp(v.Bytes())
	}
	if f.stdin != "" {
		if _, twice := out[f.stdin]; twice {
			return nil, usage("the secret field %s is given twice", f.stdin)
		}
		v, err := s.readStdin("--secret-stdin")
		if err != nil {
			return nil, err
		}
		out[f.stdin] = v
	}
	if len(out) == 0 {
		for _, field := range ask {
			v, err := s.ask(ctx, field, "--secret-stdin "+field)
			if err != nil {
				return nil, err
			}
			out[field] = v
		}
	}
	for field, v := range out {
		if v.IsZero() {
			return nil, usage("the secret field %s is empty", field)
		}
	}
	return out, nil
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
		return secret.Value{}, usage("standard input is empty; %s expects the secret there", flag)
	}
	return v, nil
}

// ask prompts for a secret without echo. Without a terminal it says which flag to use instead.
func (s *shell) ask(ctx context.Context, what, flag string) (secret.Value, error) {
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
	fmt.Fprintf(s.err, "%s (not shown): ", what)
	type typed struct {
		b   []byte
		err error
	}
	line := make(chan typed, 1)
	go func() {
		b, err := term.ReadPassword(fd)
		line <- typed{b, err}
	}()
	select {
	case <-ctx.Done():
		// The reader cannot be woken; the terminal must get its echo back all the same.
		_ = term.Restore(fd, before)
		fmt.Fprintln(s.err)
		return secret.Value{}, ctx.Err()
	case got := <-line:
		_ = term.Restore(fd, before)
		fmt.Fprintln(s.err)
		if errors.Is(got.err, io.EOF) {
			return secret.Value{}, usage("nothing was typed")
		}
		if got.err != nil {
			return secret.Value{}, fmt.Errorf("read the terminal: %w", got.err)
		}
		v := secret.New(got.b)
		if v.IsZero() {
			return secret.Value{}, usage("nothing was typed")
		}
		return v, nil
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
	fmt.Fprintf(s.err, "%s [y/N] ", printable(question))
	answer := make(chan string, 1)
	go func() {
		buf := make([]byte, 256)
		n, _ := s.in.Read(buf)
		answer <- strings.ToLower(strings.TrimSpace(string(buf[:n])))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.err)
		return ctx.Err()
	case a := <-answer:
		if a == "y" || a == "yes" {
			return nil
		}
		return errors.New("nothing was done")
	}
}
