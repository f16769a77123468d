package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/secret"
)

func (s *shell) oauthCommand() *cobra.Command {
	return parent("oauth", "Log in at OAuth providers and keep the tokens alive", s.oauthLogin(), s.oauthStatus(), s.refreshDrill(),
		parent("provider", "The OAuth providers at which one can log in", s.providerList(), s.providerShow(), s.providerAdd(), s.providerEdit(), s.providerRm()))
}

// loginFlags say how somebody logs in.
type loginFlags struct {
	draft             client.LoginDraft
	device, paste     bool
	clientCredentials bool
	clientID          string
	secretStdin       bool
}

func (f *loginFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.device, "device", false, "log in with a code that you type on another device")
	flags.BoolVar(&f.paste, "paste", false, "paste what the provider's page shows (default where it has such a page)")
	flags.StringSliceVar(&f.draft.Scopes, "oauth-scope", nil, "scope to ask for (may be given several times; default the provider's)")
	flags.StringVar(&f.draft.Resource, "resource", "", "what the tokens are for (RFC 8707), such as https://mcp.example.com")
}

func (s *shell) oauthLogin() *cobra.Command {
	var f loginFlags
	cmd := s.remote("login NAME", "Log in at an OAuth provider: for a new credential, or again for the one of that name", words("NAME"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		id, err := credentialID(ctx, c, args[0])
		if err != nil && !isNotFound(err) {
			return err
		}
		if f.draft.CredentialID = id; id == "" {
			if f.draft.Name = args[0]; f.draft.Provider == "" {
				return usage("there is no credential %q yet; say where it comes from with --provider (signalbox oauth provider list)", args[0])
			}
		}
		cred, err := s.login(ctx, c, f)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"credential": cred}, func() { s.said(cred, id != "") })
	})
	flags := cmd.Flags()
	flags.StringVar(&f.draft.Provider, "provider", "", "where to log in; needed for a new credential")
	flags.StringVar(&f.draft.Description, "description", "", "what it is for")
	flags.StringVar(&f.draft.BaseURL, "base-url", "", "where the tokens are used (default the provider's)")
	flags.StringSliceVar(&f.draft.Hosts, "host", nil, "host that the tokens may be sent to (may be given several times; default the base URL's)")
	flags.StringVar(&f.draft.PluginName, "plugin", "", "plugin that it is made for")
	flags.BoolVar(&f.clientCredentials, "client-credentials", false, "get tokens with a program's own secret, without a person")
	flags.StringVar(&f.clientID, "client-id", "", "with --client-credentials: the credential's own client (default the provider's)")
	flags.BoolVar(&f.secretStdin, "client-secret-stdin", false, "with --client-id: read its secret from standard input instead of asking")
	f.register(cmd)
	return cmd
}

func (s *shell) said(cred client.Credential, again bool) {
	what := "Stored"
	if again {
		what = "Logged in again:"
	}
	s.say("%s %s (%s), version %d.", what, cred.Name, cred.ID, cred.Version)
	if cred.OAuth == nil {
		return
	}
	if ends := momentOf(cred.OAuth.ExpiresAt); ends != "" {
		s.note("The access token ends %s; Signalbox refreshes it before that, if the provider gave a refresh token.", ends)
	}
}

// login leads through one login and returns the credential that has the tokens.
func (s *shell) login(ctx context.Context, c *client.Client, f loginFlags) (client.Credential, error) {
	switch {
	case f.clientCredentials && (f.device || f.paste), f.device && f.paste:
		return client.Credential{}, usage("--device, --paste and --client-credentials exclude one another")
	case (f.clientID != "" || f.secretStdin) && !f.clientCredentials:
		return client.Credential{}, usage("--client-id and --client-secret-stdin go with --client-credentials")
	case f.clientCredentials:
		return s.loginClient(ctx, c, f)
	case f.device:
		return s.loginDevice(ctx, c, f.draft)
	}
	name := f.draft.Provider
	if f.draft.CredentialID != "" {
		cred, err := c.GetCredential(ctx, f.draft.CredentialID)
		if err != nil {
			return client.Credential{}, err
		}
		name = cred.Provider
	}
	p, err := c.GetOAuthProvider(ctx, name)
	if err != nil {
		return client.Credential{}, err
	}
	if f.paste || p.PasteBack {
		return s.loginPaste(ctx, c, f.draft)
	}
	return s.loginLoopback(ctx, c, f.draft)
}

