package secret_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"io"
	"log"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	texttemplate "text/template"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/secret"
)

const planted = "pl4nted-Secret/with+chars=&0123456789"

// leaks returns the first form in which out holds the planted secret, or nothing: raw, encoded, as a list of bytes, or a piece of
// twelve characters of the raw form.
func leaks(out string) string {
	b := []byte(planted)
	var decimal, hexed []string
	for _, c := range b[:12] {
		decimal = append(decimal, fmt.Sprint(c))
		hexed = append(hexed, fmt.Sprintf("0x%x", c))
	}
	forms := []string{
		hex.EncodeToString(b)[:24], strings.ToUpper(hex.EncodeToString(b))[:24], base64.StdEncoding.EncodeToString(b)[:16],
		base64.URLEncoding.EncodeToString(b)[:16], strings.Join(decimal, " "), strings.Join(decimal, ","), strings.Join(hexed, ", "),
		template.HTMLEscapeString(planted), template.JSEscapeString(planted),
	}
	for i := 0; i+12 <= len(planted); i++ {
		forms = append(forms, planted[i:i+12])
	}
	for _, f := range forms {
		if strings.Contains(out, f) {
			return f
		}
	}
	return ""
}

type wrapper struct {
	Name string
	Key  secret.Value
}

type hidden struct {
	name string
	key  secret.Value
}

type embedding struct {
	secret.Value
	Other int
}

type deep struct {
	List []wrapper
	Map  map[string]*hidden
	Any  any
}

// shapes are the ways in which a value gets into something that is printed.
func shapes() map[string]any {
	v := secret.FromString(planted)
	w := wrapper{Name: "n", Key: v}
	h := hidden{name: "n", key: v}
	return map[string]any{
		"value": v, "pointer": &v, "struct": w, "struct pointer": &w, "unexported": h, "unexported pointer": &h,
		"embedded": embedding{Value: v}, "slice": []secret.Value{v, v}, "array": [2]secret.Value{v}, "map": map[string]secret.Value{"k": v},
		"any slice": []any{v, &v}, "map of pointers": map[int]*wrapper{1: &w}, "deep": deep{List: []wrapper{w}, Map: map[string]*hidden{"a": &h}, Any: []any{h}},
	}
}

func TestFmtNeverPrintsTheSecret(t *testing.T) {
	count := 0
	for name, shape := range shapes() {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%t", "%c", "%U", "%e", "%b", "%o", "%O", "%T", "%p", "%10v", "%-40s|", "%.3s", "%w"} {
			var out string
			if verb == "%w" {
				out = fmt.Errorf(verb, shape).Error() //nolint // a wrong use must not leak either
			} else {
				out = fmt.Sprintf(verb, shape)
			}
			require.Empty(t, leaks(out), "%s of %s", verb, name)
			count++
		}
		for how, out := range map[string]string{"Sprint": fmt.Sprint(shape), "Sprintln": fmt.Sprintln(shape), "Append": string(fmt.Append(nil, shape))} {
			require.Empty(t, leaks(out), "%s of %s", how, name)
			count++
		}
	}
	require.Greater(t, count, 150)
}

// A plain byte slice with the same methods leaks in some of these shapes, so a detector that finds nothing there would prove nothing.
func TestTheDetectorSeesLeaks(t *testing.T) {
	found := 0
	for _, leaky := range []any{planted, []byte(planted), struct{ k []byte }{[]byte(planted)}, map[string]string{"k": planted}} {
		for _, verb := range []string{"%v", "%s", "%q", "%x", "%X", "%#v"} {
			if leaks(fmt.Sprintf(verb, leaky)) != "" {
				found++
			}
		}
	}
	require.Greater(t, found, 20)
	require.NotEmpty(t, leaks("... "+base64.StdEncoding.EncodeToString([]byte(planted))))
	require.Empty(t, leaks("pl4nted-Sec"))
}

func TestSlogNeverPrintsTheSecret(t *testing.T) {
	opts := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	handlers := map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, opts) },
		"json": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, opts) },
	}
	for kind, handler := range handlers {
		for name, shape := range shapes() {
			var b bytes.Buffer
			l := slog.New(handler(&b))
			l.Debug("m", "key", shape)
			l.Info("m", slog.Any("key", shape), slog.Group("g", "inner", shape))
			l.With("bound", shape).WithGroup("h").ErrorContext(context.Background(), "m", "err", fmt.Errorf("cause %v", shape))
			require.Empty(t, leaks(b.String()), "%s of %s", kind, name)
			require.NotEmpty(t, b.String())
		}
	}
	var b bytes.Buffer
	log.New(&b, "", 0).Println(shapes())
	require.Empty(t, leaks(b.String()))
}

