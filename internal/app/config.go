package app

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/incident"
	"signalbox.dev/signalbox/internal/keeper"
	"signalbox.dev/signalbox/internal/secret"
)

// Config is what a Signalbox is told from outside. Make it with [Load]; its fields are explained in [Settings].
type Config struct {
	DataDir               string
	Listen                string
	MetricsListen         string // "" for none
	Mode                  Mode
	DatabaseURL           secret.Value
	AllowPlaintextDB      bool
	RootKey               secret.Value
	RootKeyKeeper         keeper.Address // the zero Address for none
	AllowPrivateUpstreams []string
	LogLevel              slog.Level
	LogFormat             string // auto, text or json
	DrainDelay            time.Duration
	DrainTimeout          time.Duration
	CheckpointFile        string
	BodyLimit             int64 // bytes
	UpstreamTimeout       time.Duration
	MaxKeysPerTrain       int
	MaxKeys               int
	SessionLife           time.Duration
	SessionIdle           time.Duration
	PublicURL             *url.URL // nil for none
	BreachedPasswords     string
	Prices                string
	AnthropicClientID     string
	ClientAuth            bool
	ForceNoClientAuth     bool
	DefaultTrain          string
	TrustedProxies        []netip.Prefix
	SSOHeader             string // in its canonical form
	SSOHeaderProxies      []netip.Prefix
	SSOHeaderCreate       string
	BehindTLSProxy        bool
	TLSCertFile           string // "" for plain http
	TLSKeyFile            string
	ReadOnly              bool
	CallerLimit           int // requests a minute
	RevealLimit           int
	FailureLimit          int
	Detectors             []incident.Rule
	Canaries              []string

	// URL and Token are for the client commands.
	URL   string
	Token secret.Value

	// Log receives everything that the running server tells. [Load] leaves it nil, which discards.
	Log *slog.Logger

	origins    map[string]string
	texts      map[string]string // of settings that are no secrets
	warnings   []string
	styleguide bool // set by OpenDev alone

	// getenv reads the variables in which a KMS's own tools look for credentials. It is a function because those are secrets.
	getenv func(name string) string
}

// InForce is one setting as it counts now.
type InForce struct {
	Name string `json:"setting"`
	// Value is the text that counts; for a secret only whether it is set.
	Value string `json:"value"`
	// From is what [Config.Origin] says.
	From string `json:"from"`
}

// InForce lists every setting with its value and where that came from. It holds no secret.
func (c Config) InForce() []InForce {
	var out []InForce
	for _, s := range Settings() {
		v := InForce{Name: s.Name, Value: c.texts[s.Name], From: c.origins[s.Name]}
		switch {
		case s.Secret && v.From == "default":
			v.Value = "not set"
		case s.Secret:
			v.Value = "set"
		case s.Name == "data-dir":
			v.Value = c.DataDir
		case s.Name == "checkpoint-file":
			v.Value = c.CheckpointFile
		}
		out = append(out, v)
	}
	return out
}

// Origin says where the value of a setting came from: "--listen", "SIGNALBOX_LISTEN", "SIGNALBOX_LISTEN_FILE" or "default".
func (c Config) Origin(name string) string { return c.origins[name] }

// Warnings are sentences about variables that have no effect. They name variables and never quote values.
func (c Config) Warnings() []string { return slices.Clone(c.warnings) }

// Environ is a snapshot of the process environment.
type Environ map[string]string

