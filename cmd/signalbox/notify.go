package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/store"
)

func (s *shell) notifyCommand() *cobra.Command {
	return parent("notify", "Tell people in Slack, by webhook or by e-mail",
		parent("channel", "The places where notifications go", s.channelAdd(), s.channelList(), s.channelEdit(), s.channelRm(), s.channelTest()), s.notifyList())
}

func channelKindNames() []string {
	var out []string
	for _, row := range notify.ChannelKinds() {
		out = append(out, string(row.Kind))
	}
	return out
}

func messageKindNames() []cobra.Completion {
	var out []cobra.Completion
	for _, row := range notify.Kinds() {
		out = append(out, cobra.CompletionWithDesc(string(row.Kind), row.Meaning))
	}
	return out
}

func severityNames() []string {
	var out []string
	for _, one := range notify.Severities() {
		out = append(out, string(one))
	}
	return out
}

// channelFlags are the settings of a channel.
type channelFlags struct {
	severity, host, tls, username, from string
	kinds, to                           []string
	port                                int
}

func (f *channelFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.severity, "severity", "info", "the least urgent that it takes: "+strings.Join(severityNames(), ", "))
	flags.StringSliceVar(&f.kinds, "message", nil, "a kind of message that it takes, such as account.refused (may be given several times; default all)")
	flags.StringVar(&f.host, "host", "", "the mail server of an e-mail channel")
	flags.IntVar(&f.port, "port", 0, "its port (default 587 with starttls, 465 with implicit)")
	flags.StringVar(&f.tls, "tls", "starttls", "how it is spoken to: starttls, implicit, or none where the server's host is allowed by name")
	flags.StringVar(&f.username, "username", "", "who logs in there; the password is asked for")
	flags.StringVar(&f.from, "from", "", "the sender's address")
	flags.StringSliceVar(&f.to, "to", nil, "a recipient's address (may be given several times)")
}

// email returns the settings of the mail server that were given; nil when none was.
func (f *channelFlags) email(cmd *cobra.Command) *client.ChannelEmailPatch {
	var p client.ChannelEmailPatch
	given := cmd.Flags().Changed
	if given("host") {
		p.Host = &f.host
	}
	if given("port") {
		p.Port = &f.port
	}
	if given("tls") {
		p.TLS = &f.tls
	}
	if given("username") {
		p.Username = &f.username
	}
	if given("from") {
		p.From = &f.from
	}
	if given("to") {
		p.To = &f.to
	}
	if p == (client.ChannelEmailPatch{}) {
		return nil
	}
	return &p
}

