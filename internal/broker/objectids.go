package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// fileIDs returns the ids of the files that a request asks the upstream to read, each once: the value of each "file_id" in it
// (docs.anthropic.com/en/docs/build-with-claude/files), wherever it stands and however it is written, but for those that are only told: what a tool is
// called with is anybody's JSON, and blocks whose type ends in _output repeat what the upstream itself has said. A file_id
// that is neither a string nor null counts as [noID], which is nobody's.
func fileIDs(b []byte) []string {
	// Without the word, and without an escape that could spell it, there is nothing to look for; that is nearly every request.
	if !bytes.Contains(b, []byte("file_id")) && !bytes.Contains(b, []byte(`\u00`)) {
		return nil
	}
	var (
		all    []string
		stack  = []object{{}} // what stands open; the first is the text itself
		silent = 0            // how deep in something that is only told
	)
	top := func() *object { return &stack[len(stack)-1] }
	for i := 0; i < len(b); {
		switch b[i] {
		case '"':
			end := stringEnd(b, i)
			if end < 0 {
				return all // broken: the upstream's to refuse
			}
			if o := top(); o.key && !o.list {
				o.key, o.name = false, short(b[i:end])
				if o.name == "file_id" && silent == 0 && !bytes.HasPrefix(valueAt(b, end), []byte(`"`)) && !bytes.HasPrefix(valueAt(b, end), []byte("null")) {
					o.ids = append(o.ids, noID)
				}
			} else if silent == 0 && !o.list {
				switch o.name {
				case "file_id":
					if id := short(b[i:end]); id != "" { // the empty text names nothing
						o.ids = append(o.ids, id)
					}
				case "type":
					if !o.told || o.kind == "" {
						o.kind = short(b[i:end])
						o.told = !strings.HasSuffix(o.kind, "_output")
					}
				}
			}
			i = end
			continue
		case '{', '[':
			if len(stack) > maxDepth {
				return append(all, noID) // too deep to be followed: nobody's
			}
			if silent > 0 || !top().list && slices.Contains(anyJSON[:], top().name) {
				silent++
			}
			stack = append(stack, object{key: b[i] == '{', list: b[i] == '['})
		case '}', ']':
			if len(stack) == 1 {
				return all
			}
			if o := top(); o.kind == "" || o.told {
				for _, id := range o.ids {
					if !slices.Contains(all, id) {
						all = append(all, id)
					}
				}
				if len(all) > idsMost {
					return all
				}
			}
			stack = stack[:len(stack)-1]
			silent = max(0, silent-1)
		case ',':
			top().key = !top().list
		}
		i++
	}
	return all
}

// object is what the scan knows of an object or a list that stands open.
type object struct {
	list bool
	key  bool // the next string is a key
	name string
	kind string
	told bool // one of its types is not of what the upstream has said
	ids  []string
}

// anyJSON are the fields whose values may be anything that a tool is made for.
var anyJSON = [...]string{"input", "input_schema", "input_examples"}

// valueAt is the text from the value on of a key that ends at i.
func valueAt(b []byte, i int) []byte {
	if i = space(b, i); i >= len(b) || b[i] != ':' {
		return nil
	}
	return b[space(b, i+1):]
}

// noID stands for what cannot be an id.
const noID = "?"

// short returns a short JSON string as it reads, and [noID] for a long one or none.
func short(raw []byte) string {
	if len(raw) > 1024 {
		return noID
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return noID
	}
	return s
}

// topLevelString returns where the string value of a name at the top level of a JSON object begins and ends, quotes included; -1 where there is none. A name that
// stands there twice is an error: readers differ in which of the two they take.
func topLevelString(b []byte, name string) (start, end int, err error) {
	start, end = -1, -1
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return start, end, nil
	}
	seen := false
	depth, key := 1, true
	for i++; i < len(b); {
		switch b[i] {
		case '"':
			e := stringEnd(b, i)
			if e < 0 {
				return start, end, nil
			}
			if depth == 1 && key {
				key = false
				if short(b[i:e]) == name {
					if seen {
						return -1, -1, errors.New("it names " + name + " twice")
					}
					seen = true
					if value := valueAt(b, e); len(value) > 0 && value[0] == '"' {
						start = len(b) - len(value)
						end = stringEnd(b, start)
					}
				}
			}
			i = e
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return start, end, nil
			}
		case ',':
			key = depth == 1 || key
		}
		i++
	}
	return start, end, nil
}
