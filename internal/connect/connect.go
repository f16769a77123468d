// Package connect says how programs are set up to send their requests through Signalbox: what the command line prints and writes, and what the
// dashboard shows, is made here, so that the two cannot differ.
//
// Promise: what [Cards] and the functions beside it return can be pasted as it is; addresses, names and keys are quoted for where they stand. A client
// key stands in variables and in standard input, never among the arguments of a process.
//
// Limits: it knows no server and no key but those that it is given, runs nothing, and reads and writes no file. What a program wants is written down
// here and not asked for: tests run each text against a real server.
//
// Invariants: without a key the [Placeholder] stands in its place, never an empty value, which some programs take for none at all and go on with
// another key that they find.
package connect

import (
	"encoding/json"
	"regexp"
	"strings"
)

// Placeholder stands where a client key belongs that is not at hand.
const Placeholder = "YOUR_CLIENT_KEY"

// Model is the one that the examples ask for.
const Model = "claude-sonnet-5-5"

// Setup is what a program must know.
type Setup struct {
	// URL is the server's address.
	URL string
	// Train is whose client key it is, and Key the key; "" shows the [Placeholder].
	Train, Key string
	// Account names the one account that is to be used; "" leaves that to the train.
	Account string
}

func (s Setup) key() string {
	if s.Key == "" {
		return Placeholder
	}
	return s.Key
}

// Variable is an environment variable.
type Variable struct{ Name, Value string }

// Names of variables that programs read.
const (
	BaseURL       = "ANTHROPIC_BASE_URL"
	AuthToken     = "ANTHROPIC_AUTH_TOKEN"
	APIKey        = "ANTHROPIC_API_KEY"
	CustomHeaders = "ANTHROPIC_CUSTOM_HEADERS"
	HelperTTL     = "CLAUDE_CODE_API_KEY_HELPER_TTL_MS"
)

// helperTTL is how long Claude Code goes on with what the helper printed: its own default, written down so that it stays far below the time for which
// a key is still good when it is handed out.
const helperTTL = "300000"

// ClaudeCode returns the variables that Claude Code reads, and those that must not be set beside them.
func ClaudeCode(s Setup) (set []Variable, unset []string) {
	set = []Variable{{BaseURL, s.URL}, {AuthToken, s.key()}}
	if h := s.headers(); h != "" {
		set = append(set, Variable{CustomHeaders, h})
	}
	return set, []string{APIKey}
}

// SDK returns the variables that the official SDKs read, and those that must not be set beside them.
func SDK(s Setup) (set []Variable, unset []string) {
	return []Variable{{BaseURL, s.URL}, {APIKey, s.key()}}, []string{AuthToken}
}

// headers are what Claude Code is to send besides, a line each.
func (s Setup) headers() string {
	if s.Account == "" {
		return ""
	}
	return AccountHeader + ": " + s.Account
}

// AccountHeader names the account that is to be used.
const AccountHeader = "MSL-Account"

// Helper returns the variables of Claude Code beside an apiKeyHelper, and those that would go before it.
func Helper(s Setup) (set []Variable, unset []string) {
	set = []Variable{{BaseURL, s.URL}, {HelperTTL, helperTTL}}
	if h := s.headers(); h != "" {
		set = append(set, Variable{CustomHeaders, h})
	}
	return set, []string{AuthToken, APIKey}
}

// HelperCommand is the command for apiKeyHelper: program is how signalbox is called, and more are further flags. Claude Code hands it to a shell.
func HelperCommand(program string, s Setup, more ...string) string {
	words := append([]string{program, "helper", "anthropic", "--url", s.URL, "--train", s.Train}, more...)
	for i, w := range words {
		words[i] = Quote(w)
	}
	return strings.Join(words, " ")
}

// HelperSettings is a settings file of Claude Code with the helper. It holds no key.
func HelperSettings(s Setup, command string) string {
	set, _ := Helper(s)
	var b strings.Builder
	b.WriteString("{\n  \"apiKeyHelper\": " + quoteJSON(command) + ",\n  \"env\": {\n")
	for i, v := range set {
		b.WriteString("    " + quoteJSON(v.Name) + ": " + quoteJSON(v.Value))
		if i < len(set)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("  }\n}")
	return b.String()
}

// Exports sets variables in a POSIX shell.
func Exports(set []Variable, unset []string) string {
	var b strings.Builder
	for _, v := range set {
		b.WriteString("export " + v.Name + "=" + Quote(v.Value) + "\n")
	}
	b.WriteString("unset " + strings.Join(unset, " "))
	return b.String()
}

// PowerShell sets variables in PowerShell.
func PowerShell(set []Variable, unset []string) string {
	var b strings.Builder
	for _, v := range set {
		b.WriteString("$env:" + v.Name + " = '" + strings.ReplaceAll(v.Value, "'", "''") + "'\n")
	}
	for i, name := range unset {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("$env:" + name + " = $null")
	}
	return b.String()
}

// Curl is a request by curl that takes address and key from the variables of [SDK]. The key goes to curl's standard input: the arguments of a process
// can be read by everybody on the machine.
func Curl(s Setup) string {
	header := ""
	if s.Account != "" {
		header = " -H " + Quote(AccountHeader+": "+s.Account)
	}
	return `printf 'x-api-key: %s\n' "$ANTHROPIC_API_KEY" |` + "\n" +
		`  curl -sS "$ANTHROPIC_BASE_URL/v1/messages" -H @- -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json'` + header + ` \` + "\n" +
		`  -d '{"model":"` + Model + `","max_tokens":64,"messages":[{"role":"user","content":"Say hello"}]}'`
}

// Quote makes text one word of a POSIX shell.
func Quote(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// quoteJSON is a JSON string without the escapes that only HTML needs.
func quoteJSON(text string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a text can be encoded
	return strings.TrimSuffix(b.String(), "\n")
}