func (s *shell) loginClient(ctx context.Context, c *client.Client, f loginFlags) (client.Credential, error) {
	d := client.ClientLoginDraft{
		Provider: f.draft.Provider, CredentialID: f.draft.CredentialID, Name: f.draft.Name, Description: f.draft.Description, BaseURL: f.draft.BaseURL, Hosts: f.draft.Hosts,
		PluginName: f.draft.PluginName, Scopes: f.draft.Scopes, Resource: f.draft.Resource, ClientID: f.clientID,
	}
	if f.clientID != "" {
		var key secret.Value
		var err error
		if f.secretStdin {
			key, err = s.readStdin("--client-secret-stdin")
		} else {
			key, err = s.ask(ctx, "Client secret", "--client-secret-stdin")
		}
		if err != nil {
			return client.Credential{}, err
		}
		d.ClientSecret = strings.TrimSpace(key.Reveal())
	}
	return c.LoginClient(ctx, d)
}

func (s *shell) loginDevice(ctx context.Context, c *client.Client, d client.LoginDraft) (client.Credential, error) {
	begun, err := c.StartDeviceLogin(ctx, d)
	if err != nil {
		return client.Credential{}, err
	}
	s.urge("On any device, open  %s\nand type the code    %s\n", begun.VerificationURI, begun.UserCode)
	if begun.VerificationURIComplete != "" {
		s.urge("(or open %s)\n", begun.VerificationURIComplete)
	}
	s.urge("Waiting until you have agreed there…\n")
	wait := time.Duration(begun.IntervalSeconds) * time.Second
	for {
		timer := time.NewTimer(max(wait, time.Second))
		select {
		case <-ctx.Done():
			timer.Stop()
			return client.Credential{}, ctx.Err()
		case <-timer.C:
		}
		p, err := c.PollDeviceLogin(ctx, begun.ID)
		if err != nil {
			return client.Credential{}, err
		}
		if p.Done && p.Credential != nil {
			return *p.Credential, nil
		}
		wait = time.Duration(p.WaitSeconds) * time.Second
	}
}

// urge writes what a person needs in order to go on, also with --json and without a terminal.
func (s *shell) urge(format string, args ...any) {
	fmt.Fprint(s.err, printable(fmt.Sprintf(format, args...)))
}

func (s *shell) loginPaste(ctx context.Context, c *client.Client, d client.LoginDraft) (client.Credential, error) {
	d.Paste = true
	begun, err := c.StartLogin(ctx, d)
	if err != nil {
		return client.Credential{}, err
	}
	s.urge("Open this address, log in and agree:\n\n  %s\n\n", begun.AuthorizeURL)
	pasted, err := s.pasted(ctx)
	if err != nil {
		return client.Credential{}, err
	}
	return c.FinishLogin(ctx, client.LoginAnswer{Pasted: strings.TrimSpace(pasted.Reveal())})
}

// pasted asks for the code; what is piped in is read as it is.
func (s *shell) pasted(ctx context.Context) (secret.Value, error) {
	if !term.IsTerminal(int(s.in.Fd())) {
		return s.readStdin("the login")
	}
	return s.ask(ctx, "Code that the page shows then", "standard input")
}

// loginWait is how long the command line waits for the browser; the login itself ends then too.
const loginWait = 10 * time.Minute

