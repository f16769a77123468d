package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/keyring"
)

// withLog reads the configuration and gives it a logger on standard error.
func (s *shell) withLog(cmd *cobra.Command) (app.Config, error) {
	cfg, err := s.config(cmd)
	if err != nil {
		return cfg, err
	}
	cfg.Log = app.NewLog(s.err, term.IsTerminal(int(s.err.Fd())), cfg)
	return cfg, nil
}

// withQuietLog is withLog for commands whose own words are to be read: without --log-level only warnings are logged.
func (s *shell) withQuietLog(cmd *cobra.Command) (app.Config, error) {
	cfg, err := s.config(cmd)
	if err != nil {
		return cfg, err
	}
	if cfg.Origin("log-level") == "default" {
		cfg.LogLevel = slog.LevelWarn
	}
	cfg.Log = app.NewLog(s.err, term.IsTerminal(int(s.err.Fd())), cfg)
	return cfg, nil
}

// greeting is what serve tells about itself.
type greeting struct {
	URL      string `json:"url"`
	DataDir  string `json:"data_dir"`
	SetupURL string `json:"setup_url,omitempty"`
	// OperatorTokenFile and the root key are told at the first start only.
	OperatorTokenFile string `json:"operator_token_file,omitempty"`
	RootKeyFile       string `json:"root_key_file,omitempty"`
	RootKeyKeeper     string `json:"root_key_keeper,omitempty"`
	RootKeyID         string `json:"root_key_id,omitempty"`
}

func (s *shell) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the server", Args: words(),
		Long: "Runs the server until SIGINT or SIGTERM. On an empty data directory it works at once: it makes the directory, the root key, the database, the train " +
			"default and a token for commands on this machine, and prints a one-time link to make the first administrator.\n\n" +
			"Each flag has an environment variable, SIGNALBOX_ and its name in capitals. What is secret has only that: " + secretVariables() + ". " +
			"Each variable has a twin with _FILE, which names a file to read the value from.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			signals, stop := watchSignals()
			defer stop()
			cfg, err := s.withLog(cmd)
			if err != nil {
				return err
			}
			l, err := app.Listen(cfg) // first, so that a taken port leaves no half-made data directory behind
			if err != nil {
				return err
			}
			told := false
			tell := app.Running{
				Opened: func(a *app.App) {
					if told { // it stood sealed
						s.note("Signalbox serves again on %s", cfg.LocalURL(l.Addr()))
						return
					}
					told = true
					s.greet(a, cfg, l.Addr())
				},
				Sealed: s.tellSealed,
			}
			return s.serve(cmd.Context(), signals, func(ctx context.Context, cut <-chan struct{}) error {
				tell.Cut = cut
				return app.Run(ctx, cfg, l, tell)
			})
		},
	}
	settingFlags(cmd, app.UseData, app.UseLog, app.UseServe)
	return cmd
}

// secretVariables lists the variables of the settings that have no flag.
func secretVariables() string {
	var out []string
	for _, setting := range app.Settings() {
		if setting.Secret && setting.Use == app.UseData {
			out = append(out, strings.Join(setting.Env, " or ")+" ("+setting.Doc+")")
		}
	}
	return strings.Join(out, "; ")
}

// watchSignals counts the signals from now on. While it does, none of them ends the process by itself.
func watchSignals() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 2)
	signal.Notify(signals, endings()...)
	return signals, func() { signal.Stop(signals) }
}

// serve runs the server until ctx ends by the first signal. A second signal cuts what is still open.
func (s *shell) serve(ctx context.Context, signals <-chan os.Signal, run func(ctx context.Context, cut <-chan struct{}) error) error {
	served, cut := make(chan struct{}), make(chan struct{})
	defer close(served)
	go func() {
		<-ctx.Done()
		for n := 0; n < 2; n++ { // the first one is what ended ctx
			select {
			case <-signals:
			case <-served:
				return
			}
		}
		close(cut)
	}()
	return run(ctx, cut)
}

// tellSealed says that the server stands sealed.
func (s *shell) tellSealed(seal keyring.ServerSeal) {
	s.note("Signalbox is sealed, since %s: it lends and opens nothing. To lift the seal, with the settings of the server: signalbox unseal", moment(seal.At))
}

