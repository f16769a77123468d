package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
)

func (s *shell) sealCommand() *cobra.Command {
	var reason string
	var sure bool
	cmd := s.remote("seal", "Seal all servers: nothing is lent or opened until somebody with the root key unseals", words(), func(cmd *cobra.Command, _ []string) error {
		if strings.TrimSpace(reason) == "" {
			return usage("--reason is missing; it is recorded, and told to whoever unseals")
		}
		c, _, err := s.client(cmd)
		if err != nil {
			return err
		}
		if err := s.confirm(cmd.Context(), sure, "Seal all servers of this database? Every agent is cut off, nobody can sign in, and only signalbox unseal with the root key ends that."); err != nil {
			return err
		}
		seal, err := c.Seal(cmd.Context(), reason)
		if err != nil {
			return err
		}
		return s.show(seal, func() {
			s.say("Signalbox is sealed (%s).", seal.ID)
			s.note("To lift the seal, on a machine with the settings and the root key of a server: signalbox unseal")
		})
	})
	cmd.Long = "Seals all servers of the database, for when you do not know yet what an attacker has. Within a second each cuts what is open and answers 503 encryption_key_missing; it closes everything and drops its keys from memory. " +
		"It stays so after a restart, which does not read the root key. The port stays open, and the health checks tell what is the matter. No call over the network lifts the seal: that is done by signalbox unseal, with the root key. " +
		"A refresh of an OAuth token that is under way is ended and stored first, which takes seconds."
	cmd.Flags().StringVar(&reason, "reason", "", "why; recorded in the audit log")
	cmd.Flags().BoolVarP(&sure, "yes", "y", false, "do not ask")
	return cmd
}

// unsealed is what unseal tells.
type unsealed struct {
	Unsealed bool       `json:"unsealed"`
	ID       string     `json:"id,omitempty"`
	SealedAt *time.Time `json:"sealed_at,omitempty"`
	SealedBy string     `json:"sealed_by,omitempty"`
	Reason   string     `json:"reason,omitempty"`
}

func (s *shell) unsealCommand() *cobra.Command {
	var again bool
	cmd := &cobra.Command{
		Use: "unseal", Short: "Lift the seal of all servers, with the root key", Args: words(),
		Long: "Lifts the seal that signalbox seal has set. It opens the database itself, beside the sealed servers, with the settings of a server, and proves by opening the keyring that it has the root key; " +
			"the key crosses no network. Each server then reads its root key again from where it has it, checks the proof, and serves, within some seconds. It needs nobody's account.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := s.withQuietLog(cmd)
			if err != nil {
				return err
			}
			seal, did, err := app.Unseal(cmd.Context(), cfg, again)
			if err != nil {
				return err
			}
			out := unsealed{Unsealed: did}
			if did {
				out.ID, out.SealedAt, out.SealedBy, out.Reason = seal.ID, &seal.At, seal.By, seal.Reason
			}
			return s.show(out, func() {
				if !did {
					s.say("The servers are not sealed; nothing was changed.")
					return
				}
				if again {
					s.say("The seal is lifted; servers that still stand sealed are shown a new proof.")
					return
				}
				s.say("The seal is lifted. It was set on %s by %s: %s", moment(seal.At), printable(seal.By), printable(seal.Reason))
				s.note("Servers that run serve again within some seconds; their log says so, or what is in the way.")
			})
		},
	}
	cmd.Flags().BoolVar(&again, "again", false, "leave a new proof although the database says that nothing is sealed, for servers that do not believe it")
	settingFlags(cmd, app.UseData, app.UseLog)
	return cmd
}
