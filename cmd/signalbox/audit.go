package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/audit"
)

func (s *shell) auditCommand() *cobra.Command {
	return parent("audit", "Read, search, verify and prove the audit log", s.auditTail(), s.auditSearch(), s.auditFacets(), s.auditShow(), s.auditExport(), s.auditVerify(), s.auditProve(), s.sinkCommand())
}

// followEvery is how often --follow asks for news.
const followEvery = time.Second

func (s *shell) auditTail() *cobra.Command {
	var last int
	var after int64
	var follow bool
	cmd := s.remote("tail", "Print the newest audit records in the order of the log", words(), func(cmd *cobra.Command, _ []string) error {
		if last < 0 {
			return usage("--last must not be negative")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		var leaves []client.Leaf
		if cmd.Flags().Changed("after") {
			leaves, after, err = leavesAfter(ctx, c, after, 0)
		} else {
			leaves, after, err = newestLeaves(ctx, c, last)
		}
		for {
			if err != nil {
				if follow && errors.Is(err, context.Canceled) {
					return nil // that is how following ends
				}
				return err
			}
			for _, leaf := range leaves {
				if err := s.leafLine(leaf); err != nil {
					return err
				}
			}
			if !follow {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(followEvery):
			}
			leaves, after, err = leavesAfter(ctx, c, after, 0)
		}
	})
	cmd.Flags().IntVarP(&last, "last", "n", 20, "how many of the newest records to begin with")
	cmd.Flags().Int64Var(&after, "after", -1, "begin after this leaf instead; -1 is the beginning of the log")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new records until interrupted")
	return cmd
}

// leavesAfter reads the log from a leaf to its end; keep over 0 keeps the last ones only.
func leavesAfter(ctx context.Context, c *client.Client, after int64, keep int) ([]client.Leaf, int64, error) {
	var out []client.Leaf
	for {
		piece, err := c.AuditTail(ctx, after, 1000)
		if err != nil {
			return nil, after, err
		}
		out = append(out, piece.Leaves...)
		if keep > 0 && len(out) > keep {
			out = slices.Clone(out[len(out)-keep:])
		}
		if len(piece.Leaves) == 0 || piece.Next == after {
			return out, after, nil
		}
		after = piece.Next
	}
}

// newestLeaves begins at the newest checkpoint, which is seconds old, so that a long log need not be read.
func newestLeaves(ctx context.Context, c *client.Client, n int) ([]client.Leaf, int64, error) {
	from := int64(-1)
	checkpoint, err := c.AuditCheckpoint(ctx)
	switch {
	case err == nil:
		from = max(checkpoint.Size-int64(n)-1, -1)
	case !isNotFound(err): // a young log has none yet
		return nil, 0, err
	}
	if n == 0 {
		_, after, err := leavesAfter(ctx, c, from, 1)
		return nil, after, err
	}
	return leavesAfter(ctx, c, from, n)
}

// leafLine writes one record as a line: following must not wait for the width of columns to be known.
func (s *shell) leafLine(leaf client.Leaf) error {
	if s.json {
		return json.NewEncoder(s.out).Encode(leaf)
	}
	e := leaf.Event
	line := fmt.Sprintf("%8d  %s  %-22s %-9s %s", leaf.Leaf, moment(e.At), e.Action, e.Outcome, who(e))
	if on := what(e); on != "" {
		line += " → " + on
	}
	if e.Reason != "" {
		line += "  (" + e.Reason + ")"
	}
	s.say("%s", strings.ReplaceAll(line, "\n", " "))
	return nil
}

func who(e client.Event) string {
	return label(e.Actor.Kind, e.Actor.Name, e.Actor.ID)
}

func what(e client.Event) string {
	return label(e.Target.Kind, e.Target.Name, e.Target.ID)
}

// label names somebody or something with as few words as will do.
func label(kind, name, id string) string {
	if name == "" {
		name = id
	}
	if name == "" {
		return kind
	}
	return kind + " " + name
}

func (s *shell) auditProve() *cobra.Command {
	var file, verifier string
	cmd := s.remote("prove [EVENT]", "Prove that a record is in the signed log, or check such a proof without a server", words("[EVENT]"), func(cmd *cobra.Command, args []string) error {
		var p client.Proof
		switch {
		case file != "" && len(args) == 1:
			return usage("either EVENT or --check, not both")
		case file != "":
			if err := readProof(file, &p); err != nil {
				return err
			}
		case len(args) == 0:
			return usage("EVENT is missing: the id of an audit record, as signalbox audit search shows it")
		default:
			c, _, err := s.client(cmd)
			if err != nil {
				return err
			}
			if p, err = c.AuditProof(cmd.Context(), args[0]); err != nil {
				return err
			}
		}
		if verifier != "" && verifier != p.Verifier {
			return errors.New("the proof is signed with another key than the one that was given with --verifier")
		}
		if err := checkProof(p); err != nil {
			return fmt.Errorf("the proof does not hold: %w", err)
		}
		return s.show(p, func() {
			s.say("The proof holds: the record is leaf %d of a log of %d, and the log is signed.", p.Leaf, p.Size)
			s.facts("record", p.Record, "signed by", p.Verifier, "checkpoint", strings.TrimSpace(p.Note))
			if verifier == "" {
				s.note("Compare the key with one that you have from elsewhere (or give that one with --verifier), and the checkpoint with your copies of the checkpoint file.")
			}
		})
	})
	cmd.Flags().StringVar(&file, "check", "", "check a proof that was saved with --json, without a server")
	cmd.Flags().StringVar(&verifier, "verifier", "", "the public key that the log must be signed with")
	return cmd
}

// maxProof bounds a proof file; a real one has a few kilobytes.
const maxProof = 1 << 20

func readProof(file string, p *client.Proof) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxProof)).Decode(p); err != nil {
		return fmt.Errorf("%s is no proof as signalbox audit prove --json prints it", file)
	}
	return nil
}

func checkProof(p client.Proof) error {
	hashes := make([]tlog.Hash, 0, len(p.Hashes))
	for _, text := range p.Hashes {
		h, err := tlog.ParseHash(text)
		if err != nil {
			return errors.New("a hash in it is malformed")
		}
		hashes = append(hashes, h)
	}
	_, err := audit.CheckProof(audit.Proof{Record: p.Record, Leaf: p.Leaf, Size: p.Size, Hashes: hashes, Note: p.Note, Verifier: p.Verifier})
	return err
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}
