package fault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
)

func kinds() []fault.Kind {
	return []fault.Kind{fault.Internal, fault.Invalid, fault.Unprocessable, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.MethodNotAllowed,
		fault.Conflict, fault.Precondition, fault.TooLarge, fault.UnsupportedMedia, fault.TooMany, fault.Unavailable}
}

func TestTheTableOfCodes(t *testing.T) {
	shape := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	seen := map[string]bool{}
	used := map[fault.Kind]bool{}
	for _, c := range fault.Codes() {
		require.Regexp(t, shape, c.Name)
		require.False(t, seen[c.Name], "%s is in the table twice", c.Name)
		seen[c.Name], used[c.Kind] = true, true
		require.NotEmpty(t, c.Meaning, c.Name)
		require.False(t, strings.HasSuffix(c.Meaning, "."), "%s: a meaning is a phrase", c.Name)
		found, ok := fault.Lookup(c.Name)
		require.True(t, ok)
		require.Equal(t, c, found)
		f := fault.New(c.Kind, c.Name, "What happened. What to do.")
		require.Equal(t, c.Name, f.Code)
		require.Equal(t, c.Kind, f.Kind)
	}
	for _, k := range kinds() {
		require.True(t, used[k], "no code has the kind %s", k)
	}
	_, ok := fault.Lookup("no_such_code")
	require.False(t, ok)
	_, ok = fault.Lookup("")
	require.False(t, ok)
}

func TestKinds(t *testing.T) {
	names, statuses := map[string]bool{}, map[int]bool{}
	for _, k := range kinds() {
		require.False(t, names[k.String()], k.String())
		require.False(t, statuses[k.Status()], "two kinds with status %d", k.Status())
		names[k.String()], statuses[k.Status()] = true, true
		require.GreaterOrEqual(t, k.Status(), 400)
		require.NotEmpty(t, http.StatusText(k.Status()))
		require.Equal(t, k, fault.KindOfStatus(k.Status()))
		require.Contains(t, []int{1, 2, 3, 4, 5}, k.Exit())
	}
	require.Equal(t, http.StatusInternalServerError, fault.Kind(99).Status(), "an unknown kind is internal")
	require.Equal(t, fault.Internal, fault.KindOfStatus(418))
	for k, exit := range map[fault.Kind]int{fault.NotFound: 3, fault.Forbidden: 4, fault.Unauthenticated: 4, fault.Unavailable: 5, fault.TooMany: 5, fault.Invalid: 2, fault.Unprocessable: 2, fault.Conflict: 1, fault.Internal: 1} {
		require.Equal(t, exit, k.Exit(), k.String())
	}
}

func TestUnknownCodesAreInternal(t *testing.T) {
	for _, f := range []*fault.Error{
		fault.New(fault.NotFound, "no_such_code", "secret-detail"), fault.New(fault.Conflict, "not_found", "secret-detail"), fault.New(fault.Kind(42), "not_found", "secret-detail"),
	} {
		require.Equal(t, fault.Internal, f.Kind)
		require.Equal(t, "internal", f.Code)
		require.NotContains(t, f.Error(), "secret-detail")
		require.Error(t, f.Unwrap(), "the log says which code it was")
	}
}

func TestTheCauseIsNeverInTheText(t *testing.T) {
	cause := errors.New("ERROR: duplicate key value (password)=(hunter2)")
	f := fault.New(fault.Conflict, "already_exists", "The name is taken.").With("/name", "is taken").After(3).Because(cause)
	wrapped := fmt.Errorf("create: %w", f)
	for _, e := range []error{f, wrapped, fault.Of(f), fault.Of(wrapped), fault.Of(cause), fault.Of(fmt.Errorf("query: %w", cause))} {
		found, ok := fault.As(e)
		require.True(t, ok)
		require.NotContains(t, found.Error(), "hunter2")
		require.NotContains(t, found.Detail, "hunter2")
		for _, verb := range []string{"%v", "%s", "%q"} {
			require.NotContains(t, fmt.Sprintf(verb, e), "hunter2")
		}
		b, err := json.Marshal(found)
		require.NoError(t, err)
		require.NotContains(t, string(b), "hunter2")
		require.ErrorIs(t, e, cause, "the log can still reach it")
	}
	require.NotContains(t, wrapped.Error(), "hunter2")
	require.Equal(t, 3, f.RetryAfter)
	require.Equal(t, []fault.Field{{Pointer: "/name", Message: "is taken"}}, f.Fields)
}

func TestKindOfAndOf(t *testing.T) {
	f := fault.New(fault.NotFound, "not_found", "There is none.")
	require.Equal(t, fault.NotFound, fault.KindOf(fmt.Errorf("get: %w", f)))
	require.Equal(t, fault.Internal, fault.KindOf(errors.New("anything")))
	require.Equal(t, fault.Internal, fault.KindOf(nil))
	require.Same(t, f, fault.Of(fmt.Errorf("get: %w", f)))
	_, ok := fault.As(errors.New("anything"))
	require.False(t, ok)
	of := fault.Of(errors.New("anything"))
	require.Equal(t, "internal", of.Code)
	require.Contains(t, of.Error(), "request id")
}
