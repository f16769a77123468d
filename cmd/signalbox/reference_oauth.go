package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/provider"
)

func oauthProvidersPage(_ *cobra.Command, b *bytes.Buffer) error {
	b.WriteString(`# OAuth providers

What Signalbox knows of each provider whose tokens it keeps fresh. Any other server that describes itself (RFC 8414, OpenID Connect Discovery) is added by its address, and others by their endpoints.
Every login uses PKCE (S256), whether the provider checks it or not.

`)
	head(b, "Name", "Provider", "Consent", "Token endpoint", "Device flow", "Client credentials", "Revoked there when deleted")
	for _, p := range provider.Catalogue() {
		consent := "redirect"
		if p.PasteBack {
			consent = "code to paste back"
		}
		row(b, code(p.Name), "["+p.Title+"]("+p.Docs+")", consent, listOf(p.TokenURLs, ", then "), tick(p.DeviceURL != ""), tick(p.ClientCredentials), tick(p.RevokeURL != ""))
	}
	b.WriteString("\n## How each is spoken to\n\n")
	head(b, "Name", "Scopes unless others are asked for", "Client", "How the client proves itself", "Body", "Checks PKCE, by its documentation", "Extra parameters of the consent page", "Tokens go to")
	for _, p := range provider.Catalogue() {
		client := "your own"
		if p.ClientID != "" {
			client = code(p.ClientID)
			if p.ClientIDFrom != "" {
				client += " or " + code(p.ClientIDFrom)
			}
		}
		var extra []string
		for _, name := range slices.Sorted(maps.Keys(p.AuthorizeParams)) {
			extra = append(extra, name+"="+p.AuthorizeParams[name])
		}
		row(b, code(p.Name), dash(listOf(p.Scopes, " ")), client, code(string(p.Auth)), string(p.Format), tick(p.PKCE), dash(listOf(extra, " ")), listOf(p.Hosts, ", "))
	}
	b.WriteString(`
## How their tokens live

The grace is for how long a refresh token still works after its use, as far as that is documented: after an answer that was lost, Signalbox then tries again at once.
The lifetime is what is assumed when an answer does not tell it.

`)
	head(b, "Name", "New refresh token at each refresh", "Grace", "Access token lives")
	for _, p := range provider.Catalogue() {
		row(b, code(p.Name), tick(p.Rotates), span(p.Grace, "–"), span(p.Lifetime, "until it is refused"))
	}
	b.WriteString("\n## What to set up\n\n")
	for _, p := range provider.Catalogue() {
		fmt.Fprintf(b, "**%s.** %s\n\n", p.Title, p.Recipe)
		if p.Consumer != "" {
			fmt.Fprintf(b, "Off until an administrator switches it on: %s\n\n", p.Consumer)
		}
	}
	b.WriteString("How answers are understood: [the wire of OAuth](../design/oauth.md).\n")
	return nil
}

func listOf(words []string, between string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = code(w)
	}
	return strings.Join(out, between)
}

func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

func span(d time.Duration, none string) string {
	if d == 0 {
		return none
	}
	return fmt.Sprint(d.Hours(), " h")
}
