package broker

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"

	"signalbox.dev/signalbox/internal/fault"
)

// maxDepth bounds the nesting that the scan follows; deeper bodies are the upstream's to refuse.
const maxDepth = 10_000

// topLevel returns the values of "model" and "max_tokens" at the top level of a JSON object. A body that names its model twice is refused, since Signalbox and
// the upstream could read two different models. A body that is no JSON object gives nothing: the upstream will say what is wrong with it. The
// scan looks at each byte of structure once and skips over strings, which are nearly all of a real prompt. maxTokens is 0 when it is not
// there, -1 when it is there twice or is no whole number above 0.
func topLevel(b []byte) (model string, maxTokens int64, err error) {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return "", 0, nil
	}
	seen, counted := false, false
	depth, key := 1, true // key: a string at depth 1 is a key
	for i++; i < len(b); {
		switch b[i] {
		case '"':
			end := stringEnd(b, i)
			if end < 0 {
				return model, maxTokens, nil
			}
			if depth == 1 && key {
				key = false
				switch {
				case isKey(b[i:end], `"max_tokens"`):
					maxTokens = tokensAt(b, end)
					if counted {
						maxTokens = -1
					}
					counted = true
				case isKey(b[i:end], `"model"`):
					if seen {
						return "", 0, fault.New(fault.Invalid, "model_duplicate", "The request names \"model\" twice at its top level, so it is not clear which model is meant. Send it once.")
					}
					seen = true
					model = stringAt(b, end)
				}
			}
			i = end
			continue
		case '{', '[':
			if depth++; depth > maxDepth {
				return model, maxTokens, nil
			}
		case '}', ']':
			if depth--; depth == 0 {
				return model, maxTokens, nil
			}
		case ',':
			if depth == 1 {
				key = true
			}
		}
		i++
	}
	return model, maxTokens, nil
}

// stringEnd returns the index behind the closing quote of the string that starts at i, or -1.
func stringEnd(b []byte, i int) int {
	for j := i + 1; ; {
		n := bytes.IndexByte(b[j:], '"')
		if n < 0 {
			return -1
		}
		j += n
		slashes := 0
		for b[j-1-slashes] == '\\' { // ends at the opening quote at the latest
			slashes++
		}
		j++
		if slashes%2 == 0 {
			return j
		}
	}
}

// isKey reports whether a key in its quotes is that one; it also sees through escapes such as "\u006dodel".
func isKey(raw []byte, key string) bool {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw) == key
	}
	var s string
	return len(raw) < 64 && json.Unmarshal(raw, &s) == nil && s == key[1:len(key)-1]
}

// tokensAt returns the whole number that follows a key ending at i, -1 when there is none above 0.
func tokensAt(b []byte, i int) int64 {
	i = space(b, i)
	if i >= len(b) || b[i] != ':' {
		return -1
	}
	i = space(b, i+1)
	end := i
	for end < len(b) && end-i < 32 && (b[end] >= '0' && b[end] <= '9' || bytes.IndexByte([]byte("+-.eE"), b[end]) >= 0) {
		end++
	}
	n, err := strconv.ParseFloat(string(b[i:end]), 64) // 1024.0 and 1e3 are numbers too
	if err != nil || n < 1 || n > 1e15 || n != math.Trunc(n) {
		return -1
	}
	return int64(n)
}

// stringAt returns the string value that follows a key ending at i, at most 256 bytes of it.
func stringAt(b []byte, i int) string {
	i = space(b, i)
	if i >= len(b) || b[i] != ':' {
		return ""
	}
	i = space(b, i+1)
	if i >= len(b) || b[i] != '"' {
		return ""
	}
	end := stringEnd(b, i)
	if end < 0 || end-i > 256 {
		return ""
	}
	var s string
	if json.Unmarshal(b[i:end], &s) != nil {
		return ""
	}
	return s
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}
