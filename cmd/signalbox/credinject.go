package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
)

// injectFlags are the flags that say how a secret goes into a request, and into which.
type injectFlags struct {
	rule           string
	methods, paths []string
}

func (f *injectFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.rule, "inject", "", "how the secret goes into a request: bearer, basic, header:NAME or query:NAME (default the type's)")
	flags.StringSliceVar(&f.methods, "method", nil, "HTTP method that a request with it may have (may be given several times; default all)")
	flags.StringArrayVar(&f.paths, "path", nil, "path below the base URL that a request with it may have: * is one segment, /** at the end all below (may be given several times; default all)")
}

// block returns the rule that was given, or nil. The server judges it.
func (f *injectFlags) block() (*client.Inject, error) {
	if f.rule == "" {
		return nil, nil
	}
	kind, name, named := strings.Cut(f.rule, ":")
	if takes := kind == "header" || kind == "query"; takes != (name != "") || !takes && named {
		return nil, usage("--inject must be bearer, basic, header:NAME or query:NAME, such as header:X-Api-Key")
	}
	return &client.Inject{Type: kind, Name: name}, nil
}

// filled are the values of a list without empty ones: --path "" empties it.
func filled(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
}

func (f *injectFlags) draft(d *client.CredentialDraft) (err error) {
	d.Inject, err = f.block()
	d.Methods, d.Paths = filled(f.methods), filled(f.paths)
	return err
}

// patch fills in what the flags change and reports whether there is anything.
func (f *injectFlags) patch(cmd *cobra.Command, p *client.CredentialPatch) (changed bool, err error) {
	if cmd.Flags().Changed("inject") {
		if p.Inject, err = f.block(); err != nil {
			return false, err
		}
		if changed = true; p.Inject == nil {
			p.Clear = append(p.Clear, "inject")
		}
	}
	for flag, list := range map[string]struct {
		from []string
		to   **[]string
	}{"method": {f.methods, &p.Methods}, "path": {f.paths, &p.Paths}} {
		if cmd.Flags().Changed(flag) {
			items := filled(list.from)
			*list.to, changed = &items, true
		}
	}
	return changed, nil
}

// warnInject says what keeps a credential from going into requests, to whoever has just stored or changed it.
func (s *shell) warnInject(c client.Credential) {
	if c.InjectProblem != "" {
		s.note("It cannot go into requests yet: %s.", c.InjectProblem)
	}
}

// injectFacts say how and into which requests a credential goes, where that is not its type's own way.
func injectFacts(c client.Credential) []string {
	rule := ""
	if in := c.Inject; in != nil {
		if rule = in.Type; in.Name != "" {
			rule += ":" + in.Name
		}
	}
	return []string{"goes into requests as", rule, "cannot go into requests", c.InjectProblem, "methods", strings.Join(c.Methods, ", "), "paths", strings.Join(c.Paths, ", ")}
}
