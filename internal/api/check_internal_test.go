package api

import (
	"reflect"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"
)

// TestChecker holds each rule of the check by itself: most of them the rooms check once more, and would hide a gap here.
func TestChecker(t *testing.T) {
	type inner struct {
		A string `json:"a" maxLength:"3"`
	}
	type shape struct {
		Text    string       `json:"text" minLength:"2" maxLength:"3"`
		Enum    strategy     `json:"enum,omitempty"`
		Number  int          `json:"number,omitempty" minimum:"-1" maximum:"5"`
		Flag    bool         `json:"flag,omitempty"`
		At      edit[inner]  `json:"at,omitempty"`
		List    texts        `json:"list,omitempty" maxItems:"2" maxLength:"3"`
		Secrets secretEdits  `json:"secrets,omitempty"`
		Secret  hidden       `json:"secret,omitempty"`
		Maybe   edit[string] `json:"maybe,omitempty" maxLength:"3"`
		Inner   *inner       `json:"inner,omitempty"`
	}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	s := registry.Schema(reflect.TypeFor[shape](), true, "")
	long := strings.Repeat("s", maxSecretChars)
	for body, want := range map[string]string{
		`{"text":"äöü"}`: "", `{"text":"abc","enum":"hash","number":5,"flag":false,"list":["abc","x"],"inner":{"a":""}}`: "",
		`{"text":"ab","maybe":null,"at":null,"secrets":{"x":null,"y":"\u0000"},"secret":"\u0000"}`: "", `{"text":"ab","secret":"` + long + `"}`: "",

		`{}`: "/text is required", `{"text":null}`: "/text must not be null; leave it out where it is optional", `{"text":"a"}`: "/text must have at least 2 characters",
		`{"text":"abcd"}`: "/text must have at most 3 characters", `{"text":"a\u0000"}`: "/text must not contain the character U+0000", `{"text":1}`: "/text must be a text",
		`{"text":"ab","enum":"hush"}`: "/enum must be one of hash, priority, least-loaded", `{"text":"ab","enum":null}`: "/enum must not be null; leave it out where it is optional",
		`{"text":"ab","number":6}`: "/number must be at most 5", `{"text":"ab","number":-2}`: "/number must be at least -1", `{"text":"ab","number":1.0}`: "/number must be a whole number",
		`{"text":"ab","number":"1"}`: "/number must be a whole number", `{"text":"ab","flag":0}`: "/flag must be true or false",
		`{"text":"ab","list":["a","b","c"]}`: "/list must have at most 2 items", `{"text":"ab","list":["abcd"]}`: "/list/0 must have at most 3 characters",
		`{"text":"ab","list":["a",null]}`: "/list/1 must not be null; leave it out where it is optional", `{"text":"ab","list":{}}`: "/list must be a list",
		`{"text":"ab","inner":[]}`: "/inner must be an object", `{"text":"ab","inner":{"a":"abcd"}}`: "/inner/a must have at most 3 characters",
		`{"text":"ab","at":{"a":"abcd"}}`: "/at/a must have at most 3 characters", `{"text":"ab","at":{"a":"a","` + planted + `":1}}`: "/at has a field that is not known here; known are a",
		`{"text":"ab","maybe":"abcd"}`:                           "/maybe must have at most 3 characters",
		`{"text":"ab","Text":"ab"}`:                              " has a field that is not known here; known are at, enum, flag, inner, list, maybe, number, secret, secrets, text",
		`{"text":"ab","` + planted + `":1,"` + planted + `2":1}`: " has 2 fields that are not known here; known are at, enum, flag, inner, list, maybe, number, secret, secrets, text",
		`{"text":"ab","secrets":{}}`:                             "/secrets must have at least 1 field", `{"text":"ab","secrets":{"` + planted + `":"x"}}`: "/secrets " + freeKeyRule,
		`{"text":"ab","secrets":{"planted7q2x":7}}`: "/secrets has a field that must be a text", `{"text":"ab","secrets":{"planted7q2x":""}}`: "/secrets has a field that must not be empty",
		`{"text":"ab","secret":"` + long + `s"}`: "/secret must have at most 65536 characters", `{"text":"ab","secret":""}`: "/secret must not be empty",
		`[]`: " must be an object", `null`: " must not be null; leave it out where it is optional",
	} {
		tree, err := parse([]byte(body))
		require.NoError(t, err, body)
		f := checker{registry: registry}.check(s, tree)
		if want == "" {
			require.Nil(t, f, "%.100s", body)
			continue
		}
		require.NotNil(t, f, body)
		require.Len(t, f.Fields, 1, body)
		require.Equal(t, want, f.Fields[0].Pointer+" "+f.Fields[0].Message, body)
	}

	many := map[string]any{"text": strings.Repeat("a", 9), "list": []any{}}
	list := make([]any, 0, 40)
	for range 40 {
		list = append(list, 7)
	}
	wide := *registry.Schema(reflect.TypeFor[texts](), false, "")
	require.Len(t, checker{registry: registry}.check(&wide, list).Fields, maxFindings, "an answer is bounded")
	require.Len(t, checker{registry: registry}.check(s, many).Fields, 1)
}