func (s *shell) greet(a *app.App, cfg app.Config, address net.Addr) {
	g := greeting{URL: cfg.LocalURL(address), DataDir: a.DataDir()}
	first := a.First()
	if first.Done {
		g.OperatorTokenFile, g.RootKeyFile, g.RootKeyKeeper, g.RootKeyID = first.OperatorTokenFile, first.RootKeyFile, first.RootKeyKeeper, first.RootKeyID
	}
	if !first.Setup.IsZero() {
		g.SetupURL = g.URL + "/setup?token=" + first.Setup.Reveal()
	}
	_ = s.show(g, func() {
		s.say("Signalbox serves on %s", g.URL)
		if !first.Done {
			return
		}
		s.say("")
		s.say("This is the first start. The data directory is %s", g.DataDir)
		if g.RootKeyFile != "" {
			s.say("  root.key        opens the database (%s). Keep a copy elsewhere: without it nobody can.", g.RootKeyID)
		}
		if g.RootKeyKeeper != "" {
			s.say("  The root key (%s) is wrapped by %s. Without that key nobody opens the database.", g.RootKeyID, g.RootKeyKeeper)
		}
		if g.OperatorTokenFile != "" {
			s.say("  operator.token  lets the command line on this machine in.")
		}
		if g.SetupURL != "" {
			s.say("")
			s.say("To make the first administrator, open this link; it works once, within 24 hours:")
			s.say("  %s", g.SetupURL)
		}
		if g.OperatorTokenFile != "" {
			s.say("")
			s.say("Next, in another terminal:")
			if words := surroundings(cfg, g); words != "" {
				s.say("  export %s", words)
			}
			s.say("  signalbox account add")
			s.say("  signalbox connect claude-code")
		}
	})
}

// surroundings are the variables that commands in another terminal need when this server is not where they look by themselves.
func surroundings(cfg app.Config, g greeting) string {
	var out []string
	if cfg.Origin("listen") != "default" {
		out = append(out, "SIGNALBOX_URL="+quote(g.URL))
	}
	if cfg.Origin("data-dir") != "default" {
		out = append(out, "SIGNALBOX_DATA_DIR="+quote(g.DataDir))
	}
	return strings.Join(out, " ")
}

func (s *shell) initCommand() *cobra.Command {
	var admin app.Admin
	var life string
	var stdin bool
	cmd := &cobra.Command{
		Use: "init", Short: "Make the first administrator, without a browser", Args: words(),
		Long: "Makes the first administrator and prints a personal access token of all scopes, once. On an empty data directory it first makes what is needed to " +
			"serve. It opens the data directory itself, so the server must not run. Run again with the same e-mail address and password, it issues another token.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if admin.Email == "" {
				return usage("--admin-email is missing")
			}
			var err error
			if admin.TokenLife, err = parseSpan(life); err != nil {
				return err
			}
			if admin.TokenLife < time.Minute {
				return usage("--token-life must be a minute or more")
			}
			if admin.Name == "" {
				admin.Name, _, _ = strings.Cut(admin.Email, "@")
			}
			cfg, err := s.withQuietLog(cmd)
			if err != nil {
				return err
			}
			if stdin {
				admin.Password, err = s.readStdin("--password-stdin")
			} else {
				admin.Password, err = s.askTwice(cmd.Context(), "Password of "+admin.Email, "--password-stdin")
			}
			if err != nil {
				return err
			}
			made, err := app.Init(cmd.Context(), cfg, admin)
			if err != nil {
				return err
			}
			out := map[string]any{
				"access_token": made.AccessToken.Reveal(), "expires_at": made.ExpiresAt, "data_dir": cfg.DataDir,
				"user": map[string]string{"id": made.User.ID, "email": made.User.Email, "name": made.User.Name, "role": string(made.User.Role)},
			}
			if made.First.RootKeyFile != "" {
				out["root_key_file"], out["root_key_id"] = made.First.RootKeyFile, made.First.RootKeyID
			}
			if made.First.RootKeyKeeper != "" {
				out["root_key_keeper"], out["root_key_id"] = made.First.RootKeyKeeper, made.First.RootKeyID
			}
			return s.show(out, func() {
				if made.First.RootKeyKeeper != "" {
					s.note("The root key (%s) is wrapped by %s. Without that key nobody opens the database.", made.First.RootKeyID, made.First.RootKeyKeeper)
				}
				if made.First.RootKeyFile != "" {
					s.note("Made %s (%s), which opens the database. Keep a copy elsewhere: without it nobody can.", made.First.RootKeyFile, made.First.RootKeyID)
				}
				if made.Again {
					s.note("%s was made the administrator before; this is another token.", made.User.Email)
				}
				s.note("%s is the administrator. The access token is shown only now and valid until %s; give it to commands as SIGNALBOX_TOKEN:", made.User.Email, moment(made.ExpiresAt))
				s.say("%s", made.AccessToken.Reveal())
			})
		},
	}
	settingFlags(cmd, app.UseData, app.UseLog)
	flags := cmd.Flags()
	flags.StringVar(&admin.Email, "admin-email", "", "e-mail address of the administrator")
	flags.StringVar(&admin.Name, "admin-name", "", "name of the administrator (default what stands before the @)")
	flags.BoolVar(&stdin, "password-stdin", false, "read the password from standard input instead of asking")
	flags.StringVar(&life, "token-life", "30d", "how long the access token is valid")
	return cmd
}

