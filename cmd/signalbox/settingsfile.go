package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/connect"
)

// member is one key of a JSON object, with its value as it was written.
type member struct {
	key   string
	value json.RawMessage
}

// object is a JSON object that keeps the order of its members: people keep these files by hand.
type object []member

func parseObject(text []byte) (object, error) {
	var out object
	if len(bytes.TrimSpace(text)) == 0 {
		return out, nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotObject
	}
	for dec.More() {
		t, err := dec.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			return nil, errNotObject
		}
		m := member{key: key}
		if err := dec.Decode(&m.value); err != nil {
			return nil, errNotObject
		}
		out = append(out, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, errNotObject
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotObject
	}
	return out, nil
}

var errNotObject = errors.New("the file is no JSON object; mend it or move it away")

func (o object) get(key string) json.RawMessage {
	for i := len(o) - 1; i >= 0; i-- { // readers take the last of several
		if o[i].key == key {
			return o[i].value
		}
	}
	return nil
}

func (o object) set(key string, value json.RawMessage) object {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].key == key {
			o[i].value = value
			return o
		}
	}
	return append(o, member{key, value})
}

func (o object) encode() (json.RawMessage, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := jsonText(m.key)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// jsonText is a JSON string without the escapes that only HTML needs.
func jsonText(s string) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(s)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// mergeClaudeSettings sets variables in the member env of Claude Code's settings (docs.claude.com/en/docs/claude-code/settings) and leaves
// the rest as it is.
func mergeClaudeSettings(old []byte, vars []connect.Variable) ([]byte, error) {
	return mergeClaude(old, vars, nil, "")
}

// mergeClaude also removes variables, and sets the helper if there is one.
func mergeClaude(old []byte, vars []connect.Variable, unset []string, helper string) ([]byte, error) {
	settings, err := parseObject(old)
	if err != nil {
		return nil, err
	}
	env, err := parseObject(settings.get("env"))
	if err != nil {
		return nil, errors.New("its member env is no JSON object; mend it or move the file away")
	}
	env = slices.DeleteFunc(env, func(m member) bool { return slices.Contains(unset, m.key) })
	for _, v := range vars {
		if v.Name == connect.CustomHeaders {
			v.Value = mergeHeaders(envText(env, v.Name), v.Value)
		}
		text, err := jsonText(v.Value)
		if err != nil {
			return nil, err
		}
		env = env.set(v.Name, text)
	}
	if helper != "" {
		text, err := jsonText(helper)
		if err != nil {
			return nil, err
		}
		settings = settings.set("apiKeyHelper", text)
	}
	inner, err := env.encode()
	if err != nil {
		return nil, err
	}
	whole, err := settings.set("env", inner).encode()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, whole, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// setting is a value that a file gives a variable, and where.
type setting struct{ value, where string }

// placeEnv names the member of Claude Code's settings that sets variables.
const placeEnv = "its member env"

// claudeSettings reads a variable from the member env of Claude Code's settings. What is no text is told as it is written.
func claudeSettings(old []byte, name string) []setting {
	settings, err := parseObject(old)
	if err != nil {
		return nil
	}
	env, err := parseObject(settings.get("env"))
	if err != nil {
		return nil
	}
	var out []setting
	for _, m := range env {
		if m.key == name {
			out = append(out, setting{rawText(m.value), placeEnv})
		}
	}
	return out
}

// claudeHelper is the command that Claude Code's settings have it ask for a key, "" for none.
func claudeHelper(old []byte) string {
	settings, err := parseObject(old)
	if err != nil {
		return ""
	}
	return rawText(settings.get("apiKeyHelper"))
}

// rawText is the text of a JSON string, "" for null or nothing, and anything else as it is written.
func rawText(value json.RawMessage) string {
	var text *string
	if len(value) == 0 {
		return ""
	}
	if err := json.Unmarshal(value, &text); err != nil {
		return string(value)
	}
	if text == nil {
		return ""
	}
	return *text
}

func envText(env object, name string) string {
	var text string
	if json.Unmarshal(env.get(name), &text) != nil {
		return ""
	}
	return text
}

// mergeHeaders puts headers, a line each, in the place of those of the same names, after what else is there.
func mergeHeaders(old, more string) string {
	name := func(line string) string {
		n, _, _ := strings.Cut(line, ":")
		return strings.ToLower(strings.TrimSpace(n))
	}
	var lines []string
	for line := range strings.Lines(old) {
		line = strings.TrimSpace(line)
		if line != "" && !slices.ContainsFunc(strings.Split(more, "\n"), func(m string) bool { return name(m) == name(line) }) {
			lines = append(lines, line)
		}
	}
	return strings.Join(append(lines, more), "\n")
}
