package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func lookAtVariables(_ context.Context, p *patient) []Check {
	var out []Check
	for _, w := range p.cfg.Warnings() {
		found, do, _ := strings.Cut(w, "; ")
		out = append(out, Check{State: Warning, Found: found, Do: strings.ToUpper(do[:1]) + do[1:] + ", or unset it."})
	}
	if len(out) == 0 {
		out = append(out, Check{State: Fine, Found: "every SIGNALBOX_ variable is a setting of this version"})
	}
	return out
}

func lookAtDataDir(_ context.Context, p *patient) []Check {
	dir := p.cfg.DataDir
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Check{{State: Fine, Found: dir + " does not exist yet; the first signalbox serve makes it"}}
	case err != nil:
		return []Check{{State: Broken, Found: sentence(err.Error()), Do: "Run this as the user of the server, or name another directory with --data-dir."}}
	case !info.IsDir():
		return []Check{{State: Broken, Found: dir + " is a file", Do: "Name a directory with --data-dir."}}
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return []Check{{State: Warning, Found: fmt.Sprintf("others may look into %s (mode %04o)", dir, mode), Do: "Run: chmod 700 " + word(dir)}}
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return []Check{{State: Broken, Found: "this user may not write to " + dir, Do: "Run this as the user of the server, or give that user the directory."}}
	}
	return []Check{{State: Fine, Found: dir + ", for its owner only"}}
}

// Below littleSpace the audit log, without which nothing is lent, may soon not be writable; below noSpace that is a matter of minutes.
const (
	littleSpace = 1 << 30
	noSpace     = 64 << 20
)

func lookAtSpace(_ context.Context, p *patient) []Check {
	at := p.cfg.DataDir
	for {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at)
	}
	free, err := freeSpace(at)
	if err != nil {
		return []Check{{State: Skipped, Found: "the free space cannot be read"}}
	}
	c := Check{State: Fine, Found: fmt.Sprintf("%d MiB free beside the data directory", free>>20)}
	switch {
	case free < noSpace:
		c.State, c.Do = Broken, "Make room: when the audit log cannot be written, nothing is lent."
	case free < littleSpace:
		c.State, c.Do = Warning, "Make room before it runs out: when the audit log cannot be written, nothing is lent."
	}
	return []Check{c}
}

func lookAtServer(_ context.Context, p *patient) []Check {
	if p.cfg.isPostgres() {
		return nil // any number of them, on any machine
	}
	if p.holder = store.Holder(p.cfg.DataDir); p.holder == 0 {
		return []Check{{State: Fine, Found: "none has this data directory open"}}
	}
	return []Check{{State: Fine, Found: fmt.Sprintf("process %d has this data directory open", p.holder)}}
}

func lookAtRootKey(ctx context.Context, p *patient) []Check {
	if !p.cfg.RootKeyKeeper.IsZero() {
		return lookAtKeeper(ctx, p)
	}
	var key secret.RootKey
	var err error
	from := p.cfg.Origin("root-key")
	path := p.cfg.rootKeyPath()
	switch {
	case !p.cfg.RootKey.IsZero():
		key, err = secret.ParseRootKey(p.cfg.RootKey)
	case path != "":
		from = path
		if key, err = secret.ReadRootKeyFile(path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		found, do := sentence(err.Error()), "Correct it and run this again."
		if what, _, ok := strings.Cut(found, "; run: chmod"); ok {
			found, do = what, "Run: chmod 600 "+word(path)
		}
		if !strings.Contains(found, from) {
			found = from + ": " + found
		}
		return []Check{{State: Broken, Found: found, Do: do}}
	}
	exists := false
	if p.db != nil {
		if exists, err = keyring.Exists(ctx, p.db); err != nil {
			return []Check{{State: Broken, Found: "the keyring cannot be read: " + told(err), Do: "See to the database first."}}
		}
	}
	switch {
	case exists:
		if p.ring, err = keyring.Open(ctx, keyring.Config{DB: p.db, Root: key, Log: p.cfg.logger()}); err != nil {
			return []Check{{State: Broken, Found: told(err), Do: "Put the right root key back; without it the sealed credentials cannot be opened by anyone."}}
		}
		if c, changing := lookAtRoots(ctx, p, key.ID()+" from "+from); changing {
			return []Check{c}
		}
		if path != "" {
			return []Check{{State: Advice, Found: key.ID() + " from " + from + " opens the keyring", Do: "Keep a copy of the root key on another machine, apart from copies of the database."}}
		}
		return []Check{{State: Fine, Found: key.ID() + " from " + from + " opens the keyring"}}
	case p.database.Exists && p.db == nil:
		return []Check{{State: Skipped, Found: "whether it opens the keyring can be seen once the database can be read"}}
	case !key.IsZero():
		return []Check{{State: Fine, Found: key.ID() + " from " + from + "; there is no keyring yet"}}
	case p.cfg.isPostgres():
		return []Check{{State: Broken, Found: "no root key is set, and with PostgreSQL one is needed",
			Do: "Make one with: signalbox keygen --output FILE, and set SIGNALBOX_ROOT_KEY_FILE to FILE for every instance."}}
	}
	return []Check{{State: Fine, Found: "none yet; the first signalbox serve makes it"}}
}

func lookAtOperatorToken(_ context.Context, p *patient) []Check {
	path := p.cfg.dataPath(OperatorTokenFile)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Check{{State: Fine, Found: "none; commands need SIGNALBOX_TOKEN"}}
	case err != nil:
		return []Check{{State: Skipped, Found: sentence(err.Error())}}
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return []Check{{State: Broken, Found: fmt.Sprintf("others may read %s (mode %04o), and it may do everything", path, mode),
			Do: "Run: chmod 600 " + word(path) + "; if somebody may have read it, revoke it (signalbox token list) and delete the file."}}
	}
	return []Check{{State: Fine, Found: path + ", for its owner only"}}
}

func lookAtCheckpoints(_ context.Context, p *patient) []Check {
	path := p.cfg.CheckpointFile
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && (!p.database.Exists || p.unsigned):
		return []Check{{State: Fine, Found: "none yet"}}
	case errors.Is(err, fs.ErrNotExist):
		return []Check{{State: Warning, Found: path + " does not exist, though there is an audit log",
			Do: "If it was lost, compare the log with a copy (signalbox audit verify --checkpoint COPY); a running server begins it anew."}}
	case err != nil:
		return []Check{{State: Warning, Found: sentence(err.Error()), Do: "Let the server's user read and write it, or name another file with --checkpoint-file."}}
	case info.Mode().Perm()&0o022 != 0:
		return []Check{{State: Warning, Found: fmt.Sprintf("others may write %s (mode %04o)", path, info.Mode().Perm()), Do: "Run: chmod go-w " + word(path)}}
	}
	if !p.cfg.isPostgres() && strings.HasPrefix(path, p.cfg.DataDir+string(filepath.Separator)) {
		return []Check{{State: Advice, Found: path + " lies beside the database",
			Do: "Keep copies on another machine, or set SIGNALBOX_CHECKPOINT_FILE to a place that is kept elsewhere: who can rewrite the database could rewrite this file too."}}
	}
	return []Check{{State: Fine, Found: path}}
}

// age is a span as people say it.
func age(d time.Duration) string {
	switch d = d.Abs(); {
	case d < 2*time.Minute:
		return d.Round(time.Second).String()
	case d < 2*time.Hour:
		return counted(int(d/time.Minute), "minute", "minutes")
	case d < 48*time.Hour:
		return counted(int(d/time.Hour), "hour", "hours")
	}
	return counted(int(d/(24*time.Hour)), "day", "days")
}
