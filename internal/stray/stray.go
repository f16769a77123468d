// Package stray finds credentials that lie about in the settings files of agents and their tools.
//
// Promise: [Look] reads the files that are listed in [Places] and tells where something lies that looks like a credential: file, line and
// name of the variable. What it returns holds no value and no piece of one, not even when a value stands where a name should. [Read]
// takes one value out, for somebody who asks for it by name.
//
// Limits: it reads no directory but those it is given, at most [MaxFiles] files of at most [MaxSize] bytes and of a value or line the
// first 64 KiB, and knows .env, shell and INI lines and JSON. What looks like a credential is a guess: known prefixes and forms, and
// random-looking values of telling names.
//
// Invariants: no file is changed; a name that is returned consists of harmless characters and is itself no credential.
package stray

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// The bounds.
const (
	MaxFiles = 64
	MaxSize  = 4 << 20
	// MaxFound bounds the findings of one file.
	MaxFound = 50
)

// Finding is one value that looks like a credential.
type Finding struct {
	File string `json:"file"`
	Line int    `json:"line"`
	// Name is the variable's, for JSON the path of keys; "" when there is none that may be shown.
	Name string `json:"name,omitempty"`
	// Kind says what it looks like.
	Kind string `json:"kind"`
	// Type and Field say as what it can be stored; both are "" for what is no credential to be stored.
	Type     string `json:"type,omitempty"`
	Field    string `json:"field,omitempty"`
	Provider string `json:"provider,omitempty"`
	// Open says that others than the file's owner may read it.
	Open bool `json:"readable_by_others"`
}

// Places are the files to look at: in the working directory, and in the home. A last element may be a pattern.
func Places() (here, home []string) {
	both := []string{".env", ".env.*", ".envrc", ".mcp.json", ".claude/settings.json", ".claude/settings.local.json", ".npmrc", ".pypirc", ".netrc"}
	here = append(slices.Clone(both), ".vscode/mcp.json", ".cursor/mcp.json", ".gemini/settings.json", ".codex/config.toml")
	home = append(slices.Clone(both), ".claude.json", ".claude/.credentials.json", ".aws/credentials", ".git-credentials", ".pgpass", ".codex/auth.json",
		".cursor/mcp.json", ".gemini/settings.json", ".config/gh/hosts.yml", ".docker/config.json", ".bashrc", ".bash_profile", ".zshrc", ".zshenv", ".profile")
	return here, home
}

// Look searches the working directory and the home. skipped counts the files that could not be read or are over the bounds.
func Look(here, home string) (found []Finding, looked, skipped int) {
	inHere, inHome := Places()
	var files []string
	for _, place := range []struct {
		dir   string
		names []string
	}{{here, inHere}, {home, inHome}} {
		if place.dir == "" {
			continue
		}
		for _, name := range place.names {
			// The directory may hold characters of patterns; the names hold theirs in the last element only.
			entries := []string{filepath.Base(name)}
			dir := filepath.Join(place.dir, filepath.Dir(name))
			if strings.ContainsRune(name, '*') {
				entries = entries[:0]
				list, _ := os.ReadDir(dir)
				for _, e := range list {
					if ok, _ := filepath.Match(filepath.Base(name), e.Name()); ok {
						entries = append(entries, e.Name())
					}
				}
			}
			for _, e := range entries {
				if path := filepath.Join(dir, e); !slices.Contains(files, path) {
					files = append(files, path)
				}
			}
		}
	}
	for _, path := range files {
		text, info, err := read(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil || looked == MaxFiles:
			skipped++
			continue
		}
		looked++
		for _, f := range Find(text) {
			f.File, f.Open = path, info.Mode().Perm()&0o044 != 0
			found = append(found, f)
		}
	}
	return found, looked, skipped
}

func read(path string) (string, os.FileInfo, error) {
	info, err := os.Stat(path) // before opening: a pipe would block
	if err != nil {
		return "", nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxSize {
		return "", nil, fmt.Errorf("%s is no file of at most %d MiB", path, MaxSize>>20)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, MaxSize))
	return string(b), info, err
}

// Find searches a text. The findings name no file.
func Find(text string) []Finding {
	var out []Finding
	for _, v := range values(text) {
		k, ok := classify(v.name, v.text)
		if !ok {
			continue
		}
		if len(out) == MaxFound {
			break
		}
		out = append(out, Finding{Line: v.line, Name: shown(v.name), Kind: k.name, Type: k.typ, Field: k.field, Provider: k.provider})
	}
	return out
}

// Read returns the value with that name, as a [Finding] shows it, from a file.
func Read(path, name string) (secret.Value, error) {
	text, _, err := read(path)
	if err != nil {
		return secret.Value{}, err
	}
	var out []string
	for _, v := range values(text) {
		if v.name == name && name != "" && !slices.Contains(out, v.text) {
			out = append(out, v.text)
		}
	}
	switch len(out) {
	case 0:
		return secret.Value{}, fmt.Errorf("%s has no value of that name", path)
	case 1:
		if k, ok := classify(name, out[0]); ok && k.find != nil { // without the words around it, such as Bearer
			return secret.FromString(k.find.FindString(out[0])), nil
		}
		return secret.FromString(out[0]), nil
	}
	return secret.Value{}, fmt.Errorf("%s has %d different values of that name", path, len(out))
}
