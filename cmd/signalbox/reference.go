package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/api"
	"signalbox.dev/signalbox/internal/app"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/generate"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// referencePage is one page of docs/reference, written from the tables that the program itself works by.
type referencePage struct {
	name  string
	write func(*cobra.Command, *bytes.Buffer) error
}

func referencePages() []referencePage {
	return []referencePage{
		{"cli", cliPage}, {"configuration", configurationPage}, {"api", apiPage}, {"audit-actions", auditActionsPage},
		{"credential-types", credentialTypesPage}, {"error-codes", errorCodesPage}, {"metrics", metricsPage}, {"notifications", notificationsPage},
		{"oauth-providers", oauthProvidersPage}, {"permissions", permissionsPage},
	}
}

// referenceCommand prints a page of the reference; scripts/generate.sh keeps docs/reference of it.
func (s *shell) referenceCommand() *cobra.Command {
	return &cobra.Command{Use: "reference PAGE", Short: "Print a page of the reference in Markdown", Hidden: true, Args: words("PAGE"), RunE: func(cmd *cobra.Command, args []string) error {
		var names []string
		for _, page := range referencePages() {
			if page.name != args[0] {
				names = append(names, page.name)
				continue
			}
			text, err := reference(cmd.Root(), page)
			if err != nil {
				return err
			}
			_, err = s.out.Write(text)
			return err
		}
		return usage("there is no page %q; there are: %s", args[0], strings.Join(names, ", "))
	}}
}

func reference(root *cobra.Command, page referencePage) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- Made by `make generate` from the program's own tables (cmd/signalbox/reference*.go). Do not edit. -->\n\n")
	root.InitDefaultCompletionCmd() // cobra makes it as late as the command line is carried out
	if err := page.write(root, &b); err != nil {
		return nil, err
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n'), nil
}

// row writes one row of a table.
func row(b *bytes.Buffer, cells ...string) {
	for _, cell := range cells {
		b.WriteString("| " + cellText(cell) + " ")
	}
	b.WriteString("|\n")
}

func head(b *bytes.Buffer, cells ...string) {
	row(b, cells...)
	b.WriteString(strings.Repeat("|---", len(cells)) + "|\n")
}

