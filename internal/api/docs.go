package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/identity"
)

// The page /api/docs is the OpenAPI document for people. It is rendered once, from the document alone, so it tells what /api/openapi.json
// tells and nothing of this instance; without a script, so that a strict policy holds and a text browser reads it.

//go:embed pages/docs.html pages/docs.css
var docsFiles embed.FS

type docsAnswer struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Policy      string `header:"Content-Security-Policy" hidden:"true"`
	Body        []byte `contentType:"text/html"`
}

func (s *service) docs(context.Context, identity.Caller, *struct{}) (*docsAnswer, error) {
	return &docsAnswer{ContentType: "text/html; charset=utf-8", Policy: s.page.policy, Body: s.page.html}, nil
}

// page is the rendered documentation.
type page struct {
	html   []byte
	policy string
}

// described is what the page reads of the OpenAPI document.
type described struct {
	Info struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		License     struct {
			Name string `json:"name"`
		} `json:"license"`
	} `json:"info"`
	Tags []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	} `json:"tags"`
	Paths      map[string]map[string]*describedOp `json:"paths"`
	Components struct {
		Schemas   map[string]*describedSchema   `json:"schemas"`
		Responses map[string]*describedResponse `json:"responses"`
	} `json:"components"`
}

type describedOp struct {
	ID          string   `json:"operationId"`
	Summary     string   `json:"summary"`
	Description string   `json:"description"`
	Tags        []string `json:"tags"`
	Permission  string   `json:"x-signalbox-permission"`
	Parameters  []struct {
		Name        string           `json:"name"`
		In          string           `json:"in"`
		Required    bool             `json:"required"`
		Description string           `json:"description"`
		Schema      *describedSchema `json:"schema"`
	} `json:"parameters"`
	RequestBody *struct {
		Content map[string]*describedMedia `json:"content"`
	} `json:"requestBody"`
	Responses map[string]*describedResponse `json:"responses"`
}

type describedMedia struct {
	Schema *describedSchema `json:"schema"`
}

type describedResponse struct {
	Ref         string `json:"$ref"`
	Description string `json:"description"`
	Headers     map[string]struct {
		Description string           `json:"description"`
		Schema      *describedSchema `json:"schema"`
	} `json:"headers"`
	Content map[string]*describedMedia `json:"content"`
}

// The shapes below are what the template is given.
type (
	docsPage struct {
		Title, License string
		Intro          []string // the sentences of the description
		Style          template.CSS
		Sections       []docsSection
		Refusals       []docsRefusal
		Schemas        []docsShape
	}
	docsSection struct {
		Anchor, Name, Description string
		Operations                []docsOperation
	}
	docsOperation struct {
		Anchor, Method, Path, Summary, Description string
		Permissions                                []string
		Public, AnyToken                           bool
		Parameters, Body                           []docsField
		BodyName                                   string
		Answers                                    []docsReply
		Refusals                                   []docsRefusal
		Curl                                       string
	}
	docsReply struct {
		Status, Description, Media, Schema string
		Headers                            []docsField
	}
	docsRefusal struct{ Anchor, Status, Description string }
	docsShape   struct {
		Anchor, Name string
		Fields       []docsField
	}
)

