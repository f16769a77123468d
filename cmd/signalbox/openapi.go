package main

import (
	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/internal/api"
)

// openapiCommand prints the document that docs/reference/openapi.json is made of.
func (s *shell) openapiCommand() *cobra.Command {
	return &cobra.Command{Use: "openapi", Short: "Print the OpenAPI document of the REST API", Hidden: true, Args: words(), RunE: func(*cobra.Command, []string) error {
		document, err := api.OpenAPI()
		if err != nil {
			return err
		}
		_, err = s.out.Write(document)
		return err
	}}
}
