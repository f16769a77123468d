package notify

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

// slackBody is what an incoming webhook takes. Links in it are not unfurled: nobody shall be made to fetch what a name that somebody chose
// points to.
//
// What stands in [Look] is taken by the incoming webhooks of old; those of a Slack app post where and as whom the app says, and pass over it
// (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
type slackBody struct {
	Text        string `json:"text"`
	Channel     string `json:"channel,omitempty"`
	Username    string `json:"username,omitempty"`
	IconEmoji   string `json:"icon_emoji,omitempty"`
	UnfurlLinks bool   `json:"unfurl_links"`
	UnfurlMedia bool   `json:"unfurl_media"`
}

// escapeMrkdwn escapes the three characters that begin links, mentions and entities in Slack's mark-up.
func escapeMrkdwn(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// slackText is a message in Slack's mark-up.
func slackText(c content) string {
	var b strings.Builder
	b.WriteString("*" + strings.ReplaceAll(escapeMrkdwn(c.Title), "*", "∗") + "*")
	if c.Severity != Info {
		b.WriteString(" (" + string(c.Severity) + ")")
	}
	if c.Text != "" {
		b.WriteString("\n" + escapeMrkdwn(c.Text))
	}
	if c.Talk != nil {
		b.WriteString(slackTalk(c.Talk))
	}
	for _, f := range c.Facts {
		b.WriteString("\n• " + escapeMrkdwn(f.Name) + ": " + escapeMrkdwn(f.Value))
	}
	if c.Link != "" {
		b.WriteString("\n<" + strings.ReplaceAll(escapeMrkdwn(c.Link), "|", "%7C") + "|More>")
	}
	return b.String()
}

func (r *Room) sendSlack(ctx context.Context, p parcel) verdict {
	body, err := json.Marshal(slackBody{Text: slackText(p.content), Channel: p.channel.Look.Channel, Username: p.channel.Look.Username, IconEmoji: p.channel.Look.Icon})
	if err != nil {
		return verdict{detail: "The message cannot be encoded."}
	}
	header := http.Header{"Signalbox-Delivery": {p.id}}
	return r.post(ctx, p, body, header, func(resp *http.Response) verdict {
		if resp.StatusCode != http.StatusOK {
			return refusal(resp)
		}
		// Slack says ok; what says something else with a 200 is not Slack, and has perhaps not taken the message.
		if strings.TrimSpace(beginning(resp)) != "ok" {
			return verdict{detail: "The receiver answered 200, but not with Slack's ok. Is the address that of an incoming webhook?"}
		}
		return verdict{delivered: true}
	})
}