func (s *shell) devCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dev", Short: "Try it: throw-away data, a sample train and a built-in fake of an LLM provider", Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			signals, stop := watchSignals()
			defer stop()
			cfg, err := s.withQuietLog(cmd)
			if err != nil {
				return err
			}
			l, err := app.Listen(cfg)
			if err != nil && cfg.Origin("listen") == "default" { // a Signalbox that works may hold the usual port
				cfg.Listen = "127.0.0.1:0"
				l, err = app.Listen(cfg)
			}
			if err != nil {
				return err
			}
			d, err := app.OpenDev(cmd.Context(), cfg)
			if err != nil {
				_ = l.Close()
				return err
			}
			s.introduce(d, cfg.LocalURL(l.Addr()))
			return errors.Join(s.serve(cmd.Context(), signals, func(ctx context.Context, cut <-chan struct{}) error {
				return d.Run(ctx, l, app.Running{Cut: cut, Sealed: s.tellSealed})
			}), d.Close())
		},
	}
	settingFlags(cmd, app.UseLog, app.UseServe)
	return cmd
}

// trial is what dev tells in JSON.
type trial struct {
	BaseURL  string   `json:"base_url"`
	APIKey   string   `json:"api_key"`
	Train    string   `json:"train_id"`
	Accounts []string `json:"accounts"`
	Upstream string   `json:"fake_upstream"`
	DataDir  string   `json:"data_dir"`
	Curl     string   `json:"curl"`
	SetupURL string   `json:"setup_url"`
}

// curl is a request whose answer comes slowly enough to watch.
func curl(base, key string) string {
	return fmt.Sprintf(`curl -N %s/v1/messages -H "x-api-key: %s" -H "content-type: application/json" \
  -d '{"model":"fake-slow-80","max_tokens":200,"stream":true,"messages":[{"role":"user","content":"Say it token by token: a train enters the line only with its token."}]}'`, base, key)
}

func (s *shell) introduce(d *app.Dev, base string) {
	key := d.Key.Reveal()
	t := trial{BaseURL: base, APIKey: key, Train: d.Train, Accounts: d.Accounts(), Upstream: d.Upstream, DataDir: d.DataDir(), Curl: curl(base, key),
		SetupURL: base + "/setup?token=" + d.First().Setup.Reveal()}
	_ = s.show(t, func() {
		s.say("Signalbox serves on %s, with throw-away data and a fake LLM provider behind it.", base)
		s.say("Train %s may use the accounts %s. Paste into another terminal:", t.Train, strings.Join(t.Accounts, " and "))
		s.say("\n# curl: watch the answer come, token by token\n%s", t.Curl)
		s.say("\n# an official SDK (Python, TypeScript or Go), then run your program; models are named claude-… or fake-…\nexport ANTHROPIC_BASE_URL=%s ANTHROPIC_API_KEY=%s", base, key)
		s.say("\n# Claude Code (the fake only repeats what it is told)\nANTHROPIC_BASE_URL=%s ANTHROPIC_AUTH_TOKEN=%s claude", base, key)
		s.say("\n# the dashboard, in a browser: the link works once and makes you its first administrator\n%s", t.SetupURL)
		s.say("\n# this program, to look around: signalbox account status, signalbox audit search, signalbox cred list\nexport SIGNALBOX_URL=%s SIGNALBOX_DATA_DIR=%s", base, quote(t.DataDir))
		s.say("\nCtrl-C ends it and removes its data.")
	})
}
