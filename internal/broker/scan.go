package broker

import (
	"bytes"
	"encoding/json"

	"signalbox.dev/signalbox/internal/fault"
)

// maxDepth bounds the nesting that the scan follows; deeper bodies are the upstream's to refuse.
const maxDepth = 10_000

// topLevelModel returns the value of "model" at the top level of a JSON object. A body that names it twice is refused, since Signalbox and
// the upstream could read two different models. A body that is no JSON object gives "": the upstream will say what is wrong with it. The
// scan looks at each byte of structure once and skips over strings, which are nearly all of a real prompt.
func topLevelModel(b []byte) (string, error) {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return "", nil
	}
	model, seen := "", false
	depth, key := 1, true // key: a string at depth 1 is a key
	for i++; i < len(b); {
		switch b[i] {
		case '"':
			end := stringEnd(b, i)
			if end < 0 {
				return model, nil
			}
			if depth == 1 && key {
				key = false
				if isModelKey(b[i:end]) {
					if seen {
						return "", fault.New(fault.Invalid, "model_duplicate", "The request names \"model\" twice at its top level, so it is not clear which model is meant. Send it once.")
					}
					seen = true
					model = stringAt(b, end)
				}
			}
			i = end
			continue
		case '{', '[':
			if depth++; depth > maxDepth {
				return model, nil
			}
		case '}', ']':
			if depth--; depth == 0 {
				return model, nil
			}
		case ',':
			if depth == 1 {
				key = true
			}
		}
		i++
	}
	return model, nil
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

// isModelKey also sees through escapes such as "model".
func isModelKey(raw []byte) bool {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw) == `"model"`
	}
	var s string
	return len(raw) < 64 && json.Unmarshal(raw, &s) == nil && s == "model"
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
