package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/sink"
	"signalbox.dev/signalbox/internal/store"
)

func (s *shell) sinkCommand() *cobra.Command {
	return parent("sink", "Send the audit log, or its checkpoints, elsewhere", s.sinkAdd(), s.sinkList(), s.sinkEdit(), s.sinkRm(), s.sinkTest())
}

func sinkKindNames() []string {
	var out []string
	for _, row := range sink.Kinds() {
		out = append(out, string(row.Kind))
	}
	return out
}

// pemMax bounds a file of certificates.
const pemMax = 64 << 10

func readPEM(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() > pemMax {
		return "", usage("%s is too large for a file of certificates", path)
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

func (s *shell) sinkAdd() *cobra.Command {
	var secrets secretFlags
	var d client.SinkDraft
	var y client.SyslogServer
	var ca, certificate string
	var checkpoints, beginning bool
	var every time.Duration
	cmd := s.remote("add NAME", "Send the audit log, or its checkpoints, to a webhook, Slack or a syslog server", words("NAME"), func(cmd *cobra.Command, args []string) (err error) {
		i := slices.Index(sinkKindNames(), d.Kind)
		if i < 0 {
			return usage("--kind must be one of: %s", strings.Join(sinkKindNames(), ", "))
		}
		d.Name = args[0]
		if checkpoints {
			d.Carries = string(sink.Checkpoints)
		}
		if beginning {
			d.From = "beginning"
		}
		if cmd.Flags().Changed("every") {
			d.Every = int(every / time.Second)
		}
		if d.Kind == string(sink.Syslog) {
			if y.Host == "" {
				return usage("a sink of kind syslog needs --host")
			}
			if y.CA, err = readPEM(ca); err != nil {
				return err
			}
			if y.Certificate, err = readPEM(certificate); err != nil {
				return err
			}
			d.Syslog = &y
		}
		var ask []field
		for _, f := range sink.Kinds()[i].Secrets {
			if f.Name != "signing_secret" && (f.Required || f.Name == "client_key" && certificate != "") { // one is made below
				ask = append(ask, field{name: f.Name})
			}
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		given, err := secrets.read(cmd.Context(), s, ask)
		if err != nil {
			return err
		}
		d.Secrets = revealed(given)
		made := ""
		if _, own := d.Secrets["signing_secret"]; d.Kind == string(sink.Webhook) && !own {
			if made, err = newSigningSecret(); err != nil {
				return err
			}
			d.Secrets["signing_secret"] = made
		}
		one, err := c.CreateSink(cmd.Context(), d)
		if err != nil {
			return err
		}
		answer := map[string]any{"sink": one}
		if made != "" {
			answer["signing_secret"] = made
		}
		return s.show(answer, func() {
			s.note("Made sink %s (%s): %s go to %s. Try it with: signalbox audit sink test %s", one.Name, one.ID, one.Carries, one.Destination, shellWord(one.Name))
			if made != "" {
				s.note("Its signing secret, which the receiver checks what comes with, is shown only now:")
				s.say("%s", made)
			}
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&d.Kind, "kind", string(sink.Webhook), "how it is reached: "+strings.Join(sinkKindNames(), ", "))
	flags.BoolVar(&checkpoints, "checkpoints", false, "send the signed checkpoints, not the records; Slack takes nothing else")
	flags.BoolVar(&beginning, "from-beginning", false, "begin with the first record of the log, not with what comes next")
	flags.DurationVar(&every, "every", time.Hour, "the least time between two checkpoints")
	flags.BoolVar(&d.Disabled, "disabled", false, "make it, but send nothing there yet")
	flags.StringVar(&y.Transport, "transport", string(sink.TLS), "how a syslog server is spoken to: tls, tcp or udp; the latter two where the server's host is allowed by name")
	flags.StringVar(&y.Host, "host", "", "the syslog server")
	flags.IntVar(&y.Port, "port", 0, "its port (default 6514 with tls, 601 with tcp, 514 with udp)")
	flags.StringVar(&ca, "ca", "", "file of PEM certificates that its certificate must lead to, in place of the system's")
	flags.StringVar(&certificate, "certificate", "", "file with the PEM client certificate; its key is the secret field client_key")
	flags.BoolVar(&y.Unconfirmed, "unconfirmed", false, "count records as delivered once they were written: for a server that keeps a connection open whose other side was closed")
	secrets.register(cmd)
	return cmd
}

// findSink finds the sink that a person means, by its name or id.
func findSink(ctx context.Context, c *client.Client, ref string) (client.Sink, error) {
	if store.ValidID("snk", ref) {
		return c.GetSink(ctx, ref)
	}
	all, err := c.ListSinks(ctx)
	if err != nil {
		return client.Sink{}, err
	}
	for _, one := range all {
		if one.Name == ref {
			return one, nil
		}
	}
	return client.Sink{}, notFound("There is no audit sink %q. List them with: signalbox audit sink list", ref)
}

func (s *shell) sinkList() *cobra.Command {
	return s.remote("list", "List the audit sinks and how far each is", words(), func(cmd *cobra.Command, _ []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		all, err := c.ListSinks(cmd.Context())
		if err != nil {
			return err
		}
		return s.show(client.SinkList{Sinks: all}, func() {
			t := table{head: []string{"NAME", "KIND", "CARRIES", "STATE", "TO", "AT", "BEHIND", "LAST SENT", "ID"}}
			for _, one := range all {
				t.add(one.Name, one.Kind, one.Carries, one.State, one.Destination, strconv.FormatInt(one.Position, 10), strconv.FormatInt(one.Behind, 10), orDash(momentOf(one.SentAt)), one.ID)
			}
			s.print(t, "The audit log is sent nowhere. Make a sink with: signalbox audit sink add NAME")
			for _, one := range all {
				if one.Detail != "" {
					s.note("%s: %s", one.Name, one.Detail)
				}
			}
		})
	})
}

func (s *shell) sinkEdit() *cobra.Command {
	var secrets secretFlags
	var name string
	var pause, resume bool
	var every time.Duration
	var replace []string
	cmd := s.remote("edit SINK", "Change, pause or resume an audit sink", words("SINK"), func(cmd *cobra.Command, args []string) error {
		var patch client.SinkPatch
		given := cmd.Flags().Changed
		if pause && resume {
			return usage("--pause and --resume exclude each other")
		}
		if given("name") {
			patch.Name = &name
		}
		if pause || resume {
			patch.Enabled = &resume
		}
		if given("every") {
			seconds := int(every / time.Second)
			patch.Every = &seconds
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		one, err := findSink(cmd.Context(), c, args[0])
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
			patch.Secrets = revealed(read)
		}
		if patch.Name == nil && patch.Enabled == nil && patch.Every == nil && patch.Secrets == nil {
			return usage("nothing to change; say what with flags, for example --pause")
		}
		if one, err = c.UpdateSink(cmd.Context(), one.ID, patch); err != nil {
			return err
		}
		return s.show(one, func() { s.say("Changed sink %s; it is %s.", one.Name, one.State) })
	})
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "another name")
	flags.BoolVar(&pause, "pause", false, "send nothing there; what comes waits in the log")
	flags.BoolVar(&resume, "resume", false, "go on where it stopped")
	flags.DurationVar(&every, "every", time.Hour, "the least time between two checkpoints")
	flags.StringSliceVar(&replace, "replace", nil, "ask for this secret field anew: url, signing_secret, authorization or client_key (may be given several times)")
	secrets.register(cmd)
	return cmd
}

func (s *shell) sinkRm() *cobra.Command {
	var sure bool
	cmd := s.remote("rm SINK", "Delete an audit sink", words("SINK"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		one, err := findSink(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, fmt.Sprintf("Delete sink %s with its secrets and its place in the log (%d)?", one.Name, one.Position)); err != nil {
			return err
		}
		if err := c.DeleteSink(cmd.Context(), one.ID); err != nil {
			return err
		}
		return s.show(map[string]string{"deleted": one.ID}, func() { s.say("Deleted sink %s.", one.Name) })
	})
	yesFlag(cmd, &sure)
	return cmd
}

func (s *shell) sinkTest() *cobra.Command {
	return s.remote("test SINK", "Send a test message to an audit sink now and say what became of it", words("SINK"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		one, err := findSink(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		got, err := c.TestSink(cmd.Context(), one.ID)
		if err != nil {
			return err
		}
		if err := s.show(got, func() {
			if got.Outcome == "delivered" {
				s.say("Delivered a test message to %s.", one.Destination)
			} else {
				s.say("The test message was not delivered to %s. %s", one.Destination, got.Detail)
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
