package app

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/keeper"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

// Setting is one row of the table that configuration, command-line flags and the reference are derived from.
type Setting struct {
	// Name is the setting's name and, without Secret, its flag.
	Name string
	// Env are the variables that set it, the strongest first; each has a twin with _FILE that names a file to read it from.
	Env []string
	// Default is the text that counts when nothing is set; empty when Doc explains the default.
	Default string
	// Secret settings have no flag, because the command line is readable by every process of the machine, and are never printed.
	Secret bool
	// Switch settings are true or false; the flag alone means true.
	Switch bool
	// Kind is a word for the form of the value, for the help.
	Kind string
	// Use says which commands read it.
	Use Use
	// Doc is the sentence of the help and the reference.
	Doc string

	set func(*Config, string) error
}

// Use groups settings by the commands that read them.
type Use int

// The uses.
const (
	// UseData is for every command that opens the data directory or the database itself.
	UseData Use = iota
	// UseLog is for every command that writes a log.
	UseLog
	// UseServe is for commands that serve.
	UseServe
	// UseClient is for commands that speak to a running server.
	UseClient
)

// Flag returns the name of the setting's flag without dashes, or "" when it has none.
func (s *Setting) Flag() string {
	if s.Secret {
		return ""
	}
	return s.Name
}

// Settings returns the table of all settings, in the order of the reference.
func Settings() []Setting {
	return []Setting{
		{
			Name: "data-dir", Env: []string{"SIGNALBOX_DATA_DIR"}, Kind: "directory", Use: UseData,
			Doc: "directory of the database, the root key and the checkpoints (default $XDG_DATA_HOME/signalbox, else ~/.local/share/signalbox)",
			set: func(c *Config, s string) error { c.DataDir = s; return nil },
		},
		{
			Name: "database-url", Env: []string{"SIGNALBOX_DATABASE_URL", "DATABASE_URL"}, Secret: true, Kind: "url", Use: UseData,
			Doc: "PostgreSQL to use instead of SQLite in the data directory: postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=ca.pem, or host=… user=… dbname=…",
			set: func(c *Config, s string) error { c.DatabaseURL = secret.FromString(s); return nil },
		},
		{
			Name: "allow-plaintext-database", Env: []string{"SIGNALBOX_ALLOW_PLAINTEXT_DATABASE"}, Default: "false", Switch: true, Kind: "switch", Use: UseData,
			Doc: "allows a PostgreSQL on another machine whose URL does not insist on TLS (sslmode=require, verify-ca or verify-full)",
			set: func(c *Config, s string) error { return setSwitch(&c.AllowPlaintextDB, s) },
		},
		{
			Name: "root-key", Env: []string{"SIGNALBOX_ROOT_KEY"}, Secret: true, Kind: "base64", Use: UseData,
			Doc: "the key that opens the keyring: 32 bytes in base64 (default the file root.key in the data directory; required with PostgreSQL)",
			set: func(c *Config, s string) error { c.RootKey = secret.FromString(s); return nil },
		},
		{
			Name: "root-key-keeper", Env: []string{"SIGNALBOX_ROOT_KEY_KEEPER"}, Kind: "address", Use: UseData,
			Doc: "key management service that keeps the root key, in place of SIGNALBOX_ROOT_KEY and of the file: " + keeper.Forms + " (default none)",
			set: func(c *Config, s string) (err error) { c.RootKeyKeeper, err = keeper.Parse(s); return err },
		},
		{
			Name: "checkpoint-file", Env: []string{"SIGNALBOX_CHECKPOINT_FILE"}, Kind: "file", Use: UseData,
			Doc: "file to which signed audit checkpoints are appended; keep copies on another machine (default checkpoints.log in the data directory)",
			set: func(c *Config, s string) error { c.CheckpointFile = s; return nil },
		},
		{
			Name: "log-level", Env: []string{"SIGNALBOX_LOG_LEVEL"}, Default: "info", Kind: "level", Use: UseLog,
			Doc: "least severe log lines to write: debug, info, warn or error",
			set: func(c *Config, s string) error {
				if err := c.LogLevel.UnmarshalText([]byte(s)); err != nil || c.LogLevel%4 != 0 || c.LogLevel < slog.LevelDebug || c.LogLevel > slog.LevelError {
					return errors.New("must be debug, info, warn or error")
				}
				return nil
			},
		},
		{
			Name: "log-format", Env: []string{"SIGNALBOX_LOG_FORMAT"}, Default: "auto", Kind: "format", Use: UseLog,
			Doc: "form of log lines: text, json, or auto, which is text on a terminal",
			set: func(c *Config, s string) error {
				c.LogFormat = strings.ToLower(s)
				return oneOf(c.LogFormat, "auto", "text", "json")
			},
		},
		{
			Name: "listen", Env: []string{"SIGNALBOX_LISTEN"}, Default: "127.0.0.1:8420", Kind: "host:port", Use: UseServe,
			Doc: "address and port to serve on; one that is not loopback needs --tls-cert-file or --behind-tls-proxy",
			set: func(c *Config, s string) error { return setAddress(&c.Listen, s, "127.0.0.1:8420") },
		},
		{
			Name: "metrics-listen", Env: []string{"SIGNALBOX_METRICS_LISTEN"}, Kind: "host:port", Use: UseServe,
			Doc: "second address that serves /metrics, /healthz and /readyz and nothing else, to everybody who reaches it (default none; /metrics on the first one needs a token except from this machine)",
			set: func(c *Config, s string) error { return setAddress(&c.MetricsListen, s, "127.0.0.1:9420") },
		},
		{
			Name: "mode", Env: []string{"SIGNALBOX_MODE"}, Default: string(ModeFull), Kind: "mode", Use: UseServe,
			Doc: "what this instance serves: full, proxy (only /v1 and /use) or api (only /api and the pages); health checks always",
			set: func(c *Config, s string) error {
				c.Mode = Mode(strings.ToLower(s))
				return oneOf(string(c.Mode), string(ModeFull), string(ModeProxy), string(ModeAPI))
			},
		},
		{
			Name: "tls-cert-file", Env: []string{"SIGNALBOX_TLS_CERT_FILE"}, Kind: "file", Use: UseServe,
			Doc: "certificate chain in PEM, with which the server speaks https; read again when it changes (default none: plain http)",
			set: func(c *Config, s string) error { c.TLSCertFile = s; return nil },
		},
		{
			Name: "tls-key-file", Env: []string{"SIGNALBOX_TLS_KEY_FILE"}, Kind: "file", Use: UseServe,
			Doc: "private key of that certificate, in PEM",
			set: func(c *Config, s string) error { c.TLSKeyFile = s; return nil },
		},
		{
			Name: "behind-tls-proxy", Env: []string{"SIGNALBOX_BEHIND_TLS_PROXY"}, Default: "false", Switch: true, Kind: "switch", Use: UseServe,
			Doc: "says that a proxy in front ends TLS, so that listening on another address than loopback is all right",
			set: func(c *Config, s string) error { return setSwitch(&c.BehindTLSProxy, s) },
		},
		{
			Name: "trusted-proxies", Env: []string{"SIGNALBOX_TRUSTED_PROXIES"}, Kind: "networks", Use: UseServe,
			Doc: "addresses or networks, separated by commas, whose X-Forwarded-For is believed (default none)",
			set: func(c *Config, s string) (err error) { c.TrustedProxies, err = parseNetworks(s); return err },
		},
		{
			Name: "allow-private-upstreams", Env: []string{"SIGNALBOX_ALLOW_PRIVATE_UPSTREAMS"}, Kind: "hosts", Use: UseServe,
			Doc: "upstreams that are private, loopback or plain http and may be called all the same: host, host:port or network, separated by commas",
			set: func(c *Config, s string) error {
				c.AllowPrivateUpstreams = splitList(s)
				if _, err := outbound.ParsePolicy(c.AllowPrivateUpstreams); err != nil {
					return errors.New("is not a list of hosts: " + err.Error())
				}
				return nil
			},
		},
		{
			Name: "drain-timeout", Env: []string{"SIGNALBOX_DRAIN_TIMEOUT"}, Default: "30s", Kind: "duration", Use: UseServe,
			Doc: "how long open streams may go on after SIGTERM",
			set: func(c *Config, s string) error { return setDuration(&c.DrainTimeout, s) },
		},
		{
			Name: "drain-delay", Env: []string{"SIGNALBOX_DRAIN_DELAY"}, Default: "0s", Kind: "duration", Use: UseServe,
			Doc: "how long to go on listening after SIGTERM, saying 503 at /readyz, so that a balancer notices; three of its probe intervals",
			set: func(c *Config, s string) error { return setDuration(&c.DrainDelay, s) },
		},
		{
			Name: "upstream-timeout", Env: []string{"SIGNALBOX_UPSTREAM_TIMEOUT"}, Default: "10m", Kind: "duration", Use: UseServe,
			Doc: "how long an upstream may take until its answer begins",
			set: func(c *Config, s string) error {
				if err := setDuration(&c.UpstreamTimeout, s); err != nil || c.UpstreamTimeout == 0 {
					return errors.New("must be a duration over zero such as 90s or 10m")
				}
				return nil
			},
		},
		{
			Name: "body-limit", Env: []string{"SIGNALBOX_BODY_LIMIT"}, Default: "32MiB", Kind: "size", Use: UseServe,
			Doc: "largest request body that is forwarded to an upstream, in bytes or with KiB, MiB or GiB",
			set: func(c *Config, s string) (err error) { c.BodyLimit, err = parseSize(s); return err },
		},
		{
			Name: "claude-oauth-client-id", Env: []string{"SIGNALBOX_CLAUDE_OAUTH_CLIENT_ID", "CLAUDE_OAUTH_CLIENT_ID"}, Kind: "text", Use: UseServe,
			Doc: "client id for logins at the OAuth provider anthropic (default that of Anthropic's own client)",
			set: func(c *Config, s string) error {
				c.AnthropicClientID = s
				if len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
					return errors.New("must be a client id of visible ASCII")
				}
				return nil
			},
		},
		{
			Name: "read-only", Env: []string{"SIGNALBOX_READ_ONLY"}, Default: "false", Switch: true, Kind: "switch", Use: UseServe,
			Doc: "refuses every change over the API and the pages; reading, revealing, signing in and out, and lending go on. Single sign-on lets in who is known and whose role and groups stay the same",
			set: func(c *Config, s string) error { return setSwitch(&c.ReadOnly, s) },
		},
		{
			Name: "caller-limit", Env: []string{"SIGNALBOX_CALLER_LIMIT"}, Default: "6000", Kind: "number", Use: UseServe,
			Doc: "how many requests a minute one caller may make to the API, over all instances",
			set: func(c *Config, s string) error { return setCount(&c.CallerLimit, s, 1) },
		},
		{
			Name: "reveal-limit", Env: []string{"SIGNALBOX_REVEAL_LIMIT"}, Default: "60", Kind: "number", Use: UseServe,
			Doc: "how many secret fields a minute one caller may reveal, over all instances",
			set: func(c *Config, s string) error { return setCount(&c.RevealLimit, s, 1) },
		},
		{
			Name: "failure-limit", Env: []string{"SIGNALBOX_FAILURE_LIMIT"}, Default: "300", Kind: "number", Use: UseServe,
			Doc: "how many requests a minute from one address may fail to authenticate, over all instances, before further ones are told to wait; valid keys and tokens are never held up",
			set: func(c *Config, s string) error { return setCount(&c.FailureLimit, s, 1) },
		},
		{
			Name: "detectors", Env: []string{"SIGNALBOX_DETECTORS"}, Kind: "list", Use: UseServe,
			Doc: "when detectors open incidents: name=off, name=threshold or name=threshold/quiet period, separated by commas, such as mass_access=100/12h,denied_reveals=off; a detector that is not named is as docs/guide/incidents.md says. Give all instances the same",
			set: func(c *Config, s string) (err error) { c.Detectors, err = incident.ParseRules(s); return err },
		},
		{
			Name: "canaries", Env: []string{"SIGNALBOX_CANARIES"}, Kind: "list", Use: UseServe,
			Doc: "ids of credentials that are canaries, separated by commas: any use of one opens an incident and revokes what it was used with (docs/guide/incidents.md). Nothing else tells that they are any; give all instances the same, in the environment rather than by the flag, which every process of the machine can read",
			set: func(c *Config, s string) error { return setCanaries(&c.Canaries, s) },
		},
		{
			Name: "max-keys-per-train", Env: []string{"SIGNALBOX_MAX_KEYS_PER_TRAIN"}, Default: "10", Kind: "number", Use: UseServe,
			Doc: "how many active client keys a train may have",
			set: func(c *Config, s string) error { return setCount(&c.MaxKeysPerTrain, s, 1) },
		},
		{
			Name: "max-keys", Env: []string{"SIGNALBOX_MAX_KEYS"}, Default: "0", Kind: "number", Use: UseServe,
			Doc: "how many active client keys all trains may have together; 0 means any number",
			set: func(c *Config, s string) error { return setCount(&c.MaxKeys, s, 0) },
		},
		{
			Name: "session-lifetime", Env: []string{"SIGNALBOX_SESSION_LIFETIME"}, Default: "12h", Kind: "duration", Use: UseServe,
			Doc: "how long somebody stays signed in at most",
			set: func(c *Config, s string) error { return setSpan(&c.SessionLife, s) },
		},
		{
			Name: "session-idle", Env: []string{"SIGNALBOX_SESSION_IDLE"}, Default: "1h", Kind: "duration", Use: UseServe,
			Doc: "how long a session may lie unused before it ends",
			set: func(c *Config, s string) error { return setSpan(&c.SessionIdle, s) },
		},
		{
			Name: "public-url", Env: []string{"SIGNALBOX_PUBLIC_URL"}, Kind: "url", Use: UseServe,
			Doc: "address under which browsers reach this Signalbox, such as https://signalbox.example.com; passkeys are bound to its host, single sign-on comes back to it, and it is the issuer of access tokens, which end when it changes (default none: passkeys work on http://localhost alone, single sign-on on this machine, and the issuer is a name that the database keeps)",
			set: func(c *Config, s string) (err error) { c.PublicURL, err = identity.ParsePublicURL(s); return err },
		},
		{
			Name: "sso-header", Env: []string{"SIGNALBOX_SSO_HEADER"}, Kind: "header", Use: UseServe,
			Doc: "header in which a proxy in front names by e-mail address who is signed in there, such as X-Forwarded-Email; needs --sso-header-proxies",
			set: func(c *Config, s string) error { return setSSOHeader(&c.SSOHeader, s) },
		},
		{
			Name: "sso-header-proxies", Env: []string{"SIGNALBOX_SSO_HEADER_PROXIES"}, Kind: "networks", Use: UseServe,
			Doc: "addresses or networks, separated by commas, that --sso-header is believed of; it is the peer of the connection that counts, and --trusted-proxies says nothing here",
			set: func(c *Config, s string) (err error) { c.SSOHeaderProxies, err = parseNetworks(s); return err },
		},
		{
			Name: "sso-header-create", Env: []string{"SIGNALBOX_SSO_HEADER_CREATE"}, Kind: "role", Use: UseServe,
			Doc: "role that people get whom --sso-header names and who are not here yet: operator, auditor or member (default none: they are refused)",
			set: func(c *Config, s string) error {
				c.SSOHeaderCreate = s
				return oneOf(s, string(identity.Operator), string(identity.Auditor), string(identity.Member))
			},
		},
		{
			Name: "breached-passwords", Env: []string{"SIGNALBOX_BREACHED_PASSWORDS"}, Kind: "file", Use: UseData,
			Doc: "list of passwords that nobody may choose: SHA-1 hashes in hexadecimal, one a line and sorted, as Have I Been Pwned publishes them (default none; nothing is asked over the network)",
			set: func(c *Config, s string) error { c.BreachedPasswords = s; return nil },
		},
		{
			Name: "prices", Env: []string{"SIGNALBOX_PRICES"}, Kind: "file", Use: UseData,
			Doc: "JSON file with prices of models, which go before those that come with the program; usage tells costs by them (default none; read at start)",
			set: func(c *Config, s string) error { c.Prices = s; return nil },
		},
		{
			Name: "enable-client-auth", Env: []string{"SIGNALBOX_ENABLE_CLIENT_AUTH", "ENABLE_CLIENT_AUTH"}, Default: "true", Switch: true, Kind: "switch", Use: UseServe,
			Doc: "whether the LLM proxy asks for a client key; false is refused on an address that is not loopback",
			set: func(c *Config, s string) error { return setSwitch(&c.ClientAuth, s) },
		},
		{
			Name: "force-no-client-auth", Env: []string{"SIGNALBOX_FORCE_NO_CLIENT_AUTH"}, Default: "false", Switch: true, Kind: "switch", Use: UseServe,
			Doc: "allows --enable-client-auth=false on an address that is not loopback: whoever reaches it may use the default train's accounts",
			set: func(c *Config, s string) error { return setSwitch(&c.ForceNoClientAuth, s) },
		},
		{
			Name: "default-train", Env: []string{"SIGNALBOX_DEFAULT_TRAIN_ID", "DEFAULT_TRAIN_ID"}, Default: "default", Kind: "train", Use: UseServe,
			Doc: "train of requests that name none while client keys are switched off",
			set: func(c *Config, s string) error { c.DefaultTrain = s; return nil },
		},
		{
			Name: "url", Env: []string{"SIGNALBOX_URL"}, Default: "http://127.0.0.1:8420", Kind: "url", Use: UseClient,
			Doc: "the running server to speak to (where it is not set: the one of signalbox login, if somebody is signed in and no token is set)",
			set: func(c *Config, s string) error {
				u, err := url.Parse(s)
				if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
					return errors.New("must be an http or https URL without user name and query, for example http://127.0.0.1:8420")
				}
				c.URL = strings.TrimRight(s, "/")
				return nil
			},
		},
		{
			Name: "token", Env: []string{"SIGNALBOX_TOKEN"}, Secret: true, Kind: "token", Use: UseClient,
			Doc: "personal access token (default what signalbox login keeps for this server; else the file operator.token in the data directory, when the server is on this machine)",
			set: func(c *Config, s string) error { c.Token = secret.FromString(s); return nil },
		},
	}
}

