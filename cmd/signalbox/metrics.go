package main

import (
	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/app"
)

// metricsCommand prints the page docs/reference/metrics.md.
func (s *shell) metricsCommand() *cobra.Command {
	return &cobra.Command{Use: "metrics-reference", Short: "Print the reference of the metrics", Hidden: true, Args: words(), RunE: func(*cobra.Command, []string) error {
		_, err := s.out.Write(app.MetricsPage())
		return err
	}}
}
