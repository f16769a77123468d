package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/secret"
)

// shell is what surrounds a command: its streams, its environment and what the common flags say.
type shell struct {
	in       *os.File
	out, err *os.File
	env      app.Environ
	json     bool
	by       string // what the command showed the server
	holder   string // whose that is, without telling it: a session, or the hash of a token
}

// system is the shell of the process.
func system() *shell {
	return &shell{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: app.Environment()}
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, s *shell) int {
	// The first signal ends the command in order; the second one, unless the command listens for it, ends the process as usual.
	ctx, stop := signal.NotifyContext(ctx, endings()...)
	defer stop()
	context.AfterFunc(ctx, stop)
	s.json = slices.Contains(args, "--json") // for errors of a command line that is not even parsed
	root := s.root()
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	return s.fail(cmd, err)
}

// endings are the signals that end a command in order. A closed terminal is one, unless whoever started us (nohup) wants it ignored.
func endings() []os.Signal {
	out := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		out = append(out, syscall.SIGHUP)
	}
	return out
}

// usageError is a command line that cannot be carried out as it is.
type usageError struct{ text string }

// Error says what is wrong.
func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// fail tells the user what went wrong and returns the exit code.
func (s *shell) fail(cmd *cobra.Command, err error) int {
	if errors.Is(err, errVerdict) || errors.Is(err, errUnwell) || errors.Is(err, errLost) {
		return 1
	}
	var done *ended
	if errors.As(err, &done) && done.text == "" { // a command of the user's has ended, and has said itself what there was to say
		return done.exit
	}
	p := s.told(err)
	if s.json {
		_ = s.writeJSON(s.err, p)
		return p.exit
	}
	text := p.Detail
	for _, f := range p.Errors {
		text += "\n  " + strings.TrimPrefix(f.Pointer, "/") + ": " + f.Message
	}
	if p.exit == 1 && p.RequestID != "" {
		text += "\n(request " + p.RequestID + ")"
	}
	fmt.Fprintf(s.err, "signalbox: %s\n", printable(text))
	var wrong *usageError
	if errors.As(err, &wrong) && cmd != nil {
		fmt.Fprintf(s.err, "Run '%s --help' for how to use it.\n", cmd.CommandPath())
	}
	return p.exit
}

// told is the problem with what somebody at a command line does about it.
func (s *shell) told(err error) failure {
	p := problem(err)
	switch {
	case p.Code == "unauthenticated" && s.by == byLogin:
		p.Detail += " On the command line: signalbox login."
	case p.Code == "step_up_required":
		p.Detail += " On the command line: signalbox login, and repeat it within five minutes."
	}
	return p
}

// failure is how a command fails, in the shape of the API's problems.
type failure struct {
	Code      string              `json:"code"`
	Detail    string              `json:"detail"`
	Errors    []client.FieldError `json:"errors,omitempty"`
	RequestID string              `json:"request_id,omitempty"`
	exit      int
}

func problem(err error) failure {
	var wrong *usageError
	var refused *client.Error
	var net *url.Error
	var over *ended
	switch f, isFault := fault.As(err); {
	case errors.As(err, &over):
		return failure{Code: over.code, Detail: over.text, exit: over.exit}
	case errors.As(err, &wrong):
		return failure{Code: "usage", Detail: wrong.text, exit: 2}
	case errors.As(err, &refused):
		return failure{Code: refused.Code, Detail: refused.Detail, Errors: refused.Errors, RequestID: refused.RequestID, exit: fault.KindOfStatus(refused.Status).Exit()}
	case isFault:
		out := failure{Code: f.Code, Detail: f.Detail, exit: f.Kind.Exit()}
		for _, field := range f.Fields {
			out.Errors = append(out.Errors, client.FieldError{Pointer: field.Pointer, Message: field.Message})
		}
		// Commands that open the database are their own log: an internal failure has nowhere else to tell its cause.
		if cause := f.Unwrap(); cause != nil && f.Kind == fault.Internal {
			out.Detail += " The cause: " + cause.Error()
		}
		return out
	case errors.Is(err, context.Canceled):
		return failure{Code: "interrupted", Detail: "interrupted; what was under way may or may not have been done", exit: 1}
	case errors.As(err, &net):
		return failure{Code: "unreachable", Detail: unreachable(net), exit: 5}
	default:
		return failure{Code: "failed", Detail: err.Error(), exit: 1}
	}
}

func unreachable(err *url.Error) string {
	where := "the server"
	if u, perr := url.Parse(err.URL); perr == nil {
		where = u.Scheme + "://" + u.Host
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "no Signalbox answers at " + where + "; start one with: signalbox serve (or name another with SIGNALBOX_URL)"
	}
	if err.Timeout() {
		return where + " did not answer in time; try again, and look at its /readyz"
	}
	return where + " cannot be reached: " + err.Err.Error()
}

// config reads the configuration with the flags that were given to cmd.
func (s *shell) config(cmd *cobra.Command) (app.Config, error) {
	cfg, err := app.Load(s.env, givenSettings(cmd))
	if err != nil {
		return app.Config{}, usage("%s", err)
	}
	return cfg, nil
}

