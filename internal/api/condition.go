package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"signalbox.dev/signalbox/internal/etag"
)

// maxCondition bounds If-None-Match, in characters.
const maxCondition = 1000

// conditional says whether an operation answers If-None-Match.
func (r route) conditional() bool { return r.method == http.MethodGet && !r.moving && r.streams == nil }

func noneMatchParameter() *huma.Param {
	return &huma.Param{
		Name: "If-None-Match", In: "header", Description: "The ETag of an earlier answer; 304 without a body when nothing has changed.",
		Schema: &huma.Schema{Type: huma.TypeString, MaxLength: size(maxCondition)},
	}
}

// notModified gives the answer of a read an ETag, if the operation has given it none that a change would need, and empties it when the
// client has it already. The read itself took place and is on record.
func notModified(w *reply, condition string) {
	if w.status != http.StatusOK {
		return
	}
	tag := w.Header().Get("ETag")
	if tag == "" {
		tag = etag.Of(w.body.String())
		w.Header().Set("ETag", tag)
	}
	if etag.NoneMatch(condition, tag) {
		return
	}
	w.status = http.StatusNotModified
	w.body.Reset()
	w.Header().Del("Content-Type")
}