func (s *shell) channelAdd() *cobra.Command {
	var secrets secretFlags
	var set channelFlags
	var kind string
	var disabled bool
	cmd := s.remote("add NAME", "Make a notification channel", words("NAME"), func(cmd *cobra.Command, args []string) error {
		i := slices.Index(channelKindNames(), kind)
		if i < 0 {
			return usage("--kind must be one of: %s", strings.Join(channelKindNames(), ", "))
		}
		draft := client.ChannelDraft{Kind: kind, Name: args[0], Disabled: disabled, Severity: set.severity, Kinds: set.kinds, Email: set.email(cmd)}
		if kind == string(notify.Mail) && (set.host == "" || set.from == "" || len(set.to) == 0) {
			return usage("a channel of kind email needs --host, --from and --to")
		}
		var ask []field
		for _, f := range notify.ChannelKinds()[i].Secrets {
			if f.Name == "signing_secret" || f.Name == "password" && set.username == "" {
				continue // one is made below; nobody logs in
			}
			ask = append(ask, field{name: f.Name})
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		given, err := secrets.read(cmd.Context(), s, ask)
		if err != nil {
			return err
		}
		draft.Secrets = revealed(given)
		made := ""
		if _, own := draft.Secrets["signing_secret"]; kind == string(notify.Webhook) && !own {
			if made, err = newSigningSecret(); err != nil {
				return err
			}
			draft.Secrets["signing_secret"] = made
		}
		channel, err := c.CreateChannel(cmd.Context(), draft)
		if err != nil {
			return err
		}
		answer := map[string]any{"channel": channel}
		if made != "" {
			answer["signing_secret"] = made
		}
		return s.show(answer, func() {
			s.note("Made channel %s (%s) to %s. Try it with: signalbox notify channel test %s", channel.Name, channel.ID, channel.Destination, shellWord(channel.Name))
			if made != "" {
				s.note("Its signing secret, which the receiver checks the messages with, is shown only now:")
				s.say("%s", made)
			}
		})
	})
	cmd.Flags().StringVar(&kind, "kind", string(notify.Slack), "how it reaches people: "+strings.Join(channelKindNames(), ", "))
	cmd.Flags().BoolVar(&disabled, "disabled", false, "make it, but send nothing there yet")
	set.register(cmd)
	secrets.register(cmd)
	return cmd
}

// newSigningSecret makes a secret of the Standard Webhooks. It is made here and not by the server, so that no answer ever holds one.
func newSigningSecret() (string, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return "whsec_" + base64.StdEncoding.EncodeToString(b), nil
}

// shellWord quotes a name that a shell would take for more than one word.
func shellWord(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}) {
		return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
	}
	return name
}

func allChannels(ctx context.Context, c *client.Client) ([]client.Channel, error) {
	return everything(func(cursor string) ([]client.Channel, string, error) {
		page, err := c.ListChannels(ctx, client.ChannelFilter{Limit: 1000, Cursor: cursor})
		return page.Channels, page.NextCursor, err
	})
}

// findChannel finds the channel that a person means, by its name or id.
func findChannel(ctx context.Context, c *client.Client, ref string) (client.Channel, error) {
	if store.ValidID("ntc", ref) {
		return c.GetChannel(ctx, ref)
	}
	all, err := allChannels(ctx, c)
	if err != nil {
		return client.Channel{}, err
	}
	for _, one := range all {
		if one.Name == ref {
			return one, nil
		}
	}
	return client.Channel{}, notFound("There is no notification channel %q. List them with: signalbox notify channel list", ref)
}

func channelState(c client.Channel) string {
	if c.Enabled {
		return "active"
	}
	return "disabled"
}

func (s *shell) channelList() *cobra.Command {
	return s.remote("list", "List the notification channels", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		all, err := allChannels(cmd.Context(), c)
		if err != nil {
			return err
		}
		return s.show(map[string]any{"channels": all}, func() {
			t := table{head: []string{"NAME", "KIND", "STATE", "TO", "FROM SEVERITY", "MESSAGES", "ID"}}
			for _, one := range all {
				kinds := strings.Join(one.Kinds, " ")
				if kinds == "" {
					kinds = "all"
				}
				t.add(one.Name, one.Kind, channelState(one), one.Destination, one.Severity, kinds, one.ID)
			}
			s.print(t, "No notification channels. Make one with: signalbox notify channel add NAME")
		})
	})
}

