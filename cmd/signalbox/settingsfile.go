package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
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
func mergeClaudeSettings(old []byte, vars [][2]string) ([]byte, error) {
	settings, err := parseObject(old)
	if err != nil {
		return nil, err
	}
	env, err := parseObject(settings.get("env"))
	if err != nil {
		return nil, errors.New("its member env is no JSON object; mend it or move the file away")
	}
	for _, v := range vars {
		text, err := jsonText(v[1])
		if err != nil {
			return nil, err
		}
		env = env.set(v[0], text)
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

// mergeDotenv sets variables in a .env file and leaves the other lines as they are.
func mergeDotenv(old []byte, vars [][2]string) ([]byte, error) {
	text := string(old)
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("the file is no text")
	}
	var lines []string
	if text != "" {
		lines = strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	for _, v := range vars {
		line, placed := v[0]+"="+v[1], false
		for i, l := range lines {
			name, _, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(l), "export "), "=")
			if ok && strings.TrimSpace(name) == v[0] {
				if strings.HasPrefix(strings.TrimSpace(l), "export ") {
					lines[i] = "export " + line
				} else {
					lines[i] = line
				}
				placed = true
			}
		}
		if !placed {
			lines = append(lines, line)
		}
	}
	return []byte(strings.Join(lines, "\n") + "\n"), nil
}

// claudeSetting reads a variable from the member env of Claude Code's settings.
func claudeSetting(old []byte, name string) string {
	settings, err := parseObject(old)
	if err != nil {
		return ""
	}
	env, err := parseObject(settings.get("env"))
	if err != nil {
		return ""
	}
	var text string
	if json.Unmarshal(env.get(name), &text) != nil {
		return ""
	}
	return text
}

// dotenvSetting reads a variable from a .env file; of several lines the last counts.
func dotenvSetting(old []byte, name string) (value string) {
	for line := range strings.Lines(string(old)) {
		key, text, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if ok && strings.TrimSpace(key) == name {
			value = strings.Trim(strings.TrimSpace(text), `"'`)
		}
	}
	return value
}
