package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// turn is one command: on a terminal, where it asks, and piped, where it is told and answers in JSON. % stands for the round's letter.
type turn struct {
	path string
	args string
	// asks are what the terminal shows before each answer is typed.
	asks []string
	// piped are the flags that take the place of questions, and stdin what comes through the pipe.
	piped, stdin string
	// shows is what the terminal shows in the end.
	shows string
}

// exit is the exit code: the provider of this test is not there, and the command that asks it says so.
func (t turn) exit() int {
	switch t.path {
	case "sso test":
		return 5
	case "oauth refresh-drill": // the control, which loses every grant
		return 1
	}
	return 0
}

// reveals says that the command prints a secret, as it is asked to.
func (t turn) reveals() bool {
	return t.path == "cred reveal" || t.path == "helper git" || t.path == "helper docker"
}

const typedSecret = "planted-typed-8f3k2"

// TestEveryCommandOnATerminal runs each command twice: typed at, and piped with --json.
func TestEveryCommandOnATerminal(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })) // as Slack does
	defer receiver.Close()
	consents := consentServer(t).URL
	password := []string{"(not shown): ", typedSecret}
	sure := []string{"[y/N] ", "y"}
	turns := []turn{
		{"version", "", nil, "", "", "signalbox "},
		{"man", "cred add", nil, "", "", ".TH"},
		{"keygen", "", nil, "", "", "It is shown only now"},
		{"doctor", "", nil, "", "", "CHECK"},
		{"migrate", "--data-dir DIR/m%", nil, "", "", "Brought the database from schema 0"},
		{"init", "--admin-email a@example.com --data-dir DIR/i%", []string{"(not shown): ", typedSecret, "again (not shown): ", typedSecret}, "--password-stdin", typedSecret, "sbp_"},
		{"serve", "--listen 127.0.0.1:0 --data-dir DIR/s%", nil, "", "", "To make the first administrator"},
		{"root-key wrap", "KEEPER/% --data-dir DIR/s%", nil, "", "", "Wrapped root key rk_"},
		{"root-key list", "--data-dir DIR/s%", nil, "", "", "/transit/%"},
		{"root-key rewrap", "KEEPER/% --data-dir DIR/s%", nil, "", "", "is v1 as before"},
		{"root-key unwrap", "KEEPER/% --output DIR/%.key --data-dir DIR/s%", nil, "", "", "Wrote root key rk_"},
		{"root-key forget", "KEEPER/% --data-dir DIR/s%", nil, "", "", "Removed what"},
		{"backup", "--output DIR/%.sealed --data-dir DIR/s%", nil, "", "", "Wrote backup bak_"},
		{"restore", "--input DIR/%.sealed --data-dir DIR/s% --force", nil, "", "", "Restored backup bak_"},
		{"dev", "--listen 127.0.0.1:0", nil, "", "", "Ctrl-C ends it"},

		{"oauth refresh-drill", "--naive --callers 8", nil, "", "", "That is what happens without Signalbox"}, // the other one takes a minute
		{"whoami", "", nil, "", "", "local operator"},
		{"account add", "acc% --train web", password, "--api-key-stdin", typedSecret, "Stored account acc%"},
		{"account list", "", nil, "", "", "team-alpha"},
		{"account refresh", "--all --dry-run", nil, "", "", "No OAuth accounts"},
		{"oauth provider add", "p% --token-url CONSENTS/token --client-id c", nil, "", "", "Added p%"},
		{"oauth provider list", "", nil, "", "", "GitHub"},
		{"oauth provider show", "anthropic", nil, "", "", "Pasted from"},
		{"oauth provider edit", "p% --title Work", nil, "", "", "Changed p%"},
		{"oauth login", "l% --provider p% --client-credentials --client-id c", password, "--client-secret-stdin", typedSecret, "Stored l%"},
		{"oauth status", "", nil, "", "", "healthy"},
		{"oauth provider rm", "gone%", sure, "--yes", "", "Deleted gone%"},
		{"account pause", "acc%", nil, "", "", "Paused account acc%"},
		{"account drain", "acc%", nil, "", "", "Drained account acc%"},
		{"account resume", "acc%", nil, "", "", "Resumed account acc%"},
		{"account status", "acc%", nil, "", "", "usable"},
		{"connect claude-code", "--train web --replace", nil, "", "", "ANTHROPIC_AUTH_TOKEN"},
		{"connect sdk", "--train web --replace", nil, "", "", "ANTHROPIC_API_KEY"},
		{"connect curl", "--train web --replace", nil, "", "", "-H @-"},
		{"helper anthropic", "--train web", nil, "", "", "sbx_live_"},
		{"run", "--train web -- signalbox whoami", nil, "", "", "local operator"},
		{"train create", "t%", nil, "", "", "Made train t%"},
		{"train list", "", nil, "", "", "Sample train"},
		{"train link", "t% team-alpha", nil, "", "", "Linked team-alpha"},
		{"train show", "t%", nil, "", "", "team-alpha"},
		{"train explain", "t%", nil, "", "", "usable"},
		{"train member add", "t% operator@localhost --role owner", nil, "", "", "operator@localhost is an owner of train t%"},
		{"train member list", "t%", nil, "", "", "operator@localhost"},
		{"train member rm", "t% operator@localhost", sure, "--yes", "", "Took operator@localhost from the members of train t%"},
		{"train slack set", "t% --icon-emoji :robot_face:", []string{"(not shown): ", receiver.URL + "/" + typedSecret}, "--secret-stdin webhook_url", receiver.URL + "/" + typedSecret, "Train t% tells its people"},
		{"train slack show", "t%", nil, "", "", "not told"},
		{"train slack test", "t%", nil, "", "", "Delivered a test message to the slack channel of train t%"},
		{"train slack rm", "t%", sure, "--yes", "", "Deleted the slack channel of train t%"},
		{"train logging set", "t% --on --days 3", nil, "", "", "Train t% keeps what its agents are asked and answer, for 3 days"},
		{"train logging show", "t%", nil, "", "", "deleted after"},
		{"train logging read", "REQUEST", nil, "", "", "answered"},
		{"train logging purge", "t%", sure, "--yes", "", "Deleted what train t% had kept"},
		{"train edit", "t% --default-account team-alpha", nil, "", "", "Changed train t%"},
		{"train unlink", "t% team-alpha", nil, "", "", "Unlinked team-alpha"},
		{"train rm", "t%", sure, "--yes", "", "Deleted train t%"},
		{"key issue", "web --name i%", nil, "", "", "It is shown only now"},
		{"key list", "web", nil, "", "", "sample"},
		{"limits set", "--train web --key i% requests_per_day=100000", nil, "", "", "Limits of client key i%"},
		{"limits show", "--train web --key i%", nil, "", "", "100000"},
		{"key replace", "web i% --name r%", nil, "", "", "It is shown only now"},
		{"key revoke", "web r%", nil, "", "", "Revoked key_"},
		{"cred add", "c%", password, "--secret-stdin password", typedSecret, "Stored password c%"},
		{"cred get", "c%", nil, "", "", "secret fields"},
		{"cred list", "--type password", nil, "", "", "c%"},
		{"cred search", "c%", nil, "", "", "c%"},
		{"cred edit", "c% --description x", nil, "", "", "Changed password c%"},
		{"cred rotate", "c%", password, "--secret-stdin password", typedSecret + "-2", "version 2 is in use now"},
		{"cred history", "c%", nil, "", "", "IN USE"},
		{"cred reveal", "c% --reason test", nil, "", "", typedSecret},
		{"cred edit", "c% --username ada --host git.example.com", nil, "", "", "Changed password c%"},
		{"helper git", "get --credential c%", []string{"", "protocol=https\nhost=git.example.com\n"}, "", "protocol=https\nhost=git.example.com\n\n", "password=" + typedSecret},
		{"helper docker", "get --credential c%", []string{"", "git.example.com"}, "", "git.example.com", `"Username":"ada"`},
		{"inject", "-i DIR/i%.tmpl -o DIR/i%.out", nil, "", "", "filled in 1 reference"},
		{"cred add", "k% --type ssh_key --generate", nil, "", "", "ssh-ed25519 AAAA"},
		{"cred test", "k%", nil, "", "", "can be read and opened"},
		{"cred grant", "c% --to person:operator@localhost --allow owner", nil, "", "", "owner, use, reveal, manage"},
		{"import", "DIR/i%.csv", nil, "", "", "Imported 1 of 1 entries"},
		{"export", "--to DIR/x%.age", []string{"(not shown): ", typedSecret, "again (not shown): ", typedSecret}, "--passphrase-stdin", typedSecret, "Wrote "},
		{"cred rm", "c%", sure, "--yes", "", "Deleted password c%"},
		{"notify channel add", "n% --kind webhook", []string{"(not shown): ", "https://hooks.example.com/" + typedSecret}, "--secret-stdin url", "https://hooks.example.com/" + typedSecret, "whsec_"},
		{"notify channel list", "", nil, "", "", "https://hooks.example.com"},
		{"notify channel edit", "n% --replace url --severity warning", []string{"(not shown): ", receiver.URL + "/" + typedSecret}, "--secret-stdin url", receiver.URL + "/" + typedSecret, "Changed channel n%"},
		{"notify channel test", "n%", nil, "", "", "Delivered a test message to n%"},
		{"notify channel rm", "n%", sure, "--yes", "", "Deleted channel n%"},
		{"notify list", "", nil, "", "", "No notifications"},
		{"client create", "k%", nil, "", "", "Stored client k% as client_"},
		{"client list", "", nil, "", "", "k%"},
		{"client show", "k%", nil, "", "", "client_"},
		{"client edit", "k% --contact x", nil, "", "", "Changed client k%"},
		{"service create", "v% --client k%", nil, "", "", "Stored service v% as service_"},
		{"service list", "", nil, "", "", "v%"},
		{"service show", "v%", nil, "", "", "service_"},
		{"service edit", "v% --description x", nil, "", "", "Changed service v%"},
		{"service delete", "v%", sure, "--yes", "", "Deleted service v%"},
		{"infra create", "n% --client k%", nil, "", "", "Stored infrastructure n% as infra_"},
		{"infra list", "", nil, "", "", "n%"},
		{"infra show", "n%", nil, "", "", "host"},
		{"infra edit", "n% --kind device", nil, "", "", "Changed infrastructure n%"},
		{"infra delete", "n%", sure, "--yes", "", "Deleted infrastructure n%"},
		{"client delete", "k%", sure, "--yes", "", "Deleted client k%"},
		{"mcp add", "m% https://mcp.example.com/mcp", nil, "", "", "Registered MCP server m%"},
		{"mcp list", "", nil, "", "", "https://mcp.example.com/mcp"},
		{"mcp edit", "m% --name Files", nil, "", "", "Changed MCP server m%"},
		{"mcp connections", "", nil, "", "", "files%"},
		{"mcp disconnect", "CONNECTED%", sure, "--yes", "", "Deleted connection mcn_"},
		{"mcp rm", "m%", sure, "--yes", "", "Deleted MCP server m%"},
		{"group create", "g%", nil, "", "", "Made group g%"},
		{"group list", "", nil, "", "", "g%"},
		{"group add", "g% operator@localhost", nil, "", "", "Put operator@localhost into group g%"},
		{"group show", "g%", nil, "", "", "operator@localhost"},
		{"group edit", "g% --description x", nil, "", "", "Changed group g%"},
		{"group remove", "g% operator@localhost", nil, "", "", "Took operator@localhost from group g%"},
		{"group rm", "g%", sure, "--yes", "", "Deleted group g%"},
		{"service-account create", "s%", nil, "", "", "Made service account s%"},
		{"service-account list", "", nil, "", "", "s%"},
		{"service-account edit", "s% --role auditor", nil, "", "", "Changed service account s%"},
		{"service-account deactivate", "s%", nil, "", "", "Deactivated service account s%"},
		{"service-account activate", "s%", nil, "", "", "Activated service account s%"},
		{"user add", "u%@example.com --no-invite", []string{"(not shown): ", typedSecret, "again (not shown): ", typedSecret}, "--password-stdin", typedSecret, "Added u%@example.com"},
		{"user list", "", nil, "", "", "u%@example.com"},
		{"user edit", "u%@example.com --role auditor", nil, "", "", "Changed u%@example.com"},
		{"user reset-factors", "u%@example.com", sure, "--yes", "", "Removed the second factors of"},
		{"user reset", "u%@example.com", sure, "--yes", "", "It is shown only now"},
		{"user deactivate", "u%@example.com", sure, "--yes", "", "Deactivated u%@example.com"},
		{"sso add", "s% --issuer https://s%.invalid --client-id c", nil, "", "", "Added s%"},
		{"sso list", "", nil, "", "", "s%"},
		{"sso edit", "s% --label Work", nil, "", "", "Changed s%"},
		{"sso test", "s%", nil, "", "", "discovery document"},
		{"sso rm", "s%", sure, "--yes", "", "Deleted s%"},
		{"token issue", "k%", nil, "", "", "It is shown only now"},
		{"token list", "", nil, "", "", "operator.token"},
		{"token revoke", "TOKEN%", nil, "", "", "Revoked tok_"},
		{"incident open", "n% --severity low", nil, "", "", "Opened incident inc_"},
		{"incident list", "", nil, "", "", "n%"},
		{"incident show", "INCIDENT%", nil, "", "", "gone%"},
		{"incident edit", "INCIDENT% --findings x", nil, "", "", "Changed incident inc_"},
		{"incident note", "INCIDENT% x", nil, "", "", "Noted at"},
		{"incident advance", "INCIDENT% contained", nil, "", "", "is contained"},
		{"incident contain", "INCIDENT% --train default", sure, "--yes", "", "Contained incident inc_"},
		{"incident blast-radius", "--train default --since 1d", nil, "", "", "record"},
		{"incident rm", "INCIDENT%", sure, "--yes", "", "Deleted incident inc_"},
		{"usage", "--from 2d --to 1d --by day", nil, "", "", "Nothing was used from"},
		{"usage rebuild", "", nil, "", "", "are being made anew"},
		{"requests list", "--from 1d", nil, "", "", "MODEL"},
		{"requests show", "REQUEST", nil, "", "", "ATTEMPT"},
		{"audit search", "--limit 2", nil, "", "", "ACTION"},
		{"audit facets", "--since 1d", nil, "", "", "RECORDS"},
		{"audit show", "EVENT", nil, "", "", "outcome"},
		{"audit export", "--action admin.start", nil, "", "", "admin.start"},
		{"audit tail", "-n 2", nil, "", "", "ok"},
		{"rekey", "", nil, "", "", "under data key 2"},
		{"seal", "--reason drill", sure, "--yes", "", "Signalbox is sealed"},
		{"unseal", "--data-dir DIR/s%", nil, "", "", "not sealed"},
		{"audit verify", "", nil, "", "", "The audit log holds"},
		{"audit sink add", "k%", []string{"(not shown): ", receiver.URL + "/" + typedSecret}, "--secret-stdin url", receiver.URL + "/" + typedSecret, "whsec_"},
		{"audit sink list", "", nil, "", "", "http://127.0.0.1"},
		{"audit sink edit", "k% --pause", nil, "", "", "it is paused"},
		{"audit sink test", "k%", nil, "", "", "Delivered a test message to http://127.0.0.1"},
		{"audit sink rm", "k%", sure, "--yes", "", "Deleted sink k%"},
		{"audit prove", "EVENT", nil, "", "", "The proof holds"},
		{"login", "", nil, "", "", "Signed in at"},
		{"logout", "", nil, "", "", "Signed out of"},
	}
	_, told := dev(t, "--allow-private-upstreams", strings.TrimPrefix(receiver.URL, "http://")+","+strings.TrimPrefix(consents, "http://"))
	r := &rounds{t: t, dir: t.TempDir(), consents: consents, vault: fakeVault(t), env: []string{"VAULT_TOKEN=" + vaultToken, "SIGNALBOX_URL=" + told.BaseURL, "SIGNALBOX_DATA_DIR=" + told.DataDir}}
	r.env = append(r.env, "XDG_CONFIG_HOME="+r.dir+"/config", "BROWSER=fakebrowser", "FAKE_EMAIL="+fakeEmail, "FAKE_PASSWORD="+typedSecret, "FAKE_LOG="+r.dir+"/browser.log")
	out, code := r.run(t, "", "train", "logging", "set", "web", "--on") // for `train logging read`
	require.Zero(t, code, out)
	r.request = asked(t, told.BaseURL, told.APIKey)
	r.prepare()
	for _, turn := range turns {
		t.Run(turn.path, func(t *testing.T) {
			if turn.path == "mcp add" { // not sooner: what was deposited is an OAuth credential like others
				r.deposit(told.BaseURL)
			}
			r.typed(t, turn)
			r.unseal(t, turn, told.BaseURL)
			r.pipe(t, turn)
			r.unseal(t, turn, told.BaseURL)
		})
	}
}