// Environment takes a snapshot of the process environment. Nothing else in Signalbox reads it.
func Environment() Environ {
	env := Environ{}
	for _, pair := range os.Environ() {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}

// Load reads the configuration: flags given on the command line (by their names, without dashes) win over the environment, a variable
// over the same one with _FILE is an error because nobody can know which was meant, and defaults come last. An empty variable counts as
// not set. An error names the flag or the variable and never quotes a value.
func Load(env Environ, flags map[string]string) (Config, error) {
	c := Config{origins: map[string]string{}, texts: map[string]string{}, getenv: func(name string) string { return env[name] }}
	settings := Settings()
	for i := range settings {
		s := &settings[i]
		text, origin, err := s.lookup(env, flags)
		if err != nil {
			return Config{}, err
		}
		c.origins[s.Name] = origin
		if !s.Secret {
			c.texts[s.Name] = text
		}
		if text == "" {
			continue
		}
		if err := s.set(&c, text); err != nil {
			return Config{}, fmt.Errorf("%s %w", origin, err)
		}
	}
	for name := range flags {
		if !slices.ContainsFunc(settings, func(s Setting) bool { return s.Flag() == name }) {
			return Config{}, fmt.Errorf("--%s is no setting", name)
		}
	}
	if !c.RootKey.IsZero() && !c.RootKeyKeeper.IsZero() {
		return Config{}, fmt.Errorf("%s and %s are both set, and nobody can know which root key is meant; keep one of them", c.Origin("root-key"), c.Origin("root-key-keeper"))
	}
	if err := c.checkSSOHeader(); err != nil {
		return Config{}, err
	}
	if err := c.fillPaths(env); err != nil {
		return Config{}, err
	}
	c.warnings = strangers(env, settings)
	return c, nil
}

// lookup finds the text of a setting and says where it stood.
func (s *Setting) lookup(env Environ, flags map[string]string) (text, origin string, err error) {
	if flag := s.Flag(); flag != "" {
		if v, ok := flags[flag]; ok {
			return v, "--" + flag, nil
		}
	}
	for _, name := range s.Env {
		value, path := env[name], env[name+fileSuffix]
		switch {
		case value != "" && path != "":
			return "", "", fmt.Errorf("%s and %s%s are both set; keep one of them", name, name, fileSuffix)
		case value != "":
			return value, name, nil
		case path != "":
			text, err := s.readFile(path)
			if err != nil {
				return "", "", fmt.Errorf("%s%s: %w", name, fileSuffix, err)
			}
			if text == "" {
				return "", "", fmt.Errorf("%s%s names a file that is empty", name, fileSuffix)
			}
			return text, name + fileSuffix, nil
		}
	}
	return s.Default, "default", nil
}

const fileSuffix = "_FILE"

// maxSettingFile bounds the file of a setting that is no secret; secret.ReadFile has its own bound.
const maxSettingFile = 64 << 10

func (s *Setting) readFile(path string) (string, error) {
	if s.Secret {
		v, err := secret.ReadFile(path)
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(v.Reveal()), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSettingFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxSettingFile {
		return "", errors.New("the file is over 64 KiB")
	}
	return strings.TrimSpace(string(b)), nil
}

// fillPaths sets the paths that depend on the person or on another setting, and makes them absolute: a relative data directory must not
// come to mean another one when the working directory changes.
func (c *Config) fillPaths(env Environ) error {
	if c.DataDir == "" {
		base := env["XDG_DATA_HOME"]
		if !filepath.IsAbs(base) { // the XDG base directory specification: a relative path is invalid and ignored
			if env["HOME"] == "" {
				return errors.New("there is no home directory to keep data in; set --data-dir or SIGNALBOX_DATA_DIR")
			}
			base = filepath.Join(env["HOME"], ".local", "share")
		}
		c.DataDir = filepath.Join(base, "signalbox")
	}
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return fmt.Errorf("the data directory: %w", err)
	}
	if c.CheckpointFile == "" {
		c.CheckpointFile = filepath.Join(c.DataDir, "checkpoints.log")
	}
	if c.CheckpointFile, err = filepath.Abs(c.CheckpointFile); err != nil {
		return fmt.Errorf("the checkpoint file: %w", err)
	}
	for _, file := range []*string{&c.TLSCertFile, &c.TLSKeyFile} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return fmt.Errorf("the TLS files: %w", err)
		}
	}
	return c.checkTLS()
}

// strangers warns of SIGNALBOX_ variables that no setting has, so that a misspelt one does not pass for set.
func strangers(env Environ, settings []Setting) []string {
	known := map[string]bool{}
	for _, s := range settings {
		for _, name := range s.Env {
			known[name], known[name+fileSuffix] = true, true
		}
	}
	var out []string
	for name, value := range env {
		if strings.HasPrefix(name, "SIGNALBOX_") && value != "" && !known[name] {
			out = append(out, name+" is no setting of this version and has no effect; check its spelling")
		}
	}
	slices.Sort(out)
	return out
}

// logger returns the logger of c, never nil.
func (c Config) logger() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}