func (s *shell) channelEdit() *cobra.Command {
	var secrets secretFlags
	var set channelFlags
	var name string
	var enable, disable bool
	var replace []string
	cmd := s.remote("edit CHANNEL", "Change a notification channel", words("CHANNEL"), func(cmd *cobra.Command, args []string) error {
		var patch client.ChannelPatch
		given := cmd.Flags().Changed
		if enable && disable {
			return usage("--enable and --disable exclude each other")
		}
		if given("name") {
			patch.Name = &name
		}
		if enable || disable {
			patch.Enabled = &enable
		}
		if given("severity") {
			patch.Severity = &set.severity
		}
		if given("message") {
			kinds := slices.DeleteFunc(slices.Clone(set.kinds), func(k string) bool { return k == "" })
			patch.Kinds = &kinds
		}
		patch.Email = set.email(cmd)
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		channel, err := findChannel(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if len(replace) > 0 || given("secret-stdin") || given("secret-file") || given("secret-from") {
			var ask []field
			for _, f := range replace {
				ask = append(ask, field{name: f})
			}
			read, err := secrets.read(cmd.Context(), s, ask)
			if err != nil {
				return err
			}
			patch.Secrets = map[string]*string{}
			for field, value := range revealed(read) {
				patch.Secrets[field] = &value
			}
		}
		if patch.Name == nil && patch.Enabled == nil && patch.Severity == nil && patch.Kinds == nil && patch.Email == nil && patch.Secrets == nil {
			return usage("nothing to change; say what with flags, for example --severity warning")
		}
		channel, err = c.UpdateChannel(cmd.Context(), channel.ID, patch)
		if err != nil {
			return err
		}
		return s.show(channel, func() { s.say("Changed channel %s.", channel.Name) })
	})
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "another name")
	flags.BoolVar(&enable, "enable", false, "send there again")
	flags.BoolVar(&disable, "disable", false, "send nothing there; what waits goes on waiting, for 24 hours at most")
	flags.StringSliceVar(&replace, "replace", nil, "ask for this secret field anew: url, signing_secret or password (may be given several times)")
	set.register(cmd)
	secrets.register(cmd)
	return cmd
}

func (s *shell) channelRm() *cobra.Command {
	var sure bool
	cmd := s.remote("rm CHANNEL", "Delete a notification channel", words("CHANNEL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		channel, err := findChannel(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete channel %s with its secrets and what waits for it?", channel.Name)); err != nil {
			return err
		}
		if err := c.DeleteChannel(cmd.Context(), channel.ID); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": channel.ID}, func() { s.say("Deleted channel %s.", channel.Name) })
	})
	yesFlag(cmd, &sure)
	return cmd
}

func (s *shell) channelTest() *cobra.Command {
	return s.remote("test CHANNEL", "Send a test message now and say what became of it", words("CHANNEL"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		channel, err := findChannel(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		got, err := c.TestChannel(cmd.Context(), channel.ID)
		if err != nil {
			return err
		}
		if err := s.show(got, func() {
			if got.Outcome == "delivered" {
				s.say("Delivered a test message to %s.", channel.Name)
			} else {
				s.say("The test message was not delivered to %s. %s", channel.Name, got.Detail)
			}
		}); err != nil {
			return err
		}
		if got.Outcome != "delivered" {
			return errVerdict
		}
		return nil
	})
}

func (s *shell) notifyList() *cobra.Command {
	var f client.DeliveryFilter
	var channel string
	cmd := s.remote("list", "List what became of notifications, the newest first", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if channel != "" {
			one, err := findChannel(cmd.Context(), c, channel)
			if err != nil {
				return err
			}
			f.ChannelID = one.ID
		}
		page, err := c.ListDeliveries(cmd.Context(), f)
		if err != nil {
			return err
		}
		return s.show(page, func() {
			t := table{head: []string{"AT", "MESSAGE", "CHANNEL", "STATE", "TRIES", "ALIKE", "NEXT TRY", "WHY NOT"}}
			for _, d := range page.Deliveries {
				t.add(moment(d.CreatedAt), d.Title, d.ChannelName, d.State, strconv.FormatInt(d.Attempts, 10), strconv.FormatInt(d.Repeats, 10), orDash(momentOf(d.NextAt)), orDash(d.Detail))
			}
			s.print(t, "No notifications in the last 30 days.")
		})
	})
	cmd.Flags().StringVar(&f.State, "state", "", "only those in this state: "+strings.Join(notify.States(), ", "))
	cmd.Flags().StringVar(&channel, "channel", "", "only those of this channel")
	cmd.Flags().IntVar(&f.Limit, "limit", 100, "how many at most")
	return cmd
}