type rounds struct {
	t         *testing.T
	dir       string
	env       []string
	tokens    map[string]string
	incidents map[string]string
	connected map[string]string // to MCP servers
	event     string
	request   string // that an account was lent for
	// consents is an OAuth server that says yes.
	consents string
	// vault is the address of a transit engine, as a keeper of root keys.
	vault string
}

// asked sends a request through the proxy and returns its id.
func asked(t *testing.T, base, key string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/messages", strings.NewReader(`{"model":"claude-sonnet-4-5","max_tokens":20,"messages":[{"role":"user","content":"tokens"}]}`))
	require.NoError(t, err)
	req.Header.Set("X-Api-Key", key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return resp.Header.Get("X-Request-Id")
}

// prepare makes what has an id that only the server knows.
func (r *rounds) prepare() {
	r.tokens, r.incidents = map[string]string{}, map[string]string{}
	_, code := r.run(r.t, typedSecret, "user", "add", fakeEmail, "--password-stdin")
	require.Zero(r.t, code)
	for _, letter := range []string{"t", "p"} {
		out, _ := r.run(r.t, "", "token", "issue", "gone"+letter, "--json")
		_, code := r.run(r.t, "", "oauth", "provider", "add", "gone"+letter, "--token-url", "https://id.example.com/token")
		require.Zero(r.t, code)
		opened, _ := r.run(r.t, "", "incident", "open", "gone"+letter, "--json")
		r.incidents[letter] = regexp.MustCompile(`inc_[0-9a-z]+`).FindString(opened)
		r.tokens[letter] = regexp.MustCompile(`tok_[0-9a-z]+`).FindString(out)
	}
	for _, letter := range []string{"t", "p"} {
		require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, "i"+letter+".tmpl"), []byte("password={{ signalbox://c"+letter+"/password }}\n"), 0o600))
		require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, "i"+letter+".csv"), []byte("Title,Password\nimported "+letter+","+typedSecret+letter+"\n"), 0o600))
	}
	out, _ := r.run(r.t, "", "audit", "search", "--json", "--limit", "1")
	r.event = regexp.MustCompile(`evt_[0-9a-z_]+`).FindString(out)
	require.NotEmpty(r.t, r.event)
	require.Eventually(r.t, func() bool { // until it is sequenced and signed
		_, code := r.run(r.t, "", "audit", "prove", r.event)
		return code == 0
	}, 15*time.Second, 100*time.Millisecond)
}

