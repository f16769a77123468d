package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/store"
)

func (s *shell) keyCommand() *cobra.Command {
	return parent("key", "Client keys, with which agents borrow from their train", s.keyIssue(), s.keyList(), s.keyRevoke(), s.keyReplace())
}

func (s *shell) keyIssue() *cobra.Command {
	var draft client.KeyDraft
	var expires string
	cmd := s.remote("issue TRAIN", "Issue a client key; it is shown once", words("TRAIN"), func(cmd *cobra.Command, args []string) (err error) {
		if draft.ExpiresAt, err = parseExpiry(expires); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		key, err := c.IssueKey(cmd.Context(), args[0], draft)
		if err != nil {
			return trainError(err, args[0])
		}
		return s.showKey(key, args[0])
	})
	cmd.Flags().StringVar(&draft.Name, "name", "agent", "name of the key: whose or what for")
	cmd.Flags().StringVar(&expires, "expires", "", "when it expires: a span such as 90d, or a time (default never)")
	return cmd
}

// showKey prints the key alone on standard output, so that it can be piped; what to know about it goes beside.
func (s *shell) showKey(key client.IssuedKey, train string) error {
	return s.show(key, func() {
		s.note("Client key %s (%s) of train %s%s. It is shown only now:", key.Name, key.ID, train, until(key.ExpiresAt))
		s.say("%s", key.APIKey)
	})
}

func allKeys(ctx context.Context, c *client.Client, train string) ([]client.Key, error) {
	return everything(func(cursor string) ([]client.Key, string, error) {
		page, err := c.ListKeys(ctx, train, client.KeyFilter{Limit: 1000, Cursor: cursor})
		return page.APIKeys, page.NextCursor, err
	})
}

func until(at *time.Time) string {
	if at == nil {
		return ""
	}
	return ", until " + moment(*at)
}

func (s *shell) keyList() *cobra.Command {
	return s.remote("list TRAIN", "List a train's client keys", words("TRAIN"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		keys, err := allKeys(cmd.Context(), c, args[0])
		if err != nil {
			return trainError(err, args[0])
		}
		return s.show(map[string]any{"api_keys": keys}, func() {
			t := table{head: []string{"NAME", "KEY", "STATUS", "ISSUED", "LAST USED", "EXPIRES", "ID"}}
			for _, k := range keys {
				t.add(k.Name, k.KeyPreview, k.Status, moment(k.CreatedAt), orDash(momentOf(k.LastUsedAt)), orDash(momentOf(k.ExpiresAt)), k.ID)
			}
			s.print(t, "No client keys. Issue one with: signalbox key issue "+args[0])
		})
	})
}

// keyID finds the key that a person means: by id, by preview, or by its name if no other key of the train that is not revoked has it.
func keyID(ctx context.Context, c *client.Client, train, ref string) (string, error) {
	if store.ValidID("key", ref) {
		return ref, nil
	}
	keys, err := allKeys(ctx, c, train)
	if err != nil {
		return "", trainError(err, train)
	}
	var found []client.Key
	for _, k := range keys {
		if k.KeyPreview == ref {
			return k.ID, nil
		}
		if k.Name == ref && k.Status != "revoked" {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return "", notFound("Train %s has no client key %q. List them with: signalbox key list %s", train, ref, train)
	case 1:
		return found[0].ID, nil
	}
	text := fmt.Sprintf("%d keys are named %q; say which by its id:", len(found), ref)
	for _, k := range found {
		text += fmt.Sprintf("\n  %s  %s, issued %s", k.ID, k.KeyPreview, moment(k.CreatedAt))
	}
	return "", usage("%s", text)
}

func (s *shell) keyRevoke() *cobra.Command {
	var purge bool
	cmd := s.remote("revoke TRAIN KEY", "Revoke a client key at once; open uses are cut", words("TRAIN", "KEY"), func(cmd *cobra.Command, args []string) error {
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		id, err := keyID(cmd.Context(), c, args[0], args[1])
		if err != nil {
			return err
		}
		if purge {
			if err := c.PurgeKey(cmd.Context(), args[0], id); err != nil {
				return err
			}
			return s.show(map[string]string{"purged": id}, func() { s.say("Removed the revoked key %s from the list.", id) })
		}
		if err := c.RevokeKey(cmd.Context(), args[0], id); err != nil {
			return err
		}
		return s.show(map[string]string{"revoked": id}, func() { s.say("Revoked %s.", id) })
	})
	cmd.Flags().BoolVar(&purge, "purge", false, "remove a key that is revoked already from the list")
	return cmd
}

func (s *shell) keyReplace() *cobra.Command {
	var overlap, expires, name string
	cmd := s.remote("replace TRAIN KEY", "Issue a successor of a client key; the old one stays valid for the overlap", words("TRAIN", "KEY"), func(cmd *cobra.Command, args []string) error {
		span, err := parseSpan(overlap)
		if err != nil {
			return err
		}
		request := client.KeyReplacement{Name: name, OverlapSeconds: int(span / time.Second)}
		if request.ExpiresAt, err = parseExpiry(expires); err != nil {
			return err
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		id, err := keyID(cmd.Context(), c, args[0], args[1])
		if err != nil {
			return err
		}
		key, err := c.ReplaceKey(cmd.Context(), args[0], id, request)
		if err != nil {
			return err
		}
		return s.showKey(key, args[0])
	})
	cmd.Flags().StringVar(&overlap, "overlap", "1h", "how long the old key stays valid, at most 30d")
	cmd.Flags().StringVar(&name, "name", "", "name of the new key (default the old one's)")
	cmd.Flags().StringVar(&expires, "expires", "", "when the new key expires: a span such as 90d, or a time (default never)")
	return cmd
}
