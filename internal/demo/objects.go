package demo

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// objectsMost and objectBytesMost bound what one account keeps: files and batches, and the bytes of both. The oldest goes first.
	objectsMost     = 500
	objectBytesMost = 64 << 20
)

// object is a file or a batch that one account keeps.
type object struct {
	id      string
	batch   bool
	at      time.Time
	name    string
	kind    string // of a file
	content []byte // of a file; of a batch, its results
	total   int    // requests of a batch
	stopped bool   // a batch that was cancelled
	base    string // where a batch's results are told to be
}

func (o *object) describe() any {
	if !o.batch {
		return map[string]any{"id": o.id, "type": "file", "filename": o.name, "mime_type": o.kind, "size_bytes": len(o.content), "created_at": o.at.UTC(), "downloadable": true}
	}
	counts := map[string]int{"processing": 0, "succeeded": o.total, "errored": 0, "canceled": 0, "expired": 0}
	if o.stopped {
		counts["succeeded"], counts["canceled"] = 0, o.total
	}
	return map[string]any{
		"id": o.id, "type": "message_batch", "processing_status": "ended", "request_counts": counts, "created_at": o.at.UTC(), "ended_at": o.at.UTC(), "expires_at": o.at.Add(24 * time.Hour).UTC(),
		"archived_at": nil, "cancel_initiated_at": nil, "results_url": o.base + "/v1/messages/batches/" + o.id + "/results",
	}
}

// owner returns the account of the request's credential; u.mu is held.
func (c *call) owner() *account {
	token := c.r.Header.Get("X-Api-Key")
	if token == "" {
		token, _ = bearer(c.r.Header.Get("Authorization"))
	}
	return c.u.accounts[hashOf(token)]
}

// keepObject adds an object to the account and drops the oldest where there are too many.
func (c *call) keepObject(o *object) {
	c.u.mu.Lock()
	defer c.u.mu.Unlock()
	a := c.owner()
	if a == nil {
		return
	}
	a.objects = append(a.objects, o)
	total := 0
	for i := len(a.objects) - 1; i >= 0; i-- {
		if total += len(a.objects[i].content); total > objectBytesMost || len(a.objects)-i > objectsMost {
			a.objects = slices.Clone(a.objects[i+1:])
			return
		}
	}
}

// objects serves /v1/files and /v1/messages/batches.
func (c *call) objects(batch bool, rest string) (cancelled bool) {
	if done, cancelled := c.obey(); done {
		return cancelled
	}
	if rest == "" {
		switch c.r.Method {
		case http.MethodGet:
			return c.listObjects(batch)
		case http.MethodPost:
			if batch {
				return c.createBatch()
			}
			return c.createFile()
		}
		return c.fail(http.StatusMethodNotAllowed, "Method Not Allowed")
	}
	id, tail, _ := strings.Cut(rest, "/")
	c.u.mu.Lock()
	a := c.owner()
	var o *object
	if a != nil {
		if i := slices.IndexFunc(a.objects, func(o *object) bool { return o.batch == batch && o.id == id }); i >= 0 {
			o = a.objects[i]
			switch {
			case c.r.Method == http.MethodDelete && tail == "":
				a.objects = slices.Delete(slices.Clone(a.objects), i, i+1)
			case c.r.Method == http.MethodPost && tail == "cancel" && batch:
				stopped := *o
				stopped.stopped = true
				o = &stopped
				a.objects[i] = o
			}
		}
	}
	c.u.mu.Unlock()
	word := "file"
	if batch {
		word = "message_batch"
	}
	switch {
	case o == nil:
		return c.fail(http.StatusNotFound, "Not found: "+id)
	case c.r.Method == http.MethodDelete && tail == "":
		return c.sendValue(map[string]string{"id": id, "type": word + "_deleted"})
	case c.r.Method == http.MethodGet && tail == "", c.r.Method == http.MethodPost && tail == "cancel" && batch:
		return c.sendValue(o.describe())
	case c.r.Method == http.MethodGet && (tail == "content" && !batch || tail == "results" && batch):
		c.begin("application/octet-stream")
		_, err := c.w.Write(o.content)
		return err != nil
	}
	return c.fail(http.StatusNotFound, "Not found")
}

func (c *call) listObjects(batch bool) (cancelled bool) {
	c.u.mu.Lock()
	data := []any{}
	if a := c.owner(); a != nil {
		for _, o := range slices.Backward(a.objects) {
			if o.batch == batch {
				data = append(data, o.describe())
			}
		}
	}
	c.u.mu.Unlock()
	return c.sendValue(map[string]any{"data": data, "has_more": false, "first_id": nil, "last_id": nil})
}

func (c *call) createFile() (cancelled bool) {
	kind, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return c.fail(http.StatusBadRequest, "The request is no multipart form.")
	}
	form := multipart.NewReader(bytes.NewReader(c.body), params["boundary"])
	for {
		part, err := form.NextPart()
		if err != nil {
			return c.fail(http.StatusBadRequest, "file: Field required")
		}
		if part.FormName() != "file" {
			continue
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return c.fail(http.StatusBadRequest, "The form is broken.")
		}
		o := &object{id: "file_" + rand.Text(), at: c.u.options.Clock(), name: part.FileName(), kind: part.Header.Get("Content-Type"), content: content}
		c.keepObject(o)
		return c.sendValue(o.describe())
	}
}

func (c *call) createBatch() (cancelled bool) {
	var sent struct {
		Requests []struct {
			ID     string          `json:"custom_id"`
			Params json.RawMessage `json:"params"`
		} `json:"requests"`
	}
	if json.Unmarshal(c.body, &sent) != nil || len(sent.Requests) == 0 {
		return c.fail(http.StatusBadRequest, "requests: Field required")
	}
	var results bytes.Buffer
	for _, one := range sent.Requests {
		var p prompt
		if json.Unmarshal(one.Params, &p) != nil || p.Model == nil || p.MaxTokens == nil || len(p.Messages) == 0 {
			return c.fail(http.StatusBadRequest, "requests: params are not those of a message")
		}
		line, err := json.Marshal(map[string]any{"custom_id": one.ID, "result": map[string]any{"type": "succeeded", "message": json.RawMessage(c.reply(p).json())}})
		if err != nil {
			return c.fail(http.StatusBadRequest, "requests: not JSON")
		}
		results.Write(line)
		results.WriteByte('\n')
	}
	o := &object{id: "msgbatch_" + rand.Text(), batch: true, at: c.u.options.Clock(), content: results.Bytes(), total: len(sent.Requests), base: "http://" + c.r.Host}
	c.keepObject(o)
	return c.sendValue(o.describe())
}