// renderDocs makes the page of a document.
func renderDocs(document []byte) (page, error) {
	var d described
	if err := json.Unmarshal(document, &d); err != nil {
		return page{}, fmt.Errorf("api: read the OpenAPI document: %w", err)
	}
	style, err := docsFiles.ReadFile("pages/docs.css")
	if err != nil {
		return page{}, err
	}
	t, err := template.New("docs.html").Funcs(template.FuncMap{"words": words}).ParseFS(docsFiles, "pages/docs.html")
	if err != nil {
		return page{}, fmt.Errorf("api: parse the page of the documentation: %w", err)
	}
	p := docsPage{Title: d.Info.Title, License: d.Info.License.Name, Intro: strings.SplitAfter(d.Info.Description, ". "), Style: template.CSS(style)}
	for _, tag := range d.Tags {
		section := docsSection{Anchor: anchor("tag", tag.Name), Name: tag.Name, Description: tag.Description}
		for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
			for _, method := range []string{"get", "post", "put", "patch", "delete"} {
				if op := d.Paths[path][method]; op != nil && slices.Contains(op.Tags, tag.Name) {
					section.Operations = append(section.Operations, d.operation(method, path, op))
				}
			}
		}
		p.Sections = append(p.Sections, section)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Components.Responses)) {
		p.Refusals = append(p.Refusals, docsRefusal{Anchor: anchor("refusal", name), Status: d.statusOf(name), Description: d.Components.Responses[name].Description})
	}
	slices.SortFunc(p.Refusals, func(a, b docsRefusal) int { return strings.Compare(a.Status, b.Status) })
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		p.Schemas = append(p.Schemas, docsShape{Anchor: anchor("schema", name), Name: name, Fields: d.fields(d.Components.Schemas[name])})
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return page{}, fmt.Errorf("api: render the documentation: %w", err)
	}
	// The only style is the page's own, which the policy names by its hash; there is nothing else to load.
	sum := sha256.Sum256(style)
	return page{html: out.Bytes(), policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}, nil
}

func (d *described) operation(method, path string, op *describedOp) docsOperation {
	out := docsOperation{
		Anchor: anchor("op", op.ID), Method: strings.ToUpper(method), Path: path, Summary: op.Summary, Description: op.Description,
		Public: op.Permission == public, AnyToken: op.Permission == signedIn,
	}
	if !out.Public && !out.AnyToken {
		out.Permissions = strings.Fields(op.Permission)
	}
	for _, param := range op.Parameters {
		f := d.field(param.Name, param.Schema, param.Required)
		f.In, f.Description = param.In, param.Description
		out.Parameters = append(out.Parameters, f)
	}
	if op.RequestBody != nil {
		if media := op.RequestBody.Content["application/json"]; media != nil {
			out.BodyName = refName(media.Schema.Ref)
			out.Body = d.fields(media.Schema)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		r := op.Responses[status]
		switch {
		case r.Ref != "":
			out.Refusals = append(out.Refusals, docsRefusal{Anchor: anchor("refusal", refName(r.Ref)), Status: status})
		case status != "default":
			out.Answers = append(out.Answers, d.reply(status, r))
		}
	}
	out.Curl = d.curl(out, op)
	return out
}

func (d *described) reply(status string, r *describedResponse) docsReply {
	out := docsReply{Status: status, Description: r.Description}
	for _, media := range slices.Sorted(maps.Keys(r.Content)) {
		out.Media = media
		if s := r.Content[media].Schema; s != nil {
			out.Schema = refName(s.Ref)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		h := r.Headers[name]
		f := docsField{Name: name, Description: h.Description}
		if h.Schema != nil {
			f = d.field(name, h.Schema, false)
			f.Description = strings.TrimSpace(h.Description + " " + h.Schema.Description)
		}
		out.Headers = append(out.Headers, f)
	}
	return out
}

// statusOf finds the status under which the operations refer to a shared refusal.
func (d *described) statusOf(name string) string {
	for _, methods := range d.Paths {
		for _, op := range methods {
			for status, r := range op.Responses {
				if refName(r.Ref) == name {
					return status
				}
			}
		}
	}
	return ""
}

// anchor makes an id for the page.
func anchor(kind, name string) string {
	return kind + "-" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
}

// refName is the last part of a reference.
func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

type word struct {
	Code bool
	Text string
}

// words splits a text at its backticks: every second piece is code.
func words(text string) []word {
	var out []word
	for i, piece := range strings.Split(text, "`") {
		if piece != "" {
			out = append(out, word{Code: i%2 == 1, Text: piece})
		}
	}
	return out
}
