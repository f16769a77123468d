package app

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/stray"
)

// State is how a check came out.
type State string

// The states, the best first. Only Broken keeps a server from doing its work.
const (
	Fine    State = "ok"
	Skipped State = "skipped" // it could not be looked at, because of another finding or because nothing is there yet
	Advice  State = "advice"
	Warning State = "warning"
	Broken  State = "broken"
)

// Check is what the doctor says about one thing.
type Check struct {
	Name  string `json:"check"`
	State State  `json:"state"`
	// Found says what there is, and Do what to do about it.
	Found string `json:"found"`
	Do    string `json:"do,omitempty"`
}

// Stray is a credential that lies about, with what to do about it.
type Stray struct {
	stray.Finding
	Do string `json:"do"`
}

// Diagnosis is what [Diagnose] found.
type Diagnosis struct {
	// OK is false when something is broken.
	OK       bool      `json:"ok"`
	Version  string    `json:"version"`
	Settings []InForce `json:"settings"`
	Checks   []Check   `json:"checks"`
	Strays   []Stray   `json:"strays"`
}

// patient is what the checks look at, and what earlier ones have found out for later ones.
type patient struct {
	cfg      Config
	holder   int // the process that serves from the data directory, or 0
	database store.Inspection
	// db is open for reading when the database answers and has this binary's schema.
	db *store.DB
	// ring is open when the root key opens the keyring.
	ring *keyring.Ring
	// unsigned says that the audit log can be read and has no checkpoint yet.
	unsigned bool
}

// checkup is one row of the table of checks: it says what it found, or nothing when it does not apply.
type checkup struct {
	name string
	look func(context.Context, *patient) []Check
}

// checkups are in the order in which they are made and shown; later ones rely on earlier ones.
func checkups() []checkup {
	return []checkup{
		{"variables", lookAtVariables},
		{"data directory", lookAtDataDir},
		{"free space", lookAtSpace},
		{"server", lookAtServer},
		{"database", lookAtDatabase},
		{"schema", lookAtSchema},
		{"database integrity", lookAtIntegrity},
		{"database durability", lookAtDurability},
		{"database encryption", lookAtEncryption},
		{"database pooler", lookAtPooler},
		{"clock", lookAtClock},
		{"root key", lookAtRootKey},
		{"seal", lookAtSeal},
		{"credentials", lookAtCredentials},
		{"private trains", lookAtTrains},
		{"audit log", lookAtAudit},
		{"checkpoint file", lookAtCheckpoints},
		{"audit sinks", lookAtSinks},
		{"prices", lookAtPrices},
		{"backup", lookAtBackups},
		{"operator token", lookAtOperatorToken},
		{"listener", lookAtListener},
		{"certificate", lookAtCertificate},
		{"trusted proxies", lookAtProxies},
		{"client keys", lookAtClientKeys},
	}
}

// Diagnose looks at everything that a Signalbox with this environment and these flags would use, also beside a running one and where nothing
// exists yet, and for credentials in the settings files of the working directory and the home. It changes nothing, and what it returns holds
// no secret.
func Diagnose(ctx context.Context, env Environ, flags map[string]string) (Diagnosis, error) {
	d := Diagnosis{OK: true, Version: Version(), Settings: []InForce{}, Strays: []Stray{}}
	cfg, err := Load(env, flags)
	if err != nil {
		d.OK = false
		d.Checks = append(d.Checks, Check{"configuration", Broken, sentence(err.Error()), "Correct it; until then nothing else of the set-up can be looked at."})
	} else {
		cfg.Log = slog.New(slog.DiscardHandler)
		d.Settings = cfg.InForce()
		d.Checks = append(d.Checks, Check{Name: "configuration", State: Fine, Found: "it can be read"})
		p := &patient{cfg: cfg}
		for _, c := range checkups() {
			for _, got := range c.look(ctx, p) {
				got.Name = c.name
				d.OK = d.OK && got.State != Broken
				d.Checks = append(d.Checks, got)
			}
			if err := ctx.Err(); err != nil {
				_ = p.close()
				return Diagnosis{}, err
			}
		}
		if err := p.close(); err != nil {
			return Diagnosis{}, err
		}
	}
	d.look(env)
	return d, nil
}

func (p *patient) close() error {
	if p.db == nil {
		return nil
	}
	return p.db.Close()
}

// look adds the credentials that lie about.
func (d *Diagnosis) look(env Environ) {
	here, err := os.Getwd()
	if err != nil {
		here = ""
	}
	found, looked, skipped := stray.Look(here, env["HOME"])
	taken := map[string]int{}
	for _, f := range found {
		d.Strays = append(d.Strays, Stray{f, importing(f, taken)})
	}
	c := Check{Name: "secrets lying about", State: Fine, Found: counted(looked, "settings file", "settings files") + " here and in the home, and no credential in them"}
	if looked == 0 {
		c.Found = "no settings files here or in the home"
	}
	if len(found) > 0 {
		c.State, c.Found = Warning, counted(len(found), "value looks", "values look")+" like a credential in "+counted(looked, "settings file", "settings files")
		c.Do = "Store them with the commands below, take them out of the files, and replace those that others could read."
	}
	if skipped > 0 {
		c.Found += "; " + counted(skipped, "file was", "files were") + " not read (too large, too many, or not readable)"
	}
	d.Checks = append(d.Checks, c)
}

// importing is the command that stores a credential. It names where the value is; the value stays there. taken counts the names that earlier
// commands give: two credentials of one name could only be told apart by their ids.
func importing(f stray.Finding, taken map[string]int) string {
	switch {
	case f.Type == "":
		return "Revoke it (signalbox token list) unless it is meant to be here, and give commands SIGNALBOX_TOKEN_FILE with a file of mode 0600."
	case f.Field == "refresh_token" && f.Name != "":
		return "Store it with its access token: add --secret-from " + word("refresh_token="+f.File+":"+f.Name) + " to that command."
	}
	name := "NAME"
	if last := f.Name[strings.LastIndexByte(f.Name, '.')+1:]; last != "" && !strings.ContainsAny(last, "/@:") {
		name = strings.ToLower(strings.ReplaceAll(last, "_", "-"))
		if taken[name]++; taken[name] > 1 {
			name += "-" + strconv.Itoa(taken[name])
		}
	}
	out := "signalbox cred add " + word(name) + " --type " + f.Type
	if f.Provider != "" {
		out += " --provider " + f.Provider
	}
	if f.Name == "" {
		return out + "  (asks for the " + f.Field + "; copy it from line " + strconv.Itoa(f.Line) + ")"
	}
	return out + " --secret-from " + word(f.Field+"="+f.File+":"+f.Name)
}

// word makes text one word of a POSIX shell.
func word(text string) string {
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+=,-") == "" && text != "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// told is what a fault says, or that there is nothing that may be told.
func told(err error) string {
	if f, ok := fault.As(err); ok {
		return f.Detail
	}
	return sentence(err.Error())
}

func sentence(text string) string { return strings.TrimSuffix(text, ".") }
