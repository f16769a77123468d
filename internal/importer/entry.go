package importer

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// linkable reports whether s is an address that a credential may show.
func linkable(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && u.User == nil && len(s) <= 2048 && (u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "ssh" || u.Scheme == "rdp" || u.Scheme == "ftp" || u.Scheme == "sftp") &&
		!strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) || unicode.IsSpace(c) })
}

const (
	maxTag  = 100
	maxTags = 50
)

// appendTag adds the name of a folder, a vault or a tag, if it can be one.
func appendTag(tags []string, name string) []string {
	name = strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == utf8.RuneError {
			return -1
		}
		return c
	}, name))
	for utf8.RuneCountInString(name) > maxTag {
		_, n := utf8.DecodeLastRuneInString(name)
		name = strings.TrimSpace(name[:len(name)-n])
	}
	if name == "" || len(tags) >= maxTags || slices.Contains(tags, name) {
		return tags
	}
	return append(tags, name)
}

// oneLine makes one line of s, without characters that cannot stand in a name.
func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, s))
}

// head is the beginning of s, of at most so many characters.
func head(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return strings.TrimSpace(string([]rune(s)[:most]))
}