// givenSettings are the settings that were given to cmd as flags.
func givenSettings(cmd *cobra.Command) map[string]string {
	flags := map[string]string{}
	for _, setting := range app.Settings() {
		name := setting.Flag()
		if name == "" {
			continue
		}
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			flags[name] = f.Value.String()
		}
	}
	return flags
}

// interactive says that a person watches: long work may show how far it is.
func (s *shell) interactive() bool { return !s.json && term.IsTerminal(int(s.err.Fd())) }

// settingFlags gives cmd the flags of the settings with these uses.
func settingFlags(cmd *cobra.Command, uses ...app.Use) {
	for _, setting := range app.Settings() {
		if slices.Contains(uses, setting.Use) {
			addSetting(cmd, setting)
		}
	}
}

// addSetting gives cmd the flag of a setting. The flag keeps the text as it was given; app.Load reads it.
func addSetting(cmd *cobra.Command, setting app.Setting) {
	if setting.Flag() == "" {
		return
	}
	doc := setting.Doc
	if setting.Default != "" && setting.Default != "false" {
		doc += " (default " + setting.Default + ")"
	}
	flag := cmd.Flags().VarPF(&settingFlag{setting: setting}, setting.Flag(), "", doc)
	if setting.Switch {
		flag.NoOptDefVal = "true"
	}
}

// settingFlag is a flag that keeps its text.
type settingFlag struct {
	setting app.Setting
	text    string
}

// String returns the text.
func (f *settingFlag) String() string { return f.text }

// Set keeps the text.
func (f *settingFlag) Set(text string) error { f.text = text; return nil }

// Type is what the help shows as the kind of value.
func (f *settingFlag) Type() string {
	if f.setting.Switch {
		return "bool"
	}
	return f.setting.Kind
}

// client returns the client of the server that the flags and the environment name, and its address.
func (s *shell) client(cmd *cobra.Command) (*client.Client, app.Config, error) {
	cfg, err := s.config(cmd)
	if err != nil {
		return nil, cfg, err
	}
	token := cfg.Token
	s.by = cfg.Origin("token")
	if token.IsZero() {
		k, err := s.keeper(&cfg)
		if err != nil {
			return nil, cfg, err
		}
		if k != nil {
			s.by, s.holder = byLogin, ofSession+k.last.session
			s.warnPlain(cfg.URL)
			plain := client.New(cfg.URL, "", client.WithUserAgent(agent()), client.WithTokens(k.token))
			if !s.interactive() || !term.IsTerminal(int(s.in.Fd())) {
				return plain, cfg, nil
			}
			prove := func(ctx context.Context) error { return s.proveAgain(ctx, plain) }
			return client.New(cfg.URL, "", client.WithUserAgent(agent()), client.WithTokens(k.token), client.WithStepUp(prove)), cfg, nil
		}
	}
	if token.IsZero() && app.IsLocal(cfg.URL) {
		s.by = app.OperatorTokenFile
		if token, err = app.ReadOperatorToken(cfg.DataDir); err != nil {
			return nil, cfg, fmt.Errorf("read the operator token: %w", err)
		}
	}
	if token.IsZero() {
		detail := "No token: run signalbox login --server " + cfg.URL + ", or set SIGNALBOX_TOKEN, or SIGNALBOX_TOKEN_FILE to the file that holds it."
		if app.IsLocal(cfg.URL) {
			detail += " On the server's own machine none is needed: there the first signalbox serve leaves one in " + filepath.Join(cfg.DataDir, app.OperatorTokenFile) + "."
		}
		return nil, cfg, fault.New(fault.Unauthenticated, "unauthenticated", detail)
	}
	s.holder = holderOf(token)
	s.warnPlain(cfg.URL)
	return client.New(cfg.URL, token.Reveal(), client.WithUserAgent(agent())), cfg, nil
}

// ofSession begins the name of a sign-in as a holder.
const ofSession = "session "

// holderOf names a token. It has so many random bits that its hash tells nothing of it.
func holderOf(token secret.Value) string {
	sum := sha256.Sum256([]byte(token.Reveal()))
	return "token " + hex.EncodeToString(sum[:8])
}

func agent() string { return "signalbox-cli/" + app.Version() }

func (s *shell) warnPlain(server string) {
	if strings.HasPrefix(server, "http:") && !app.IsLocal(server) {
		s.note("Warning: %s is not encrypted, so the token can be read on the way. Use the server's https address.", server)
	}
}

// colour says whether w may be written to in colours.
func (s *shell) colour(w *os.File) bool {
	return term.IsTerminal(int(w.Fd())) && s.env["NO_COLOR"] == "" && s.env["TERM"] != "dumb"
}

// note tells the user something that is not the answer of the command.
func (s *shell) note(format string, args ...any) {
	fmt.Fprintln(s.err, printable(fmt.Sprintf(format, args...)))
}

// say writes a line of the answer.
func (s *shell) say(format string, args ...any) {
	fmt.Fprintln(s.out, printable(fmt.Sprintf(format, args...)))
}

// printable replaces control characters, lines and tabs excepted: a name that somebody chose must not steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' || r == '\u2066' || r == '\u2067' || r == '\u2068' || r == '\u202a' || r == '\u202b' || r == '\u202d' {
			return '\ufffd'
		}
		return r
	}, text)
}