// deposit connects whoever works on the server's machine to two MCP servers.
func (r *rounds) deposit(base string) {
	r.connected = map[string]string{}
	issued, _ := r.run(r.t, "", "token", "issue", "depositing", "--json")
	token := regexp.MustCompile(`sbp_[0-9A-Za-z]+`).FindString(issued)
	for _, letter := range []string{"t", "p"} {
		req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, base+"/mcp-oauth-credentials",
			strings.NewReader(`{"mcpServerId":"files`+letter+`","refreshToken":"`+typedSecret+`","tokenEndpoint":"https://auth.example.com/token"}`))
		require.NoError(r.t, err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(r.t, err)
		require.NoError(r.t, resp.Body.Close())
		require.Equal(r.t, http.StatusOK, resp.StatusCode)
		out, _ := r.run(r.t, "", "mcp", "connections", "--json")
		found := regexp.MustCompile(`mcn_[0-9a-z]+`).FindAllString(out, -1)
		require.NotEmpty(r.t, found)
		r.connected[letter] = found[len(found)-1]
	}
}

func (r *rounds) args(turn turn, letter string) []string {
	line := strings.NewReplacer("DIR", r.dir, "TOKEN%", r.tokens[letter], "INCIDENT%", r.incidents[letter], "CONNECTED%", r.connected[letter], "EVENT", r.event, "REQUEST", r.request, "CONSENTS", r.consents, "KEEPER", r.vault, "%", letter).Replace(turn.path + " " + turn.args)
	return strings.Fields(line)
}

