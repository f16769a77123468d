package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/notify"
)

func (s *shell) trainSlack() *cobra.Command {
	return parent("slack", "Tell a train's people in Slack, or by a webhook of the train's own", s.slackShow(), s.slackSet(), s.slackTest(), s.slackRm())
}

// webhookFlag registers the flag that means the train's webhook, and returns what kind of channel is meant.
func webhookFlag(cmd *cobra.Command) func() string {
	var webhook bool
	cmd.Flags().BoolVar(&webhook, "webhook", false, "the train's signed webhook, in place of its Slack channel")
	return func() string {
		if webhook {
			return string(notify.Webhook)
		}
		return string(notify.Slack)
	}
}

func trainChannelState(c client.TrainChannel) string {
	if c.Enabled {
		return "active"
	}
	return "disabled"
}

func leadsTo(c client.TrainChannel) string {
	if c.Suffix == "" {
		return c.Destination
	}
	return c.Destination + "/…" + c.Suffix
}

func tellsContent(c client.TrainChannel) string {
	if c.Content {
		return "told: whoever reads there reads what the agents are asked and answer"
	}
	return "not told"
}

func (s *shell) slackShow() *cobra.Command {
	return s.remote("show TRAIN", "Show where a train's people are told, and what", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		all, err := c.TrainChannels(cmd.Context(), args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		return s.show(map[string]any{"channels": all}, func() {
			if len(all) == 0 {
				s.note("Nobody is told of train %s. Have them told with: signalbox train slack set %s", args[0], shellWord(args[0]))
			}
			for i, one := range all {
				if i > 0 {
					fmt.Fprintln(s.out)
				}
				kinds := strings.Join(one.Kinds, " ")
				if kinds == "" {
					kinds = "all"
				}
				s.facts("kind", one.Kind, "state", trainChannelState(one), "to", leadsTo(one), "channel", one.Channel, "as", strings.TrimSpace(one.Username+" "+one.IconEmoji),
					"prompts and replies", tellsContent(one), "from severity", one.Severity, "messages", kinds, "id", one.ID)
			}
		})
	})
}

func (s *shell) slackSet() *cobra.Command {
	var secrets secretFlags
	var channel, username, icon, severity, content string
	var kinds, replace []string
	var enable, disable bool
	var kind func() string
	cmd := s.remote("set TRAIN", "Have a train's people told in Slack, or change how", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		given := cmd.Flags().Changed
		var patch client.TrainChannelPatch
		if enable && disable {
			return usage("--enable and --disable exclude each other")
		}
		if enable || disable {
			patch.Enabled = &enable
		}
		for flag, to := range map[string]struct {
			field **string
			value *string
		}{"channel": {&patch.Channel, &channel}, "username": {&patch.Username, &username}, "icon-emoji": {&patch.IconEmoji, &icon}, "severity": {&patch.Severity, &severity}} {
			if given(flag) {
				*to.field = to.value
			}
		}
		if given("content") {
			on := content == "on"
			if !on && content != "off" {
				return usage("--content must be on or off")
			}
			patch.Content = &on
		}
		if given("message") {
			list := slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k == "" })
			patch.Kinds = &list
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		have, err := c.TrainChannels(ctx, args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		is := func(c client.TrainChannel) bool { return c.Kind == kind() }
		fresh := !slices.ContainsFunc(have, is)
		made := ""
		if fresh && len(replace) == 0 {
			replace = []string{"webhook_url"}
		}
		if len(replace) > 0 || given("secret-stdin") || given("secret-file") || given("secret-from") {
			var ask []field
			for _, f := range replace {
				if f != "signing_secret" {
					ask = append(ask, field{name: f})
				}
			}
			read, err := secrets.read(ctx, s, ask)
			if err != nil {
				return err
			}
			plain := revealed(read)
			for name := range plain {
				if name != "webhook_url" && name != "signing_secret" {
					return usage("a train's channel has no secret field %s; it has webhook_url and, of a webhook, signing_secret", name)
				}
			}
			if _, own := plain["signing_secret"]; kind() == string(notify.Webhook) && !own && (fresh || slices.Contains(replace, "signing_secret")) {
				if made, err = newSigningSecret(); err != nil {
					return err
				}
				plain["signing_secret"] = made
			}
			for name, to := range map[string]**string{"webhook_url": &patch.WebhookURL, "signing_secret": &patch.SigningSecret} {
				if value, ok := plain[name]; ok {
					*to = &value
				}
			}
		}
		if patch == (client.TrainChannelPatch{}) {
			return usage("nothing to change; say what with flags, for example --content on")
		}
		out, err := c.PutTrainChannel(ctx, args[0], kind(), patch)
		if err != nil {
			return err
		}
		answer := map[string]any{"channel": out}
		if made != "" {
			answer["signing_secret"] = made
		}
		return s.show(answer, func() {
			s.note("Train %s tells its people by %s, at %s; prompts and replies are %s. Try it with: signalbox train slack test %s", args[0], out.Kind, leadsTo(out), tellsContent(out), shellWord(args[0]))
			if made != "" {
				s.note("Its signing secret, which the receiver checks the messages with, is shown only now:")
				s.say("%s", made)
			}
		})
	})
	flags := cmd.Flags()
	kind = webhookFlag(cmd)
	flags.StringVar(&channel, "channel", "", "where to post, such as #agents; Slack's newer webhooks pass over it")
	flags.StringVar(&username, "username", notify.DefaultUsername, "as whom to post; Slack's newer webhooks pass over it")
	flags.StringVar(&icon, "icon-emoji", "", "with which picture, such as :robot_face:; Slack's newer webhooks pass over it")
	flags.StringVar(&content, "content", "off", "on has it told what the agents are asked and what they answer, for which an administrator is needed; off")
	flags.StringVar(&severity, "severity", "info", "the least urgent that it takes: "+strings.Join(severityNames(), ", "))
	flags.StringSliceVar(&kinds, "message", nil, "a kind of message that it takes, such as account.refused (may be given several times; default all)")
	flags.BoolVar(&enable, "enable", false, "send there again")
	flags.BoolVar(&disable, "disable", false, "send nothing there")
	flags.StringSliceVar(&replace, "replace", nil, "ask for this secret field anew: webhook_url; or make signing_secret anew (may be given several times)")
	secrets.register(cmd)
	return cmd
}

func (s *shell) slackTest() *cobra.Command {
	var kind func() string
	cmd := s.remote("test TRAIN", "Send a train's people a test message now and say what became of it", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		got, err := c.TestTrainChannel(cmd.Context(), args[0], kind())
		if err != nil {
			return err
		}
		if err := s.show(got, func() {
			if got.Outcome == "delivered" {
				s.say("Delivered a test message to the %s channel of train %s.", kind(), args[0])
			} else {
				s.say("The test message was not delivered to the %s channel of train %s. %s", kind(), args[0], got.Detail)
			}
		}); err != nil {
			return err
		}
		if got.Outcome != "delivered" {
			return errVerdict
		}
		return nil
	})
	kind = webhookFlag(cmd)
	return cmd
}

func (s *shell) slackRm() *cobra.Command {
	var sure bool
	var kind func() string
	cmd := s.remote("rm TRAIN", "Tell a train's people nothing more", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete the %s channel of train %s with its secrets and what waits for it?", kind(), args[0])); err != nil {
			return err
		}
		if err := c.DeleteTrainChannel(cmd.Context(), args[0], kind()); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": kind(), "train": args[0]}, func() { s.say("Deleted the %s channel of train %s.", kind(), args[0]) })
	})
	kind = webhookFlag(cmd)
	yesFlag(cmd, &sure)
	return cmd
}
