package etag_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/etag"
)

func TestConditions(t *testing.T) {
	const current = `"1-2"`
	for header, want := range map[string][2]bool{ // If-Match holds, If-None-Match says that the client has it
		`"1-2"`:            {true, true},
		` "1-2" `:          {true, true},
		`*`:                {true, true},
		` * `:              {true, true},
		`"0", "1-2"`:       {true, true},
		`"0","1-2","3"`:    {true, true},
		`"1-2",`:           {true, true}, // empty elements of a list are allowed
		`,,"1-2"`:          {true, true},
		`"a,b", "1-2"`:     {true, true},
		`W/"1-2"`:          {false, true}, // weak
		`W/"9", W/"1-2"`:   {false, true},
		`"1-2" x`:          {false, false},
		`"1-2""1-2"`:       {false, false},
		`1-2`:              {false, false}, // not a tag
		`"1-2`:             {false, false},
		`1-2"`:             {false, false},
		`w/"1-2"`:          {false, false},
		`W/ "1-2"`:         {false, false},
		`"0"`:              {false, false},
		`"a,"1-2",b"`:      {false, false},
		`"0, \"1-2\""`:     {false, false},
		`*, "1-2"`:         {false, false}, // a star stands alone
		`"1-2", *`:         {false, false},
		`"a b", "1-2"`:     {false, false},
		`,`:                {false, false},
		`"1-20"`:           {false, false},
		`'1-2'`:            {false, false},
		"\"1-2\x01\"":      {false, false},
		`"1-2" , W/ , "x"`: {false, false},
	} {
		require.Equal(t, want[0], etag.Match(header, current), "If-Match: %s", header)
		require.Equal(t, want[1], !etag.NoneMatch(header, current), "If-None-Match: %s", header)
	}
	require.True(t, etag.Match("", current), "no condition")
	require.True(t, etag.NoneMatch("", current), "no condition")
	require.False(t, etag.Match(`W/"1"`, `W/"1"`), "a weak tag never satisfies If-Match")
	require.False(t, etag.Match("*", ""), "there is nothing")
}

func TestOf(t *testing.T) {
	require.Equal(t, etag.Of("a", "b"), etag.Of("a", "b"))
	require.NotEqual(t, etag.Of("a", "b"), etag.Of("ab"))
	require.NotEqual(t, etag.Of("a", "b"), etag.Of("ab", ""))
	require.True(t, etag.Match(etag.Of("a"), etag.Of("a")))
	require.Regexp(t, `^"[0-9A-Za-z_-]{20}"$`, etag.Of())
}

func FuzzConditions(f *testing.F) {
	for _, s := range []string{`"1"`, `W/"1"`, `*`, `"0", "1"`, `"`, `W/`, ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if header != "" && etag.Match(header, `"1"`) && etag.NoneMatch(header, `"1"`) {
			t.Fatalf("%q satisfies both", header)
		}
	})
}