func (r *rounds) run(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command("signalbox", args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + t.TempDir()}, r.env...)
	cmd.Dir = t.TempDir()
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.NotContains(t, errs.String(), typedSecret)
	return out.String(), cmd.ProcessState.ExitCode()
}

// typed runs the command on a terminal. Nothing that is typed at a hidden prompt shows.
func (r *rounds) typed(t *testing.T, turn turn) {
	x := onTerminal(t, append([]string{"TMPDIR=" + t.TempDir(), "NO_COLOR=1"}, r.env...), r.args(turn, "t")...)
	for i := 0; i < len(turn.asks); i += 2 {
		x.sees(turn.asks[i])
		x.types(turn.asks[i+1] + "\n")
	}
	x.sees(strings.ReplaceAll(turn.shows, "%", "t"))
	if turn.path == "serve" || turn.path == "dev" {
		x.types("\x03")
	}
	require.Equal(t, turn.exit(), x.wait(20*time.Second), x.screen.String())
	require.NotContains(t, x.screen.String(), "\x1b[3", "no colours with NO_COLOR")
	if !turn.reveals() {
		require.NotContains(t, x.screen.String(), typedSecret)
	}
}

// unseal has the server serve again when the turn has sealed it.
func (r *rounds) unseal(t *testing.T, turn turn, base string) {
	t.Helper()
	if turn.path != "seal" {
		return
	}
	out, code := r.run(t, "", "unseal")
	require.Zero(t, code)
	require.Contains(t, out, "The seal is lifted. It was set on")
	require.Contains(t, out, ": drill")
	require.Eventually(t, func() bool { _, code := r.run(t, "", "whoami"); return code == 0 }, 20*time.Second, 50*time.Millisecond, base)
}