func oneOf(s string, allowed ...string) error {
	for _, a := range allowed {
		if s == a {
			return nil
		}
	}
	return errors.New("must be one of: " + strings.Join(allowed, ", "))
}

func setAddress(to *string, s, example string) error {
	host, port, err := net.SplitHostPort(s)
	if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || strings.ContainsAny(host, " /%") {
		return errors.New("must be host:port, for example " + example)
	}
	*to = s
	return nil
}

// setSwitch takes few spellings on purpose: a switch that guards something must not be read out of a guess.
func setSwitch(to *bool, s string) error {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on":
		*to = true
	case "false", "0", "no", "off":
		*to = false
	default:
		return errors.New("must be true or false")
	}
	return nil
}

func setDuration(to *time.Duration, s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > 24*time.Hour {
		return errors.New("must be a duration up to a day such as 30s or 10m")
	}
	*to = d
	return nil
}

func setSpan(to *time.Duration, s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Minute || d > 90*24*time.Hour {
		return errors.New("must be a duration from 1m to 2160h such as 45m or 12h")
	}
	*to = d
	return nil
}

func setCount(to *int, s string, least int) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > 1_000_000 {
		return errors.New("must be a whole number from " + strconv.Itoa(least) + " to 1000000")
	}
	*to = n
	return nil
}

func parseSize(s string) (int64, error) {
	unit := int64(1)
	digits := s
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			digits, unit = strings.TrimSpace(rest), u.bytes
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > (4<<30)/unit {
		return 0, errors.New("must be a size from 1 byte to 4GiB, such as 32MiB")
	}
	return n * unit, nil
}

func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func parseNetworks(s string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range splitList(s) {
		if a, err := netip.ParseAddr(part); err == nil && a.Zone() == "" {
			a = a.Unmap()
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil || p.Bits() == 0 {
			return nil, errors.New("must hold addresses or networks such as 10.0.0.5 or 10.0.0.0/24, and not everybody")
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func setCanaries(to *[]string, s string) error {
	ids := splitList(s)
	for _, id := range ids {
		if !store.ValidID("cred", id) {
			return errors.New("must hold ids of credentials, such as cred_01jd…, separated by commas; signalbox cred list has them")
		}
	}
	*to = ids
	return nil
}
