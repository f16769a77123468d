package client

// Inject is how a credential's secret goes into a request: bearer and basic are the two of the header Authorization, header and query take the name of
// a header or of a query parameter.
type Inject struct {
	Type string `json:"type,omitempty" doc:"bearer, basic, header or query."`
	Name string `json:"name,omitempty" maxLength:"100" doc:"Of the header or query parameter."`
}