// loginLoopback waits on a port of this machine for what the browser comes back with (RFC 8252).
func (s *shell) loginLoopback(ctx context.Context, c *client.Client, d client.LoginDraft) (client.Credential, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return client.Credential{}, fmt.Errorf("wait for the browser: %w", err)
	}
	defer func() { _ = l.Close() }()
	d.RedirectURI = "http://" + l.Addr().String() + "/callback"
	begun, err := c.StartLogin(ctx, d)
	if err != nil {
		return client.Credential{}, err
	}
	address, err := url.Parse(begun.AuthorizeURL)
	if err != nil {
		return client.Credential{}, errors.New("the server answered with an address that cannot be read")
	}
	s.urge("Open this address in a browser on this machine, log in and agree:\n\n  %s\n\nWaiting for the browser to come back…\n", begun.AuthorizeURL)
	ctx, cancel := context.WithTimeout(ctx, loginWait)
	defer cancel()
	query, done, err := catch(ctx, l, address.Query().Get("state"))
	if err != nil {
		return client.Credential{}, err
	}
	cred, err := c.FinishLogin(ctx, client.LoginAnswer{Code: query.Get("code"), State: query.Get("state"), Issuer: query.Get("iss"), Error: query.Get("error")})
	done(err)
	return cred, err
}

// catch serves the callback until the answer of this login comes. done tells the browser what became of it.
func catch(ctx context.Context, l net.Listener, state string) (query url.Values, done func(error), err error) {
	answers, verdict := make(chan url.Values, 1), make(chan error, 1)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		q, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil || r.URL.Path != "/callback" || q.Get("state") != state || len(q["state"]) != 1 {
			http.Error(w, "This is not the answer of the login that waits here.", http.StatusBadRequest)
			return
		}
		select {
		case answers <- q:
		default:
			http.Error(w, "This login has its answer already.", http.StatusConflict)
			return
		}
		select {
		case err := <-verdict:
			if err != nil {
				http.Error(w, "The login did not work; the terminal says why. You can close this page.", http.StatusBadRequest)
				return
			}
			_, _ = fmt.Fprintln(w, "Logged in. You can close this page.")
		case <-ctx.Done():
		}
	})}
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = server.Serve(l) }()
	end := func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(limited) // the page is best effort
		_ = server.Close()
		<-stopped
	}
	select {
	case q := <-answers:
		return q, func(err error) { verdict <- err; end() }, nil
	case <-ctx.Done():
		end()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, nil, errors.New("the browser did not come back within ten minutes; begin the login again")
		}
		return nil, nil, ctx.Err()
	}
}

func (s *shell) oauthStatus() *cobra.Command {
	return s.remote("status [CREDENTIAL]", "Show the health of OAuth connections", words("[CREDENTIAL]"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		var list []client.Connection
		if len(args) == 1 {
			id, err := credentialID(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			one, err := c.GetConnection(cmd.Context(), id)
			if err != nil {
				return err
			}
			list = []client.Connection{one}
		} else if list, err = connections(cmd.Context(), c, ""); err != nil {
			return err
		}
		return s.show(map[string]any{"connections": list}, func() {
			t := table{head: []string{"NAME", "HEALTH", "STATE", "VERSION", "TOKEN ENDS", "REFRESHED", "NEXT TRY", "LAST ERROR", "ID"}}
			for _, x := range list {
				t.add(x.Name, x.Health, x.State, strconv.FormatInt(x.Generation, 10), orDash(momentOf(x.TokenExpiresAt)), orDash(momentOf(x.RefreshedAt)), orDash(momentOf(x.RetryAt)), orDash(x.Code), x.CredentialID)
			}
			s.print(t, "No OAuth connections. Log in with: signalbox oauth login NAME --provider PROVIDER")
		})
	})
}

func connections(ctx context.Context, c *client.Client, provider string) ([]client.Connection, error) {
	return everything(func(cursor string) ([]client.Connection, string, error) {
		page, err := c.ListConnections(ctx, provider, cursor)
		return page.Connections, page.NextCursor, err
	})
}
