package main

import "github.com/spf13/cobra"

func (s *shell) oauthCommand() *cobra.Command {
	return parent("oauth", "OAuth connections", s.refreshDrill())
}
