package broker

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/strict"
)

// message is what a door has to know of one message of JSON-RPC 2.0.
type message struct {
	method string // "" for an answer to a request of the server
	// name is what the request names: the tool, the prompt or the resource.
	name string
	// tool is the name of a tool that is called, and digest the first 128 bits of the SHA-256 of its arguments, in hexadecimal.
	tool, digest string
}

const (
	// mcpDepth is how deep a message may nest: the arguments of a tool lie two levels down.
	mcpDepth = 64
	// mcpName is how long a method or the name of a tool may be, in bytes.
	mcpName = 256
)

// readMessage reads a message as every reader would read it, and refuses one that two could read in two ways.
func readMessage(text []byte) (message, error) {
	v, err := strict.ParseTo(text, mcpDepth)
	if err != nil {
		return message{}, fault.New(fault.Invalid, "malformed_json", "The message "+err.Error()+".")
	}
	top, ok := v.(map[string]any)
	if !ok {
		return message{}, badMessage("is no JSON object; batches of messages are not part of the protocol any more")
	}
	if err := oneReading(top, "jsonrpc", "id", "method", "params", "result", "error"); err != nil {
		return message{}, err
	}
	if top["jsonrpc"] != "2.0" {
		return message{}, badMessage("is no message of JSON-RPC 2.0")
	}
	id, hasID := top["id"]
	switch id.(type) {
	case string, json.Number:
	default:
		if hasID {
			return message{}, badMessage("has an id that is neither a text nor a number")
		}
	}
	method, isCall := top["method"]
	_, answers := top["result"]
	_, fails := top["error"]
	if !isCall {
		if answers == fails || !hasID {
			return message{}, badMessage("is neither a request nor an answer")
		}
		return message{}, nil
	}
	m := message{}
	if m.method, ok = method.(string); !ok || answers || fails || !speakable(m.method) || strings.ContainsRune(m.method, ' ') {
		return message{}, badMessage("has a method that is none")
	}
	params, has := top["params"]
	if !has {
		params = map[string]any{}
	}
	of, ok := params.(map[string]any)
	if !ok {
		return message{}, badMessage("has params that are no object")
	}
	return m, m.named(of)
}

// named reads from the params what the request is about.
func (m *message) named(params map[string]any) error {
	field := map[string]string{"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}[m.method]
	if field == "" {
		return nil
	}
	if err := oneReading(params, field, "arguments", "_meta"); err != nil {
		return err
	}
	name, ok := params[field].(string)
	if !ok || name == "" {
		return badMessage("does not say in params." + field + " what it is about")
	}
	m.name = name
	if m.method != "tools/call" {
		return nil
	}
	if !speakable(name) {
		return badMessage("calls a tool whose name has over 256 bytes, or characters that cannot be shown")
	}
	m.tool = name
	arguments, has := params["arguments"]
	if !has {
		return nil
	}
	// Sorted keys, no blanks, numbers as they came.
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(arguments); err != nil {
		return badMessage("has arguments that cannot be read")
	}
	sum := sha256.Sum256(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	m.digest = hex.EncodeToString(sum[:16])
	return nil
}

// oneReading refuses an object with a key that some reader would take for one of these: many do not tell upper from lower case.
func oneReading(object map[string]any, keys ...string) error {
	for have := range object {
		for _, key := range keys {
			if have != key && strings.EqualFold(have, key) {
				return badMessage("has a key that only differs from " + key + " in upper and lower case")
			}
		}
	}
	return nil
}

// speakable reports whether a name can stand in a record: up to 256 bytes of printable ASCII.
func speakable(name string) bool {
	return name != "" && len(name) <= mcpName && !strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c > '~' })
}

func badMessage(what string) error {
	return fault.New(fault.Invalid, "malformed_request", "The message "+what+".")
}

// checkNames refuses headers that say another thing than the message: a server, or somebody on the way, may go by either.
func checkNames(h http.Header, m message) error {
	for name, is := range map[string]string{"Mcp-Method": m.method, "Mcp-Name": m.name} {
		switch lines := h[name]; {
		case len(lines) == 0:
		case len(lines) > 1 || lines[0] != is && decodedHeader(lines[0]) != is || is == "":
			return fault.New(fault.Invalid, "malformed_request", "The header "+name+" does not say what the message says.")
		}
	}
	for _, name := range [...]string{"Mcp-Protocol-Version", "Mcp-Session-Id", "Last-Event-Id"} {
		if len(h[name]) > 1 {
			return fault.New(fault.Invalid, "malformed_request", "The header "+name+" is there twice.")
		}
	}
	if v := h.Get("Mcp-Protocol-Version"); v != "" && (len(v) > 64 || strings.ContainsFunc(v, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '.')
	})) {
		return fault.New(fault.Invalid, "malformed_request", "The header Mcp-Protocol-Version names no revision of the protocol.")
	}
	return nil
}

// decodedHeader is a value that came as =?base64?…?=, as clients write what a header cannot hold.
func decodedHeader(value string) string {
	inner, ok := strings.CutPrefix(value, "=?base64?")
	if !ok {
		return value
	}
	inner, ok = strings.CutSuffix(inner, "?=")
	plain, err := base64.StdEncoding.Strict().DecodeString(inner)
	if !ok || err != nil {
		return value
	}
	return string(plain)
}

func isJSON(contentType string) bool {
	kind, params, err := mime.ParseMediaType(contentType)
	charset, has := params["charset"]
	return err == nil && kind == "application/json" && (!has || strings.EqualFold(charset, "utf-8"))
}

var errMCPKind = errors.New("the answer is neither JSON nor an event stream")