// pipe runs the command without a terminal and reads its answer: one object, or one a line for what may go on.
func (r *rounds) pipe(t *testing.T, turn turn) {
	args := append(append(r.args(turn, "p"), strings.Fields(turn.piped)...), "--json")
	var out string
	if turn.path == "serve" || turn.path == "dev" {
		p := start(t, append([]string{"TMPDIR=" + filepath.Clean(t.TempDir())}, r.env...), args...)
		require.Eventually(t, func() bool { return strings.HasSuffix(p.out.String(), "}\n") }, 10*time.Second, 10*time.Millisecond, p.err.String())
		p.signal(syscall.SIGINT)
		require.Zero(t, p.wait(20*time.Second))
		out = p.out.String()
	} else {
		var code int
		out, code = r.run(t, turn.stdin, args...)
		require.Equal(t, turn.exit(), code, out)
	}
	dec := json.NewDecoder(strings.NewReader(out))
	objects := 0
	for {
		var object map[string]any
		err := dec.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, out)
		require.NotEmpty(t, object)
		objects++
	}
	if turn.path == "audit tail" {
		require.Equal(t, objects, strings.Count(out, "\n"), "one object a line")
	} else {
		require.Equal(t, 1, objects, out)
	}
	if !turn.reveals() {
		require.NotContains(t, out, typedSecret)
	}
	require.NotContains(t, out, "\x1b")
}