func TestMarshallingIsAnError(t *testing.T) {
	v := secret.FromString(planted)
	_, err := json.Marshal(v)
	require.ErrorIs(t, err, secret.ErrMarshal)
	_, err = xml.Marshal(v)
	require.Error(t, err)
	_, err = v.MarshalYAML()
	require.ErrorIs(t, err, secret.ErrMarshal)
	_, err = v.MarshalText()
	require.ErrorIs(t, err, secret.ErrMarshal)
	_, err = v.MarshalBinary()
	require.ErrorIs(t, err, secret.ErrMarshal)
	for name, shape := range shapes() {
		out, err := json.Marshal(shape)
		if !strings.HasPrefix(name, "unexported") { // encoders skip unexported fields
			require.Error(t, err, "json of %s", name)
			require.Empty(t, leaks(err.Error()))
		}
		require.Empty(t, leaks(string(out)))

		var b bytes.Buffer
		err = gob.NewEncoder(&b).Encode(shape)
		require.Error(t, err, "gob of %s", name)
		require.Empty(t, leaks(b.String()+err.Error()))

		x, err := xml.Marshal(shape)
		require.Empty(t, leaks(string(x)+fmt.Sprint(err)))
	}
}

func TestTemplatesAndDatabasesGetNoSecret(t *testing.T) {
	for name, shape := range shapes() {
		var b bytes.Buffer
		require.NoError(t, texttemplate.Must(texttemplate.New("").Parse(`{{.}} {{printf "%s %v %x" . . .}}`)).Execute(&b, shape))
		_ = template.Must(template.New("").Parse(`<p title="{{.}}">{{.}}</p><script>x = {{.}}</script>`)).Execute(&b, shape)
		require.Empty(t, leaks(b.String()), name)
		// A database would store the placeholder silently if the driver could convert it.
		_, err := driver.DefaultParameterConverter.ConvertValue(shape)
		require.Error(t, err, name)
		require.Empty(t, leaks(err.Error()), name)
	}
}

// capture is a testing.T that keeps what it was told.
type capture struct{ b strings.Builder }

func (c *capture) Errorf(format string, args ...any) { fmt.Fprintf(&c.b, format, args...) }

func TestFailedAssertionsDoNotPrintTheSecret(t *testing.T) {
	for name, shape := range shapes() {
		var c capture
		assert.Equal(&c, "something else", shape)
		assert.Nil(&c, shape)
		assert.Contains(&c, []any{shape}, "x")
		require.NotEmpty(t, c.b.String(), name)
		require.Empty(t, leaks(c.b.String()), name)
	}
}

func TestReflectionFindsNoBytes(t *testing.T) {
	rt := reflect.TypeFor[secret.Value]()
	for i := range rt.NumField() {
		require.Equal(t, reflect.Func, rt.Field(i).Type.Kind(), "a field of Value that printers can walk into")
	}
}

func TestValue(t *testing.T) {
	src := []byte(planted)
	v := secret.New(src)
	src[0] = 'X'
	require.Equal(t, planted, v.Reveal(), "New copies")
	b := v.Bytes()
	b[0] = 'X'
	require.Equal(t, planted, v.Reveal(), "Bytes is a copy")
	require.Equal(t, len(planted), v.Len())
	require.False(t, v.IsZero())

	require.True(t, v.Equal(secret.FromString(planted)))
	require.False(t, v.Equal(secret.FromString(planted+"x")))
	require.False(t, v.Equal(secret.FromString(planted[:len(planted)-1])))
	require.False(t, v.Equal(secret.Value{}))

	for _, zero := range []secret.Value{{}, secret.New(nil), secret.New([]byte{}), secret.FromString("")} {
		require.True(t, zero.IsZero())
		require.Zero(t, zero.Len())
		require.Empty(t, zero.Reveal())
		require.Empty(t, zero.Bytes())
		require.True(t, zero.Equal(secret.Value{}))
		require.Equal(t, "[secret]", zero.String())
	}
	require.Equal(t, "[secret]", v.String())
	require.Equal(t, "[secret]", v.GoString())
	require.Equal(t, "[secret]", v.LogValue().String())
}
