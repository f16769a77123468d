package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

// jsonNames returns the names under which a struct is encoded, those of embedded structs among them.
func jsonNames(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			out = append(out, jsonNames(f.Type)...)
		case name != "-" && name != "":
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// TestClientShapesAreTheDocuments: what the client sends has the fields that the API takes, all of them and no others.
func TestClientShapesAreTheDocuments(t *testing.T) {
	d := readDocument(t)
	for name, shape := range map[string]any{
		"CredentialDraft": client.CredentialDraft{}, "CredentialPatch": client.CredentialPatch{}, "OauthDraft": client.OAuth{}, "CredentialPatch/oauth": client.OAuth{},
		"RotateRequest": client.RotateRequest{}, "RevealRequest": client.RevealRequest{}, "TrainDraft": client.TrainDraft{}, "TrainPatch": client.TrainPatch{},
		"LinkDraft": client.LinkDraft{}, "LinkPatch": client.LinkPatch{}, "KeyDraft": client.KeyDraft{}, "KeyPatch": client.KeyPatch{},
		"KeyReplacement": client.KeyReplacement{}, "TokenDraft": client.TokenDraft{}, "SetupDraft": client.SetupRequest{},
		"ChannelDraft": client.ChannelDraft{}, "ChannelPatch": client.ChannelPatch{}, "ChannelEmailPatch": client.ChannelEmailPatch{},
		"GroupDraft": client.GroupDraft{}, "GroupPatch": client.GroupPatch{}, "MemberDraft": client.MemberDraft{}, "ServiceDraft": client.ServiceAccountDraft{},
		"GrantsDraft": client.GrantsDraft{}, "GrantDraft": client.GrantDraft{}, "GranteeRef": client.GranteeRef{}, "ServicePatch": client.ServiceAccountPatch{},
	} {
		name, field, inside := strings.Cut(name, "/")
		s := d.Components.Schemas[name]
		require.NotNil(t, s, name)
		if inside {
			s = d.resolve(s.Properties[field])
		}
		var want []string
		for field := range s.Properties {
			want = append(want, field)
		}
		slices.Sort(want)
		require.Equal(t, want, jsonNames(reflect.TypeOf(shape)), name)
	}
}

// TestClientSpeaksTheDocument calls every method of the client and holds what it sends against the document: each call is an operation,
// each operation has a call, and a filter sends just the parameters that the operation takes.
func TestClientSpeaksTheDocument(t *testing.T) {
	d := readDocument(t)
	var sent *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = r
		w.WriteHeader(http.StatusTeapot)
	}))
	defer server.Close()
	c := client.New(server.URL, "")
	covered := map[string]bool{}
	v := reflect.ValueOf(c)
	for i := range v.NumMethod() {
		name, m := v.Type().Method(i).Name, v.Method(i)
		if m.Type().NumIn() == 0 || m.Type().In(0) != reflect.TypeFor[context.Context]() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			args := []reflect.Value{reflect.ValueOf(t.Context())}
			for j := 1; j < m.Type().NumIn(); j++ {
				args = append(args, full(m.Type().In(j)))
			}
			sent = nil
			out := m.Call(args)
			var e *client.Error
			require.ErrorAs(t, out[len(out)-1].Interface().(error), &e)
			require.Equal(t, http.StatusTeapot, e.Status)
			require.NotNil(t, sent)
			o := d.find(t, sent.Method, sent.URL.EscapedPath())
			covered[o.ID] = true
			require.Equal(t, o.RequestBody != nil, sent.ContentLength > 0)
			var want []string
			for _, p := range o.Parameters {
				if p.In == "query" {
					want = append(want, p.Name)
				}
			}
			for param := range sent.URL.Query() {
				require.Contains(t, want, param)
			}
			if takesFilter(m.Type()) {
				for _, param := range want {
					require.Contains(t, sent.URL.Query(), param, "the filter cannot say this")
				}
			}
		})
	}
	for _, o := range d.operations(t) {
		if o.method != "PUT" && o.ID != "get-openapi" && o.ID != "get-docs" { // PUT does what PATCH does; the documents are for others
			require.True(t, covered[o.ID], "the client has no method for %s", o)
		}
	}
}

func takesFilter(m reflect.Type) bool {
	for i := range m.NumIn() {
		if strings.HasSuffix(m.In(i).Name(), "Filter") {
			return true
		}
	}
	return false
}

// full returns a value of that type with no zero field.
func full(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch {
	case t == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Now()))
	case t.Kind() == reflect.String:
		v.SetString("a/ä?b")
	case v.CanInt():
		v.SetInt(7)
	case t.Kind() == reflect.Bool:
		v.SetBool(true)
	case t.Kind() == reflect.Pointer:
		p := reflect.New(t.Elem())
		p.Elem().Set(full(t.Elem()))
		v.Set(p)
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			v.Field(i).Set(full(t.Field(i).Type))
		}
	}
	return v
}

// find returns the operation of a request; of several, the one with the fewest parameters.
func (d *document) find(t *testing.T, method, escaped string) operation {
	t.Helper()
	var best *operation
	for _, o := range d.operations(t) {
		if o.method == method && fits(o.path, escaped) && (best == nil || strings.Count(o.path, "{") < strings.Count(best.path, "{")) {
			best = &o
		}
	}
	require.NotNil(t, best, "%s %s is no operation", method, escaped)
	return *best
}

func fits(pattern, escaped string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(escaped, "/")
	if len(want) != len(have) {
		return false
	}
	for i, s := range want {
		if u, err := url.PathUnescape(have[i]); !strings.HasPrefix(s, "{") && (err != nil || u != s) {
			return false
		}
	}
	return true
}