// cellText keeps a text inside its cell.
func cellText(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

func tick(yes bool) string {
	if yes {
		return "yes"
	}
	return "–"
}

// sentence turns the words of a table or a help text into a sentence.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

func auditActionsPage(_ *cobra.Command, b *bytes.Buffer) error {
	b.WriteString(`# Audit actions

The list is closed: a record with another action is refused. How to read and check the log: [guide](../guide/audit.md).

An event has these fields: ` + "`id`, `at`, `actor` (kind, id, name), `on_behalf_of`, `action`, `target` (kind, id, name), `outcome`, `reason`, `request_id`, `ip`, `user_agent`, `fields` (names of what changed) and `details`" + `.
None of them ever holds a secret.

`)
	head(b, "Action", "Meaning")
	for _, a := range store.Actions() {
		row(b, code(string(a.Action)), sentence(a.Meaning))
	}
	b.WriteString("\n## Outcomes\n\n")
	head(b, "Outcome", "Meaning")
	row(b, code(store.OutcomeOK), "It happened.")
	row(b, code(store.OutcomeRefused), "It was refused, and did not happen.")
	row(b, code(store.OutcomeFailed), "It was tried, and failed.")
	row(b, code(store.OutcomePending), "An intent to use a credential. What became of it is another event, `lease.outcome`.")
	row(b, "`unknown`", "Shown for an intent that has had no outcome for 15 minutes; the record itself stays as it is.")
	return nil
}

// retry says whether sending the same again can help.
func retry(k fault.Kind) string {
	switch k {
	case fault.TooMany, fault.Unavailable:
		return "when there is a `Retry-After`: after it"
	case fault.Precondition:
		return "after reading again"
	}
	return "no"
}

func errorCodesPage(_ *cobra.Command, b *bytes.Buffer) error {
	b.WriteString(`# Error codes

Codes are stable; the sentences beside them may change. The REST API answers a refusal as ` + "`application/problem+json`" + ` (RFC 9457) with ` + "`code`, `detail`, `errors[]` and `request_id`" + `.
The LLM proxy answers in the shape of Anthropic's API, without the code; what an agent shows is in [troubleshooting](../guide/troubleshooting.md).
The command line ends with the exit code of the row.

`)
	head(b, "Code", "Status", "Exit code", "Meaning", "Send it again?")
	for _, c := range fault.Codes() {
		row(b, code(c.Name), fmt.Sprintf("%d %s", c.Kind.Status(), http.StatusText(c.Kind.Status())), fmt.Sprint(c.Kind.Exit()), sentence(c.Meaning), retry(c.Kind))
	}
	b.WriteString("\nA 503 without `Retry-After` does not mend itself: an operator must see to the cause, which the server's log tells under the request id.\n")
	return nil
}

func metricsPage(_ *cobra.Command, b *bytes.Buffer) error {
	b.WriteString(app.MetricsPage())
	return nil
}

func notificationsPage(_ *cobra.Command, b *bytes.Buffer) error {
	b.WriteString(`# Notifications

How to set them up, and how a receiver checks them: [notifications](../operations/notifications.md).

## Messages

The list is closed. Of messages of a kind with the same key, one is sent within the window; the others are counted with it.

`)
	head(b, "Kind", "Meaning", "Severity", "Window", "The same key means")
	for _, k := range notify.Kinds() {
		window := "–"
		if k.Window > 0 {
			window = fmt.Sprint(k.Window.Hours(), " h")
		}
		row(b, code(string(k.Kind)), sentence(k.Meaning), string(k.Severity), window, k.Key)
	}
	b.WriteString("\n## Channels\n\n")
	head(b, "Kind", "Meaning", "Secret fields")
	for _, c := range notify.ChannelKinds() {
		var fields []string
		for _, f := range c.Secrets {
			text := code(f.Name) + ": " + f.Meaning
			if !f.Required {
				text += " (optional)"
			}
			fields = append(fields, text)
		}
		row(b, code(string(c.Kind)), sentence(c.Meaning), strings.Join(fields, "; "))
	}
	return nil
}

func reachText(r identity.Reach) string {
	if r == identity.OwnAndGranted {
		return "own, granted"
	}
	return tick(r == identity.Everything)
}

func permissionsPage(_ *cobra.Command, b *bytes.Buffer) error {
	b.WriteString(`# Permissions

A token may do what its **scopes** and the **role** of its person or service account both allow. Scopes have the names of the permissions; ` + "`signalbox token issue --scope trains:read`" + ` gives one.
A client key has no permission here: it only borrows credentials for its train. What nobody has a permission for is refused.

`)
	header := []string{"Permission, and scope", "Meaning"}
	for _, r := range identity.Roles() {
		header = append(header, string(r))
	}
	head(b, append(header, "Signalbox's own chores")...)
	for _, p := range identity.Permissions() {
		cells := []string{code(string(p.Permission)), sentence(p.Meaning)}
		for _, r := range identity.Roles() {
			cells = append(cells, reachText(p.Reach(r)))
		}
		row(b, append(cells, tick(p.System))...)
	}
	b.WriteString("\n\"own, granted\" reaches what the caller owns and what was granted to them, directly, through a group, or by a grant on the client or the service; nothing else is visible: [who may use what](../guide/sharing.md). " +
		"Of trains and usage it reaches the trains that the caller is a member of; of client keys those that they made there, or as an owner of the train all of its; members are said by an owner.\n" +
		"\nWhich operation needs which permission: [REST API](api.md#routes).\n")
	return nil
}

func credentialTypesPage(_ *cobra.Command, b *bytes.Buffer) error {
	b.WriteString(`# Credential types

Each type has its secret fields. They are sealed and never in an answer, a list or a log; everything else about a credential (name, address, owner, tags …) can be read and searched, except notes, which are sealed as well.
How to store each: [guide](../guide/credentials.md).

`)
	head(b, "Type", "Meaning", "Secret fields", "Goes into requests as", "Can serve an LLM provider")
	for _, t := range vault.Types() {
		var names []string
		for _, f := range t.Secrets {
			name := code(f.Name)
			if !f.Required {
				name += " (optional)"
			}
			names = append(names, name)
		}
		if t.AnyNames {
			names = append(names, "any names, at least one")
		}
		row(b, code(string(t.Type)), sentence(t.Meaning), strings.Join(names, ", "), dash(injectWord(t)), tick(t.Account))
	}
	b.WriteString("\n## Secret fields\n\n")
	head(b, "Type", "Field", "Required", "May be lent into a request", "Must be visible ASCII, as for a header", "Last four characters shown if 16 or longer", "Can be generated")
	for _, t := range vault.Types() {
		for _, f := range t.Secrets {
			row(b, code(string(t.Type)), code(f.Name), tick(f.Required), tick(f.Lent), tick(f.Header), tick(f.Suffix), makingWord(f.Makes))
		}
	}
	b.WriteString("\nFields that may not be lent are opened for a reveal, a refresh or a test alone; `proxy_password` of an account goes to its outbound proxy. Of a custom credential any field can be generated.\n\n## What is generated\n\n")
	head(b, "Kind", "What it makes", "Parameters")
	for _, k := range generate.Kinds() {
		row(b, code(string(k.Kind)), sentence(k.Meaning), strings.Join(k.Parameters, ", "))
	}
	b.WriteString("\n## How a secret goes into requests\n\nThe `inject` of a credential says how, in place of its type's own way.\n\n")
	head(b, "Type of inject", "What it sends", "Takes a name", "Needs a username")
	for _, k := range vault.Injections() {
		row(b, code(string(k.Kind)), sentence(k.Meaning), tick(k.Named), tick(k.Username))
	}
	b.WriteString("\n## LLM providers\n\n")
	head(b, "Provider", "Base URL unless the account sets one")
	for _, p := range vault.Providers() {
		row(b, code(p.Name), code(p.BaseURL))
	}
	return nil
}

// injectWord says how a type goes into requests when the credential does not say it.
func injectWord(t vault.TypeRow) string {
	switch {
	case t.Inject != "":
		return code(string(t.Inject))
	case t.Lends():
		return "what its `inject` says"
	}
	return ""
}

// makingWord says what may be generated for a field.
func makingWord(m vault.Making) string {
	switch m {
	case vault.MadeAsText:
		return "text"
	case vault.MadeAsKeyPair:
		return "key pair"
	}
	return "–"
}

// operation is what the page of routes needs of the OpenAPI document.
type operation struct {
	Summary    string   `json:"summary"`
	Permission string   `json:"x-signalbox-permission"`
	Tags       []string `json:"tags"`
}

func apiPage(_ *cobra.Command, b *bytes.Buffer) error {
	document, err := api.OpenAPI()
	if err != nil {
		return err
	}
	var doc struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return fmt.Errorf("read our own OpenAPI document: %w", err)
	}
	b.WriteString(`# REST API

The whole description, with every field: [openapi.json](openapi.json), which a running server also serves at ` + "`/api/openapi.json`" + ` (OpenAPI 3.1), and for reading, with a curl line for each operation, at ` + "`/api/docs`" + `. Programs in Go can use package ` + "`client`" + ` of this repository.

- **Sign in** with a personal access token: ` + "`Authorization: Bearer sbp_…`" + `. ` + "`signalbox token issue`" + ` makes one. Its scopes and the role of its person decide: [permissions](permissions.md).
- **Bodies** are strict JSON in UTF-8. Unknown and repeated fields, unknown query parameters and wrong types are refused, never ignored.
- **Lists** come as ` + "`{\"credentials\":[…],\"next_cursor\":\"…\"}`" + `. Ask again with ` + "`cursor`" + ` until there is no ` + "`next_cursor`" + `; ` + "`limit`" + ` is 100 unless given, 1000 at most.
- **Updates** (PUT and PATCH) merge: what is left out stays. ` + "`If-Match`" + ` with the ` + "`ETag`" + ` that was read refuses to overwrite somebody else's change (412).
- **Repeats**: a POST with ` + "`Idempotency-Key`" + ` is carried out once; the same request sent again within 24 hours gets the same answer, with ` + "`Idempotency-Replayed: true`" + `. What shows a secret is not shown twice (409 ` + "`already_issued`" + `).
- **Refusals** are problem documents with a stable ` + "`code`" + `: [error codes](error-codes.md). What the caller may not see answers 404, like what does not exist.
- **Every answer** has an ` + "`X-Request-ID`" + `, which leads to the audit record and to the server's log.

Agents do not use this API but the LLM proxy, with a client key: ` + "`/v1/messages`, `/v1/messages/count_tokens`, `/v1/models`" + ` in the shape of Anthropic's API. ` + "`/healthz` and `/readyz`" + ` need no token; ` + "`/metrics`" + ` has [a page of its own](metrics.md).

## Routes

"none" is public; "authenticated" takes any valid token.

`)
	head(b, "Route", "What it does", "Permission")
	order := []string{"get", "post", "put", "patch", "delete"}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		methods := slices.SortedFunc(maps.Keys(doc.Paths[path]), func(x, y string) int { return slices.Index(order, x) - slices.Index(order, y) })
		for _, method := range methods {
			op := doc.Paths[path][method]
			row(b, code(strings.ToUpper(method)+" "+path), sentence(op.Summary), op.Permission)
		}
	}
	return nil
}
