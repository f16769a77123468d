package connect

// Card says how one kind of program is set up, in steps.
type Card struct {
	// ID is a word for it, and Name what people call it.
	ID, Name string
	// Lead says what it is and when to take it.
	Lead  string
	Steps []Step
}

// Step is a text to paste, and where.
type Step struct {
	// ID is unique among the steps of all cards.
	ID, Where, Text string
	// Secret says that the client key is in it, or belongs into it.
	Secret bool
}

// Cards returns how each kind of program is set up.
func Cards(s Setup) []Card {
	claude, claudeNot := ClaudeCode(s)
	sdk, sdkNot := SDK(s)
	out := []Card{
		{"claude-code", "Claude Code", "With a client key in the shell. In a project, signalbox connect claude-code --write puts the same into .claude/settings.json.", []Step{
			{"claude-code-shell", "In a shell (macOS, Linux, WSL); then start claude there", Exports(claude, claudeNot), true},
			{"claude-code-powershell", "In PowerShell (Windows)", PowerShell(claude, claudeNot), true},
		}},
		{"claude-code-helper", "Claude Code, without a key", "The signalbox program issues keys of some hours as they are needed, for whoever is signed in with it. No key lies in a file of settings.", []Step{
			{"helper-login", "Once, in a shell (macOS, Linux, WSL)", "signalbox login --server " + Quote(s.URL), false},
			{"helper-settings", "In ~/.claude/settings.json, or in .claude/settings.json of a project", HelperSettings(s, HelperCommand("signalbox", s)), false},
		}},
	}
	for _, p := range Programs() {
		out = append(out, Card{p.Lang, p.Name, "With the official SDK, which reads address and key from the environment: nothing in a program changes.", []Step{
			{p.Lang + "-shell", "In a shell", Exports(sdk, sdkNot), true},
			{p.Lang + "-program", p.File, p.Text, false},
			{p.Lang + "-run", "To run it", joined(p.Run), false},
		}})
	}
	return append(out, Card{"curl", "curl", "Any client that speaks to Anthropic's API works.", []Step{
		{"curl-shell", "In a shell", Exports(sdk, sdkNot), true},
		{"curl-request", "Then", Curl(s), false},
	}})
}

func joined(lines []string) string {
	out := ""
	for i, l := range lines {
		if i > 0 {
			out += "\n"
		}
		out += l
	}
	return out
}
